"""Denoisers trained on two halves of the same portraits: do they draw copies, or has each learned to draw?

Two networks of one architecture learn from portraits that the other never sees. Asked to draw from the same noise, they
agree only if both have found the same rule (the idea of Kadkhodaie et al. 2024, arXiv 2310.02557, at toy size).
"""

import functools
import json
import math
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from sdlab import SdlabError
from sdlab.weights import MODELS_FOLDER, verify_weights

from ..portraits import VALUES, draw_portrait, plan_portrait
from ..portraits.attributes import Attributes

HALVES_FOLDER = MODELS_FOLDER / "halves"
SIDE = 24  # pixels
FIRST_SEEDS = {"A": 1_000_000, "B": 2_000_000, "fresh": 3_000_000}
FIXED = {"subject": "man", "eyes": "blue", "hat": "none", "glasses": "no", "scene": "plain", "style": "none"}


@functools.cache
def half_pictures(half: str, count: int) -> torch.Tensor:
    """Draw the first ``count`` portraits of a half as floats [count, 3, 24, 24] in [-1, 1]: men with blue eyes.

    half: "A", "B", or "fresh" for portraits that neither network has seen. No portrait is in two of them.
    """
    if half not in FIRST_SEEDS:
        raise SdlabError(f"There is no half {half!r}: use one of {', '.join(FIRST_SEEDS)}.")
    if not isinstance(count, int) or not 1 <= count <= 1_000_000:
        raise SdlabError(f"count={count!r} must be a whole number from 1 to 1,000,000: so many portraits to draw.")
    plans = [_plan(FIRST_SEEDS[half] + index) for index in range(count)]
    images = np.stack([draw_portrait(plan, size=2 * SIDE).image for plan in plans])
    halved = functional.avg_pool2d(torch.from_numpy(images).permute(0, 3, 1, 2).float(), 2)
    return halved.round() / 127.5 - 1


def _plan(seed: int):
    rng = np.random.default_rng([seed, SIDE])
    free = {name: VALUES[name][int(rng.integers(len(VALUES[name])))] for name in ("hair", "shirt")}
    return plan_portrait(seed, attributes=Attributes(**FIXED, **free))


