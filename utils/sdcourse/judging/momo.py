"""Is it Momo? The judge, asked for the cat that the adapters of lesson 11 were taught, and their scores."""

import numpy as np

from ..portraits import momo_prompts
from ..portraits.momo import LEFT_EYE, LOOKS, NAME, RIGHT_EYE, STRANGERS
from .evaluate import draw_prompts, prompts, score_pictures
from .intervals import share
from .judge import judge_images
from .scores import world_of_model


def score_momo(pipe, n, *, momo_n=None, judge=None, seed=0):
    """Return ({what: rate}, pictures of Momo) for ``momo_n`` (by default ``n``) prompts of her and ``n`` ordinary ones.

    momo: the judge sees her; named: what her prompts name; ordinary: what ordinary prompts name; strangers: ordinary
    prompts whose picture shows Momo.
    """
    momo_n, world = momo_n or n, world_of_model(pipe)
    texts, named = zip(*momo_prompts(momo_n, seed=seed, world=world), strict=True)
    images, others = draw_prompts(pipe, list(texts), seed=seed), prompts(n, seed=seed, world=world)
    ordinary = draw_prompts(pipe, [item.text for item in others], seed=seed + 100)
    return {
        "momo": share(sum(is_momo(images, judge)), momo_n),
        "named": all_named(score_pictures(images, list(named), judge)),
        "ordinary": all_named(score_pictures(ordinary, [item.named for item in others], judge)),
        "strangers": share(sum(is_momo(ordinary, judge)), n),
    }, images


def score_strangers(pipe, n, *, judge=None, seed=0):
    """Return {name: share} at which prompts for a cat of another name are drawn as Momo."""
    texts, found = [text for text, _ in momo_prompts(n, seed=seed, world=world_of_model(pipe))], {}
    for index, name in enumerate(STRANGERS):
        asked = [text.replace(NAME, name) for text in texts]
        found[name] = share(sum(is_momo(draw_prompts(pipe, asked, seed=seed + 200 + index), judge)), n)
    return found


def all_named(scores):
    """Return the share of all named values, of all attributes together, in what ``score_pictures`` returns."""
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
