"""A 128-unit drawing board on matplotlib's Agg renderer: filled shapes, strokes and region masks.

Agg is antialiased, ships with matplotlib everywhere, and is fast when called without axes or figures.
Coordinates are (x, y) with y pointing down, 128 units a side whatever the size in pixels.
"""

from contextlib import contextmanager
from inspect import signature

import numpy as np
from matplotlib.backend_bases import GraphicsContextBase
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.path import Path
from matplotlib.transforms import Affine2D, IdentityTransform

UNITS = 128
REGIONS = ("background", "face", "hair", "shirt", "hat", "eyes", "glasses")
_CIRCLE = Path.unit_circle()
# matplotlib 3.11 added a keyword that older releases do not know
_HAS_HATCHES = "hatchcolors" in signature(RendererAgg.draw_path_collection).parameters
_HATCHES = {"hatchcolors": np.empty((0, 4))} if _HAS_HATCHES else {}


def shade(color, factor: float) -> tuple:
    """Return ``color`` darker (factor < 1) or nearer to white (factor > 1); RGB in [0, 1]."""
    color = np.asarray(color[:3], dtype=float)
    mixed = color * factor if factor <= 1 else 1 - (1 - color) * (2 - factor)
    return tuple(np.clip(mixed, 0, 1).tolist())


def spline(points, closed: bool = True) -> Path:
    """Return a smooth curve through ``points`` [n, 2] (Catmull-Rom, written as cubic Bezier)."""
    points = np.asarray(points, dtype=float)
    count = len(points)
    if closed:
        before, after = np.roll(points, 1, axis=0), np.roll(points, -1, axis=0)
    else:
        before, after = np.vstack([points[:1], points[:-1]]), np.vstack([points[1:], points[-1:]])
    tangents = (after - before) / 6
    vertices = np.empty((3 * count, 2))
    vertices[0::3] = points + tangents
    vertices[1::3] = after - np.roll(tangents, -1, axis=0)
    vertices[2::3] = after
    if not closed:
        vertices = vertices[:-3]
    codes = np.full(len(vertices) + 1, Path.CURVE4, dtype=np.uint8)
    codes[0] = Path.MOVETO
    return Path(np.vstack([points[:1], vertices]), codes)


def mirrored(points, axis: float = 64.0) -> list:
    """Return ``points`` followed by their mirror image about x = ``axis``, in reverse order."""
    points = list(points)
    return points + [(2 * axis - x, y) for x, y in reversed(points)]


