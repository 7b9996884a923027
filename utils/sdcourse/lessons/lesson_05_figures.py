"""Figures of lesson 05: what the latents look like, how far they reach, and what they lose."""

import matplotlib
import numpy as np
import torch

from sdlab.figures import COLORS, CourseFigure, new_figure


def plot_channels(latents: torch.Tensor, image, *, alt: str) -> CourseFigure:
    """Return a picture beside the maps of its latents [1, C, h, w], one for each channel, on one scale of colours."""
    channels = latents[0].float().cpu().numpy()
    colors = matplotlib.colormaps["PuOr"].resampled(21)  # few, so that the stored 256 colours do for the picture too
    limit = float(np.quantile(np.abs(channels), 0.98))
    figure, axes = new_figure(1, 1 + len(channels), alt=alt, width=9.4, height=2.2)
    axes[0].imshow(image)
    axes[0].set_title("picture", fontsize=10)
    for number, axis in enumerate(axes[1:]):
        shown = axis.imshow(channels[number], cmap=colors, vmin=-limit, vmax=limit)
        axis.set_title(f"channel {number}", fontsize=10)
    for axis in axes:
        axis.set(xticks=(), yticks=())
        axis.grid(False)
    figure.colorbar(shown, ax=list(axes), shrink=0.85, pad=0.01)
    return figure


def plot_reach(maps: dict[str, torch.Tensor], own: dict[str, tuple], *, alt: str) -> CourseFigure:
    """Return maps of changes [h, w], relative to the largest, on a logarithmic scale.

    own: title -> (left, top, side) of the square that one would expect to change, in cells of that map.
    """
    from matplotlib.colors import LogNorm
    from matplotlib.patches import Rectangle

    figure, axes = new_figure(1, len(maps), alt=alt, width=4.2 * len(maps), height=3.6)
    for axis, (title, change) in zip(np.atleast_1d(axes), maps.items(), strict=True):
        relative = (change / change.max()).clamp(min=1e-4).cpu().numpy()
        shown = axis.imshow(relative, norm=LogNorm(1e-4, 1), cmap="viridis")
        left, top, side = own[title]
        axis.add_patch(
            Rectangle((left - 0.5, top - 0.5), side, side, fill=False, edgecolor=COLORS[5], linewidth=2)
        )
        axis.set(title=title, xlabel="cells" if side == 1 else "pixels")
        axis.locator_params(integer=True)
        axis.grid(False)
    figure.colorbar(shown, ax=list(np.atleast_1d(axes)), shrink=0.9, label="change, relative to the largest")
    return figure
