"""A fifth painter, Seurat: dots, in the second world only. No training of the pocket model has seen him or his name.

Whatever draws as he does has learned it from the pictures of ``plan_painted``.
"""

from dataclasses import replace

import numpy as np
import torch

from ..captions import caption, compose
from ..measures import reconstruct, to_batch
from ..portraits import Plan, draw_portrait, plan_portrait

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


def renders_of_both(count: int, *, world: str = "second") -> tuple[list, list]:
    """Return (pictures in the painter's hand, pictures of all other styles), uint8 [128, 128, 3], to compare with."""
    painted = [draw_portrait(plan_painted(2_000_000 + number, world=world)).image for number in range(count)]
    others = [draw_portrait(plan_portrait(FIRST_SEED + 3_000_000 + i, world=world)).image for i in range(count)]
    return painted, others


def train_reader(judge, *, pipe=None, count: int = 150, world: str = "second"):
    """Return a function that says of pictures, uint8 [H, W, 3], whether they are in the fifth painter's hand.

    A linear reader of the textures (Gram matrices of the judge's two finest feature maps), trained on renders of his
    and of all other styles; with ``pipe`` also on what its VAE makes of them, which is how drawn pictures look.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    painted, others = renders_of_both(count, world=world)
    pictures, labels = painted + others, [1] * count + [0] * count
    if pipe is not None:
        pictures, labels = pictures + _through_vae(pipe, pictures), 2 * labels
    reader = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=2000))
    reader.fit(_textures(judge, pictures), labels)

    def read(images) -> list[bool]:
        return reader.predict(_textures(judge, [np.asarray(image) for image in images])).astype(bool).tolist()

    return read


def _through_vae(pipe, pictures):
    decoded, _ = reconstruct(pipe, to_batch(pictures))
    return list(decoded.add(1).mul(127.5).round().byte().permute(0, 2, 3, 1).numpy())


@torch.inference_mode()
def _textures(judge, pictures) -> np.ndarray:
    """Return the Gram matrices of the judge's two finest feature maps as rows of numbers."""
    rows = []
    for part in to_batch(pictures).split(32):
        maps = [features.flatten(2) for features in judge.feature_maps(part.to(next(judge.parameters()).device))[:2]]
        grams = [(flat @ flat.transpose(1, 2) / flat.shape[2]).flatten(1) for flat in maps]
        rows.append(torch.cat(grams, dim=1).sign() * torch.cat(grams, dim=1).abs().sqrt())
    return torch.cat(rows).cpu().numpy()
