"""Lesson 12, counted: the sizes and the arithmetic of the pocket model and of Stable Diffusion 1.5."""

from dataclasses import dataclass

import torch

from sdlab import SdlabError, load_pipeline
from sdlab.instruments import build_parts, count_part
from sdlab.instruments.configs import PARTS
from sdlab.pipeline import HUB_IDS, choose_device


@dataclass(frozen=True)
class ModelSizes:
    """What the configs of a Stable Diffusion say, without its weights.

    latents: (channels, height, width); context: (tokens, width) of the text; widths: channels on each level.
    parameters: of each part; flops: of one call of each part for one picture; kinds: a U-Net call's FLOPs by kind.
    """

    name: str
    widths: tuple
    heads: tuple
    latents: tuple
    context: tuple
    picture: int
    vocabulary: int
    parameters: dict
    flops: dict
    kinds: dict

    def weight_bytes(self, dtype: torch.dtype = torch.float32) -> int:
        """Return the bytes that all weights take in ``dtype``."""
        return sum(self.parameters.values()) * dtype.itemsize

    def picture_flops(self, num_inference_steps: int, *, guidance: bool = True) -> int:
        """Return the FLOPs of one picture: two sentences and two rows in every call with guidance, one decoding."""
        rows = 2 if guidance else 1
        once = rows * self.flops["text_encoder"] + self.flops["vae"]
        return once + rows * num_inference_steps * self.flops["unet"]


def sizes_of(pipe="sd15", *, name: str | None = None) -> ModelSizes:
    """Return the ``Plan`` of a pipeline, or of "sd15" from its published configs."""
    parts = build_parts(pipe)
    unet, text = parts["unet"].config, parts["text_encoder"].config
    size, factor = unet.sample_size, 2 ** (len(parts["vae"].config.block_out_channels) - 1)
    heads = unet.attention_head_dim  # diffusers keeps the number of heads under this name
    flops = {part: sum(count_part(parts, part).values()) for part in ("text_encoder", "vae")}
    kinds = count_part(parts, "unet")
    return ModelSizes(
        name=name or (pipe if isinstance(pipe, str) else "this model"),
        widths=tuple(unet.block_out_channels),
        heads=tuple([heads] * len(unet.block_out_channels) if isinstance(heads, int) else heads),
        latents=(unet.in_channels, size, size),
        context=(text.max_position_embeddings, unet.cross_attention_dim),
        picture=size * factor,
        vocabulary=text.vocab_size,
        parameters={part: sum(weight.numel() for weight in parts[part].parameters()) for part in PARTS},
        flops={**flops, "unet": sum(kinds.values())},
        kinds=kinds,
    )


def find_full_size(name: str = "sd15") -> tuple:
    """Return (pipeline, "") if ``name`` can run here without a download: a CUDA GPU and its files are there.

    Otherwise (None, one line that says what is missing).
    """
    if choose_device().type != "cuda":
        return None, "no CUDA GPU here: what is said about Stable Diffusion 1.5 below was measured elsewhere"
    from huggingface_hub import try_to_load_from_cache

    if not isinstance(try_to_load_from_cache(HUB_IDS[name], "model_index.json"), str):
        return None, f"a GPU, but not the weights: load_pipeline({name!r}) gets them once; stored figures until then"
    try:
        return load_pipeline(name), ""
    except SdlabError as error:
        return None, str(error)
