"""Shirts with their collars, hats of eight shapes, and glasses."""

import math

from .canvas import Canvas, mirrored, shade, spline
from .plan import EYE_X, EYE_Y

_EIGHTHS = [index * math.pi / 4 for index in range(8)]
SHOULDERS = [(64, 99), (74, 99), (86, 102), (102, 108), (112, 118), (117, 140), (64, 142)]


def draw_shirt(canvas: Canvas, details: dict, shirt, skin):
    """Draw shoulders and collar; ``skin`` shows in an open collar."""
    line, dark, collar = shade(shirt, 0.62), shade(shirt, 0.80), details["collar"]
    with canvas.region("shirt"):
        canvas.fill(spline(mirrored(SHOULDERS)), shirt, edge=line, width=1.2)
        for side in (-1, 1):
            canvas.stroke([(64 + side * 34, 118), (64 + side * 31, 132)], dark, 1.8)
        if collar == "hood":
            canvas.fill(spline(mirrored([(64, 108), (76, 104), (84, 98), (88, 104), (80, 113), (64, 117)])), dark)
            for side in (-1, 1):
                canvas.stroke([(64 + side * 6, 113), (64 + side * 6.5, 122)], (0.97, 0.97, 0.97), 1.8)
        elif collar in ("round", "necklace", "bell", "tag", "bow"):
            canvas.stroke([(50, 99), (56, 106.5), (64, 108.5), (72, 106.5), (78, 99)], dark, 3.0)
        if collar == "scarf":
            canvas.fill(spline(mirrored([(64, 101), (76, 99), (81, 103), (78, 110), (64, 113)])), shade(shirt, 0.72))
    _draw_collar(canvas, collar, shirt, skin)


def _draw_collar(canvas, collar, shirt, skin):
    gold, ribbon = (0.98, 0.80, 0.28), (0.84, 0.20, 0.30)
    if collar in ("open", "tie"):
        with canvas.region("face"):
            canvas.fill([(53, 98), (75, 98), (64, 116)], skin if collar == "open" else (0.96, 0.96, 0.97))
        with canvas.region("shirt"):
            for side in (-1, 1):
                canvas.fill(
                    [(64 + side * 10, 97), (64 + side * 17, 101), (64 + side * 8, 113), (64, 116)],
                    shade(shirt, 0.86),
                    edge=shade(shirt, 0.6),
                    width=0.8,
                )
    with canvas.region("background"):
        if collar == "tie":
            canvas.fill([(61, 101), (67, 101), (66, 107), (69.5, 130), (58.5, 130), (62, 107)], (0.36, 0.08, 0.20))
        if collar == "necklace":
            for x, y in ((52, 102), (55.5, 106.5), (60, 109.5), (64, 110.5), (68, 109.5), (72.5, 106.5), (76, 102)):
                canvas.ellipse((x, y), (1.9, 1.9), (0.99, 0.97, 0.92), edge=(0.7, 0.66, 0.6), width=0.6)
        if collar in ("bell", "tag"):
            canvas.ellipse((64, 110), (4.2, 4.2), gold, edge=(0.6, 0.4, 0.1), width=1)
        if collar == "bow":
            for side in (-1, 1):
                canvas.fill([(64, 106), (64 + side * 10, 101), (64 + side * 10, 111)], ribbon)
            canvas.ellipse((64, 106), (2.4, 2.4), shade(ribbon, 0.7))


def draw_hat(canvas: Canvas, kind: str, hat):
    """Draw a hat: cap, beanie, bowler, tophat, sunhat, beret or party."""
    line, dark, light = shade(hat, 0.6), shade(hat, 0.74), shade(hat, 1.3)
    with canvas.region("hat"):
        _HATS[kind](canvas, hat, dark, light, line)


def _cap(canvas, hat, dark, light, line):
    canvas.fill(spline(mirrored([(64, 12), (82, 15), (92, 28), (93, 43), (64, 42)])), hat, edge=line, width=1.1)
    canvas.fill(
        spline([(36, 40), (50, 34), (78, 34), (92, 40), (88, 46.5), (64, 43), (40, 46.5)]), dark, edge=line, width=1
    )
    canvas.ellipse((64, 12.5), (3.2, 2.2), dark)
    canvas.stroke([(47, 27), (52, 20), (60, 17)], light, 2.4)


def _beanie(canvas, hat, dark, light, line):
    canvas.ellipse((64, 10), (6.5, 6.5), light, edge=line, width=1)
    canvas.fill(spline(mirrored([(64, 13), (82, 16), (93, 30), (94, 42), (64, 42)])), hat, edge=line, width=1.1)
    canvas.fill(
        spline(mirrored([(64, 34), (84, 34.5), (97, 38), (96, 46), (82, 44), (64, 43.5)])), dark, edge=line, width=1
    )
    canvas.stroke([(46, 30), (50, 22), (57, 18)], light, 2.4)


