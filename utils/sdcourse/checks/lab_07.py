"""Checks of lab 07: timestep waves, blocks on the way up, their parameters, and skip connections made thin."""

import math

import torch
from torch.nn import functional

from .attempt import Pocket
from .exercise import Draws, Lab
from .outcome import Wrong
from .without import MODULE

check = Lab("07", "Build the way up")

STEPS, RIGHT = 8, 0.75
SITTERS = (
    ("man", "blue", "red"),
    ("cat", "green", "white"),
    ("woman", "brown", "yellow"),
    ("dog", "blue", "green"),
    ("woman", "purple", "blue"),
    ("man", "green", "white"),
)


def waves_of_diffusers(timesteps, width, cosines_first, freq_shift):
    """Return diffusers' own sinusoidal embedding."""
    from diffusers.models.embeddings import get_timestep_embedding

    return get_timestep_embedding(timesteps, width, flip_sin_to_cos=cosines_first, downscale_freq_shift=freq_shift)


def _waves(timesteps, width, cosines_first, freq_shift, *, below=None, sign=-1, put=None, end=1, period=10000.0):
    half = width // 2
    speeds = period ** (sign * torch.arange(half) / (below or half - freq_shift))
    angles = timesteps.float()[:, None] * speeds
    parts = [angles.cos(), angles.sin()] if cosines_first else [angles.sin(), angles.cos()]
    waves = put(parts) if put else torch.cat(parts, dim=1)
    return functional.pad(waves, (0, 1) if end else (1, 0)) if width % 2 and end is not None else waves


@check.exercise(
    waves_of_diffusers,
    atol=2e-3,
    mistakes={
        "the order must follow cosines_first, which may be True or False": lambda t, w, c, s: _waves(t, w, True, s),
        "cosines_first may also be True: then the cosines come first": lambda t, w, c, s: _waves(t, w, False, s),
        "sines and cosines are swapped": lambda t, w, c, s: _waves(t, w, not c, s),
        "freq_shift is not used: divide i by n - freq_shift": lambda t, w, c, s: _waves(t, w, c, 0),
        "freq_shift is subtracted from n, not added": lambda t, w, c, s: _waves(t, w, c, -s),
        "n is the number of speeds, half of the width": lambda t, w, c, s: _waves(t, w, c, s, below=w - s),
        "the speeds fall from 1: the exponent is negative": lambda t, w, c, s: _waves(t, w, c, s, sign=1),
        "first all waves of one kind, then all of the other, not by turns": lambda t, w, c, s: _waves(
            t, w, c, s, put=lambda parts: torch.stack(parts, dim=2).flatten(1)
        ),
        "an odd width is filled up with one 0 at the end": lambda t, w, c, s: _waves(t, w, c, s, end=None),
        "the 0 of an odd width stands at the end, not in front": lambda t, w, c, s: _waves(t, w, c, s, end=0),
        "the 0 of an odd width stands at the end, not between the two kinds": lambda t, w, c, s: _waves(
            t, w, c, s, end=None, put=lambda p: torch.cat([p[0], torch.zeros(len(t), w % 2), p[1]], dim=1)
        ),
        "a timestep may be a fraction: do not round it": lambda t, w, c, s: _waves(t.long(), w, c, s),
        "n is half of an odd width, rounded down": lambda t, w, c, s: _waves(t, w + w % 2, c, s)[:, :w],
        "the base is 10000": lambda t, w, c, s: _waves(t, w, c, s, period=1000.0),
    },
)
def timestep_waves(draws: Draws):
    """The waves of a timestep, in any order, with any shift, of any width."""
    yield torch.tensor([0, 1, draws.integer(2, 900), 999]), 32, True, 0
    yield torch.tensor([draws.integer(5, 400), 10]), 16, False, 1
    yield torch.tensor([7, draws.integer(20, 60)]), 9, True, 1
    yield torch.tensor([draws.uniform(1, 30), 0.5, 2.25]), 13, False, 0
    yield torch.tensor([draws.integer(100, 999)]), 6, True, 0.5


