"""Inside Stable Diffusion: a small package around a real diffusers pipeline.

``import sdlab`` is light; torch and diffusers are imported by the first call that needs them.
"""

from importlib import import_module

from .errors import SdlabError

__version__ = "0.1.0"

_LAZY = {
    "load_pipeline": "pipeline",
    "draw": "drawing",
    "seeded_generators": "drawing",
    "check_prompt": "prompts",
    "token_positions": "prompts",
    "SAMPLERS": "samplers",
    "use_sampler": "samplers",
    "ddpm_step": "samplers",
    "ddim_step": "samplers",
    "euler_step": "samplers",
    "sample": "samplers",
    "denoising_steps": "denoising",
    "encode_prompt": "denoising",
    "start_noise": "denoising",
    "predict_noise": "denoising",
    "guide": "denoising",
    "noise_predictor": "denoising",
    "encode": "latents",
    "decode": "latents",
    "redraw": "image_to_image",
    "inpaint": "image_to_image",
    "prepare_image": "images",
    "contact_sheet": "images",
    "attention_layers": "compat",
    "count_parameters": "weights",
    "show_images": "figures",
    "explore": "figures",
    "drawing_panel": "figures",
}
__all__ = ["SdlabError", "__version__", *_LAZY]


def __getattr__(name: str):
    """Import the module that holds ``name`` the first time it is asked for."""
    if name not in _LAZY:
        raise AttributeError(f"module 'sdlab' has no attribute {name!r}")
    return getattr(import_module(f".{_LAZY[name]}", __name__), name)


def __dir__() -> list[str]:
    """List the public names, also those not imported yet."""
    return sorted(__all__)
