"""Small networks that learn a wave or the sums of digits, the curves of their training, and pictures of both."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import nn

from .errors import SdlabError
from .plotting import COLORS, CourseFigure, new_figure

NOISE = 0.3  # standard deviation of the points around the wave
BATCH_SIZE = 16
TRAIN, HELD_OUT = COLORS[0], COLORS[5]
Points = tuple[torch.Tensor, torch.Tensor]  # inputs [n, ...] and targets [n, 1]


def wave(inputs: torch.Tensor) -> torch.Tensor:
    """Return the hidden rule, sin(4 x): what the networks are to find from noisy points alone."""
    return torch.sin(4 * inputs)


def noisy_points(count: int, *, seed: int = 0, noise: float = NOISE) -> Points:
    """Return ``count`` points: inputs [count, 1] in [-1, 1], targets [count, 1] on the wave plus ``noise``."""
    if not isinstance(count, int) or count < 1:
        raise SdlabError(f"count={count!r} must be a whole number of at least 1: it says how many points to draw.")
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.rand(count, 1, generator=generator) * 2 - 1
    return inputs, wave(inputs) + noise * torch.randn(count, 1, generator=generator)


def take(points: Points, rows) -> Points:
    """Return only the ``rows`` (indices or a slice) of ``points``."""
    inputs, targets = points
    return inputs[rows], targets[rows]


def make_network(width: int, *, inputs: int = 1, layers: int = 2, seed: int = 0) -> nn.Sequential:
    """Return a network from ``inputs`` numbers over ``layers`` hidden layers of ``width`` units to one number."""
    if not isinstance(width, int) or width < 1:
        raise SdlabError(f"width={width!r} must be a whole number of at least 1: the units of a hidden layer.")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        parts, before = [], inputs
        for _ in range(layers):
            parts += [nn.Linear(before, width), nn.Tanh()]
            before = width
        return nn.Sequential(*parts, nn.Linear(before, 1))


@torch.no_grad()
def error(network: nn.Module, points: Points) -> float:
    """Return the mean squared error of the network on ``points``."""
    inputs, targets = points
    return (network(inputs) - targets).square().mean().item()


def training_steps(
    network: nn.Module, training: Points, *, learning_rate: float = 0.02, steps: int = 1000, seed: int = 0
) -> Iterator[int]:
    """Train ``network`` and yield the number of every step, from 1, when it is done.

    Adam on mini-batches of 16; each epoch takes the training points in a new order, which ``seed`` decides.
    """
    inputs, targets = training
    optimizer = torch.optim.Adam(network.parameters(), lr=learning_rate)
    generator, batches = torch.Generator().manual_seed(seed), []
    for step in range(1, steps + 1):
        if not batches:
            batches = list(torch.randperm(len(inputs), generator=generator).split(BATCH_SIZE))
        rows = batches.pop(0)
        loss = (network(inputs[rows]) - targets[rows]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        yield step


@dataclass
class Curves:
    """One training: the network as it ended, its points, and its errors and answers on the way."""

    network: nn.Module
    points: Points
    steps: list[int] = field(default_factory=list)
    training: list[float] = field(default_factory=list)
    validation: list[float] = field(default_factory=list)
    answers: list[torch.Tensor] = field(default_factory=list)  # [101]: over the grid, at every recorded step


def fit(network: nn.Module, training: Points, validation: Points, *, every: int = 5, **settings) -> Curves:
    """Train ``network`` and record its errors on both sets at step 0 and after every ``every`` steps.

    settings: learning_rate, steps, seed of ``training_steps``.
    """
    curves = Curves(network, training)
    _record(curves, 0, validation)
    for step in training_steps(network, training, **settings):
        if step % every == 0:
            _record(curves, step, validation)
    return curves


def _record(curves: Curves, step: int, validation: Points) -> None:
    curves.steps.append(step)
    curves.training.append(error(curves.network, curves.points))
    curves.validation.append(error(curves.network, validation))
    if curves.points[0].shape[1] == 1:
        with torch.no_grad():
            curves.answers.append(curves.network(GRID)[:, 0])


GRID = torch.linspace(-1, 1, 101)[:, None]


def all_sums() -> tuple[torch.Tensor, Points]:
    """Return the 100 pairs of digits [100, 2] and, as points, their one-hot form [100, 20] and sums [100, 1].

    Pair number 10 * a + b is (a, b). One-hot: a digit is ten numbers, nine of them 0 and one 1.
    """
    pairs = torch.cartesian_prod(torch.arange(10), torch.arange(10))
    one_hot = nn.functional.one_hot(pairs, 10).flatten(1).float()
    return pairs, (one_hot, pairs.sum(dim=1, keepdim=True).float())


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
