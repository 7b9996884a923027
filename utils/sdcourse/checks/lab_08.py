"""Checks of lab 08: attention, heat maps, and finding what a word names."""

import functools
import math
from dataclasses import dataclass

import torch
from torch.nn import functional

from .attempt import Pocket
from .exercise import Draws, Lab
from .outcome import Wrong
from .without import LOOP, SOFTMAX

check = Lab("08", "Find what a word names")

SIDE, CELL = 128, 8
PORTRAITS, SHARE = 20, 0.6


def attend_of_torch(query, key, value, readable):
    """Return torch's own attention, with the tokens hidden that are not readable."""
    return functional.scaled_dot_product_attention(query, key, value, attn_mask=readable[None])


def _attend(query, key, value, readable, *, length=None, axis=-1, hide=None, late=None):
    length = query.shape[-1] ** 0.5 if length is None else length(query, key, value)
    scores = query @ key.transpose(-2, -1) / length
    scores = scores.masked_fill(~readable, -torch.inf) if hide is None else hide(scores, readable)
    shares = scores.softmax(dim=axis)
    return (shares if late is None else late(shares, readable)) @ value


@check.exercise(
    attend_of_torch,
    mistakes={
        "every token is read: the hidden ones must get no share": lambda *a: _attend(*a, hide=lambda s, r: s),
        "the hidden tokens are read and the others are not: True means readable": lambda q, k, v, r: _attend(
            q, k, v, ~r
        ),
        "True means readable, and these are hidden: turn the mask round": lambda q, k, v, r: attend_of_torch(
            q, k, v, ~r
        ),
        "the rows no longer add up to 1: hide the tokens before the softmax, not after it": (
            lambda *a: _attend(*a, hide=lambda s, r: s, late=lambda p, r: p * r)
        ),
        "a score of 0 hides nothing: after the softmax it is still a share": lambda *a: _attend(
            *a, hide=lambda s, r: s * r
        ),
        "True and False are no mask yet: added to the scores they are 1 and 0": lambda *a: _attend(
            *a, hide=lambda s, r: s + r
        ),
        "0 times infinity is not a number (nan): fill the scores, do not multiply the mask": lambda *a: _attend(
            *a, hide=lambda s, r: s + ~r * -torch.inf
        ),
        "e to the power of plus infinity is infinite: hide with minus infinity": lambda *a: _attend(
            *a, hide=lambda s, r: s.masked_fill(~r, torch.inf)
        ),
        "-100 hides nothing when the other scores are lower still: use minus infinity": lambda *a: _attend(
            *a, hide=lambda s, r: s.masked_fill(~r, -100)
        ),
        "the scores are not divided by the root of d": lambda *a: _attend(*a, length=lambda *_: 1),
        "divide the scores by the root of d, not by d": lambda *a: _attend(*a, length=lambda q, k, v: q.shape[-1]),
        "d is the length of a query, not the number of tokens": lambda *a: _attend(
            *a, length=lambda q, k, v: k.shape[-2] ** 0.5
        ),
        "d is the length of a query, not of a value": lambda *a: _attend(*a, length=lambda q, k, v: v.shape[-1] ** 0.5),
        "the softmax must run over the tokens, not over the places": lambda q, k, v, r: _attend(
            q, k, v, r, hide=lambda s, r: s, axis=-2, late=lambda p, r: p * r
        ),
        "the softmax runs over the places; it must run over the tokens": lambda *a: _attend(*a, axis=-2),
    },
)
def attend(draws: Draws):
    """Attention in which some tokens cannot be read, against torch."""
    for places, tokens, length, width in [(5, 7, 4, 6), (1, 3, 9, 2), (6, 4, 1, 5)]:
        yield _questions(draws, (places,), tokens, length, width)
    yield _questions(draws, (2, 3, 4), 6, 8, 3)
    yield _questions(draws, (4,), 9, 5, 3, dtype=torch.float64)
    yield _questions(draws, (9,), 6, 4, 2, strong=1000)
    query, key, value, readable = _questions(draws, (4,), 6, 3, 2)
    yield query, key, value, readable | True  # nothing is hidden


