"""What pictures drawn with different settings have in common, how they differ, and how sure one can be of it."""

from itertools import combinations

import torch

from .attributes import NAMES
from .errors import SdlabError
from .judge import agreement, judge_images
from .measures import rate


def distance(pictures, reference) -> torch.Tensor:
    """Return the root mean square difference [n] of pictures [n, 3, H, W] to their references; black to white is 1."""
    return (pictures - reference).square().mean(dim=(1, 2, 3)).sqrt()


def pair_distance(pictures) -> float:
    """Return the mean ``distance`` between any two of the pictures [n, 3, H, W]."""
    first, second = zip(*combinations(range(len(pictures)), 2), strict=True)
    return distance(pictures[list(first)], pictures[list(second)]).mean().item()


def contrast(pictures) -> torch.Tensor:
    """Return the standard deviation of the brightness of each picture [n, 3, H, W], [n]."""
    return pictures.mean(dim=1).flatten(1).std(dim=1)


def clipped(pictures) -> torch.Tensor:
    """Return the share of colour values of each picture [n, 3, H, W] that stand at 0 or 1, [n]: lost detail."""
    return ((pictures < 0.002) | (pictures > 0.998)).float().mean(dim=(1, 2, 3))


def composition(pictures) -> tuple[float, float]:
    """Return how alike pictures [prompts, seeds, 3, H, W] are beyond their prompt: (same seed, other seed).

    From the brightness of each picture the mean picture of its prompt is taken away; then the correlations of what is
    left are averaged over pairs of two prompts. Unrelated pictures give 0, or a little less where the seeds are few.
    """
    rest = pictures.mean(dim=2).flatten(2)
    rest = rest - rest.mean(dim=1, keepdim=True)
    rest = torch.nn.functional.normalize(rest - rest.mean(dim=-1, keepdim=True), dim=-1)
    found = torch.einsum("psx,qtx->pqst", rest, rest)
    prompts, seeds = pictures.shape[:2]
    other_prompt = ~torch.eye(prompts, dtype=torch.bool)[:, :, None, None]
    same_seed = torch.eye(seeds, dtype=torch.bool)[None, None]
    return found[other_prompt & same_seed].mean().item(), found[other_prompt & ~same_seed].mean().item()


def differing(readings, named) -> float:
    """Return the share of the attributes not in ``named`` in which two of the judge's ``readings`` differ."""
    free = [name for name in NAMES if name not in named]
    pairs = list(combinations(readings, 2))
    return sum(one.values[name] != other.values[name] for one, other in pairs for name in free) / len(pairs) / len(free)


def with_interval(measure, groups: list) -> tuple[float, float, float]:
    """Return a share measure(groups) with its 95 % interval by the jackknife: each item of each group left out in turn.

    groups: lists of three or more items. Efron & Stein 1981, "The Jackknife Estimate of Variance".
    """
    if min(map(len, groups)) < 3:
        raise SdlabError(f"A group has {min(map(len, groups))} items: to leave one out, give three or more.")
    value, left_out = measure(groups), []
    for place, group in enumerate(groups):
        for item in range(len(group)):
            rest = [*group[:item], *group[item + 1 :]]
            left_out.append(measure([*groups[:place], rest, *groups[place + 1 :]]))
    spread = torch.tensor(left_out, dtype=torch.float64)
    error = ((len(spread) - 1) * (spread - spread.mean()).square().mean()).sqrt().item()
    return value, max(0.0, value - 1.96 * error), min(1.0, value + 1.96 * error)


def score_guidance(pictures: dict, named: list[dict]) -> dict:
    """Return title -> list of (value, low, high) over the guidance scales, with 95 % intervals.

    pictures: scale -> [n, 3, H, W], as many for each of the sentences, one sentence after the other; named: what each
    sentence names. agreement: named attributes that the judge finds (Wilson's interval, every attribute counted as one
    trial). diversity: see ``differing``; it, contrast and clipped with the jackknife's interval.
    """
    scores: dict = {title: [] for title in ("agreement", "diversity", "contrast", "clipped")}
    for batch in pictures.values():
        each = len(batch) // len(named)
        readings = judge_images(list(batch))
        marks = agreement(readings, [words for words in named for _ in range(each)]).values()
        found = rate(sum(right for right, _ in marks), sum(count for _, count in marks))
        scores["agreement"].append((found["accuracy"], *found["interval"]))
        scores["diversity"].append(with_interval(lambda groups: _diversity(groups, named), _grouped(readings, each)))
        for title, measure in (("contrast", contrast), ("clipped", clipped)):
            scores[title].append(with_interval(_mean, _grouped(measure(batch).tolist(), each)))
    return scores


def _grouped(items: list, each: int) -> list[list]:
    return [items[start : start + each] for start in range(0, len(items), each)]


def _diversity(groups: list, named: list[dict]) -> float:
    return _mean([[differing(group, words) for group, words in zip(groups, named, strict=True)]])


def _mean(groups: list) -> float:
    return sum(map(sum, groups)) / sum(map(len, groups))
