"""Figures of lesson 11: strips of strengths, a learning curve on fixed noise, rates, and what is left of a hint."""

import numpy as np

from ..errors import SdlabError
from ..plotting import COLORS, CourseFigure, new_figure, to_pictures

QUALITY = 35  # of the many small pictures in this lesson
LINES, MARKERS = ("-", "--", "-.", ":"), "os^D"


def picture_table(
    rows: dict[str, list], columns: list[str], *, alt: str, notes: dict[str, list[str]] | None = None, size: float = 1.0
) -> CourseFigure:
    """Return pictures in named rows and columns, each with a short note under it.

    rows: name -> pictures, as many as ``columns``. notes: name -> texts. size: inches of a picture.
    """
    if any(len(pictures) != len(columns) for pictures in rows.values()):
        raise SdlabError(f"Every row must have {len(columns)} pictures: one for each of the columns.")
    longest = max((len(line) for name in rows for line in name.split("\n")), default=0)
    beside, gap, under = 0.12 + 0.082 * longest, 0.06, 0.2 if notes else 0.0
    above = 0.05 + 0.17 * max((name.count("\n") + 1 for name in columns if name), default=0)
    width = beside + (size + gap) * len(columns)
    height = above + (size + gap + under) * len(rows)
    figure, axes = new_figure(len(rows), len(columns), alt=alt, width=width, height=height)
    figure.set_layout_engine("none")
    figure.kind, figure.quality = "image/jpeg", QUALITY
    for line, (name, pictures) in enumerate(rows.items()):
        bottom = height - above - size - line * (size + gap + under)
        for column, picture in enumerate(to_pictures(pictures)):
            axis = np.asarray(axes).reshape(len(rows), len(columns))[line, column]
            left = beside + column * (size + gap)
            axis.set_position((left / width, bottom / height, size / width, size / height))
            axis.imshow(picture)
            axis.set_axis_off()
            axis.set_title(columns[column] if line == 0 else "", fontsize=9.5, pad=3)
            note = (notes or {}).get(name, [""] * len(columns))[column]
            figure.text((left + size / 2) / width, (bottom - 0.03) / height, note, ha="center", va="top", fontsize=8.5)
        figure.text((beside - 0.08) / width, (bottom + size / 2) / height, name, ha="right", va="center", fontsize=9.5)
    return figure


def learning_figure(losses: list[float], fixed: list[float], *, every: int, alt: str) -> CourseFigure:
    """Return two panels: the loss of every step on fresh noise, and the loss on fixed noise, before and after."""
    figure, (fresh, same) = new_figure(1, 2, alt=alt, width=7.6, height=2.5)
    fresh.plot(range(1, len(losses) + 1), losses, color=COLORS[4], marker="o", markersize=3, linewidth=1)
    fresh.set(title="fresh portraits, noise and timesteps", xlabel="step", ylabel="loss")
    same.plot(np.arange(len(fixed)) * every, fixed, color=COLORS[0], marker="s", markersize=5)
    same.set(title="always the same ones", xlabel="steps done", ylabel="loss")
    return figure


def rates_figure(
    panels: dict[str, dict[str, dict]], *, alt: str, width: float = 8.0, height: float = 2.5
) -> CourseFigure:
    """Return one panel of bars a title, each bar a ``measures.rate`` with its 95 % interval: {title: {name: rate}}."""
    figure, axes = new_figure(1, len(panels), alt=alt, width=width, height=height)
    for axis, (title, bars) in zip(np.atleast_1d(axes), panels.items(), strict=True):
        share = np.array([bar["accuracy"] for bar in bars.values()])
        low, high = np.array([bar["interval"] for bar in bars.values()]).T
        axis.bar(range(len(bars)), share, 0.6, color=[COLORS[number % 7] for number in range(len(bars))], alpha=0.85)
        spread = np.clip([share - low, high - share], 0, None)
        axis.errorbar(range(len(bars)), share, spread, fmt="none", ecolor="black", elinewidth=1.2, capsize=4)
        axis.set_xticks(range(len(bars)), list(bars), fontsize=9)
        axis.set(title=title, ylim=(0, 1.04))
        axis.grid(axis="x", visible=False)
    np.atleast_1d(axes)[0].set_ylabel("share of pictures")
    return figure


def curves_figure(curves: dict[str, list[float]], *, alt: str, xlabel: str, ylabel: str, x=None, log: bool = False):
    """Return curves over ``x`` (by default 1, 2, ...), each in its own colour, line and marker."""
    figure, axis = new_figure(alt=alt, width=6.4, height=3.0)
    for number, (name, values) in enumerate(curves.items()):
        places = range(1, len(values) + 1) if x is None else x
        axis.plot(
            places,
            values,
            LINES[number % 4],
            color=COLORS[number],
            marker=MARKERS[number % 4],
            markersize=5,
            label=name,
        )
    axis.set(xlabel=xlabel, ylabel=ylabel, **({"yscale": "log"} if log else {}))
    axis.legend()
    return figure


def agreement_figure(groups: dict[str, np.ndarray], *, alt: str) -> CourseFigure:
    """Return every picture's agreement as a dot, a row for each group, and the group's mean with its 95 % interval."""
    from .lessons import mean_interval

    figure, axis = new_figure(alt=alt, width=7.6, height=0.75 + 0.55 * len(groups))
    for row, values in enumerate(groups.values()):
        mean, low, high = mean_interval(values)
        heights = row + np.linspace(-0.18, 0.18, len(values))
        axis.plot(values, heights, MARKERS[row % 4], color=COLORS[row], markersize=5, alpha=0.55)
        axis.errorbar(mean, row, xerr=[[mean - low], [high - mean]], fmt="|", color="black", markersize=16, capsize=4)
    axis.set_yticks(range(len(groups)), list(groups))
    axis.set(xlabel="agreement with the hint (F1)", xlim=(0, 1), ylim=(len(groups) - 0.5, -0.5))
    axis.grid(axis="y", visible=False)
    return figure
