"""Lesson 05, measured: what the way into the latent space and back costs, and how far a cell reaches."""

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from sdlab import SdlabError


def to_tiles(images: torch.Tensor, side: int = 8) -> torch.Tensor:
    """Cut pictures [N, C, H, W] into tiles of ``side`` x ``side``, each a row [N, H/side * W/side, C * side * side]."""
    if images.ndim != 4 or images.shape[2] % side or images.shape[3] % side:
        raise SdlabError(f"Pictures [N, C, H, W] with sides divisible by {side} are cut, not {list(images.shape)}.")
    return torch.nn.functional.unfold(images, side, stride=side).transpose(1, 2)


def from_tiles(tiles: torch.Tensor, height: int, width: int, side: int = 8) -> torch.Tensor:
    """Put the rows of ``to_tiles`` together again: pictures [N, C, height, width]."""
    return torch.nn.functional.fold(tiles.transpose(1, 2), (height, width), side, stride=side)



def double_exposure(middle: torch.Tensor, first: torch.Tensor, last: torch.Tensor) -> float:
    """Return the share (0..1) of the variance of picture ``middle`` that a mixture of the two others explains.

    1: it is nothing but the two pictures over each other. Least squares with a constant, over all pixels.
    """
    columns = torch.stack([first.flatten(), last.flatten(), torch.ones(first.numel())], dim=1).double()
    target = middle.flatten()[:, None].double()
    rest = target - columns @ torch.linalg.lstsq(columns, target).solution
    return 1 - (rest.var() / target.var()).item()


def cells_for(change: torch.Tensor, share: float) -> int:
    """Return how many cells of a map of squared changes are needed for ``share`` of their sum, largest first."""
    ordered = change.flatten().double().sort(descending=True).values
    return int((ordered.cumsum(0) < share * ordered.sum()).sum()) + 1


def text_card(size: int = 128, word: str = "latent") -> np.ndarray:
    """Return a white picture uint8 [size, size, 3] with ``word`` in five sizes, the smallest 7 % of its height."""
    card = Image.new("RGB", (size, size), "white")
    draw = ImageDraw.Draw(card)
    for part, top in ((0.07, 0.03), (0.1, 0.14), (0.13, 0.29), (0.19, 0.46), (0.27, 0.68)):
        draw.text((0.03 * size, top * size), word, fill="black", font=ImageFont.load_default(round(part * size)))
    return np.asarray(card)


def stripe_card(width: int, size: int = 128) -> np.ndarray:
    """Return a picture uint8 [size, size, 3] of upright black and white stripes, each ``width`` pixels wide."""
    if not 1 <= width <= size:
        raise SdlabError(f"width={width!r} must lie between 1 and {size}, the width of the picture.")
    row = (np.arange(size) // width % 2 * 255).astype(np.uint8)
    return np.broadcast_to(row[None, :, None], (size, size, 3)).copy()


def swatches(colors, *, width: int = 48) -> np.ndarray:
    """Return the colours [n, 3] (uint8) as one picture of squares side by side."""
    return np.repeat(np.repeat(np.asarray(colors, dtype=np.uint8)[None], width, axis=0), width, axis=1)
