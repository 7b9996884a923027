"""Measure a model on prompts whose truth is known: does the judge see in the picture what the prompt named?

Every accuracy is a fraction with its n and its 95 % Wilson interval. The judge answers a closed world (our own
portraits and words): never rank these figures in one column with open-vocabulary benchmarks such as GenEval.
"""

import math

import numpy as np
import torch

from .attributes import HELD_OUT_PAIRS, NAMES, VALUES
from .captions import Caption, caption, compose, swap_captions
from .drawing import DEFAULT_GUIDANCE, DEFAULT_STEPS, seeded_generators
from .errors import SdlabError
from .judge import judge_images, load_judge
from .portraits import draw_portrait, plan_portrait

PROMPT_SEED = 40_000_000  # training seeds start at 0, the judge's at 20,000,000
RENDER_SEED = 50_000_000
NAMED_ATTRIBUTES = 5


def evaluate(
    model="pocket",
    *,
    n: int = 1000,
    seed: int = 0,
    num_inference_steps: int = DEFAULT_STEPS,
    guidance_scale: float = DEFAULT_GUIDANCE,
    batch_size: int = 50,
    training_pictures: int | None = None,
    progress=None,
) -> dict:
    """Return all scores of a model in one dictionary of plain numbers (what ``sdlab evaluate --json`` prints).

    Args:
        model: a name for ``load_pipeline``, or a pipeline.
        n: pictures drawn for in-distribution prompts (a third more for held-out pairs), and renders judged.
        seed: another seed gives other prompts, noise and renders.
        training_pictures: how many training portraits to search for copies; by default all of them.
        progress: called with one line of text before each part.
    """
    if not isinstance(n, int) or n < 10:
        raise SdlabError(f"n={n!r} must be a whole number of at least 10: fewer pictures say nothing.")
    tell, judge = progress or (lambda line: None), load_judge()
    pipe = _pipeline(model)
    draw = {"num_inference_steps": num_inference_steps, "guidance_scale": guidance_scale, "batch_size": batch_size}
    tell(f"drawing {n} pictures of prompts with {NAMED_ATTRIBUTES} attributes")
    captions = prompts(n, seed)
    images = draw_prompts(pipe, [item.text for item in captions], seed=seed, **draw)
    scores = {"n": n, "seed": seed, **draw, **score_pictures(images, [item.named for item in captions], judge)}
    tell("drawing prompts with a held-out pair")
    scores["held_out"] = _score_held_out(pipe, max(10, n // 3), seed, judge, draw)
    tell("judging renders, reconstructions and captions")
    plans = [plan_portrait(RENDER_SEED + seed * 100_000 + index, split="any") for index in range(n)]
    scores["judge_on_renders"] = score_renders(plans, judge)
    scores["vae"] = score_vae(pipe, plans[: max(64, n // 4)], judge)
    scores["clip"] = score_clip(plans[: max(64, n // 2)], seed)
    tell("searching the training portraits for copies")
    scores["memorisation"] = score_memorisation(pipe, images[:200], seed, training_pictures)
    return scores


def _pipeline(model):
    from .pipeline import load_pipeline

    return load_pipeline(model) if isinstance(model, str) else model


def rate(right: int, n: int) -> dict:
    """Return ``{"accuracy", "n", "interval"}`` with the 95 % Wilson score interval (Wilson 1927).

    >>> rate(98, 100)["interval"]
    [0.93, 0.9945]
    """
    if n == 0:
        return {"accuracy": None, "n": 0, "interval": None}
    share, z = right / n, 1.96
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return {
        "accuracy": round(share, 4),
        "n": n,
        "interval": [round(max(0.0, middle - half), 4), round(min(1.0, middle + half), 4)],
    }


def prompts(n: int, seed: int = 0, *, split: str = "train") -> list[Caption]:
    """Return ``n`` captions that each name the subject and four other attributes; held-out pairs are named whole."""
    rng = np.random.default_rng([seed, 11])
    found = []
    for index in range(n):
        plan = plan_portrait(PROMPT_SEED + seed * 100_000 + index, split=split)
        names = []
        if split == "held_out":
            names = [name for name, _ in _pair_in(plan.attributes) if name != "subject"]
        others = [name for name in rng.permutation(NAMES[1:]).tolist() if name not in names]
        names += others[: NAMED_ATTRIBUTES - 1 - len(names)]
        named = {name: getattr(plan.attributes, name) for name in NAMES if name == "subject" or name in names}
        found.append(
            compose(
                named,
                caption(plan, rng, drop=0.0).word if rng.random() < 0.5 else named["subject"],
                layout=int(rng.integers(2**31)),
            )
        )
    return [_narrow(item) for item in found]


def _narrow(item: Caption) -> Caption:
    return (
        item
        if "subject" in item.named
        else compose(
            {"subject": item.allowed["subject"][0], **item.named}, item.allowed["subject"][0], layout=item.layout
        )
    )


def _pair_in(attributes):
    values = {(name, getattr(attributes, name)) for name in NAMES}
    return next(pair for pair in HELD_OUT_PAIRS if set(pair) <= values)


def draw_prompts(
    pipe,
    texts: list[str],
    *,
    seed: int = 0,
    num_inference_steps: int = DEFAULT_STEPS,
    guidance_scale: float = DEFAULT_GUIDANCE,
    batch_size: int = 50,
) -> list:
    """Return one PIL picture per prompt; picture i starts from noise of its own seed."""
    images = []
    for start in range(0, len(texts), batch_size):
        part = texts[start : start + batch_size]
        generators = seeded_generators(seed * 1_000_000 + start, len(part))
        images += pipe(
            part, num_inference_steps=num_inference_steps, guidance_scale=guidance_scale, generator=generators
        ).images
    return images


def score_pictures(images, wanted: list[dict], judge=None) -> dict:
    """Judge pictures against the attributes their prompts named.

    Returns:
        ``attributes`` (name -> rate), ``joint`` (all named ones right), ``binding`` (eye and shirt colour both right
        where both are named and differ), ``portraits`` (share the judge takes for portraits at all).
    """
    readings = judge_images(images, judge)
    marks = [
        {name: reading.values[name] == value for name, value in named.items()}
        for reading, named in zip(readings, wanted, strict=True)
    ]
    attributes = {
        name: rate(sum(mark[name] for mark in marks if name in mark), sum(name in mark for mark in marks))
        for name in NAMES
    }
    binding = [
        mark["eyes"] and mark["shirt"]
        for mark, named in zip(marks, wanted, strict=True)
        if {"eyes", "shirt"} <= named.keys() and named["eyes"] != named["shirt"]
    ]
    return {
        "attributes": attributes,
        "joint": rate(sum(all(mark.values()) for mark in marks), len(marks)),
        "binding": rate(sum(binding), len(binding)),
        "portraits": rate(sum(reading.is_portrait > 0.5 for reading in readings), len(readings)),
    }


def _score_held_out(pipe, n, seed, judge, draw) -> dict:
    captions = prompts(n, seed, split="held_out")
    images = draw_prompts(pipe, [item.text for item in captions], seed=seed + 500, **draw)
    scores = score_pictures(images, [item.named for item in captions], judge)
    return {"pairs": len(HELD_OUT_PAIRS), **{name: scores[name] for name in ("joint", "binding", "attributes")}}


def score_renders(plans, judge=None) -> dict:
    """Return name -> rate of the judge on renders: the ceiling of every other score."""
    images = [draw_portrait(plan).image for plan in plans]
    readings = judge_images(images, judge)
    return {
        name: rate(
            sum(
                reading.values[name] == getattr(plan.attributes, name)
                for reading, plan in zip(readings, plans, strict=True)
            ),
            len(plans),
        )
        for name in NAMES
    }


def to_batch(images, device="cpu") -> torch.Tensor:
    """Turn uint8 pictures [N, H, W, 3] into floats [N, 3, H, W] in [-1, 1], as the VAE takes them."""
    return torch.from_numpy(np.stack(images)).to(device).permute(0, 3, 1, 2).float() / 127.5 - 1


@torch.inference_mode()
def reconstruct(pipe, batch: torch.Tensor, *, batch_size: int = 32):
    """Return (reconstructions [N, 3, H, W] clipped to [-1, 1], latent means [N, 4, h, w]) of pictures in [-1, 1]."""
    decoded, latents = [], []
    for part in batch.split(batch_size):
        mean = pipe.vae.encode(part.to(pipe.device, pipe.vae.dtype)).latent_dist.mean
        latents.append(mean.float().cpu())
        decoded.append(pipe.vae.decode(mean).sample.float().clamp(-1, 1).cpu())
    return torch.cat(decoded), torch.cat(latents)


def score_vae(pipe, plans, judge=None) -> dict:
    """Return PSNR of unstyled and styled renders, judge agreement on reconstructions, and the channels' statistics."""
    images = [draw_portrait(plan).image for plan in plans]
    batch = to_batch(images)
    decoded, latents = reconstruct(pipe, batch)
    psnr = -10 * ((decoded - batch) / 2).square().mean(dim=(1, 2, 3)).log10()
    plain = torch.tensor([plan.attributes.style == "none" for plan in plans])
    before, after = judge_images(images, judge), judge_images(list(decoded.add(1).div(2).clamp(0, 1)), judge)
    same = {
        name: rate(
            sum(one.values[name] == other.values[name] for one, other in zip(before, after, strict=True)), len(plans)
        )
        for name in NAMES
    }
    return {
        "psnr": round(psnr[plain].mean().item(), 2),
        "psnr_styled": round(psnr[~plain].mean().item(), 2),
        "n": len(plans),
        "judge_agreement": round(float(np.mean([item["accuracy"] for item in same.values()])), 4),
        "agreement": same,
        "channel_std": [round(value, 3) for value in latents.std(dim=(0, 2, 3)).tolist()],
        "channel_mean": [round(value, 3) for value in latents.mean(dim=(0, 2, 3)).tolist()],
        "scaling_factor": pipe.vae.config.scaling_factor,
    }


def score_clip(plans, seed: int = 0) -> dict:
    """Return zero-shot accuracy by attribute, and the forced choice between a caption and its swapped twin."""
    from .clip import image_features, load_clip, text_features

    clip = load_clip()
    pictures = image_features(clip, [draw_portrait(plan).image for plan in plans])
    zero_shot = {}
    for name in NAMES:
        right = 0
        for subject in VALUES["subject"] if name != "subject" else ("",):
            rows = [i for i, plan in enumerate(plans) if not subject or plan.attributes.subject == subject]
            texts = [_zero_shot_text(name, value, subject) for value in VALUES[name]]
            best = (pictures[rows] @ text_features(clip, texts).T).argmax(dim=1).tolist() if rows else []
            right += sum(
                VALUES[name][choice] == getattr(plans[row].attributes, name)
                for row, choice in zip(rows, best, strict=True)
            )
        zero_shot[name] = rate(right, len(plans))
    mean = round(float(np.mean([item["accuracy"] for item in zero_shot.values()])), 4)
    return {"zero_shot": mean, "swapped": _swapped_choice(clip, plans, pictures, seed), "attributes": zero_shot}


def _zero_shot_text(name: str, value: str, subject: str) -> str:
    if name == "subject":
        return f"a {value}"
    return compose({"subject": subject, name: value}, subject, layout=_PLAIN_LAYOUT).text


_PLAIN_LAYOUT = 0


def _swapped_choice(clip, plans, pictures, seed) -> dict:
    from .clip import text_features

    rng, pairs = np.random.default_rng([seed, 12]), []
    for row, plan in enumerate(plans):
        true = caption(plan, rng, drop=0.0)
        false = swap_captions(true, rng)
        if false is not None:
            pairs.append((row, true.text, false.text))
    rows, trues, falses = zip(*pairs, strict=True)
    chosen = pictures[list(rows)]
    margin = ((text_features(clip, trues) - text_features(clip, falses)) * chosen).sum(dim=1)
    return rate(int((margin > 0).sum()), len(pairs))


def score_memorisation(pipe, images, seed: int = 0, training_pictures: int | None = None) -> dict:
    """Compare how near generated pictures and fresh renders come to their nearest training portrait.

    Distances are root mean squares over 32x32 thumbnails, in [0, 1]. Fresh renders pass through the VAE first, so
    that both sides are equally soft. Copies would show as generated distances far below the fresh ones.
    """
    total = training_pictures if training_pictures is not None else _training_size(pipe)
    train = torch.cat(
        [
            thumbnails([draw_portrait(plan_portrait(index)).image for index in range(start, min(start + 500, total))])
            for start in range(0, total, 500)
        ]
    )
    fresh = [plan_portrait(RENDER_SEED + 50_000 + seed * 100_000 + index) for index in range(len(images))]
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


def thumbnails(images) -> torch.Tensor:
    """Return pictures as rows whose Euclidean distance is the root mean square over 32x32 thumbnails in [0, 1]."""
    batch = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255
    small = torch.nn.functional.interpolate(batch, size=(32, 32), mode="area").flatten(1)
    return small / math.sqrt(small.shape[1])


def _training_size(pipe) -> int:
    import json
    from pathlib import Path

    file = Path(str(pipe.name_or_path)) / "training.json"
    if not file.is_file():
        raise SdlabError(f"{file} is missing, so the training portraits are unknown: pass training_pictures=N.")
    return json.loads(file.read_text())["portraits"]
