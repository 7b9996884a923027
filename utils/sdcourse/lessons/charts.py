"""Charts that several lessons share: curves, shares with their intervals, bars and clouds of points."""


import numpy as np

from sdlab.figures import COLORS, CourseFigure, new_figure

from ..judging.intervals import mean_interval

LINES = ("-", "--", "-.", ":")
MARKERS = "os^DPX"
NAMED_COLORS = {"blue": COLORS[0], "green": COLORS[2], "brown": "#7f4f24", "purple": "#7b3fa0", "amber": COLORS[1]}
WIDTH = 8.4  # inches
COLOR_ORDER = (0, 5, 2, 3, 1, 4, 7)  # the first four also differ in lightness
FEW = 30  # so many places get a mark each
_HATCHES = ("", "///", "...", "xxx")




def plot_curves(
    x, curves: dict, *, alt: str, xlabel: str, ylabel: str = "", log: str | tuple = "", ylim: tuple | None = None,
    levels: dict | None = None, points: dict | None = None, vertical: dict | None = None, width: float = 0.0,
    height: float = 3.1,
) -> CourseFigure:
    """Return named curves over ``x``: in one panel ({name: values}), or a panel a title ({title: {name: values}}).

    x: the places of the values; None counts them from 0. A curve that is a pair (x, y) brings places of its own.
    log: the logarithmic axes, "x", "y" or "xy", or the titles of the panels whose y axis is. levels: {title: {name:
    height}} of dotted lines. points: {name: (x, y)}, stars. vertical: {name: x}, dotted lines. width: by default 6.4
    inches, or 9 where there are several panels.
    """
    panels = curves if isinstance(next(iter(curves.values())), dict) else {"": curves}
    width = width or (9.0 if len(panels) > 1 else 6.4)
    figure, axes = new_figure(1, len(panels), alt=alt, width=width, height=height)
    for axis, (title, lines) in zip(np.atleast_1d(axes), panels.items(), strict=True):
        scales = log if isinstance(log, str) else "y" * (title in log)
        draw_curves(axis, x, lines, log=scales)
        for name, level in (levels or {}).get(title, {}).items():
            axis.axhline(level, color="#444444", linestyle=(0, (1, 1.5)), linewidth=1.5, label=name)
        for number, (name, place) in enumerate((points or {}).items()):
            axis.plot(*place, "*", markersize=15, color=COLORS[5 - number], label=name)
        for name, place in (vertical or {}).items():
            axis.axvline(place, color="#444444", linestyle=":", label=name)
        axis.set(title=title, xlabel=xlabel, ylim=ylim or _from_zero(axis, scales))
    np.atleast_1d(axes)[0].set_ylabel(ylabel)
    _add_legends(figure, list(np.atleast_1d(axes)))
    return figure


def draw_curves(axis, x, curves: dict, *, log: str = "") -> None:
    """Draw ``curves`` (name -> values over ``x``) into an axis, told apart by colour, dash and (if few) mark."""
    places = []
    for number, (name, values) in enumerate(curves.items()):
        own = isinstance(values, tuple) and len(values) == 2 and np.ndim(values[0]) == 1  # a pair (x, y)
        counted = x is None and not own
        across, up = values if own else (range(len(values)) if counted else x, values)
        color = COLORS[COLOR_ORDER[number % 7]]
        axis.plot(
            np.asarray(across), np.asarray(up), LINES[number % 4], color=color, label=name, markersize=5,
            marker=MARKERS[number % 6] if len(across) < FEW and not counted else None,
        )
        places += [float(place) for place in across]
    if "x" in log:
        axis.set_xscale("log")
        if len(set(places)) < FEW:
            axis.set_xticks(sorted(set(places)), [f"{place:g}" for place in sorted(set(places))])
            axis.set_xticks([], minor=True)
    if "y" in log:
        axis.set_yscale("log")


def _from_zero(axis, scales: str) -> tuple | None:
    """Return limits that begin at 0, where that leaves most of the axis to the curves."""
    low, high = axis.get_ylim()
    return (0, high) if "y" not in scales and -0.1 < low < 0.6 * high else None


