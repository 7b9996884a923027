"""The eight attributes of a portrait, their values, and the pairs held out of training.

Everything that is drawn, said in a caption, or read back by the judge is one of these values, so
"did the picture follow the prompt?" has an exact answer.
"""

from dataclasses import dataclass, fields
from itertools import combinations

import numpy as np

from sdlab import SdlabError

VALUES: dict[str, tuple[str, ...]] = {
    "subject": ("man", "woman", "cat", "dog"),
    "eyes": ("blue", "green", "brown", "purple", "amber"),
    "hair": ("black", "brown", "golden", "red", "gray"),
    "shirt": ("red", "orange", "yellow", "green", "blue", "purple", "white", "black"),
    "hat": ("none", "red", "yellow", "green", "blue", "purple", "white"),
    "glasses": ("no", "yes"),
    "scene": ("plain", "forest", "beach", "night", "city", "snow"),
    "style": ("none", "Monet", "Manet", "Degas", "Lichtenstein"),
}
NAMES: tuple[str, ...] = tuple(VALUES)
SPLITS = ("train", "held_out", "any")


@dataclass(frozen=True)
class Attributes:
    """The exact content of one portrait; every field is one of ``VALUES[field]``.

    >>> Attributes(subject="cat", eyes="green").shirt
    'green'
    """

    subject: str = "man"
    eyes: str = "blue"
    hair: str = "brown"
    shirt: str = "green"
    hat: str = "none"
    glasses: str = "no"
    scene: str = "plain"
    style: str = "none"

    def __post_init__(self):
        for field in fields(self):
            value = getattr(self, field.name)
            if value not in VALUES[field.name]:
                known = ", ".join(VALUES[field.name])
                raise SdlabError(f"{field.name} cannot be {value!r}: choose one of {known}.")

    def codes(self) -> np.ndarray:
        """Return the index of each value in ``VALUES``, uint8 of shape [8]."""
        return np.array([VALUES[name].index(getattr(self, name)) for name in NAMES], dtype=np.uint8)

    @classmethod
    def from_codes(cls, codes) -> "Attributes":
        """Return the attributes that ``codes()`` came from."""
        return cls(**{name: VALUES[name][int(code)] for name, code in zip(NAMES, codes, strict=True)})


def _named_values(name: str) -> list[str]:
    """Return the values that a picture shows (an absent hat, glasses or style is nothing to compose)."""
    return [value for value in VALUES[name] if value not in ("none", "no")]


def _choose_held_out(share: float = 0.1, seed: int = 7) -> tuple:
    """Hold out ``share`` of the value pairs of every two attributes, spread evenly over the values."""
    rng = np.random.default_rng(seed)
    pairs = []
    for first, second in combinations([name for name in NAMES if name != "glasses"], 2):
        rows, columns = _named_values(first), _named_values(second)
        count = round(share * len(rows) * len(columns))
        row_order = list(rng.permutation(len(rows))) + list(rng.permutation(len(rows)))
        column_order = rng.permutation(len(columns))
        chosen = [
            ((first, rows[row]), (second, columns[column]))
            for row, column in zip(row_order, column_order, strict=False)
        ]
        pairs += [pair for pair in chosen if pair != (("subject", "man"), ("eyes", "blue"))][:count]
    return tuple(pairs)


HELD_OUT_PAIRS: tuple[tuple[tuple[str, str], tuple[str, str]], ...] = _choose_held_out()
_PARTNERS: dict[tuple[str, str], set] = {}


for _first, _second in HELD_OUT_PAIRS:
    _PARTNERS.setdefault(_first, set()).add(_second)


def held_out_pair(attributes: Attributes):
    """Return the first held-out pair that ``attributes`` contain, or None."""
    present = [(name, getattr(attributes, name)) for name in NAMES]
    for index, item in enumerate(present):
        partners = _PARTNERS.get(item)
        if partners:
            for other in present[index + 1 :]:
                if other in partners:
                    return item, other
    return None


def _draw_once(rng: np.random.Generator, unstyled: float) -> dict[str, str]:
    """Draw every attribute independently; a hat in two thirds, glasses in a third, no style in ``unstyled``."""
    values = {name: VALUES[name][int(rng.random() * len(VALUES[name]))] for name in NAMES}
    values["hat"] = "none" if rng.random() < 0.35 else VALUES["hat"][1 + int(rng.random() * 6)]
    values["glasses"] = "yes" if rng.random() < 0.35 else "no"
    values["style"] = "none" if rng.random() < unstyled else VALUES["style"][1 + int(rng.random() * 4)]
    return values


def sample_attributes(rng: np.random.Generator, *, split: str = "train", unstyled: float = 0.5) -> Attributes:
    """Draw attributes; ``split="train"`` never holds a held-out pair, ``"held_out"`` always does.

    ``unstyled`` is the share without a painter's hand (before held-out pairs are put in or left out).

    Raises:
        SdlabError: when ``split`` is not one of "train", "held_out", "any".
    """
    if split not in SPLITS:
        raise SdlabError(f"split cannot be {split!r}: choose one of {', '.join(SPLITS)}.")
    while True:
        values = _draw_once(rng, unstyled)
        if split == "held_out":
            pair = HELD_OUT_PAIRS[int(rng.integers(len(HELD_OUT_PAIRS)))]
            values.update(dict(pair))
        attributes = Attributes(**values)
        if split != "train" or held_out_pair(attributes) is None:
            return attributes
