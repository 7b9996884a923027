"""Figures of lesson 07: feature maps along the U, embeddings of timesteps, and sizes."""

from collections import defaultdict

import matplotlib
import numpy as np
import torch

from sdlab.figures import CourseFigure, new_figure
from sdlab.instruments.features import Features
from sdlab.instruments.unet_table import UNetTable

_GREYS = matplotlib.colormaps["gray"].resampled(24)  # few, so that the stored 256 colours do for a picture too


def levels(table: UNetTable) -> dict[str, list[int]]:
    """Return the numbers of the skip connections by the size of their maps, the finest first: {"16 x 16": [9, ...]}."""
    found = defaultdict(list)
    for number, skip in reversed(list(enumerate(table.skips))):
        found[f"{skip.shape[1]} x {skip.shape[2]}"].append(number)
    return dict(found)


def map_names(table: UNetTable) -> tuple[list[str], list[str]]:
    """Return one part a level on the way down and one on the way up, the finest first, each the last of its level."""
    down = ["conv_in", *(table.skips[min(numbers)].source for numbers in levels(table).values()), "mid_block"]
    blocks = [row.name for row in table.blocks if row.name.startswith("up_blocks.")]
    parts = [row.name for row in table.rows if ".upsamplers." not in row.name]
    last = [[name for name in parts if name.startswith(f"{block}.")][-1] for block in blocks]
    return down, ["conv_out", *reversed(last)]


def show_feature_maps(features: Features, table: UNetTable, *, step: int, alt: str, image=None) -> CourseFigure:
    """Return the four strongest channels of one part a level: the way down above, the way up below, finest left.

    step: position among the recorded steps. image: the finished picture, shown in the free corner.
    """
    rows = map_names(table)
    columns = len(rows[0])
    figure, axes = new_figure(2, columns, alt=alt, width=9.6, height=4.1)
    for axis in axes.ravel():
        axis.set_axis_off()
    for names, line in zip(rows, axes, strict=True):
        for name, axis in zip(names, line, strict=False):
            maps = features[name][step, 0]
            axis.imshow(_mosaic(maps, 4, columns=2), cmap=_GREYS, interpolation="nearest", vmin=0, vmax=1)
            axis.set_title(f"{_short(name)}\n{' x '.join(map(str, maps.shape))}", fontsize=8.5)
    if image is not None:
        axes[1, -1].imshow(image)
        axes[1, -1].set_title("the picture\nat the end", fontsize=8.5)
    return figure


def show_channels(features: Features, name: str, *, step: int, alt: str, count: int = 16) -> CourseFigure:
    """Return the ``count`` strongest channels of the part ``name``, the strongest first; step as recorded."""
    maps = features[name][step, 0]
    figure, axis = new_figure(alt=alt, width=8.0, height=2.35)
    axis.set_axis_off()
    axis.imshow(_mosaic(maps, count, columns=8), cmap=_GREYS, interpolation="nearest", vmin=0, vmax=1)
    where = f"U-Net call {features.steps[step] + 1}, t = {features.timesteps[step]}"
    axis.set_title(f"{name}: {' x '.join(map(str, maps.shape))}, {where}", fontsize=10)
    return figure


def _mosaic(maps: torch.Tensor, count: int, *, columns: int) -> np.ndarray:
    """Return the ``count`` channels of [channels, h, w] that vary most, side by side, each stretched to 0..1."""
    maps = maps.float().cpu()
    spread = maps.flatten(1).std(dim=1)
    chosen = maps[spread.argsort(descending=True)[:count]]
    low, high = (chosen.flatten(1).quantile(part, dim=1)[:, None, None] for part in (0.02, 0.98))
    tiles = ((chosen - low) / (high - low).clamp(min=1e-6)).clamp(0, 1).numpy()
    zoom = max(1, 48 // tiles.shape[-1])
    tiles = np.pad(tiles.repeat(zoom, axis=1).repeat(zoom, axis=2), ((0, 0), (2, 2), (2, 2)), constant_values=1)
    lines = [np.concatenate(list(tiles[start : start + columns]), axis=1) for start in range(0, len(tiles), columns)]
    width = lines[0].shape[1]
    return np.concatenate([np.pad(line, ((0, 0), (0, width - line.shape[1])), constant_values=1) for line in lines])


def show_embeddings(sinusoid, embeddings, timesteps, *, alt: str) -> CourseFigure:
    """Return the sinusoids [n, width] as a map over ``timesteps`` [n], and how alike they and the embeddings are.

    The two right-hand panels are cosine similarities between all pairs of timesteps.
    """
    figure, axes = new_figure(1, 3, alt=alt, width=9.6, height=3.3)
    ends = [float(timesteps[0]), float(timesteps[-1])]
    square = {"extent": [*ends, *ends], "origin": "lower", "vmin": -1, "vmax": 1, "interpolation": "nearest"}
    tall = {**square, "extent": [-0.5, sinusoid.shape[1] - 0.5, *ends], "aspect": "auto"}
    axes[0].imshow(sinusoid.float().cpu().numpy(), cmap="PuOr", **tall)
    for axis, vectors in zip(axes[1:], (sinusoid, embeddings), strict=True):
        shown = axis.imshow(similarities(vectors).numpy(), cmap="PuOr", **square)
        axis.set(xlabel="timestep t")
    axes[0].set(xlabel="number in the vector", ylabel="timestep t")
    for axis, title in zip(axes, ("the waves", "waves: how alike", "embeddings: how alike"), strict=True):
        axis.set_title(title, fontsize=10)
        axis.grid(False)
    figure.colorbar(shown, ax=list(axes), shrink=0.9, pad=0.01)
    return figure


def similarities(vectors: torch.Tensor) -> torch.Tensor:
    """Return the cosine similarity [n, n] between all pairs of ``vectors`` [n, width]."""
    unit = torch.nn.functional.normalize(vectors.float().cpu(), dim=1)
    return unit @ unit.T


def show_sizes(images, *, alt: str) -> CourseFigure:
    """Return PIL pictures of different sizes side by side, all at the same scale, on one base line."""
    gap = max(image.width for image in images) // 16
    width, height = sum(image.width + gap for image in images) - gap, max(image.height for image in images)
    figure, axis = new_figure(alt=alt, width=7.6, height=7.6 * height / width + 0.4)
    left = 0
    for image in images:
        axis.imshow(image, extent=[left, left + image.width, 0, image.height], interpolation="lanczos")
        axis.text(left + image.width / 2, -0.02 * height, f"{image.width} x {image.height}", ha="center", va="top")
        left += image.width + gap
    axis.set(xlim=(0, width), ylim=(-0.1 * height, height), aspect="equal")
    axis.set_axis_off()
    figure.kind = "image/jpeg"
    return figure


def _short(name: str) -> str:
    return name.replace("_blocks", "").replace("attentions", "attention").replace("resnets", "resnet")
