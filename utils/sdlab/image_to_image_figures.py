"""Figures and measures of lesson 10: the strip with its start step, what is kept and what arrives, seam and reach."""

import numpy as np
import torch

from .errors import SdlabError
from .image_to_image import start_step
from .measures import rate, thumbnails
from .plotting import COLORS, CourseFigure, new_figure, to_pictures

LINES = ("-", "--", "-.", ":")


def strength_strip(pictures, strengths: list[float], *, num_inference_steps: int, alt: str) -> CourseFigure:
    """Return the pictures in a row, under each its strength and its steps: pale those left out, dark those run."""
    pictures = to_pictures(pictures)
    if len(pictures) != len(strengths):
        raise SdlabError(f"There are {len(pictures)} pictures but {len(strengths)} strengths: give one for each.")
    figure, axes = new_figure(2, len(pictures), alt=alt, width=1.12 * len(pictures), height=1.7)
    figure.kind, figure.quality = "image/jpeg", 76
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0, hspace=0)
    axes = np.asarray(axes).reshape(2, len(pictures))
    axes[0, 0].get_gridspec().set_height_ratios((1, 0.16))
    for column, (picture, strength) in enumerate(zip(pictures, strengths, strict=True)):
        skipped = start_step(num_inference_steps, strength)
        axes[0, column].imshow(picture)
        axes[0, column].set_title(f"strength {strength:g}", fontsize=9, pad=2)
        colors = ["#d9d9d9"] * skipped + [COLORS[0]] * (num_inference_steps - skipped)
        axes[1, column].bar(range(num_inference_steps), 1, 0.75, color=colors)
        if skipped < num_inference_steps:
            axes[1, column].plot([skipped - 0.5] * 2, [-0.25, 1.25], color=COLORS[5], linewidth=2)
        axes[1, column].set(xlim=(-1, num_inference_steps), ylim=(-0.3, 1.3))
        said = f"{num_inference_steps - skipped} of {num_inference_steps} steps"
        axes[1, column].set_xlabel(said, fontsize=8, labelpad=1)
    for axis in axes.flat:
        axis.set(xticks=(), yticks=())
        axis.grid(False)
        axis.spines[:].set_visible(False)
    return figure


def rate_figure(
    x, panels: dict[str, dict[str, list[dict]]], *, alt: str, xlabel: str, levels: dict | None = None,
    width: float = 8.6, height: float = 3.1,
) -> CourseFigure:
    """Return one panel of shares a title, each curve a list of ``measures.rate`` with its interval as a bar.

    levels: title -> {name: share} of dotted lines. Curves are moved a little apart so that bars do not hide each other.
    """
    figure, axes = new_figure(1, len(panels), alt=alt, width=width, height=height)
    for axis, (title, curves) in zip(np.atleast_1d(axes), panels.items(), strict=True):
        for number, (name, rates) in enumerate(curves.items()):
            share = np.array([item["accuracy"] for item in rates])
            bounds = np.array([item["interval"] for item in rates]).T
            apart = np.asarray(x) + 0.012 * (number - (len(curves) - 1) / 2)
            bars = np.clip([share - bounds[0], bounds[1] - share], 0, None)
            axis.errorbar(
                apart, share, bars, color=COLORS[number], linestyle=LINES[number % 4], marker="os^D"[number % 4],
                markersize=5, elinewidth=1, capsize=2, label=name,
            )
        for name, level in (levels or {}).get(title, {}).items():
            axis.axhline(level, color="#444444", linestyle=(0, (1, 1.5)), linewidth=1.5, label=name)
        axis.set(title=title, xlabel=xlabel, ylim=(-0.04, 1.04))
        axis.legend(fontsize=8.5, frameon=False)
    return figure


def shares(readings, wanted: list[dict], names) -> dict:
    """Return the ``measures.rate`` at which readings show the wanted value, over all pictures and all ``names``."""
    marks = [
        reading.values[name] == values[name]
        for reading, values in zip(readings, wanted, strict=True)
        for name in names
    ]
    return rate(sum(marks), len(marks))


def thumbnail_distance(pictures, others) -> torch.Tensor:
    """Return the root mean square [n] between pictures and others, as thumbnails of 32 x 32 pixels in [0, 1]."""
    first, second = (thumbnails([np.asarray(item) for item in to_pictures(part)]) for part in (pictures, others))
    return (first - second).norm(dim=1)


def brightness(pictures) -> np.ndarray:
    """Return the mean [n] of all pixels of each picture: 0 black, 1 white."""
    return np.array([np.asarray(picture).mean() / 255 for picture in to_pictures(pictures)])


def pixels_of(cells: torch.Tensor, factor: int = 8) -> np.ndarray:
    """Return the masks bool [n, H, W] of the pixels under the cells [n, 1, h, w] of latents."""
    large = cells.repeat_interleave(factor, dim=2).repeat_interleave(factor, dim=3)
    return large[:, 0].cpu().numpy() > 0.5


def seam(picture, mask: np.ndarray) -> float:
    """Return the mean jump (0..1) from pixel to pixel across the border of ``mask``, bool [H, W]."""
    pixels = np.asarray(to_pictures(picture)[0]) / 255
    across = np.abs(np.diff(pixels, axis=1)).mean(axis=-1)[mask[:, 1:] != mask[:, :-1]]
    down = np.abs(np.diff(pixels, axis=0)).mean(axis=-1)[mask[1:] != mask[:-1]]
    return float(np.concatenate([across, down]).mean())


def steps_outside(masks: np.ndarray) -> np.ndarray:
    """Return for every pixel how far it lies outside its mask [n, H, W]: 0 inside, then 1, 2, ... (also diagonally)."""
    reached = torch.from_numpy(np.asarray(masks)).float()[:, None]
    far = np.full(reached[:, 0].shape, -1)
    for distance in range(max(far.shape[1:])):
        far[(far < 0) & (reached[:, 0].numpy() > 0)] = distance
        reached = torch.nn.functional.max_pool2d(reached, 3, stride=1, padding=1)
    return far


def change_by_distance(pictures, others, masks: np.ndarray, distances: list[int]) -> list[float]:
    """Return the mean absolute difference of pictures and others at each of ``distances`` (pixels) from the mask."""
    far = steps_outside(masks)
    change = np.stack([
        np.abs(np.asarray(one, dtype=float) - np.asarray(other, dtype=float)).mean(axis=-1) / 255
        for one, other in zip(to_pictures(pictures), to_pictures(others), strict=True)
    ])
    return [float(change[far == distance].mean()) for distance in distances]


def framed_mask(picture, mask: np.ndarray):
    """Return the picture with everything outside ``mask`` (bool [H, W]) paled: what will be redrawn stands out."""
    from PIL import Image

    original = to_pictures(picture)[0]
    pale = Image.blend(original, Image.new("RGB", original.size, "white"), 0.75)
    return Image.composite(original, pale, Image.fromarray(mask))
