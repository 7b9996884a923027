"""What a teacher would see in the pictures, as numbers: edges, strokes where none were asked for, eyes of two hues,
and how near drawn pictures lie to fresh renders. Every number has its n and an interval."""

import functools

import numpy as np
import torch
from PIL import Image

from sdlab.steering import outline, outline_agreement

from ..portraits import VALUES, compose, draw_portrait, plan_portrait
from ..portraits.vocabulary import IMPRESSIONISTS
from .clip import Clip, image_features, text_features
from .intervals import mean_interval, share
from .judge import load_judge, to_tensor

PAINTED_FROM = 0.2  # a cartoon of which a reader gives the three painters this much together is (half) painted
HUE_FROM = 25.0  # distance of two irises in CIE a*b* from which they are of two hues
EYE_BOXES = (slice(48, 80), (slice(40, 62), slice(66, 88)))  # rows, and columns of either eye, that centres may lie in
TEMPLATE_SEED = 70_000_000


def mean_with_interval(values) -> dict:
    """Return ``{"mean", "n", "interval"}`` of two or more numbers (see ``mean_interval``)."""
    mean, low, high = mean_interval(values)
    return {"mean": round(mean, 4), "n": len(values), "interval": [round(low, 4), round(high, 4)]}


# ---------------------------------------------------------------- edges


def edge_agreement(images, references) -> dict:
    """Return the mean F1 of the outlines of pictures against those of others (Canny, 1 px), uint8 [H, W, 3] each."""
    pairs = zip(images, references, strict=True)
    return mean_with_interval([outline_agreement(Image.fromarray(one), outline(other)) for one, other in pairs])


def edge_strength(images) -> np.ndarray:
    """Return each picture's mean absolute difference of neighbouring lightnesses (0 to 255), float [N]."""
    light = np.stack(images).astype(np.float32) @ np.float32([0.299, 0.587, 0.114])
    across, down = np.abs(np.diff(light, axis=2)), np.abs(np.diff(light, axis=1))
    return across.mean(axis=(1, 2)) + down.mean(axis=(1, 2))


def edge_ratio(images, renders) -> dict:
    """Return the mean edge strength of pictures over that of renders: 1 is as crisp, less is washed out."""
    ours, theirs = edge_strength(images), edge_strength(renders)
    ratio = ours.mean() / theirs.mean()
    spread = sum((values.std(ddof=1) / values.mean()) ** 2 / len(values) for values in (ours, theirs))
    half, ends = 1.96 * ratio * spread**0.5, (-1, 1)
    return {
        "ratio": round(float(ratio), 4),
        "n": len(ours),
        "interval": [round(float(ratio + end * half), 4) for end in ends],
    }


# ---------------------------------------------------------------- Fréchet distance


def frechet_distance(one: np.ndarray, other: np.ndarray) -> float:
    """Return the squared Fréchet distance of the Gaussians of two sets of features [N, D] (Heusel et al. 2017).

    |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)); the trace of the root from the eigenvalues of S1^(1/2) S2 S1^(1/2).
    """
    means = one.mean(axis=0) - other.mean(axis=0)
    first, second = np.cov(one, rowvar=False), np.cov(other, rowvar=False)
    values, vectors = np.linalg.eigh(first)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    cross = np.sqrt(np.linalg.eigvalsh(root @ second @ root).clip(0)).sum()
    return float(means @ means + np.trace(first) + np.trace(second) - 2 * cross)


def frechet(one: np.ndarray, other: np.ndarray, *, blocks: int = 10) -> dict:
    """Return the Fréchet distance of features (times 1,000) with a 95 % interval by leaving out one block at a time.

    It depends on n: compare only distances of as many pictures.
    """
    whole = frechet_distance(one, other)
    left = [
        frechet_distance(np.delete(one, slice(i, None, blocks), 0), np.delete(other, slice(i, None, blocks), 0))
        for i in range(blocks)
    ]
    half = 1.96 * np.sqrt((blocks - 1) / blocks * np.square(np.array(left) - np.mean(left)).sum())
    return {"distance": round(1000 * whole, 2), "n": len(one), "interval": _around(1000 * whole, 1000 * half)}


def _around(value, half):
    return [round(float(max(0.0, value - half)), 2), round(float(value + half), 2)]


def picture_distances(clip: Clip, drawn, renders, others, decoded) -> dict:
    """Return Fréchet distances to fresh renders: of what was drawn, the floor and what the VAE alone costs.

    drawn, renders, others (renders of other seeds), decoded (renders after a way through the VAE): uint8 [H, W, 3].
    """
    fresh = image_features(clip, renders).numpy()
    sets = {"drawn": drawn, "render_against_render": others, "vae_reconstructions": decoded}
    return {name: frechet(image_features(clip, pictures).numpy(), fresh) for name, pictures in sets.items()}


