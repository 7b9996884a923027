"""Figures and tables of lesson 12: pocket beside full size, work by kind, time by part, options, straight path."""

import math

import torch

from sdlab.figures import COLORS, CourseFigure, Table, new_figure

from .lesson_12 import ModelSizes

KINDS = ("convolution", "linear", "attention")
PART_NAMES = {"text_encoder": "text encoder", "unet": "U-Net", "vae": "VAE decoder"}


def size_table(left: ModelSizes, right: ModelSizes, *, num_inference_steps: int = 50) -> Table:
    """Return a table of two plans: shapes, parameters, memory of the weights, and work."""

    def columns(read):
        return read(left), read(right)

    def by(sizes):
        return " x ".join(map(str, sizes))

    rows = [
        ("picture (pixels)", *columns(lambda plan: by((plan.picture, plan.picture)))),
        ("latents (channels, height, width)", *columns(lambda plan: by(plan.latents))),
        ("text (tokens, width)", *columns(lambda plan: by(plan.context))),
        ("words and pieces of words known", *columns(lambda plan: f"{plan.vocabulary:,}")),
        ("U-Net: channels on each level", *columns(lambda plan: ", ".join(map(str, plan.widths)))),
        ("U-Net: heads in each attention", *columns(lambda plan: str(plan.heads[0]))),
    ]
    for part, name in PART_NAMES.items():
        label = "VAE (both halves)" if part == "vae" else name
        rows.append((f"parameters: {label}", *columns(lambda plan, part=part: f"{plan.parameters[part]:,}")))
    rows.append(("parameters: all", *columns(lambda plan: f"{sum(plan.parameters.values()):,}")))
    for dtype in (torch.float32, torch.float16):
        kind = str(dtype).removeprefix("torch.")
        rows.append((f"weights in {kind}", *columns(lambda plan, d=dtype: _bytes(plan.weight_bytes(d)))))
    for part, name in PART_NAMES.items():
        rows.append((f"work of one call: {name}", *columns(lambda plan, part=part: _flops(plan.flops[part]))))
    label = f"work of a picture: {num_inference_steps} steps, guidance"
    rows.append((label, *columns(lambda plan: _flops(plan.picture_flops(num_inference_steps)))))
    return Table(("", left.name, right.name), rows)


def _bytes(count: float) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def _flops(count: float) -> str:
    for size, unit in ((1e12, "TFLOP"), (1e9, "GFLOP"), (1e6, "MFLOP")):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count:.0f} FLOP"


def plot_ratios(left: ModelSizes, right: ModelSizes, *, alt: str) -> CourseFigure:
    """Return bars: how many times larger each size of ``right`` is, on a logarithmic scale."""
    sizes = {
        "tokens a prompt may have": [plan.context[0] for plan in (left, right)],
        "numbers for each token": [plan.context[1] for plan in (left, right)],
        "channels on the finest level": [plan.widths[0] for plan in (left, right)],
        "cells of the latents": [math.prod(plan.latents[1:]) for plan in (left, right)],
        "parameters": [sum(plan.parameters.values()) for plan in (left, right)],
        "work of one U-Net call": [plan.flops["unet"] for plan in (left, right)],
    }
    ratios = [large / small for small, large in sizes.values()]
    figure, axes = new_figure(alt=alt, width=8.2, height=3.2)
    ends = [max(ratio, 1.03) for ratio in ratios]  # a bar from 1 to 1 would not be seen
    axes.barh(range(len(ratios)), [end - 1 for end in ends], left=1, color=COLORS[0], height=0.62)
    for place, ratio in enumerate(ratios):
        axes.text(ends[place] * 1.12, place, f"x {ratio:,.0f}", va="center", backgroundcolor="white")
    axes.set_yticks(range(len(ratios)), list(sizes))
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlim(1, max(ratios) * 4)
    axes.set_xlabel(f"{right.name} / {left.name} (logarithmic)")
    return figure


