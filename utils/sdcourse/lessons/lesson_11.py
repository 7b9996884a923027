"""What lesson 11 measures: adapters that fit the model at hand, portraits to learn from, and where each way enters."""

import json
import tempfile
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from sdlab import SdlabError, attention_layers, encode, seeded_generators
from sdlab.compat import CROSS, quiet, unet_of
from sdlab.drawing import DEFAULT_GUIDANCE
from sdlab.figures import Table
from sdlab.images import to_batch
from sdlab.steering import (
    Hypernetwork,
    add_lora,
    as_hint,
    load_controlnet,
    make_controlnet,
    outline_agreement,
    save_lora,
)
from sdlab.steering.controlnet import check_controlnet
from sdlab.weights import MODELS_FOLDER

from ..judging import agreement, draw_prompts, is_momo, judge_images, load_judge, share
from ..judging.evaluate import prompts
from ..portraits import caption, draw_momo, draw_portrait, momo_prompts, plan_momo, plan_outline, plan_portrait
from ..portraits.momo import momo_caption

SCORES = MODELS_FOLDER / "steering" / "scores.json"
ORDINARY_SEED = 63_000_000  # portraits that neither the base model nor the shipped adapters were trained on
EMPTY = 0.1  # share of captions left empty, so that guidance goes on working
FEW_STEPS = 8  # enough for the sampler "dpm", which the lesson uses
READ, WEIGHTS, FEATURES = "what keys read", "weights of the keys", "features in the skips"


@dataclass(frozen=True)
class Adapters:
    """One of each kind that fits a model; ``trained`` says whether they mean anything."""

    lora: Path
    hypernetwork: Hypernetwork
    controlnet: nn.Module
    trained: bool


def adapters_for(pipe, shipped: dict) -> Adapters:
    """Return the ``shipped`` adapters (name -> folder) if they fit ``pipe``, else new ones with small random numbers.

    Says which in one line. New ones have the right shapes and change the picture, but mean nothing.
    """
    unet = unet_of(pipe)
    controlnet = load_controlnet(shipped["controlnet"], device=unet.device, dtype=unet.dtype)
    try:
        check_controlnet(controlnet, unet)
    except SdlabError as error:
        print(f"{error} So new adapters with random numbers stand in, and what is judged below means nothing.")
        return _random_adapters(pipe)
    print("LoRA, hypernetwork and ControlNet of the pocket model are loaded.")
    return Adapters(Path(shipped["lora"]), Hypernetwork.load(shipped["hypernetwork"]), controlnet, True)


def _random_adapters(pipe) -> Adapters:
    generator, folder = torch.Generator().manual_seed(0), Path(tempfile.mkdtemp()) / "lora"
    controlnet = new_controlnet(pipe).eval().requires_grad_(False)
    zero = [
        value for name, value in controlnet.named_parameters() if name.startswith("controlnet_") and "cond" not in name
    ]
    try:
        parameters = list(add_lora(pipe).values())
        with torch.no_grad():
            for value in parameters + zero:
                value.copy_(0.03 * torch.randn(value.shape, generator=generator))
        save_lora(pipe, folder)
    finally:
        pipe.unload_lora_weights()
    return Adapters(folder, Hypernetwork.for_unet(pipe.unet).requires_grad_(False), controlnet, False)


def stored_scores() -> dict:
    """Return the rates and agreements that were measured on the shipped adapters with many pictures."""
    if not SCORES.is_file():
        raise SdlabError(f"{SCORES} is missing: 'sdlab train steering' measures and writes it.")
    return json.loads(SCORES.read_text())


@torch.no_grad()
def entries(pipe, prompt_embeds: torch.Tensor, *, t: int = 500) -> dict[str, float]:
    """Return by how much three things differ from the plain model in one call of the U-Net, as shares of their size.

    READ: what to_k of the first cross-attention gets against the text. WEIGHTS: what it makes of that against its
    own matrix. FEATURES: what the first block on the right gets through its skips against what the left side sent.
    """
    unet, caught = unet_of(pipe), {}
    name, attn = next(iter(attention_layers(unet, CROSS).items()))
    to_k = getattr(attn.to_k, "base_layer", attn.to_k)
    hooks = [
        unet.get_submodule(name).to_k.register_forward_hook(lambda _, args, out: caught.update(read=args[0], key=out)),
        unet.down_blocks[-1].register_forward_hook(lambda _, args, out: caught.update(sent=out[1][-1])),
        unet.up_blocks[0].register_forward_pre_hook(
            lambda _, args, kwargs: caught.update(got=kwargs["res_hidden_states_tuple"][-1]), with_kwargs=True
        ),
    ]
    try:
        generator = torch.Generator().manual_seed(0)
        sample = torch.randn(1, unet.config.in_channels, *[unet.config.sample_size] * 2, generator=generator)
        unet(sample.to(unet.device, unet.dtype), t, encoder_hidden_states=prompt_embeds)
    finally:
        for hook in hooks:
            hook.remove()
    plain_key = nn.functional.linear(caught["read"], to_k.weight, to_k.bias)
    pairs = {READ: (caught["read"], prompt_embeds), WEIGHTS: (caught["key"], plain_key)}
    pairs[FEATURES] = (caught["got"], caught["sent"])
    return {what: float((found - plain).norm() / plain.norm()) for what, (found, plain) in pairs.items()}


