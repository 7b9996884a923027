"""Is it by the fifth painter? A reader trained for it, and the scores of what learned to draw as he does."""

import numpy as np
import torch

from sdlab.images import to_batch

from ..portraits import draw_portrait, plan_portrait
from ..portraits.fifth_painter import FIRST_SEED, painted_prompts, plan_painted
from .evaluate import draw_prompts, prompts, score_pictures
from .intervals import share
from .judge import load_judge
from .momo import all_named
from .scores import reconstruct


def score_style(pipe, n, *, judge=None, seed=0, world="second"):
    """Return ({what: rate}, pictures of the fifth painter) for ``n`` prompts that name him and ``n`` ordinary ones.

    style: a reader trained for it sees his hand; named: what his prompts name; ordinary: what ordinary prompts name;
    strangers: ordinary prompts whose picture is in his hand.
    """
    judge = judge or load_judge()
    reader = train_reader(judge, pipe=pipe, world=world)
    texts, named = zip(*painted_prompts(n, seed=seed, world=world), strict=True)
    images, others = draw_prompts(pipe, list(texts), seed=seed), prompts(n, seed=seed, world=world)
    ordinary = draw_prompts(pipe, [item.text for item in others], seed=seed + 100)
    return {
        "style": share(sum(reader(images)), n),
        "named": all_named(score_pictures(images, list(named), judge)),
        "ordinary": all_named(score_pictures(ordinary, [item.named for item in others], judge)),
        "strangers": share(sum(reader(ordinary)), n),
    }, images


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


def renders_of_both(count: int, *, world: str = "second") -> tuple[list, list]:
    """Return (pictures in the painter's hand, pictures of all other styles), uint8 [128, 128, 3], to compare with."""
    painted = [draw_portrait(plan_painted(2_000_000 + number, world=world)).image for number in range(count)]
    others = [draw_portrait(plan_portrait(FIRST_SEED + 3_000_000 + i, world=world)).image for i in range(count)]
    return painted, others