def plot_work(work: dict[int, dict], *, chosen: int | None = None, alt: str) -> CourseFigure:
    """Return the FLOPs of a call by kind over the picture's side (log axes), and their shares.

    work: {side in pixels: {kind: FLOPs}}; chosen: a side to mark.
    """
    figure, (curves, shares) = new_figure(1, 2, alt=alt, width=9.2, height=3.4)
    sides = sorted(work)
    for kind, color, marker in zip(KINDS, COLORS, "os^", strict=False):
        values = [work[side][kind] / 1e9 for side in sides]
        curves.plot(sides, values, color=color, marker=marker, label=kind)
    curves.set_xscale("log", base=2)
    curves.set_yscale("log")
    curves.set_xticks(sides, [str(side) for side in sides])
    curves.set(xlabel="side of the picture (pixels)", ylabel="GFLOP of one call")
    curves.legend()
    bottom = [0.0] * len(sides)
    for kind, color, hatch in zip(KINDS, COLORS, ("", "//", ".."), strict=False):
        values = [100 * work[side][kind] / sum(work[side].values()) for side in sides]
        shares.bar(range(len(sides)), values, bottom=bottom, color=color, hatch=hatch, edgecolor="white", width=0.7)
        bottom = [low + value for low, value in zip(bottom, values, strict=True)]
    shares.set_xticks(range(len(sides)), [str(side) for side in sides])
    shares.set(xlabel="side of the picture (pixels)", ylabel="share of the work (%)")
    if chosen is not None:
        curves.axvline(chosen, color="black", linestyle=":", linewidth=1)
        shares.get_xticklabels()[sides.index(chosen)].set_fontweight("bold")
        attention = work[chosen]["attention"] / sum(work[chosen].values())
        total = sum(work[chosen].values())
        shares.set_title(f"{chosen} px: {_flops(total)}, {attention:.0%} attention", fontsize=10)
    return figure


def plot_parts(times: dict[str, dict], *, alt: str) -> CourseFigure:
    """Return one bar of 100 % for each entry: the shares of text encoder, U-Net and VAE decoder in its seconds."""
    figure, axes = new_figure(alt=alt, width=8.8, height=0.75 + 0.62 * len(times))
    for place, spent in enumerate(times.values()):
        total, left = sum(spent[part] for part in PART_NAMES), 0.0
        for (part, label), color, hatch in zip(PART_NAMES.items(), COLORS, ("", "//", ".."), strict=False):
            share = 100 * spent[part] / total
            axes.barh(
                place,
                share,
                left=left,
                color=color,
                hatch=hatch,
                edgecolor="white",
                height=0.6,
                label=label if not place else None,
            )
            left += share
        axes.text(101, place, _time(total), va="center")
    axes.set_yticks(range(len(times)), list(times))
    axes.invert_yaxis()
    axes.set_xlim(0, 112)
    axes.set_xticks(range(0, 101, 20))
    axes.set_xlabel("share of the seconds of one picture (%); all of them at the right")
    axes.legend(ncols=3, loc="lower center", bbox_to_anchor=(0.45, 1.0))
    return figure


def _time(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 120 else f"{seconds:.2g} s"


def plot_options(seconds: dict[str, tuple], *, alt: str) -> CourseFigure:
    """Return one bar for each way to call: its seconds as a share of the first one's, with the range measured."""
    figure, axes = new_figure(alt=alt, width=8.2, height=0.8 + 0.42 * len(seconds))
    base = next(iter(seconds.values()))[0]
    for place, (median, low, high) in enumerate(seconds.values()):
        axes.barh(place, 100 * median / base, color=COLORS[0] if place else COLORS[7], height=0.6)
        axes.plot([100 * low / base, 100 * high / base], [place, place], color=COLORS[1], linewidth=3)
    axes.axvline(100, color="black", linestyle=":", linewidth=1)
    axes.set_yticks(range(len(seconds)), list(seconds))
    axes.invert_yaxis()
    axes.set_xlabel("seconds of a call, first one = 100 (line: lowest to highest of the rounds)")
    return figure


def plot_flow_paths(picture_share, noise_share, *, alt: str) -> CourseFigure:
    """Return the plane "how much picture, how much noise": our schedule's arc, the straight path, and rays between.

    picture_share, noise_share: the two factors of the forward jump at a few timesteps, from clean to noisy.
    """
    figure, axes = new_figure(alt=alt, width=6.0, height=4.8)
    keep, add = torch.as_tensor(picture_share), torch.as_tensor(noise_share)
    straight = add / (keep + add)
    angle = torch.linspace(math.atan2(add[0], keep[0]), math.atan2(add[-1], keep[-1]), 100)
    for a, s in zip(keep, add, strict=True):
        axes.plot([0, a], [0, s], color="#aaaaaa", linewidth=1, zorder=1)
    axes.plot(angle.cos(), angle.sin(), color=COLORS[0])
    axes.plot(keep, add, color=COLORS[0], marker="o", linestyle="", label="our schedule (an arc)")
    axes.plot([0, 1], [1, 0], color=COLORS[5], linestyle="--")
    axes.plot(1 - straight, straight, color=COLORS[5], marker="s", linestyle="", label="flow matching (straight)")
    axes.text(1.03, 0.03, "picture only")
    axes.text(0.0, 1.04, "noise only")
    axes.set(xlabel="factor of the picture", ylabel="factor of the noise", xlim=(0, 1.3), ylim=(0, 1.15))
    axes.set_aspect("equal")
    axes.legend(loc="upper right", fontsize=9)
    return figure
