"""How sure one can be of a share or a mean: 95 % intervals, by Wilson and by the standard error."""

import math

import numpy as np
import torch

from sdlab import SdlabError


def with_interval(measure, groups: list) -> tuple[float, float, float]:
    """Return a share measure(groups) with its 95 % interval by the jackknife: each item of each group left out in turn.

    groups: lists of three or more items. Efron & Stein 1981, "The Jackknife Estimate of Variance".
    """
    if min(map(len, groups)) < 3:
        raise SdlabError(f"A group has {min(map(len, groups))} items: to leave one out, give three or more.")
    value, left_out = measure(groups), []
    for place, group in enumerate(groups):
        for item in range(len(group)):
            rest = [*group[:item], *group[item + 1 :]]
            left_out.append(measure([*groups[:place], rest, *groups[place + 1 :]]))
    spread = torch.tensor(left_out, dtype=torch.float64)
    error = ((len(spread) - 1) * (spread - spread.mean()).square().mean()).sqrt().item()
    return value, max(0.0, value - 1.96 * error), min(1.0, value + 1.96 * error)


def share(right: int, n: int) -> dict:
    """Return ``{"share", "n", "interval"}`` with the 95 % Wilson score interval (Wilson 1927).

    >>> share(98, 100)["interval"]
    [0.93, 0.9945]
    """
    if n == 0:
        return {"share": None, "n": 0, "interval": None}
    value, z = right / n, 1.96
    middle = (value + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(value * (1 - value) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return {
        "share": round(value, 4),
        "n": n,
        "interval": [round(max(0.0, middle - half), 4), round(min(1.0, middle + half), 4)],
    }


def mean_interval(values) -> tuple[float, float, float]:
    """Return (mean, lower end, upper end) of values with the 95 % interval of their mean: 1.96 standard errors."""
    values = np.asarray(values, dtype=float)
    mean, half = values.mean(), 1.96 * values.std(ddof=1) / len(values) ** 0.5
    return float(mean), float(mean - half), float(mean + half)