class Canvas:
    """Draw in 128 units on a ``size`` x ``size`` picture; optionally keep the visible region of each pixel."""

    def __init__(self, size: int, *, masks: bool = False):
        self.size = size
        self.renderer = RendererAgg(size, size, 72)
        self.labels = RendererAgg(size, size, 72) if masks else None
        if masks:
            np.asarray(self.labels.buffer_rgba())[:] = (0, 0, 0, 255)
        self.region_index = 0
        self.outline = None
        self._base = Affine2D().scale(size / UNITS, -size / UNITS).translate(0, size)
        self.place = self._base.frozen()

    @contextmanager
    def region(self, name: str):
        """Attribute everything drawn inside the block to ``name``, one of ``REGIONS``."""
        before, self.region_index = self.region_index, REGIONS.index(name)
        yield
        self.region_index = before

    def set_pose(self, matrix: Affine2D | None):
        """Place everything that follows by ``matrix`` (in units), or upright again with None."""
        self.place = ((matrix + self._base) if matrix is not None else self._base).frozen()

    def _context(self, color, width, alpha, antialiased=True):
        context = GraphicsContextBase()
        context.set_foreground((*color[:3], alpha), isRGBA=True)
        context.set_linewidth(width * self.size / UNITS)
        context.set_capstyle("round")
        context.set_joinstyle("round")
        context.set_antialiased(antialiased)
        return context

    def _label(self, path, transform, filled, width):
        gray = (self.region_index * 20 / 255,) * 3
        context = self._context(gray, width, 1.0, antialiased=False)
        self.labels.draw_path(context, path, transform, (*gray, 1.0) if filled else None)

    def fill(self, path, color, *, edge=None, width: float = 0.0, alpha: float = 1.0):
        """Fill ``path`` (a Path or points of a polygon); ``edge`` outlines it, ``width`` in units."""
        self._paint(path, IdentityTransform(), color, edge, width, alpha)

    def ellipse(self, center, radii, color, *, angle=0.0, edge=None, width=0.0, alpha=1.0):
        """Fill an ellipse of ``radii`` (x, y) at ``center``, turned by ``angle`` degrees."""
        if self.outline is not None and max(radii) < 3:
            edge, width = None, 0.0
        local = Affine2D().scale(*radii).rotate_deg(angle).translate(*center)
        self._paint(_CIRCLE, local, color, edge, width, alpha)

    def _paint(self, path, local, color, edge, width, alpha):
        if not isinstance(path, Path):
            path = Path(np.asarray(path, dtype=float), closed=False)
        if self.outline is not None and alpha == 1.0 and edge is not None:
            edge, width = self.outline, max(width, 1.9)
        transform = (local + self.place).frozen()
        context = self._context(edge if edge is not None else color, width if edge is not None else 0.0, alpha)
        self.renderer.draw_path(context, path, transform, (*color[:3], alpha))
        if self.labels is not None and alpha > 0.5:
            self._label(path, transform, True, 0.0)

    def stroke(self, path, color, width: float, *, alpha: float = 1.0):
        """Draw ``path`` (a Path or the points of an open curve) as a line ``width`` units wide."""
        if not isinstance(path, Path):
            path = spline(path, closed=False)
        self.renderer.draw_path(self._context(color, width, alpha), path, self.place)
        if self.labels is not None and alpha > 0.5:
            self._label(path, self.place, False, width)

    def backdrop(self, pixels: np.ndarray):
        """Fill the whole picture with ``pixels``, floats [size, size, 3] or [size, 1, 3] in [0, 1]."""
        buffer = self.pixels_view()
        buffer[..., :3] = np.clip(pixels * 255 + 0.5, 0, 255).astype(np.uint8)
        buffer[..., 3] = 255

    def vertical_gradient(self, stops):
        """Fill the picture with a gradient through ``stops``, a list of (y in units, color)."""
        heights = [stop[0] for stop in stops]
        rows = np.linspace(0, UNITS, self.size)
        columns = [np.interp(rows, heights, [stop[1][channel] for stop in stops]) for channel in range(3)]
        self.backdrop(np.stack(columns, axis=-1)[:, None, :])

    def dabs(self, shape: Path, matrices: np.ndarray, offsets: np.ndarray, colors: np.ndarray):
        """Stamp ``shape`` n times: ``matrices`` [n, 3, 3] and ``offsets`` [n, 2] in units, ``colors`` [n, 4]."""
        scaled = np.asarray(matrices, dtype=float).copy()
        scaled[:, :2, :2] *= self.size / UNITS
        scaled[:, 1, :2] *= -1
        points = self._base.transform(offsets)
        self.renderer.draw_path_collection(
            self._context((0, 0, 0), 0.0, 1.0),
            Affine2D().frozen(),
            [shape],
            scaled,
            points,
            IdentityTransform(),
            colors,
            np.empty((0, 4)),
            [0.0],
            [(0, None)],
            [True],
            [""],
            "screen",
            **_HATCHES,
        )

    def pixels_view(self) -> np.ndarray:
        """Return the picture as a writable uint8 array [size, size, 4]."""
        return np.asarray(self.renderer.buffer_rgba())

    def image(self) -> np.ndarray:
        """Return the picture as uint8 [size, size, 3]."""
        return self.pixels_view()[..., :3].copy()

    def masks(self) -> dict[str, np.ndarray]:
        """Return what is visible where: name -> bool [size, size]."""
        labels = np.rint(np.asarray(self.labels.buffer_rgba())[..., 0] / 20)
        return {name: labels == index for index, name in enumerate(REGIONS)}
