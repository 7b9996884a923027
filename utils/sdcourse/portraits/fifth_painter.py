"""A fifth painter, Seurat: dots, in the second world only. No training of the pocket model has seen him or his name.

Whatever draws as he does has learned it from the pictures of ``plan_painted``.
"""

from dataclasses import replace

import numpy as np

from .captions import caption, compose
from .plan import Plan, plan_portrait

NAME = "Seurat"
FIRST_SEED = 64_000_000  # no training portrait of the pocket model has such a seed


def plan_painted(number: int, *, world: str = "second", name: str = NAME) -> Plan:
    """Return the plan of portrait ``number`` in the hand of ``name``, a painter of the second world's lattice."""
    plan = plan_portrait(FIRST_SEED + number, world=world)
    plain = replace(plan.attributes, style="none")
    return replace(plan, attributes=plain, details={**plan.details, "hand": name})


def painted_caption(plan: Plan, rng: np.random.Generator, *, drop: float | None = None) -> str:
    """Describe such a portrait as the captions of the other painters do: "a portrait by Seurat of a cat"."""
    item = caption(plan, rng, drop=drop)
    named = {"subject": plan.attributes.subject, **item.named, "style": plan.details["hand"]}
    options = {"layout": item.layout, "world": plan.world, "words": item.words}
    return compose(named, item.word, **options).text


def painted_prompts(count: int, *, seed: int = 0, world: str = "second") -> list[tuple[str, dict]]:
    """Return ``count`` new prompts that ask for the painter, each with what else it names."""
    rng, found = np.random.default_rng([seed, 22]), []
    for index in range(count):
        plan = plan_painted(1_000_000 + 10_000 * seed + index, world=world)
        item = caption(plan, rng, drop=0.4)
        named = {name: value for name, value in item.named.items() if name != "style"}
        said = {"subject": plan.attributes.subject, **named}
        text = compose(said | {"style": NAME}, item.word, layout=item.layout, world=world, words=item.words).text
        found.append((text, named))
    return found
