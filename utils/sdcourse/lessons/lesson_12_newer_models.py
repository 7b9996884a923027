"""What came after Stable Diffusion 1.5: published configs of the denoisers, built on the meta device and counted."""

from dataclasses import dataclass

import torch

from sdlab.figures import Table
from sdlab.instruments import CONFIGS, build_on_meta, count_flops

SD2 = {  # stabilityai/stable-diffusion-2-1: unet/config.json
    **CONFIGS["sd15"],
    "sample_size": 96,
    "attention_head_dim": [5, 10, 20, 20],
    "cross_attention_dim": 1024,
    "use_linear_projection": True,
}
SD3 = {  # stabilityai/stable-diffusion-3-medium-diffusers: transformer/config.json
    "sample_size": 128,
    "patch_size": 2,
    "in_channels": 16,
    "out_channels": 16,
    "num_layers": 24,
    "attention_head_dim": 64,
    "num_attention_heads": 24,
    "caption_projection_dim": 1536,
    "joint_attention_dim": 4096,
    "pooled_projection_dim": 2048,
    "pos_embed_max_size": 192,
}
FLUX = {  # black-forest-labs/FLUX.1-dev: transformer/config.json; its 64 channels are 2 x 2 cells of 16 channels
    "patch_size": 1,
    "in_channels": 64,
    "num_layers": 19,
    "num_single_layers": 38,
    "attention_head_dim": 128,
    "num_attention_heads": 24,
    "joint_attention_dim": 4096,
    "pooled_projection_dim": 768,
    "guidance_embeds": True,
}


@dataclass(frozen=True)
class PublishedModel:
    """One published model; ``parameters`` and ``flops`` (of one call, one row) are of its denoiser, counted here."""

    name: str
    denoiser: str
    picture: int
    latents: tuple
    context: tuple
    text: str
    learns: str
    parameters: int
    flops: int


def models_table(models: dict[str, PublishedModel]) -> Table:
    """Return the models in rows."""
    return Table(_HEAD, [_cells(model) for model in models.values()])


_HEAD = (
    "model",
    "called in every step",
    "its parameters",
    "TFLOP a call",
    "picture",
    "latents",
    "text it reads",
    "made by",
    "it learns to say",
)


def _cells(model: PublishedModel) -> tuple:
    return (
        model.name,
        model.denoiser,
        f"{model.parameters / 1e9:.2f} billion",
        f"{model.flops / 1e12:.1f}",
        f"{model.picture} px",
        " x ".join(map(str, model.latents)),
        " x ".join(map(str, model.context)),
        model.text,
        model.learns,
    )


def newer_models() -> dict[str, PublishedModel]:
    """Return SD 1.5, SD 2.1, SDXL, SD 3 medium and FLUX.1 dev: what is inside, and the work of one call.

    Each at the size of its training. Counted from the configs; no weights are needed.
    """
    models = [
        _unet("SD 1.5", CONFIGS["sd15"], "CLIP", "the noise"),
        _unet("SD 2.1", SD2, "OpenCLIP", "v"),
        _unet("SDXL", CONFIGS["sdxl"], "CLIP and OpenCLIP", "the noise"),
        _sd3(),
        _flux(),
    ]
    return {model.name: model for model in models}


def _unet(name: str, config: dict, text: str, learns: str) -> PublishedModel:
    unet = build_on_meta(config)
    size, width = config["sample_size"], config["cross_attention_dim"]
    added = None
    if "addition_embed_type" in config:  # SDXL also reads sizes and a vector of the whole text
        added = {"text_embeds": torch.empty(1, 1280, device="meta"), "time_ids": torch.empty(1, 6, device="meta")}
    flops = count_flops(
        lambda: unet(torch.empty(1, 4, size, size), torch.zeros(1), torch.empty(1, 77, width), added_cond_kwargs=added)
    )
    return _model(name, unet, flops, size * 8, (4, size, size), (77, width), text, learns)


def _sd3() -> PublishedModel:
    from diffusers import SD3Transformer2DModel

    with torch.device("meta"):
        transformer = SD3Transformer2DModel(**SD3).eval()
    tokens = 77 + 256  # those of the two CLIPs side by side, then those of T5
    flops = count_flops(
        lambda: transformer(
            torch.empty(1, 16, 128, 128), torch.empty(1, tokens, 4096), torch.empty(1, 2048), torch.zeros(1)
        )
    )
    text = "two CLIPs and T5"
    return _model("SD 3 medium", transformer, flops, 1024, (16, 128, 128), (tokens, 4096), text, "the velocity")


def _flux() -> PublishedModel:
    from diffusers import FluxTransformer2DModel

    with torch.device("meta"):
        transformer = FluxTransformer2DModel(**FLUX).eval()
    cells, tokens = 64 * 64, 512  # 128 x 128 cells of 16 channels, taken 2 x 2 at a time
    flops = count_flops(
        lambda: transformer(
            hidden_states=torch.empty(1, cells, 64),
            encoder_hidden_states=torch.empty(1, tokens, 4096),
            pooled_projections=torch.empty(1, 768),
            timestep=torch.zeros(1),
            img_ids=torch.zeros(cells, 3),
            txt_ids=torch.zeros(tokens, 3),
            guidance=torch.zeros(1),
        )
    )
    return _model(
        "FLUX.1 dev", transformer, flops, 1024, (16, 128, 128), (tokens, 4096), "T5 (and CLIP)", "the velocity"
    )


def _model(name, denoiser, flops: dict, picture, latents, context, text, learns) -> PublishedModel:
    kind = "transformer" if "Transformer" in type(denoiser).__name__ else "U-Net"
    count = sum(weight.numel() for weight in denoiser.parameters())
    return PublishedModel(name, kind, picture, latents, context, text, learns, count, sum(flops.values()))
