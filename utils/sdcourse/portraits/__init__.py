"""The pocket model's world: captioned cartoon portraits, drawn by rule, so that every attribute and region is known.

plan = plan_portrait(seed=3)              # what to draw: attributes and details
portrait = draw_portrait(plan, masks=True)
portrait.image                            # uint8 [128, 128, 3]
portrait.masks["eyes"]                    # bool [128, 128]
"""

from .attributes import HELD_OUT_PAIRS, NAMES, VALUES, held_out_pair
from .canvas import REGIONS
from .captions import caption, compose, truth_matrix
from .momo import draw_momo, momo_prompts, plan_momo
from .outlines import plan_outline
from .plan import Plan, plan_portrait
from .portrait import Portrait, draw_portrait

__all__ = [
    "HELD_OUT_PAIRS",
    "NAMES",
    "REGIONS",
    "VALUES",
    "Plan",
    "Portrait",
    "caption",
    "compose",
    "draw_momo",
    "draw_portrait",
    "held_out_pair",
    "momo_prompts",
    "plan_momo",
    "plan_outline",
    "plan_portrait",
    "truth_matrix",
]
