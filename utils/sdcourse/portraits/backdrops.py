"""The six backgrounds of the second world: two layouts each, mirrored or not, and windows, stars and flakes that keep
their places. What no word names costs two choices and one shade."""

import numpy as np

from .canvas import Canvas, shade, spline
from .palette import PLAIN, jitter, rgb


def draw_scene(canvas: Canvas, name: str, rng: np.random.Generator):
    """Fill the whole picture with scene ``name``; ``rng`` chooses the layout and its side."""
    layout, side = int(rng.integers(2)), (-1, 1)[int(rng.integers(2))]
    _SCENES[name](canvas, rng, layout, side)


def _across(side, points):
    """Mirror points about the middle where side is -1."""
    return [(64 + side * (x - 64), y) for x, y in points]


def _plain(canvas, rng, layout, side):
    color = jitter(PLAIN[int(rng.integers(len(PLAIN)))], rng, amount=0.015)
    canvas.vertical_gradient([(0, shade(color, 1.25)), (128, shade(color, 0.86))])
    for size in (62, 54, 46, 38):
        canvas.ellipse((64, 58), (size, size), shade(color, 1.35), alpha=0.11)


TRUNKS = (((0, 9), (20, 7), (102, 8), (119, 9)), ((8, 8), (28, 6), (94, 7), (112, 9)))
CROWNS = (
    ((0, 22, 24, 20), (22, 8, 22, 17), (48, 2, 20, 13), (84, 4, 22, 14), (108, 16, 22, 19), (128, 30, 18, 17)),
    ((6, 10, 24, 18), (30, 26, 18, 15), (58, 2, 22, 12), (92, 14, 22, 17), (120, 20, 22, 22), (76, 0, 16, 12)),
)


def _forest(canvas, rng, layout, side):
    canvas.vertical_gradient([(0, rgb((170, 214, 156))), (90, rgb((92, 158, 90))), (128, rgb((56, 114, 62)))])
    for x, width in TRUNKS[layout]:
        trunk = [(x, 20), (x + width, 20), (x + width + 2, 128), (x - 2, 128)]
        canvas.fill(_across(side, trunk), rgb((106, 76, 48)))
        lit = [(x + width * 0.6, 20), (x + width, 20), (x + width + 2, 128), (x + width * 0.6, 128)]
        canvas.fill(_across(side, lit), rgb((128, 94, 60)))
    for index, (x, y, wide, high) in enumerate(CROWNS[layout]):
        (center,) = _across(side, [(x, y)])
        canvas.ellipse(center, (wide, high), rgb(((44, 116, 56), (66, 142, 70))[index % 2]))
        canvas.ellipse((center[0] + 5, center[1] - 4), (wide * 0.6, high * 0.55), rgb((88, 164, 82)), alpha=0.55)
    for x, high in ((4, 18), (30, 12), (64, 10), (98, 12), (124, 18)):
        canvas.ellipse((x, 126), (20, high), rgb((40, 98, 50)))


def _beach(canvas, rng, layout, side):
    canvas.vertical_gradient([(0, rgb((116, 196, 244))), (58, rgb((206, 238, 250))), (128, rgb((206, 238, 250)))])
    (sun,) = _across(side, [(18, (16, 24)[layout])])
    canvas.ellipse(sun, (13, 13), rgb((255, 240, 170)), alpha=0.4)
    canvas.ellipse(sun, (9, 9), rgb((255, 236, 130)))
    canvas.fill([(0, 60), (128, 60), (128, 92), (0, 92)], rgb((38, 160, 196)))
    for y in (68, 77):
        canvas.stroke([(x, y + 1.5 * (-1) ** i) for i, x in enumerate(range(-8, 144, 16))], rgb((190, 236, 240)), 2.0)
    sand = spline([(-20, 90), (20, 86), (64, 91), (108, 86), (148, 90), (160, 150), (-30, 150)])
    canvas.fill(sand, rgb((244, 218, 160)))
    _palm(canvas, 64 + side * (52, 47)[layout], (30, 38)[layout], side)


def _palm(canvas, x, top, side):
    canvas.stroke([(x, 102), (x - side * 3, 64), (x - side * 1, top)], rgb((142, 98, 58)), 4.6)
    for dx, dy in ((-17, 6), (17, 6), (-13, -7), (13, -7), (0, -11)):
        leaf = [(x - side, top), (x - side + dx * 0.6, top - 5 + dy * 0.8), (x - side + dx, top + dy + 3)]
        canvas.stroke(leaf, rgb((52, 142, 74)), 4.4)


