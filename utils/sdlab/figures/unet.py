"""Draw a U-Net as the letter U from its live shapes: left side down, right side up, every skip connection across."""

from ..instruments import unet_table
from ..instruments.unet_table import UNetTable
from .style import COLORS, CourseFigure, new_figure

ATTENTION, PLAIN, MIDDLE = COLORS[2], COLORS[0], COLORS[1]
_WIDTH, _SHIFT = 31, 2.6  # of a box, and of a level to the inside, out of 100


def draw_unet(pipe="sd15", *, height: int | None = None, width: int | None = None) -> CourseFigure:
    """Return the letter U of a U-Net: one line for each skip connection, with the shapes that really pass.

    pipe: what ``unet_table`` takes, or the table itself. On the left stands what puts a shape aside, on the right the
    ResnetBlock that reads it: channels from below + channels through the skip = channels in.
    """
    table = pipe if isinstance(pipe, UNetTable) else unet_table(pipe, height=height, width=width)
    skips = table.skips[::-1]  # from the top of the letter to its foot
    figure, axes = new_figure(alt=_describe(table), width=9.6, height=0.31 * (len(skips) + 5))
    axes.set(xlim=(0, 100), ylim=(-len(skips) - 3.2, 1.6))
    axes.set_axis_off()
    sizes = sorted({skip.shape[1] for skip in skips}, reverse=True)
    for line, skip in enumerate(skips):
        _draw_line(axes, -line, _SHIFT * sizes.index(skip.shape[1]), skip, table)
    _draw_ends(axes, table, -len(skips), _SHIFT * len(sizes))
    return figure


def _draw_line(axes, y: float, shift: float, skip, table: UNetTable) -> None:
    left, right = shift + 0.5, 99.5 - shift - _WIDTH
    target = table[skip.target]
    added = f"{skip.from_below} + {skip.shape[0]} = {target.input[0]}"
    _box(axes, left, y, f"{_short(skip.source)}   {_shape(skip.shape)}", _color(table, skip.source))
    _box(axes, right, y, f"{_short(skip.target)}   {added} → {target.output[0]}", _color(table, skip.target))
    axes.annotate("", (right - 0.3, y), (left + _WIDTH + 0.3, y), arrowprops=_arrow(lw=1.0, linestyle="--"))
    axes.text(50, y + 0.08, _shape(skip.shape), ha="center", va="bottom", fontsize=7, color="#444444")


def _draw_ends(axes, table: UNetTable, foot: float, shift: float) -> None:
    """Draw the latents above, the middle block below, and the ways down and up."""
    middle, first, last = table["mid_block"], table["conv_in"], table["conv_out"]
    left, right = shift + _WIDTH / 2, 100 - shift - _WIDTH / 2
    text = f"mid_block   {_shape(middle.input)} → {_shape(middle.output)}"
    _box(axes, 50 - 0.6 * _WIDTH, foot - 0.9, text, MIDDLE, width=1.2 * _WIDTH)
    for start, end in (
        ((left, foot + 0.55), (50 - 0.62 * _WIDTH, foot - 0.9)),
        ((50 + 0.62 * _WIDTH, foot - 0.9), (right, foot + 0.55)),
    ):
        axes.annotate("", end, start, arrowprops=_arrow(lw=1.6))
    for x, start, end in ((left - shift, 1.5, 0.5), (right + shift, 0.5, 1.5)):
        axes.annotate("", (x, end), (x, start), arrowprops=_arrow(lw=1.6))
    axes.text(left - shift + 1.5, 1.0, f"latents {_shape(first.input)}", fontsize=8, va="center")
    axes.text(right + shift - 1.5, 1.0, f"noise_pred {_shape(last.output)}", fontsize=8, va="center", ha="right")
    axes.text(
        50,
        foot - 2.5,
        f"{table.parameters:,} parameters.   Green and orange: blocks with cross-attention, which reads the text.   "
        "Blue: convolutions only.\n"
        f"The timestep embedding ({table['time_embedding'].output[0]} numbers) enters every ResnetBlock.",
        ha="center",
        va="center",
        fontsize=8,
    )


def _box(axes, left: float, y: float, text: str, color: str, *, width: float = _WIDTH) -> None:
    from matplotlib.patches import FancyBboxPatch

    style = "round,pad=0,rounding_size=0.25"
    axes.add_patch(
        FancyBboxPatch((left, y - 0.36), width, 0.72, boxstyle=style, facecolor="white", edgecolor=color, linewidth=1.6)
    )
    axes.text(left + width / 2, y, text, ha="center", va="center", fontsize=7.5)


def _arrow(**options) -> dict:
    return {"arrowstyle": "-|>", "color": "#444444", "shrinkA": 0, "shrinkB": 0, **options}


def _color(table: UNetTable, name: str) -> str:
    """Return the colour of the block that a part belongs to."""
    block = ".".join(name.split(".")[:2]) if name.startswith(("down_blocks", "up_blocks")) else name
    return ATTENTION if "CrossAttn" in table[block].class_name else PLAIN


def _short(name: str) -> str:
    return name.replace("_blocks", "").replace("samplers.0", "sampler").replace("s.", ".")


def _shape(shape: tuple) -> str:
    return "×".join(map(str, shape))


def _describe(table: UNetTable) -> str:
    skips = "; ".join(
        f"{_short(skip.source)} to {_short(skip.target)} with {_shape(skip.shape)}" for skip in table.skips
    )
    return (
        f"The letter U: on the left the sizes shrink down to the middle block of {_shape(table['mid_block'].output)}, "
        f"on the right they grow again; {len(table.skips)} skip connections lead across, from the foot up: {skips}."
    )
