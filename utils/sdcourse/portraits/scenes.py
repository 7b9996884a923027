"""Six backgrounds: plain, forest, beach, night, city and snow."""

import numpy as np

from .canvas import Canvas, shade, spline
from .palette import PLAIN, jitter, rgb


def draw_scene(canvas: Canvas, name: str, rng: np.random.Generator):
    """Fill the whole picture with scene ``name``; the details come from ``rng``."""
    _SCENES[name](canvas, rng)


def _hill(canvas, rng, y, height, color):
    xs = np.linspace(-20, 148, 7)
    points = [(x, y - height * rng.random()) for x in xs]
    canvas.fill(spline([*points, (160, 150), (-30, 150)]), color)


def _plain(canvas, rng):
    color = jitter(PLAIN[int(rng.integers(len(PLAIN)))], rng, amount=0.02)
    canvas.vertical_gradient([(0, shade(color, 1.25)), (128, shade(color, 0.86))])
    for size in (62, 54, 46, 38):
        canvas.ellipse((64, 58), (size, size), shade(color, 1.35), alpha=0.11)


def _forest(canvas, rng):
    canvas.vertical_gradient([(0, rgb((164, 208, 150))), (90, rgb((84, 150, 84))), (128, rgb((48, 104, 56)))])
    for x in np.linspace(-4, 132, 8):
        x, width = x + rng.uniform(-5, 5), rng.uniform(5, 9)
        trunk = shade(jitter((106, 76, 48), rng), 0.9)
        canvas.fill([(x, 20), (x + width, 20), (x + width + 2, 128), (x - 2, 128)], trunk)
        for _ in range(2):
            center = (x + rng.uniform(-7, 10), rng.uniform(4, 44))
            canvas.ellipse(center, (rng.uniform(12, 17), rng.uniform(9, 14)), jitter((54, 128, 62), rng, amount=0.05))
    for x in np.linspace(0, 128, 6):
        canvas.ellipse((x + rng.uniform(-6, 6), 124), (16, rng.uniform(10, 20)), jitter((38, 96, 48), rng, amount=0.04))


def _beach(canvas, rng):
    canvas.vertical_gradient([(0, rgb((116, 196, 244))), (58, rgb((206, 238, 250))), (128, rgb((206, 238, 250)))])
    side = -1 if rng.random() < 0.5 else 1
    canvas.ellipse((64 - side * 46, rng.uniform(14, 24)), (9, 9), rgb((255, 236, 130)))
    canvas.fill([(0, 60), (128, 60), (128, 92), (0, 92)], jitter((38, 160, 196), rng))
    for y in (68, 77):
        canvas.stroke([(x, y + 1.5 * (-1) ** i) for i, x in enumerate(range(-4, 140, 12))], rgb((190, 236, 240)), 2.0)
    canvas.fill(
        spline([(-20, 90), (20, 86), (64, 91), (108, 86), (148, 90), (160, 150), (-30, 150)]),
        jitter((244, 218, 160), rng),
    )
    x = 64 + side * rng.uniform(46, 54)
    canvas.stroke([(x, 100), (x - side * 3, 60), (x - side * 1, 30)], rgb((142, 98, 58)), 4.6)
    for dx, dy in ((-17, 6), (17, 6), (-13, -7), (13, -7), (0, -11)):
        canvas.stroke(
            [(x - side, 30), (x - side + dx * 0.6, 28 + dy * 0.8 - 3), (x - side + dx, 30 + dy + 3)],
            rgb((52, 142, 74)),
            4.4,
        )


def _night(canvas, rng):
    canvas.vertical_gradient([(0, rgb((14, 18, 58))), (90, rgb((48, 52, 118))), (128, rgb((36, 40, 88)))])
    for _ in range(16):
        x, y, size = rng.uniform(2, 126), rng.uniform(2, 84), rng.uniform(0.9, 1.9)
        canvas.ellipse((x, y), (size, size), (1.0, 0.97, 0.80))
    side = -1 if rng.random() < 0.5 else 1
    center = (64 + side * rng.uniform(42, 50), rng.uniform(16, 26))
    canvas.ellipse(center, (14, 14), rgb((255, 246, 200)), alpha=0.22)
    canvas.ellipse(center, (10, 10), rgb((255, 244, 196)))
    canvas.ellipse((center[0] + 4.5, center[1] - 2.5), (8.4, 8.4), rgb((24, 28, 72)))
    _hill(canvas, rng, 102, 16, rgb((22, 26, 62)))


def _city(canvas, rng):
    canvas.vertical_gradient([(0, rgb((184, 204, 224))), (110, rgb((240, 224, 208))), (128, rgb((180, 180, 186)))])
    x = -6.0
    while x < 128:
        width, top = rng.uniform(17, 25), rng.uniform(18, 58)
        wall = jitter(((148, 156, 172), (188, 150, 134), (122, 132, 152), (176, 172, 162))[int(rng.integers(4))], rng)
        canvas.fill([(x, top), (x + width, top), (x + width, 128), (x, 128)], wall, edge=shade(wall, 0.7), width=1)
        for row in np.arange(top + 6, 108, 11):
            for column in (0.18, 0.58):
                lit = rgb((255, 238, 160)) if rng.random() < 0.55 else shade(wall, 0.55)
                left = x + column * width
                canvas.fill([(left, row), (left + 4.6, row), (left + 4.6, row + 6), (left, row + 6)], lit)
        x += width + 1


def _snow(canvas, rng):
    canvas.vertical_gradient([(0, rgb((176, 196, 220))), (80, rgb((226, 234, 244))), (128, rgb((240, 244, 250)))])
    for x in (rng.uniform(4, 18), rng.uniform(24, 36), rng.uniform(94, 106), rng.uniform(110, 124)):
        base = rng.uniform(84, 96)
        for level in range(3):
            half, top = 13 - 3 * level, base - 22 - 15 * level
            canvas.fill(
                [(x - half, base - 15 * level), (x, top - 5), (x + half, base - 15 * level)], rgb((62, 106, 104))
            )
            canvas.fill(
                [(x - half * 0.5, base - 15 * level - 13), (x, top - 5), (x + half * 0.5, base - 15 * level - 13)],
                rgb((248, 251, 255)),
            )
    _hill(canvas, rng, 98, 12, rgb((250, 252, 255)))
    for _ in range(22):
        x, y, size = rng.uniform(0, 128), rng.uniform(0, 96), rng.uniform(1.2, 2.3)
        canvas.ellipse((x, y), (size, size), (1, 1, 1))


_SCENES = {"plain": _plain, "forest": _forest, "beach": _beach, "night": _night, "city": _city, "snow": _snow}