def block_of_diffusers(weights, from_below, skip, temb, groups):
    """Load the weights into diffusers' ResnetBlock2D and call it."""
    from diffusers.models.resnet import ResnetBlock2D

    after, before = weights["conv1.weight"].shape[:2]
    block = ResnetBlock2D(in_channels=before, out_channels=after, temb_channels=temb.shape[1], groups=groups, eps=1e-5)
    block.to(temb.dtype).load_state_dict(weights)
    with torch.no_grad():
        return block(torch.cat([from_below, skip], dim=1), temb)


def _block(
    weights, from_below, skip, temb, groups, *,
    join=lambda below, skip: torch.cat([below, skip], dim=1), time=None, late=False, bend=True, bends=functional.silu,
    norms=(True, True), early=False, add=None, order=True, eps=1e-5, before_norm=True,
):  # fmt: skip
    def normalize(number, maps):
        if not norms[number - 1]:
            return maps
        return functional.group_norm(maps, groups, weights[f"norm{number}.weight"], weights[f"norm{number}.bias"], eps)

    def half(number, maps):
        maps = bends(normalize(number, maps)) if order else normalize(number, bends(maps))
        return functional.conv2d(maps, weights[f"conv{number}.weight"], weights[f"conv{number}.bias"], padding=1)

    hidden_states = join(from_below, skip)
    bent = functional.silu(temb) if bend else temb
    step = functional.linear(bent, weights["time_emb_proj.weight"], weights["time_emb_proj.bias"])[:, :, None, None]
    step = step if time is None else time * step
    shortcut = hidden_states
    if "conv_shortcut.weight" in weights:
        shortcut = functional.conv2d(shortcut, weights["conv_shortcut.weight"], weights["conv_shortcut.bias"])
    residual = half(1, hidden_states)
    if early:
        return half(2, residual + step + shortcut)
    if not before_norm:
        residual = functional.silu(normalize(2, residual) + step)
        residual = functional.conv2d(residual, weights["conv2.weight"], weights["conv2.bias"], padding=1)
    else:
        residual = half(2, residual) + step if late else half(2, residual + step)
    return add(residual, hidden_states) if add else shortcut + residual


def _even(name: str, weight: torch.Tensor) -> torch.Tensor:
    """Return weights of a normalization that change nothing; others as they are."""
    return torch.full_like(weight, float(name.endswith("weight"))) if name.startswith("norm") else weight


