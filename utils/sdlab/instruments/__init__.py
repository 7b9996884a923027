"""Look inside a Stable Diffusion (SD 1.x, 2.x, SDXL) while it draws; nothing is replaced, and nothing stays behind.

    with record_attention(pipe, prompt="a man with blue eyes") as maps:
        draw(pipe, "a man with blue eyes")
    maps.heat_map("eyes")

Every instrument is a context manager, or a function of a pipeline or U-Net; hooks are gone afterwards, also after
an error.
"""

from .attention import record_attention, record_self_attention, text_self_attention
from .attention_edits import edit_attention, keep_maps, scale_tokens
from .attention_options import attention_bytes
from .configs import CONFIGS, build_on_meta, build_parts, random_pipeline
from .costs import Meter, count_calls, count_flops, count_part, part_seconds, take_turns
from .features import record_features
from .skips import edit_skips
from .unet_table import unet_table

__all__ = [
    "CONFIGS",
    "Meter",
    "attention_bytes",
    "build_on_meta",
    "build_parts",
    "count_calls",
    "count_flops",
    "count_part",
    "edit_attention",
    "edit_skips",
    "keep_maps",
    "part_seconds",
    "random_pipeline",
    "record_attention",
    "record_features",
    "record_self_attention",
    "scale_tokens",
    "take_turns",
    "text_self_attention",
    "unet_table",
]
