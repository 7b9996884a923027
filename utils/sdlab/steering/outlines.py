"""Outlines: the pictures that tell a ControlNet where things go, and how well a drawing keeps to one."""

import numpy as np
import torch
from PIL import Image

from ..compat import need
from ..errors import SdlabError

SIGMA, LOW, HIGH = 1.0, 0.05, 0.12  # of Canny's detector, on lightness from 0 to 1


def outline(image) -> Image.Image:
    """Return the outlines of a picture, white on black, one pixel wide (Canny 1986, on CIE lightness).

    image: a PIL picture or uint8 array [height, width, 3]. The result is an RGB picture of the same size.
    """
    return _picture(edges_of(np.asarray(image.convert("RGB") if isinstance(image, Image.Image) else image)))


def edges_of(pixels: np.ndarray) -> np.ndarray:
    """Return where the outlines of uint8 pixels [height, width, 3] are, bool [height, width]."""
    color, feature = (need(f"skimage.{part}", of="An outline") for part in ("color", "feature"))
    return feature.canny(color.rgb2lab(pixels)[..., 0] / 100, SIGMA, LOW, HIGH)


def _picture(edges: np.ndarray) -> Image.Image:
    return Image.fromarray(np.repeat(edges[..., None], 3, axis=2).astype(np.uint8) * 255)


def as_hint(hint, *, size: tuple[int, int], device="cpu", dtype=torch.float32) -> torch.Tensor:
    """Return a hint as a ControlNet reads it: float [1, 3, height, width] in [0, 1], white lines on black.

    hint: a PIL picture, or a float tensor [3, height, width] or [1, 3, height, width] in [0, 1].
    size: the (height, width) that the drawing will have; raises SdlabError for a hint of another size.
    """
    if isinstance(hint, Image.Image):
        hint = torch.from_numpy(np.array(hint.convert("RGB"))).permute(2, 0, 1) / 255
    if not isinstance(hint, torch.Tensor) or not hint.is_floating_point():
        raise SdlabError(f"A hint is a picture or a float tensor [3, height, width], but got {type(hint).__name__}.")
    hint = hint[None] if hint.ndim == 3 else hint
    if hint.shape != (1, 3, *size):
        raise SdlabError(
            f"The hint has the shape {list(hint.shape)}, but this model draws {size[1]} x {size[0]} pixels: "
            f"resize the hint to that (the shape is then [1, 3, {size[0]}, {size[1]}])."
        )
    if hint.min() < 0 or hint.max() > 1:
        raise SdlabError(
            f"A hint has values from 0 (paper) to 1 (line), but got {float(hint.min()):.2f} to {float(hint.max()):.2f}."
        )
    return hint.to(device, dtype)


def outline_agreement(image, hint, *, tolerance: int = 1) -> float:
    """Return the F1 score of a picture's outlines against a hint, 0 (nothing agrees) to 1.

    A point counts as right if the other picture has a line within ``tolerance`` pixels of it; precision is the share
    of the picture's points that are right, recall that of the hint's (the measure of Martin, Fowlkes & Malik 2004).
    """
    distance_transform_edt = need("scipy.ndimage", of="The agreement with an outline").distance_transform_edt
    found = edges_of(np.asarray(image.convert("RGB")))
    wanted = np.asarray(hint.convert("L")) > 127
    if found.shape != wanted.shape:
        raise SdlabError(f"The picture has {found.shape} pixels and the hint {wanted.shape}: give two of one size.")
    if not found.any() or not wanted.any():
        return 0.0
    precision = (distance_transform_edt(~wanted)[found] <= tolerance).mean()
    recall = (distance_transform_edt(~found)[wanted] <= tolerance).mean()
    return float(2 * precision * recall / max(precision + recall, 1e-9))
