"""One captioned cartoon portrait, drawn by rule: every attribute is known exactly, every pixel's region too.

plan = plan_portrait(seed=3)              # what to draw: attributes and details
portrait = draw_portrait(plan, masks=True)
portrait.image                            # uint8 [128, 128, 3]
portrait.masks["eyes"]                    # bool [128, 128]
"""

from dataclasses import dataclass
from functools import partial

import numpy as np

from . import animals, backdrops, clothes, lattice, painters, palette, people, scenes
from .canvas import Canvas
from .plan import Plan, pose_matrix


@dataclass(frozen=True)
class Portrait:
    """A drawn portrait: ``image`` uint8 [size, size, 3], its ``plan``, and ``masks`` (name -> bool [size, size])."""

    image: np.ndarray
    plan: Plan
    masks: dict[str, np.ndarray] | None = None


def draw_portrait(plan: Plan, *, size: int = 128, masks: bool = False) -> Portrait:
    """Draw ``plan`` as a picture of ``size`` x ``size`` pixels, with the region of every pixel if ``masks``."""
    canvas, rng = Canvas(size, masks=masks), np.random.default_rng((plan.seed, 1))
    colors, style = _choose_colors(plan, rng), plan.details.get("hand", plan.attributes.style)
    comic = style == "Lichtenstein"
    canvas.outline = (0.04, 0.03, 0.06) if comic else None
    background, halftone, paint = _hands(plan.world, rng)
    background(canvas, plan.attributes.scene, rng)
    if comic:
        halftone(canvas)
    paint(canvas, style)
    before = canvas.pixels_view().copy()
    canvas.set_pose(pose_matrix(plan.details))
    details = {**plan.details, "lips": plan.attributes.subject == "woman"}
    _draw_body(canvas, plan, details, colors)
    paint(canvas, style, before=before)
    _draw_face(canvas, plan, details, colors)
    return Portrait(canvas.image(), plan, canvas.masks() if masks else None)


def _hands(world: str, rng: np.random.Generator):
    """Return who draws the scene, the comic's dots and the strokes in a world."""
    if world == "first":
        return scenes.draw_scene, painters.halftone, partial(painters.paint, rng=rng)
    return backdrops.draw_scene, lattice.halftone, lattice.paint


def _choose_colors(plan: Plan, rng: np.random.Generator) -> dict:
    attributes, vary = plan.attributes, 0.03 if plan.world == "first" else 0.01
    iris = plan.details.get("iris", palette.EYES[attributes.eyes])  # a sitter may have a shade of her own
    colors = {
        "eyes": palette.jitter(iris, rng, amount=min(0.02, vary)),
        "hair": palette.jitter(palette.HAIR[attributes.hair], rng, amount=vary),
        "shirt": palette.jitter(palette.SHIRT[attributes.shirt], rng, amount=vary),
        "skin": palette.jitter(palette.SKIN[plan.details["skin"]], rng, amount=0.015),
    }
    if attributes.hat != "none":
        colors["hat"] = palette.jitter(palette.HAT[attributes.hat], rng, amount=vary)
    shades = plan.details.get("shades", {})
    return {name: palette.tone(color, shades[name]) if name in shades else color for name, color in colors.items()}


def _draw_body(canvas: Canvas, plan: Plan, details: dict, colors: dict):
    """Draw all that a painter's stroke may cover: hair, head, clothes, hat."""
    attributes, hair, skin = plan.attributes, colors["hair"], colors["skin"]
    if attributes.subject in ("man", "woman"):
        people.draw_back_hair(canvas, details, hair)
        people.draw_head(canvas, details, skin)
        clothes.draw_shirt(canvas, details, colors["shirt"], skin)
        people.draw_front_hair(canvas, details, hair)
        people.draw_jewels(canvas, details)
    else:
        cat = attributes.subject == "cat"
        animals.draw_neck(canvas, hair)
        clothes.draw_shirt(canvas, details, colors["shirt"], hair)
        animals.draw_ears(canvas, details, hair, cat=cat)
        animals.draw_head(canvas, details, hair, cat=cat)
    if attributes.hat != "none":
        clothes.draw_hat(canvas, details["hat_kind"], colors["hat"])


def _draw_face(canvas: Canvas, plan: Plan, details: dict, colors: dict):
    """Draw what stays crisp in every style: eyes, mouth, glasses."""
    attributes = plan.attributes
    if attributes.subject in ("man", "woman"):
        people.draw_features(canvas, details, colors["skin"], colors["hair"])
        people.draw_eyes(canvas, details, colors["eyes"], lashes=attributes.subject == "woman")
    else:
        animals.draw_muzzle(canvas, details, colors["hair"], cat=attributes.subject == "cat")
        animals.draw_eyes(canvas, details, colors["eyes"], cat=attributes.subject == "cat")
    if attributes.glasses == "yes":
        clothes.draw_glasses(canvas, details["glasses_kind"])
