"""Steer a model without retraining it: Hypernetwork (what attention reads), LoRA (weights), ControlNet (features).

    with use_lora(pipe, SHIPPED["lora"], scale=0.8):
        draw(pipe, "Momo the cat at the beach")

Each is a context manager that leaves the pipeline exactly as it found it, also after an error.
"""

from ..weights import MODELS_FOLDER
from .controlnet import load_controlnet, make_controlnet, use_controlnet
from .hypernetwork import Hypernetwork, use_hypernetwork
from .lora import WEIGHTS, add_lora, save_lora, use_lora
from .outlines import as_hint, outline, outline_agreement

SHIPPED = {name: MODELS_FOLDER / "steering" / name for name in ("lora", "hypernetwork", "controlnet")}

__all__ = [
    "SHIPPED",
    "WEIGHTS",
    "Hypernetwork",
    "add_lora",
    "as_hint",
    "load_controlnet",
    "make_controlnet",
    "outline",
    "outline_agreement",
    "save_lora",
    "use_controlnet",
    "use_hypernetwork",
    "use_lora",
]
