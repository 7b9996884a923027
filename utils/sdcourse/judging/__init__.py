"""Who reads pictures back, and how sure we are of it: the judge, CLIP, shares with their intervals, the scores."""

from .clip import image_features, load_clip, text_features
from .evaluate import draw_prompts
from .intervals import share
from .judge import agreement, judge_images, load_judge
from .momo import is_momo

__all__ = [
    "agreement",
    "draw_prompts",
    "image_features",
    "is_momo",
    "judge_images",
    "load_clip",
    "load_judge",
    "share",
    "text_features",
]
