"""Small networks of lesson 02 that learn a wave or the sums of digits, and the curves of their training."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import nn

from sdlab import SdlabError

NOISE = 0.3  # standard deviation of the points around the wave
BATCH_SIZE = 16
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
