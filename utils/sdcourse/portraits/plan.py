"""Decide everything about a portrait before drawing it: the attributes and the details no attribute names.

Some details are *graded evidence* for a word: every word for a man fits every man, but "gentleman" fits
one with a tie and a bowler better, "guy" one with a cap and stubble (see ``captions.word_fit``).
"""

from dataclasses import dataclass, field

import numpy as np

from .attributes import Attributes, sample_attributes
from .worlds import DEFAULT_WORLD, UNSTYLED, check_world

HAIR_STYLES = {
    "man": ("short", "quiff", "curly", "parted"),
    "woman": ("long", "bob", "bun", "pigtails", "wavy"),
    "cat": ("plain", "striped", "white_muzzle"),
    "dog": ("plain", "patch", "white_muzzle"),
}
HAT_KINDS = {
    "man": ("cap", "beanie", "bowler", "tophat"),
    "woman": ("beanie", "sunhat", "beret", "cap"),
    "cat": ("beanie", "tophat", "beret", "party"),
    "dog": ("beanie", "bowler", "cap", "party"),
}
COLLARS = {
    "man": ("round", "tie", "open", "hood"),
    "woman": ("round", "open", "necklace", "scarf"),
    "cat": ("round", "bell", "bow"),
    "dog": ("round", "tag", "bow"),
}


@dataclass(frozen=True)
class Plan:
    """One portrait to be: what it shows (``attributes``), how (``details``), the seed of both, and its world."""

    seed: int
    attributes: Attributes
    details: dict = field(hash=False)
    world: str = DEFAULT_WORLD

    @property
    def eye_centres(self) -> np.ndarray:
        """Return the eye centres, float [2, 2] of (x, y) in pixels of a 128-pixel picture."""
        pose = pose_matrix(self.details)
        return pose.transform(np.array([(64 - EYE_X, EYE_Y), (64 + EYE_X, EYE_Y)]))


EYE_X, EYE_Y = 12.6, 64.0
SHADED = ("eyes", "hair", "shirt", "hat")  # in the second world these are darker or lighter, and a word may say so


def pose_matrix(details: dict):
    """Return where the figure stands: an ``Affine2D`` in 128 units."""
    from matplotlib.transforms import Affine2D

    pose = Affine2D().translate(-64, -110).scale(details["scale"]).rotate_deg(details["tilt"])
    return pose.translate(64 + details["shift_x"], 110 + details["shift_y"])


def _pick(rng: np.random.Generator, options):
    return options[int(rng.random() * len(options))]


def _draw_details(attributes: Attributes, rng: np.random.Generator) -> dict:
    subject, chance = attributes.subject, rng.random(8)
    details = {
        "scale": float(rng.uniform(0.94, 1.06)),
        "tilt": float(rng.normal(0, 2.2)),
        "shift_x": float(rng.uniform(-5, 5)),
        "shift_y": float(rng.uniform(-2, 4)),
        "skin": int(chance[0] * 5),
        "smile": float(rng.uniform(0.1, 1.0)),
        "width": float(rng.uniform(0.94, 1.06)),
        "hair_style": _pick(rng, HAIR_STYLES[subject]),
        "hat_kind": _pick(rng, HAT_KINDS[subject]),
        "collar": _pick(rng, COLLARS[subject]),
        "look": float(rng.uniform(-1.3, 1.3)),
        "glasses_kind": _pick(rng, ("round", "square")),
        "brow": float(rng.uniform(-1, 1)),
        "young": bool(chance[1] < 0.4),
        "freckles": bool(chance[2] < 0.2),
        "moustache": bool(subject == "man" and chance[3] < 0.22),
        "beard": bool(subject == "man" and chance[4] < 0.25),
        "stubble": bool(subject == "man" and 0.25 <= chance[4] < 0.45),
        "earrings": bool(subject == "woman" and chance[5] < 0.4),
        "tongue": bool(subject == "dog" and chance[6] < 0.35),
        "ears": _pick(rng, ("long", "short", "perky")) if subject == "dog" else "short",
    }
    return details


def plan_portrait(
    seed: int, *, attributes: Attributes | None = None, split: str = "train", world: str | None = None
) -> Plan:
    """Decide portrait number ``seed``: the same seed gives the same plan, on every machine.

    Args:
        seed: a non-negative whole number.
        attributes: what to show; drawn from ``split`` ("train", "held_out" or "any") when left out.
        world: "first" or "second" (see ``worlds``); by default the world of the shipped model.
    """
    world = check_world(world)
    rng = np.random.default_rng(seed)
    if attributes is None:
        attributes = sample_attributes(rng, split=split, unstyled=UNSTYLED[world])
    details = _draw_details(attributes, rng)
    if world == "second":
        details["shades"] = {name: float(rng.uniform(-1, 1)) for name in SHADED}
    return Plan(seed, attributes, details, world)