@check.exercise(
    block_of_diffusers,
    atol=1e-3,
    mistakes={
        "the order of the channels matters: first those from below, then the skip connection's": lambda *a: _block(
            *a, join=lambda below, skip: torch.cat([skip, below], dim=1)
        ),
        "the timestep embedding is missing": lambda *a: _block(*a, time=0),
        "the timestep embedding passes through SiLU before the linear layer": lambda *a: _block(*a, bend=False),
        "the timestep embedding is added after the first convolution, not at the end": lambda *a: _block(*a, late=True),
        "the timestep embedding is added before the second normalization, not after it": lambda *a: _block(
            *a, before_norm=False
        ),
        "each picture has a timestep embedding of its own": lambda w, b, s, t, g: _block(
            w, b, s, t[:1].expand_as(t), g
        ),
        "the biases must be added, too": lambda w, *a: _block(
            {name: 0 * each if name.endswith("bias") else each for name, each in w.items()}, *a
        ),
        "normalizing ends with a scale and a shift for each channel: norm1 and norm2 have a weight and a bias": (
            lambda w, *a: _block({name: _even(name, each) for name, each in w.items()}, *a)
        ),
        "if there is no conv_shortcut, the input itself is added": lambda w, *a: _block(
            w, *a, add=None if "conv_shortcut.weight" in w else lambda residual, _: residual
        ),
        "the input passes through conv_shortcut, if there is one, before it is added": lambda w, *a: _block(
            w, *a, add=lambda residual, given: residual + given[:, : residual.shape[1]]
        ),
        "eps must be 1e-5, not 0: some maps hardly vary": lambda *a: _block(*a, eps=0.0),
        "eps must be 1e-5, not 1e-6: some maps hardly vary": lambda *a: _block(*a, eps=1e-6),
        "the block's input is added at the very end, not between the convolutions": lambda *a: _block(*a, early=True),
        "the block's input must be added at the end, through conv_shortcut if there is one": lambda *a: _block(
            *a, add=lambda residual, _: residual
        ),
        "SiLU is missing before the convolutions": lambda *a: _block(*a, bends=lambda x: x),
        "that is ReLU; this U-Net bends with SiLU": lambda *a: _block(*a, bends=functional.relu),
        "normalize first, then SiLU": lambda *a: _block(*a, order=False),
        "the second normalization is missing": lambda *a: _block(*a, norms=(True, False)),
        "the first normalization is missing": lambda *a: _block(*a, norms=(False, True)),
        "normalize in groups of channels: use the number of groups that is given": lambda w, b, s, t, g: _block(
            w, b, s, t, 1
        ),
    },
)
def right_hand_block(draws: Draws):
    """A ResnetBlock on the right side, from its weights."""

    def weights(before: int, after: int, width: int) -> dict:
        shapes = {
            "norm1.weight": (before,), "norm1.bias": (before,),
            "conv1.weight": (after, before, 3, 3), "conv1.bias": (after,),
            "time_emb_proj.weight": (after, width), "time_emb_proj.bias": (after,),
            "norm2.weight": (after,), "norm2.bias": (after,),
            "conv2.weight": (after, after, 3, 3), "conv2.bias": (after,),
        }  # fmt: skip
        if before != after:
            shapes |= {"conv_shortcut.weight": (after, before, 1, 1), "conv_shortcut.bias": (after,)}
        return {name: 0.4 * draws.normal(*shape) for name, shape in shapes.items()}

    for below, skip, after, groups, side in [(8, 4, 4, 4, (3, 5)), (6, 6, 8, 2, (4, 4)), (4, 4, 8, 4, (2, 3))]:
        maps = [draws.normal(2, channels, *side) for channels in (below, skip)]
        yield weights(below + skip, after, 6), *maps, draws.normal(2, 6), groups
    double = torch.float64
    faint = [0.002 * draws.normal(2, channels, 3, 2, dtype=double) for channels in (4, 2)]
    yield {name: each.double() for name, each in weights(6, 4, 3).items()}, *faint, draws.normal(2, 3, dtype=double), 2


def parameters_of_diffusers(channels_in, channels_out, temb_channels):
    """Build the ResnetBlock on the meta device and count."""
    from diffusers.models.resnet import ResnetBlock2D

    with torch.device("meta"):
        block = ResnetBlock2D(in_channels=channels_in, out_channels=channels_out, temb_channels=temb_channels, groups=1)
    return sum(weight.numel() for weight in block.parameters())


def _count(before, after, width, *, bias=1, norms=1, shortcut=None, time=1, second=None, window=9, first_norm=None):
    shortcut = before != after if shortcut is None else shortcut
    count = window * before * after + bias * after + window * (second or after) * after + bias * after
    count += norms * (2 * (first_norm or before) + 2 * after)
    count += time * (width * after + bias * after)
    return count + shortcut * (before * after + bias * after)


