"""Say what a portrait shows, in many ways, and know exactly which captions are true of which portraits.

A caption is composed from the attributes it names; some words leave room ("person", "impressionist") and some
fit one portrait better than another ("gentleman" with a tie): ``truth_matrix`` gives all of that as numbers.
"""

from dataclasses import dataclass, field

import numpy as np

from .attributes import NAMES, VALUES
from .plan import Plan, plan_portrait

SUBJECT_WORDS = {
    "man": ("man", "gentleman", "guy"),
    "woman": ("woman", "lady", "girl"),
    "cat": ("cat", "kitty", "kitten"),
    "dog": ("dog", "hound", "puppy"),
}
WIDER_WORDS = {"person": ("man", "woman"), "pet": ("cat", "dog"), "animal": ("cat", "dog")}
IMPRESSIONISTS = ("Monet", "Manet", "Degas")
COLOR_WORDS = {
    ("hair", "golden"): ("golden", "blond"),
    ("hair", "red"): ("red", "ginger"),
    ("hair", "gray"): ("gray", "silver"),
    ("eyes", "purple"): ("purple", "violet"),
}
SCENE_PHRASES = {
    "plain": ("against a plain background", "in front of a plain wall"),
    "forest": ("in a forest", "in the woods", "among the trees"),
    "beach": ("at the beach", "by the sea", "on a sunny beach"),
    "night": ("at night", "under the stars", "in the moonlight"),
    "city": ("in the city", "in front of tall buildings"),
    "snow": ("in the snow", "on a snowy day", "in winter"),
}
SCENE_TAGS = {
    "plain": "plain background",
    "forest": "forest",
    "beach": "beach",
    "night": "night",
    "city": "city",
    "snow": "snow",
}
STYLE_PHRASES = ("painted by {}", "in the style of {}", "by {}")
STYLE_OPENINGS = ("a painting by {} of ", "a {} painting of ", "a portrait by {} of ")
CARTOON_OPENINGS = ("a cartoon of ", "a drawing of ", "a cartoon portrait of ")
# how often the absence of something is worth a word
SAY_ABSENT = {"hat": 0.3, "glasses": 0.2, "scene": 0.75, "style": 0.4}


@dataclass(frozen=True)
class Caption:
    """A sentence, the attributes it states (``named``), and what it leaves open.

    ``allowed`` maps an attribute to the values the sentence is true for; ``word`` is its word for the subject.
    """

    text: str
    named: dict = field(hash=False)
    allowed: dict = field(hash=False)
    word: str
    layout: int


def word_fit(word: str, plan: Plan) -> float:
    """Return how well a word for the subject fits this portrait, in (0, 1]; 1 is a perfect example."""
    details, attributes = plan.details, plan.attributes
    hat = details["hat_kind"] if attributes.hat != "none" else ""
    collar, young = details["collar"], details["young"]
    cues = {
        "gentleman": 0.5
        + 0.3 * (collar == "tie")
        + 0.3 * (hat in ("bowler", "tophat"))
        + 0.2 * details["moustache"]
        + 0.2 * (attributes.hair == "gray"),
        "guy": 0.5
        + 0.25 * (hat in ("cap", "beanie"))
        + 0.25 * (collar in ("hood", "round"))
        + 0.25 * details["stubble"],
        "lady": 0.5
        + 0.3 * (collar in ("necklace", "scarf"))
        + 0.2 * details["earrings"]
        + 0.2 * (hat == "sunhat")
        + 0.2 * (details["hair_style"] == "bun"),
        "girl": 0.45 + 0.35 * (details["hair_style"] == "pigtails") + 0.2 * details["freckles"] + 0.2 * young,
        "kitten": 0.5 + 0.5 * young,
        "puppy": 0.5 + 0.5 * young,
        "hound": 0.5 + 0.5 * (details["ears"] == "long"),
        "kitty": 0.5 + 0.4 * (hat in ("party", "beret")),
    }
    return float(min(1.0, cues.get(word, 0.85)))


def _choose_word(plan: Plan, rng: np.random.Generator) -> str:
    words = SUBJECT_WORDS[plan.attributes.subject]
    weights = np.array([word_fit(word, plan) ** 2 for word in words])
    return words[int(np.searchsorted(np.cumsum(weights / weights.sum()), rng.random() * 0.999999))]


