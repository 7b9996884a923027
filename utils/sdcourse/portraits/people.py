"""Men and women: back hair, neck, head, face and front hair, in 128 units around the point (64, 62)."""

from .canvas import Canvas, mirrored, shade, spline
from .plan import EYE_X, EYE_Y

HEAD = [(64, 33), (78, 35.5), (88.5, 46), (90.5, 60), (87.5, 75), (78, 88), (64, 93)]
BACK_HAIR = {
    "long": [(64, 24), (84, 27), (97, 44), (99, 70), (101, 98), (92, 112), (64, 110)],
    "wavy": [(64, 24), (86, 27), (98, 44), (95, 62), (103, 78), (98, 94), (104, 108), (90, 114), (64, 110)],
    "bob": [(64, 24), (86, 27), (98, 44), (100, 66), (98, 84), (88, 92), (64, 90)],
    "bun": [(64, 25), (84, 28), (94, 44), (94, 62), (88, 76), (64, 78)],
    "pigtails": [(64, 25), (84, 28), (94, 44), (94, 62), (88, 76), (64, 78)],
}
FRINGE = {
    "short": [(64, 24), (80, 26.5), (91, 38), (93, 55), (89.5, 58), (87, 46), (76, 42), (64, 41)],
    "parted": [(64, 24), (82, 26), (92, 38), (93.5, 58), (89.5, 60), (86, 48), (72, 45), (64, 36)],
    "long": [(64, 25), (84, 28), (95, 44), (97, 66), (90.5, 70), (88, 52), (76, 45), (64, 37)],
    "wavy": [(64, 25), (84, 28), (95, 44), (98, 66), (90.5, 68), (87, 52), (74, 46), (64, 38)],
    "bob": [(64, 25), (84, 28), (95, 44), (97, 72), (90, 74), (87.5, 50), (76, 48), (64, 48)],
    "bun": [(64, 26), (82, 28.5), (93, 42), (93.5, 56), (89, 58), (84, 46), (74, 41), (64, 40)],
    "pigtails": [(64, 26), (82, 28.5), (93, 42), (93.5, 58), (89, 60), (86, 48), (74, 46), (64, 38)],
}


def draw_back_hair(canvas: Canvas, details: dict, hair):
    """Draw the hair that falls behind the neck."""
    style, dark = details["hair_style"], shade(hair, 0.78)
    with canvas.region("hair"):
        if style in BACK_HAIR:
            canvas.fill(spline(mirrored(BACK_HAIR[style])), dark, edge=shade(hair, 0.6), width=1)
        if style == "bun":
            canvas.ellipse((64, 19), (13, 11), hair, edge=shade(hair, 0.65), width=1)
        if style == "pigtails":
            for side in (-1, 1):
                canvas.ellipse((64 + side * 37, 82), (9, 19), hair, angle=-side * 10, edge=shade(hair, 0.65), width=1)
                canvas.ellipse((64 + side * 33, 65), (4, 4), (0.93, 0.36, 0.55))


def draw_head(canvas: Canvas, details: dict, skin):
    """Draw neck, ears and the shape of the head."""
    line, subject_wide = shade(skin, 0.72), details["width"]
    with canvas.region("face"):
        canvas.fill([(53, 84), (75, 84), (77, 110), (51, 110)], shade(skin, 0.84))
        for side in (-1, 1):
            canvas.ellipse((64 + side * 27 * subject_wide, 66), (5.2, 7.4), shade(skin, 0.93), edge=line, width=0.9)
        points = [(64 + (x - 64) * subject_wide, y) for x, y in HEAD]
        canvas.fill(spline(mirrored(points)), skin, edge=line, width=1.0)


def draw_features(canvas: Canvas, details: dict, skin, hair):
    """Draw cheeks, nose, mouth, brows and beard."""
    with canvas.region("face"):
        for side in (-1, 1):
            canvas.ellipse((64 + side * 17, 76.5), (5.4, 3.4), (0.96, 0.42, 0.40), alpha=0.28)
        if details["freckles"]:
            for x, y in ((50, 74), (54, 76), (47, 77), (78, 74), (74, 76), (81, 77)):
                canvas.ellipse((x, y), (0.9, 0.9), shade(skin, 0.66), alpha=0.8)
        canvas.stroke([(63, 70), (60.8, 75.5), (64.5, 77)], shade(skin, 0.66), 1.7)
    _draw_beard(canvas, details, hair)
    _draw_mouth(canvas, details, skin)
    with canvas.region("hair"):
        lift = details["brow"]
        for side in (-1, 1):
            points = [(64 + side * 5.5, 53.5), (64 + side * 12, 51 - lift), (64 + side * 19.5, 53.5 + lift)]
            canvas.stroke(points, shade(hair, 0.7), 2.3)


