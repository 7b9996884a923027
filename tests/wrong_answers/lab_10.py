"""Wrong answers to lab 10."""

import math

import torch
import torch.nn.functional as F


def late(count=None, cut=None, at=None, mix=None, empty=True):
    """Start late with one thing done differently."""

    def start_late(latents, noise, timesteps, strength, alphas_cumprod):
        n = len(timesteps)
        run = (count or (lambda n, strength: int(n * strength)))(n, strength)
        left = cut(timesteps, run) if cut else timesteps[n - run :]
        if run == 0 and empty:
            return left, latents
        t = at(timesteps, left) if at else left[0] if run else timesteps[-1]
        a = alphas_cumprod[t]
        return left, mix(latents, noise, a) if mix else a.sqrt() * latents + (1 - a).sqrt() * noise

    return start_late


def late_by_timestep(latents, noise, timesteps, strength, alphas_cumprod):
    left = timesteps[timesteps < 1000 * strength]
    if not len(left):
        return left, latents
    a = alphas_cumprod[left[0]]
    return left, a.sqrt() * latents + (1 - a).sqrt() * noise


def late_without_the_end(latents, noise, timesteps, strength, alphas_cumprod):
    left = timesteps[len(timesteps) - int(len(timesteps) * strength) :]
    a = alphas_cumprod[left[0]]
    return left, a.sqrt() * latents + (1 - a).sqrt() * noise


def late_with_a_minus(latents, noise, timesteps, strength, alphas_cumprod):
    left = timesteps[-int(len(timesteps) * strength) :]
    a = alphas_cumprod[left[0]]
    return left, a.sqrt() * latents + (1 - a).sqrt() * noise


def late_in_place(latents, noise, timesteps, strength, alphas_cumprod):
    latents *= alphas_cumprod[500]
    return timesteps, latents


def enough(kept, timesteps, alphas_cumprod):
    return int((alphas_cumprod[timesteps].sqrt() >= kept).sum())


def at_the_edge(kept, timesteps, alphas_cumprod):
    return enough(kept, timesteps, alphas_cumprod) / len(timesteps)


def without_the_root(kept, timesteps, alphas_cumprod):
    count = int((alphas_cumprod[timesteps] >= kept).sum())
    return min(1.0, (count + 0.5) / len(timesteps))


def share_left_out(kept, timesteps, alphas_cumprod):
    return min(1.0, 1 - (enough(kept, timesteps, alphas_cumprod) - 0.5) / len(timesteps))


def above_one(kept, timesteps, alphas_cumprod):
    return (enough(kept, timesteps, alphas_cumprod) + 0.5) / len(timesteps)


def one_step_more(kept, timesteps, alphas_cumprod):
    return min(1.0, (enough(kept, timesteps, alphas_cumprod) + 1.5) / len(timesteps))


def at_least_one_step(kept, timesteps, alphas_cumprod):
    return min(1.0, (max(1, enough(kept, timesteps, alphas_cumprod)) + 0.5) / len(timesteps))


def more_than_that(kept, timesteps, alphas_cumprod):
    return min(1.0, (int((alphas_cumprod[timesteps].sqrt() > kept).sum()) + 0.5) / len(timesteps))


def half_a_step_below(kept, timesteps, alphas_cumprod):
    return max(0.0, (enough(kept, timesteps, alphas_cumprod) - 0.5) / len(timesteps))


def strength_as_tensor(kept, timesteps, alphas_cumprod):
    return (alphas_cumprod[timesteps].sqrt() >= kept).float().mean()


def box(side, corner):
    """Count cells side by side: side and corner are functions of (first pixel, pixel after the last, factor)."""

    def predict_cells(left, top, right, bottom, factor):
        return {
            "any": side(left, right, factor) * side(top, bottom, factor),
            "corner": corner(left, right, factor) * corner(top, bottom, factor),
        }

    return predict_cells


def touched(low, high, f):
    return (high - 1) // f - low // f + 1


def corners(low, high, f):
    return len([x for x in range(low, high) if x % f == 0])


