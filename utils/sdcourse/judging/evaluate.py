"""Measure a model on prompts whose truth is known: does the judge see in the picture what the prompt named?

Every accuracy is a fraction with its n and its 95 % Wilson interval. The judge answers a closed world (our own
portraits and words): never rank these figures in one column with open-vocabulary benchmarks such as GenEval.
"""

import numpy as np

from sdlab import SdlabError, load_pipeline, seeded_generators
from sdlab.drawing import DEFAULT_GUIDANCE, DEFAULT_STEPS
from sdlab.images import to_batch

from ..portraits import HELD_OUT_PAIRS, NAMES, caption, compose, draw_portrait, plan_portrait
from ..portraits.captions import Caption
from .clip import CLIP_FOLDER, load_clip
from .intervals import share
from .judge import JUDGE_FOLDER, judge_images, load_judge
from .looks import edge_agreement, edge_ratio, picture_distances, score_half_painted, two_hued
from .scores import (
    RENDER_SEED,
    rates,
    reconstruct,
    score_clip,
    score_memorisation,
    score_renders,
    score_vae,
    world_of_model,
)
from .words import score_words

PROMPT_SEED = 40_000_000  # training seeds start at 0, the judge's at 20,000,000
NAMED_ATTRIBUTES = 5
FEW_STEPS = 4  # of DPM-Solver++ (2M) with trailing time steps


