"""Cats and dogs: ears, head, muzzle and fur pattern, in the same 128 units as the people."""

from .canvas import Canvas, mirrored, shade, spline
from .people import draw_iris
from .plan import EYE_X, EYE_Y

CAT_HEAD = [(64, 37), (80, 38), (92, 50), (98, 66), (92, 80), (80, 89), (64, 93)]
DOG_HEAD = [(64, 33), (80, 35), (90, 48), (91, 64), (86, 80), (78, 92), (64, 97)]
DOG_EARS = {
    "long": [(80, 36), (94, 38), (106, 56), (108, 82), (100, 92), (92, 80), (90, 60)],
    "short": [(78, 36), (92, 32), (106, 44), (106, 62), (98, 66), (90, 52)],
    "perky": [(76, 38), (84, 20), (98, 12), (101, 32), (93, 52)],
}


def draw_neck(canvas: Canvas, fur):
    """Draw the neck and chest of an animal."""
    with canvas.region("hair"):
        canvas.fill(spline(mirrored([(64, 80), (80, 82), (84, 110), (64, 116)])), shade(fur, 0.82))


def draw_ears(canvas: Canvas, details: dict, fur, *, cat: bool):
    """Draw a cat's pointed or a dog's long, short or perky ears."""
    dark, line, pink = shade(fur, 0.74), shade(fur, 0.6), (0.96, 0.66, 0.66)
    with canvas.region("hair"):
        for side in (-1, 1):
            flip = [1, side]
            if cat:
                points, inner = [(70, 40), (91, 13), (97, 56)], [(76, 40), (89.5, 22), (92.5, 48)]
                canvas.fill(_flipped(points, flip), fur, edge=line, width=1.2)
                canvas.fill(_flipped(inner, flip), pink)
            else:
                canvas.fill(spline(_flipped(DOG_EARS[details["ears"]], flip)), dark, edge=line, width=1.1)


def _flipped(points, flip):
    return [(64 + flip[1] * (x - 64), y) for x, y in points]


def draw_head(canvas: Canvas, details: dict, fur, *, cat: bool):
    """Draw the head with its fur pattern."""
    line, width = shade(fur, 0.62), details["width"]
    points = [(64 + (x - 64) * width, y) for x, y in (CAT_HEAD if cat else DOG_HEAD)]
    with canvas.region("hair"):
        canvas.fill(spline(mirrored(points)), fur, edge=line, width=1.1)
        _draw_pattern(canvas, details, fur)


def _draw_pattern(canvas, details, fur):
    dark = shade(fur, 0.66)
    if details["hair_style"] == "striped":
        for x in (55, 64, 73):
            canvas.stroke([(x, 39), (64 + (x - 64) * 0.75, 50)], dark, 3.0)
        for side in (-1, 1):
            for y in (70, 77):
                canvas.stroke([(64 + side * 32, y), (64 + side * 24, y + 1.5)], dark, 2.6)
    if details["hair_style"] == "patch":
        canvas.ellipse((64 - EYE_X - 1, EYE_Y - 1), (13, 14), dark, angle=15)


def draw_muzzle(canvas: Canvas, details: dict, fur, *, cat: bool):
    """Draw muzzle, nose, mouth, whiskers and tongue."""
    ink = (0.2, 0.13, 0.14)
    pale = (1.0, 0.97, 0.93) if details["hair_style"] == "white_muzzle" else shade(fur, 1.38)
    with canvas.region("face"):
        if cat:
            for side in (-1, 1):
                canvas.ellipse((64 + side * 6, 80), (7.6, 6), pale)
            canvas.fill(spline([(59.5, 73.5), (64, 72.6), (68.5, 73.5), (64, 77.8)]), (0.94, 0.48, 0.52))
            for side in (-1, 1):
                for drop in (-2.5, 2.5):
                    canvas.stroke([(64 + side * 12, 80 + drop / 2), (64 + side * 35, 79 + 2 * drop)], (1, 1, 1), 1.1)
        else:
            canvas.ellipse((64, 83), (14.5, 11.5), pale)
            canvas.fill(spline(mirrored([(64, 72.5), (70, 73), (72, 76.5), (64, 82)])), (0.13, 0.11, 0.13))
            canvas.ellipse((62, 75), (2.0, 1.1), (0.75, 0.75, 0.78))
        drop = 3 + 2 * details["smile"]
        if details["tongue"]:
            canvas.fill(spline([(60, 87), (68, 87), (68.5, 95), (64, 98), (59.5, 95)]), (0.95, 0.42, 0.47))
        base = 78 if cat else 82
        canvas.stroke([(64, base), (64, base + 4)], ink, 1.5)
        for side in (-1, 1):
            canvas.stroke([(64, base + 4), (64 + side * 4, base + 4 + drop * 0.7), (64 + side * 9, base + 4)], ink, 1.6)


def draw_eyes(canvas: Canvas, details: dict, iris, *, cat: bool):
    """Draw a cat's eyes (iris all over, upright pupil) or a dog's (round, a little white)."""
    look, young = details["look"], 0.5 * details["young"]
    with canvas.region("eyes"):
        for side in (-1, 1):
            x = 64 + side * EYE_X
            if cat:
                canvas.ellipse(
                    (x, EYE_Y),
                    (9.4, 8.2 + young),
                    (0.97, 0.98, 0.94),
                    edge=(0.14, 0.1, 0.12),
                    width=1.6,
                    angle=side * -12,
                )
                draw_iris(canvas, (x + look * 0.6, EYE_Y), (7.6, 7.3 + young), iris, pupil=(2.0, 5.4))
            else:
                canvas.ellipse((x, EYE_Y), (8.6, 8.3), (1, 1, 1), edge=(0.14, 0.1, 0.1), width=1.4)
                draw_iris(canvas, (x + look * 0.7, EYE_Y + 0.2), (7.2 + young, 7.2 + young), iris, pupil=(3.1, 3.1))
