"""Figures of lesson 01: the landscape with the paths on it, and beside it the loss of every step."""

import numpy as np
import torch
from PIL import Image

from sdlab.figures import COLORS, new_figure

from .charts import COLOR_ORDER, LINES, MARKERS, WIDTH, draw_curves
from .lesson_01 import walk_with_batches

STAR = {"marker": "*", "color": "white", "markeredgecolor": "black", "zorder": 6, "linestyle": "none"}


def plot_landscape(loss, places: list[float], between: tuple[float, float], *, alt: str, xlabel: str = "weight"):
    """Return a figure of ``loss`` (a function of one number) ``between`` two numbers, with marks at ``places``."""
    figure, axes = new_figure(alt=alt, width=5.6, height=3.0)
    _draw_curve(axes, loss, between)
    axes.plot(places, _values(loss, places), marker="o", linestyle="none", color=COLORS[5], markersize=8)
    axes.set(xlabel=xlabel, ylabel="loss")
    return figure


def plot_paths(loss, paths: dict, between: tuple[float, float], *, alt: str):
    """Return a figure of ``paths`` (label -> weights [steps + 1]) on the curve of ``loss``, a function of a weight."""
    figure, (left, right) = new_figure(1, 2, alt=alt, width=WIDTH, height=3.2)
    top = _draw_curve(left, loss, between)
    losses = {label: _values(loss, path) for label, path in paths.items()}
    for index, (label, path) in enumerate(paths.items()):
        _draw_path(left, path, losses[label], index)
    left.set(xlabel="weight", ylabel="loss")
    _draw_losses(right, losses, 1.5 * top)
    return figure


def plot_row_paths(search, paths: dict, *, alt: str):
    """Return a figure of ``paths`` (label -> places [steps + 1]) along the eyes' row of ``search`` (an EyeSearch).

    Above, the landscape over the portrait; below, on the same scale, where each path is at each step.
    """
    figure, (above, below) = new_figure(2, 1, alt=alt, width=5.8, height=5.2)
    top = _draw_curve(above, search.loss, (0, 1))
    above.imshow(search.image, extent=(0, 1, 0, top), aspect="auto", alpha=0.5)
    for index, (label, path) in enumerate(paths.items()):
        color, steps = COLORS[COLOR_ORDER[index]], np.arange(len(path))
        style = {"color": color, "marker": MARKERS[index]}
        below.plot(path, steps, LINES[index], linewidth=1.2, markersize=4, label=label, **style)
        above.plot(
            path[-1], search.loss(path[-1]), markersize=10, markeredgecolor="black", zorder=5, clip_on=False, **style
        )
    above.set(ylabel="loss")
    below.set(xlim=(0, 1), ylim=(len(steps), -1), xlabel="place of the window", ylabel="step")
    below.axvline(float(search.eyes[0]), color="black", linewidth=1, linestyle=":")
    below.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=len(paths))
    return figure


def plot_map_paths(search, paths: dict, *, alt: str):
    """Return a figure of ``paths`` (label -> places [steps + 1, 2]) on the portrait of ``search`` (an EyeSearch)."""
    figure, (left, right) = _draw_map(search, alt=alt)
    for index, path in enumerate(paths.values()):
        _draw_path(left, path[:, 0], path[:, 1], index)
    losses = {label: search.loss(path[:, 0], path[:, 1]) for label, path in paths.items()}
    _draw_losses(right, losses, float(search.table[1].max()))
    return figure


