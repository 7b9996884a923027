"""Charts that several lessons share: curves, shares with their intervals, bars and clouds of points."""


import numpy as np

from sdlab.figures import COLORS, CourseFigure, new_figure

LINES = ("-", "--", "-.", ":")
MARKERS = "os^DPX"
NAMED_COLORS = {"blue": COLORS[0], "green": COLORS[2], "brown": "#7f4f24", "purple": "#7b3fa0", "amber": COLORS[1]}
WIDTH = 8.4  # inches
COLOR_ORDER = (0, 5, 2, 3)  # blue, vermilion, green, purple: also different in lightness
MARKS = ("o", "s", "^", "D")
_HATCHES = ("", "///", "...", "xxx")


def plot_curve_panels(
    x, panels: dict[str, dict], *, alt: str, xlabel: str = "timestep t", log: tuple = (), levels: dict | None = None,
    height: float = 3.0, width: float = 9.0,
) -> CourseFigure:
    """Return one panel for each title of ``panels``, with its named curves over ``x``.

    log: titles of the panels with a logarithmic axis. levels: title -> {name: height} of dotted lines.
    """
    figure, axes = new_figure(1, len(panels), alt=alt, width=width, height=height)
    for axis, (title, curves) in zip(np.atleast_1d(axes), panels.items(), strict=True):
        for number, (name, values) in enumerate(curves.items()):
            marker = "o" if len(x) < 30 else None
            axis.plot(x, values, LINES[number % 4], color=COLORS[number], marker=marker, markersize=4, label=name)
        for name, level in (levels or {}).get(title, {}).items():
            axis.axhline(level, color="#444444", linestyle=(0, (1, 1.5)), linewidth=1.5, label=name)
        axis.set(title=title, xlabel=xlabel, yscale="log" if title in log else "linear")
        if title not in log and axis.get_ylim()[0] > -0.1:
            axis.set_ylim(bottom=0)
    _add_legends(figure, list(np.atleast_1d(axes)))
    return figure


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
    """Return one bar for each of ``rates`` (name -> measures.rate) with its 95 % interval.

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


def plot_panels(x, panels: dict, *, alt: str, xlabel: str, ylabel: str, log: str = "", ylim=None):
    """Return a figure with one panel for each of ``panels`` (title -> lines), side by side on the same scale."""
    figure, axes = new_figure(1, len(panels), alt=alt, width=WIDTH, height=3.2)
    for axis, (title, lines) in zip(axes, panels.items(), strict=True):
        _draw_lines(axis, x, lines, xlabel=xlabel, ylabel=ylabel, log=log, marks=True)
        axis.set_title(title)
        axis.set_ylim(ylim)
    return figure


def plot_lines(x, lines: dict, *, alt: str, xlabel: str, ylabel: str, log: str = "", **look):
    """Return a figure of ``lines`` (label -> values at ``x``); ``log`` names the logarithmic axes: "", "x", "y", "xy".

    ylim, width, height: as in matplotlib. marks: True puts a mark on every value.
    """
    figure, axes = new_figure(alt=alt, width=look.get("width", 6.4), height=look.get("height", 3.1))
    _draw_lines(axes, x, lines, xlabel=xlabel, ylabel=ylabel, log=log, marks=look.get("marks", False))
    if "ylim" in look:
        axes.set_ylim(look["ylim"])
    return figure


def _draw_lines(axes, x, lines: dict, *, xlabel: str, ylabel: str, log: str = "", marks: bool = False) -> None:
    """Draw ``lines`` (label -> values) into ``axes``, told apart by colour, dash and (if ``marks``) mark."""
    for index, (label, values) in enumerate(lines.items()):
        places = np.arange(len(values)) if x is None else np.asarray(x)
        style = {"linestyle": LINES[index % 4], "marker": MARKS[index % 4] if marks else None, "markersize": 5}
        axes.plot(places, np.asarray(values), label=label, color=COLORS[COLOR_ORDER[index % 4]], linewidth=2, **style)
    if "x" in log:
        axes.set_xscale("log")
    if "y" in log:
        axes.set_yscale("log")
    axes.set(xlabel=xlabel, ylabel=ylabel)
    if len(lines) > 1:
        axes.legend(frameon=False)


def plot_rates(
    panels: dict[str, dict[str, dict]], *, alt: str, width: float = 8.0, height: float = 2.5
) -> CourseFigure:
    """Return one panel of bars a title, each bar a ``measures.rate`` with its 95 % interval: {title: {name: rate}}."""
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


def plot_marked_curves(
    curves: dict[str, list[float]], *, alt: str, xlabel: str, ylabel: str, x=None, log: bool = False
) -> CourseFigure:
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


def plot_rates_along(
    x, panels: dict[str, dict[str, list[dict]]], *, alt: str, xlabel: str, levels: dict | None = None,
    width: float = 8.6, height: float = 3.1,
) -> CourseFigure:
    """Return one panel of shares a title, each curve a list of ``measures.rate`` with its interval as a bar.

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
                apart, share, bars, color=COLORS[number], linestyle=LINES[number % 4], marker="os^D"[number % 4],
                markersize=5, elinewidth=1, capsize=2, label=name,
            )
        for name, level in (levels or {}).get(title, {}).items():
            axis.axhline(level, color="#444444", linestyle=(0, (1, 1.5)), linewidth=1.5, label=name)
        axis.set(title=title, xlabel=xlabel, ylim=(-0.04, 1.04))
        axis.legend(fontsize=8.5, frameon=False)
    return figure


def plot_curves(
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


def show_lines(
    curves: dict, *, alt: str, xlabel: str, ylabel: str, logx: bool = False, logy: bool = False, height: float = 3.0
) -> CourseFigure:
    """Return one panel with a line for each label: (x, y) of ``curves``, told apart by colour, style and marker."""
    figure, axes = new_figure(alt=alt, width=7.0, height=height)
    for number, (label, (across, up)) in enumerate(curves.items()):
        marker = "os^Dv"[number % 5] if len(across) <= 20 else None
        style = ("-", "--", "-.", ":")[number % 4]
        axes.plot(across, up, style, marker=marker, color=COLORS[number], label=label)
    axes.set(xlabel=xlabel, ylabel=ylabel, xscale="log" if logx else "linear", yscale="log" if logy else "linear")
    if logx:
        marks = sorted({float(value) for across, _ in curves.values() for value in across})
        axes.set_xticks(marks, [f"{mark:g}" for mark in marks], minor=False)
        axes.set_xticks([], minor=True)
    axes.legend()
    return figure
