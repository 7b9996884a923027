"""Copy the lessons and labs to a folder for work, and later bring them up to date without touching anybody's work."""

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path

from sdlab import SdlabError

FOLDERS = ("course", "labs")
NOTE = ".sdlab-course.json"  # what was copied, so that a change by the learner is seen
KEPT_SUFFIXES = {".ipynb", ".md", ".png", ""}


@dataclass
class Copied:
    """What a copy did, as paths below the folder: new, brought up to date, as they were, and left to the learner."""

    new: list[str] = field(default_factory=list)
    updated: list[str] = field(default_factory=list)
    same: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)


def find_material() -> Path:
    """Return the folder that holds course/ and labs/: inside the installed package, or the checkout it runs from."""
    package = Path(__file__).parent
    for folder in (package / "material", package.parents[1]):
        if all((folder / name).is_dir() for name in FOLDERS):
            return folder
    raise SdlabError(
        "The lessons are not in this installation of sdlab: install it again from the course's repository."
    )


def copy_course(target: Path, *, material: Path | None = None) -> Copied:
    """Copy lessons and labs to ``target``; return what was done.

    A file that the learner has changed since the last copy, or that was there before, is never overwritten. Raises
    SdlabError where the folder cannot be written, before anything is copied.
    """
    material, target = material or find_material(), Path(target)
    known = _read_note(target)
    copied = Copied()
    try:
        for name, data in _files(material):
            _copy_one(target, name, data, known, copied)
        (target / NOTE).write_text(json.dumps(known, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    except OSError as error:
        raise SdlabError(f"{target} cannot be written ({error.strerror or error}): choose another folder.") from None
    return copied


def _copy_one(target: Path, name: str, data: bytes, known: dict[str, str], copied: Copied) -> None:
    """Write one file if it is missing or as it was copied; note its hash."""
    file, new = target / name, _hash(data)
    if not file.exists():
        copied.new.append(name)
    elif (now := _hash(file.read_bytes())) == new:
        copied.same.append(name)
        known[name] = new
        return
    elif now == known.get(name):
        copied.updated.append(name)
    else:
        copied.kept.append(name)
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(file.name + ".part")
    part.write_bytes(data)
    part.replace(file)
    known[name] = new


def _files(material: Path):
    """Yield (path below the folder, content) of everything a learner works with."""
    for folder in FOLDERS:
        for file in sorted((material / folder).rglob("*")):
            below = file.relative_to(material)
            if (
                file.is_file()
                and file.suffix in KEPT_SUFFIXES
                and not any(part.startswith(".") for part in below.parts)
            ):
                yield below.as_posix(), file.read_bytes()


def _read_note(target: Path) -> dict[str, str]:
    if target.exists() and not target.is_dir():
        raise SdlabError(f"{target} is a file: give the name of a folder.")
    try:
        note = json.loads((target / NOTE).read_text(encoding="utf-8"))
        return note if isinstance(note, dict) else {}
    except (OSError, ValueError):
        return {}


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
