"""The judge: a small network, trained on fresh renders alone, that reads the eight attributes from a picture.

It shares nothing with the model it judges: other seeds, other architecture, no text.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn import functional

from sdlab import SdlabError
from sdlab.weights import MODELS_FOLDER, verify_weights

from ..portraits import NAMES, VALUES

JUDGE_FOLDER = MODELS_FOLDER / "judge"
JUDGE_SIZE = 128


@dataclass(frozen=True)
class Reading:
    """What the judge sees in one picture.

    ``values`` and ``confidence`` (0..1) by attribute; ``is_portrait``: probability that it is one of ours.
    """

    values: dict[str, str]
    confidence: dict[str, float]
    is_portrait: float


class Judge(nn.Module):
    """Five convolutions to 16x16 features, then one attention pool and one linear head per attribute."""

    def __init__(self, widths=(24, 48, 96, 128), groups=8):
        super().__init__()
        self.config = {"widths": list(widths), "groups": groups}
        sizes = [3, *widths]
        strides = [2, 2, 2] + [1] * (len(widths) - 3)
        layers = zip(sizes[:-1], sizes[1:], strides, strict=True)
        self.layers = nn.ModuleList(_layer(before, after, stride, groups) for before, after, stride in layers)
        self.mixer = _layer(widths[-1], widths[-1], 1, groups)
        self.attention = nn.Conv2d(widths[-1], len(NAMES), 1)
        self.heads = nn.ModuleList(nn.Linear(2 * widths[-1], len(VALUES[name])) for name in NAMES)
        self.portrait_head = nn.Linear(2 * widths[-1], 1)

    def feature_maps(self, images):
        """Return the feature maps of all layers for images [B, 3, H, W] in [-1, 1], finest first."""
        maps = []
        for layer in self.layers:
            images = layer(images)
            maps.append(images)
        return maps

    def forward(self, images):
        """Return (8 logits [B, number of values], portrait logit [B]) of images [B, 3, H, W] in [-1, 1]."""
        features = self.feature_maps(images)[-1]
        features = features + self.mixer(features)
        where = self.attention(features).flatten(2).softmax(dim=-1)
        flat = features.flatten(2)
        pooled = torch.einsum("bap,bcp->abc", where, flat)
        whole = torch.cat([flat.amax(dim=-1), flat.mean(dim=-1)], dim=-1)
        peak = flat.amax(dim=-1)
        logits = [
            head(torch.cat([pool, peak], dim=-1)) for head, pool in zip(self.heads, pooled, strict=True)
        ]
        return logits, self.portrait_head(whole)[:, 0]


def _layer(before, after, stride, groups):
    convolution = nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False)
    return nn.Sequential(convolution, nn.GroupNorm(groups, after), nn.SiLU())


def load_judge(folder=JUDGE_FOLDER):
    """Load the judge in `folder` (config.json, judge.safetensors), in float32, after comparing its hash."""
    from safetensors.torch import load_file

    folder = Path(folder)
    if not folder.exists():
        raise SdlabError(
            f"There is no judge in {folder}; train one with 'sdlab train judge' and 'sdlab train export'."
        )
    verify_weights(folder)
    judge = Judge(**json.loads((folder / "config.json").read_text())["judge"])
    judge.load_state_dict(
        {name: weight.float() for name, weight in load_file(folder / "judge.safetensors").items()}
    )
    return judge.eval().requires_grad_(False)


def judge_images(images, judge=None, *, batch_size=64):
    """Read every attribute from pictures and return one Reading each.

    images: PIL images, uint8 arrays [H, W, 3] or float tensors [3, H, W] in [0, 1], in a list or stacked;
    square pictures of another size are resized to 128 px first. judge: load_judge() unless given.
    """
    judge = load_judge() if judge is None else judge
    device = next(judge.parameters()).device
    batch = torch.stack([to_tensor(image) for image in images]) if len(images) else torch.empty(0, 3, 1, 1)
    readings = []
    with torch.inference_mode():
        for part in batch.split(batch_size):
            logits, portrait = judge(part.to(device) * 2 - 1)
            readings += _readings(
                [logit.float().softmax(-1).cpu() for logit in logits], portrait.float().sigmoid().cpu()
            )
    return readings


def to_tensor(image):
    """Turn one picture into a float tensor [3, 128, 128] in [0, 1]; says what is wrong with anything else."""
    if isinstance(image, Image.Image):
        image = np.array(image.convert("RGB"))
    if isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3:
        image = torch.from_numpy(image.copy()).permute(2, 0, 1) / 255.0
    is_float = isinstance(image, torch.Tensor) and image.is_floating_point()
    if not is_float or image.ndim != 3 or image.shape[0] != 3:
        found = f"{type(image).__name__} {getattr(image, 'dtype', '')} {tuple(getattr(image, 'shape', ()))}"
        raise SdlabError(
            f"The judge reads PIL images, uint8 [H, W, 3] or float [3, H, W] in [0, 1], but got {found}."
        )
    _check_values(image)
    size = (JUDGE_SIZE, JUDGE_SIZE)
    if tuple(image.shape[1:]) == size:
        return image.float()
    options = {"size": size, "mode": "bilinear", "antialias": True, "align_corners": False}
    return functional.interpolate(image.float()[None], **options)[0].clamp(0, 1)


def _check_values(image):
    if image.shape[1] != image.shape[2]:
        raise SdlabError(
            f"The judge reads square pictures, but got {image.shape[2]} x {image.shape[1]} pixels; crop it."
        )
    if image.amin() < 0 or image.amax() > 1:
        raise SdlabError(
            f"The judge wants values in [0, 1], but got {float(image.amin()):.2f}..{float(image.amax()):.2f}."
        )


def _readings(probabilities, portrait):
    best = [probability.max(dim=-1) for probability in probabilities]
    readings = []
    for index, is_portrait in enumerate(portrait.tolist()):
        values = {
            name: VALUES[name][int(found.indices[index])] for name, found in zip(NAMES, best, strict=True)
        }
        confidence = {name: float(found.values[index]) for name, found in zip(NAMES, best, strict=True)}
        readings.append(Reading(values=values, confidence=confidence, is_portrait=is_portrait))
    return readings


def agreement(readings, wanted):
    """Return {attribute: (right, count)} of readings against dicts of the values that were wanted."""
    counts = {name: [0, 0] for name in NAMES}
    for reading, values in zip(readings, wanted, strict=True):
        for name, value in values.items():
            counts[name][0] += reading.values[name] == value
            counts[name][1] += 1
    return {name: tuple(count) for name, count in counts.items()}
