"""Forward diffusion, measured and drawn: how much of a picture is left at a timestep, and who can still see it.

Noise is added with the scheduler's own ``add_noise``; what lesson 03 writes by hand is not repeated here.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch

from .attributes import VALUES
from .clip import image_features, text_features
from .errors import SdlabError
from .judge import judge_images
from .plotting import COLORS, SHARP, CourseFigure, new_figure, to_pictures

LINES = ("-", "--", "-.", ":")


def as_pictures(images: torch.Tensor) -> list[np.ndarray]:
    """Return uint8 pictures [H, W, 3] of a batch [N, 3, H, W] around [-1, 1]; what lies outside is cut off."""
    if images.ndim != 4 or images.shape[1] != 3:
        raise SdlabError(f"A batch of pictures has the shape [N, 3, H, W], not {list(images.shape)}.")
    bytes_ = (images.float().cpu().clamp(-1, 1) / 2 + 0.5).mul(255).round().byte()
    return list(bytes_.permute(0, 2, 3, 1).numpy())


def distance_from_gaussian(points: torch.Tensor, *, directions: int = 32) -> float:
    """Return how far a cloud [N, 2] is from the standard normal cloud; 0 for one that fits exactly.

    The cloud is looked at from ``directions`` sides; from each, its sorted shadow is compared with the places
    where a standard normal shadow has its quantiles; returned is the mean absolute difference (the sliced
    Wasserstein distance, Rabin et al. 2011). A real normal sample of N points does not give 0 either: compare.
    """
    if points.ndim != 2 or points.shape[1] != 2 or len(points) < 2:
        raise SdlabError(f"A cloud has the shape [N, 2] with N of at least 2, not {list(points.shape)}.")
    angles = torch.arange(directions) * (math.pi / directions)
    shadows = (points @ torch.stack([angles.cos(), angles.sin()])).sort(dim=0).values
    quantiles = torch.special.ndtri((torch.arange(len(points)) + 0.5) / len(points))
    return (shadows - quantiles[:, None]).abs().mean().item()


def draw_from(
    pipe, latents: torch.Tensor, prompt: str, *, num_inference_steps: int = 10, guidance_scale: float = 1.0
) -> torch.Tensor:
    """Return pictures [N, 3, H, W] in [0, 1] drawn from the start ``latents`` [N, 4, h, w].

    DDIM with "trailing" timesteps (Lin et al. 2023): the first step is at the last timestep, t = 999.
    """
    from diffusers import DDIMScheduler

    before = pipe.scheduler
    pipe.scheduler = DDIMScheduler.from_config(before.config, timestep_spacing="trailing", clip_sample=False)
    try:
        return pipe(
            [prompt] * len(latents),
            num_inference_steps=num_inference_steps,
            guidance_scale=guidance_scale,
            latents=latents.to(pipe.device, pipe.unet.dtype),
            output_type="pt",
        ).images.float().cpu()
    finally:
        pipe.scheduler = before


@dataclass(frozen=True)
class Recognition:
    """Shares of right answers: ``found`` (CLIP, which picture), ``named`` (CLIP, which subject), ``judged`` (judge)."""

    found: float
    named: float
    judged: float


def recognition(clip, judge, pictures: list, album: torch.Tensor, subjects: list[str]) -> Recognition:
    """Return how well CLIP and the judge still recognise ``pictures``, spoilt versions of an album in its order.

    album: CLIP's image features [N, width] of the clean pictures. A picture is found if the nearest of them is its
    own. subjects: the true subject of each; CLIP names one by the nearest of the sentences "a man", "a woman", ...
    """
    if not len(pictures) == len(album) == len(subjects):
        raise SdlabError(
            f"{len(pictures)} pictures, {len(album)} in the album and {len(subjects)} subjects must be as many."
        )
    features, words = image_features(clip, pictures), VALUES["subject"]
    nearest = (features @ album.T).argmax(dim=1).tolist()
    best = (features @ text_features(clip, [f"a {word}" for word in words]).T).argmax(dim=1).tolist()
    seen = [reading.values["subject"] for reading in judge_images(pictures, judge)]
    return Recognition(
        _share(nearest, range(len(album))), _share([words[index] for index in best], subjects), _share(seen, subjects)
    )


def _share(answers, truth) -> float:
    return float(np.mean([answer == right for answer, right in zip(answers, truth, strict=True)]))


def curves_figure(
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


def clouds_figure(clouds: list[torch.Tensor], titles: list[str], *, color_by, alt: str) -> CourseFigure:
    """Return 2-D clouds [N, 2] side by side on equal axes, every point coloured by its value in ``color_by``."""
    figure, axes = new_figure(1, len(clouds), alt=alt, width=2.1 * len(clouds), height=2.5)
    for axis, cloud, title in zip(np.atleast_1d(axes), clouds, titles, strict=True):
        axis.scatter(cloud[:, 0], cloud[:, 1], c=color_by, s=3, linewidths=0, cmap="viridis")
        axis.set(title=title, xlim=(-3.5, 3.5), ylim=(-3.5, 3.5), aspect="equal", xticks=(-2, 0, 2), yticks=(-2, 0, 2))
    return figure


def bells_figure(samples: dict[str, torch.Tensor], mean: float, variance: float, *, alt: str) -> CourseFigure:
    """Return the histograms of ``samples`` over each other, with the bell curve of ``mean`` and ``variance``."""
    figure, axis = new_figure(alt=alt, width=7.0, height=2.8)
    edges = np.linspace(mean - 4 * math.sqrt(variance), mean + 4 * math.sqrt(variance), 81)
    for number, (name, values) in enumerate(samples.items()):
        axis.hist(
            values.numpy(), edges, density=True, histtype="step", linewidth=1.8, linestyle=LINES[number],
            color=COLORS[number], label=name,
        )
    bell = np.exp(-((edges - mean) ** 2) / (2 * variance)) / math.sqrt(2 * math.pi * variance)
    axis.plot(edges, bell, color="black", linewidth=1.2, label="bell curve of the formula")
    axis.set(xlabel="value", ylabel="density")
    axis.legend(fontsize=9, frameon=False)
    return figure


def scatter_figure(panels: dict[str, tuple], *, alt: str, xlabel: str, ylabel: str) -> CourseFigure:
    """Return one panel of points for each title of ``panels`` (title -> (x, y)); the correlation joins the title."""
    figure, axes = new_figure(1, len(panels), alt=alt, width=4.0 * len(panels), height=3.2)
    for axis, (title, (x, y)) in zip(np.atleast_1d(axes), panels.items(), strict=True):
        axis.plot(x, y, "o", markersize=4, alpha=0.6, color=COLORS[0], markeredgewidth=0)
        axis.set(title=f"{title}: correlation {np.corrcoef(x, y)[0, 1]:.1f}", xlabel=xlabel, ylabel=ylabel)
    return figure


def spread_figure(groups: dict[str, torch.Tensor], *, alt: str, xlabel: str) -> CourseFigure:
    """Return one row of dots for each group, its mean as a black bar."""
    figure, axis = new_figure(alt=alt, width=8.0, height=0.9 + 0.42 * len(groups))
    for row, values in enumerate(groups.values()):
        offsets = 0.25 * np.sin(2.4 * np.arange(len(values)))  # so that dots do not hide each other
        axis.plot(values, row + offsets, "o", color=COLORS[row % len(COLORS)], markersize=5, alpha=0.75)
        axis.plot([float(values.mean())] * 2, [row - 0.38, row + 0.38], color="black", linewidth=2.5)
    axis.set(yticks=range(len(groups)), yticklabels=list(groups), xlabel=xlabel)
    axis.invert_yaxis()
    return figure


def same_width(pictures, width: int = 192) -> list:
    """Return PIL pictures, all ``width`` pixels wide: small maps of numbers enlarged by sharp squares."""
    from PIL import Image

    return [
        picture.resize(
            (width, round(width * picture.height / picture.width)),
            Image.Resampling.NEAREST if picture.width <= SHARP else Image.Resampling.LANCZOS,
        )
        for picture in to_pictures(pictures)
    ]
