"""Steer a model without retraining it: Hypernetwork (what attention reads), LoRA (weights), ControlNet (features).

    with use_lora(pipe, SHIPPED["lora"], strength=0.8):
        draw(pipe, "Momo the cat at the beach")

Each is a context manager that leaves the pipeline exactly as it found it, also after an error.
"""

from pathlib import Path

from .controlnet import load_controlnet, use_controlnet
from .hints import outline, outline_agreement, plan_outline
from .hypernetwork import Hypernetwork, use_hypernetwork
from .lora import add_lora, save_lora, use_lora
from .momo import draw_momo, is_momo, momo_prompts, plan_momo

STEERING_FOLDER = Path(__file__).parent.parent / "models" / "steering"
SHIPPED = {name: STEERING_FOLDER / name for name in ("lora", "hypernetwork", "controlnet")}

__all__ = [
    "SHIPPED",
    "Hypernetwork",
    "add_lora",
    "draw_momo",
    "is_momo",
    "load_controlnet",
    "momo_prompts",
    "outline",
    "outline_agreement",
    "plan_momo",
    "plan_outline",
    "save_lora",
    "use_controlnet",
    "use_hypernetwork",
    "use_lora",
]