def _add_legends(figure: CourseFigure, axes: list) -> None:
    """Give every panel of several curves a legend, or all panels one below them if it would be the same."""
    named = [axis.get_legend_handles_labels() for axis in axes]
    labels = [tuple(labels) for _, labels in named]
    if len(axes) > 1 and len(set(labels)) == 1 and len(labels[0]) > 1:
        figure.legend(*named[0], loc="outside lower center", ncols=len(labels[0]), fontsize=9)
        return
    for axis, names in zip(axes, labels, strict=True):
        if len(names) > 1:
            axis.legend(fontsize=9, frameon=False)


def plot_correlations(panels: dict[str, tuple], *, alt: str, xlabel: str, ylabel: str) -> CourseFigure:
    """Return one panel of points for each title of ``panels`` (title -> (x, y)); the correlation joins the title."""
    figure, axes = new_figure(1, len(panels), alt=alt, width=4.0 * len(panels), height=3.2)
    for axis, (title, (x, y)) in zip(np.atleast_1d(axes), panels.items(), strict=True):
        axis.plot(x, y, "o", markersize=4, alpha=0.6, color=COLORS[0], markeredgewidth=0)
        axis.set(title=f"{title}: correlation {np.corrcoef(x, y)[0, 1]:.1f}", xlabel=xlabel, ylabel=ylabel)
    return figure


def plot_share_bars(
    rates: dict[str, dict], *, alt: str, chance: float | dict, chance_label: str = "by chance"
) -> CourseFigure:
    """Return one bar for each of ``rates`` (name -> ``share``) with its 95 % interval.

    chance: the share that needs no knowledge, for all bars or by name; ``chance_label`` says what it is.
    """
    figure, axis = new_figure(alt=alt, width=8.4, height=0.9 + 0.34 * len(rates))
    names = list(rates)
    for row, item in enumerate(rates.values()):
        low, high = item["interval"]
        axis.barh(row, item["share"], color=COLORS[4], height=0.66)
        axis.plot([low, high], [row, row], color="black", linewidth=1.5, marker="|")
        axis.text(1.02, row, f"{item['share']:.1%}", va="center", fontsize=9)
        guess = chance[names[row]] if isinstance(chance, dict) else chance
        label = chance_label if row == 0 else None
        axis.plot([guess, guess], [row - 0.42, row + 0.42], color=COLORS[5], linewidth=2.5, label=label)
    axis.set_yticks(range(len(names)), names, fontsize=9)
    axis.set(xlim=(0, 1.1), xlabel="share that is right (black: 95 % interval)")
    axis.set_xticks(np.arange(0, 1.01, 0.25), ["0", "25 %", "50 %", "75 %", "100 %"])
    axis.invert_yaxis()
    figure.legend(*axis.get_legend_handles_labels(), fontsize=9, loc="outside upper right")
    return figure


