"""Reduce answers to plain data, so that no object of the learner's making is ever compared.

Plain data are None, ``...``, booleans, numbers, strings, tensors, arrays (as tensors), pictures, and lists, tuples and
dictionaries of these.
"""

import numbers

import numpy as np
import torch
from PIL import Image


class NotPlain(TypeError):
    """A value is of a class that checks do not look into."""


def plain(value, *, depth: int = 0):
    """Return ``value`` rebuilt from plain data; raise NotPlain for anything else."""
    if depth > 8:
        raise NotPlain("something nested more than 8 deep")
    if value is None or value is Ellipsis or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, torch.Tensor):
        return torch.Tensor.detach(value).as_subclass(torch.Tensor).cpu().clone()
    if isinstance(value, np.ndarray | np.generic):
        return _from_numpy(value)
    if isinstance(value, Image.Image):
        return Image.fromarray(np.asarray(value.convert("RGB")))
    if type(value) in (list, tuple, torch.Size):
        items = [plain(item, depth=depth + 1) for item in value]
        return items if type(value) is list else tuple(items)
    if type(value) is dict:
        return {plain(key, depth=depth + 1): plain(item, depth=depth + 1) for key, item in value.items()}
    raise NotPlain(f"an object of class {type(value).__name__}")


def _from_numpy(value):
    """Return an array as a tensor, a numpy number as a Python number."""
    if value.dtype.kind not in "biuf":
        raise NotPlain(f"an array of {value.dtype}")
    return value.item() if np.ndim(value) == 0 else torch.from_numpy(np.array(value))


def kind_of(value) -> str:
    """Return what a plain value is, in a learner's words: "a tensor", "a number", "a list or tuple of 2"."""
    if isinstance(value, bool):
        return "True or False"
    if isinstance(value, numbers.Number):
        return "a number"
    if isinstance(value, list | tuple):
        return f"a list or tuple of {len(value)}"
    names = {torch.Tensor: "a tensor", str: "a string", dict: "a dictionary", Image.Image: "a picture"}
    return names.get(type(value), "None" if value is None else "..." if value is Ellipsis else type(value).__name__)
