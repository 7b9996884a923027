"""Show attention: a heat map over its picture, many in a row, the share of each token, and the words' own attention."""

import numpy as np
from PIL import Image

from ..errors import SdlabError
from .pictures import show_images
from .style import COLORS, CourseFigure, new_figure

HEAT = "inferno"  # its lightness rises with the value, so it can be read without colour vision, and in grey


def overlay(image: Image.Image, heat_map, *, low: float | None = None, high: float | None = None) -> Image.Image:
    """Return ``image`` in grey with ``heat_map`` [height, width] over it in colour: the hotter, the less grey.

    low, high: the values that are cold and hot; by default the map's least and greatest. Give the same to compare maps.
    Raises SdlabError if the map is no 2-d map of finite numbers.
    """
    from matplotlib import colormaps

    heat = _to_array(heat_map)
    low, high = heat.min() if low is None else low, heat.max() if high is None else high
    heat = Image.fromarray(((heat - low) / max(float(high - low), 1e-12)).clip(0, 1).astype(np.float32))
    heat = np.asarray(heat.resize(image.size, Image.Resampling.BILINEAR)).clip(0, 1)
    grey = np.asarray(image.convert("L"), dtype=np.float32)[..., None] / 255
    share = 0.2 + 0.65 * heat[..., None]
    mixed = (1 - share) * grey + share * colormaps[HEAT](heat)[..., :3]
    return Image.fromarray((mixed * 255).round().astype(np.uint8))


def show_heat_maps(
    image: Image.Image, heat_maps: dict, *, same_scale: bool = False, columns: int | None = None, alt: str | None = None
) -> CourseFigure:
    """Return a figure with the picture and, beside it, each heat map laid over it: {title: map [height, width]}.

    heat_maps: for example ``maps.heat_maps(["blue", "eyes"])``. same_scale: one scale for all, to compare strengths;
        by default each map runs from its own least to its greatest value, to compare places.
    """
    if not heat_maps:
        raise SdlabError("There is no heat map to show: heat_maps is empty.")
    arrays = {str(title): _to_array(heat_map) for title, heat_map in heat_maps.items()}
    ends = {}
    if same_scale:
        ends = {"low": min(array.min() for array in arrays.values()), "high": max(a.max() for a in arrays.values())}
    pictures = [image, *(overlay(image, array, **ends) for array in arrays.values())]
    peaks = [f"'{title}' is hottest {_where(array)}" for title, array in arrays.items()]
    described = f"A picture, and the same picture with heat maps over it: {'; '.join(peaks)}."
    return show_images(pictures, ["picture", *arrays], columns=columns, alt=alt or described)


def show_map_grid(heat_maps: list[list], rows: list[str], columns: list[str], *, alt: str, size: int = 96):
    """Return a figure of maps in rows and columns with their names, such as layers by steps; each on its own scale.

    heat_maps: [rows][columns] of maps [height, width]. size: screen pixels of a map. alt: what is to be seen.
    """
    inch = size / 100
    beside, above = 0.15 + 0.07 * max(map(len, rows), default=0), 0.1 + 0.16 * (1 + max(c.count("\n") for c in columns))
    figure, axes = new_figure(
        len(rows), len(columns), alt=alt, width=beside + inch * len(columns), height=above + inch * len(rows)
    )
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0, hspace=0)
    for line, (name, axis_row) in enumerate(zip(rows, np.asarray(axes).reshape(len(rows), -1), strict=True)):
        for column, axis in enumerate(axis_row):
            axis.imshow(_to_array(heat_maps[line][column]), cmap=HEAT, interpolation="nearest")
            axis.set(xticks=[], yticks=[])
            axis.grid(False)
            axis.set_title(columns[column] if line == 0 else "", fontsize=8)
        axis_row[0].set_ylabel(name, fontsize=8, rotation=0, ha="right", va="center")
    return figure


