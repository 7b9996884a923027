"""Figures of lesson 10: which steps a strength runs, and a picture with its mask."""

import numpy as np

from sdlab import SdlabError
from sdlab.figures import COLORS, CourseFigure, new_figure
from sdlab.image_to_image import start_step
from sdlab.images import to_pictures


def plot_strength(pictures, strengths: list[float], *, num_inference_steps: int, alt: str) -> CourseFigure:
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


def framed_mask(picture, mask: np.ndarray):
    """Return the picture with everything outside ``mask`` (bool [H, W]) paled: what will be redrawn stands out."""
    from PIL import Image

    original = to_pictures(picture)[0]
    pale = Image.blend(original, Image.new("RGB", original.size, "white"), 0.75)
    return Image.composite(original, pale, Image.fromarray(mask))
