"""Measure the parts of a model one by one: the judge on renders, the VAE, CLIP, and copies of training portraits."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from sdlab import SdlabError
from sdlab.images import thumbnails, to_batch

from ..portraits import NAMES, VALUES, caption, compose, draw_portrait, held_out_pair, plan_portrait
from ..portraits.captions import swap_captions
from .clip import image_features, load_clip, text_features
from .intervals import share
from .judge import agreement, judge_images

RENDER_SEED = 50_000_000


def score_renders(plans, judge=None) -> dict:
    """Return name -> rate of the judge on renders: the ceiling of every other score."""
    readings = judge_images([draw_portrait(plan).image for plan in plans], judge)
    return rates(readings, [asdict(plan.attributes) for plan in plans])


def rates(readings, wanted: list[dict]) -> dict:
    """Return name -> rate of readings against dicts of wanted values (see ``judge.agreement``)."""
    return {name: share(right, count) for name, (right, count) in agreement(readings, wanted).items()}


@torch.inference_mode()
def reconstruct(pipe, batch: torch.Tensor, *, batch_size: int = 32):
    """Return (reconstructions [N, 3, H, W] clipped to [-1, 1], latent means [N, 4, h, w]) of pictures in [-1, 1]."""
    decoded, latents = [], []
    for part in batch.split(batch_size):
        mean = pipe.vae.encode(part.to(pipe.device, pipe.vae.dtype)).latent_dist.mean
        latents.append(mean.float().cpu())
        decoded.append(pipe.vae.decode(mean).sample.float().clamp(-1, 1).cpu())
    return torch.cat(decoded), torch.cat(latents)


def psnr(images: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """Return the peak signal-to-noise ratio [N] in dB of pictures [N, 3, H, W] in [0, 1]; 20 dB: errors of a tenth."""
    if images.shape != others.shape:
        raise SdlabError(f"Pictures of one shape are compared, not {list(images.shape)} and {list(others.shape)}.")
    return -10 * (images - others).square().flatten(1).mean(dim=1).clamp(min=1e-12).log10()

def score_vae(pipe, plans, judge=None) -> dict:
    """Return PSNR of unstyled and styled renders, judge agreement on reconstructions, and the channels' statistics."""
    images = [draw_portrait(plan).image for plan in plans]
    batch = to_batch(images)
    decoded, latents = reconstruct(pipe, batch)
    found = psnr(decoded / 2 + 0.5, batch / 2 + 0.5)
    plain = torch.tensor([plan.attributes.style == "none" for plan in plans])
    before, after = judge_images(images, judge), judge_images(list(decoded.add(1).div(2).clamp(0, 1)), judge)
    same = rates(after, [reading.values for reading in before])
    return {
        "psnr": round(found[plain].mean().item(), 2),
        "psnr_styled": round(found[~plain].mean().item(), 2),
        "n": len(plans),
        "judge_agreement": round(float(np.mean([item["share"] for item in same.values()])), 4),
        "agreement": same,
        "channel_std": [round(value, 3) for value in latents.std(dim=(0, 2, 3)).tolist()],
        "channel_mean": [round(value, 3) for value in latents.mean(dim=(0, 2, 3)).tolist()],
        "scaling_factor": pipe.vae.config.scaling_factor,
    }


def score_clip(plans, seed: int = 0, *, clip=None) -> dict:
    """Return zero-shot accuracy by attribute, and the forced choice between a caption and its swapped twin.

    ``zero_shot`` is the mean over the attributes on all ``plans``; ``zero_shot_by_pairs`` tells the portraits whose
    pairs of values all occur in training from those that hold one which never does.
    """
    clip = clip or load_clip()
    pictures = image_features(clip, [draw_portrait(plan).image for plan in plans])
    right = np.stack([_zero_shot(clip, pictures, plans, name) for name in NAMES], axis=1)
    holds_new_pair = np.array([held_out_pair(plan.attributes) is not None for plan in plans])
    groups = {"seen": right[~holds_new_pair], "held_out": right[holds_new_pair]}
    return {
        "zero_shot": round(float(right.mean()), 4),
        "swapped": _swapped_choice(clip, plans, pictures, seed),
        "attributes": {name: share(int(right[:, column].sum()), len(plans)) for column, name in enumerate(NAMES)},
        "zero_shot_by_pairs": {
            name: {"zero_shot": round(float(rows.mean()), 4) if len(rows) else None, "n": len(rows)}
            for name, rows in groups.items()
        },
    }