def short_names(layers: list[str]) -> list[str]:
    """Return the layers' names on two short lines: block and number.

    >>> short_names(["up_blocks.3.attentions.1.transformer_blocks.0.attn2"])
    ['up 3\\n.1']
    """
    parts = [name.split(".transformer_blocks")[0].split(".attentions.") for name in layers]
    return [block.replace("_blocks.", " ").removesuffix("_block") + f"\n.{number}" for block, number in parts]


def show_token_mass(tokens: list[str], mass, *, alt: str | None = None) -> CourseFigure:
    """Return bars with the share of attention of each token; all tokens behind the first end token are one bar.

    tokens: ``maps.tokens()``; mass: ``maps.token_mass()``, as many numbers.
    """
    mass = np.asarray(mass, dtype=np.float64)
    if len(tokens) != len(mass):
        raise SdlabError(f"There are {len(tokens)} tokens but {len(mass)} shares: record all tokens.")
    last = tokens.index(tokens[-1]) + 1 if tokens[-1].endswith("|>") else len(tokens)
    names, shares = [_plain(token) for token in tokens[:last]], list(mass[:last])
    if last < len(tokens):
        names, shares = [*names, f"padding ({len(tokens) - last})"], [*shares, mass[last:].sum()]
    most = names[int(np.argmax(shares))]
    described = f"Bars: share of attention by token; the most, {max(shares):.0%}, goes to '{most}'."
    figure, axes = new_figure(alt=alt or described, width=max(4.0, 0.55 * len(names) + 1.5), height=2.8)
    axes.bar(
        range(len(names)),
        shares,
        color=["#999999" if "|" in name or "padding (" in name else COLORS[0] for name in names],
    )
    axes.set_xticks(range(len(names)), names, rotation=40, ha="right")
    axes.set_ylabel("share of attention")
    axes.grid(axis="x", visible=False)
    return figure


def show_text_attention(tokens: list[str], attention, *, title: str = "", alt: str | None = None) -> CourseFigure:
    """Return the text encoder's attention [tokens, tokens] as a matrix: row = the token that looks, column = at what.

    tokens: names, as many as rows. attention: one layer and head of ``text_self_attention``, or a mean of them.
    """
    attention, names = _to_array(attention), [_plain(token) for token in tokens]
    if attention.shape != (len(names), len(names)):
        raise SdlabError(f"attention has the shape {list(attention.shape)}, but there are {len(names)} tokens.")
    inner = np.tril(attention[1:, 1:], -1)
    row, column = np.unravel_index(int(inner.argmax()), inner.shape) if inner.size else (0, 0)
    described = f"Matrix of attention between tokens, empty above the diagonal. {title}"
    if inner.size > 1:
        described += f" Apart from the start token, '{names[row + 1]}' looks most at '{names[column + 1]}'."
    side = 1.4 + 0.42 * len(names)
    figure, axes = new_figure(alt=alt or described, width=side + 0.6, height=side)
    shown = axes.imshow(attention, cmap="viridis", vmin=0)
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right")
    axes.set_yticks(range(len(names)), names)
    axes.set(xlabel="is looked at", ylabel="looks", title=title)
    axes.grid(False)
    figure.colorbar(shown, ax=axes, shrink=0.8)
    return figure


def _to_array(heat_map) -> np.ndarray:
    array = heat_map.detach().float().cpu().numpy() if hasattr(heat_map, "detach") else np.asarray(heat_map, np.float32)
    if array.ndim != 2 or not np.isfinite(array).all():
        raise SdlabError(f"A heat map is [height, width] of finite numbers, not {list(array.shape)}.")
    return array


def _where(array: np.ndarray) -> str:
    """Say where in the picture the greatest value lies, such as 'in the upper middle'."""
    row, column = np.unravel_index(int(array.argmax()), array.shape)
    vertical = ("upper", "middle", "lower")[min(2, 3 * int(row) // array.shape[0])]
    horizontal = ("left", "middle", "right")[min(2, 3 * int(column) // array.shape[1])]
    return "in the middle" if vertical == horizontal else f"in the {vertical} {horizontal}"


def _plain(token: str) -> str:
    return token.removesuffix("</w>").replace("<|startoftext|>", "|start|").replace("<|endoftext|>", "|end|")