@check.exercise(
    parameters_of_diffusers,
    without=(MODULE,),
    rtol=1e-9,
    mistakes={
        "every convolution and linear layer also has a constant for each output channel": lambda b, a, t: _count(
            b, a, t, bias=0
        ),
        "the normalizations have parameters, too: a scale and a shift for each channel": lambda b, a, t: _count(
            b, a, t, norms=0
        ),
        "a normalization has two numbers for each channel, a scale and a shift": lambda b, a, t: _count(
            b, a, t, norms=0.5
        ),
        "the 1 x 1 convolution is there whenever the channels change, up or down": lambda b, a, t: _count(
            b, a, t, shortcut=b > a
        ),
        "the convolution of the short way has a window of 1 x 1": lambda b, a, t: (
            _count(b, a, t) + (b != a) * 8 * b * a
        ),
        "the convolution of the short way has a bias, too": lambda b, a, t: _count(b, a, t) - (b != a) * a,
        "the second normalization works on the channels that the first convolution has made": lambda b, a, t: (
            _count(b, a, t) + 2 * (b - a)
        ),
        "the linear layer makes one number for each channel that goes out": lambda b, a, t: (
            _count(b, a, t) + (t + 1) * (b - a)
        ),
        "if the channels change, there is a 1 x 1 convolution for the short way": lambda b, a, t: _count(
            b, a, t, shortcut=False
        ),
        "if the channels stay the same, the short way has no convolution": lambda b, a, t: _count(
            b, a, t, shortcut=True
        ),
        "the linear layer for the timestep embedding is missing": lambda b, a, t: _count(b, a, t, time=0),
        "the second convolution reads what the first has made: channels_out in, channels_out out": lambda b, a, t: (
            _count(b, a, t, second=b)
        ),
        "a window of 3 x 3 has nine weights for each pair of channels": lambda b, a, t: _count(b, a, t, window=3),
        "the first normalization works on the channels that come in": lambda b, a, t: _count(b, a, t, first_norm=a),
    },
)
def count_parameters(draws: Draws):
    """How many parameters a ResnetBlock has."""
    yield 960, 320, 1280
    yield 64, 64, 128
    before = draws.integer(5, 40)
    yield before, before + draws.integer(1, 30), draws.integer(10, 99)
    yield before, before, draws.integer(10, 99)
    yield 50 + draws.integer(1, 50), draws.integer(2, 40), draws.integer(10, 99)


def meeting_of_diffusers(maps, skip, weight, bias):
    """Let diffusers' Upsample2D meet the size of the skip connection, and concatenate."""
    from diffusers.models.upsampling import Upsample2D

    upsample = Upsample2D(maps.shape[1], use_conv=True)
    upsample.load_state_dict({"conv.weight": weight, "conv.bias": bias})
    with torch.no_grad():
        return torch.cat([upsample(maps, output_size=skip.shape[2:]), skip], dim=1)


def _met(maps, skip, weight, bias, *, larger=None, join=None, convolve=True, late=False):
    height, width = skip.shape[2:]
    larger = larger or (lambda x: x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3))
    big = larger(maps)

    def conv(x):
        return functional.conv2d(x, weight, bias, padding=1) if convolve else x

    big = conv(big)[:, :, :height, :width] if late else conv(big[:, :, :height, :width])
    return join(big, skip) if join else torch.cat([big, skip], dim=1)


@check.exercise(
    meeting_of_diffusers,
    atol=1e-4,
    mistakes={
        "cut before the convolution: at the edge it must see zeros, not cells that are cut off later": lambda *a: _met(
            *a, late=True
        ),
        "if the skip is odd, the last row or column is repeated once, not the first": lambda m, s, w, b: _met(
            m, s, w, b, larger=lambda x: _doubled(x)[:, :, -s.shape[2] :, -s.shape[3] :]
        ),
        "every cell is repeated beside itself, not the whole map beside the map": lambda *a: _met(
            *a, larger=lambda x: x.repeat(1, 1, 2, 2)
        ),
        "nearest interpolation repeats cells; that is a smooth one": lambda m, s, w, b: _met(
            m, s, w, b, larger=lambda x: functional.interpolate(x, size=s.shape[2:], mode="bilinear")
        ),
        "the convolution is missing": lambda *a: _met(*a, convolve=False),
        "the convolution's bias is missing": lambda m, s, w, b: _met(m, s, w, 0 * b),
        "the border is of zeros, not of repeated cells": lambda m, s, w, b: _met(
            m,
            s,
            None,
            None,
            convolve=False,
            larger=lambda x: functional.conv2d(
                functional.pad(_doubled(x)[:, :, : s.shape[2], : s.shape[3]], (1, 1, 1, 1), mode="replicate"), w, b
            ),
        ),
        "enlarge first, then convolve": lambda m, s, w, b: _met(
            functional.conv2d(m, w, b, padding=1), s, w, b, convolve=False
        ),
        "first the channels from below, then the skip's": lambda *a: _met(
            *a, join=lambda big, skip: torch.cat([skip, big], dim=1)
        ),
        "return both: the enlarged maps and, behind them, the skip's channels": lambda *a: _met(
            *a, join=lambda big, skip: big
        ),
    },
)
def meet_skip(draws: Draws):
    """Enlarge maps so that they meet a skip connection, also of odd size."""
    for channels, others, side, size in [
        (4, 2, (3, 4), (6, 8)),
        (3, 5, (3, 3), (5, 5)),
        (4, 4, (4, 3), (7, 6)),
        (2, 3, (2, 5), (4, 9)),
    ]:
        weight, bias = 0.5 * draws.normal(channels, channels, 3, 3), draws.normal(channels)
        yield draws.normal(2, channels, *side), draws.normal(2, others, *size), weight, bias


