"""Checks of lab 12: the cost of attention and of growth, rounding, and the diagnosis of unknown interventions."""

import functools
import math

import torch

from .attempt import Pocket
from .exercise import Draws, Lab
from .lab_12_patients import CASES, MYSTERIES, examine, make_case, name_of
from .outcome import Wrong

check = Lab("12", "Find the intervention")

RIGHT_CASES = 8  # of the 10 patients, one for each of CASES
SUBJECTS, EYES, SHIRTS = ("man", "woman", "cat", "dog"), ("blue", "green", "brown"), ("red", "yellow", "purple")


def flops_by_counter(cells, width, tokens, text_width, heads):
    """Return what torch's counter finds in one attention layer of diffusers, built without memory."""
    from diffusers.models.attention_processor import Attention

    from sdlab.instruments import count_flops

    with torch.device("meta"):
        layer = Attention(width, text_width, heads=heads, dim_head=width // heads)
    kinds = count_flops(lambda: layer(torch.empty(1, cells, width), torch.empty(1, tokens, text_width)))
    return {"linear": kinds["linear"], "attention": kinds["attention"]}


def _flops(cells, width, tokens, text_width, *, factor=2, products=2, heads=1, parts=("q", "k", "v", "o"), keys=None):
    rows, read = keys or (tokens, text_width)
    linear = sum({"q": cells * width, "o": cells * width}.get(part, rows * read) * width for part in parts)
    return {"linear": factor * linear, "attention": factor * products * heads * cells * tokens * width}


@check.exercise(
    flops_by_counter,
    mistakes={
        "one multiplication and one addition are two operations: a factor of 2 is missing": lambda c, w, t, x, h: (
            _flops(c, w, t, x, factor=1)
        ),
        "the heads share the width, so more heads are not more work": lambda c, w, t, x, h: _flops(c, w, t, x, heads=h),
        "each head has its share of the width, and all heads together have all of it": lambda c, w, t, x, h: {
            "linear": _flops(c, w, t, x)["linear"],
            "attention": 4 * c * t * w // h,
        },
        "the linear layers come before and after the heads: count them once": lambda c, w, t, x, h: {
            "linear": h * _flops(c, w, t, x)["linear"],
            "attention": 4 * c * t * w,
        },
        "attention has two products: queries with keys, and weights with values": lambda c, w, t, x, h: _flops(
            c, w, t, x, products=1
        ),
        "to_out.0 is missing among the linear layers": lambda c, w, t, x, h: _flops(c, w, t, x, parts=("q", "k", "v")),
        "keys and values are both made: two layers read the text": lambda c, w, t, x, h: _flops(
            c, w, t, x, parts=("q", "k", "o")
        ),
        "keys and values are made of the tokens, each of text_width numbers, not of the cells": lambda c, w, t, x, h: (
            _flops(c, w, t, x, keys=(c, w))
        ),
        "keys and values are made for each token, not for each cell": lambda c, w, t, x, h: _flops(
            c, w, t, x, keys=(c, x)
        ),
        "a token has text_width numbers, not width": lambda c, w, t, x, h: _flops(c, w, t, x, keys=(t, w)),
        "cells meet tokens here, not cells cells": lambda c, w, t, x, h: {
            "linear": _flops(c, w, t, x)["linear"],
            "attention": 4 * c * c * w,
        },
    },
)
def flops_of_attention(draws: Draws):
    """The operations of one attention layer, against torch's counter on the meta device."""
    for heads in (2, 4, 8):
        sizes = (draws.integer(20, 60), 8 * draws.integer(2, 9), draws.integer(5, 19), 8 * draws.integer(10, 20))
        yield (*sizes, heads)
    yield (4096, 320, 77, 768, 8)
    yield (1024, 640, 1024, 640, 8)


def growth_by_counter(wider, larger):
    """Return how many times as much a layer of the other size has, counted on the meta device."""
    from sdlab.instruments import count_flops

    def count(width, side):
        cells = side**2
        with torch.device("meta"):
            layer, rows = torch.nn.Conv2d(width, width, 3, padding=1, bias=False), torch.empty(1, 1, cells, width)
            picture = torch.empty(1, width, side, side)
        products = lambda: torch.nn.functional.scaled_dot_product_attention(rows, rows, rows)  # noqa: E731
        return {
            "parameters": sum(value.numel() for value in layer.parameters()),
            "convolution": count_flops(lambda: layer(picture))["convolution"],
            "attention": count_flops(products)["attention"],
            "pairs": cells**2,
        }

    small, large = count(8, 4), count(8 * wider, 4 * larger)
    return {kind: large[kind] // small[kind] for kind in small}


def _growth(wider, larger, *, parameters=(2, 0), convolution=(2, 2), attention=(1, 4), pairs=(0, 4)):
    kinds = {"parameters": parameters, "convolution": convolution, "attention": attention, "pairs": pairs}
    return {kind: wider**a * larger**b for kind, (a, b) in kinds.items()}


@check.exercise(
    growth_by_counter,
    mistakes={
        "each weight joins one channel with another: parameters grow with the square of the width": lambda w, s: (
            _growth(w, s, parameters=(1, 0))
        ),
        "the parameters do not know how large the picture is": lambda w, s: _growth(w, s, parameters=(2, 2)),
        "a side twice as long means four times the cells, and a convolution visits each": lambda w, s: _growth(
            w, s, convolution=(2, 1)
        ),
        "a convolution's work grows with its parameters: the square of the width": lambda w, s: _growth(
            w, s, convolution=(1, 2)
        ),
        "every cell meets every cell: attention grows with the square of the cells, the fourth power of the side": (
            lambda w, s: _growth(w, s, attention=(1, 2), pairs=(0, 2))
        ),
        "the table of pairs has a number for each cell with each cell: the fourth power of the side": lambda w, s: (
            _growth(w, s, pairs=(0, 2))
        ),
        "both products work on pairs of cells: attention grows with the fourth power of the side": lambda w, s: _growth(
            w, s, attention=(1, 2)
        ),
        "the products of attention grow with the width itself, not with its square": lambda w, s: _growth(
            w, s, attention=(2, 4)
        ),
        "the products of attention grow with the width too: each pair multiplies that many numbers": lambda w, s: (
            _growth(w, s, attention=(0, 4))
        ),
        "the table of pairs has one number a pair, however wide the vectors are": lambda w, s: _growth(
            w, s, pairs=(1, 4)
        ),
        "the side counts twice for a cell and four times for a pair: it is the side that is given, not the area": (
            lambda w, s: _growth(w, s, convolution=(2, 1), attention=(1, 2), pairs=(0, 2))
        ),
    },
)
def predict_growth(draws: Draws):
    """How parameters, work and pairs grow with the width and with the side of the picture."""
    yield from [(2, 3), (10, 4), (draws.integer(3, 7), draws.integer(2, 5)), (1, 5), (6, 1)]


FORMATS = {(5, 10): torch.float16, (8, 7): torch.bfloat16, (5, 2): torch.float8_e5m2, (8, 23): torch.float32}

TINY = (3, 2), (4, 3)


def rounded_by_torch(value, exponent_bits, fraction_bits):
    """Return the value as torch's own type holds it, or in a tiny format the nearest of all its numbers."""
    if dtype := FORMATS.get((exponent_bits, fraction_bits)):
        return torch.tensor(value, dtype=torch.float32).to(dtype).item()
    numbers = _all_numbers(exponent_bits, fraction_bits)
    place = min(range(len(numbers)), key=lambda place: (abs(numbers[place] - abs(value)), place % 2))
    return math.copysign(numbers[place] if place + 1 < len(numbers) else math.inf, value)


def _all_numbers(exponent_bits, fraction_bits) -> list:
    """Return all numbers of the format that are not negative, in order, and last the one that would come next."""
    bias, parts = 2 ** (exponent_bits - 1) - 1, 2**fraction_bits
    numbers = [part * 2.0 ** (1 - bias - fraction_bits) for part in range(parts)]
    for exponent in range(1 - bias, bias + 1):
        numbers += [(parts + part) * 2.0 ** (exponent - fraction_bits) for part in range(parts)]
    return [*numbers, 2.0 ** (bias + 1)]


def _round(
    value,
    exponent_bits,
    fraction_bits,
    *,
    to=round,
    floor=True,
    top=True,
    by=0,
    cut=False,
    sign=True,
    late=True,
    b=1,
    e=None,
):
    bias = 2 ** (exponent_bits - 1) - b
    if value == 0:
        return 0.0
    exponent = (e or math.floor)(math.log2(abs(value))) + (by if late else 0)
    if cut and exponent < 1 - bias:
        return 0.0
    step = 2.0 ** ((max(exponent, 1 - bias) if floor else exponent) - fraction_bits + (0 if late else by))
    found = to(value / step) * step
    largest = (2 - 2.0**-fraction_bits) * 2.0**bias
    if top == "clamp":
        return max(-largest, min(largest, found))
    if (top and abs(found) > largest) or (top == "before" and abs(value) > largest):
        return math.copysign(math.inf, value) if sign else math.inf
    return math.copysign(math.inf, value) if top == "reached" and abs(found) == largest else found


def _half_up(number):
    return math.copysign(math.floor(abs(number) + 0.5), number)


@check.exercise(
    rounded_by_torch,
    mistakes={
        "what is too large becomes infinite": lambda v, e, f: _round(v, e, f, top=False),
        "what is too large becomes infinite, not the largest number": lambda v, e, f: _round(v, e, f, top="clamp"),
        "what is too small loses digits and then vanishes: the step never gets smaller than at the smallest exponent": (
            lambda v, e, f: _round(v, e, f, floor=False)
        ),
        "below the smallest exponent there are still numbers, in equal steps down to 0": lambda v, e, f: _round(
            v, e, f, cut=True
        ),
        "round to the nearest, do not cut off": lambda v, e, f: _round(v, e, f, to=int),
        "a number just in the middle goes to the even neighbour, as round() does": lambda v, e, f: _round(
            v, e, f, to=_half_up
        ),
        "a negative number that is too large becomes -inf": lambda v, e, f: _round(v, e, f, sign=False),
        "the digits after the leading 1 count alone: fraction_bits of them, not fraction_bits - 1": lambda v, e, f: (
            _round(v, e, f, by=1, late=False)
        ),
        "math.frexp(value)[1] is e + 1: take 1 off": lambda v, e, f: _round(v, e, f, by=1),
        "below 1 the logarithm is negative, and int() cuts towards 0: take math.frexp": lambda v, e, f: _round(
            v, e, f, e=int
        ),
        "b is 2 to the power E - 1, less 1": lambda v, e, f: _round(v, e, f, b=0),
        "to the nearest, up or down, not always down": lambda v, e, f: _round(v, e, f, to=math.floor),
        "round first: only what still is too large then becomes infinite": lambda v, e, f: _round(
            v, e, f, top="before"
        ),
        "the largest number itself still fits": lambda v, e, f: _round(v, e, f, top="reached"),
    },
    rtol=1e-9,
    atol=0.0,
)
def round_to(draws: Draws):
    """A number as a floating point format of so many bits holds it, against torch."""
    for bits in FORMATS:
        bias, fraction = 2 ** (bits[0] - 1) - 1, bits[1]
        yield (_float32(draws.uniform(-9, 9)), *bits)
        yield (_float32(draws.uniform(100, 999)), *bits)
        yield (_float32(draws.uniform(0.13, 0.24)), *bits)
        yield (0.0, *bits)
        if fraction == 23:
            continue
        yield (-(2.0**-3) * (1 + 2.0**-fraction / 2), *bits)  # in the middle: to the even neighbour
        yield (1 + 3 * 2.0**-fraction / 2, *bits)
        yield (2.0 ** (1 - bias - fraction) * 2.75 if bits[0] == 5 else 2.0 ** (1 - bias) * 1.25, *bits)
        yield ((2 - 2.0**-fraction) * 2.0**bias, *bits)
    yield (70000.0, 5, 10)
    yield (-70000.0, 5, 10)
    yield (65519.0, 5, 10)
    yield (70000.0, 8, 7)
    yield (1e-8, 5, 10)
    yield (-_float32(draws.uniform(2, 9) * 1e-6), 5, 10)
    for bits in TINY:
        largest = _all_numbers(*bits)[-2]
        yield from [
            (sign * share * largest, *bits) for sign, share in [(1, 1.01), (-1, 1.2), (1, draws.uniform(0.1, 0.9))]
        ]
        yield (_float32(draws.uniform(0.02, 0.2)), *bits)


def _float32(value: float) -> float:
    return torch.tensor(value, dtype=torch.float32).item()


@functools.cache
def _plans(seed: int) -> tuple:
    """Return ten (name, ailment, prompt, seed of the noise), one for each name of CASES in some order."""
    draws = Draws(seed)
    names, found = list(CASES), []
    for index in torch.randperm(len(names), generator=draws.generator).tolist():
        prompt = f"a {draws.choice(SUBJECTS)} with {draws.choice(EYES)} eyes and a {draws.choice(SHIRTS)} shirt"
        ailment = make_case(names[index], draws, prompt)
        found.append((names[index], ailment, prompt, draws.integer(0, 10**6)))
    return tuple(found)


@functools.cache
def _case(seed: int, place: int) -> tuple:
    """Return (name, record) of one of the ten; its picture is drawn only now."""
    name, ailment, prompt, noise = _plans(seed)[place]
    return name, examine(ailment, prompt, seed=noise)


def cases(seed: int) -> tuple:
    """Return ten (name, record), one for each name of CASES in some order, all freshly drawn."""
    return tuple(_case(seed, place) for place in range(len(CASES)))


@check.effect
def diagnose(attempt, draws: Draws) -> str:
    """Name what is wrong with ten unknown pipelines from the records of what they did, until enough are right."""
    said, truth, right = [], [], 0
    while right < RIGHT_CASES and len(said) < len(CASES):
        name, record = _case(draws.seed, len(said))
        answer = attempt(record, Pocket())
        if type(answer) is not str:
            raise Wrong("return a name, one of the strings in CASES")
        if answer not in CASES:
            raise Wrong(f"{answer!r} is none of the names in CASES")
        said.append(answer)
        truth.append(name)
        right += answer == name
    if right < RIGHT_CASES:
        raise Wrong(
            f"{right} of {len(truth)} patients are named rightly, and {RIGHT_CASES} are asked for: {_why(said, truth)}"
        )
    return f"at least {RIGHT_CASES} of {len(CASES)} patients named"


def _why(said: list, truth: list) -> str:
    if len(set(said)) == 1:
        return (
            f"they do not all have {said[0]!r}: one of them is healthy, and equal to the healthy model within rounding"
        )
    healthy = said[truth.index("nothing")]
    if healthy != "nothing":
        return (
            f"even the healthy one is said to have {healthy!r}, so compare within rounding, and with the right values"
        )
    wrong = [(one, other) for one, other in zip(said, truth, strict=True) if one != other]
    if all(one == "nothing" for one, _ in wrong):
        return f"too many are called healthy, for example the one with {wrong[0][1]!r}"
    one, other = next(pair for pair in wrong if pair[0] != "nothing")
    return f"for example, the one with {other!r} was taken for {one!r}, so ask first what only {other!r} can do"


PATIENTS = (1, 2, 3)


@check.effect
def verdicts(attempt, draws: Draws) -> str:
    """The names of what the three patients have, found with the instruments."""
    said = attempt()
    if type(said) is not dict or set(said) != set(PATIENTS):
        raise Wrong("return a dictionary with the keys 1, 2 and 3, each with a name")
    for number, name in said.items():
        if type(name) is not str or name not in MYSTERIES:
            raise Wrong(f"{name!r}, for patient {number}, is none of the names in MYSTERIES")
    wrong = [number for number in PATIENTS if said[number] != name_of(number)]
    if wrong == list(PATIENTS):
        raise Wrong("none of the three is right: for each name, think of a prompt and a seed that would show it")
    if wrong:
        number = wrong[0]
        raise Wrong(f"patient {number} does not have {said[number]!r}: {_experiment(said[number])}")
    return "all three patients are known"


def _experiment(name: str) -> str:
    return {
        "nothing": "hold its record against that of Patient(0), at every step and for several kinds of prompt",
        "seed ignored": "does it draw the same picture for two seeds",
        "red read as blue": "draw a red shirt and nothing else",
        "two colours swapped": "draw a prompt with two colours, and one with a single colour",
        "late text ignored": "compare its two noise predictions at the last timesteps",
        "LoRA attached": "ask for Momo the cat, with several seeds",
        "left and right swapped": "decode its last latents yourself, and hold them beside its picture",
    }[name]
