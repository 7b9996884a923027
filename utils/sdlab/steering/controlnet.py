"""ControlNet: a copy of the U-Net's encoder reads a hint, and zero convolutions add what it finds (Zhang et al. 2023).

Its outputs are added to the skips and to the middle block's output, not to attention. Here it is attached to the
U-Net itself, so every instrument of the course (draw, steps, record_attention) works with it unchanged.
"""

import json
from pathlib import Path

import torch
from diffusers import ControlNetModel
from torch import nn

from ..arguments import check_size, check_weight
from ..compat import quiet, unet_of
from ..errors import SdlabError, context
from ..weights import readable
from .outlines import as_hint

EMBEDDING = (16, 32, 64, 64)  # channels that take the hint from 128 to 16 pixels


def load_controlnet(folder: str | Path, *, device="cpu", dtype=torch.float32):
    """Return the ``ControlNetModel`` of a folder in diffusers' layout, after comparing its hash."""
    from diffusers import ControlNetModel

    folder = Path(folder)
    if not (folder / "config.json").is_file():
        raise SdlabError(f"There is no ControlNet in {folder}: it would hold a config.json.")
    with quiet(progress=True), readable(folder, "ControlNet"):
        controlnet = ControlNetModel.from_pretrained(str(folder), local_files_only=True).to(device, dtype)
    return controlnet.eval().requires_grad_(False)


@context
def use_controlnet(pipe, controlnet, hint, *, scale: float = 1.0, height: int | None = None, width: int | None = None):
    """Let ``controlnet`` add what it reads in ``hint`` to every call of the U-Net inside the block.

    hint: a picture of the size that is drawn, or a float tensor [3, height, width] in [0, 1]; white lines on black.
    scale: factor of all added features (diffusers' controlnet_conditioning_scale); 0 is exactly the base model.
    height, width: of the drawing in pixels, if they are not the model's own.
    Raises SdlabError for a hint of another size or a ControlNet of another model. Always taken out at the end.
    """
    scale, unet = check_weight(scale), unet_of(pipe)
    check_controlnet(controlnet, unet)
    hint = as_hint(hint, size=check_size(pipe, height, width), device=unet.device, dtype=unet.dtype)
    controlnet.to(unet.device, unet.dtype)
    handle = unet.register_forward_pre_hook(_adder(controlnet, hint, scale), with_kwargs=True)
    try:
        yield pipe
    finally:
        handle.remove()


def _adder(controlnet, hint, scale):
    """Return a hook that calls the ControlNet first and hands its features to the U-Net's own call."""

    def add(unet, arguments, options):
        sample, t = (*arguments, *(options[name] for name in ("sample", "timestep") if name in options))[:2]
        down, mid = controlnet(
            sample,
            t,
            encoder_hidden_states=options["encoder_hidden_states"],
            controlnet_cond=hint.expand(len(sample), -1, -1, -1),
            conditioning_scale=scale,
            added_cond_kwargs=options.get("added_cond_kwargs"),  # SDXL
            return_dict=False,
        )
        return arguments, {**options, "down_block_additional_residuals": down, "mid_block_additional_residual": mid}

    return add


def check_controlnet(controlnet, unet) -> None:
    """Raise SdlabError unless ``controlnet`` is a copy of the encoder of a U-Net like ``unet``."""
    from diffusers import ControlNetModel

    if not isinstance(controlnet, ControlNetModel):
        raise SdlabError(f"controlnet must be a ControlNetModel, but got {type(controlnet).__name__}: load it first.")
    for name in ("block_out_channels", "cross_attention_dim", "layers_per_block", "in_channels"):
        theirs, ours = controlnet.config[name], unet.config[name]
        if json.dumps(theirs) != json.dumps(ours):
            raise SdlabError(
                f"This ControlNet belongs to another model: its {name} is {theirs}, that of this U-Net {ours}."
            )


def make_controlnet(unet, *, hint_start: str = "he"):
    """Return a ControlNet that starts as a copy of the U-Net's encoder, with zero convolutions.

    hint_start: "diffusers" leaves all as it is there: the hint's last convolution is a zero one too. With "he" the
    convolutions that read the hint start by He et al. 2015: with torch's usual start each makes its input three
    times smaller, 1e-5 is left after seven, and training goes on for a long time before any of it sees the hint.
    """
    if hint_start not in ("he", "diffusers"):
        raise SdlabError(f"hint_start={hint_start!r} must be 'he' or 'diffusers'.")
    controlnet = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=EMBEDDING)
    if hint_start == "diffusers":
        return controlnet
    embedding = controlnet.controlnet_cond_embedding
    for convolution in (embedding.conv_in, *embedding.blocks, embedding.conv_out):
        nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
        nn.init.zeros_(convolution.bias)
    return controlnet
