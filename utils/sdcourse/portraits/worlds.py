"""Which world a portrait belongs to: that of the first pocket model, or that of the second.

The shipped weights and every lesson are made with the first. The second has the same faces and hats, but strokes that
an autoencoder can carry (``lattice``), backgrounds that are cheap to say (``backdrops``), more pictures in no painter's
hand, and captions with more words (``captions``). A plan carries its world, so whatever is made from it follows. When
the second model is shipped, DEFAULT_WORLD changes, and ``painters`` and ``scenes`` can go.
"""

from sdlab import SdlabError

WORLDS = ("first", "second")
DEFAULT_WORLD = "first"
UNSTYLED = {"first": 0.5, "second": 0.6}  # share of the portraits that are in no painter's hand


def check_world(world: str | None) -> str:
    """Return the name of a world, the default one for None; raise SdlabError where there is none of that name."""
    if world is None:
        return DEFAULT_WORLD
    if world not in WORLDS:
        raise SdlabError(f"world cannot be {world!r}: choose one of {', '.join(WORLDS)}.")
    return world
