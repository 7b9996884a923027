"""A Stable Diffusion from its configs alone: its three parts on torch's meta device, or filled with random weights.

The meta device computes shapes and holds no numbers, so SD 1.5 at full size takes seconds and no memory.
"""

import torch

from ..errors import SdlabError
from ..pipeline import load_pipeline

PARTS = ("text_encoder", "unet", "vae")
TEXT_CONFIG = {  # as published with SD 1.5: text_encoder/config.json and vae/config.json
    "vocab_size": 49408,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "projection_dim": 768,
    "hidden_act": "quick_gelu",
}
VAE_CONFIG = {
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "block_out_channels": [128, 256, 512, 512],
    "layers_per_block": 2,
    "latent_channels": 4,
    "sample_size": 512,
}
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


def build_parts(pipe="sd15") -> dict:
    """Return text encoder, U-Net and VAE of a pipeline, or of "sd15", newly built on the meta device.

    Raises SdlabError for another name.
    """
    if isinstance(pipe, str) and pipe != "sd15":
        raise SdlabError(f"There are no configs of {pipe!r} here: use 'sd15' or a pipeline.")
    from diffusers import AutoencoderKL
    from transformers import CLIPTextConfig, CLIPTextModel

    known = isinstance(pipe, str)
    text = TEXT_CONFIG if known else pipe.text_encoder.config.to_dict()
    with torch.device("meta"):
        text_encoder = CLIPTextModel(CLIPTextConfig(**text)).eval()
        vae = AutoencoderKL.from_config(VAE_CONFIG if known else dict(pipe.vae.config)).eval()
    unet = build_on_meta(CONFIGS["sd15"] if known else dict(pipe.unet.config))
    return {"text_encoder": text_encoder, "unet": unet, "vae": vae}


def random_pipeline(pipe="sd15", *, device="cpu", dtype: torch.dtype = torch.float32):
    """Return a ``StableDiffusionPipeline`` with the configs of ``pipe`` (by default SD 1.5's) and random weights.

    It costs what the trained model costs and draws noise. "sd15" gets the pocket model's tokenizer.
    """
    from diffusers import PNDMScheduler, StableDiffusionPipeline

    source = load_pipeline("pocket", device="cpu") if isinstance(pipe, str) else pipe
    parts = {name: _fill(part.to(dtype), device) for name, part in build_parts(pipe).items()}
    made = StableDiffusionPipeline(
        **parts,
        tokenizer=source.tokenizer,
        scheduler=PNDMScheduler.from_config(source.scheduler.config, skip_prk_steps=True),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    made.set_progress_bar_config(disable=True)
    return made


@torch.no_grad()
def _fill(part, device):
    """Give a part on the meta device memory on ``device`` and random weights that keep numbers in range."""
    part = part.to_empty(device=device).eval()
    generator = torch.Generator(device=device).manual_seed(0)
    for name, weight in part.named_parameters():
        if weight.ndim > 1:
            bound = weight[0].numel() ** -0.5
            weight.uniform_(-bound, bound, generator=generator)
        else:
            weight.fill_(float(name.endswith("weight")))
    for name, buffer in part.named_buffers():
        if name.endswith("position_ids"):
            buffer.copy_(torch.arange(buffer.shape[-1]).expand(buffer.shape))
    return part


def build_on_meta(config: str | dict):
    """Return a ``UNet2DConditionModel`` without memory for its weights, from a config or its name in ``CONFIGS``."""
    from diffusers import UNet2DConditionModel

    if isinstance(config, str) and config not in CONFIGS:
        raise SdlabError(f"There is no config {config!r}: use one of {', '.join(CONFIGS)}, a pipeline or a U-Net.")
    with torch.device("meta"):
        return UNet2DConditionModel.from_config(CONFIGS[config] if isinstance(config, str) else config).eval()