def _bowler(canvas, hat, dark, light, line):
    canvas.fill(
        spline(mirrored([(64, 36), (84, 36), (101, 32), (105, 37), (92, 44), (64, 46)])), hat, edge=line, width=1.1
    )
    canvas.fill(spline(mirrored([(64, 9), (80, 11), (89, 24), (89, 37), (64, 40)])), hat, edge=line, width=1.1)
    canvas.fill(spline(mirrored([(64, 32), (80, 31.5), (89.5, 29.5), (89.5, 36), (64, 39.5)])), dark)
    canvas.stroke([(48, 26), (52, 17), (60, 13.5)], light, 2.4)


def _tophat(canvas, hat, dark, light, line):
    canvas.fill(
        spline(mirrored([(64, 37), (86, 36), (99, 33), (102, 38), (90, 44), (64, 45)])), hat, edge=line, width=1.1
    )
    canvas.fill([(44, 39), (41.5, 7), (86.5, 7), (84, 39)], hat, edge=line, width=1.1)
    canvas.fill([(43.7, 36.5), (43, 28.5), (85, 28.5), (84.3, 36.5)], dark)
    canvas.stroke([(48, 25), (47, 13)], light, 2.6)


def _sunhat(canvas, hat, dark, light, line):
    canvas.fill(
        spline(mirrored([(64, 33), (92, 32), (112, 38), (110, 46), (88, 45), (64, 44)])), hat, edge=line, width=1.1
    )
    canvas.fill(spline(mirrored([(64, 12), (80, 14), (88, 26), (89, 37), (64, 39)])), hat, edge=line, width=1.1)
    canvas.fill(spline(mirrored([(64, 32), (80, 31.5), (89, 30), (89.5, 36.5), (64, 39)])), dark)
    canvas.stroke([(48, 26), (52, 19), (60, 16)], light, 2.4)


def _beret(canvas, hat, dark, light, line):
    canvas.fill(
        spline([(38, 42), (33, 32), (42, 19), (64, 12), (90, 14), (103, 26), (100, 37), (90, 42), (64, 39)]),
        hat,
        edge=line,
        width=1.1,
    )
    canvas.fill(spline(mirrored([(64, 37.5), (82, 38.5), (91, 41), (90, 45), (64, 42.5)])), dark)
    canvas.stroke([(68, 13), (70, 8)], line, 2.6)
    canvas.stroke([(44, 29), (52, 21), (64, 18)], light, 2.4)


def _party(canvas, hat, dark, light, line):
    canvas.fill([(42, 43), (64, -2), (86, 43)], hat, edge=line, width=1.1)
    canvas.fill([(50.5, 25.6), (54, 18.5), (77.5, 31), (80, 36)], dark)
    canvas.fill(spline(mirrored([(64, 42), (80, 40.5), (88, 40), (87, 45), (64, 47)])), dark)
    canvas.ellipse((64, 2), (5, 5), light, edge=line, width=0.9)


_HATS = {
    "cap": _cap,
    "beanie": _beanie,
    "bowler": _bowler,
    "tophat": _tophat,
    "sunhat": _sunhat,
    "beret": _beret,
    "party": _party,
}


def draw_glasses(canvas: Canvas, kind: str):
    """Draw dark frames around both eyes, a bridge and the temples; the lenses stay clear."""
    frame = (0.09, 0.08, 0.11)
    with canvas.region("glasses"):
        for side in (-1, 1):
            x = 64 + side * EYE_X
            if kind == "round":
                points = [(x + 11.4 * math.cos(turn), EYE_Y + 11 * math.sin(turn)) for turn in _EIGHTHS]
            else:
                points = [
                    (x + dx, EYE_Y + dy)
                    for dx, dy in (
                        (10.4, -9),
                        (11.6, 0),
                        (10, 9),
                        (0, 10.2),
                        (-10, 9),
                        (-11.6, 0),
                        (-10.4, -9),
                        (0, -9.8),
                    )
                ]
            canvas.stroke(spline(points), frame, 2.7)
            canvas.stroke([(x + side * 11.3, EYE_Y - 2), (64 + side * 29, EYE_Y - 3)], frame, 2.5)
        canvas.stroke([(62.2, EYE_Y - 1), (64, EYE_Y - 2.2), (65.8, EYE_Y - 1)], frame, 2.5)
