"""Checks of lab 10: the late start, the strength, the mask, and the loop with both."""

import functools
import math
from types import SimpleNamespace

import torch
from torch.nn import functional

from sdlab.compat import quiet

from .attempt import Pocket
from .compare import difference
from .exercise import Draws, Lab
from .outcome import Wrong
from .without import SCHEDULER

check = Lab("10", "Redraw a part of a picture")

WISH, PEOPLE, STEPS, GUIDANCE = "a person wearing a purple shirt", 6, 5, 4.0
KEPT = ("eyes", "hair", "hat", "scene")


def schedule() -> torch.Tensor:
    """Return Stable Diffusion's alphas_cumprod [1000], from diffusers."""
    from diffusers import DDIMScheduler

    return DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear").alphas_cumprod


def start_of_diffusers(latents, noise, timesteps, strength, alphas_cumprod):
    """Cut as StableDiffusionImg2ImgPipeline.get_timesteps and add noise as DDIMScheduler; no step left: no noise."""
    with quiet():
        from diffusers import DDIMScheduler, StableDiffusionImg2ImgPipeline

    scheduler = DDIMScheduler()
    scheduler.timesteps, scheduler.alphas_cumprod = timesteps, alphas_cumprod
    library = SimpleNamespace(scheduler=scheduler)
    left, _ = StableDiffusionImg2ImgPipeline.get_timesteps(library, len(timesteps), strength, "cpu")
    return left, scheduler.add_noise(latents, noise, left[:1]) if len(left) else latents


def _late(
    latents, noise, timesteps, strength, alphas_cumprod, *, whole=int, first=False, at=0, roots=(0.5, 0.5), turn=False
):
    count = whole(len(timesteps) * strength)
    left = timesteps[:count] if first else timesteps[len(timesteps) - count :]
    if not count:
        return left, latents
    kept = alphas_cumprod[timesteps[0] if at is None else left[min(at, count - 1)]]
    latents, noise = (noise, latents) if turn else (latents, noise)
    return left, kept ** roots[0] * latents + (1 - kept) ** roots[1] * noise


def _noised_at_zero(latents, noise, timesteps, strength, alphas_cumprod):
    left, started = _late(latents, noise, timesteps, strength, alphas_cumprod)
    return left, started if len(left) else _late(latents, noise, timesteps[-1:], 1.0, alphas_cumprod)[1]


