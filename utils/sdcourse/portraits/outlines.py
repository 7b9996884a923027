"""The outlines of a portrait by its plan: the hints that the ControlNet of lesson 11 was taught with."""

from dataclasses import replace

import numpy as np
from PIL import Image

from sdlab.steering.outlines import _picture, edges_of

from .plan import Plan
from .portrait import draw_portrait

MARGIN = 3  # pixels of background that belong to the figure's own outline


def plan_edges(plan: Plan) -> tuple[np.ndarray, np.ndarray]:
    """Return (all outlines of a planned portrait, those of its figure alone), bool [128, 128] each.

    They are taken from the drawing before any painter's hand went over it, so a Monet has clean outlines too.
    """
    from scipy.ndimage import binary_dilation

    plain = replace(plan, attributes=replace(plan.attributes, style="none"))
    portrait = draw_portrait(plain, masks=True)
    edges = edges_of(portrait.image)
    return edges, edges & binary_dilation(~portrait.masks["background"], iterations=MARGIN)


def plan_outline(plan: Plan, *, figure: bool = False) -> Image.Image:
    """Return the outlines of a planned portrait as a picture; with ``figure``, without those of the background."""
    return _picture(plan_edges(plan)[int(figure)])
