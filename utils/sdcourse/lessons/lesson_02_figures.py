"""Figures of lesson 02: fits, errors, curves of training, and pictures of the denoisers in rows."""


import numpy as np
import torch
from torch.nn import functional

from sdlab.figures import COLORS, CourseFigure, new_figure

from .lesson_02 import GRID, Curves, wave

TRAIN, HELD_OUT = COLORS[0], COLORS[5]


def plot_fits(runs: dict[str, Curves], *, floor: float, alt: str) -> CourseFigure:
    """Return two rows: what each network answers, with its training points, and its learning curves below."""
    figure, axes = new_figure(2, len(runs), alt=alt, width=9.6, height=5.2)
    for column, (name, curves) in enumerate(runs.items()):
        draw_answers(axes[0][column], curves, -1)
        axes[0][column].set_title(name)
        draw_errors(axes[1][column], curves, floor=floor)
        if column:
            axes[0][column].set_yticklabels([])
            axes[1][column].set_yticklabels([])
    axes[0][0].set_ylabel("answer")
    axes[1][0].set_ylabel("error (log scale)")
    lines = [*axes[0][0].lines, *axes[1][0].lines]
    figure.legend(lines, [line.get_label() for line in lines], loc="outside lower center", ncols=len(lines), fontsize=9)
    return figure


def draw_answers(axis, curves: Curves, index: int) -> None:
    """Draw the wave, the training points and the network's answers at record ``index`` into ``axis``."""
    inputs, targets = (part[:, 0].numpy() for part in curves.points)
    grid = GRID[:, 0].numpy()
    axis.plot(inputs, targets, "o", color="#999999", markersize=3.5, label="training points")
    axis.plot(grid, wave(GRID)[:, 0].numpy(), "--", color="black", linewidth=1.2, label="hidden rule")
    axis.plot(grid, curves.answers[index].clamp(-9, 9).numpy(), color=TRAIN, label="answers of the network")
    axis.set_ylim(-2.2, 2.2)
    axis.set_xlabel("input")


def draw_errors(axis, curves: Curves, *, floor: float, limits=(0.001, 20)) -> None:
    """Draw training and validation error over the steps into ``axis``, and the error that is only noise."""
    axis.plot(curves.steps, curves.training, color=TRAIN, label="training error")
    axis.plot(curves.steps, curves.validation, "--", color=HELD_OUT, label="validation error")
    axis.axhline(floor, color="black", linestyle=":", linewidth=1.2, label="noise")
    axis.set_yscale("log")
    axis.set_ylim(*limits)
    axis.set_xlabel("step")


def plot_step(curves: Curves, step: int, *, floor: float) -> CourseFigure:
    """Return what the network answered after ``step`` steps, beside the curves with that step marked."""
    alt = f"The network after {step} steps among its {len(curves.points[0])} training points, and its learning curves"
    index = curves.steps.index(step)
    figure, axes = new_figure(1, 2, alt=alt, width=8, height=3.2)
    draw_answers(axes[0], curves, index)
    axes[0].set_title(f"step {step}")
    axes[0].legend(loc="lower right", fontsize=8)
    draw_errors(axes[1], curves, floor=floor)
    axes[1].axvline(step, color="#999999", linewidth=1.2)
    axes[1].set_title(f"training {curves.training[index]:.2f}, validation {curves.validation[index]:.2f}")
    axes[1].legend(loc="upper right", fontsize=8)
    return figure


def plot_stops(curves: Curves, steps: dict[str, int], *, floor: float, alt: str) -> CourseFigure:
    """Return the learning curves with the named ``steps`` marked, and what the network answered at each of them."""
    figure, axes = new_figure(1, 1 + len(steps), alt=alt, width=9.6, height=3.2)
    draw_errors(axes[0], curves, floor=floor)
    for axis, (name, step) in zip(axes[1:], steps.items(), strict=True):
        axes[0].axvline(step, color="#999999", linewidth=1.2)
        index = min(range(len(curves.steps)), key=lambda row, step=step: abs(curves.steps[row] - step))
        draw_answers(axis, curves, index)
        axis.set_title(f"{name} (step {step})")
    axes[0].set_title("error (log scale)")
    axes[0].legend(loc="upper right", fontsize=8)
    return figure


