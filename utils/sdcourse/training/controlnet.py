"""Train a ControlNet for the shipped model: a copy of its encoder that reads outlines."""

import json
import multiprocessing
import os
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from tqdm import tqdm

from sdlab import load_pipeline, seeded_generators
from sdlab.steering import make_controlnet, outline_agreement

from ..portraits import caption, plan_outline, plan_portrait
from ..portraits.outlines import plan_edges
from .data import VALIDATION_SEED, load_data
from .latents import load_latents, sample_posteriors
from .loop import Stage
from .randomness import step_generator, step_rng
from .sheets import save_sheet
from .tokenizer import tokenize

MANY = 1000  # outlines from which on several processes draw them


class ControlNetObjective(nn.Module):
    """Noisy latents and a hint in, weighted squared error out; only the ControlNet is trained."""

    def __init__(self, unet, *, hint_start="he"):
        super().__init__()
        self.controlnet = make_controlnet(unet, hint_start=hint_start)
        self.frozen = [unet]  # in a list, so that its weights are neither trained nor saved

    def forward(self, noisy, timesteps, embeds, hint, target, weights):
        """Return (loss, numbers). noisy, target [B, 4, 16, 16]; embeds [B, 77, D]; hint [B, 3, 128, 128]."""
        down, mid = self.controlnet(noisy, timesteps, embeds, controlnet_cond=hint, return_dict=False)
        noise_pred = self.frozen[0](
            noisy,
            timesteps,
            encoder_hidden_states=embeds,
            down_block_additional_residuals=down,
            mid_block_additional_residual=mid,
        ).sample
        errors = (noise_pred.float() - target).square().mean(dim=(1, 2, 3))
        return (weights * errors).mean(), {"mse": errors.mean()}


class ControlNetStage(Stage):
    """The ControlNet stage of `sdlab train`."""

    name = "controlnet"

    def __init__(self, settings, device):
        super().__init__(settings, device)
        self.pipe = load_pipeline(settings.base, device=device)
        for part in (self.pipe.unet, self.pipe.vae, self.pipe.text_encoder):
            part.requires_grad_(False)
        self.data = load_data(settings.data)
        count = min(settings.portraits, len(self.data))
        self.latents = torch.from_numpy(load_latents(settings.data)[0][:count]).to(device)
        self.hints = load_hints(settings.data, self.data, count)
        self.objective = ControlNetObjective(self.pipe.unet, hint_start=settings.hint_start)
        self.alphas_cumprod = self.pipe.scheduler.alphas_cumprod.to(device)

    def draw_batch(self, step, rank):
        settings, rng = self.settings, step_rng(self.settings.seed, step, rank=rank)
        indices = rng.integers(0, len(self.latents), size=settings.batch_size)
        empty = rng.random(settings.batch_size) < settings.empty_captions
        texts = [caption(self.data.plan(index), rng).text for index in indices]
        texts = ["" if left_out else text for text, left_out in zip(texts, empty, strict=True)]
        figure = (rng.random(settings.batch_size) < settings.figure_only).astype(int)
        hints = np.unpackbits(self.hints[indices, figure], axis=-1)
        hints = np.stack([wear(hint, rng) for hint in hints])
        ids = tokenize(self.pipe.tokenizer, texts)
        return {"indices": torch.from_numpy(indices), "ids": ids, "hints": torch.from_numpy(hints)}

    def loss(self, objective, batch, *, step, rank, progress):
        generator = step_generator(self.settings.seed, step, rank=rank, device=self.device)
        moments = self.latents[batch["indices"].to(self.device)].float()
        timesteps = torch.randint(0, 1000, (len(moments),), generator=generator, device=self.device)
        with torch.no_grad():
            embeds = self.pipe.text_encoder(batch["ids"].to(self.device))[0]
        hint = as_lines(batch["hints"].to(self.device), generator)
        latents, noise = sample_posteriors(moments, self.pipe.vae.config.scaling_factor, generator)
        signal = self.alphas_cumprod[timesteps]
        keep, add = signal.sqrt()[:, None, None, None], (1 - signal).sqrt()[:, None, None, None]
        weights = (1 / signal).clamp(max=self.settings.largest_weight)
        return objective(keep * latents + add * noise, timesteps, embeds, hint, noise, weights)

    def report(self, folder, step):
        """Draw some outlines with their captions; return how well the drawings keep to them, and to others."""
        count = self.settings.score_prompts
        plans = [plan_portrait(VALIDATION_SEED + index, split="any", world=self.data.world) for index in range(count)]
        hints = [plan_outline(plan) for plan in plans]
        rng = np.random.default_rng(0)
        texts = [caption(plan, rng).text for plan in plans]
        images = self.sample(texts, hints)
        sheet = [np.asarray(picture) for pair in zip(hints, images, strict=True) for picture in pair]
        save_sheet(np.stack(sheet), Path(folder) / "samples" / f"{step:06d}.png")
        others = hints[1:] + hints[:1]
        return {
            "outline": float(np.mean([outline_agreement(a, b) for a, b in zip(images, hints, strict=True)])),
            "swapped": float(np.mean([outline_agreement(a, b) for a, b in zip(images, others, strict=True)])),
        }

    def sample(self, texts, hints):
        """Draw each text along its hint with the real pipeline; PIL pictures."""
        from diffusers import StableDiffusionControlNetPipeline

        pipe = StableDiffusionControlNetPipeline(
            **self.pipe.components, controlnet=self.objective.controlnet, requires_safety_checker=False
        )
        pipe.set_progress_bar_config(disable=True)
        options = {"num_inference_steps": self.settings.score_steps, "guidance_scale": self.settings.score_guidance}
        return pipe(texts, image=hints, generator=seeded_generators(0, len(texts)), **options).images