def _zero_shot(clip, pictures, plans, name) -> np.ndarray:
    """Return of which pictures the closest one-attribute caption of their subject is true, bool [N]."""
    right = np.zeros(len(plans), dtype=bool)
    for subject in VALUES["subject"] if name != "subject" else ("",):
        rows = [i for i, plan in enumerate(plans) if not subject or plan.attributes.subject == subject]
        texts = [_zero_shot_text(name, value, subject, plans[0].world) for value in VALUES[name]]
        best = (pictures[rows] @ text_features(clip, texts).T).argmax(dim=1).tolist() if rows else []
        for row, choice in zip(rows, best, strict=True):
            right[row] = VALUES[name][choice] == getattr(plans[row].attributes, name)
    return right


def _zero_shot_text(name: str, value: str, subject: str, world: str) -> str:
    if name == "subject":
        return f"a {value}"
    return compose({"subject": subject, name: value}, subject, layout=0, world=world).text


def _swapped_choice(clip, plans, pictures, seed) -> dict:
    rng, pairs = np.random.default_rng([seed, 12]), []
    for row, plan in enumerate(plans):
        true = caption(plan, rng, drop=0.0)
        false = swap_captions(true, rng)
        if false is not None:
            pairs.append((row, true.text, false.text))
    rows, trues, falses = zip(*pairs, strict=True)
    chosen = pictures[list(rows)]
    margin = ((text_features(clip, trues) - text_features(clip, falses)) * chosen).sum(dim=1)
    return share(int((margin > 0).sum()), len(pairs))


def score_memorisation(pipe, images, seed: int = 0, training_pictures: int | None = None) -> dict:
    """Compare how near generated pictures and fresh renders come to their nearest training portrait.

    Distances are root mean squares over 32x32 thumbnails, in [0, 1]. Fresh renders pass through the VAE first, so
    that both sides are equally soft. Copies would show as generated distances far below the fresh ones.
    """
    total = training_pictures if training_pictures is not None else _training_size(pipe)
    world = world_of_model(pipe)
    train = torch.cat(
        [
            thumbnails(_training_renders(range(start, min(start + 500, total)), world))
            for start in range(0, total, 500)
        ]
    )
    first = RENDER_SEED + 50_000 + seed * 100_000
    fresh = [plan_portrait(first + index, world=world) for index in range(len(images))]
    soft, _ = reconstruct(pipe, to_batch([draw_portrait(plan).image for plan in fresh]))
    soft = (soft.add(1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()
    generated = torch.cdist(thumbnails([np.asarray(image) for image in images]), train).amin(dim=1)
    control = torch.cdist(thumbnails(list(soft)), train).amin(dim=1)
    near = float((generated < control.quantile(0.01)).float().mean())
    return {
        "training_pictures": total,
        "n": len(images),
        "generated": round(generated.median().item(), 4),
        "fresh": round(control.median().item(), 4),
        "ratio": round((generated.median() / control.median()).item(), 3),
        "nearer_than_fresh_percentile_1": round(near, 4),
    }


def _training_renders(seeds, world):
    return [draw_portrait(plan_portrait(seed, world=world)).image for seed in seeds]


def world_of_model(pipe) -> str:
    """Return the world whose portraits a pipeline was trained on: what its training.json says, else the first."""
    file = Path(str(pipe.name_or_path)) / "training.json"
    return json.loads(file.read_text()).get("world", "first") if file.is_file() else "first"


def _training_size(pipe) -> int:
    file = Path(str(pipe.name_or_path)) / "training.json"
    if not file.is_file():
        raise SdlabError(f"{file} is missing, so the training portraits are unknown: pass training_pictures=N.")
    return json.loads(file.read_text())["portraits"]