# ---------------------------------------------------------------- painted where a cartoon was asked for


@torch.inference_mode()
def judge_styles(images, judge=None) -> np.ndarray:
    """Return the judge's probability of each style, [N, 5]."""
    judge = judge or load_judge()
    batch, column = torch.stack([to_tensor(image) for image in images]), list(VALUES).index("style")
    logits = [judge(part.to(next(judge.parameters()).device) * 2 - 1)[0][column] for part in batch.split(64)]
    return torch.cat(logits).float().softmax(-1).cpu().numpy()


@torch.inference_mode()
def clip_styles(images, clip: Clip, *, world: str | None = None) -> np.ndarray:
    """Return CLIP's probability of each style [N, 5]: a choice among captions, the best over the four subjects."""
    likeness, pictures = [], image_features(clip, images)
    for subject in VALUES["subject"]:
        named = [{"subject": subject, "style": value} for value in VALUES["style"]]
        texts = [compose(item, subject, layout=1, world=world).text for item in named]
        likeness.append(pictures @ text_features(clip, texts).T)
    best = torch.stack(likeness).amax(0)
    return (clip.model.logit_scale.exp().cpu() * best).softmax(-1).numpy()


def half_painted(probabilities: np.ndarray) -> dict:
    """Return the rate of pictures of which a reader gives the impressionists ``PAINTED_FROM`` or more together."""
    columns = [VALUES["style"].index(name) for name in IMPRESSIONISTS]
    painted = probabilities[:, columns].sum(axis=1) >= PAINTED_FROM
    return share(int(painted.sum()), len(painted))


def score_half_painted(images, *, judge, clip: Clip, world: str | None = None) -> dict:
    """Return the share of cartoons that are (half) painted, as the judge and as CLIP's picture tower see it."""
    return {
        "judge": half_painted(judge_styles(images, judge)),
        "clip": half_painted(clip_styles(images, clip, world=world)),
    }


# ---------------------------------------------------------------- eyes


@functools.cache
def _eye_template(world: str | None, side: int = 10, count: int = 48) -> np.ndarray:
    """Return the mean lightness of eyes in unstyled renders, float [2 * side + 1, 2 * side + 1]."""
    patches = []
    for index in range(count):
        plan = plan_portrait(TEMPLATE_SEED + index, split="any", world=world)
        light = draw_portrait(plan).image.astype(float).mean(axis=-1)
        for x, y in np.rint(plan.eye_centres).astype(int):
            patches.append(light[y - side : y + side + 1, x - side : x + side + 1])
    return np.mean(patches, axis=0)


def find_eyes(image: np.ndarray, *, world: str | None = None) -> np.ndarray:
    """Return where the two eyes of a portrait, uint8 [128, 128, 3], most likely are: (x, y) of each, float [2, 2].

    The place in either half where the picture is most like the mean eye of our renders (normalised correlation).
    """
    from skimage.feature import match_template

    template = _eye_template(world)
    side, rows = template.shape[0] // 2, EYE_BOXES[0]
    light = image.astype(float).mean(axis=-1)
    found = []
    for columns in EYE_BOXES[1]:
        part = light[rows.start - side : rows.stop + side, columns.start - side : columns.stop + side]
        likeness = match_template(part, template)
        y, x = np.unravel_index(likeness.argmax(), likeness.shape)
        found.append((columns.start + x, rows.start + y))
    return np.array(found, dtype=float)


def iris_colors(image: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Return the CIE a*b* of both irises, [2, 2]: the median over the more colourful half of a ring around each centre.

    centres: float [2, 2] of (x, y) in pixels.
    """
    from skimage.color import rgb2lab

    lab = rgb2lab(image)
    rows, columns = np.mgrid[: image.shape[0], : image.shape[1]]
    colors = []
    for x, y in centres:
        distance = np.hypot(columns - x, rows - y)
        ring = lab[(distance >= 3.2) & (distance <= 6.0)][:, 1:]
        chroma = np.linalg.norm(ring, axis=1)
        colors.append(np.median(ring[chroma >= np.median(chroma)], axis=0))
    return np.array(colors)


def eye_difference(image: np.ndarray, *, world: str | None = None) -> float:
    """Return how far apart the colours of a portrait's irises lie, in CIE a*b*."""
    one, other = iris_colors(image, find_eyes(image, world=world))
    return float(np.linalg.norm(one - other))


def two_hued(images, *, world: str | None = None) -> dict:
    """Return the rate of portraits whose two irises differ by ``HUE_FROM`` or more."""
    return share(sum(eye_difference(np.asarray(image), world=world) >= HUE_FROM for image in images), len(images))
