"""The only file that knows names which diffusers, transformers or torch do not promise to keep.

Each is used on a real model by tests/test_attention.py, which fails loudly when a library renames one.
"""

from contextlib import contextmanager
from importlib import import_module

from .errors import SdlabError

CROSS, SELF = "attn2", "attn1"  # how a BasicTransformerBlock calls its two attentions
_PLACES = ("down_blocks", "mid_block", "up_blocks")  # execution order; named_modules() yields down, up, mid


def need(module: str, *, of: str):
    """Return a module of a package that the core does without; say what to install where it is not there."""
    try:
        return import_module(module)
    except ImportError:
        package = module.partition(".")[0].replace("skimage", "scikit-image")
        raise SdlabError(f"{of} needs the package {package}: pip install {package}, or 'sdlab[course]'.") from None


def unet_of(pipe):
    """Return the U-Net of ``pipe`` (or ``pipe`` itself if it is one); raise SdlabError if hooks cannot see into it."""
    from diffusers import UNet2DConditionModel

    unet = getattr(pipe, "unet", pipe)
    if hasattr(unet, "_orig_mod") or is_compiled(unet):
        raise SdlabError(
            "The U-Net is compiled, and compiled code ignores hooks without a word: load the pipeline anew and "
            "use it without torch.compile."
        )
    if not isinstance(unet, UNet2DConditionModel):
        raise SdlabError(
            f"{type(pipe).__name__} has no UNet2DConditionModel: give a Stable Diffusion pipeline (SD 1.x, 2.x, SDXL)."
        )
    return unet


def is_compiled(module) -> bool:
    """Say whether ``module.compile()`` was called on ``module`` or on a part of it."""
    parts = module.modules() if hasattr(module, "modules") else ()
    return any(getattr(part, "_compiled_call_impl", None) is not None for part in parts)


def attention_layers(unet, kind: str = CROSS) -> dict:
    """Return the ``Attention`` modules of one ``kind`` by name, in execution order: down, middle, up."""
    from diffusers.models.attention_processor import Attention

    found = {
        name: module
        for name, module in unet.named_modules()
        if isinstance(module, Attention) and name.rpartition(".")[2] == kind
    }
    if not found:
        raise SdlabError(
            f"No attention layer of this U-Net is called '{kind}': it has none, or diffusers has renamed its modules."
        )
    return dict(sorted(found.items(), key=lambda item: _PLACES.index(item[0].split(".")[0])))


def projections(attn) -> tuple:
    """Return the linear layers that make queries, keys and values in an ``Attention``."""
    return attn.to_q, attn.to_k, attn.to_v


def right_hand_blocks(unet) -> list:
    """Return (name, module, channels that come from below) of every ResnetBlock that reads a skip, in their order."""
    found, below = [], unet.mid_block.resnets[-1].out_channels
    for number, block in enumerate(unet.up_blocks):
        for index, resnet in enumerate(block.resnets):
            found.append((f"up_blocks.{number}.resnets.{index}", resnet, below))
            below = resnet.out_channels
    return found


def left_hand_layers(block) -> list[str]:
    """Return the names, inside a left-hand block, of the layers that put something aside, in their order."""
    kind = "attentions" if getattr(block, "attentions", None) else "resnets"
    return [*(f"{kind}.{index}" for index in range(len(block.resnets))), "downsamplers.0"]


def is_hooked(module) -> bool:
    """Say whether ``module`` or a part of it has hooks: steering and recordings have."""
    return any(part._forward_hooks or part._forward_pre_hooks for part in module.modules())


def step_options(pipe, generators) -> dict:
    """Return what ``pipe`` hands to its scheduler's step beside the samples: eta 0, and generators if it takes them."""
    return pipe.prepare_extra_step_kwargs(generators, 0.0)


def enclosing_transformer(unet, name: str):
    """Return the ``Transformer2DModel`` around the attention layer ``name``: the last to know height and width."""
    return unet.get_submodule(name.partition(".transformer_blocks.")[0])


