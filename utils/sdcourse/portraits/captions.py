"""Say what a portrait shows, in many ways, and know exactly which captions are true of which portraits.

A caption is composed from the attributes it names; some words leave room ("person", "impressionist") and some
fit one portrait better than another ("gentleman" with a tie): ``truth_matrix`` gives all of that as numbers.
"""

from dataclasses import dataclass, field

import numpy as np

from .attributes import NAMES, VALUES
from .plan import Plan, plan_portrait
from .vocabulary import FIRST, IMPRESSIONISTS, VOCABULARIES
from .worlds import check_world

SUBJECT_WORDS, WIDER_WORDS, COLOR_WORDS = FIRST.subjects, FIRST.wider, FIRST.colors
SCENE_PHRASES, SCENE_TAGS = FIRST.scenes, {name: tags[0] for name, tags in FIRST.scene_tags.items()}
# how often the absence of something is worth a word
SAY_ABSENT = {"hat": 0.3, "glasses": 0.2, "scene": 0.75, "style": 0.4}


@dataclass(frozen=True)
class Caption:
    """A sentence, the attributes it states (``named``), and what it leaves open.

    ``allowed`` maps an attribute to the values the sentence is true for; ``word`` is its word for the subject, and
    ``words`` are those chosen for this portrait: {"shirt": "navy", "hat thing": "beret", "with": "a tie"}.
    """

    text: str
    named: dict = field(hash=False)
    allowed: dict = field(hash=False)
    word: str
    layout: int
    world: str = "first"
    words: dict = field(hash=False, default_factory=dict)

    @property
    def graded(self) -> list[tuple[str, str]]:
        """Return what fits one portrait better than another: (kind, word), as ("subject", "guy"), ("shirt", "navy")."""
        kinds = {"before": "extra", "with": "extra", "hair style": "extra", "shirt thing": "thing"}
        kinds |= {"hat thing": "thing", "glasses thing": "thing"}
        return [("subject", self.word), *((kinds.get(place, place), word) for place, word in self.words.items())]


def word_fit(word: str, plan: Plan) -> float:
    """Return how well a word for the subject fits this portrait, in (0, 1]; 1 is a perfect example."""
    return VOCABULARIES[plan.world].grade("subject", word, plan)


def _choose_word(plan: Plan, rng: np.random.Generator) -> str:
    return _choose_graded("subject", VOCABULARIES[plan.world].subjects[plan.attributes.subject], plan, rng)


def _choose_graded(attribute, words, plan, rng) -> str:
    """Choose one of several words, those that fit the portrait well more often."""
    weights = np.array([VOCABULARIES[plan.world].grade(attribute, word, plan) for word in words]) ** 2
    return words[int(np.searchsorted(np.cumsum(weights / weights.sum()), rng.random() * 0.999999))]


def _choose_words(plan: Plan, names: list[str], rng: np.random.Generator) -> dict[str, str]:
    """Choose the words for colours, things and extras that fit a portrait: {"shirt": "navy", "hat thing": "beret"}.

    Empty in a world that has one word for each thing, where the sentence's layout chooses among the words for a colour.
    """
    vocabulary, chosen = VOCABULARIES[plan.world], {}
    if not vocabulary.things:
        return chosen
    for name in names:
        value = getattr(plan.attributes, name)
        if colors := vocabulary.colors.get((name, value)):
            toned = (f"dark {value}", f"light {value}") if value not in ("black", "white") else ()
            options = toned if toned and rng.random() < 0.15 else colors
            chosen[name] = colors[0] if rng.random() < 0.5 else _choose_graded(name, options, plan, rng)
        if name in vocabulary.things and value not in ("none", "no"):
            things = vocabulary.things[name]
            chosen[f"{name} thing"] = things[0] if rng.random() < 0.5 else _choose_graded("thing", things, plan, rng)
    fitting = [
        extra
        for extra in vocabulary.extras
        if plan.attributes.subject in extra.subjects and vocabulary.grade("extra", extra.word, plan) == 1.0
    ]
    if fitting and rng.random() < 0.3:
        extra = fitting[int(rng.integers(len(fitting)))]
        chosen[extra.place] = extra.word
    return chosen


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
    vocabulary, word, wide = VOCABULARIES[plan.world], _choose_word(plan, rng), rng.random()
    if wide < 0.06:
        options = [wider for wider, subjects in vocabulary.wider.items() if plan.attributes.subject in subjects]
        word = options[int(rng.integers(len(options)))]
    share = vocabulary.impressionist_share
    impressionist = named.get("style") in IMPRESSIONISTS and rng.random() < share
    words = _choose_words(plan, names, rng)
    layout = int(rng.integers(2**31))
    return compose(named, word, layout=layout, impressionist=impressionist, world=plan.world, words=words)


