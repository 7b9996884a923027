"""Checks of lab 11: LoRA, hypernetwork and zero convolution by hand, and a LoRA merged until it draws Momo."""

import functools
import itertools
import warnings
from contextlib import contextmanager

import torch
from torch.nn import functional

from .attempt import Pocket
from .exercise import Draws, Lab
from .outcome import Wrong
from .without import AUTOGRAD

check = Lab("11", "Build the helpers")

STEPS, SAMPLER = 8, "dpm"
PROMPTS = (
    "Momo the cat",
    "Momo the cat in a forest",
    "Momo the cat in a red shirt",
    "Momo the cat in the snow",
    "Momo the cat with a yellow hat",
    "Momo the cat at the beach",
)
JUDGED, AT_LEAST = PROMPTS[:4], 2


def layer_of_peft(x, weight, bias, adapters):
    """Return the output of a torch.nn.Linear to which peft has added the adapters."""
    from peft import LoraConfig, inject_adapter_in_model

    inner = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, dtype=weight.dtype)
    model = torch.nn.ModuleDict({"linear": inner})
    for number, (down, _, alpha, _) in enumerate(adapters):
        config = LoraConfig(r=len(down), lora_alpha=alpha, target_modules=["linear"])
        with warnings.catch_warnings(action="ignore"):  # peft warns of a second adapter, which is what we want
            inject_adapter_in_model(config, model, adapter_name=f"lora{number}")
    inner.weight.data = weight
    if bias is not None:
        inner.bias.data = bias
    layer = model["linear"]
    for number, (down, up, _, strength) in enumerate(adapters):
        layer.lora_A[f"lora{number}"].weight.data, layer.lora_B[f"lora{number}"].weight.data = down, up
        layer.set_scale(f"lora{number}", strength)
    if adapters:
        layer.set_adapter([f"lora{number}" for number in range(len(adapters))])
    with torch.no_grad():
        return layer(x)


def _lora(x, weight, bias, adapters, *, scale=None, own=1, wide=False, biases=1):
    out = own * functional.linear(x, weight) + (0 if bias is None else biases * bias)
    for down, up, alpha, strength in adapters:
        rank = down.shape[1] if wide else len(down)
        out = out + (scale or (lambda a, r, s: s * a / r))(alpha, rank, strength) * (x @ down.T @ up.T)
    return out