def _choose_names(plan: Plan, rng: np.random.Generator, drop: float | None, absent_said: float) -> list[str]:
    """Choose which attributes to state: all of them in most captions, each with probability 1/2 in the others."""
    if drop is None:
        drop = 0.0 if rng.random() < 0.6 else 0.5
    chosen = []
    for name in NAMES[1:]:
        absent = getattr(plan.attributes, name) in ("none", "no", "plain")
        keep = rng.random() >= drop
        if keep and (not absent or rng.random() < SAY_ABSENT[name] + (1 - SAY_ABSENT[name]) * absent_said):
            chosen.append(name)
    return chosen


def caption(plan: Plan, rng: np.random.Generator, *, drop: float | None = None, absent_said: float = 0.0) -> Caption:
    """Describe ``plan`` in one sentence.

    Args:
        plan: the portrait.
        rng: chooses words, order and what is left out.
        drop: probability of leaving out each phrase; by default 0 in 60 % of captions and 0.5 in the others.
        absent_said: how often to say as well what the portrait lacks (no hat, no glasses, a plain background, a
            cartoon rather than a painting) where it would go unsaid: 0 in SAY_ABSENT's share, 1 always.
    """
    names = _choose_names(plan, rng, drop, absent_said)
    named = {"subject": plan.attributes.subject} | {name: getattr(plan.attributes, name) for name in names}
    word, wide = _choose_word(plan, rng), rng.random()
    if wide < 0.06:
        options = [wider for wider, subjects in WIDER_WORDS.items() if plan.attributes.subject in subjects]
        word = options[int(rng.integers(len(options)))]
    impressionist = named.get("style") in IMPRESSIONISTS and rng.random() < 0.08
    return compose(named, word, layout=int(rng.integers(2**31)), impressionist=impressionist)


def compose(named: dict, word: str, *, layout: int = 0, impressionist: bool = False) -> Caption:
    """Write the sentence that states ``named`` with ``word`` for the subject; ``layout`` picks one of many forms."""
    rng = np.random.default_rng(layout)
    phrases = {
        name: _phrase(name, value, named.get("subject"), rng) for name, value in named.items() if name != "subject"
    }
    if impressionist:
        phrases["style"] = "impressionist"
    text = _as_tags(word, phrases, rng) if rng.random() < 0.08 else _as_sentence(word, named, phrases, rng)
    allowed = {name: (value,) for name, value in named.items()}
    known = dict(named)
    if word in WIDER_WORDS:
        allowed["subject"] = WIDER_WORDS[word]
        known.pop("subject", None)
    if impressionist:
        allowed["style"] = IMPRESSIONISTS
        known.pop("style", None)
    return Caption(text, known, allowed, word, layout)


def _phrase(name, value, subject, rng) -> str:
    """Return the short noun phrase for one attribute, such as "blue eyes" or "no hat"."""
    words = COLOR_WORDS.get((name, value))
    color = words[int(rng.random() ** 1.5 * len(words))] if words else value
    if name == "eyes":
        return f"{color} eyes"
    if name == "hair":
        return f"{color} fur" if subject in ("cat", "dog") else f"{color} hair"
    if name in ("shirt", "hat"):
        return f"no {name}" if value == "none" else f"{_article(color)}{color} {name}"
    if name == "glasses":
        return "no glasses" if value == "no" else "glasses"
    return value


def _pick(rng, options):
    return options[int(rng.random() * len(options))]


def _as_tags(word, phrases, rng) -> str:
    """Write the caption as people write prompts: short pieces between commas."""
    pieces = [
        phrases[name].removeprefix("a ").removeprefix("an ")
        for name in ("eyes", "hair", "shirt", "hat", "glasses")
        if name in phrases
    ]
    if "scene" in phrases:
        pieces.append(SCENE_TAGS[phrases["scene"]])
    if "style" in phrases:
        pieces.append("cartoon" if phrases["style"] == "none" else phrases["style"])
    return ", ".join([word, *rng.permutation(pieces).tolist()])