def plot_data_sizes(sizes, training, validation, *, floor: float, alt: str) -> CourseFigure:
    """Return training and validation error at the end of training over the number of training points."""
    figure, axis = new_figure(alt=alt, width=6.4, height=3.2)
    axis.plot(sizes, training, "o-", color=TRAIN, label="training")
    axis.plot(sizes, validation, "s--", color=HELD_OUT, label="validation")
    axis.axhline(floor, color="black", linestyle=":", linewidth=1.2, label="noise")
    axis.set_xscale("log", base=2)
    axis.set_xticks(sizes, [str(size) for size in sizes])
    axis.set(xlabel="training points", ylabel="error at the end", ylim=(0, None))
    axis.legend()
    return figure


def plot_sums(panels: dict[str, tuple[torch.Tensor, torch.Tensor]], *, alt: str) -> CourseFigure:
    """Return one table of 10 x 10 answers for each of ``panels``: name -> (answers [100], training rows).

    A wrong cell is coloured, the darker the further off; the sums in the training set are framed.
    """
    figure, axes = new_figure(1, len(panels), alt=alt, width=9.6, height=3.7)
    for axis, (name, (answers, rows)) in zip(axes, panels.items(), strict=True):
        _draw_sums(axis, answers.reshape(10, 10).round(), {divmod(int(row), 10) for row in rows})
        axis.set_title(name)
    axes[0].set_ylabel("first digit")
    return figure


def _draw_sums(axis, answers: torch.Tensor, trained: set[tuple[int, int]]) -> None:
    from matplotlib.patches import Rectangle

    digits = torch.arange(10)
    wrong = (answers - (digits[:, None] + digits)).abs()
    axis.imshow(wrong.numpy(), cmap="Oranges", vmin=0, vmax=14)
    for a in range(10):
        for b in range(10):
            color = "white" if wrong[a, b] > 9 else "black"
            axis.text(b, a, int(answers[a, b]), ha="center", va="center", fontsize=7, color=color)
    for a, b in trained:
        axis.add_patch(Rectangle((b - 0.46, a - 0.46), 0.92, 0.92, fill=False, edgecolor=TRAIN, linewidth=1.4))
    axis.set_xticks(range(10))
    axis.set_yticks(range(10))
    axis.grid(False)
    axis.set_xlabel("second digit")


def plot_gaps(runs: dict[str, list[dict]], *, alt: str) -> CourseFigure:
    """Return training and validation loss over the steps, one panel for each of ``runs``: name -> log entries."""
    figure, axes = new_figure(1, len(runs), alt=alt, width=8, height=3.2)
    for axis, (name, entries) in zip(axes, runs.items(), strict=True):
        steps = [entry["step"] for entry in entries]
        axis.plot(steps, [entry["train"] for entry in entries], color=TRAIN, label="training")
        axis.plot(steps, [entry["validation"] for entry in entries], "--", color=HELD_OUT, label="validation")
        axis.set(title=name, xlabel="step", ylim=(0, 0.2))
    axes[0].set_ylabel("denoising loss")
    axes[0].legend()
    return figure


def show_rows(rows: dict[str, torch.Tensor], *, alt: str, scale: int = 4) -> CourseFigure:
    """Return a figure with one row of pictures [b, 3, h, w] in [-1, 1] for each of ``rows``, its name at the left."""
    strips = [functional.pad(pictures, (1, 1, 1, 1), value=1.0) for pictures in rows.values()]
    strips = [torch.cat(list(strip), dim=2).add(1).div(2).clamp(0, 1).permute(1, 2, 0) for strip in strips]
    height, width = (max(strip.shape[axis] for strip in strips) for axis in (0, 1))
    figure, axes = new_figure(
        len(rows), 1, alt=alt, width=scale * width / 100 + 1.4, height=scale * height * len(rows) / 100 + 0.2
    )
    for axis, name, strip in zip(np.atleast_1d(axes), rows, strips, strict=True):
        axis.imshow(strip.numpy(), interpolation="nearest")
        axis.set_ylabel(name, rotation=0, ha="right", va="center")
        axis.set(xticks=[], yticks=[], anchor="E")
        axis.spines[:].set_visible(False)
        axis.grid(False)
    return figure