def cost_table(numbers: dict, whole: int, flops: dict, seconds: dict, *, merges: dict) -> Table:
    """Return what each way in ``numbers`` costs: parameters, file, and a call's arithmetic and time against "base".

    whole: parameters of the U-Net. seconds: what ``take_turns`` returns. merges: way -> what it can be merged into.
    """
    head = ("", "parameters", "share of the U-Net", "file", "arithmetic of a call", "time of a call", "merges into")
    rows = []
    for way, count in numbers.items():
        arithmetic, time = flops[way] / flops["base"], seconds[way][0] / seconds["base"][0]
        costs = (f"{count:,}", f"{count / whole:.1%}", file_size(count), f"{arithmetic:.2f} x", f"{time:.1f} x")
        rows.append((way, *costs, merges[way]))
    return Table(head, rows)


METHODS = {
    "Textual inversion": ("one new token's vector", "embedding table, before the text encoder"),
    "Hypernetwork": ("two MLPs a width", "what keys and values read"),
    "LoRA, rank 4": ("two thin matrices a layer", "the weights of the attention"),
    "DreamBooth": ("the whole U-Net", "everywhere in it"),
    "ControlNet": ("a copy of the left side", "features in skips and middle"),
}


def methods_table(counts: dict[str, int]) -> Table:
    """Return what each of ``METHODS`` trains, where it enters, and its size, from counts of its numbers."""
    head = ("", "what is trained", "where it enters", "numbers", "file, 2 bytes a number")
    return Table(head, [(name, *METHODS[name], f"{count:,}", file_size(count)) for name, count in counts.items()])


def file_size(count: int) -> str:
    """Say how large a file of ``count`` numbers of 2 bytes is.

    >>> file_size(768), file_size(797_184)
    ('1.5 kB', '1.6 MB')
    """
    return f"{2 * count / 1e6:,.1f} MB" if count > 50_000 else f"{2 * count / 1e3:.1f} kB"