def evaluate(
    model="pocket",
    *,
    n: int = 1000,
    seed: int = 0,
    num_inference_steps: int = DEFAULT_STEPS,
    guidance_scale: float = DEFAULT_GUIDANCE,
    batch_size: int = 50,
    training_pictures: int | None = None,
    judge_folder=JUDGE_FOLDER,
    clip_folder=CLIP_FOLDER,
    progress=None,
) -> dict:
    """Return all scores of a model in one dictionary of plain numbers (what ``sdlab evaluate --json`` prints).

    Args:
        model: a name for ``load_pipeline``, or a pipeline.
        n: pictures drawn for in-distribution prompts (a third more for held-out pairs), and renders judged.
        seed: another seed gives other prompts, noise and renders.
        training_pictures: how many training portraits to search for copies; by default all of them.
        judge_folder, clip_folder: the judge and the CLIP that read the pictures; by default the shipped ones.
        progress: called with one line of text before each part.
    """
    if not isinstance(n, int) or n < 10:
        raise SdlabError(f"n={n!r} must be a whole number of at least 10: fewer pictures say nothing.")
    tell, judge, clip = progress or (lambda line: None), load_judge(judge_folder), load_clip(clip_folder)
    pipe = _pipeline(model)
    world = world_of_model(pipe)
    draw = {"num_inference_steps": num_inference_steps, "guidance_scale": guidance_scale, "batch_size": batch_size}
    tell(f"drawing {n} pictures of prompts with {NAMED_ATTRIBUTES} attributes")
    captions = prompts(n, seed, world=world)
    images = draw_prompts(pipe, [item.text for item in captions], seed=seed, **draw)
    scores = {"n": n, "seed": seed, "world": world, **draw}
    scores |= score_pictures(images, [item.named for item in captions], judge)
    tell("drawing prompts with a held-out pair")
    scores["held_out"] = _score_held_out(pipe, max(10, n // 3), seed, judge, draw)
    tell("judging renders, reconstructions and captions")
    first = RENDER_SEED + seed * 100_000
    plans = [plan_portrait(first + index, split="any", world=world) for index in range(n)]
    scores["judge_on_renders"] = score_renders(plans, judge)
    scores["vae"] = score_vae(pipe, plans[: max(64, n // 4)], judge)
    scores["clip"] = score_clip(plans[: max(64, n // 2)], seed, clip=clip)
    tell("looking at edges, strokes and eyes")
    scores["looks"] = score_looks(pipe, captions, images, plans, judge=judge, clip=clip)
    scores["few_steps"] = score_few_steps(pipe, captions, judge, seed=seed, guidance_scale=guidance_scale)
    scores["words"] = score_words(pipe)
    tell("searching the training portraits for copies")
    scores["memorisation"] = score_memorisation(pipe, images[:200], seed, training_pictures)
    return scores


def score_looks(pipe, captions, images, plans, *, judge, clip) -> dict:
    """Return what the judge's scores do not see, each with n and an interval.

    ``frechet`` (beside its floor, render against render, and the VAE alone), ``edge_strength`` (drawn over renders),
    ``vae_edges`` (F1 of the outlines of reconstructions), ``half_painted`` (of the prompts that ask for a cartoon or
    name no painter, as two readers see it) and ``two_hued`` eyes.
    """
    world, drawn = plans[0].world, [np.asarray(image) for image in images]
    renders = [draw_portrait(plan).image for plan in plans[: len(drawn)]]
    first = plans[0].seed + 500_000_000
    others = [draw_portrait(plan_portrait(first + i, split="any", world=world)).image for i in range(len(drawn))]
    decoded = reconstruct(pipe, to_batch(renders))[0].add(1).mul(127.5).round().byte().permute(0, 2, 3, 1).numpy()
    cartoons = [
        picture
        for picture, item in zip(drawn, captions, strict=True)
        if item.allowed.get("style", ("none",)) == ("none",)
    ]
    return {
        "frechet": picture_distances(clip, drawn, renders, others, list(decoded)),
        "edge_strength": edge_ratio(drawn, renders),
        "vae_edges": edge_agreement(decoded, renders),
        "half_painted": score_half_painted(cartoons, judge=judge, clip=clip, world=world) if cartoons else None,
        "two_hued": two_hued(drawn, world=world),
    }


def score_few_steps(pipe, captions, judge=None, *, seed: int = 0, guidance_scale: float = DEFAULT_GUIDANCE) -> dict:
    """Return the share with all five attributes right, drawn in ``FEW_STEPS`` calls of dpm with trailing time steps."""
    from diffusers import DPMSolverMultistepScheduler

    own = pipe.scheduler
    try:
        pipe.scheduler = DPMSolverMultistepScheduler.from_config(own.config, timestep_spacing="trailing")
        options = {"num_inference_steps": FEW_STEPS, "guidance_scale": guidance_scale}
        images = draw_prompts(pipe, [item.text for item in captions], seed=seed, **options)
    finally:
        pipe.scheduler = own
    scores = score_pictures(images, [item.named for item in captions], judge)
    return {"sampler": "dpm, trailing", "num_inference_steps": FEW_STEPS, "joint": scores["joint"]}


def _pipeline(model):
    return load_pipeline(model) if isinstance(model, str) else model


def prompts(n: int, seed: int = 0, *, split: str = "train", world: str | None = None) -> list[Caption]:
    """Return ``n`` captions that each name the subject and four other attributes; held-out pairs are named whole.

    world: whose words they take (see ``portraits.worlds``).
    """
    rng = np.random.default_rng([seed, 11])
    found = []
    for index in range(n):
        plan = plan_portrait(PROMPT_SEED + seed * 100_000 + index, split=split, world=world)
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
                world=world,
            )
        )
    return [_narrow(item) for item in found]


def _narrow(item: Caption) -> Caption:
    return (
        item
        if "subject" in item.named
        else compose(
            {"subject": item.allowed["subject"][0], **item.named},
            item.allowed["subject"][0],
            layout=item.layout,
            world=item.world,
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
    binding = [
        mark["eyes"] and mark["shirt"]
        for mark, named in zip(marks, wanted, strict=True)
        if {"eyes", "shirt"} <= named.keys() and named["eyes"] != named["shirt"]
    ]
    return {
        "attributes": rates(readings, wanted),
        "joint": share(sum(all(mark.values()) for mark in marks), len(marks)),
        "binding": share(sum(binding), len(binding)),
        "portraits": share(sum(reading.is_portrait > 0.5 for reading in readings), len(readings)),
    }


def _score_held_out(pipe, n, seed, judge, draw) -> dict:
    captions = prompts(n, seed, split="held_out", world=world_of_model(pipe))
    images = draw_prompts(pipe, [item.text for item in captions], seed=seed + 500, **draw)
    scores = score_pictures(images, [item.named for item in captions], judge)
    return {"pairs": len(HELD_OUT_PAIRS), **{name: scores[name] for name in ("joint", "binding", "attributes")}}
