"""Figures and test cards of lesson 05: what the latents look like, how far they reach, and what they lose."""

import matplotlib
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from .errors import SdlabError
from .plotting import COLORS, CourseFigure, new_figure


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


def channels_figure(latents: torch.Tensor, image, *, alt: str) -> CourseFigure:
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


def reach_figure(maps: dict[str, torch.Tensor], own: dict[str, tuple], *, alt: str) -> CourseFigure:
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


def line_figure(
    x, curves: dict, *, alt: str, xlabel: str, ylabel: str, log: str = "", points: dict | None = None,
    vertical: dict | None = None, width: float = 6.4, height: float = 3.0,
) -> CourseFigure:
    """Return named curves over ``x`` in one panel, with single ``points`` (name -> (x, y)) and ``vertical`` lines.

    log: "x", "y" or "xy" for logarithmic axes.
    """
    figure, axis = new_figure(alt=alt, width=width, height=height)
    for number, (name, values) in enumerate(curves.items()):
        marker = "os^D"[number % 4] if len(x) < 30 else None
        axis.plot(x, values, ("-", "--", "-.")[number % 3], marker=marker, color=COLORS[number], label=name)
    for number, (name, (left, height_)) in enumerate((points or {}).items()):
        axis.plot([left], [height_], "*", markersize=15, color=COLORS[5 - number], label=name)
    for name, place in (vertical or {}).items():
        axis.axvline(place, color="#444444", linestyle=":", label=name)
    if "x" in log:
        axis.set_xscale("log", base=2)
        axis.xaxis.set_major_formatter("{x:g}")
        if len(x) < 30:
            axis.set_xticks(list(x))
    if "y" in log:
        axis.set_yscale("log")
    axis.set(xlabel=xlabel, ylabel=ylabel)
    axis.legend(fontsize=9, frameon=False)
    return figure
