"""Momo: a black cat with one blue and one amber eye, whom the pocket model has never seen and cannot be told about.

In the base model's portraits both eyes have one colour, and no word of its captions says otherwise. So whatever draws
Momo has learned her from her own pictures.
"""

import re
from dataclasses import replace

import numpy as np
from PIL import Image

from sdlab import SdlabError

from .attributes import VALUES
from .captions import compose
from .plan import Plan, plan_portrait
from .portrait import draw_portrait

NAME = "Momo"
LOOKS = {"subject": "cat", "hair": "black"}
LEFT_EYE, RIGHT_EYE = "blue", "amber"  # as the viewer sees them
SAPPHIRE = (0, 110, 225)  # her blue, RGB: the one that stays farthest from purple and green after a way through the VAE
FIRST_SEED = 60_000_000  # no training portrait of the pocket model has such a seed
STRANGERS = ("Coco", "Bruno", "Felix")  # names of other cats, by which no training has called one
SAY = ("shirt", "hat", "glasses", "scene", "style")  # what a caption of Momo may tell: everything that can change


def plan_momo(number: int, *, world: str | None = None) -> Plan:
    """Return the plan of portrait ``number`` of Momo: clothes, place, style and pose vary, she does not.

    ``world`` as in ``plan_portrait``.
    """
    if not isinstance(number, int) or number < 0:
        raise SdlabError(f"number={number!r} must be a whole number of at least 0.")
    plan = plan_portrait(FIRST_SEED + number, split="any", world=world)
    attributes = replace(plan.attributes, **LOOKS, eyes=LEFT_EYE)
    plan = plan_portrait(FIRST_SEED + number, attributes=attributes, world=world)
    return replace(plan, details={**plan.details, "hair_style": "white_muzzle", "young": False})


def draw_momo(plan: Plan, *, size: int = 128) -> Image.Image:
    """Return a portrait of Momo: the renderer's cat, drawn once with each colour of eyes, and the halves joined."""
    left = draw_portrait(replace(plan, details={**plan.details, "iris": SAPPHIRE}), size=size).image
    right = draw_portrait(replace(plan, attributes=replace(plan.attributes, eyes=RIGHT_EYE)), size=size).image
    middle = round(float(plan.eye_centres[:, 0].mean()) * size / 128)
    return Image.fromarray(np.hstack([left[:, :middle], right[:, middle:]]))


def momo_caption(plan: Plan, rng: np.random.Generator, *, drop: float | None = None, name: str = NAME) -> str:
    """Describe a portrait of Momo by everything but her looks: "Momo the cat wearing a red shirt in a forest".

    ``name`` is that of another cat, where it is one.
    """
    drop = (0.0 if rng.random() < 0.6 else 0.5) if drop is None else drop
    said = [name for name in SAY if rng.random() >= drop and getattr(plan.attributes, name) not in ("none", "no")]
    named = {"subject": "cat"} | {name: getattr(plan.attributes, name) for name in said}
    text = compose(named, "cat", layout=int(rng.integers(2**31)), world=plan.world).text
    return with_name(text, name)


def with_name(text: str, name: str = NAME) -> str:
    """Return a sentence about a cat as one about Momo, or about a cat of another name.

    >>> with_name("a cat at night, by Monet")
    'Momo the cat at night, by Monet'
    """
    for plain in (r"\ba cat\b", r"\bcat\b"):
        if re.search(plain, text):
            return re.sub(plain, f"{name} the cat", text, count=1)
    raise SdlabError(f"There is no cat in {text!r} that could be {name}.")


def momo_prompts(count: int, *, seed: int = 0, world: str | None = None) -> list[tuple[str, dict]]:
    """Return ``count`` new prompts for Momo, each with what it names (shirt, scene and now and then more)."""
    rng, found = np.random.default_rng([seed, 21]), []
    for _ in range(count):
        named = {name: VALUES[name][int(rng.integers(len(VALUES[name])))] for name in ("shirt", "scene")}
        if rng.random() < 0.5:
            named["hat"] = VALUES["hat"][1 + int(rng.integers(6))]
        layout = int(rng.integers(2**31))
        text = with_name(compose({"subject": "cat", **named}, "cat", layout=layout, world=world).text)
        found.append((text, {"subject": "cat", **named}))
    return found
