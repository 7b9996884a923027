"""Compare what cells print where the digits are a processor's own: the same words, and nearly the same numbers."""

import re
from decimal import Decimal
from itertools import zip_longest

NUMBER = re.compile(r"(?<![\w.])[-+]?\d+(?:,\d{3})*(?:\.\d+)?(?:e[-+]?\d+)?(?:\s*%)?(?![\w])")
UNITS = 2  # of the last printed digit
PART = 0.1  # of the stored number
POINTS = 10  # of a percentage: a picture more or less out of a dozen or two
KINDS = ("text/plain", "text/html")


def texts_of(outputs) -> list[str]:
    """Return what a cell's outputs say: what was printed, joined, and every result as text or as a table."""
    printed = "".join(output.get("text", "") for output in outputs)
    bundles = [output.get("data", {}) for output in outputs]
    return [printed, *(bundle[kind] for bundle in bundles for kind in KINDS if kind in bundle)]


def words_and_numbers(text: str) -> tuple[str, list[str]]:
    """Return the words of ``text``, single spaces between them and # for a number, and its numbers.

    >>> words_and_numbers("loss  0.31, 12 % of 2,048")
    ('loss #, # of #', ['0.31', '12%', '2048'])
    """
    numbers = [re.sub(r"[,\s]", "", found) for found in NUMBER.findall(text)]
    return " ".join(NUMBER.sub("#", text).split()), numbers


def distance(stored: str, fresh: str) -> float:
    """Return how far a number is from the stored one, in shares of what is allowed: up to 1 is near enough."""
    first, second = (Decimal(number.rstrip("%")) for number in (stored, fresh))
    allowed = max(UNITS * Decimal(1).scaleb(first.as_tuple().exponent), abs(first) * Decimal(PART))
    if stored.endswith("%"):
        allowed = max(allowed, Decimal(POINTS))
    return float(abs(first - second) / allowed)


def text_distance(stored_outputs, fresh_outputs) -> float:
    """Return the largest ``distance`` of a cell's numbers; infinite where other words or more numbers are said."""
    largest = 0.0
    for stored, fresh in zip_longest(texts_of(stored_outputs), texts_of(fresh_outputs), fillvalue="(nothing)"):
        (words, numbers), (other_words, others) = words_and_numbers(stored), words_and_numbers(fresh)
        if words != other_words:
            return float("inf")
        largest = max([largest, *map(distance, numbers, others)])
    return largest


def compare_words(stored_outputs, fresh_outputs) -> str:
    """Return which words of a cell differ, in one sentence; empty if none do, whatever the numbers are."""
    for stored, fresh in zip_longest(texts_of(stored_outputs), texts_of(fresh_outputs), fillvalue="(nothing)"):
        words, others = words_and_numbers(stored)[0], words_and_numbers(fresh)[0]
        if words != others:
            return f"The cell says {others!r}; stored is {words!r}."
    return ""


def compare_numbers(stored_outputs, fresh_outputs) -> str:
    """Return which number of a cell is too far from the stored one, in one sentence; empty if none is."""
    for stored, fresh in zip(texts_of(stored_outputs), texts_of(fresh_outputs), strict=False):
        for number, other in zip(words_and_numbers(stored)[1], words_and_numbers(fresh)[1], strict=False):
            if distance(number, other) > 1:
                return f"The cell says {other}; stored is {number}, and that is further than another processor goes."
    return ""