def _draw_mouth(canvas, details, skin):
    depth = 2.0 + 3.8 * details["smile"]
    with canvas.region("face"):
        if details["lips"]:
            canvas.fill(spline([(56.5, 83), (64, 81.6), (71.5, 83), (64, 83.5 + depth)]), (0.80, 0.20, 0.28))
        elif details["smile"] > 0.6:
            canvas.fill(
                spline([(55, 82), (64, 82.8), (73, 82), (69, 83 + depth), (59, 83 + depth)]), (0.52, 0.12, 0.16)
            )
            canvas.fill(spline([(57.5, 82.8), (64, 83.2), (70.5, 82.8), (64, 85.4)]), (1, 1, 1))
        else:
            canvas.stroke([(56, 82.5), (64, 82.5 + depth), (72, 82.5)], shade(skin, 0.5), 2.0)


def _draw_beard(canvas, details, hair):
    beard = mirrored([(64, 79), (74, 79), (84, 66), (89, 66), (87, 80), (78, 92), (64, 97)])
    with canvas.region("hair"):
        if details["beard"]:
            canvas.fill(spline(beard), shade(hair, 0.92), edge=shade(hair, 0.65), width=0.8)
        if details["moustache"]:
            canvas.fill(spline(mirrored([(64, 77.5), (70, 76.6), (77, 80.5), (70, 81.2), (64, 80)])), shade(hair, 0.85))
    if details["stubble"] and not details["beard"]:
        with canvas.region("face"):
            canvas.fill(spline(beard), shade(hair, 0.6), alpha=0.16)


def draw_front_hair(canvas: Canvas, details: dict, hair):
    """Draw the hair over the forehead and the sides of the head."""
    style, line, light = details["hair_style"], shade(hair, 0.65), shade(hair, 1.25)
    with canvas.region("hair"):
        if style == "curly":
            for x, y in ((38, 52), (90, 52), (40, 42), (88, 42), (46, 33), (82, 33), (55, 28), (73, 28), (64, 27)):
                canvas.ellipse((x, y), (8.5, 8.5), hair, edge=line, width=0.9)
            for x, y in ((48, 38), (57, 34), (66, 33), (76, 36), (64, 36)):
                canvas.ellipse((x, y), (8, 7), hair)
        elif style == "quiff":
            top = [
                (36, 58),
                (35, 44),
                (42, 30),
                (54, 20),
                (70, 16),
                (86, 20),
                (90, 28),
                (93, 42),
                (92, 58),
                (88.5, 58),
                (86, 44),
                (74, 40),
                (56, 42),
                (43, 42),
                (39.5, 58),
            ]
            canvas.fill(spline(top), hair, edge=line, width=1)
        else:
            canvas.fill(spline(mirrored(FRINGE[style])), hair, edge=line, width=1)
        canvas.stroke([(48, 34), (56, 30), (66, 29.5)], light, 2.2, alpha=0.75)


def draw_eyes(canvas: Canvas, details: dict, iris, *, lashes: bool):
    """Draw two large eyes: white, iris with a darker rim, pupil and highlight."""
    look, radius = details["look"], 6.7 + 0.5 * details["young"]
    with canvas.region("eyes"):
        for side in (-1, 1):
            x = 64 + side * EYE_X
            canvas.ellipse((x, EYE_Y), (9.2, 8.1), (1, 1, 1), edge=(0.22, 0.17, 0.18), width=1.1)
            draw_iris(canvas, (x + look, EYE_Y + 0.3), (radius, radius), iris)
            canvas.stroke(
                [(x - 9.4, EYE_Y - 1.6), (x - 5, EYE_Y - 7.4), (x + 5, EYE_Y - 7.4), (x + 9.4, EYE_Y - 1.6)],
                (0.16, 0.12, 0.14),
                2.0 if lashes else 1.3,
            )
            if lashes:
                canvas.stroke([(x + side * 8.4, EYE_Y - 4), (x + side * 12.6, EYE_Y - 7)], (0.16, 0.12, 0.14), 1.9)


def draw_iris(canvas: Canvas, center, radii, color, *, pupil=(2.9, 2.9)):
    """Draw iris, pupil and highlight; most of the iris stays visible, so its colour can be read."""
    x, y = center
    canvas.ellipse(center, radii, color, edge=shade(color, 0.55), width=1.2)
    canvas.ellipse(center, pupil, (0.05, 0.04, 0.06))
    canvas.ellipse((x + 2.1, y - 2.5), (1.7, 1.7), (1, 1, 1))


def draw_jewels(canvas: Canvas, details: dict):
    """Draw earrings."""
    if details["earrings"]:
        with canvas.region("face"):
            for side in (-1, 1):
                canvas.ellipse((64 + side * 28, 76), (2.6, 3.4), (1.0, 0.82, 0.25), edge=(0.6, 0.42, 0.1), width=0.8)
