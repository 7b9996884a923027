"""Figures of lesson 09: rows of pictures and the paths of guidance."""

from sdlab.figures import COLORS, CourseFigure, new_figure


def show_race(errors: dict, *, level: tuple[str, float], alt: str) -> CourseFigure:
    """Return the distance to the reference over the number of calls, on logarithmic axes.

    errors: label -> {calls: distance}. level: (label, distance) of a dotted line.
    """
    figure, axis = new_figure(alt=alt, width=7.2, height=3.4)
    for number, (label, found) in enumerate(errors.items()):
        style = {"color": COLORS[number], "marker": "os^D"[number % 4], "linestyle": ("-", "--", "-.", ":")[number % 4]}
        calls = list(found)
        axis.plot(calls, [found[n] for n in calls], label=label, **style)
    axis.axhline(level[1], color="#444444", linestyle=(0, (1, 3)), label=level[0])
    axis.set(xscale="log", yscale="log", xlabel="calls of the U-Net", ylabel="distance")
    axis.set_xticks(calls, [str(n) for n in calls])
    axis.set_xticks([], minor=True)
    axis.set_yticks([0.01, 0.02, 0.05, 0.1, 0.2, 0.4], ["0.01", "0.02", "0.05", "0.1", "0.2", "0.4"])
    axis.set_yticks([], minor=True)
    axis.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def show_guidance(scales: list, panels: dict, *, alt: str) -> CourseFigure:
    """Return one panel for each measure over the guidance scales.

    panels: title -> list of (value, low, high), one for each of ``scales``.
    """
    figure, _ = new_figure(1, len(panels), alt=alt, width=2.4 * len(panels), height=2.7)
    places = range(len(scales))
    for number, (axis, (title, values)) in enumerate(zip(figure.axes, panels.items(), strict=True)):
        middle, low, high = zip(*values, strict=True)
        axis.plot(places, middle, marker="os^D"[number % 4], color=COLORS[number])
        axis.vlines(places, low, high, color=COLORS[number], linewidth=1.5)
        axis.set(title=title, xlabel="guidance scale")
        axis.set_xticks(list(places), [str(scale) for scale in scales])
        axis.set_ylim(bottom=0)
    return figure
