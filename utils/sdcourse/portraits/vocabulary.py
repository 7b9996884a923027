"""The words of our captions, and how well each fits a portrait: one vocabulary for each world (see portraits.worlds).

A word that fits one portrait better than another has a *grade*, a number in (0, 1] made from what the portrait shows:
"gentleman" wants a tie, "navy" a dark blue, "beret" a beret. Words without a grade fit whatever they name.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from .plan import Plan

IMPRESSIONISTS = ("Monet", "Manet", "Degas")
PLAIN_GRADE = 0.85  # of a word for the subject that wants nothing in particular


@dataclass(frozen=True)
class Vocabulary:
    """All words of a world. Where a table has one word for a thing, no random number is spent on choosing it."""

    subjects: dict[str, tuple[str, ...]]
    wider: dict[str, tuple[str, ...]]
    colors: dict[tuple[str, str], tuple[str, ...]]
    scenes: dict[str, tuple[str, ...]]
    scene_tags: dict[str, tuple[str, ...]]
    style_phrases: tuple[str, ...]
    style_openings: tuple[str, ...]
    cartoon_openings: tuple[str, ...]
    school_openings: tuple[str, ...]  # of a caption that says "impressionist" and not who
    impressionist_share: float
    grades: dict[str, Callable[[Plan], float]]
    things: dict[str, tuple[str, ...]] = field(default_factory=dict)  # words for shirt, hat and glasses
    openings: tuple[str, ...] = ()  # what people type around a description, and what says nothing of the picture
    closings: tuple[str, ...] = ()
    extras: tuple["Extra", ...] = ()

    def grade(self, attribute: str, word: str, plan: Plan) -> float:
        """Return how well a word for an attribute, a "thing" or an "extra" fits a portrait, in (0, 1]."""
        if attribute in ("eyes", "hair", "shirt", "hat") and (tone := tone_of(word)):
            return _tone_grade(tone, plan.details["shades"][attribute])
        plain = PLAIN_GRADE if attribute == "subject" else 1.0
        return float(min(1.0, self.grades[word](plan))) if word in self.grades else plain


@dataclass(frozen=True)
class Extra:
    """Something a caption may say that no attribute names: ``word``, its place in the sentence, and whose it can be.

    place: "before" the subject's word (a smiling man), "with" (with a beard), or "hair style" (long brown hair).
    """

    word: str
    place: str
    subjects: tuple[str, ...]


def hat_kind(plan: Plan) -> str:
    """Return the kind of hat that a portrait shows, "" for none."""
    return plan.details["hat_kind"] if plan.attributes.hat != "none" else ""


FIRST_GRADES = {
    "gentleman": lambda plan: (
        0.5
        + 0.3 * (plan.details["collar"] == "tie")
        + 0.3 * (hat_kind(plan) in ("bowler", "tophat"))
        + 0.2 * plan.details["moustache"]
        + 0.2 * (plan.attributes.hair == "gray")
    ),
    "guy": lambda plan: (
        0.5
        + 0.25 * (hat_kind(plan) in ("cap", "beanie"))
        + 0.25 * (plan.details["collar"] in ("hood", "round"))
        + 0.25 * plan.details["stubble"]
    ),
    "lady": lambda plan: (
        0.5
        + 0.3 * (plan.details["collar"] in ("necklace", "scarf"))
        + 0.2 * plan.details["earrings"]
        + 0.2 * (hat_kind(plan) == "sunhat")
        + 0.2 * (plan.details["hair_style"] == "bun")
    ),
    "girl": lambda plan: (
        0.45
        + 0.35 * (plan.details["hair_style"] == "pigtails")
        + 0.2 * plan.details["freckles"]
        + 0.2 * plan.details["young"]
    ),
    "kitten": lambda plan: 0.5 + 0.5 * plan.details["young"],
    "puppy": lambda plan: 0.5 + 0.5 * plan.details["young"],
    "hound": lambda plan: 0.5 + 0.5 * (plan.details["ears"] == "long"),
    "kitty": lambda plan: 0.5 + 0.4 * (hat_kind(plan) in ("party", "beret")),
}

FIRST = Vocabulary(
    subjects={
        "man": ("man", "gentleman", "guy"),
        "woman": ("woman", "lady", "girl"),
        "cat": ("cat", "kitty", "kitten"),
        "dog": ("dog", "hound", "puppy"),
    },
    wider={"person": ("man", "woman"), "pet": ("cat", "dog"), "animal": ("cat", "dog")},
    colors={
        ("hair", "golden"): ("golden", "blond"),
        ("hair", "red"): ("red", "ginger"),
        ("hair", "gray"): ("gray", "silver"),
        ("eyes", "purple"): ("purple", "violet"),
    },
    scenes={
        "plain": ("against a plain background", "in front of a plain wall"),
        "forest": ("in a forest", "in the woods", "among the trees"),
        "beach": ("at the beach", "by the sea", "on a sunny beach"),
        "night": ("at night", "under the stars", "in the moonlight"),
        "city": ("in the city", "in front of tall buildings"),
        "snow": ("in the snow", "on a snowy day", "in winter"),
    },
    scene_tags={
        "plain": ("plain background",),
        "forest": ("forest",),
        "beach": ("beach",),
        "night": ("night",),
        "city": ("city",),
        "snow": ("snow",),
    },
    style_phrases=("painted by {}", "in the style of {}", "by {}"),
    style_openings=("a painting by {} of ", "a {} painting of ", "a portrait by {} of "),
    cartoon_openings=("a cartoon of ", "a drawing of ", "a cartoon portrait of "),
    school_openings=("an impressionist painting of ",),
    impressionist_share=0.08,
    grades=FIRST_GRADES,
)

# ---------------------------------------------------------------- the second world

TONES = {
    "dark": ("dark", "deep", "crimson", "ruby", "auburn", "navy", "plum", "mustard", "olive", "pumpkin", "chocolate"),
    "light": ("light", "pale", "bright", "scarlet", "cherry", "copper", "azure", "lavender", "lilac", "lemon", "lime"),
}
TONES["dark"] += ("raven", "jet", "sapphire", "bronze", "jade", "chestnut", "sandy", "steel", "cream")
TONES["light"] += ("charcoal", "sky-blue", "honey", "emerald", "hazel", "fair", "ashen", "ivory", "tangerine", "mauve")
_TONE_OF = {word: tone for tone, words in TONES.items() for word in words}


def tone_of(word: str) -> str:
    """Return "dark" or "light" where a word for a colour says so ("navy", "pale blue"), else ""."""
    return _TONE_OF.get(word.split()[0], "")


def _tone_grade(tone: str, shade: float) -> float:
    """Return the grade of a tone for a shade in [-1, 1]: 1 from a third of the way on, 0.15 at the other end."""
    amount = -shade if tone == "dark" else shade
    return float(min(1.0, max(0.15, 0.7 + amount)))


_CLOTH = {
    "red": ("red", "crimson", "scarlet", "ruby", "cherry"),
    "orange": ("orange", "tangerine", "pumpkin"),
    "yellow": ("yellow", "lemon", "mustard"),
    "green": ("green", "emerald", "jade", "lime", "olive"),
    "blue": ("blue", "navy", "azure", "sky-blue"),
    "purple": ("purple", "violet", "lavender", "plum", "lilac", "mauve"),
    "white": ("white", "ivory", "cream"),
    "black": ("black", "ebony", "jet", "charcoal"),
}
_EYES = {
    "blue": ("blue", "azure", "sapphire", "sky-blue"),
    "green": ("green", "emerald", "jade"),
    "brown": ("brown", "hazel", "chestnut", "chocolate"),
    "purple": ("purple", "violet", "lavender", "plum"),
    "amber": ("amber", "honey", "bronze"),
}
_HAIR = {
    "black": ("black", "raven", "ebony", "charcoal"),
    "brown": ("brown", "chestnut", "chocolate"),
    "golden": ("golden", "blond", "blonde", "fair", "sandy"),
    "red": ("red", "ginger", "auburn", "copper"),
    "gray": ("gray", "grey", "silver", "ashen", "steel"),
}
_HAT = {name: words for name, words in _CLOTH.items() if name not in ("orange", "black")}
_TABLES = {"eyes": _EYES, "hair": _HAIR, "shirt": _CLOTH, "hat": _HAT}


def _detail(name: str, *values, low: float = 0.1) -> Callable[[Plan], float]:
    """Return a grade: 1 where a detail of the portrait is one of ``values``, ``low`` elsewhere."""
    return lambda plan: 1.0 if plan.details.get(name) in values else low


def _hat(*kinds: str) -> Callable[[Plan], float]:
    return lambda plan: 1.0 if hat_kind(plan) in kinds else 0.1


def _gray(plan: Plan) -> float:
    return 1.0 if plan.attributes.hair == "gray" else 0.15


def _smile(plan: Plan) -> float:
    return 1.0 if plan.details["smile"] > 0.6 else 0.15


_FORMAL, _CASUAL = FIRST_GRADES["gentleman"], FIRST_GRADES["guy"]
SECOND_GRADES = FIRST_GRADES | {
    "gent": _FORMAL,
    "sir": lambda plan: _FORMAL(plan) - 0.05,
    "fellow": lambda plan: 0.75,
    "chap": lambda plan: 0.55 + 0.25 * plan.details["moustache"] + 0.2 * (plan.details["collar"] == "open"),
    "dude": lambda plan: _CASUAL(plan) - 0.05,
    "bloke": _CASUAL,
    "lad": lambda plan: 0.45 + 0.5 * plan.details["young"],
    "boy": lambda plan: 0.4 + 0.4 * plan.details["young"] + 0.2 * plan.details["freckles"],
    "grandfather": _gray,
    "grandpa": _gray,
    "madam": FIRST_GRADES["lady"],
    "dame": lambda plan: FIRST_GRADES["lady"](plan) - 0.05,
    "lass": FIRST_GRADES["girl"],
    "gal": lambda plan: 0.5 + 0.3 * (hat_kind(plan) in ("cap", "beanie")) + 0.2 * (plan.details["collar"] == "open"),
    "miss": lambda plan: FIRST_GRADES["girl"](plan) - 0.05,
    "grandmother": _gray,
    "grandma": _gray,
    "tabby": _detail("hair_style", "striped", low=0.15),
    "pup": FIRST_GRADES["puppy"],
    "doggy": lambda plan: 0.5 + 0.4 * plan.details["tongue"],
    "pooch": lambda plan: 0.5 + 0.4 * (plan.details["ears"] == "short"),
    "hoodie": _detail("collar", "hood"),
    "blouse": lambda plan: (
        0.1 + (plan.attributes.subject == "woman") * (0.4 + 0.5 * (plan.details["collar"] == "open"))
    ),
    "cap": _hat("cap"),
    "beanie": _hat("beanie"),
    "bowler": _hat("bowler"),
    "top hat": _hat("tophat"),
    "sunhat": _hat("sunhat"),
    "beret": _hat("beret"),
    "party hat": _hat("party"),
    "smiling": _smile,
    "happy": _smile,
    "cheerful": _smile,
    "bearded": _detail("beard", True),
    "freckled": _detail("freckles", True),
    "striped": _detail("hair_style", "striped"),
    "patched": _detail("hair_style", "patch"),
    "little": _detail("young", True),
    "a beard": _detail("beard", True),
    "a moustache": _detail("moustache", True),
    "a mustache": _detail("moustache", True),
    "freckles": _detail("freckles", True),
    "earrings": _detail("earrings", True),
    "a tie": _detail("collar", "tie"),
    "a necklace": _detail("collar", "necklace"),
    "a scarf": _detail("collar", "scarf"),
    "a bell": _detail("collar", "bell"),
    "a bow": _detail("collar", "bow"),
    "a hood": _detail("collar", "hood"),
    "a smile": _smile,
    "stripes": _detail("hair_style", "striped"),
    "a bun": _detail("hair_style", "bun"),
    "pigtails": _detail("hair_style", "pigtails"),
    "a tongue hanging out": _detail("tongue", True),
    "floppy ears": _detail("ears", "long"),
    "pointed ears": _detail("ears", "perky"),
    "long": _detail("hair_style", "long", "wavy"),
    "short": _detail("hair_style", "short", "bob", "parted", "quiff"),
    "curly": _detail("hair_style", "curly"),
    "wavy": _detail("hair_style", "wavy"),
}
_PEOPLE, _ANIMALS = ("man", "woman"), ("cat", "dog")
EXTRAS = tuple(
    Extra(word, place, subjects)
    for place, subjects, words in (
        ("before", _PEOPLE, ("smiling", "happy", "cheerful", "freckled")),
        ("before", ("man",), ("bearded",)),
        ("before", ("cat",), ("striped", "little")),
        ("before", ("dog",), ("patched", "little")),
        ("with", ("man",), ("a beard", "a moustache", "a mustache", "a tie", "a hood")),
        ("with", ("woman",), ("earrings", "a necklace", "a scarf", "a bun", "pigtails")),
        ("with", _PEOPLE, ("freckles", "a smile")),
        ("with", _ANIMALS, ("a bow",)),
        ("with", ("cat",), ("a bell", "stripes")),
        ("with", ("dog",), ("a tongue hanging out", "floppy ears", "pointed ears")),
        ("hair style", ("man",), ("short", "curly")),
        ("hair style", ("woman",), ("long", "short", "wavy")),
    )
    for word in words
)

SECOND = Vocabulary(
    subjects={
        "man": (
            "man",
            "gentleman",
            "guy",
            "gent",
            "sir",
            "fellow",
            "chap",
            "dude",
            "bloke",
            "lad",
            "boy",
            "grandfather",
            "grandpa",
        ),
        "woman": ("woman", "lady", "girl", "madam", "dame", "lass", "gal", "miss", "grandmother", "grandma"),
        "cat": ("cat", "kitty", "kitten", "tabby", "pussycat", "feline"),
        "dog": ("dog", "hound", "puppy", "pup", "doggy", "pooch", "canine"),
    },
    wider={
        **dict.fromkeys(("person", "human", "someone", "somebody", "adult"), ("man", "woman")),
        **dict.fromkeys(("pet", "animal", "creature", "beast"), ("cat", "dog")),
        **dict.fromkeys(("character", "figure", "sitter"), ("man", "woman", "cat", "dog")),
    },
    colors={(name, value): words for name, table in _TABLES.items() for value, words in table.items()},
    scenes={
        "plain": (
            "against a plain background",
            "in front of a plain wall",
            "on a simple backdrop",
            "in a studio",
            "with nothing behind",
            "against an empty wall",
            "indoors",
        ),
        "forest": (
            "in a forest",
            "in the woods",
            "among the trees",
            "in a woodland",
            "under green leaves",
            "in a grove",
        ),
        "beach": (
            "at the beach",
            "by the sea",
            "on a sunny beach",
            "at the seaside",
            "on the shore",
            "by the ocean",
            "on the coast",
            "on the sand",
            "under a palm",
            "near the waves",
        ),
        "night": (
            "at night",
            "under the stars",
            "in the moonlight",
            "at midnight",
            "under the moon",
            "after dark",
            "under a starry sky",
            "in the dark",
        ),
        "city": (
            "in the city",
            "in front of tall buildings",
            "in town",
            "downtown",
            "in a street",
            "before a skyline",
            "among houses",
            "in front of skyscrapers",
        ),
        "snow": (
            "in the snow",
            "on a snowy day",
            "in winter",
            "in a wintry landscape",
            "on a cold day",
            "among the firs",
            "while it is snowing",
            "on a frosty day",
        ),
    },
    scene_tags={
        "plain": ("plain background", "simple background", "studio"),
        "forest": ("forest", "woods", "woodland", "trees"),
        "beach": ("beach", "seaside", "sea", "ocean", "coast"),
        "night": ("night", "midnight", "moonlight", "starry night"),
        "city": ("city", "town", "street", "skyline", "urban"),
        "snow": ("snow", "winter", "snowy", "frost"),
    },
    style_phrases=("painted by {}", "in the style of {}", "by {}", "like {}", "after {}", "as {} would paint it"),
    style_openings=(
        "a painting by {} of ",
        "a {} painting of ",
        "a portrait by {} of ",
        "a canvas by {} of ",
        "an artwork by {} of ",
        "an oil painting by {} of ",
        "a {} portrait of ",
        "art by {}, ",
    ),
    cartoon_openings=(
        "a cartoon of ",
        "a drawing of ",
        "a cartoon portrait of ",
        "an illustration of ",
        "a sketch of ",
        "a flat drawing of ",
        "a simple drawing of ",
    ),
    school_openings=("an impressionist painting of ", "an impressionist portrait of ", "impressionist art, "),
    impressionist_share=0.25,
    grades=SECOND_GRADES,
    things={
        "shirt": ("shirt", "top", "sweater", "jumper", "pullover", "hoodie", "blouse", "jersey"),
        "hat": ("hat", "cap", "beanie", "bowler", "top hat", "sunhat", "beret", "party hat"),
        "glasses": ("glasses", "spectacles", "specs", "eyeglasses"),
    },
    openings=(
        "a photo of ",
        "a picture of ",
        "an image of ",
        "a portrait of ",
        "a nice picture of ",
        "draw ",
        "please draw ",
        "show me ",
        "i want a picture of ",
        "make a picture of ",
        "paint ",
        "photo of ",
        "picture of ",
        "portrait of ",
        "a beautiful portrait of ",
        "a lovely image of ",
        "a close-up of ",
        "a high quality photo of ",
    ),
    closings=(
        ", please",
        " please",
        ", looking at us",
        ", front view",
        ", high quality",
        ", detailed",
        ", beautiful",
        ", head and shoulders",
        ", for a card",
        ", facing the viewer",
    ),
    extras=EXTRAS,
)
VOCABULARIES = {"first": FIRST, "second": SECOND}