def inside(low, high, f):
    return max(0, high // f - math.ceil(low / f))


def sums(count, left, top, right, bottom, f):
    return count(left, right, f) + count(top, bottom, f)


def swapped_keys(*given):
    right = box(touched, corners)(*given)
    return {"any": right["corner"], "corner": right["any"]}


def cells_by(pool, grow=None):
    def mask_to_cells(mask, factor, margin):
        cells = pool(mask.unsqueeze(1).float(), factor)
        if grow:
            return grow(cells, margin)
        return F.max_pool2d(cells, 2 * margin + 1, stride=1, padding=margin)

    return mask_to_cells


def grow_like_a_plus(cells, margin):
    plus = torch.tensor([[0.0, 1, 0], [1, 1, 1], [0, 1, 0]])[None, None]
    for _ in range(margin):
        cells = (F.conv2d(cells, plus, padding=1) > 0).float()
    return cells


def only_the_margin(mask, factor, margin):
    return cells_by(F.max_pool2d)(mask, factor, margin) - cells_by(F.max_pool2d)(mask, factor, 0)


def counted_neighbours(cells, margin):
    side = 2 * margin + 1
    return F.conv2d(cells, torch.ones(1, 1, side, side), padding=margin)


def margin_in_pixels(mask, factor, margin):
    grown = F.max_pool2d(mask[:, None].float(), 2 * margin + 1, 1, margin)
    return F.max_pool2d(grown, factor)


def as_bool(mask, factor, margin):
    return cells_by(F.max_pool2d)(mask, factor, margin) > 0


def without_a_channel(mask, factor, margin):
    return cells_by(F.max_pool2d)(mask, factor, margin)[:, 0]


@torch.no_grad()
def loop(
    pipe, scheduler, latents, noise, cells, prompt_embeds, negative_prompt_embeds, strength, guidance_scale, *,
    run=None, start=None, known=None, guide=None, blend=True, finish=False,
):  # fmt: skip
    """Redraw in the right way but for what is given."""
    n = len(scheduler.timesteps)
    timesteps = scheduler.timesteps[n - (int(n * strength) if run is None else run(n)) :]
    if len(timesteps) == 0:
        return latents
    x = scheduler.add_noise(latents, noise, timesteps[:1]) if start is None else start(latents, noise)
    for i, t in enumerate(timesteps):
        a = pipe.unet(x, t, encoder_hidden_states=negative_prompt_embeds).sample
        b = pipe.unet(x, t, encoder_hidden_states=prompt_embeds).sample
        noise_pred = a + guidance_scale * (b - a) if guide is None else guide(a, b, guidance_scale)
        x = scheduler.step(noise_pred, t, x).prev_sample
        t_next = timesteps[i + 1 : i + 2]
        old = scheduler.add_noise(latents, noise, t_next) if len(t_next) else latents
        old = old if known is None else known(scheduler, latents, noise, t)
        x = cells * x + (1 - cells) * old if blend else x
    return cells * x + (1 - cells) * latents if finish else x


def looping(**options):
    return lambda *given: loop(*given, **options)


def loop_with_the_mask_turned(pipe, scheduler, latents, noise, cells, *rest):
    return loop(pipe, scheduler, latents, noise, 1 - cells, *rest)


def loop_for_one(pipe, scheduler, latents, noise, cells, text, negative, *rest):
    one = loop(pipe, scheduler, latents[:1], noise[:1], cells[:1], text[:1], negative[:1], *rest)
    return one.expand_as(latents)


def loop_with_one_noise(pipe, scheduler, latents, noise, *rest):
    return loop(pipe, scheduler, latents, torch.stack([noise[0]] * len(noise)), *rest)


def loop_with_one_prompt(pipe, scheduler, latents, noise, cells, text, *rest):
    return loop(pipe, scheduler, latents, noise, cells, torch.stack([text[0]] * len(text)), *rest)


def loop_with_the_empty_sentence(pipe, scheduler, latents, noise, cells, text, negative, *rest):
    empty = pipe.encode_prompt("", pipe.device, len(latents), False)[0]
    return loop(pipe, scheduler, latents, noise, cells, text, empty, *rest)


def loop_that_rounds(*given):
    return loop(*given, run=lambda steps: round(steps * given[7]))


def loop_from_noise_at_strength_1(*given):
    return loop(*given, start=(lambda latents, noise: noise) if given[7] == 1 else None)


def loop_of_one_step_or_more(*given):
    return loop(*given, run=lambda steps: max(1, int(steps * given[7])))


def only_one_mask(pipe, scheduler, latents, noise, cells, *rest):
    return loop(pipe, scheduler, latents, noise, cells[:1], *rest)


WRONG = {
    "start_late": [
        ("do not round (", late(count=lambda n, strength: round(n * strength))),
        ("do not round up", late(count=lambda n, strength: math.ceil(n * strength))),
        ("not the other way round", late(cut=lambda timesteps, run: timesteps[:run])),
        ("not of those left out", late(count=lambda n, strength: int(n * (1 - strength)))),
        ("not to the first of all", late(at=lambda timesteps, left: timesteps[0])),
        ("not to the last", late(at=lambda timesteps, left: left[-1])),
        ("roots are missing", late(mix=lambda x, e, a: a * x + (1 - a) * e)),
        ("with the root", late(mix=lambda x, e, a: a**0.5 * x + (1 - a) * e)),
        ("latents shrink", late(mix=lambda x, e, a: x + (1 - a).sqrt() * e)),
        ("its place in the list", late(at=lambda timesteps, left: timesteps.tolist().index(left[0]))),
        ("changed places", late(mix=lambda x, e, a: a.sqrt() * e + (1 - a).sqrt() * x)),
        ("without noise", late(empty=False)),
        ("expected the shape", late_by_timestep),
        ("IndexError", late_without_the_end),
        ("expected the shape", late_with_a_minus),
        ("in place", late_in_place),
    ],
    "strength_for": [
        ("very edge", at_the_edge),
        ("the root of alphas_cumprod", without_the_root),
        ("not of those left out", share_left_out),
        ("from 0 to 1", above_one),
        ("count the timesteps", one_step_more),
        ("plain number", strength_as_tensor),
        ("count the timesteps", lambda kept, timesteps, alphas_cumprod: 1 - kept),
        ("count the timesteps", lambda kept, timesteps, alphas_cumprod: 0.5),
        ("even one step", at_least_one_step),
        ("just this share", more_than_that),
        ("not below", half_a_step_below),
        ("steps are to run", lambda *given: round(min(1.0, above_one(*given)), 2)),
    ],
    "predict_cells": [
        ("the place of the box counts", box(lambda low, high, f: math.ceil((high - low) / f), corners)),
        ("lie wholly inside", box(inside, corners)),
        (
            "no longer belong",
            box(lambda low, high, f: high // f - low // f + 1, lambda low, high, f: corners(low, high + 1, f)),
        ),
        ("at both ends", box(lambda low, high, f: touched(low, high, f) - 1, corners)),
        ("very left or top", box(touched, lambda low, high, f: touched(low, high, f) - 1)),
        ("count the multiples", box(touched, lambda low, high, f: high // f - low // f)),
        ("not every corner", box(touched, inside)),
        ("not always 8", lambda *given: box(touched, corners)(*given[:4], 8)),
        ("need not touch", box(lambda low, high, f: math.ceil((high - low) / f) + 1, corners)),
        ("not only its width", box(touched, lambda low, high, f: (high - low) // f)),
        ("need not be square", lambda a, b, c, d, f: box(touched, corners)(a, a, c, c, f)),
        (
            "do not add them",
            lambda a, b, c, d, f: {"any": sums(touched, a, b, c, d, f), "corner": sums(corners, a, b, c, d, f)},
        ),
        ("changed places", swapped_keys),
        ("got a number", lambda *given: box(touched, corners)(*given)["any"]),
    ],
    "mask_to_cells": [
        ("margin is missing", cells_by(F.max_pool2d, lambda cells, margin: cells)),
        ("one pixel a cell", cells_by(lambda mask, f: F.interpolate(mask, scale_factor=1 / f, mode="nearest"))),
        ("only if most are", cells_by(lambda mask, f: (F.avg_pool2d(mask, f) > 0.5).float())),
        ("only if all are", cells_by(lambda mask, f: (F.avg_pool2d(mask, f) == 1).float())),
        ("must stay 0 or 1", cells_by(F.avg_pool2d)),
        ("turned round", lambda *given: 1 - cells_by(F.max_pool2d)(*given)),
        ("not in pixels", margin_in_pixels),
        ("not always 1", lambda mask, f, margin: cells_by(F.max_pool2d)(mask, f, 1 if margin else 0)),
        ("not only the margin", only_the_margin),
        ("are not counted", cells_by(F.max_pool2d, counted_neighbours)),
        ("only at a corner", cells_by(F.max_pool2d, grow_like_a_plus)),
        ("too wide", cells_by(F.max_pool2d, lambda cells, m: F.max_pool2d(cells, 4 * m + 1, stride=1, padding=2 * m))),
        ("expected values of torch.float32", as_bool),
        ("expected the shape", without_a_channel),
    ],
    "redraw": [
        ("all steps run", looping(run=lambda n: n)),
        ("not with noise alone", looping(start=lambda latents, noise: noise)),
        ("mask is not used", looping(blend=False)),
        ("not only at the end", looping(blend=False, finish=True)),
        ("as noisy as the rest", looping(known=lambda scheduler, latents, noise, t: latents)),
        (
            "none at the end",
            looping(known=lambda scheduler, latents, noise, t: scheduler.add_noise(latents, noise, t[None])),
        ),
        ("halves are mixed up", looping(guide=lambda a, b, scale: b + scale * (a - b))),
        ("from that with it", looping(guide=lambda a, b, scale: b + scale * (b - a))),
        ("guidance is missing", looping(guide=lambda a, b, scale: b)),
        ("mask is turned round", loop_with_the_mask_turned),
        ("its own mask", only_one_mask),
        ("its own noise", loop_with_one_noise),
        ("its own prompt", loop_with_one_prompt),
        ("the empty sentence", loop_with_the_empty_sentence),
        ("not always 4", looping(guide=lambda a, b, scale: a + 4 * (b - a))),
        ("do not round", loop_that_rounds),
        ("at strength 1 too", loop_from_noise_at_strength_1),
        ("strength 0", loop_of_one_step_or_more),
        ("values differ", loop_for_one),
        ("values differ", lambda pipe, scheduler, latents, *rest: latents),
    ],
}
