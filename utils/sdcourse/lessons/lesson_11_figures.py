"""Figures of lesson 11: strips of strengths, a learning curve on fixed noise, rates, and what is left of a hint."""

import numpy as np

from sdlab.figures import COLORS, CourseFigure, new_figure


def plot_learning(losses: list[float], fixed: list[float], *, every: int, alt: str) -> CourseFigure:
    """Return two panels: the loss of every step on fresh noise, and the loss on fixed noise, before and after."""
    figure, (fresh, same) = new_figure(1, 2, alt=alt, width=7.6, height=2.5)
    fresh.plot(range(1, len(losses) + 1), losses, color=COLORS[4], marker="o", markersize=3, linewidth=1)
    fresh.set(title="fresh portraits, noise and timesteps", xlabel="step", ylabel="loss")
    same.plot(np.arange(len(fixed)) * every, fixed, color=COLORS[0], marker="s", markersize=5)
    same.set(title="always the same ones", xlabel="steps done", ylabel="loss")
    return figure