def layer_sizes(unet, height: int, width: int) -> dict[str, tuple[int, int]]:
    """Return (height, width) inside each down, middle and up block for latents of ``height`` x ``width``."""
    sizes, size = {}, (height, width)
    for index, block in enumerate(unet.down_blocks):
        sizes[f"down_blocks.{index}"] = sizes[f"up_blocks.{len(unet.down_blocks) - 1 - index}"] = size
        if getattr(block, "downsamplers", None) is not None:
            size = ((size[0] + 1) // 2, (size[1] + 1) // 2)  # a 3 x 3 convolution of stride 2 with a border of 1
    return {**sizes, "mid_block": size}


def check_attention(name: str, attn) -> None:
    """Raise SdlabError if the probabilities of this layer cannot be had from its queries and keys alone."""
    from diffusers.models.attention_processor import FusedAttnProcessor2_0

    if isinstance(attn.processor, FusedAttnProcessor2_0):
        raise SdlabError(
            f"{name} has fused projections, so there is no separate query and key to look at: "
            "call pipe.unfuse_qkv_projections() first."
        )
    if attn.norm_q is not None or attn.norm_k is not None or attn.added_kv_proj_dim is not None:
        raise SdlabError(f"{name} normalizes or adds keys: this kind of attention is not one of SD 1.x, 2.x or SDXL.")


def refuse_ip_adapter(unet, what: str) -> None:
    """Raise SdlabError if an IP-Adapter is loaded: its layers read a picture beside the text."""
    if getattr(unet.config, "encoder_hid_dim_type", None) == "ip_image_proj":
        raise SdlabError(f"{what} does not know IP-Adapters, and one is loaded: call pipe.unload_ip_adapter() first.")


@contextmanager
def eager_attention(text_encoder):
    """Let the text encoder return its attention probabilities (fused kernels do not); restore what it used."""
    before = text_encoder.config._attn_implementation
    try:
        text_encoder.set_attn_implementation("eager")
        yield text_encoder
    finally:
        text_encoder.set_attn_implementation(before)


def text_transformer(text_encoder):
    """Return the part of a CLIP text encoder that holds ``embeddings``, ``encoder.layers`` and ``final_layer_norm``.

    transformers 5.6 and later have them on ``CLIPTextModel`` itself, earlier versions on its ``text_model``.
    """
    inner = getattr(text_encoder, "text_model", text_encoder)
    if not hasattr(inner, "embeddings") or not hasattr(inner, "final_layer_norm"):
        raise SdlabError(f"{type(text_encoder).__name__} is not a CLIP text encoder that this course knows.")
    return inner


def skipped_states(text_encoder, hidden_states) -> list:
    """Return the states that ``clip_skip`` may choose: those between the layers, as they are (SDXL) and normalized."""
    norm = text_transformer(text_encoder).final_layer_norm
    return [*hidden_states, *(norm(state) for state in hidden_states)]


def text_parts(pipe) -> tuple:
    """Return the first (tokenizer, text encoder) of ``pipe``; SDXL's refiner has only the second of each."""
    for end in ("", "_2"):
        parts = getattr(pipe, f"tokenizer{end}", None), getattr(pipe, f"text_encoder{end}", None)
        if None not in parts:
            return parts
    raise SdlabError(f"{type(pipe).__name__} has no tokenizer and text encoder: give the pipeline they belong to.")


def expand_tokens(tokenizer, text: str) -> str:
    """Return ``text`` as diffusers encodes it: an embedding of several vectors stands as its several tokens."""
    from diffusers.loaders import TextualInversionLoaderMixin

    return TextualInversionLoaderMixin().maybe_convert_prompt(text, tokenizer)


def added_conditions(pipe, pooled, size, *, low_score: bool = False) -> dict:
    """Return what SDXL's U-Net reads beside the text: its pooled vector [n, dim] and numbers on size and crop [n, 6].

    size: (height, width) of the picture. SDXL's refiner reads a score of beauty in place of the wanted size:
    6, or 2.5 (``low_score``) with the negative prompt.
    """
    import torch

    refiner = getattr(pipe.config, "requires_aesthetics_score", False)
    numbers = [*size, 0, 0, *([2.5 if low_score else 6.0] if refiner else size)]
    time_ids = torch.tensor([numbers], dtype=pooled.dtype, device=pooled.device)
    return {"text_embeds": pooled, "time_ids": time_ids.repeat(len(pooled), 1)}


@contextmanager
def quiet(*, progress: bool = False):
    """Switch off the libraries' loading bars (unless ``progress``) and chatter below errors; restore both."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    libraries = (diffusers_logging, transformers_logging)
    before = [(library.get_verbosity(), library.is_progress_bar_enabled()) for library in libraries]
    try:
        for library in libraries:
            library.set_verbosity_error()
            if not progress:
                library.disable_progress_bar()
        yield
    finally:
        for library, (verbosity, bar) in zip(libraries, before, strict=True):
            library.set_verbosity(verbosity)
            if bar:
                library.enable_progress_bar()