def plot_groups(points, labels: list[str], *, alt: str, title: str = "") -> CourseFigure:
    """Return points [N, 2] with one colour and marker for each different label."""
    figure, axis = new_figure(alt=alt, width=6.4, height=3.8)
    points = np.asarray(points)
    for number, label in enumerate(dict.fromkeys(labels)):
        chosen = points[[other == label for other in labels]]
        color = NAMED_COLORS.get(label, COLORS[number % 8])
        axis.scatter(*chosen.T, s=34, color=color, marker=MARKERS[number % 6], label=label)
    axis.set(title=title, xlabel="first direction", ylabel="second direction")
    axis.legend(fontsize=9, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure





def plot_rates(
    panels: dict[str, dict[str, dict]], *, alt: str, width: float = 8.0, height: float = 2.5
) -> CourseFigure:
    """Return one panel of bars a title, each bar a ``share`` with its 95 % interval: {title: {name: rate}}."""
    figure, axes = new_figure(1, len(panels), alt=alt, width=width, height=height)
    for axis, (title, bars) in zip(np.atleast_1d(axes), panels.items(), strict=True):
        share = np.array([bar["share"] for bar in bars.values()])
        low, high = np.array([bar["interval"] for bar in bars.values()]).T
        axis.bar(range(len(bars)), share, 0.6, color=[COLORS[number % 7] for number in range(len(bars))], alpha=0.85)
        spread = np.clip([share - low, high - share], 0, None)
        axis.errorbar(range(len(bars)), share, spread, fmt="none", ecolor="black", elinewidth=1.2, capsize=4)
        axis.set_xticks(range(len(bars)), list(bars), fontsize=9)
        axis.set(title=title, ylim=(0, 1.04))
        axis.grid(axis="x", visible=False)
    np.atleast_1d(axes)[0].set_ylabel("share of pictures")
    return figure



def plot_rates_along(
    x, panels: dict[str, dict[str, list[dict]]], *, alt: str, xlabel: str, levels: dict | None = None,
    width: float = 8.6, height: float = 3.1,
) -> CourseFigure:
    """Return one panel of shares a title, each curve a list of ``share`` with its interval as a bar.

    levels: title -> {name: share} of dotted lines. Curves are moved a little apart so that bars do not hide each other.
    """
    figure, axes = new_figure(1, len(panels), alt=alt, width=width, height=height)
    for axis, (title, curves) in zip(np.atleast_1d(axes), panels.items(), strict=True):
        for number, (name, rates) in enumerate(curves.items()):
            share = np.array([item["share"] for item in rates])
            bounds = np.array([item["interval"] for item in rates]).T
            apart = np.asarray(x) + 0.012 * (number - (len(curves) - 1) / 2)
            bars = np.clip([share - bounds[0], bounds[1] - share], 0, None)
            axis.errorbar(
                apart, share, bars, color=COLORS[number], linestyle=LINES[number % 4], marker=MARKERS[number % 4],
                markersize=5, elinewidth=1, capsize=2, label=name,
            )
        for name, level in (levels or {}).get(title, {}).items():
            axis.axhline(level, color="#444444", linestyle=(0, (1, 1.5)), linewidth=1.5, label=name)
        axis.set(title=title, xlabel=xlabel, ylim=(-0.04, 1.04))
        axis.legend(fontsize=8.5, frameon=False)
    return figure



def show_bars(groups: dict[str, dict[str, float]], *, alt: str, ylabel: str, height: float = 3.2) -> CourseFigure:
    """Return upright bars: a group for each label, and in it a bar for each series.

    groups: series -> label -> share (0 to 1); the shares are written over the bars in percent.
    """
    figure, axis = new_figure(alt=alt, width=8.4, height=height)
    labels = list(next(iter(groups.values())))
    width = 0.8 / len(groups)
    for number, (series, shares) in enumerate(groups.items()):
        places = np.arange(len(labels)) + (number - (len(groups) - 1) / 2) * width
        values = [100 * shares.get(label, 0) for label in labels]
        look = {"color": COLORS[number], "hatch": _HATCHES[number % 4], "edgecolor": "white", "label": series}
        bars = axis.bar(places, values, 0.92 * width, **look)
        axis.bar_label(bars, fmt="%.0f", fontsize=8.5, padding=1)
    axis.set_xticks(np.arange(len(labels)), labels)
    axis.set(ylabel=ylabel)
    axis.margins(y=0.12)
    axis.grid(visible=False, axis="x")
    axis.legend()
    return figure


def plot_strips(
    groups: dict, *, alt: str, xlabel: str, xlim: tuple | None = None, interval: bool = False
) -> CourseFigure:
    """Return a row of dots for each group of numbers and its mean as a black bar, with a 95 % interval if asked for."""
    figure, axis = new_figure(alt=alt, width=8.4, height=0.9 + 0.46 * len(groups))
    for row, values in enumerate(groups.values()):
        values = np.asarray(values, dtype=float)
        offsets = 0.25 * np.sin(2.4 * np.arange(len(values)))  # so that dots do not hide each other
        look = {"color": COLORS[row % 6], "markersize": 5 if len(values) < 100 else 3, "alpha": 0.6}
        axis.plot(values, row + offsets, MARKERS[row % 6], **look)
        axis.plot([values.mean()] * 2, [row - 0.38, row + 0.38], color="black", linewidth=2.5)
        if interval:
            mean, low, high = mean_interval(values)
            axis.errorbar(mean, row, xerr=[[mean - low], [high - mean]], color="black", capsize=5, linewidth=1.5)
    axis.set_yticks(range(len(groups)), list(groups))
    axis.set(xlabel=xlabel, xlim=xlim, ylim=(len(groups) - 0.5, -0.5))
    axis.grid(axis="y", visible=False)
    return figure
