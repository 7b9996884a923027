"""The log of a run, one JSON object a line, and its picture."""

import json
from pathlib import Path

LOG = "log.jsonl"


def append_log(folder, entry):
    """Add one entry to the log of a run."""
    with open(Path(folder) / LOG, "a", encoding="utf-8") as file:
        file.write(json.dumps(entry) + "\n")


def read_log(folder):
    """Return the entries of a run's log; a line cut off by a kill is left out."""
    file = Path(folder) / LOG
    entries = []
    for line in file.read_text(encoding="utf-8").splitlines() if file.exists() else []:
        try:
            entries.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return entries


def forget_after(folder, step):
    """Drop what was logged after `step`: a resumed run will log it again."""
    entries = [entry for entry in read_log(folder) if entry["step"] <= step]
    if (Path(folder) / LOG).exists():
        unfinished = Path(folder) / (LOG + ".unfinished")
        unfinished.write_text("".join(json.dumps(entry) + "\n" for entry in entries), encoding="utf-8")
        unfinished.replace(Path(folder) / LOG)


def series(entries):
    """Return {name: ([views], [values])} for every number in the log; nested names are joined with a dot."""
    found = {}
    for entry in entries:
        for name, value in _numbers(entry):
            if name not in ("step", "views", "seconds"):
                views, values = found.setdefault(name, ([], []))
                views.append(entry["views"])
                values.append(value)
    return found


def _numbers(entry, *, prefix=""):
    for name, value in entry.items():
        if isinstance(value, dict):
            yield from _numbers(value, prefix=f"{prefix}{name}.")
        elif isinstance(value, (int, float)):
            yield prefix + name, value


def plot_log(folder, out=None):
    """Draw every logged number over the views into a PNG and return its path; scores share one panel."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    panels = {}
    for name, line in series(read_log(folder)).items():
        panels.setdefault(name.partition(".")[0], {})[name.partition(".")[2] or name] = line
    figure, axes = pyplot.subplots(
        len(panels) or 1, 1, figsize=(8, 2.2 * (len(panels) or 1)), sharex=True, squeeze=False
    )
    for axis, (title, lines) in zip(axes[:, 0], panels.items(), strict=False):
        for name, (views, values) in lines.items():
            axis.plot(views, values, label=name, linewidth=1.2)
        axis.set_ylabel(title)
        if len(lines) > 1:
            axis.legend(fontsize=6, ncols=2)
    axes[-1, 0].set_xlabel("views")
    out = Path(out or Path(folder) / "log.png")
    figure.savefig(out, dpi=110, bbox_inches="tight")
    pyplot.close(figure)
    return out
