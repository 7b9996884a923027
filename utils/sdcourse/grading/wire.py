"""Carry plain data between the grader and a learner's process, in a format that can run nothing when it is read.

A message is the length of its header, the header (JSON) and the tensors (safetensors).
"""

import json
import struct

import torch
from PIL import Image
from safetensors.torch import load, save

SIMPLE = (bool, int, float, str)
MAX_BYTES = 64 * 2**20


class BadMessage(ValueError):
    """What came is no message of this format."""


def encode(value) -> bytes:
    """Return plain data (sdcourse.checks.plain) as bytes."""
    tensors: dict[str, torch.Tensor] = {}
    header = json.dumps(_tree(value, tensors)).encode()
    return struct.pack("<Q", len(header)) + header + save(tensors)


def decode(message: bytes):
    """Return the plain data of ``message``; raise BadMessage if it is damaged."""
    try:
        (length,) = struct.unpack_from("<Q", message)
        header = json.loads(message[8 : 8 + length])
        return _value(header, load(message[8 + length :]))
    except Exception as error:
        raise BadMessage(f"not a readable message ({type(error).__name__})") from None


def _tree(value, tensors: dict):
    if value is None:
        return ["none"]
    if value is Ellipsis:
        return ["ellipsis"]
    if isinstance(value, SIMPLE):
        return ["simple", value]
    if isinstance(value, torch.Tensor):
        return ["tensor", _keep(value, tensors)]
    if isinstance(value, Image.Image):
        pixels = torch.frombuffer(bytearray(value.convert("RGB").tobytes()), dtype=torch.uint8)
        return ["picture", value.size, _keep(pixels, tensors)]
    if isinstance(value, list | tuple):
        return ["list" if isinstance(value, list) else "tuple", [_tree(item, tensors) for item in value]]
    if isinstance(value, dict):
        return ["dict", [[_tree(key, tensors), _tree(item, tensors)] for key, item in value.items()]]
    raise TypeError(f"{type(value).__name__} is not plain data")


def _keep(tensor: torch.Tensor, tensors: dict) -> str:
    name = str(len(tensors))
    tensors[name] = tensor.detach().cpu().contiguous().clone()
    return name


def _value(tree, tensors: dict):
    kind, *rest = tree
    if kind in ("none", "ellipsis"):
        return None if kind == "none" else Ellipsis
    if kind == "simple" and isinstance(rest[0], SIMPLE):
        return rest[0]
    if kind == "tensor":
        return tensors[rest[0]]
    if kind == "picture":
        return Image.frombytes("RGB", tuple(rest[0]), tensors[rest[1]].numpy().tobytes())
    if kind in ("list", "tuple"):
        items = [_value(item, tensors) for item in rest[0]]
        return items if kind == "list" else tuple(items)
    if kind == "dict":
        return {_value(key, tensors): _value(item, tensors) for key, item in rest[0]}
    raise BadMessage(f"unknown kind {kind!r}")