def load_hints(folder, data, count):
    """Return packed outlines, uint8 [count, 2, 128, 16]: all lines, and the figure's; made when first asked for."""
    file, meta = Path(folder) / "hints.npy", Path(folder) / "hints.json"
    found = json.loads(meta.read_text()) if meta.exists() else None
    if found is None or found["pictures"] != data.meta["pictures"]:
        np.lib.format.open_memmap(file, mode="w+", dtype=np.uint8, shape=(len(data), 2, 128, 16)).flush()
        found = {"pictures": data.meta["pictures"], "done": 0}
    hints = np.load(file, mmap_mode="r+")
    plans = [data.plan(index) for index in range(found["done"], count)]
    drawn = tqdm(_draw_hints(plans), total=len(plans), disable=None, desc="outlines")
    for index, hint in enumerate(drawn, found["done"]):
        hints[index] = hint
        if index % 500 == 499 or index == count - 1:
            hints.flush()
            meta.write_text(json.dumps(found | {"done": index + 1}))
    return hints[:count]


def _draw_hints(plans):
    """Yield the packed outlines of plans, from several processes where there are many."""
    if len(plans) < MANY:
        yield from map(_packed_edges, plans)
        return
    with multiprocessing.get_context("spawn").Pool(os.cpu_count()) as pool:
        yield from pool.imap(_packed_edges, plans, chunksize=50)


def _packed_edges(plan):
    return np.packbits(np.stack(plan_edges(plan)), axis=-1)


def wear(hint, rng):
    """Rub out up to three rectangles of an outline uint8 [128, 128] of 0 and 1: sketches have gaps."""
    hint = hint.copy()
    for _ in range(int(rng.integers(0, 4))):
        (x, y), (width, height) = rng.integers(0, 128, 2), rng.integers(4, 40, 2)
        hint[y : y + height, x : x + width] = 0
    return hint


def as_lines(hints, generator):
    """Turn outlines uint8 [B, 128, 128] into hints [B, 3, 128, 128], every third with lines three pixels wide."""
    lines = hints.float()[:, None]
    wide = torch.rand((len(lines), 1, 1, 1), generator=generator, device=lines.device) < 1 / 3
    return torch.where(wide, functional.max_pool2d(lines, 3, 1, 1), lines).repeat(1, 3, 1, 1)