class SearchPanel:
    """The figure of one walk_with_batches, for sliders: the portrait is drawn once, only the walk is drawn anew."""

    def __init__(self, search):
        self.search = search
        self.figure, (left, right) = _draw_map(search, alt="A walk over the portrait, and its loss")
        self.path = _draw_path(left, [0.5], [0.5], 0)
        (self.losses,) = right.plot([], [], color=COLORS[0], linewidth=2)
        right.set(xlim=(0, 50), ylim=(0, 0.45), xlabel="step", ylabel="loss")
        for artist in (*self.path, self.losses):
            artist.set_animated(True)  # left out of the background
        self.figure.canvas.draw()
        self.background = self.figure.canvas.copy_from_bbox(self.figure.bbox)

    def __call__(self, learning_rate: float, batch_size: int, start: tuple[float, float]) -> Image.Image:
        """Return the picture of the walk with these settings."""
        path = walk_with_batches(self.search, learning_rate, batch_size, start)
        self.path[0].set_data(path[:, 0], path[:, 1])
        self.path[1].set_data(path[:1, 0], path[:1, 1])
        self.losses.set_data(np.arange(len(path)), self.search.loss(path[:, 0], path[:, 1]))
        self.figure.canvas.restore_region(self.background)
        for artist in (*self.path, self.losses):
            artist.axes.draw_artist(artist)
        return Image.fromarray(np.asarray(self.figure.canvas.buffer_rgba())).convert("RGB")


def plot_weight_paths(samples, paths: dict, *, alt: str, low=(-0.6, -2.5), high=(2.8, 0.6)):
    """Return a figure of ``paths`` (label -> weights [steps + 1, 2]), each on the landscape of ``samples``."""
    figure, panels = new_figure(1, len(paths), alt=alt, width=WIDTH, height=3.0)
    across, down = torch.linspace(low[0], high[0], 60), torch.linspace(low[1], high[1], 60)
    levels, greys = np.geomspace(0.02, 4, 8), [str(grey) for grey in np.linspace(1.0, 0.6, 9)]  # low is light
    heights = samples.excess(torch.cartesian_prod(across, down)).reshape(60, 60).T
    for index, (axes, (label, path)) in enumerate(zip(np.atleast_1d(panels), paths.items(), strict=True)):
        axes.contourf(across, down, heights, levels=levels, colors=greys, extend="both")
        _draw_path(axes, path[:, 0], path[:, 1], index)
        axes.plot(*samples.best, markersize=13, **STAR)
        axes.set(title=label, xlabel="first weight", xlim=(low[0], high[0]), ylim=(low[1], high[1]))
        axes.grid(False)
    np.atleast_1d(panels)[0].set_ylabel("second weight")
    return figure


def _draw_curve(axes, loss, between: tuple[float, float]) -> float:
    """Draw ``loss`` between two numbers and return the height of the axes."""
    grid = torch.linspace(*between, 201, dtype=torch.float64)
    curve = _values(loss, grid)
    axes.plot(grid, curve, color="black", linewidth=2)
    axes.set(xlim=between, ylim=(0, 1.08 * curve.max()))
    return 1.08 * curve.max()


def _values(loss, places) -> np.ndarray:
    return np.array([float(loss(place)) for place in places])


def _draw_map(search, *, alt: str):
    """Return a figure and its two axes; on the left one are the portrait, its lines of equal loss, and the eyes."""
    figure, (left, right) = new_figure(1, 2, alt=alt, width=7.4, height=3.3)
    left.imshow(search.image, extent=(0, 1, 1, 0), alpha=0.6)
    grid, table = search.table
    left.contour(grid, grid, table, levels=9, cmap="viridis", linewidths=0.7, antialiased=False)
    left.plot(*search.eyes, markersize=16, **STAR)
    left.set(xlim=(0, 1), ylim=(1, 0), xlabel="place across", ylabel="place down")
    left.grid(False)
    return figure, (left, right)


def _draw_path(axes, across, down, index: int) -> list:
    """Draw a path and a larger mark where it starts; return both artists."""
    color, mark = COLORS[COLOR_ORDER[index % 4]], MARKERS[index % 4]
    first = {"markersize": 9, "markeredgecolor": "black", "zorder": 5}
    path = axes.plot(across, down, color=color, linewidth=1.2, marker=mark, markersize=3.5, zorder=4)
    return path + axes.plot(across[:1], down[:1], color=color, marker=mark, **first)


def _draw_losses(axes, losses: dict, top: float) -> None:
    draw_curves(axes, None, losses)
    axes.set(xlabel="step", ylabel="loss")
    highest = max(float(np.max(np.asarray(values))) for values in losses.values())
    axes.set_ylim(0, min(1.1 * highest, top))
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend(frameon=False)
