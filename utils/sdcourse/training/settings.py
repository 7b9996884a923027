"""Settings of a stage of training: defaults, a TOML file and the command line, each value checked by its type."""

import tomllib
from pathlib import Path
from types import SimpleNamespace

from sdlab import SdlabError

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
