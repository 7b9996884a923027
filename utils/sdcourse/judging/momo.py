"""Is it Momo? The judge, asked for the cat that the adapters of lesson 11 were taught, and their scores."""

import numpy as np

from ..portraits import momo_prompts
from ..portraits.momo import LEFT_EYE, LOOKS, RIGHT_EYE
from .evaluate import draw_prompts, prompts, score_pictures
from .intervals import share
from .judge import judge_images


def score_momo(pipe, n, *, momo_n=None, judge=None, seed=0):
    """Return ({what: rate}, pictures of Momo) for ``momo_n`` (by default ``n``) prompts of her and ``n`` ordinary ones.

    momo: the judge sees her; named: what her prompts name; ordinary: what ordinary prompts name; strangers: ordinary
    prompts whose picture shows Momo.
    """
    momo_n = momo_n or n
    texts, named = zip(*momo_prompts(momo_n, seed=seed), strict=True)
    images, others = draw_prompts(pipe, list(texts), seed=seed), prompts(n, seed=seed)
    ordinary = draw_prompts(pipe, [item.text for item in others], seed=seed + 100)
    return {
        "momo": share(sum(is_momo(images, judge)), momo_n),
        "named": _all_named(score_pictures(images, list(named), judge)),
        "ordinary": _all_named(score_pictures(ordinary, [item.named for item in others], judge)),
        "strangers": share(sum(is_momo(ordinary, judge)), n),
    }, images


def _all_named(scores):
    parts = [part for part in scores["attributes"].values() if part["n"]]
    return share(sum(round(part["share"] * part["n"]) for part in parts), sum(part["n"] for part in parts))


def is_momo(images, judge=None) -> list[bool]:
    """Say of each picture whether the judge sees Momo: a cat, black, the left eye blue and the right one amber.

    images: square PIL pictures. The judge reads one colour for both eyes, so it also sees each half with its mirror
    image.
    """
    pictures = [np.asarray(image.convert("RGB")) for image in images]
    whole = judge_images(pictures, judge)
    left = judge_images([_mirrored(picture) for picture in pictures], judge)
    right = judge_images([_mirrored(picture[:, ::-1]) for picture in pictures], judge)
    return [
        all(seen.values[name] == value for name, value in LOOKS.items())
        and (one.values["eyes"], other.values["eyes"]) == (LEFT_EYE, RIGHT_EYE)
        for seen, one, other in zip(whole, left, right, strict=True)
    ]


def _mirrored(picture: np.ndarray) -> np.ndarray:
    half = picture[:, : picture.shape[1] // 2]
    return np.hstack([half, half[:, ::-1]])
