"""Four painters' hands: the picture is repainted with strokes that take their colour from what they cover.

Monet, Manet and Degas are three impressionists (strokes, no outlines, a warm or cool veil) who differ in the
length, angle and hue of the stroke; Lichtenstein is far from all of them (black outlines, flat colour, dots).
"""

import numpy as np
from matplotlib.path import Path

from .canvas import UNITS, Canvas, spline

DAB = spline([(-0.5, 0), (-0.3, 0.42), (0.3, 0.5), (0.5, 0), (0.3, -0.46), (-0.3, -0.42)])
# spacing, length, width, angle, spread of the angle, jitter of the colour, veil colour, share of the veil
HANDS = {
    "Monet": {
        "spacing": 6.0,
        "length": 9.0,
        "width": 5.6,
        "angle": 8,
        "spread": 28,
        "jitter": 0.055,
        "veil": (0.62, 0.68, 0.96),
        "share": 0.15,
        "contrast": 0.92,
    },
    "Manet": {
        "spacing": 7.5,
        "length": 17.0,
        "width": 7.6,
        "angle": 84,
        "spread": 14,
        "jitter": 0.035,
        "veil": (0.22, 0.20, 0.16),
        "share": 0.13,
        "contrast": 1.16,
    },
    "Degas": {
        "spacing": 6.2,
        "length": 16.0,
        "width": 3.6,
        "angle": -48,
        "spread": 7,
        "jitter": 0.055,
        "veil": (1.0, 0.80, 0.64),
        "share": 0.17,
        "contrast": 0.96,
    },
}
DOT = Path.unit_circle()


def paint(canvas: Canvas, style: str, rng: np.random.Generator, *, before: np.ndarray | None = None):
    """Repaint the canvas in the hand of an impressionist; other styles are left alone.

    With ``before`` (the pixels uint8 [size, size, 4] of an earlier moment) only what has been drawn since is
    repainted, with finer strokes: painters spend their care on the figure.
    """
    if style not in HANDS:
        return
    pixels = canvas.pixels_view()
    where = np.ones(pixels.shape[:2], dtype=bool) if before is None else (pixels != before).any(axis=-1)
    _grade(pixels, where, HANDS[style])
    _strokes(canvas, rng, HANDS[style], where, fine=1.0 if before is None else 0.66)


def _grade(pixels, where, hand):
    graded = (pixels[..., :3] / 255.0 - 0.5) * hand["contrast"] + 0.5
    graded = graded * (1 - hand["share"]) + np.asarray(hand["veil"]) * hand["share"]
    pixels[where, :3] = (np.clip(graded[where], 0, 1) * 255).astype(np.uint8)


def _grid(spacing: float, rng: np.random.Generator, wobble: float = 0.35) -> np.ndarray:
    """Return jittered grid points [n, 2] that cover the picture, in random order."""
    steps = np.arange(-spacing / 2, UNITS + spacing, spacing)
    points = np.stack(np.meshgrid(steps, steps), axis=-1).reshape(-1, 2)
    points = points + rng.uniform(-wobble, wobble, points.shape) * spacing
    return rng.permutation(points)


def _sample(pixels: np.ndarray, points: np.ndarray) -> np.ndarray:
    size = pixels.shape[0]
    where = np.clip((points * size / UNITS).astype(int), 0, size - 1)
    return pixels[where[:, 1], where[:, 0], :3] / 255.0


def _strokes(canvas, rng, hand, where, *, fine: float):
    pixels, size = canvas.pixels_view(), canvas.size
    points = _grid(hand["spacing"] * (0.5 + fine / 2), rng)
    inside = np.clip((points * size / UNITS).astype(int), 0, size - 1)
    points = points[where[inside[:, 1], inside[:, 0]]]
    count, jitter = len(points), hand["jitter"] * fine
    colors = _sample(pixels, points) + rng.normal(0, jitter, (count, 1)) + rng.normal(0, jitter / 2, (count, 3))
    angles = np.deg2rad(hand["angle"] + rng.normal(0, hand["spread"], count))
    stretch = rng.uniform(0.8, 1.2, (count, 2)) * (hand["length"] * fine, hand["width"] * fine)
    matrices = np.tile(np.eye(3), (count, 1, 1))
    matrices[:, 0, 0], matrices[:, 0, 1] = np.cos(angles) * stretch[:, 0], -np.sin(angles) * stretch[:, 1]
    matrices[:, 1, 0], matrices[:, 1, 1] = np.sin(angles) * stretch[:, 0], np.cos(angles) * stretch[:, 1]
    alphas = np.full((count, 1), 0.9 if fine == 1 else 0.8)
    canvas.dabs(DAB, matrices, points, np.hstack([np.clip(colors, 0, 1), alphas]))


def halftone(canvas: Canvas):
    """Cover what is on the canvas with a screen of darker dots and push its colours apart, as comics print."""
    pixels = canvas.pixels_view()
    color = pixels[..., :3] / 255.0
    gray = color.mean(axis=-1, keepdims=True)
    vivid = np.clip((gray + (color - gray) * 1.35 - 0.5) * 1.15 + 0.56, 0, 1)
    pixels[..., :3] = (vivid * 255).astype(np.uint8)
    steps = np.arange(0, UNITS + 8, 8.0)
    points = np.stack(np.meshgrid(steps, steps), axis=-1)
    points[1::2, :, 0] += 4
    points = points.reshape(-1, 2)
    colors = np.clip(_sample(pixels, points) * 0.62, 0, 1)
    matrices = np.tile(np.diag([2.3, 2.3, 1.0]), (len(points), 1, 1))
    canvas.dabs(DOT, matrices, points, np.hstack([colors, np.ones((len(points), 1))]))
