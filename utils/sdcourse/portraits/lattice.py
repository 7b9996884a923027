"""The painters of the second world: strokes whose place, angle and lightness are the same in every picture.

A stroke takes its colour from what it covers; where it lies is decided by its place in a tile of 16 x 16 pixels, and
nothing is random. So a picture in a painter's hand costs an autoencoder hardly more than one without.

Why 16 and not the 8 pixels of one latent cell: a decoder like Stable Diffusion's doubles its maps by repeating each
value and convolves them, so latents that are the same in every cell are drawn in one flat colour, and a texture that
repeats in every cell *is* the same in every cell. A tile of two cells gives neighbouring cells different latents, and
the borders between them tell the decoder where in a cell it is.
"""

import numpy as np
from matplotlib.path import Path

from .canvas import UNITS, Canvas
from .painters import DAB

TILE = 16
WARM, COOL = (1.0, 0.75, 0.35), (0.55, 0.8, 1.0)  # how far a tone moves red, green and blue
# strokes: x, y of the centre in the tile, length, width, angle in degrees, tone, and where the tone leans
HANDS = {
    "Monet": {
        "strokes": (
            (3, 2, 10.5, 5.4, -8, 0.08, WARM),
            (12, 3, 10.5, 5.4, 14, -0.08, WARM),
            (0, 7, 9.5, 5.2, 12, -0.06, COOL),
            (8, 6, 9.5, 5.2, -16, 0.03, COOL),
            (4, 11, 10.5, 5.4, 18, 0.02, WARM),
            (13, 10, 10.5, 5.4, -10, 0.08, COOL),
            (1, 15, 9.5, 5.2, -14, 0.0, COOL),
            (9, 14, 9.5, 5.2, 8, -0.07, WARM),
        ),
        "veil": (0.62, 0.68, 0.96),
        "share": 0.15,
        "contrast": 0.96,
        "drift": (0.05, -0.01, -0.05),
        "figure": (0.8, 0.7),
    },
    "Manet": {
        "strokes": (
            (4, 3, 17.0, 8.0, 85, 0.06, WARM),
            (12, 11, 17.0, 8.0, 95, -0.06, WARM),
            (3.5, 12, 11.0, 6.0, 92, -0.03, COOL),
            (12.5, 3.5, 11.0, 6.0, 88, 0.04, COOL),
        ),
        "veil": (0.22, 0.20, 0.16),
        "share": 0.13,
        "contrast": 1.14,
        "drift": (0.03, 0.0, -0.03),
        "figure": (0.62, 0.7),
    },
    "Degas": {
        "strokes": (
            (4, 4, 15.0, 4.6, -46, 0.09, WARM),
            (12, 4, 15.0, 4.6, -44, -0.07, COOL),
            (12, 12, 15.0, 4.6, -46, -0.02, WARM),
            (4, 12, 15.0, 4.6, -44, 0.04, COOL),
        ),
        "veil": (1.0, 0.80, 0.64),
        "share": 0.17,
        "contrast": 1.0,
        "drift": (0.04, -0.01, -0.04),
        "figure": (0.75, 0.7),
    },
    # a fifth painter, of whom no caption knows: for what a style LoRA can teach
    "Seurat": {
        "strokes": tuple(
            (2.7 + 5.33 * column, 2.7 + 5.33 * row, 5.4, 5.4, 0, tone, lean)
            for row, tones in enumerate(((0.12, -0.12, 0.02), (-0.1, 0.03, 0.12), (0.02, 0.1, -0.12)))
            for column, (tone, lean) in enumerate(zip(tones, ((1.0, 0.2, -0.4), (-0.3, 0.4, 1.0), WARM), strict=True))
        ),
        "veil": (0.98, 0.92, 0.72),
        "share": 0.14,
        "contrast": 1.0,
        "drift": (0.02, 0.0, -0.02),
        "figure": (0.9, 0.8),
    },
}
DOT, DOT_RADIUS, DOT_INK = Path.unit_circle(), 2.8, (0.62, 0.72, 0.88)
DOTS = ((4, 4), (12, 12))


