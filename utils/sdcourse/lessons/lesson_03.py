"""Lesson 03, measured: how much of a picture is left at a timestep, and who can still see it.

Noise is added with the scheduler's own ``add_noise``; what the lesson writes by hand is not repeated here.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch

from sdlab import SdlabError

from ..judging import image_features, judge_images, text_features
from ..portraits import VALUES

INNER, OUTER = 1.5 * math.pi, 4.5 * math.pi  # the angles between which the spiral runs


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


def swiss_roll(count: int, *, seed: int = 0, width: float = 0.05) -> torch.Tensor:
    """Return ``count`` points [count, 2] spread evenly along a spiral of one and a half turns.

    The spiral has mean 0 and variance 1 (averaged over its two coordinates).
    width: standard deviation of the points around the spiral, in the same units; 0 puts them on it.
    """
    _check(count, width)
    generator = torch.Generator().manual_seed(seed)
    points = _spiral(torch.rand(count, generator=generator))
    return points + width * torch.randn(count, 2, generator=generator)


def clusters(count: int, *, seed: int = 0, width: float = 0.08, places: int = 8) -> torch.Tensor:
    """Return ``count`` points [count, 2] in ``places`` round clusters on a circle of radius 1.4 (variance 1, about).

    width: standard deviation of a cluster.
    """
    _check(count, width)
    generator = torch.Generator().manual_seed(seed)
    angle = torch.randint(places, (count,), generator=generator) * (2 * math.pi / places)
    centre = math.sqrt(2) * torch.stack([angle.cos(), angle.sin()], dim=1)
    return centre + width * torch.randn(count, 2, generator=generator)


def _spiral(place: torch.Tensor) -> torch.Tensor:
    """Return the points [n, 2] at ``place`` in [0, 1] along the spiral, equal steps for equal lengths."""
    grid = _raw_spiral(torch.linspace(0, 1, 2001))
    centre = grid.mean(dim=0)
    return (_raw_spiral(place) - centre) / (grid - centre).square().mean().sqrt()


def _raw_spiral(place: torch.Tensor) -> torch.Tensor:
    angle = (INNER**2 + place * (OUTER**2 - INNER**2)).sqrt()  # the length of r = angle grows with angle squared
    return torch.stack([angle * angle.cos(), angle * angle.sin()], dim=1)


def _check(count: int, width: float) -> None:
    if not isinstance(count, int) or count < 1:
        raise SdlabError(f"count={count!r} must be a whole number of at least 1: it says how many points to draw.")
    if not 0 <= width < math.inf:
        raise SdlabError(f"width={width!r} must be 0 or more: it is the standard deviation around the shape.")