def _as_sentence(word, named, phrases, rng) -> str:
    opening, closing = _style_parts(phrases.get("style"), rng)
    noun, used = _noun(word, phrases, rng)
    looks = [phrases[name] for name in ("eyes", "hair") if name in phrases and name not in used]
    worn = [
        phrases[name] for name in ("shirt", "hat", "glasses") if name in phrases and not phrases[name].startswith("no ")
    ]
    without = [phrases[name][3:] for name in ("hat", "glasses") if phrases.get(name, "").startswith("no ")]
    clauses = []
    if looks:
        clauses.append(" with " + " and ".join(rng.permutation(looks).tolist()))
    if worn:
        worn = rng.permutation(worn).tolist()
        verb = " in " if rng.random() < 0.3 and "glasses" not in worn else " wearing "
        clauses.append(verb + _listed(worn))
    if "scene" in phrases:
        clauses.append(" " + _pick(rng, SCENE_PHRASES[named["scene"]]))
    if rng.random() < 0.35:
        clauses = [clauses[index] for index in rng.permutation(len(clauses))]
    if without:
        clauses.append(" without " + " or ".join(f"a {item}" if item == "hat" else item for item in without))
    comma = "," if rng.random() < 0.5 and len(clauses) > 1 else ""
    return opening + _article(noun) + noun + comma.join(clauses) + closing


def _noun(word, phrases, rng):
    """Return the subject with perhaps one adjective in front, and the attributes that the adjective used up."""
    if "eyes" in phrases and rng.random() < 0.08:
        return f"{phrases['eyes'].removesuffix('s')}d {word}".replace(" eye", "-eye"), ("eyes",)
    if "hair" in phrases and phrases["hair"].endswith("hair") and rng.random() < 0.08:
        return f"{phrases['hair'].replace(' hair', '-haired')} {word}", ("hair",)
    return word, ()


def _style_parts(style, rng) -> tuple[str, str]:
    if style is None:
        return "", ""
    if style == "none":
        return _pick(rng, CARTOON_OPENINGS), ""
    if style == "impressionist":
        return "an impressionist painting of ", ""
    if rng.random() < 0.5:
        return "", ", " + _pick(rng, STYLE_PHRASES).format(style)
    return _pick(rng, STYLE_OPENINGS).format(style), ""


def _article(noun: str) -> str:
    return "an " if noun[0] in "aeiou" else "a "


def _listed(items: list[str]) -> str:
    return items[0] if len(items) == 1 else ", ".join(items[:-1]) + " and " + items[-1]


def swap_captions(original: Caption, rng: np.random.Generator) -> Caption | None:
    """Return a false twin: two attributes exchange their values where both can take them, else one value changes.

    Returns None when the caption names nothing but the subject.
    """
    names = [name for name in original.named if name != "subject"]
    swaps = [
        (one, other)
        for one in names
        for other in names
        if one < other
        and original.named[one] != original.named[other]
        and original.named[one] in VALUES[other]
        and original.named[other] in VALUES[one]
        and not {original.named[one], original.named[other]} & {"none", "no"}
    ]
    named = dict(original.named)
    if swaps and rng.random() < 0.8:
        one, other = swaps[int(rng.integers(len(swaps)))]
        named[one], named[other] = named[other], named[one]
    elif names:
        name = names[int(rng.integers(len(names)))]
        others = [value for value in VALUES[name] if value != named[name]]
        named[name] = others[int(rng.integers(len(others)))]
    else:
        return None
    return compose(named, original.word, layout=original.layout)


def truth_matrix(captions: list[Caption], plans: list[Plan]) -> np.ndarray:
    """Return how true each caption is of each portrait, float32 [len(captions), len(plans)] in [0, 1].

    0 is false; 1 is true; a value between means that the word for the subject is not the best one (``word_fit``).
    """
    codes = np.stack([plan.attributes.codes() for plan in plans])
    truth = np.ones((len(captions), len(plans)), dtype=np.float32)
    for column, name in enumerate(NAMES):
        table = np.ones((len(captions), len(VALUES[name])), dtype=np.float32)
        for row, item in enumerate(captions):
            if name in item.allowed:
                table[row] = [value in item.allowed[name] for value in VALUES[name]]
        truth *= table[:, codes[:, column]]
    words = sorted({item.word for item in captions})
    fits = np.array([[word_fit(word, plan) for plan in plans] for word in words], dtype=np.float32)
    return truth * fits[[words.index(item.word) for item in captions]]


def caption_corpus(n: int, seed: int = 0) -> list[str]:
    """Return ``n`` training captions, the text a tokenizer is trained on."""
    rng = np.random.default_rng(seed)
    return [caption(plan_portrait(seed + index), rng).text for index in range(n)]