@check.exercise(
    layer_of_peft,
    mistakes={
        "alpha / rank is missing: the product is scaled by strength * alpha / rank": lambda x, w, b, a: _lora(
            x, w, b, a, scale=lambda alpha, rank, strength: strength
        ),
        "the strength is missing: the product is scaled by strength * alpha / rank": lambda x, w, b, a: _lora(
            x, w, b, a, scale=lambda alpha, rank, strength: alpha / rank
        ),
        "alpha is divided by the rank, not multiplied by it": lambda x, w, b, a: _lora(
            x, w, b, a, scale=lambda alpha, rank, strength: strength * alpha * rank
        ),
        "the division by the rank is missing": lambda x, w, b, a: _lora(
            x, w, b, a, scale=lambda alpha, rank, strength: strength * alpha
        ),
        "the rank is the thin side of down, its number of rows, not the width of x": lambda x, w, b, a: _lora(
            x, w, b, a, wide=True
        ),
        "only the first adapter is added: all of them count": lambda x, w, b, a: _lora(x, w, b, a[:1]),
        "only the last adapter is added: all of them count": lambda x, w, b, a: _lora(x, w, b, a[-1:]),
        "alpha / rank is a fraction, and // cuts it to a whole number": lambda x, w, b, a: _lora(
            x, w, b, a, scale=lambda alpha, rank, strength: strength * (alpha // rank)
        ),
        "the strength may be negative: then the product is subtracted": lambda x, w, b, a: _lora(
            x, w, b, a, scale=lambda alpha, rank, strength: abs(strength) * alpha / rank
        ),
        "the bias belongs to the layer: it is added once, not with each LoRA": lambda x, w, b, a: _lora(
            x, w, b, a, biases=1 + len(a)
        ),
        "the bias of the layer is missing": lambda x, w, b, a: _lora(x, w, None, a),
        "the layer's own weight is missing: the adapters are added to what it does": lambda x, w, b, a: _lora(
            x, w, b, a, own=0
        ),
    },
)
def lora_linear(draws: Draws):
    """A linear layer with any number of LoRAs, against peft."""
    for shape, width, ranks, with_bias in [
        ((4,), 5, (2,), True),
        ((2, 3), 5, (3, 1), False),
        ((7,), 6, (2, 4, 3), True),
    ]:
        weight, x = draws.normal(width + 3, width), draws.normal(*shape, width)
        yield (x, weight, draws.normal(width + 3) if with_bias else None, _adapters(draws, weight, ranks))
    square = draws.normal(6, 6, dtype=torch.float64)
    x, bias = draws.normal(2, 6, dtype=torch.float64), draws.normal(6, dtype=torch.float64)
    yield (x, square, bias, _adapters(draws, square, (2,)))
    yield (draws.normal(6), draws.normal(2, 6), draws.normal(2), [])


def _adapters(draws: Draws, weight, ranks) -> list:
    d_out, d_in = weight.shape
    return [
        (
            draws.normal(rank, d_in, dtype=weight.dtype),
            draws.normal(d_out, rank, dtype=weight.dtype),
            draws.integer(5, 9),
            draws.choice([-0.5, -0.8] if place % 2 else [0.3, 0.7]),
        )
        for place, rank in enumerate(ranks, start=1)
    ]


def numbers_by_peft(width, text_width, rank):
    """Return how many numbers peft adds to one Transformer block of that width, built without memory."""
    from diffusers.models.attention import BasicTransformerBlock
    from peft import LoraConfig, inject_adapter_in_model

    from sdlab.steering.lora import TARGETS

    with torch.device("meta"):
        block = BasicTransformerBlock(width, 1, width, cross_attention_dim=text_width)
        inject_adapter_in_model(LoraConfig(r=rank, target_modules=list(TARGETS)), block)
    return sum(value.numel() for name, value in block.named_parameters() if "lora_" in name)


@check.exercise(
    numbers_by_peft,
    mistakes={
        "that is as many as the matrices themselves have: a LoRA has rank * (d_in + d_out) for each": lambda w, t, r: (
            6 * w * w + 2 * w * t
        ),
        "A and B are two matrices of their own: d_in and d_out are added, not multiplied": lambda w, t, r: (
            r * (6 * w * w + 2 * w * t)
        ),
        "that is only A of each matrix, or only the cross-attention: count A and B, and in both attentions": (
            lambda w, t, r: r * (6 * w + 2 * t)
        ),
        "that is only B of each matrix, or only the self-attention: count A and B, and in both attentions": (
            lambda w, t, r: 8 * r * w
        ),
        "to_k and to_v of the cross-attention read the text: their d_in is text_width": lambda w, t, r: 16 * r * w,
        "the text goes into to_k and to_v of the cross-attention alone: the other six have d_in = width": (
            lambda w, t, r: r * (12 * w + 4 * t)
        ),
        "to_q of the cross-attention reads the picture: only to_k and to_v read the text": (
            lambda w, t, r: r * (13 * w + 3 * t)
        ),
        "to_out.0 has a LoRA too: four matrices in each attention": lambda w, t, r: r * (10 * w + 2 * t),
        "the rank counts once in A and once in B: the numbers grow with the rank": lambda w, t, r: 14 * w + 2 * t,
    },
)
def predict_lora_numbers(draws: Draws):
    """How many numbers a LoRA of a given rank adds to one Transformer block."""
    for rank in (1, 4, draws.integer(5, 16)):
        yield (8 * draws.integer(2, 12), 8 * draws.integer(13, 30), rank)
    yield (320, 768, 4)


def read_by_torch(hidden_states, layers, strength):
    """Return hidden_states + strength * MLP(hidden_states), the MLP built of torch's own modules."""
    modules = []
    for weight, bias in layers:
        linear = torch.nn.Linear(weight.shape[1], weight.shape[0], dtype=weight.dtype)
        linear.weight.data, linear.bias.data = weight, bias
        modules += [linear, torch.nn.ReLU()]
    with torch.no_grad():
        return hidden_states + strength * torch.nn.Sequential(*modules[:-1])(hidden_states)


def _read(h, layers, strength, *, last=False, bend=torch.relu, bias=1, keep=1, first=False, narrow=True):
    x = torch.relu(h) if first else h
    for number, (weight, offset) in enumerate(layers, start=1):
        x = x @ weight.T + bias * offset
        x = bend(x) if last or (number < len(layers) and (narrow or x.shape != h.shape)) else x
    return keep * h + strength * x


@check.exercise(
    read_by_torch,
    mistakes={
        "the correction is added to the vector itself, which is missing": lambda h, a, s: _read(h, a, s, keep=0),
        "the strength is missing: it scales the correction": lambda h, a, s: _read(h, a, 1),
        "the strength scales the correction alone, not the vector": lambda h, a, s: s * _read(h, a, 1),
        "no bend after the last layer: a correction may be negative": lambda h, a, s: _read(h, a, s, last=True),
        "the bend is missing: negative numbers become 0 between two layers": lambda h, a, s: _read(
            h, a, s, bend=lambda x: x
        ),
        "the biases are missing": lambda h, a, s: _read(h, a, s, bias=0),
        "the vector itself goes into the first layer as it is, without a bend before it": lambda h, a, s: _read(
            h, a, s, first=True
        ),
        "the vector is kept whole: nothing is taken from it when the correction is added": lambda h, a, s: _read(
            h, a, s, keep=1 - s
        ),
        "a layer that puts out as many numbers as the vector has need not be the last: count the layers": (
            lambda h, a, s: _read(h, a, s, narrow=False)
        ),
        "the bend is max(0, x), not the absolute value": lambda h, a, s: _read(h, a, s, bend=torch.abs),
    },
)
def read_through(draws: Draws):
    """The residual MLP of a hypernetwork with any number of layers."""
    for shape, widths, strength in [
        ((2, 5), (6, 12, 6), 0.7),
        ((4,), (5, 5, 10, 7, 5), -0.5),
        ((2, 3, 2), (4, 8, 4), 0.3),
    ]:
        yield (draws.normal(*shape, widths[0]), _mlp(draws, widths), strength)
    yield (draws.normal(3, 4), _mlp(draws, (4, 4)), 1.5)
    yield (draws.normal(3, 4), _mlp(draws, (4, 8, 4)), 0.0)
    double = torch.float64
    yield (draws.normal(5, 8, dtype=double), _mlp(draws, (8, 16, 8), dtype=double), draws.uniform(0.2, 0.9))


def _mlp(draws: Draws, widths, dtype=torch.float32) -> list:
    pairs = itertools.pairwise(widths)
    return [(draws.normal(after, before, dtype=dtype), draws.normal(after, dtype=dtype)) for before, after in pairs]


def gradients_by_autograd(features, weight, upstream):
    """Return autograd's gradients of torch's own 1 x 1 convolution for the weight, the bias and the features."""
    features, kernel = features.clone().requires_grad_(), weight[:, :, None, None].clone().requires_grad_()
    bias = torch.zeros(len(weight), dtype=weight.dtype, requires_grad=True)
    with torch.enable_grad():
        out = functional.conv2d(features, kernel, bias)
        of_kernel, of_bias, of_features = torch.autograd.grad(out, (kernel, bias, features), upstream)
    return of_kernel[:, :, 0, 0], of_bias, of_features


def _gradients(features, weight, upstream):
    return (
        torch.einsum("noij,ncij->oc", upstream, features),
        upstream.sum(dim=(0, 2, 3)),
        torch.einsum("noij,oc->ncij", upstream, weight),
    )


def _replaced(number, change):
    def mistake(features, weight, upstream):
        found = list(_gradients(features, weight, upstream))
        found[number] = change(found[number], features, weight, upstream)
        return tuple(found)

    return mistake


@check.exercise(
    gradients_by_autograd,
    without=(AUTOGRAD,),
    mistakes={
        "the weight gets a gradient although it is 0: it is what comes in times what is wanted of what goes out": (
            _replaced(0, lambda g, f, w, u: torch.zeros_like(g))
        ),
        "the gradient of the features is not always 0: it is what is wanted of what goes out times the weight": (
            _replaced(2, lambda g, f, w, u: torch.zeros_like(g))
        ),
        "the gradient of the features passes through the weight, which is missing": _replaced(
            2, lambda g, f, w, u: u.sum(1, keepdim=True).expand_as(f)
        ),
        "sum over pictures and cells: the loss takes in all of them, so nothing is averaged": lambda f, w, u: (
            _gradients(f, w, u)[0] * f.shape[1] / f.numel(),
            u.mean(dim=(0, 2, 3)),
            _gradients(f, w, u)[2],
        ),
        "the gradient of the bias is a sum over pictures and cells, not a mean": _replaced(
            1, lambda g, f, w, u: u.mean(dim=(0, 2, 3))
        ),
        "the gradient of the weight has the shape of the weight, output channels first": _replaced(
            0, lambda g, f, w, u: g.T
        ),
        "the bias has one gradient for each output channel: sum over the pictures too": _replaced(
            1, lambda g, f, w, u: u.sum(dim=(2, 3))
        ),
        "the bias gets a gradient as well: it is added to every cell": _replaced(
            1, lambda g, f, w, u: torch.zeros_like(g)
        ),
        "in the order weight, bias, features": lambda f, w, u: _gradients(f, w, u)[::-1],
    },
)
def zero_convolution_gradients(draws: Draws):
    """The three gradients of a 1 x 1 convolution, with weights of 0 and of anything else."""
    for (pictures, c_in, c_out, height, width), factor in [
        ((2, 3, 5, 4, 6), 0.0),
        ((1, 4, 2, 3, 5), 1.0),
        ((3, 2, 3, 1, 1), 0.5),
        ((2, 3, 3, 5, 2), 1.0),
    ]:
        weight = factor * draws.normal(c_out, c_in)
        yield (draws.normal(pictures, c_in, height, width), weight, draws.normal(pictures, c_out, height, width))
    double = torch.float64
    shapes = [(2, 3, 2, 4), (5, 3), (2, 5, 2, 4)]
    yield tuple(draws.normal(*shape, dtype=double) for shape in shapes)


def attention_weights() -> dict:
    """Return {name: weight} of everything in the attention layers of the pocket model's U-Net, biases included."""
    weights = Pocket().resolve().unet.state_dict()
    return {name: weight.clone() for name, weight in weights.items() if ".attn1." in name or ".attn2." in name}


@functools.cache
def _shipped_lora() -> dict:
    from safetensors.torch import load_file

    from sdlab.steering import SHIPPED, WEIGHTS

    return load_file(SHIPPED["lora"] / WEIGHTS)


def shipped_lora() -> dict:
    """Return {name: matrix} of the file of the LoRA that learned Momo, in float16 as it is stored."""
    return {name: matrix.clone() for name, matrix in _shipped_lora().items()}


@contextmanager
def other_weights(unet, weights: dict):
    """Let ``unet`` have these ``weights`` instead of its own inside the block."""
    own = {name: weight.clone() for name, weight in unet.state_dict().items() if name in weights}
    try:
        unet.load_state_dict(weights, strict=False)
        yield unet
    finally:
        unet.load_state_dict(own, strict=False)


def draw_with(weights: dict, *, prompts=PROMPTS, seed: int = 1) -> list:
    """Return one picture a prompt, drawn by the pocket model with ``weights`` in the place of its own."""
    from sdlab import use_sampler

    from ..judging import draw_prompts

    pipe = Pocket().resolve()
    with other_weights(pipe.unet, weights), use_sampler(pipe, SAMPLER):
        return draw_prompts(pipe, list(prompts), seed=seed, num_inference_steps=STEPS)


@check.effect
def merge_lora(attempt, draws: Draws) -> str:
    """A LoRA merged into the weights of the pocket model: with them it draws Momo."""
    from ..judging import is_momo

    base, lora = attention_weights(), shipped_lora()
    _check_strengths(attempt, base, lora, merged := attempt(base, lora, 1.0))
    _check_made_up(attempt, draws)
    _check_call(merged, draws)
    found = sum(is_momo(draw_with(merged, prompts=JUDGED, seed=draws.seed + 1)))
    if found < AT_LEAST:
        raise Wrong(f"with these weights {found} of {len(JUDGED)} pictures show Momo, and {AT_LEAST} are asked for")
    return "most of the pictures show Momo, and a call of the U-Net is the library's"


def _check_strengths(attempt, base: dict, lora: dict, merged: dict) -> None:
    """See that everything with a LoRA is changed, and in proportion to the strength."""
    _check_weights(merged, base)
    if any(not torch.equal(merged[name], base[name]) for name in base if name.endswith("bias")):
        raise Wrong("a weight for which the file has no lora_A and lora_B, such as a bias, must stay as it is")
    matrices = [name for name in base if name.endswith("weight")]
    if unchanged := [name for name in matrices if torch.equal(base[name], merged[name])]:
        raise Wrong(
            f"{len(unchanged)} of {len(matrices)} matrices are not changed at strength 1, for example {unchanged[0]}"
        )
    _check_weights(zero := attempt(base, lora, 0.0), base)
    if not all(torch.equal(zero[name], base[name]) for name in base):
        raise Wrong("at strength 0 every weight must be what it was, and some are not")
    for strength, words in {0.5: "half as large as", 2.0: "twice", -1.0: "the opposite of"}.items():
        _check_weights(found := attempt(base, lora, strength), base)
        changes = ((found[name] - base[name], strength * (merged[name] - base[name])) for name in base)
        if not all(torch.allclose(change, wanted, atol=1e-5, rtol=1e-3) for change, wanted in changes):
            raise Wrong(f"at strength {strength:g} the change must be {words} the change at strength 1, and it is not")


def _check_made_up(attempt, draws: Draws) -> None:
    """See that the answer uses the weights and the LoRA that it is given, and float32."""
    block = f"mid_block.attentions.0.transformer_blocks.{draws.integer(0, 9)}"
    shapes = {"attn1.to_q": (6, 6, 3), "attn2.to_k": (6, 9, 2), "attn2.to_v": (6, 9, 1)}  # d_out, d_in, rank
    weights = {f"{block}.{name}.weight": draws.normal(d_out, d_in) for name, (d_out, d_in, _) in shapes.items()}
    plain = {f"{block}.attn2.to_q.weight": draws.normal(6, 6), f"{block}.attn1.to_out.0.bias": draws.normal(6)}
    lora, expected = {}, dict(plain)
    for name, (d_out, d_in, rank) in shapes.items():
        down, up = (draws.normal(*shape, dtype=torch.float16) for shape in ((rank, d_in), (d_out, rank)))
        lora |= {f"unet.{block}.{name}.lora_A.weight": down, f"unet.{block}.{name}.lora_B.weight": up}
        expected[f"{block}.{name}.weight"] = weights[f"{block}.{name}.weight"] + 0.75 * up.float() @ down.float()
    found = attempt(weights | plain, lora, 0.75)
    _check_weights(found, expected)
    gap = max((found[name] - value).abs().max().item() for name, value in expected.items())
    if 1e-4 < gap < 2e-2:
        raise Wrong("the product lost digits in half precision: convert A and B to float32 before you multiply them")
    if gap > 1e-4:
        changes = [(found[name] - weights[name], expected[name] - weights[name]) for name in weights]
        by_rank = zip([rank for *_, rank in shapes.values()], changes, strict=True)
        if all(torch.allclose(rank * change, wanted, atol=1e-3) for rank, (change, wanted) in by_rank):
            raise Wrong("in this file alpha is the rank, so alpha / r is 1: do not divide by the rank")
        raise Wrong(
            "with other weights and another LoRA of a few small matrices the result is not W + strength * B A: use "
            "what you are given, and look at what is added: its sign, its size, and whose A and B it is"
        )


def _check_weights(found, base: dict) -> None:
    if not isinstance(found, dict):
        raise Wrong("return a dictionary from the name of each weight to the tensor")
    if extra := sorted(set(found) - set(base), key=str):
        raise Wrong(f"the U-Net has no weight {extra[0]!r}: return the names of weights, each once")
    if missing := sorted(set(base) - set(found)):
        raise Wrong(f"the weight {missing[0]!r} is missing: return all of them, changed or not")
    for name, weight in base.items():
        if not isinstance(found[name], torch.Tensor):
            raise Wrong(f"{name} must be a tensor, not {type(found[name]).__name__}")
        if found[name].shape != weight.shape:
            raise Wrong(f"{name} must have the shape {list(weight.shape)}, not {list(found[name].shape)}")
        if found[name].dtype != weight.dtype:
            raise Wrong(f"{name} must stay in {weight.dtype}, not {found[name].dtype}: convert the LoRA's matrices")
        if not found[name].isfinite().all():
            raise Wrong(f"{name} has values that are not finite")


def _check_call(merged: dict, draws: Draws) -> None:
    """Hold one call of the U-Net with the merged weights against the call with the attached LoRA."""
    from sdlab.steering import SHIPPED, use_lora

    pipe = Pocket().resolve()
    latents, text = draws.normal(1, 4, 16, 16), draws.normal(1, 77, pipe.unet.config.cross_attention_dim)
    options = {"timestep": 400, "encoder_hidden_states": text}
    with torch.no_grad():
        with other_weights(pipe.unet, merged):
            found = pipe.unet(latents, **options).sample
        with use_lora(pipe, SHIPPED["lora"]):
            expected = pipe.unet(latents, **options).sample
    if (gap := (found - expected).abs().max().item()) > 1e-2:
        raise Wrong(
            f"a call of the U-Net differs from that with the attached LoRA by up to {gap:.1g}: some matrices have too "
            "much or too little added"
        )
