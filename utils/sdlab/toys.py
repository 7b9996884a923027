"""Small point clouds that can be seen whole: what diffusion does to a picture, shown on two numbers at a time."""

import math

import torch

from .errors import SdlabError

INNER, OUTER = 1.5 * math.pi, 4.5 * math.pi  # the angles between which the spiral runs


def swiss_roll(count: int, *, seed: int = 0, width: float = 0.05) -> torch.Tensor:
    """Return ``count`` points [count, 2] spread evenly along a spiral of one and a half turns.

    The spiral has mean 0 and variance 1 (averaged over its two coordinates).
    width: standard deviation of the points around the spiral, in the same units; 0 puts them on it.
    """
    _check(count, width)
    generator = torch.Generator().manual_seed(seed)
    points = _spiral(torch.rand(count, generator=generator))
    return points + width * torch.randn(count, 2, generator=generator)


def clusters(count: int, *, seed: int = 0, width: float = 0.08, places: int = 8) -> torch.Tensor:
    """Return ``count`` points [count, 2] in ``places`` round clusters on a circle of radius 1.4 (variance 1, about).

    width: standard deviation of a cluster.
    """
    _check(count, width)
    generator = torch.Generator().manual_seed(seed)
    angle = torch.randint(places, (count,), generator=generator) * (2 * math.pi / places)
    centre = math.sqrt(2) * torch.stack([angle.cos(), angle.sin()], dim=1)
    return centre + width * torch.randn(count, 2, generator=generator)


def _spiral(place: torch.Tensor) -> torch.Tensor:
    """Return the points [n, 2] at ``place`` in [0, 1] along the spiral, equal steps for equal lengths."""
    grid = _raw_spiral(torch.linspace(0, 1, 2001))
    centre = grid.mean(dim=0)
    return (_raw_spiral(place) - centre) / (grid - centre).square().mean().sqrt()


def _raw_spiral(place: torch.Tensor) -> torch.Tensor:
    angle = (INNER**2 + place * (OUTER**2 - INNER**2)).sqrt()  # the length of r = angle grows with angle squared
    return torch.stack([angle * angle.cos(), angle * angle.sin()], dim=1)


def _check(count: int, width: float) -> None:
    if not isinstance(count, int) or count < 1:
        raise SdlabError(f"count={count!r} must be a whole number of at least 1: it says how many points to draw.")
    if not 0 <= width < math.inf:
        raise SdlabError(f"width={width!r} must be 0 or more: it is the standard deviation around the shape.")