def compose(
    named: dict,
    word: str,
    *,
    layout: int = 0,
    impressionist: bool = False,
    world: str | None = None,
    words: dict[str, str] | None = None,
) -> Caption:
    """Write the sentence that states ``named`` with ``word`` for the subject; ``layout`` picks one of many forms.

    world: whose words it takes (see ``vocabulary``). words: words for colours, things and extras, where they are to be
    others than the layout's; their grades are then part of the caption's truth.
    """
    rng, world, words = np.random.default_rng(layout), check_world(world), words or {}
    vocabulary = VOCABULARIES[world]
    words = {place: said for place, said in words.items() if place in ("before", "with") or place.split()[0] in named}
    phrases = {
        name: _phrase(name, value, named.get("subject"), rng, vocabulary, words)
        for name, value in named.items()
        if name != "subject"
    }
    if "with" in words:
        phrases["extra"] = words["with"]
    if impressionist:
        phrases["style"] = "impressionist"
    noun = f"{words['before']} {word}" if "before" in words else word
    write = _as_tags if rng.random() < 0.08 else _as_sentence
    text = write(noun, named, phrases, rng, vocabulary)
    allowed = {name: (value,) for name, value in named.items()}
    known = dict(named)
    if word in vocabulary.wider:
        allowed["subject"] = vocabulary.wider[word]
        known.pop("subject", None)
    if impressionist:
        allowed["style"] = IMPRESSIONISTS
        known.pop("style", None)
    return Caption(text, known, allowed, word, layout, world, words)


def _phrase(name, value, subject, rng, vocabulary, chosen) -> str:
    """Return the short noun phrase for one attribute, such as "blue eyes" or "no hat"."""
    words = vocabulary.colors.get((name, value))
    color = words[int(rng.random() ** 1.5 * len(words))] if words else value
    color, thing = chosen.get(name, color), chosen.get(f"{name} thing", name)
    if name == "eyes":
        return f"{color} eyes"
    if name == "hair":
        style = f"{chosen['hair style']} " if "hair style" in chosen else ""
        return f"{color} fur" if subject in ("cat", "dog") else f"{style}{color} hair"
    if name in ("shirt", "hat"):
        return f"no {name}" if value == "none" else f"{_article(color)}{color} {thing}"
    if name == "glasses":
        return "no glasses" if value == "no" else thing
    return value


def _pick(rng, options):
    return options[int(rng.random() * len(options))]


def _only_or_pick(rng, options):
    return options[0] if len(options) == 1 else _pick(rng, options)


def _as_tags(word, named, phrases, rng, vocabulary) -> str:
    """Write the caption as people write prompts: short pieces between commas."""
    pieces = [
        phrases[name].removeprefix("a ").removeprefix("an ")
        for name in ("eyes", "hair", "extra", "shirt", "hat", "glasses")
        if name in phrases
    ]
    if "scene" in phrases:
        pieces.append(_only_or_pick(rng, vocabulary.scene_tags[named["scene"]]))
    if "style" in phrases:
        pieces.append("cartoon" if phrases["style"] == "none" else phrases["style"])
    return ", ".join([word, *rng.permutation(pieces).tolist()])