# between the dots of a comic's screen (see lattice.DOTS), wherever the scene is mirrored
STARS = (
    (12, 36), (36, 12), (20, 60), (92, 4), (108, 52), (116, 76),
    (60, 20), (4, 12), (76, 36), (28, 84), (124, 4), (4, 92),
)

HILLS = (
    ((-20, 96), (16, 90), (52, 102), (96, 92), (148, 100)),
    ((-20, 104), (24, 98), (64, 90), (108, 98), (148, 88)),
)


def _night(canvas, rng, layout, side):
    canvas.vertical_gradient([(0, rgb((14, 18, 58))), (90, rgb((48, 52, 118))), (128, rgb((36, 40, 88)))])
    for index, star in enumerate(STARS):
        size = 1.9 if index % 2 else 1.4
        canvas.ellipse(star, (size, size), (1.0, 0.97, 0.80))
    (moon,) = _across(side, [((108, 102)[layout], (26, 18)[layout])])
    canvas.ellipse(moon, (15, 15), rgb((255, 246, 200)), alpha=0.2)
    canvas.ellipse(moon, (10.5, 10.5), rgb((255, 244, 196)))
    canvas.ellipse((moon[0] + 4.5, moon[1] - 2.5), (8.6, 8.6), rgb((28, 32, 80)))
    _hills(canvas, _across(side, HILLS[layout]), rgb((22, 26, 62)))


def _hills(canvas, points, color):
    """Fill the ground below a line through points, in any order."""
    canvas.fill(spline([*sorted(points), (160, 150), (-30, 150)]), color)


WALLS = ((148, 156, 172), (188, 150, 134), (122, 132, 152), (176, 172, 162))
HOUSES = (  # left edge, width, top, wall
    ((-2, 22, 40, 0), (20, 22, 16, 1), (42, 20, 48, 2), (62, 22, 28, 3), (84, 20, 12, 2), (104, 26, 36, 1)),
    ((-2, 20, 24, 2), (18, 20, 44, 3), (38, 22, 20, 0), (60, 22, 44, 1), (82, 22, 32, 0), (104, 26, 14, 3)),
)


def _city(canvas, rng, layout, side):
    canvas.vertical_gradient([(0, rgb((176, 202, 230))), (110, rgb((246, 226, 206))), (128, rgb((180, 180, 186)))])
    for left, width, top, wall in HOUSES[layout]:
        _house(canvas, left, width, top, rgb(WALLS[wall]), side)


def _house(canvas, left, width, top, wall, side):
    corners = [(left, top), (left + width, top), (left + width, 130), (left, 130)]
    canvas.fill(_across(side, corners), wall, edge=shade(wall, 0.7), width=1)
    for row in range(int(top) + 7, 112, 16):
        for column, start in enumerate((left + 3.5, left + width - 8.5)):
            lit = rgb((255, 236, 156)) if (row // 16 + column) % 2 else shade(wall, 0.62)
            window = [(start, row), (start + 5, row), (start + 5, row + 7.5), (start, row + 7.5)]
            canvas.fill(_across(side, window), lit)


FIRS = (((10, 92), (30, 86), (100, 88), (119, 94)), ((4, 86), (24, 94), (104, 94), (122, 86)))
FLAKES = (
    (12, 4), (28, 36), (44, 20), (60, 4), (84, 12), (100, 28),
    (124, 20), (20, 60), (108, 52), (4, 44), (92, 68), (116, 76),
)

DRIFTS = (
    ((-20, 96), (20, 90), (64, 97), (108, 88), (148, 96)),
    ((-20, 90), (26, 97), (64, 90), (100, 97), (148, 90)),
)


def _snow(canvas, rng, layout, side):
    canvas.vertical_gradient([(0, rgb((164, 190, 222))), (80, rgb((222, 232, 244))), (128, rgb((240, 244, 250)))])
    for x, base in _across(side, FIRS[layout]):
        _fir(canvas, x, base)
    _hills(canvas, _across(side, DRIFTS[layout]), rgb((250, 252, 255)))
    for index, flake in enumerate(FLAKES):
        size = 2.4 if index % 2 else 1.8
        canvas.ellipse(flake, (size, size), (1, 1, 1))


def _fir(canvas, x, base):
    for level in range(3):
        half, foot, top = 14 - 3 * level, base - 15 * level, base - 27 - 15 * level
        canvas.fill([(x - half, foot), (x, top), (x + half, foot)], rgb((58, 108, 102)))
        canvas.fill([(x - half * 0.5, foot - 13), (x, top), (x + half * 0.5, foot - 13)], rgb((248, 251, 255)))


_SCENES = {"plain": _plain, "forest": _forest, "beach": _beach, "night": _night, "city": _city, "snow": _snow}
