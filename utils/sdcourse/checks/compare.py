"""Compare two plain values, kinds before numbers, and say in one clause how they differ."""

import math

import numpy as np
import torch
from PIL import Image

from .plain import kind_of

RTOL, ATOL = 1e-3, 1e-5


def difference(actual, expected, *, rtol: float = RTOL, atol: float = ATOL) -> str | None:
    """Return how ``actual`` differs from ``expected``, or None if it does not.

    Both are plain data (see plain.py). Whole numbers must be equal; half precision gets ten times the tolerance.
    """
    actual = as_meant(actual, expected)
    if kind_of(actual) != kind_of(expected):
        return f"expected {kind_of(expected)}, got {kind_of(actual)}{_note(actual, expected)}"
    if isinstance(expected, torch.Tensor):
        return _tensor_difference(actual, expected, rtol=rtol, atol=atol)
    if isinstance(expected, list | tuple):
        pairs = enumerate(zip(actual, expected, strict=True))
        return next(
            (f"item {i}: {said}" for i, (a, e) in pairs if (said := difference(a, e, rtol=rtol, atol=atol))), None
        )
    if isinstance(expected, dict):
        return _dict_difference(actual, expected, rtol=rtol, atol=atol)
    if isinstance(expected, Image.Image):
        return _picture_difference(actual, expected)
    if isinstance(expected, int | float) and not isinstance(expected, bool):
        rtol, atol = (0.0, 0.0) if isinstance(expected, int) else (rtol, atol)  # counts are right or wrong
        if isinstance(actual, int) and abs(actual) > 10**300:
            return f"expected {_digits(expected)}, got a number of {math.floor(math.log10(abs(actual))) + 1} digits"
        same = math.isclose(actual, expected, rel_tol=rtol, abs_tol=atol) or actual == expected
        same = same or (math.isnan(actual) and math.isnan(expected))
        return None if same else f"expected {_digits(expected)}, got {_digits(actual)}"
    return None if actual == expected else f"expected {expected!r}, got {actual!r}"


def as_meant(actual, expected):
    """Return an answer as the kind that was asked for, where only its wrapping differs and no value is changed.

    An array or a tensor stands for a list (of lists) of numbers, and Python's number for a float64 tensor of one value.
    """
    if isinstance(actual, torch.Tensor) and isinstance(expected, list | tuple) and _numbers_only(expected):
        return actual.tolist() if actual.dim() else actual
    if type(actual) is float and isinstance(expected, torch.Tensor) and expected.dtype == torch.float64:
        return torch.tensor(actual, dtype=torch.float64) if expected.dim() == 0 else actual
    return actual


def _numbers_only(value) -> bool:
    """Say whether a list holds numbers, or lists of numbers, and nothing else."""
    items = [item for item in value if not (isinstance(item, list | tuple) and _numbers_only(item))]
    return bool(value) and all(type(item) in (bool, int, float) for item in items)


def _note(actual, expected) -> str:
    """Return a remedy for the commonest mix-ups of kinds."""
    if actual is None:
        return " (is a return missing?)"
    if isinstance(expected, torch.Tensor) and isinstance(actual, int | float):
        return " (a tensor of one value is asked for: leave out .item(), float() or numpy)"
    if isinstance(actual, torch.Tensor) and isinstance(expected, int | float):
        return " (.item() turns a tensor of one value into a number)"
    return ""


def _tensor_difference(actual: torch.Tensor, expected: torch.Tensor, *, rtol: float, atol: float) -> str | None:
    if actual.shape != expected.shape:
        return f"expected the shape {list(expected.shape)}, got {list(actual.shape)}"
    if actual.dtype != expected.dtype:
        return f"expected values of {expected.dtype}, got {actual.dtype}"
    if expected.numel() == 0:
        return None
    if expected.dtype in (torch.float16, torch.bfloat16):
        rtol, atol = max(rtol, 1e-2), max(atol, 1e-3)
    if not expected.dtype.is_floating_point:
        rtol, atol = 0.0, 0.0
    actual, expected = actual.double(), expected.double()
    if not actual.isfinite().all() and expected.isfinite().all():
        return "some values are not finite (nan or inf)"
    wrong = ~torch.isclose(actual, expected, rtol=rtol, atol=atol, equal_nan=True)
    if not wrong.any():
        return None
    return _worst(actual, expected, wrong)


def _worst(actual: torch.Tensor, expected: torch.Tensor, wrong: torch.Tensor) -> str:
    """Name the value that is farthest off."""
    if expected.dim() == 0:
        return f"expected {_digits(expected.item())}, got {_digits(actual.item())}"
    distance = torch.where(wrong, (actual - expected).abs().nan_to_num(torch.inf), -1)
    place = np.unravel_index(distance.argmax().item(), expected.shape)
    where = ", ".join(str(int(i)) for i in place)
    return (
        f"{int(wrong.sum())} of {expected.numel()} values differ, most of all at [{where}]: "
        f"expected {_digits(expected[place].item())}, got {_digits(actual[place].item())}"
    )


def _digits(value: float) -> str:
    """Return a number with five digits; a whole one in full, for counts differ in their last digits."""
    whole = math.isfinite(value) and value == int(value) and abs(value) < 1e15
    return str(int(value)) if whole else f"{value:.5g}"


def _dict_difference(actual: dict, expected: dict, *, rtol: float, atol: float) -> str | None:
    missing, extra = sorted(set(expected) - set(actual), key=str), sorted(set(actual) - set(expected), key=str)
    if missing or extra:
        parts = [f"the key {missing[0]!r} is missing"] if missing else []
        parts += [f"the key {extra[0]!r} is not expected"] if extra else []
        return " and ".join(parts)
    for key, value in expected.items():
        if said := difference(actual[key], value, rtol=rtol, atol=atol):
            return f"{key!r}: {said}"
    return None


def _picture_difference(actual: Image.Image, expected: Image.Image) -> str | None:
    if actual.size != expected.size:
        return f"expected a picture of {expected.size} pixels, got {actual.size}"
    distance = np.abs(np.asarray(actual, dtype=float) - np.asarray(expected, dtype=float)).max()
    return None if distance <= 2 else f"the pictures differ by up to {distance:.0f} of 255"
