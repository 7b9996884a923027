"""Figures of lesson 11: strips of strengths, a learning curve on fixed noise, rates, and what is left of a hint."""

import numpy as np

from sdlab.figures import COLORS, CourseFigure, new_figure

from ..judging.intervals import mean_interval
from .charts import MARKERS


def plot_learning(losses: list[float], fixed: list[float], *, every: int, alt: str) -> CourseFigure:
    """Return two panels: the loss of every step on fresh noise, and the loss on fixed noise, before and after."""
    figure, (fresh, same) = new_figure(1, 2, alt=alt, width=7.6, height=2.5)
    fresh.plot(range(1, len(losses) + 1), losses, color=COLORS[4], marker="o", markersize=3, linewidth=1)
    fresh.set(title="fresh portraits, noise and timesteps", xlabel="step", ylabel="loss")
    same.plot(np.arange(len(fixed)) * every, fixed, color=COLORS[0], marker="s", markersize=5)
    same.set(title="always the same ones", xlabel="steps done", ylabel="loss")
    return figure


def plot_agreement(groups: dict[str, np.ndarray], *, alt: str) -> CourseFigure:
    """Return every picture's agreement as a dot, a row for each group, and the group's mean with its 95 % interval."""
    figure, axis = new_figure(alt=alt, width=7.6, height=0.75 + 0.55 * len(groups))
    for row, values in enumerate(groups.values()):
        mean, low, high = mean_interval(values)
        heights = row + np.linspace(-0.18, 0.18, len(values))
        axis.plot(values, heights, MARKERS[row % 4], color=COLORS[row], markersize=5, alpha=0.55)
        axis.errorbar(mean, row, xerr=[[mean - low], [high - mean]], fmt="|", color="black", markersize=16, capsize=4)
    axis.set_yticks(range(len(groups)), list(groups))
    axis.set(xlabel="agreement with the hint (F1)", xlim=(0, 1), ylim=(len(groups) - 0.5, -0.5))
    axis.grid(axis="y", visible=False)
    return figure