def _doubled(maps):
    return maps.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)


def draw_with(edit, *, seed: int = 0) -> list:
    """Draw six sitters with every skip connection given to ``edit`` first; return PIL pictures."""
    from sdlab import seeded_generators, use_sampler
    from sdlab.instruments import edit_skips

    pipe = Pocket().resolve()
    prompts = [f"a {subject} with {eyes} eyes wearing a {shirt} shirt" for subject, eyes, shirt in SITTERS]
    skips = sum(len(block.resnets) for block in pipe.unet.up_blocks)
    with use_sampler(pipe, "ddim"), edit_skips(pipe, edit, range(skips)):
        generators = seeded_generators(10 * seed, len(prompts))
        return pipe(prompts, num_inference_steps=STEPS, guidance_scale=4.0, generator=generators).images


def share_right(pictures: list) -> float:
    """Return which share of subjects, eyes and shirts the judge reads as the prompts of ``draw_with`` say."""
    from ..judging import judge_images, load_judge

    names = ("subject", "eyes", "shirt")
    readings = [reading.values for reading in judge_images(pictures, load_judge())]
    right = [values[name] == said for values, told in zip(readings, SITTERS, strict=True)
             for name, said in zip(names, told, strict=True)]  # fmt: skip
    return sum(right) / len(right)


@check.effect
def thin_out(attempt, draws: Draws) -> str:
    """Half of the numbers in every skip connection set to zero, and the picture is still drawn."""
    sizes = {"all": 0.0, "gone": 0.0}

    def edit(maps):
        thin = attempt(maps)
        _look_at(maps, thin)
        sizes["all"] += maps.abs().sum().item()
        sizes["gone"] += maps[thin == 0].abs().sum().item()
        return thin.to(maps.dtype)

    for shape in [(2, 8, 5, 5), (1, 3, 2, 2)]:
        edit(draws.normal(*shape) + 0.5)
    share = share_right(draw_with(edit, seed=draws.seed))
    if share < RIGHT:
        raise Wrong(
            f"the judge reads {share:.0%} of subjects, eyes and shirts as the prompts say, {RIGHT:.0%} are asked for; "
            f"too much was lost: {_advice(sizes)}"
        )
    return "the judge still reads what the prompts said"


def _advice(sizes: dict[str, float]) -> str:
    if sizes["gone"] > 0.35 * sizes["all"]:
        return "among the numbers that you set to 0 are large ones, and large ones matter"
    return "so choose with care which half of the numbers can be spared"


def _look_at(maps, thin) -> None:
    """Raise Wrong unless ``thin`` has the shape of ``maps``, is finite, has half of each picture's numbers 0, and keeps
    the others.
    """
    if not isinstance(thin, torch.Tensor) or thin.shape != maps.shape:
        found = list(thin.shape) if isinstance(thin, torch.Tensor) else type(thin).__name__
        raise Wrong(f"return maps of the shape you got, {list(maps.shape)}, not {found}")
    if not thin.is_floating_point() or not thin.isfinite().all():
        raise Wrong("return finite floating point numbers")
    zeros = (thin == 0).flatten(1).double().mean(dim=1).min().item()
    if zeros < 0.5:
        raise Wrong(
            f"at least 50 % of each picture's numbers must be 0, and of the maps {list(maps.shape)} "
            f"it is {math.floor(100 * zeros)} %"
        )
    if (thin - maps)[thin != 0].abs().sum() > 0.01 * maps.abs().sum():
        raise Wrong("the numbers that are not set to 0 must stay what they are")
