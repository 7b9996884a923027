"""The colours behind the colour words, as RGB in [0, 1]; each is jittered a little in every portrait."""

import numpy as np

EYES = {
    "blue": (48, 120, 235),
    "green": (38, 170, 78),
    "brown": (112, 64, 30),
    "purple": (158, 66, 205),
    "amber": (248, 172, 22),
}
HAIR = {
    "black": (40, 36, 46),
    "brown": (122, 74, 40),
    "golden": (240, 194, 84),
    "red": (212, 84, 34),
    "gray": (176, 181, 192),
}
SHIRT = {
    "red": (216, 46, 52),
    "orange": (246, 142, 36),
    "yellow": (250, 216, 58),
    "green": (52, 160, 82),
    "blue": (48, 102, 218),
    "purple": (142, 74, 190),
    "white": (245, 245, 248),
    "black": (46, 46, 56),
}
HAT = {
    "red": (212, 42, 50),
    "yellow": (250, 214, 54),
    "green": (48, 156, 80),
    "blue": (44, 98, 214),
    "purple": (146, 76, 194),
    "white": (246, 246, 249),
}
SKIN = ((255, 224, 200), (246, 204, 172), (228, 178, 140), (190, 134, 96), (142, 94, 66))
PLAIN = ((236, 224, 206), (214, 226, 232), (226, 218, 232), (216, 230, 214), (240, 214, 204), (208, 212, 220))


def rgb(color) -> tuple:
    """Return an RGB triple of 0..255 as floats in [0, 1]."""
    return tuple(channel / 255 for channel in color)


def jitter(color, rng: np.random.Generator, *, amount: float = 0.03) -> tuple:
    """Return a 0..255 colour as floats, moved a little at random (normal, ``amount``), clipped to [0, 1]."""
    common, own = rng.normal(0, amount), rng.normal(0, amount / 2, 3)
    return tuple(np.clip(np.asarray(color) / 255 + common + own, 0, 1).tolist())


def tone(color, shade: float) -> tuple:
    """Return a colour (floats) darker, -1, or lighter, 1: as far as its name still holds (black hardly lightens)."""
    color = np.asarray(color, dtype=float)
    lift = 0.17 * min(1.0, 1.5 * color.max())
    mixed = color * (1 + 0.16 * shade) if shade < 0 else color + lift * shade * (1 - color)
    return tuple(np.clip(mixed, 0, 1).tolist())
