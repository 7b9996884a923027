"""The published U-Net configs of SD 1.5 and SDXL, and a U-Net built from a config without memory for its weights."""

import torch

from .errors import SdlabError

_FOUR_DOWN = ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"]
_FOUR_UP = ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3
CONFIGS = {  # as published with the weights: unet/config.json of the two repositories
    "sd15": {
        "sample_size": 64,
        "down_block_types": _FOUR_DOWN,
        "up_block_types": _FOUR_UP,
        "block_out_channels": [320, 640, 1280, 1280],
        "layers_per_block": 2,
        "attention_head_dim": 8,
        "cross_attention_dim": 768,
    },
    "sdxl": {
        "sample_size": 128,
        "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
        "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
        "block_out_channels": [320, 640, 1280],
        "layers_per_block": 2,
        "attention_head_dim": [5, 10, 20],
        "cross_attention_dim": 2048,
        "transformer_layers_per_block": [1, 2, 10],
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2816,
    },
}


def build_on_meta(config: str | dict):
    """Return a ``UNet2DConditionModel`` without memory for its weights, from a config or its name in ``CONFIGS``."""
    from diffusers import UNet2DConditionModel

    if isinstance(config, str) and config not in CONFIGS:
        raise SdlabError(f"There is no config {config!r}: use one of {', '.join(CONFIGS)}, a pipeline or a U-Net.")
    with torch.device("meta"):
        return UNet2DConditionModel.from_config(CONFIGS[config] if isinstance(config, str) else config).eval()