def on_face(heat_map: torch.Tensor) -> float:
    """Return how much hotter than the whole of a heat map [height, width] its middle is, where the face stands."""
    height, width = heat_map.shape
    middle = heat_map[height * 3 // 10 : height * 7 // 10, width * 3 // 10 : width * 7 // 10]
    return float(middle.mean() / heat_map.mean())


class Portraits:
    """Portraits of Momo and ordinary ones, as latents [N, 4, h, w] with their plans: something to learn from."""

    def __init__(self, pipe, *, momo: int = 32, ordinary: int = 32, first: int = 0):
        self.pipe, side = pipe, pipe.unet.config.sample_size * pipe.vae_scale_factor
        self.momo = [plan_momo(first + number) for number in range(momo)]
        self.ordinary = [plan_portrait(ORDINARY_SEED + first + number) for number in range(ordinary)]
        pictures = [np.asarray(draw_momo(plan, size=side)) for plan in self.momo]
        pictures += [draw_portrait(plan, size=side).image for plan in self.ordinary]
        self.latents = encode(pipe, to_batch(pictures)).to(pipe.device, pipe.unet.dtype)

    def batch(self, size: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (latents [size, 4, h, w], prompt_embeds [size, tokens, width]); one half of them is Momo.

        The captions are worded anew in every batch, and one in ten is left empty.
        """
        rng = np.random.default_rng(int(torch.randint(2**31, (1,), generator=generator)))
        half = size // 2 if self.ordinary else size
        rows = [*rng.integers(len(self.momo), size=half)]
        rows += [len(self.momo) + row for row in rng.integers(max(1, len(self.ordinary)), size=size - half)]
        return self.latents[rows], self._embed(["" if rng.random() < EMPTY else self._text(row, rng) for row in rows])

    def _text(self, row, rng) -> str:
        if row < len(self.momo):
            return momo_caption(self.momo[row], rng)
        return caption(self.ordinary[row - len(self.momo)], rng).text

    @torch.no_grad()
    def _embed(self, texts):
        return self.pipe.encode_prompt(texts, self.pipe.device, 1, False)[0]


@dataclass(frozen=True)
class Examination:
    """Rates with n and interval: is it Momo, what ordinary prompts name, ordinary pictures taken for Momo."""

    momo: dict
    ordinary: dict
    strangers: dict
    pictures: list


def examine(pipe, n: int, *, seed: int = 3, num_inference_steps: int = FEW_STEPS) -> Examination:
    """Draw ``n`` new prompts of Momo and ``n`` ordinary ones, always from the same noise, and let the judge count."""
    judge, ordinary = load_judge(), prompts(n, seed)
    texts = [text for text, _ in momo_prompts(n, seed=seed)]
    momo = draw_prompts(pipe, texts, seed=seed, num_inference_steps=num_inference_steps)
    others = draw_prompts(
        pipe, [item.text for item in ordinary], seed=seed + 1, num_inference_steps=num_inference_steps
    )
    found = agreement(judge_images(others, judge), [item.named for item in ordinary])
    return Examination(
        momo=share(sum(is_momo(momo, judge)), n),
        ordinary=share(*(sum(counts) for counts in zip(*found.values(), strict=True))),
        strangers=share(sum(is_momo(others, judge)), n),
        pictures=momo,
    )


@torch.no_grad()
def keep_rank(pipe, rank: int) -> None:
    """Cut the LoRA that ``pipe`` has down to its ``rank`` strongest directions a layer, in place (by singular values).

    The best matrix of a rank keeps the greatest singular values (Eckart & Young 1936).
    """
    layers = [module for module in unet_of(pipe).modules() if hasattr(module, "lora_A") and "lora" in module.lora_A]
    if not layers:
        raise SdlabError("There is no LoRA to cut down: call keep_rank inside 'with use_lora(...)'.")
    for layer in layers:
        down, up = layer.lora_A["lora"].weight, layer.lora_B["lora"].weight
        left, values, right = torch.linalg.svd((up @ down).float(), full_matrices=False)
        values = values[: len(down)] * (torch.arange(len(down), device=down.device) < rank)
        up.copy_(left[:, : len(down)] * values)
        down.copy_(right[: len(down)])


def only(hypernetwork: Hypernetwork, part: str) -> Hypernetwork:
    """Return a copy that works in cross-attention alone and changes what ``part`` reads: "k" or "v"."""
    changed = deepcopy(hypernetwork)
    changed.config["kinds"] = [CROSS]
    for pair in changed.layers.values():
        for other in {"k", "v"} - {part}:
            nn.init.zeros_(pair[other].linear[2].weight)
            nn.init.zeros_(pair[other].linear[2].bias)
    return changed


def new_controlnet(pipe):
    """Return an untrained ControlNet for ``pipe``: a copy of its encoder behind zero convolutions, on its device."""
    with quiet(progress=True):
        return make_controlnet(pipe.unet).to(pipe.device, pipe.unet.dtype)


@torch.no_grad()
def hint_signal(controlnet, hint: Image.Image) -> list[float]:
    """Return how much of a hint is left after each convolution that reads it: the distance to what black paper gives.

    As root mean squares; the hint itself is the first. The last convolution is left out: in a new ControlNet of
    diffusers it is zero.
    """
    embedding, size = controlnet.controlnet_cond_embedding, hint.size[::-1]
    hint = as_hint(hint, size=size, device=controlnet.device, dtype=controlnet.dtype)
    hidden, sizes = torch.cat([hint, torch.zeros_like(hint)]), [float(hint.square().mean().sqrt())]
    for convolution in (embedding.conv_in, *embedding.blocks):
        hidden = nn.functional.silu(convolution(hidden))
        sizes.append(float((hidden[0] - hidden[1]).square().mean().sqrt()))
    return sizes


def hint_for(pipe, plan, *, figure: bool = False) -> Image.Image:
    """Return the outlines of a planned portrait in the size that ``pipe`` draws; see ``plan_outline``."""
    side = pipe.unet.config.sample_size * pipe.vae_scale_factor
    return plan_outline(plan, figure=figure).resize((side, side), Image.Resampling.NEAREST)


def draw_along(
    pipe, controlnet, texts: list[str], hints: list, *, seed: int = 0, num_inference_steps: int = FEW_STEPS
) -> list:
    """Draw each text along its own hint, all in one batch, with diffusers' own pipeline; picture i from seed + i."""
    from diffusers import StableDiffusionControlNetPipeline

    theirs = StableDiffusionControlNetPipeline(**pipe.components, controlnet=controlnet, requires_safety_checker=False)
    theirs.set_progress_bar_config(disable=True)
    options = {"num_inference_steps": num_inference_steps, "guidance_scale": DEFAULT_GUIDANCE}
    return theirs(texts, hints, generator=seeded_generators(seed, len(texts)), **options).images


def agreements(images, hints) -> np.ndarray:
    """Return ``outline_agreement`` of every picture with its own hint, as an array."""
    return np.array([outline_agreement(image, hint) for image, hint in zip(images, hints, strict=True)])
