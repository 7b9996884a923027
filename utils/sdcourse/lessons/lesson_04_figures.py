"""Figures of lesson 04: clouds of points, paths, and the arrows along which a sampler moves points."""

import numpy as np
import torch

from sdlab.figures import COLORS, CourseFigure, new_figure

REACH = 2.6  # clouds are shown from -REACH to REACH


def show_clouds(clouds, titles, *, alt: str, reference=None, columns: int | None = None) -> CourseFigure:
    """Return panels with one cloud [n, 2] each; ``reference`` [m, 2] is drawn in grey behind every one."""
    columns = min(columns or len(clouds), len(clouds))
    rows = -(-len(clouds) // columns)
    size = min(2.4, 9.2 / columns)
    figure, grid = new_figure(rows, columns, alt=alt, width=size * columns, height=(size + 0.25) * rows)
    panels = np.atleast_1d(grid).ravel()
    for axes, cloud, title in zip(panels, clouds, titles, strict=False):
        _draw_cloud(axes, cloud, reference)
        axes.set_title(title, fontsize=10)
    for axes in panels[len(clouds) :]:
        axes.set_axis_off()
    return figure


def _draw_cloud(axes, cloud, reference, *, reach: float = REACH, color: str = COLORS[0]) -> None:
    if reference is not None:
        axes.plot(*reference.T, ".", color="#cfcfcf", markersize=2, zorder=1)
    axes.plot(*cloud.T, ".", color=color, markersize=2.2, alpha=0.7, zorder=2)
    axes.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal", xticks=[], yticks=[])
    axes.grid(False)
    for side in axes.spines.values():
        side.set_visible(True)
        side.set_color("#bbbbbb")


def show_value_paths(path, jump, data, *, alt: str, count: int = 40) -> CourseFigure:
    """Return single numbers on their way from noise to data: at the start, after one jump, ``count`` walks, the end.

    path: list of [n, 1], the noise first; jump [n, 1]; data [m, 1], dashed beside the end of the walks.
    """
    figure, panels = new_figure(1, 4, alt=alt, width=9.4, height=3.0)
    walks = torch.stack(list(path))[..., 0].numpy()
    bins = np.linspace(-3.2, 3.2, 41)
    _sideways(panels[0], {"noise": walks[0]}, bins)
    _sideways(panels[1], {"one jump": jump[:, 0].numpy()}, bins)
    panels[2].plot(walks[:, :count], color=COLORS[0], linewidth=0.7, alpha=0.6)
    panels[2].set(xlabel="step", ylim=(bins[0], bins[-1]))
    _sideways(panels[3], {f"{len(walks) - 1} steps": walks[-1], "data": data[:, 0].numpy()}, bins)
    for axes, title in zip(panels, ("start", "after one jump", f"{count} walks", "after the walk"), strict=True):
        axes.set_title(title, fontsize=10)
    panels[0].set(ylabel="value")
    return figure


def _sideways(axes, columns: dict, bins) -> None:
    for number, (label, values) in enumerate(columns.items()):
        options = {"histtype": "step", "linestyle": "--"} if number else {"alpha": 0.75}
        axes.hist(
            values,
            bins,
            density=True,
            orientation="horizontal",
            label=label,
            color=COLORS[number],
            linewidth=2,
            **options,
        )
    axes.set(xlabel="density", ylim=(bins[0], bins[-1]))
    axes.legend(loc="lower right", fontsize=8)


def show_updates(updates: dict, *, alt: str, reference=None, reach: float = 2.2) -> CourseFigure:
    """Return panels with the arrows of one step.

    updates: title -> (points [n, 2], noise_pred [n, 2], ends [n, 2], spread): an arrow from each point to its end, a
    circle of radius ``spread`` around the end for the noise that is added there, and a dashed line from the point in
    the direction of minus noise_pred.
    """
    figure, panels = new_figure(1, len(updates), alt=alt, width=9.4, height=9.4 / len(updates) + 0.4)
    for axes, (title, (points, noise_pred, ends, spread)) in zip(np.atleast_1d(panels), updates.items(), strict=True):
        scale = max(1.0, float(points.abs().max()) / (0.9 * reach))
        _draw_cloud(axes, points[:0], reference, reach=reach * scale)
        _draw_update(axes, points, noise_pred, ends, spread)
        axes.set_title(title, fontsize=10)
    return figure


def _draw_update(axes, points, noise_pred, ends, spread) -> None:
    from matplotlib.patches import Circle

    ahead = points - 0.45 * noise_pred / noise_pred.norm(dim=1, keepdim=True)
    for start, goal, end in zip(points.tolist(), ahead.tolist(), ends.tolist(), strict=True):
        axes.plot(*zip(start, goal, strict=True), "--", color=COLORS[5], linewidth=1.1, zorder=3)
        axes.add_patch(Circle(end, spread, facecolor=COLORS[4], alpha=0.25, linewidth=0, zorder=2))
    moves = (ends - points).T
    axes.quiver(
        *points.T, *moves, angles="xy", scale_units="xy", scale=1, color=COLORS[0], width=0.01, headwidth=3.5, zorder=4
    )
    axes.plot(*points.T, "o", color=COLORS[7], markersize=2.5, zorder=5)


def show_losses(losses, errors, best, timesteps, *, alt: str, bins: int = 20) -> CourseFigure:
    """Return the loss over training beside the loss over timesteps, both with the best possible loss dashed.

    losses: one number a training round; errors, best [n]: squared errors of the network and of the exact denoiser
    for noisy samples at ``timesteps`` [n].
    """
    figure, (left, right) = new_figure(1, 2, alt=alt, width=9.2, height=3.1)
    left.plot(losses, color=COLORS[4], linewidth=0.6, label="loss of each batch")
    left.plot(_smooth(losses), color=COLORS[0], label="mean of 100 batches")
    left.axhline(float(best.mean()), color=COLORS[5], linestyle="--", label="best possible")
    left.set(xlabel="training round", ylabel="loss", ylim=(0, 1.2))
    left.legend(fontsize=8)
    edges = torch.linspace(0, 1000, bins + 1)
    place = torch.bucketize(timesteps.float(), edges, right=True) - 1
    middle = (edges[1:] + edges[:-1]) / 2
    for values, style, color, label in (
        (errors, "o-", COLORS[0], "network"),
        (best, "s--", COLORS[5], "best possible"),
    ):
        means = [float(values[place == number].mean()) for number in range(bins)]
        right.plot(middle, means, style, color=color, markersize=4, label=label)
    right.set(xlabel="timestep t", ylabel="loss", ylim=(0, 1.2))
    right.legend(fontsize=8)
    return figure


def _smooth(values, width: int = 100):
    kernel = np.ones(width) / width
    smooth = np.convolve(values, kernel, mode="valid")
    return np.concatenate([np.full(len(values) - len(smooth), np.nan), smooth])
