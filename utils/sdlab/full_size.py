"""A Stable Diffusion from its configs alone: its three parts on torch's meta device, their parameters and their work.

The meta device computes shapes and holds no numbers, so SD 1.5 at full size takes seconds and no memory. One
multiplication and one addition count as two floating point operations (FLOPs).
"""

from dataclasses import dataclass

import torch

from .errors import SdlabError
from .unet_configs import CONFIGS, build_on_meta

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
KINDS = {  # what torch's counter calls an operation -> what it does in the network
    "convolution": "convolution",
    "addmm": "linear",
    "mm": "linear",
    "bmm": "attention",
    "baddbmm": "attention",
}


@dataclass(frozen=True)
class Plan:
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


def plan(pipe="sd15", *, name: str | None = None) -> Plan:
    """Return the ``Plan`` of a pipeline, or of "sd15" from its published configs."""
    parts = build_parts(pipe)
    unet, text = parts["unet"].config, parts["text_encoder"].config
    size, factor = unet.sample_size, 2 ** (len(parts["vae"].config.block_out_channels) - 1)
    heads = unet.attention_head_dim  # diffusers keeps the number of heads under this name
    flops = {part: sum(count_part(parts, part).values()) for part in ("text_encoder", "vae")}
    kinds = count_part(parts, "unet")
    return Plan(
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


def count_part(parts: dict, part: str, *, size: int | None = None) -> dict[str, int]:
    """Return the FLOPs by kind of one call of a part, for one row; ``size``: side of the latents.

    For the VAE the decoding counts, which is all that text to image needs of it.
    """
    unet = parts["unet"].config
    size = size or unet.sample_size
    tokens = parts["text_encoder"].config.max_position_embeddings
    calls = {
        "text_encoder": lambda: parts[part](torch.zeros(1, tokens, dtype=torch.long)),
        "unet": lambda: parts[part](
            torch.empty(1, unet.in_channels, size, size),
            torch.zeros(1),
            torch.empty(1, tokens, unet.cross_attention_dim),
        ),
        "vae": lambda: parts[part].decode(torch.empty(1, unet.in_channels, size, size)),
    }
    return count_flops(calls[part])


def count_flops(call) -> dict[str, int]:
    """Run ``call()`` on the meta device; return its FLOPs by kind: convolution, linear, attention.

    "attention" is what grows with the square of the number of cells: queries times keys, and weights times values;
    the layers that make queries, keys and values are "linear". Additions and activations are not counted.
    """
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter, torch.no_grad(), torch.device("meta"):
        call()
    kinds = dict.fromkeys(("convolution", "linear", "attention"), 0)
    for operation, count in counter.get_flop_counts()["Global"].items():
        kinds[KINDS.get(str(operation).split(".")[-1], "attention")] += count
    return kinds


def random_pipeline(pipe="sd15", *, device="cpu", dtype: torch.dtype = torch.float32):
    """Return a ``StableDiffusionPipeline`` with the configs of ``pipe`` (by default SD 1.5's) and random weights.

    It costs what the trained model costs and draws noise. "sd15" gets the pocket model's tokenizer.
    """
    from diffusers import PNDMScheduler, StableDiffusionPipeline

    from .pipeline import load_pipeline

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


def find_full_size(name: str = "sd15") -> tuple:
    """Return (pipeline, "") if ``name`` can run here without a download: a CUDA GPU and its files are there.

    Otherwise (None, one line that says what is missing).
    """
    from .pipeline import HUB_IDS, choose_device, load_pipeline

    if choose_device().type != "cuda":
        return None, "no CUDA GPU here: what is said about Stable Diffusion 1.5 below was measured elsewhere"
    from huggingface_hub import try_to_load_from_cache

    if not isinstance(try_to_load_from_cache(HUB_IDS[name], "model_index.json"), str):
        return None, f"a GPU, but not the weights: load_pipeline({name!r}) gets them once; stored figures until then"
    try:
        return load_pipeline(name), ""
    except SdlabError as error:
        return None, str(error)