def paint(canvas: Canvas, style: str, *, before: np.ndarray | None = None):
    """Repaint the canvas in the hand of an impressionist; other styles are left alone.

    With ``before`` (the pixels uint8 [size, size, 4] of an earlier moment) only what has been drawn since is
    repainted, with the finer strokes of the hand's "figure": (size, tone), as shares.
    """
    if style not in HANDS:
        return
    hand, pixels = HANDS[style], canvas.pixels_view()
    where = np.ones(pixels.shape[:2], dtype=bool) if before is None else (pixels != before).any(axis=-1)
    _grade(pixels, where, hand)
    softened = _soften(pixels, where)
    size, tone = (1.0, 1.0) if before is None else hand["figure"]
    for stroke in hand["strokes"]:
        _lay(canvas, softened, where, stroke, size=size, tone=tone)


def halftone(canvas: Canvas):
    """Cover what is on the canvas with a screen of darker dots and push its colours apart, as comics print."""
    pixels = canvas.pixels_view()
    color = pixels[..., :3] / 255.0
    gray = color.mean(axis=-1, keepdims=True)
    vivid = np.clip((gray + (color - gray) * 1.35 - 0.5) * 1.15 + 0.56, 0, 1)
    pixels[..., :3] = (vivid * 255).astype(np.uint8)
    points = np.concatenate([_places(x, y) for x, y in DOTS])
    colors = _colors_at(pixels[..., :3] / 255.0, points) * DOT_INK
    matrices = np.tile(np.diag([DOT_RADIUS, DOT_RADIUS, 1.0]), (len(points), 1, 1))
    canvas.dabs(DOT, matrices, points, np.hstack([colors, np.ones((len(points), 1))]))


def _grade(pixels, where, hand):
    """Pull all colours towards the painter's veil, warmer at the upper left and cooler at the lower right."""
    size = pixels.shape[0]
    slope = (1 - (np.arange(size)[:, None] + np.arange(size)[None]) / (size - 1))[..., None]  # 1 .. -1
    graded = (pixels[..., :3] / 255.0 - 0.5) * hand["contrast"] + 0.5
    graded = graded * (1 - hand["share"]) + np.asarray(hand["veil"]) * hand["share"] + slope * np.asarray(hand["drift"])
    pixels[where, :3] = (np.clip(graded[where], 0, 1) * 255).astype(np.uint8)


def _soften(pixels, where):
    """Return the mean colour of what lies around each pixel within ``where``, floats [size, size, 3]."""
    reach = max(1, pixels.shape[0] // 64)
    weights = where[..., None].astype(float)
    total, count = _box(pixels[..., :3] / 255.0 * weights, reach), _box(weights, reach)
    return total / np.maximum(count, 1e-9)


def _box(values, reach):
    padded = np.pad(values, ((reach, reach), (reach, reach), (0, 0)))
    size, steps = values.shape[0], range(2 * reach + 1)
    rows = sum(padded[step : step + size] for step in steps)
    return sum(rows[:, step : step + size] for step in steps)


def _places(x: float, y: float) -> np.ndarray:
    """Return where (x, y) of every tile lies, [n, 2], with one tile more on each side."""
    steps = np.arange(-TILE, UNITS + TILE, TILE, dtype=float)
    return np.stack(np.meshgrid(steps + x, steps + y), axis=-1).reshape(-1, 2)


def _colors_at(colors, points):
    size = colors.shape[0]
    places = np.clip((points * size / UNITS).astype(int), 0, size - 1)
    return colors[places[:, 1], places[:, 0]]


def _lay(canvas, colors, where, stroke, *, size, tone):
    """Lay one stroke of the tile in every tile where there is something to paint."""
    x, y, length, width, angle, lightness, lean = stroke
    points = _places(x, y)
    points = points[_colors_at(where, points)]
    filled = np.clip(_colors_at(colors, points) + tone * lightness * np.asarray(lean), 0, 1)
    turn = np.deg2rad(angle)
    matrix = np.eye(3)
    matrix[0, :2] = np.cos(turn) * length * size, -np.sin(turn) * width * size
    matrix[1, :2] = np.sin(turn) * length * size, np.cos(turn) * width * size
    opacity = np.full((len(points), 1), 0.92)
    canvas.dabs(DAB, np.tile(matrix, (len(points), 1, 1)), points, np.hstack([filled, opacity]))