def _as_sentence(word, named, phrases, rng, vocabulary) -> str:
    opening, closing = _style_parts(phrases.get("style"), rng, vocabulary)
    noun, used = _noun(word, phrases, rng)
    looks = [phrases[name] for name in ("eyes", "hair", "extra") if name in phrases and name not in used]
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
        clauses.append(" " + _pick(rng, vocabulary.scenes[named["scene"]]))
    if rng.random() < 0.35:
        clauses = [clauses[index] for index in rng.permutation(len(clauses))]
    if without:
        clauses.append(" without " + " or ".join(f"a {item}" if item == "hat" else item for item in without))
    comma = "," if rng.random() < 0.5 and len(clauses) > 1 else ""
    if vocabulary.openings:
        opening, closing = _add_fillers(opening, closing, rng, vocabulary)
    return opening + _article(noun) + noun + comma.join(clauses) + closing


def _add_fillers(opening, closing, rng, vocabulary) -> tuple[str, str]:
    """Say now and then what people type around a description and what says nothing of the picture."""
    if not opening and rng.random() < 0.3:
        opening = _pick(rng, vocabulary.openings)
    return opening, closing + (_pick(rng, vocabulary.closings) if rng.random() < 0.08 else "")


def _noun(word, phrases, rng):
    """Return the subject with perhaps one adjective in front, and the attributes that the adjective used up."""
    if "eyes" in phrases and rng.random() < 0.08:
        return f"{phrases['eyes'].removesuffix('s')}d {word}".replace(" eye", "-eye"), ("eyes",)
    if "hair" in phrases and phrases["hair"].endswith("hair") and rng.random() < 0.08:
        return f"{phrases['hair'].replace(' hair', '-haired')} {word}", ("hair",)
    return word, ()


def _style_parts(style, rng, vocabulary) -> tuple[str, str]:
    if style is None:
        return "", ""
    if style == "none":
        return _pick(rng, vocabulary.cartoon_openings), ""
    if style == "impressionist":
        return _only_or_pick(rng, vocabulary.school_openings), ""
    if rng.random() < 0.5:
        return "", ", " + _pick(rng, vocabulary.style_phrases).format(style)
    return _pick(rng, vocabulary.style_openings).format(style), ""


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
    words = {
        place: word
        for place, word in original.words.items()
        if place in ("before", "with") or named[place.split()[0]] == original.named.get(place.split()[0])
    }
    return compose(named, original.word, layout=original.layout, world=original.world, words=words)


def truth_matrix(captions: list[Caption], plans: list[Plan], *, school: float = 0.0) -> np.ndarray:
    """Return how true each caption is of each portrait, float32 [len(captions), len(plans)] in [0, 1].

    0 is false; 1 is true; a value between means that a word is not the best one (``word_fit``): a sentence is as true
    as the word of it that fits least (``Caption.graded``).
    ``school`` is how true the name of one impressionist is of another's picture: people mix them up.
    """
    codes = np.stack([plan.attributes.codes() for plan in plans])
    truth = np.ones((len(captions), len(plans)), dtype=np.float32)
    for column, name in enumerate(NAMES):
        table = np.ones((len(captions), len(VALUES[name])), dtype=np.float32)
        for row, item in enumerate(captions):
            if name in item.allowed:
                table[row] = [_truth_of(value, item.allowed[name], school) for value in VALUES[name]]
        truth *= table[:, codes[:, column]]
    grades = {}
    for row, item in enumerate(captions):
        for kind, word in item.graded:
            if (kind, word, item.world) not in grades:
                grades[kind, word, item.world] = _grades(kind, word, item.world, plans)
        truth[row] *= np.min([grades[kind, word, item.world] for kind, word in item.graded], axis=0)
    return truth


def _truth_of(value, allowed, school) -> float:
    if value in allowed:
        return 1.0
    return school if value in IMPRESSIONISTS and set(allowed) & set(IMPRESSIONISTS) else 0.0


def _grades(kind, word, world, plans):
    return np.array([VOCABULARIES[world].grade(kind, word, plan) for plan in plans], dtype=np.float32)


def caption_corpus(n: int, seed: int = 0, *, world: str | None = None) -> list[str]:
    """Return ``n`` training captions, the text a tokenizer is trained on."""
    rng = np.random.default_rng(seed)
    return [caption(plan_portrait(seed + index, world=world), rng).text for index in range(n)]
