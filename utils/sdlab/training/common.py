"""What every training stage shares: settings read from TOML, random numbers that depend on nothing but
(seed, step, rank), and sheets of sample pictures."""

import hashlib
import tomllib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from PIL import Image

from sdlab.errors import SdlabError

SETTINGS_FOLDER = Path(__file__).parent / "settings"


def load_settings(stage, file=None, *, overrides=()):
    """Read the settings of a stage: its own TOML file, then `file`, then `key=value` overrides.

    A key that the stage's own file does not have, or a value of another type, raises SdlabError.
    """
    settings = _read_toml(SETTINGS_FOLDER / f"{stage}.toml")
    if file is not None:
        _merge(settings, _read_toml(file), source=str(file))
    for text in overrides:
        key, equals, value = text.partition("=")
        if not equals:
            raise SdlabError(f"--set wants key=value, but got '{text}'.")
        _merge(settings, {key.strip(): _parse_value(value.strip())}, source="--set")
    return SimpleNamespace(**settings)


def _read_toml(file):
    try:
        return tomllib.loads(Path(file).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SdlabError(f"There is no settings file {file}.") from None
    except tomllib.TOMLDecodeError as error:
        raise SdlabError(f"The settings file {file} is not valid TOML: {error}.") from None


def _parse_value(text):
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _merge(settings, extra, *, source):
    for key, value in extra.items():
        if key not in settings:
            raise SdlabError(
                f"Unknown setting '{key}' ({source}); the settings here are: {', '.join(sorted(settings))}."
            )
        expected = type(settings[key])
        if expected is float and type(value) is int:
            value = float(value)
        if type(value) is not expected:
            raise SdlabError(
                f"Setting '{key}' ({source}) must be of type {expected.__name__}, but got {value!r}."
            )
        settings[key] = value


def step_rng(seed, step, *, rank=0):
    """Return the numpy generator of one step of one process; nothing else decides what it yields."""
    return np.random.default_rng([seed, step, rank])


def step_generator(seed, step, *, rank=0, device="cpu"):
    """Return the torch generator of one step of one process, on `device`."""
    state = np.random.SeedSequence([seed, step, rank, 1]).generate_state(1, np.uint64)[0]
    return torch.Generator(device=device).manual_seed(int(state) >> 1)


def weights_hash(*modules):
    """Return a short hash of all weights of modules, the same on every device."""
    digest = hashlib.sha256()
    for module in modules:
        for _, weight in sorted(module.state_dict().items()):
            digest.update(weight.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def to_floats(images):
    """Turn uint8 pictures [N, H, W, 3] into floats [N, 3, H, W] in [-1, 1] (stored channels last)."""
    return images.permute(0, 3, 1, 2).float() / 127.5 - 1.0


def to_bytes(images):
    """Turn floats [N, 3, H, W] in [-1, 1] into uint8 pictures [N, H, W, 3]."""
    return ((images.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1)


def save_sheet(images, file, *, columns=8):
    """Write uint8 pictures [N, H, W, 3] as one PNG, `columns` in a row."""
    images = np.asarray(images)
    height, width = images.shape[1:3]
    rows = -(-len(images) // columns)
    sheet = np.full((rows * height, columns * width, 3), 255, dtype=np.uint8)
    for index, image in enumerate(images):
        row, column = divmod(index, columns)
        sheet[row * height : (row + 1) * height, column * width : (column + 1) * width] = image
    file = Path(file)
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(sheet).save(file)