def _questions(draws: Draws, places, tokens, length, width, *, dtype=torch.float32, strong=1):
    *rows, count = places
    query = strong * draws.normal(*rows, count, length, dtype=dtype)
    key, value = draws.normal(*rows, tokens, length, dtype=dtype), draws.normal(*rows, tokens, width, dtype=dtype)
    readable = draws.normal(tokens) > 0
    readable[draws.integer(0, tokens - 1)] = True
    readable[(int(readable.int().argmax()) + 1) % tokens] = False
    return query, key, value, readable


def layer_of_diffusers(hidden_states, encoder_hidden_states, weights, heads):
    """Return what diffusers' own cross-attention layer gives with these weights."""
    from diffusers.models.attention_processor import Attention

    width, text_width = weights["to_k"].shape
    layer = Attention(width, cross_attention_dim=text_width, heads=heads, dim_head=width // heads)
    names = {"to_q": "to_q.weight", "to_k": "to_k.weight", "to_v": "to_v.weight"}
    names |= {"to_out": "to_out.0.weight", "bias": "to_out.0.bias"}
    layer.to(weights["to_q"].dtype).load_state_dict({names[name]: weight for name, weight in weights.items()})
    with torch.no_grad():
        return layer(hidden_states, encoder_hidden_states)


def _split(x, heads):
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def _join(x):
    return x.transpose(1, 2).flatten(2)


def _layer(x, text, weights, heads, *, split=_split, join=_join, length=None, axis=-1, turn=False, out=True, bias=True):
    to_q, to_out = (weights[name].T if turn else weights[name] for name in ("to_q", "to_out"))
    query = split(functional.linear(x, to_q), heads)
    key, value = (split(functional.linear(text, weights[name]), heads) for name in ("to_k", "to_v"))
    scores = query @ key.transpose(-2, -1) / (length or query.shape[-1] ** 0.5)
    found = join(scores.softmax(dim=axis) @ value)
    return functional.linear(found, to_out, weights["bias"] if bias else None) if out else found


def _cut(x, heads):
    return x.reshape(x.shape[0], heads, x.shape[1], -1)


def _comb(x, heads):
    return x.unflatten(-1, (-1, heads)).permute(0, 3, 1, 2)


@check.exercise(
    layer_of_diffusers,
    mistakes={
        "the heads are missing: each has its own softmax over its own part of the vectors": lambda x, t, w, h: _layer(
            x, t, w, 1
        ),
        "d is the length of one head's query, not of all heads together": lambda x, t, w, h: _layer(
            x, t, w, h, length=x.shape[-1] ** 0.5
        ),
        "the scores are not divided by the root of d": lambda *a: _layer(*a, length=1),
        "to_out is missing: the fourth matrix mixes what the heads found": lambda *a: _layer(*a, out=False),
        "the bias of to_out is missing": lambda *a: _layer(*a, bias=False),
        "the square matrices are the wrong way round: torch computes x @ weight.T": lambda *a: _layer(*a, turn=True),
        "a head's numbers lie side by side in a vector: unflatten it to [heads, width / heads], then turn the axes": (
            lambda *a: _layer(*a, split=_comb)
        ),
        "the split mixes places: cut only the last axis, then turn it before the places": lambda *a: _layer(
            *a, split=_cut
        ),
        "to join the heads, turn the axes back to places x heads first": lambda *a: _layer(
            *a, join=lambda x: x.reshape(x.shape[0], x.shape[2], -1)
        ),
        "the softmax must run over the tokens, not over the places": lambda *a: _layer(*a, axis=-2),
        "keys and values have changed places: to_k makes what is compared, to_v what is mixed": lambda x, t, w, h: (
            _layer(x, t, w | {"to_k": w["to_v"], "to_v": w["to_k"]}, h)
        ),
        "divided by the root of d twice: F.scaled_dot_product_attention does it once itself": lambda x, t, w, h: _layer(
            x, t, w, h, length=x.shape[-1] / h
        ),
        "the input is added: leave that to the block around the layer": lambda x, t, w, h: x + _layer(x, t, w, h),
        "every picture has its own text, not that of the first": lambda x, t, w, h: _layer(x, t[:1].expand_as(t), w, h),
    },
)
def cross_attention(draws: Draws):
    """A whole cross-attention layer of several pictures and heads, against diffusers."""
    for n, places, tokens, width, text_width, heads in [(2, 6, 5, 12, 7, 3), (1, 9, 4, 8, 16, 4), (3, 5, 7, 6, 6, 2)]:
        yield _layer_inputs(draws, n, places, tokens, width, text_width, heads)
    yield _layer_inputs(draws, 2, 4, 77, 20, 5, 5, dtype=torch.float64)


def _layer_inputs(draws: Draws, n, places, tokens, width, text_width, heads, dtype=torch.float32):
    sizes = {"to_q": width, "to_k": text_width, "to_v": text_width, "to_out": width}
    weights = {name: draws.normal(width, size, dtype=dtype) * size**-0.5 for name, size in sizes.items()}
    weights["bias"] = draws.normal(width, dtype=dtype)
    x, text = draws.normal(n, places, width, dtype=dtype), draws.normal(n, tokens, text_width, dtype=dtype)
    return x, text, weights, heads


def lead_by_search(tokens, share):
    """Search the lead with which the softmax gives one token this share."""
    low, high = -50.0, 50.0
    for _ in range(60):
        middle = (low + high) / 2
        scores = torch.zeros(tokens, dtype=torch.float64)
        scores[0] = middle
        low, high = (middle, high) if scores.softmax(dim=0)[0] < share else (low, middle)
    return (low + high) / 2


@check.exercise(
    lead_by_search,
    without=(LOOP, SOFTMAX,),
    mistakes={
        "there are tokens - 1 others, not tokens": lambda n, p: math.log(n * p / (1 - p)),
        "the shares of all others together are 1 - share, and each of them counts: their number is missing": (
            lambda n, p: math.log(p / (1 - p))
        ),
        "that is how many times larger its e-power is; the score is the logarithm of it": lambda n, p: (
            (n - 1) * p / (1 - p)
        ),
        "the others do not keep the share 1 / tokens: they get 1 - share together": lambda n, p: math.log(n * p),
        "the sign is wrong: a share above 1 / tokens needs a score above the others": lambda n, p: (
            -math.log((n - 1) * p / (1 - p))
        ),
        "use the natural logarithm, as the softmax has powers of e": lambda n, p: math.log2((n - 1) * p / (1 - p)),
        "use the natural logarithm: the softmax has powers of e, not of 10": lambda n, p: math.log10(
            (n - 1) * p / (1 - p)
        ),
        "divide by what is left for the others, 1 - share": lambda n, p: math.log((n - 1) * p),
        "the number of tokens is not always 77: use the argument": lambda n, p: math.log(76 * p / (1 - p)),
        "a small share needs a score below the others, a negative lead": lambda n, p: abs(
            math.log((n - 1) * p / (1 - p))
        ),
        "a share below 1 / tokens needs a negative lead, do not stop at 0": lambda n, p: max(
            0.0, math.log((n - 1) * p / (1 - p))
        ),
    },
)
def lead_for_share(draws: Draws):
    """By how much one score must be ahead of equal others for a share of the attention."""
    yield (77, 0.5)
    yield (77, draws.uniform(0.85, 0.95))
    yield (draws.integer(3, 20), draws.uniform(0.4, 0.8))
    yield (2, draws.uniform(0.55, 0.8))
    yield (77, 1 / 77)
    yield (draws.integer(5, 9), draws.uniform(0.01, 0.05))


def map_without_start(probabilities, sizes, tokens, size):
    """Return the mean map of some tokens over heads and layers, with the start token left out of the rows."""
    return _map(probabilities, sizes, tokens, size)


def _without_start(maps):
    return torch.cat([torch.zeros_like(maps[..., :1]), maps[..., 1:] / maps[..., 1:].sum(dim=-1, keepdim=True)], dim=-1)


def _map(probabilities, sizes, tokens, size, *, rows=_without_start, turn=False, total=(), **resize):
    resize = {"mode": "bilinear", "align_corners": False} | resize
    maps = []
    for layer, (height, width) in zip(probabilities, sizes, strict=True):
        one = rows(layer)[..., tokens].mean(dim=0)
        one = one.sum(dim=-1) if "tokens" in total else one.mean(dim=-1)
        one = one.reshape(width, height).T if turn else one.reshape(height, width)
        maps.append(functional.interpolate(one[None, None], size=size, **resize)[0, 0])
    return sum(maps) / (1 if "layers" in total else len(maps))


@check.exercise(
    map_without_start,
    mistakes={
        "the start token keeps its share: divide every row by the sum of the others, so that these add up to 1": (
            lambda *a: _map(*a, rows=lambda m: m)
        ),
        "renormalise each head's rows before you average the heads": lambda *a: _map(
            *a, rows=lambda m: _without_start(m.mean(dim=0, keepdim=True))
        ),
        "the tokens are one off: once column 0 is cut off, token 1 stands in column 0": lambda *a: _map(
            *a, rows=lambda m: _without_start(m).roll(-1, dims=-1)
        ),
        "every place's row is divided, over its tokens: not every token's map over its places": lambda *a: _map(
            *a, rows=lambda m: m / m.sum(dim=-2, keepdim=True)
        ),
        "the places run row by row: reshape them to [h, w]": lambda *a: _map(*a, turn=True),
        "take the mean over the layers, not the sum": lambda *a: _map(*a, total=("layers",)),
        "take the mean over the tokens of the word, not the sum": lambda *a: _map(*a, total=("tokens",)),
        "a word may have several tokens: take the mean over all of them": lambda p, sizes, tokens, size: _map(
            p, sizes, tokens[:1], size
        ),
        "the sizes are (h, w), the height first": lambda p, sizes, tokens, size: _map(
            p, [(w, h) for h, w in sizes], tokens, size
        ),
        "enlarge with mode='bilinear'": lambda *a: _map(*a, mode="nearest", align_corners=None),
        "enlarge with align_corners=False": lambda *a: _map(*a, align_corners=True),
    },
)
def heat_map(draws: Draws):
    """The map of a word from the probabilities of several layers."""
    yield _recorded(draws, [(3, 4), (6, 8)], 6, 2, [2, 3], (12, 16))
    yield _recorded(draws, [(4, 2), (2, 1), (8, 4)], 9, 3, [draws.integer(1, 7)], (10, 7))
    yield _recorded(draws, [(5, 3)], 77, 4, [4, 9, 75], (5, 9))
    yield _recorded(draws, [(2, 3), (4, 6)], 7, 1, [1], (8, 12), dtype=torch.float64)


def _recorded(draws: Draws, sizes, tokens, heads, word, size, *, dtype=torch.float32):
    scores = [2 * draws.normal(heads, height * width, tokens, dtype=dtype) for height, width in sizes]
    for one in scores:
        one[..., 0] += 2  # the start token gets most, as in the model
    return [one.softmax(dim=-1) for one in scores], sizes, word, size


@dataclass(frozen=True)
class Look:
    """A portrait that the model has looked at: picture and masks, maps by layer [tokens, h, w], tokens by word."""

    portrait: object
    maps: dict[str, torch.Tensor]
    words: dict[str, list[int]]


@functools.lru_cache(maxsize=2)
def look_at_portraits(seed: int = 0, count: int = PORTRAITS) -> list[Look]:
    """Draw portraits that the model does not know, add noise (t = 500) and record one call of the U-Net on them."""
    from ..lessons.lesson_08 import look_at
    from ..portraits import draw_portrait, plan_portrait

    plans = [plan_portrait(31_000_000 + 1000 * seed + number, split="any") for number in range(count)]
    portraits = [draw_portrait(plan, masks=True) for plan in plans]
    people = [plan.attributes for plan in plans]
    captions = [f"a {one.subject} with {one.eyes} eyes and a {one.shirt} shirt" for one in people]
    look = look_at(Pocket().resolve(), [portrait.image for portrait in portraits], captions, heads="mean")
    words = [{word: look.positions(word, image=number) for word in ("eyes", "shirt")} for number in range(count)]
    maps = {name: look[name][0, :, 0] for name in look.layers}
    return [Look(portraits[i], {name: one[i] for name, one in maps.items()}, words[i]) for i in range(count)]


def hits(places, looks, word: str) -> float:
    """Return the share of (row, column) places that lie in the region of ``word``, or a cell of 8 pixels beside it."""
    found = 0
    for (row, column), look in zip(places, looks, strict=True):
        top, left = max(0, int(row) - CELL), max(0, int(column) - CELL)
        found += bool(look.portrait.masks[word][top : int(row) + CELL + 1, left : int(column) + CELL + 1].any())
    return found / len(looks)


@check.effect
def find_word(attempt, draws: Draws) -> str:
    """Find what a word names in portraits, from the attention alone."""
    looks = look_at_portraits(draws.seed)
    places = {"eyes": [], "shirt": []}
    for look in looks:
        for word, found in places.items():
            found.append(_place(attempt(look.maps, look.words[word])))
    shares = {word: hits(found, looks, word) for word, found in places.items()}
    if min(shares.values()) < SHARE:
        counted = " and ".join(f"the {word} in {share:.0%}" for word, share in shares.items())
        raise Wrong(f"you found {counted} of the portraits, and {SHARE:.0%} are asked for: {_advice(places, looks)}")
    for word in places:
        moved = [_place(attempt(_rolled(look.maps), look.words[word])) for look in looks]
        back = [((row + SIDE // 2) % SIDE, (column + SIDE // 2) % SIDE) for row, column in moved]
        if (share := hits(back, looks, word)) < SHARE:
            raise Wrong(
                f"with all maps rolled by half a picture you found the {word} in {share:.0%} of the portraits, and "
                f"{SHARE:.0%} are asked for: read row and column from the maps, not from where things mostly are"
            )
    return f"the eyes and the shirt found in at least {SHARE:.0%} of the portraits"


def _rolled(maps: dict) -> dict:
    """Return the maps moved half their height down and half their width right; what leaves comes in again."""
    return {name: one.roll((one.shape[-2] // 2, one.shape[-1] // 2), dims=(-2, -1)) for name, one in maps.items()}


def _place(place) -> tuple:
    """Return an answer that is a row and a column; raise Wrong for anything else."""
    if isinstance(place, torch.Tensor) and place.numel() == 2:
        raise Wrong("return two plain numbers, (row, column): .tolist() or int() makes them of a tensor")
    if not isinstance(place, list | tuple) or len(place) != 2 or not all(type(one) in (int, float) for one in place):
        raise Wrong("return two plain numbers, the row and the column of the place")
    if not all(0 <= one < SIDE for one in place):
        raise Wrong(f"row and column are pixels from 0 to {SIDE - 1}; you returned {place[0]:.0f} and {place[1]:.0f}")
    return tuple(place)


def _advice(places: dict, looks) -> str:
    swapped = {word: [(column, row) for row, column in found] for word, found in places.items()}
    if all(hits(swapped[word], looks, word) >= SHARE for word in places):
        return "row and column are swapped, the row comes first"
    if places["eyes"] == places["shirt"]:
        return "you give the same place for both words, so use the map of the word's own tokens"
    if max(max(place) for found in places.values() for place in found) < SIDE // 4:
        return f"all your places lie in the upper left corner, so are they cells of a layer and not pixels of {SIDE}"
    return "not every layer points, so which ones do you ask, and how do you put their maps together"
