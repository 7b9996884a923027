"""Figures of lesson 03: clouds of points, bell curves, and groups of values in rows."""

import math

import numpy as np
import torch

from sdlab.figures import COLORS, CourseFigure, new_figure

from .charts import LINES


def plot_point_clouds(clouds: list[torch.Tensor], titles: list[str], *, color_by, alt: str) -> CourseFigure:
    """Return 2-D clouds [N, 2] side by side on equal axes, every point coloured by its value in ``color_by``."""
    figure, axes = new_figure(1, len(clouds), alt=alt, width=2.1 * len(clouds), height=2.5)
    for axis, cloud, title in zip(np.atleast_1d(axes), clouds, titles, strict=True):
        axis.scatter(cloud[:, 0], cloud[:, 1], c=color_by, s=3, linewidths=0, cmap="viridis")
        axis.set(title=title, xlim=(-3.5, 3.5), ylim=(-3.5, 3.5), aspect="equal", xticks=(-2, 0, 2), yticks=(-2, 0, 2))
    return figure


def plot_bells(samples: dict[str, torch.Tensor], mean: float, variance: float, *, alt: str) -> CourseFigure:
    """Return the histograms of ``samples`` over each other, with the bell curve of ``mean`` and ``variance``."""
    figure, axis = new_figure(alt=alt, width=7.0, height=2.8)
    edges = np.linspace(mean - 4 * math.sqrt(variance), mean + 4 * math.sqrt(variance), 81)
    for number, (name, values) in enumerate(samples.items()):
        axis.hist(
            values.numpy(), edges, density=True, histtype="step", linewidth=1.8, linestyle=LINES[number],
            color=COLORS[number], label=name,
        )
    bell = np.exp(-((edges - mean) ** 2) / (2 * variance)) / math.sqrt(2 * math.pi * variance)
    axis.plot(edges, bell, color="black", linewidth=1.2, label="bell curve of the formula")
    axis.set(xlabel="value", ylabel="density")
    axis.legend(fontsize=9, frameon=False)
    return figure
