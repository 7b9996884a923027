"""Reduce answers to plain data, so that no object of the learner's making is ever compared.

Plain data are None, ``...``, booleans, numbers, strings, tensors, arrays (as tensors), pictures, and lists, tuples and
dictionaries of these. Python's own kinds of dictionary and tuple (OrderedDict, Counter, namedtuple) stand for what they
are.
"""

import numbers
from collections import ChainMap, Counter, OrderedDict, UserDict, UserList, defaultdict, deque
from fractions import Fraction
from types import MappingProxyType

import numpy as np
import torch
from PIL import Image

LISTS = (list, tuple, torch.Size, deque, range, UserList, type({}.keys()), type({}.values()))
DICTIONARIES = (dict, OrderedDict, defaultdict, Counter, ChainMap, UserDict, MappingProxyType)


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
    if type(value) in LISTS or _is_namedtuple(value):
        items = [plain(item, depth=depth + 1) for item in value]
        return items if type(value) in (list, deque, UserList) else tuple(items)
    if type(value) is Fraction:
        return float(value)
    if type(value) in DICTIONARIES:
        return {plain(key, depth=depth + 1): plain(item, depth=depth + 1) for key, item in value.items()}
    raise NotPlain(f"an object of class {type(value).__name__}")


def _is_namedtuple(value) -> bool:
    """Say whether a value is of a class that ``namedtuple`` or ``NamedTuple`` has made, and nothing was added to."""
    kind = type(value)
    fields = getattr(kind, "_fields", None)
    return kind.__bases__ == (tuple,) and isinstance(fields, tuple) and kind.__iter__ is tuple.__iter__


def _from_numpy(value):
    """Return an array as a tensor, a numpy number as a Python number."""
    if value.dtype.kind not in "biuf":
        raise NotPlain(f"an array of {value.dtype}")
    if value.dtype.kind == "u" and value.dtype.itemsize > 1:
        value = value.astype(np.int64)  # torch has few functions for other unsigned numbers
    if np.ndim(value) == 0:
        return value.item()
    return torch.from_numpy(np.array(value, dtype=value.dtype.newbyteorder("=")))


def numbers_in(value) -> list | None:
    """Return the numbers of a list, a tuple, or an array or tensor of one dimension; None for anything else."""
    if isinstance(value, torch.Tensor) and value.dim() == 1 and not value.is_complex() and value.dtype != torch.bool:
        return value.tolist()
    if isinstance(value, list | tuple):
        singles = [item.item() if isinstance(item, torch.Tensor) and item.numel() == 1 else item for item in value]
        return singles if all(type(item) in (int, float) for item in singles) else None
    return None


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