@check.exercise(
    start_of_diffusers,
    without=(SCHEDULER,),
    mistakes={
        "cut off what stands after the point of the product, do not round": lambda *a: _late(*a, whole=round),
        "cut off what stands after the point of the product, do not round up": lambda *a: _late(*a, whole=math.ceil),
        "the first steps are left out and the last ones run, not the other way round": lambda *a: _late(*a, first=True),
        "the strength is the share of the steps that run, not of those left out": lambda x, n, t, s, a: _late(
            x, n, t, 1 - s, a
        ),
        "the noise belongs to the first timestep that is left, not to the first of all": lambda *a: _late(*a, at=None),
        "the noise belongs to the first timestep that is left, not to the second": lambda *a: _late(*a, at=1),
        "the noise belongs to the first timestep that is left, not to the last": lambda *a: _late(*a, at=10**6),
        "the roots are missing: sqrt(alphas_cumprod) and sqrt(1 - alphas_cumprod)": lambda *a: _late(*a, roots=(1, 1)),
        "the noise has the factor sqrt(1 - alphas_cumprod), with the root": lambda *a: _late(*a, roots=(0.5, 1)),
        "the latents shrink as the noise comes: they have the factor sqrt(alphas_cumprod)": lambda *a: _late(
            *a, roots=(0, 0.5)
        ),
        "look alphas_cumprod up at the timestep, not at its place in the list": lambda x, n, t, s, a: _late(
            x, n, t, s, a.index_put((t,), a[torch.arange(len(t))])
        ),
        "latents and noise have changed places": lambda *a: _late(*a, turn=True),
        "when no step is left, return the latents without noise": _noised_at_zero,
    },
)
def start_late(draws: Draws):
    """The timesteps that a strength leaves, and latents with the noise that belongs to the first of them."""
    alphas_cumprod = schedule()
    for shape, steps, strength in [
        ((2, 4, 3, 5), 20, 0.35),
        ((1, 4, 6, 2), 50, 0.58),
        ((1, 4, 2, 2), 7, draws.choice([0.6, 0.75, 0.9])),
        ((3, 4, 2, 3), 15, 1.0),
        ((1, 4, 3, 3), 11, 0.0),
        ((1, 4, 3, 3), 20, 0.04),
    ]:
        timesteps = torch.arange(steps).flip(0) * (1000 // steps) + 1
        yield (draws.normal(*shape), draws.normal(*shape), timesteps, strength, alphas_cumprod)
    shape, timesteps = (2, 4, 3, 3), torch.tensor([999, 874, 749, 500, 249, 3])
    latents, noise = (draws.normal(*shape, dtype=torch.float64) for _ in range(2))
    yield (latents, noise, timesteps, draws.uniform(0.55, 0.6), alphas_cumprod.double())


@check.effect
def strength_for(attempt, draws: Draws) -> str:
    """The largest strength that leaves a wanted share of the picture at the start."""
    counts = [20, 49, 15, 7, 50, 200, draws.integer(25, 40)]
    for steps in counts:
        alphas_cumprod = schedule()
        timesteps = torch.arange(steps).flip(0) * (1000 // steps) + 1
        shares = alphas_cumprod[timesteps].sqrt()  # grows: the noisiest timestep comes first
        wanted = [draws.uniform(0.3, 0.6), draws.uniform(0.6, 0.9)]
        for count in (1, steps // 2, steps - 1):  # between two neighbours: just this many timesteps have more
            wanted.append(float(shares[-count - 1 : len(shares) - count + 1].mean()))
        for kept in [*wanted, 1.0, 0.0]:
            _judge_strength(attempt(kept, timesteps, alphas_cumprod), kept, shares, alphas_cumprod[timesteps])
    alphas_cumprod = ((1000 - torch.arange(1000)) / 1024).square()  # another schedule, its roots free of rounding
    timesteps = torch.arange(951, 0, -50)
    for kept in alphas_cumprod[timesteps[::6]].sqrt().tolist():
        strength = attempt(kept, timesteps, alphas_cumprod)
        _judge_strength(strength, kept, alphas_cumprod[timesteps].sqrt(), alphas_cumprod[timesteps])
    return f"the right steps run for {len(counts)} different numbers of steps"


def _judge_strength(strength, kept, shares, squares) -> None:
    if type(strength) not in (int, float) or not 0 <= strength <= 1:
        text = f"{strength:.4f}" if type(strength) in (int, float) else f"{type(strength).__name__}"
        raise Wrong(f"a strength is a plain number from 0 to 1; you returned {text}")
    steps, right, run = len(shares), int((shares >= kept).sum()), int(len(shares) * strength)
    if run == right:
        return
    said = f"with {steps} steps and kept = {kept:.3f}, {right} steps are to run, and int({steps} * strength) is {run}"
    if right == 0:
        raise Wrong(f"{said}: even one step is too much here")
    if run == int((shares > kept).sum()):
        raise Wrong(f"{said}: a timestep at which just this share is left belongs to them")
    if math.isclose(steps * strength, right - 0.5):
        raise Wrong(f"{said}: int() cuts off, so aim half a step above the number of steps, not below")
    if math.isclose(steps * strength, right):
        raise Wrong(
            f"{said}: a computer's {right} / {steps} can be a little too small, so aim between two steps, not at the "
            "very edge"
        )
    if run == int((squares >= kept).sum()):
        raise Wrong(f"{said}: what is left of the picture is the root of alphas_cumprod")
    if run == steps - right:
        raise Wrong(f"{said}: the strength is the share of the steps that run, not of those left out")
    raise Wrong(f"{said}: count the timesteps at which at least this share of the picture is left")


def cells_of_the_course(left, top, right, bottom, factor):
    """Make the mask of a box and count its cells by both rules of ``latent_mask``."""
    from sdlab.image_to_image import latent_mask

    side = factor * 16
    mask = torch.zeros(side, side, dtype=torch.bool)
    mask[top:bottom, left:right] = True
    return {cover: int(latent_mask(mask.numpy(), factor, cover=cover).sum()) for cover in ("any", "corner")}


def _up(x, f):
    return -(-x // f)


def _cells(left, top, right, bottom, f, *, touched=None, corners=None):
    touched = touched or (lambda low, high: _up(high, f) - low // f)
    corners = corners or (lambda low, high: _up(high, f) - _up(low, f))
    sides = [(left, right), (top, bottom)]
    return {"any": math.prod(touched(*s) for s in sides), "corner": math.prod(corners(*s) for s in sides)}


@check.exercise(
    cells_of_the_course,
    mistakes={
        "the place of the box counts too: a box as wide as a cell can touch two of them": lambda a, b, c, d, f: _cells(
            a, b, c, d, f, touched=lambda low, high: _up(high - low, f)
        ),
        "these cells lie wholly inside; a cell counts if any of its pixels is masked": lambda a, b, c, d, f: _cells(
            a, b, c, d, f, touched=lambda low, high: max(0, high // f - _up(low, f))
        ),
        "the pixels right and bottom no longer belong to the box": lambda a, b, c, d, f: _cells(
            a,
            b,
            c,
            d,
            f,
            touched=lambda low, high: high // f + 1 - low // f,
            corners=lambda x, y: y // f + 1 - _up(x, f),
        ),
        "count the cells at both ends: from the one of the first pixel to the one of the last": lambda a, b, c, d, f: (
            _cells(a, b, c, d, f, touched=lambda low, high: (high - 1) // f - low // f)
        ),
        "'corner': a corner pixel at the very left or top of the box is in it": lambda a, b, c, d, f: _cells(
            a, b, c, d, f, corners=lambda low, high: _up(high, f) - low // f - 1
        ),
        "'corner': count the multiples of factor from left to right - 1": lambda a, b, c, d, f: _cells(
            a, b, c, d, f, corners=lambda low, high: high // f - low // f
        ),
        "'corner': not every corner in the box is that of a cell that lies wholly in it": lambda a, b, c, d, f: _cells(
            a, b, c, d, f, corners=lambda low, high: max(0, high // f - _up(low, f))
        ),
        "the factor is an argument, not always 8": lambda a, b, c, d, f: _cells(a, b, c, d, 8),
        "a box need not touch one cell more than fit into its width": lambda a, b, c, d, f: _cells(
            a, b, c, d, f, touched=lambda low, high: _up(high - low, f) + 1
        ),
        "'corner': the place of the box counts too, not only its width": lambda a, b, c, d, f: _cells(
            a, b, c, d, f, corners=lambda low, high: (high - low) // f
        ),
        "rows and columns are counted each by themselves: a box need not be square": lambda a, b, c, d, f: _cells(
            a, a, c, c, f
        ),
        "multiply the two sides, do not add them": lambda a, b, c, d, f: {
            name: _cells(a, 0, c, 1, f)[name] + _cells(0, b, 1, d, f)[name] for name in ("any", "corner")
        },
        "'any' and 'corner' have changed places": lambda *a: dict(
            zip(("any", "corner"), list(_cells(*a).values())[::-1], strict=True)
        ),
    },
)
def predict_cells(draws: Draws):
    """How many cells of the latents a box of pixels means, by two rules."""
    yield (40, 96, 88, 128, 8)
    yield (3, 6, 12, 9, 8)
    yield (9, 17, 15, 23, 8)
    yield (8, 16, 17, 33, 8)
    for factor in (8, 4, 8):
        left, top = draws.integer(0, 7 * factor), draws.integer(0, 7 * factor)
        yield (left, top, left + draws.integer(2, 8 * factor), top + draws.integer(2, 8 * factor), factor)


def grown_by_pooling(mask, factor, margin):
    """Return the cells with any masked pixel, and those up to ``margin`` cells from them, by max pooling."""
    cells = functional.max_pool2d(mask[:, None].float(), factor)
    return functional.max_pool2d(cells, 2 * margin + 1, stride=1, padding=margin)


def _mask(mask, factor, margin, *, cells=None, grow=None):
    tiles = mask[:, None].float()
    tiles = functional.max_pool2d(tiles, factor) if cells is None else cells(tiles, factor)
    return functional.max_pool2d(tiles, 2 * margin + 1, stride=1, padding=margin) if grow is None else grow(tiles)


def _cross(cells, margin):
    for _ in range(margin):
        across = functional.max_pool2d(cells, (1, 3), stride=1, padding=(0, 1))
        cells = torch.maximum(across, functional.max_pool2d(cells, (3, 1), stride=1, padding=(1, 0)))
    return cells


@check.exercise(
    grown_by_pooling,
    mistakes={
        "the margin is missing: the cells around belong to it too": lambda m, f, g: _mask(m, f, 0),
        "that is the rule of one pixel a cell: small things fall through it": lambda *a: _mask(
            *a, cells=lambda m, f: m[..., ::f, ::f]
        ),
        "a cell counts if any of its pixels is masked, not only if most are": lambda *a: _mask(
            *a, cells=lambda m, f: (functional.avg_pool2d(m, f) > 0.5).float()
        ),
        "a cell counts if any of its pixels is masked, not only if all are": lambda *a: _mask(
            *a, cells=lambda m, f: -functional.max_pool2d(-m, f)
        ),
        "the mask must stay 0 or 1: a share of masked pixels is neither": lambda *a: _mask(
            *a, cells=lambda m, f: functional.avg_pool2d(m, f)
        ),
        "1 means redraw, so the mask must not be turned round": lambda *a: 1 - _mask(*a),
        "the margin is an argument, not always 1": lambda m, f, g: _mask(m, f, min(g, 1)),
        "the masked cells belong to it too, not only the margin around them": lambda *a: _mask(*a) - _mask(*a[:2], 0),
        "the mask must stay 0 or 1: masked neighbours are not counted": lambda m, f, g: _mask(
            m, f, g, grow=lambda cells: functional.avg_pool2d(cells, 2 * g + 1, 1, g, divisor_override=1)
        ),
        "the margin is counted in cells, not in pixels": lambda m, f, g: functional.max_pool2d(
            functional.max_pool2d(m[:, None].float(), 2 * g + 1, stride=1, padding=g), f
        ),
        "the cells that touch only at a corner belong to the margin too": lambda m, f, g: _mask(
            m, f, g, grow=lambda cells: _cross(cells, g)
        ),
        "the margin is too wide: a window of 2 * margin + 1 cells reaches margin cells to each side": lambda m, f, g: (
            _mask(m, f, 2 * g)
        ),
    },
)
def mask_to_cells(draws: Draws):
    """Cells of the latents for masks of pixels, with a margin."""
    for n, height, width, factor, margin, density in [
        (1, 64, 96, 8, 1, 0.001), (3, 48, 40, 8, 0, 0.01), (2, 80, 88, 8, 2, 0.0005), (2, 36, 24, 4, 1, 0.01)
    ]:  # fmt: skip
        mask = torch.rand(n, height, width, generator=draws.generator) < density
        mask[:, height // 2 + 1, width // 2 + 3] = True  # a single pixel, not the corner of its cell
        mask[:, factor : 2 * factor + 3, : factor + 1] = True
        yield (mask, factor, margin)
    yield (torch.zeros(1, 16, 24, dtype=torch.bool), 8, 1)


def ddim(pipe, num_inference_steps: int):
    """Return the lesson's scheduler for ``pipe``, set to so many steps."""
    from diffusers import DDIMScheduler

    scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
    scheduler.set_timesteps(num_inference_steps)
    return scheduler


@functools.lru_cache(maxsize=2)
def people(seed: int = 0, count: int = PEOPLE) -> SimpleNamespace:
    """Return portraits that the model does not know: images, latents, noise, cells of the shirt, embeddings."""
    from sdlab import encode, encode_prompt
    from sdlab.image_to_image import latent_mask
    from sdlab.images import to_batch

    from ..portraits import draw_portrait, plan_portrait

    pipe = Pocket().resolve()
    plans = (plan_portrait(60_000_200 + 1000 * seed + number) for number in range(200))
    plans = [plan for plan in plans if plan.attributes.style == "none" and plan.attributes.shirt != "purple"][:count]
    portraits = [draw_portrait(plan, masks=True) for plan in plans]
    latents = encode(pipe, to_batch([portrait.image for portrait in portraits]))
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(seed))
    cells = torch.cat([latent_mask(portrait.masks["shirt"]) for portrait in portraits])
    embeds = encode_prompt(pipe, WISH, num_images=count)
    images = [portrait.image for portrait in portraits]
    return SimpleNamespace(images=images, latents=latents, noise=noise, cells=cells, embeds=embeds)


def arguments(given, scheduler, strength: float, count: int = PEOPLE) -> tuple:
    """Return what ``redraw`` is called with, but for the pipeline, for the first ``count`` of some people."""
    rows = (given.latents[:count], given.noise[:count], given.cells[:count])
    return (scheduler, *rows, *(one[:count] for one in given.embeds), strength, GUIDANCE)


TWO, NEGATIVE, WEAK = [WISH, "a cat wearing a yellow shirt"], "a man", 2.5
FEW = {0.75: 5, 1.0: 2}  # strength -> number of steps


@functools.lru_cache(maxsize=4)
def _two(seed: int, strength: float) -> tuple:
    """Return what ``redraw`` is called with for two portraits, each with its own prompt."""
    pipe = Pocket().resolve()
    scheduler, *rows = arguments(people(seed), ddim(pipe, FEW[strength]), strength, 2)[:4]
    with torch.no_grad():
        embeds = pipe.encode_prompt(TWO, pipe.device, 1, True, negative_prompt=[NEGATIVE] * 2)
    return (scheduler, *rows, *embeds, strength, WEAK)


@functools.lru_cache(maxsize=2)
def _library_latents(seed: int) -> torch.Tensor:
    """Return two portraits redrawn by the course's own loop, which its tests hold against diffusers."""
    from sdlab import use_sampler
    from sdlab.image_to_image import redraw_latents

    _, clean, noise, cells, _, _, strength, scale = _two(seed, 0.75)
    settings = {"strength": strength, "num_inference_steps": FEW[0.75], "guidance_scale": scale, "mask": cells}
    with use_sampler(pipe := Pocket().resolve(), "ddim"):
        return redraw_latents(pipe, clean, noise, TWO, negative_prompt=NEGATIVE, **settings)


@functools.lru_cache(maxsize=2)
def _whole_latents(seed: int) -> torch.Tensor:
    """Return two portraits redrawn at strength 1, where the course's loop would start from noise alone."""
    return _redraw(Pocket().resolve(), *_two(seed, 1.0))


@torch.no_grad()
def _redraw(pipe, scheduler, clean, noise, cells, text, negative, strength, scale, *, count=None, pure=False,
            when="each", level="next", order=1, base="uncond"):  # fmt: skip
    steps = len(scheduler.timesteps)
    timesteps = scheduler.timesteps[steps - (count or (lambda product: int(product)))(steps * strength) :]
    sample = noise if pure else scheduler.add_noise(clean, noise, timesteps[:1])
    for number, t in enumerate(timesteps):
        rows, embeds = torch.cat([sample, sample]), torch.cat([negative, text])
        uncond, cond = pipe.unet(rows, t, encoder_hidden_states=embeds).sample.chunk(2)[::order]
        noise_pred = {"uncond": uncond, "text": cond}[base] + scale * (cond - uncond)
        sample = scheduler.step(noise_pred, t, sample).prev_sample
        last = number == len(timesteps) - 1
        at = timesteps[number : number + 1] if level == "this" else timesteps[number + 1 : number + 2]
        known = clean if level == "clean" or (last and level == "next") else scheduler.add_noise(clean, noise, at)
        if when == "each" or (when == "end" and last):
            sample = cells * sample + (1 - cells) * known
    return sample


MISTAKES = {
    "the strength is ignored: all steps run": {"count": lambda product: FEW[0.75]},
    "cut off what stands after the point of steps * strength, do not round": {"count": round},
    "start with the noised picture, not with noise alone": {"pure": True},
    "the mask is not used": {"when": "never"},
    "the mask must act in every step, not only at the end": {"when": "end"},
    "the kept part must be as noisy as the rest: give it the noise of the next timestep": {"level": "clean"},
    "after a step the kept part needs the noise of the next timestep, and none at the end": {"level": "this"},
    "the two halves are mixed up: which rows had the prompt": {"order": -1},
    "the push starts from the prediction without the prompt, not from that with it": {"base": "text"},
}


@functools.lru_cache(maxsize=2)
def _made_by_mistake(seed: int) -> dict:
    """Return hint -> the latents that this mistake leads to."""
    pipe = Pocket().resolve()
    names = ("scheduler", "clean", "noise", "cells", "text", "negative", "strength", "scale")
    given = dict(zip(names, _two(seed, 0.75), strict=True))
    empty = people(seed).embeds[1][:2]
    others = {
        "the guidance is missing: the latents are those of the prompt alone": {"scale": 1.0},
        "guidance_scale is an argument, not always 4": {"scale": 4.0},
        "the mask is turned round: 1 is where the picture is redrawn": {"cells": 1 - given["cells"]},
        "every picture has its own mask": {"cells": given["cells"][:1]},
        "every picture has its own noise": {"noise": given["noise"][:1].expand_as(given["noise"])},
        "every picture has its own prompt": {"text": given["text"][:1].expand_as(given["text"])},
        "use negative_prompt_embeds: they need not be those of the empty sentence": {"negative": empty},
    }
    found = {hint: _redraw(pipe, **given, **options) for hint, options in MISTAKES.items()}
    return found | {hint: _redraw(pipe, **given | other) for hint, other in others.items()}


@check.effect
def redraw(attempt, draws: Draws) -> str:
    """The late loop with a mask: identity at strength 0, equal to the course's, and what is asked for arrives."""
    given, pipe = people(draws.seed), Pocket().resolve()
    latents = attempt(Pocket(), *_two(draws.seed, 0.75))
    if said := difference(latents, _library_latents(draws.seed), atol=1e-2, rtol=1e-2):
        raise Wrong(_hint(latents, draws.seed) or f"compared with the course's own loop after three steps: {said}")
    latents = attempt(Pocket(), *_two(draws.seed, 1.0))
    if said := difference(latents, _whole_latents(draws.seed), atol=1e-2, rtol=1e-2):
        raise Wrong(f"at strength 1 too the loop starts with the noised picture, and then runs all steps: {said}")
    same = attempt(Pocket(), *arguments(given, ddim(pipe, 4), 0.0, 2))
    if said := difference(same, given.latents[:2]):
        raise Wrong(f"strength 0 runs no step and must return the latents as they came: {said}")
    latents = attempt(Pocket(), *arguments(given, ddim(pipe, STEPS), 1.0))
    if not isinstance(latents, torch.Tensor) or latents.shape != given.latents.shape:
        raise Wrong("for two portraits it works, but for six of them the latents have another shape")
    if difference(latents * (1 - given.cells), given.latents * (1 - given.cells)):
        raise Wrong("at the end the latents outside the mask must be those of the picture, in every row of the batch")
    return _judge(latents, given)


def _hint(latents, seed: int) -> str | None:
    if not isinstance(latents, torch.Tensor) or latents.shape != _library_latents(seed).shape:
        return None
    made = _made_by_mistake(seed).items()
    return next((hint for hint, one in made if difference(latents, one, atol=1e-2, rtol=1e-2) is None), None)


def _judge(latents, given) -> str:
    purple, kept = seen(latents, given.latents)
    least, most = PEOPLE * 2 // 3, PEOPLE * len(KEPT)
    if purple < least:
        raise Wrong(f"the judge sees a purple shirt in {purple} of {PEOPLE} portraits, and {least} are asked for")
    if kept < 0.8 * most:
        raise Wrong(f"of {most} things that the prompt does not name only {kept} are as they were before")
    return f"at least {least} of {PEOPLE} shirts are purple, and eyes, hair, hat and place are kept"


def seen(latents, before) -> tuple[int, int]:
    """Return how many shirts are purple, and how many of eyes, hair, hat and scene are as in ``before``."""
    from sdlab import decode

    from ..judging import judge_images

    readings = judge_images(list(decode(Pocket().resolve(), torch.cat([latents, before]))))
    new, old = readings[: len(latents)], readings[len(latents) :]
    kept = sum(a.values[name] == b.values[name] for a, b in zip(new, old, strict=True) for name in KEPT)
    return sum(reading.values["shirt"] == "purple" for reading in new), kept