class Denoiser(nn.Module):
    """A U-Net of three levels (12, 6 and 3 cells a side) that predicts the noise in pictures of 24 x 24 pixels.

    What its last layer gives is v = sqrt(alpha_bar) noise - sqrt(1 - alpha_bar) picture (Salimans & Ho 2022,
    appendix D), which is well-behaved at every timestep; ``forward`` turns it into the noise.
    """

    def __init__(self, widths=(24, 32, 48), embedding: int = 48):
        super().__init__()
        self.config = {"widths": list(widths), "embedding": embedding}
        fine, middle, coarse = widths
        self.register_buffer("alphas_cumprod", make_scheduler().alphas_cumprod.clone(), persistent=False)
        self.time = nn.Sequential(nn.Linear(32, embedding), nn.SiLU(), nn.Linear(embedding, embedding), nn.SiLU())
        self.first = nn.Conv2d(12, fine, 3, padding=1)
        self.down_fine = Block(fine, fine, embedding)
        self.to_middle = nn.Conv2d(fine, middle, 3, stride=2, padding=1)
        self.down_middle = Block(middle, middle, embedding)
        self.to_coarse = nn.Conv2d(middle, coarse, 3, stride=2, padding=1)
        self.bottom = Block(coarse, coarse, embedding)
        self.up_middle = Block(coarse + middle, middle, embedding)
        self.up_fine = Block(middle + fine, fine, embedding)
        self.norm = nn.GroupNorm(4, fine)
        self.last = nn.Conv2d(fine + 12, 12, 3, padding=1)
        nn.init.zeros_(self.last.weight)

    def forward(self, noisy: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        """Return the noise [b, 3, 24, 24] in ``noisy`` [b, 3, 24, 24] at ``timesteps`` (one, or [b], 0..999)."""
        timesteps = torch.as_tensor(timesteps).expand(len(noisy))
        kept = self.alphas_cumprod[timesteps].view(-1, 1, 1, 1)
        return (1 - kept).sqrt() * noisy + kept.sqrt() * self._velocity(noisy, timesteps)

    def _velocity(self, noisy, timesteps):
        time = self.time(_sinusoid(timesteps))
        cells = functional.pixel_unshuffle(noisy, 2)  # [b, 12, 12, 12]: each 2 x 2 pixels become one cell
        fine = self.down_fine(self.first(cells), time)
        middle = self.down_middle(self.to_middle(fine), time)
        coarse = self.bottom(self.to_coarse(middle), time)
        up = self.up_middle(torch.cat([_double(coarse), middle], dim=1), time)
        up = self.up_fine(torch.cat([_double(up), fine], dim=1), time)
        up = functional.silu(self.norm(up))
        return functional.pixel_shuffle(self.last(torch.cat([up, cells], dim=1)), 2)


class Block(nn.Module):
    """Two convolutions with the timestep added in between, beside a shortcut."""

    def __init__(self, before: int, after: int, embedding: int):
        super().__init__()
        self.norm_1, self.norm_2 = nn.GroupNorm(4, before), nn.GroupNorm(4, after)
        self.convolution_1 = nn.Conv2d(before, after, 3, padding=1)
        self.convolution_2 = nn.Conv2d(after, after, 3, padding=1)
        self.time = nn.Linear(embedding, after)
        self.shortcut = nn.Conv2d(before, after, 1) if before != after else nn.Identity()
        nn.init.zeros_(self.convolution_2.weight)

    def forward(self, features, time):
        hidden = self.convolution_1(functional.silu(self.norm_1(features))) + self.time(time)[:, :, None, None]
        return self.shortcut(features) + self.convolution_2(functional.silu(self.norm_2(hidden)))


def _double(features):
    return functional.interpolate(features, scale_factor=2.0)


def _sinusoid(timesteps):
    frequencies = torch.exp(-math.log(1000) * torch.arange(16) / 16)
    angles = timesteps.float()[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def make_scheduler():
    """Return a DDIM scheduler with the noise schedule of Stable Diffusion."""
    from diffusers import DDIMScheduler

    return DDIMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, timestep_spacing="trailing")


def load_denoiser(half: str, count: int, *, folder: str | Path = HALVES_FOLDER) -> Denoiser:
    """Load the denoiser that was trained on the first ``count`` portraits of half "A" or "B", in float32."""
    from safetensors.torch import load_file

    folder = Path(folder)
    if not (folder / "weights.json").is_file():
        raise SdlabError(f"There are no denoisers in {folder}: train them with 'sdlab train halves'.")
    verify_weights(folder)
    file = folder / f"{half}-{count}.safetensors"
    if not file.is_file():
        known = ", ".join(sorted(found.stem for found in folder.glob("*.safetensors")))
        raise SdlabError(f"There is no denoiser {half}-{count}: use one of {known}.")
    denoiser = Denoiser(**training_log(folder)["network"])
    denoiser.load_state_dict({name: weight.float() for name, weight in load_file(file).items()})
    return denoiser.eval().requires_grad_(False)


def training_log(folder: str | Path = HALVES_FOLDER) -> dict:
    """Return what ``training.json`` records: the network, the settings, and the losses of each run by step."""
    return json.loads((Path(folder) / "training.json").read_text())


@torch.no_grad()
def sample(denoiser: Denoiser, noise: torch.Tensor, *, num_inference_steps: int = 25) -> torch.Tensor:
    """Draw pictures [b, 3, 24, 24] in [-1, 1] from ``noise`` [b, 3, 24, 24] with DDIM: no further noise is added."""
    scheduler = make_scheduler()
    scheduler.set_timesteps(num_inference_steps)
    pictures = noise
    for t in scheduler.timesteps:
        pictures = scheduler.step(denoiser(pictures, t), t, pictures).prev_sample
    return pictures.clamp(-1, 1)


@torch.no_grad()
def noise_loss(denoiser: Denoiser, pictures: torch.Tensor, *, draws: int = 512, seed: int = 0) -> float:
    """Return the mean squared error of the predicted noise, over ``draws`` noised pictures of ``pictures``.

    The same ``seed`` gives the same timesteps and noise, so two sets of pictures are compared under equal conditions.
    """
    generator = torch.Generator().manual_seed(seed)
    timesteps = torch.randint(0, 1000, (draws,), generator=generator)
    noise = torch.randn(draws, 3, SIDE, SIDE, generator=generator)
    clean = pictures[torch.arange(draws) % len(pictures)]
    noisy = make_scheduler().add_noise(clean, noise, timesteps)
    return (denoiser(noisy, timesteps) - noise).square().mean().item()


def distance(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Return the root mean square difference [b] of pictures [b, 3, h, w]; black to white (-1 to 1) counts as 1."""
    return (first - second).flatten(1).square().mean(dim=1).sqrt() / 2


def nearest(pictures: torch.Tensor, training: torch.Tensor) -> torch.Tensor:
    """Return for each of ``pictures`` [b, ...] the nearest picture of ``training`` [n, ...], as a tensor [b, ...]."""
    return training[torch.cdist(pictures.flatten(1), training.flatten(1)).argmin(dim=1)]
