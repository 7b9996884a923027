"""Find what was handed in, in a folder or a zip, whatever the platform made of it: one submission a notebook, with the
name of its student and the files beside it. One bad entry costs one row.
"""

import contextlib
import hashlib
import os
import re
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from sdlab import SdlabError

from .names import GENERIC, Owner, entry_name, owner_of, printable
from .submission import may_be_notebook

IGNORED = {".ipynb_checkpoints", "__MACOSX", "__pycache__", "timestamp.txt", "Thumbs.db", "desktop.ini"}
MAX_UNPACKED, MAX_ENTRIES = 2 * 2**30, 20_000
MAX_BESIDE = 50 * 2**20  # bytes of other files that are laid beside one notebook
MAX_NAME = 120  # bytes of one part of a path


@dataclass(frozen=True)
class Submission:
    """One file that was handed in, and by whom; ``problem`` says why it is none that can be graded.

    beside: {name: file} of what else was handed in with it. page: where the feedback goes, below the folder of pages.
    """

    student: str
    file: Path
    shown: str
    problem: str = ""
    beside: dict[str, Path] = field(default_factory=dict)
    page: str = ""


@dataclass
class Collected:
    """A folder of submissions, and what could not be taken out of the zip: {path below the folder: why}."""

    folder: Path
    problems: dict[str, str] = field(default_factory=dict)


@contextlib.contextmanager
def unpacked(path: Path, *, code_page: str | None = None):
    """Give what was handed in (:class:`Collected`): the folder ``path`` itself, or what is in it if it is a zip."""
    if path.is_dir():
        yield Collected(path)
        return
    if not path.is_file() or not zipfile.is_zipfile(path):
        raise SdlabError(f"{path} is neither a folder nor a zip file: give what the submissions are in.")
    with tempfile.TemporaryDirectory(prefix="submissions-", ignore_cleanup_errors=True) as folder:
        collected = Collected(Path(folder) / _free_name(path.stem))
        collected.folder.mkdir()
        try:
            unzip(path, collected, code_page=code_page)
        except zipfile.BadZipFile as error:
            raise SdlabError(f"{path} cannot be read ({error}): download it again.") from None
        yield collected


def _free_name(stem: str) -> str:
    return re.sub(r"\W+", " ", stem)[:40].strip() or "zip"


def unzip(path: Path, into: Collected, *, below: str = "", code_page: str | None = None) -> None:
    """Take the entries of a zip out, each on its own; what cannot be taken out goes to ``into.problems``."""
    with zipfile.ZipFile(path) as archive:
        entries = [info for info in archive.infolist() if not info.is_dir()]
        size = sum(info.file_size for info in entries)
        if size > MAX_UNPACKED or len(entries) > MAX_ENTRIES:
            raise SdlabError(f"{path} unpacks to {size / 1e9:.1f} GB in {len(entries)} files: unpack it by hand and look "
                             "what is in it.")  # fmt: skip
        for info in entries:
            name = str(PurePosixPath(below, *_safe(entry_name(info, code_page))))
            if set(PurePosixPath(name).parts) & IGNORED:
                continue
            if problem := _take_out(archive, info, into.folder, name):
                into.problems[name] = problem


def _safe(name: str) -> list[str]:
    """Return the parts of a path that stays where it is put, none of them too long."""
    parts = [part for part in re.split(r"[\\/]+", name) if part not in ("", ".", "..") and not part.endswith(":")]
    return [_short(part.replace("\0", " ")) for part in parts] or ["(no name)"]


def _short(part: str) -> str:
    raw = part.encode("utf-8", "replace")
    if len(raw) <= MAX_NAME:
        return part
    mark = hashlib.sha256(raw).hexdigest()[:8]  # two long names stay two
    ending = "".join(re.findall(r"\.\w{1,5}", part)[-2:])
    return f"{raw[: MAX_NAME - 40].decode('utf-8', 'ignore')} {mark}{ending}"


def _take_out(archive, info, folder: Path, name: str) -> str | None:
    """Write one entry below ``folder``; return why that could not be done, or None."""
    target = folder / name
    number = 2
    while target.is_file():  # the same entry twice: keep both
        target = folder / _numbered(name, number)
        number += 1
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with archive.open(info) as source, target.open("xb") as out:
            left = info.file_size + 1
            while left > 0 and (data := source.read(min(left, 2**20))):
                out.write(data)
                left -= len(data)
        return None if left > 0 else "it is larger in the zip than the zip says: ask for it again"
    except RuntimeError:
        return "it is encrypted in the zip: ask for it again"
    except NotImplementedError:
        return "it is packed in a way that cannot be read: ask for it again"
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError) as error:
        target.unlink(missing_ok=True)
        return f"it is damaged in the zip ({printable(str(error))[:80]}): ask for it again"
    except OSError as error:
        return f"it cannot be unpacked ({error.strerror or type(error).__name__}): ask for it again"


def _numbered(name: str, number: int) -> str:
    path = PurePosixPath(name)
    first, *rest = path.name.split(".", 1)
    return str(path.with_name(".".join([f"{first} ({number})", *rest])))


def find_submissions(
    where: Path | Collected, *, leave_out: Iterable[Path] = (), labs: Iterable[str] = ()
) -> list[Submission]:
    """Return the submissions of a folder, each with the name of its student.

    The student is who the platform says, else the first folder below the one given, else the file's own name. A file
    that is no notebook lies beside the notebooks of the same student; where there are none it is a row of its own.
    leave_out: files and folders that were not handed in. labs: names of labs, which are no student's.
    """
    collected = where if isinstance(where, Collected) else Collected(where)
    folder = collected.folder
    files = [file for file in _walk(folder, collected.problems) if not any(_is_below(file, out) for out in leave_out)]
    top = _common_top(files, folder, set(labs))
    groups: dict[tuple, list[tuple[Owner, Path, PurePosixPath]]] = {}
    for file in files:
        below = PurePosixPath(*file.relative_to(top).parts)
        owner = owner_of(below)
        key = (owner.who, owner.number) if owner.number or len(below.parts) > 1 else (owner.who, "", below.name)
        groups.setdefault(key, []).append((owner, file, below))
    found = [submission for entries in groups.values() for submission in _of_student(entries, collected)]
    found += [_broken(name, why, top, folder) for name, why in collected.problems.items()]
    if not found:
        raise SdlabError(f"No submission in {folder}: expected notebooks, one folder a student or one file each.")
    return _with_pages(_told_apart(found, groups))


def _walk(folder: Path, problems: dict[str, str]) -> list[Path]:
    def unreadable(error: OSError) -> None:
        problems[os.path.relpath(error.filename, folder)] = f"it cannot be read ({error.strerror})"

    found = []
    for place, folders, files in os.walk(folder, onerror=unreadable):
        folders[:] = sorted(name for name in folders if name not in IGNORED and not name.startswith("."))
        kept = (Path(place, name) for name in files if name not in IGNORED and not name.startswith("."))
        found += [file for file in kept if file.is_file() and not file.is_symlink()]
    return sorted(found)


def _is_below(file: Path, place: Path) -> bool:
    return file == place or place in file.parents


def _common_top(files: list[Path], folder: Path, labs: set[str]) -> Path:
    """Return the folder whose entries are the students': below one folder that all was packed in, if there is one."""
    firsts = {file.relative_to(folder).parts[0] for file in files}
    if len(firsts) != 1 or any(file.parent == folder for file in files):
        return folder
    top = folder / firsts.pop()
    inner = {file.relative_to(top).parts[0] for file in files if len(file.relative_to(top).parts) > 1}
    flat = [file for file in files if file.parent == top]
    known = any(owner_of(PurePosixPath(file.name)).number for file in flat)
    named = top.name.lower() in GENERIC or top.name == folder.name
    students = len(inner) > 1 and not inner & labs and not flat
    return top if (named or known or students) and not (inner and inner <= labs) else folder


def _of_student(entries: list, collected: Collected) -> list[Submission]:
    """Return the submissions among the files of one student."""
    entries = [entry for entry in entries if not _is_platforms(entry)] or entries
    notebooks = [entry for entry in entries if may_be_notebook(entry[1])]
    notebooks = notebooks or [entry for entry in entries if _looks_like_notebook(entry[1])]
    if not notebooks and (inner := _from_inner_zips(entries, collected)):
        return inner
    if not notebooks:
        (owner, file, below), more = entries[0], len(entries) - 1
        shown = printable(str(below)) + (f" (and {more} more)" if more else "")
        return [Submission(owner.who, file, shown)]
    others = [entry for entry in entries if entry not in notebooks]
    return [_with_beside(notebook, others) for notebook in notebooks]


def _is_platforms(entry) -> bool:
    """Say whether a file is a platform's own note about a submission."""
    owner, file, _ = entry
    return owner.file.endswith(".txt") and bool(re.search(r"_attempt_\d{4}(-\d\d){5}\.txt$", file.name))


def _looks_like_notebook(file: Path) -> bool:
    if file.suffix.lower() not in (".json", ".txt"):
        return False
    with contextlib.suppress(OSError), file.open("rb") as data:
        return b'"nbformat"' in data.read(50 * 2**20)
    return False


def _with_beside(notebook, others) -> Submission:
    owner, file, below = notebook
    beside = {}
    for other_owner, other, other_below in others:
        near = other_below.relative_to(below.parent) if other_below.is_relative_to(below.parent) else None
        name = other_owner.file if len(below.parts) == 1 else str(near or other_below.name)
        beside[printable(name)] = other
    return Submission(owner.who, file, printable(str(below)), beside=beside)


def _from_inner_zips(entries, collected: Collected) -> list[Submission]:
    """Unpack the zips of a student who handed in no notebook but a zip (only once deep)."""
    found = []
    for owner, file, below in entries:
        if file.suffix.lower() != ".zip" or not zipfile.is_zipfile(file):
            continue
        inner = Collected(Path(tempfile.mkdtemp(prefix="zip-", dir=_scratch(collected))))
        with contextlib.suppress(SdlabError, zipfile.BadZipFile, OSError):
            unzip(file, inner)
        files = _walk(inner.folder, inner.problems)
        taken = [(owner, one, PurePosixPath(below, *one.relative_to(inner.folder).parts)) for one in files]
        notebooks = [entry for entry in taken if may_be_notebook(entry[1])]
        found += [_with_beside(notebook, [entry for entry in taken if entry not in notebooks]) for notebook in notebooks]
    return found


def _scratch(collected: Collected) -> Path:
    """Return a folder for what is taken out of zips in zips; it goes when this process ends."""
    import atexit

    place = Path(tempfile.mkdtemp(prefix="submissions-"))
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    return place


def _broken(name: str, why: str, top: Path, folder: Path) -> Submission:
    path = PurePosixPath(name)
    inside = PurePosixPath(*top.relative_to(folder).parts)
    below = path.relative_to(inside) if path.is_relative_to(inside) and path != inside else path
    return Submission(owner_of(below).who, folder / name, printable(str(below)), problem=why)


def _told_apart(found: list[Submission], groups: dict) -> list[Submission]:
    """Give two students of one name their platform's numbers."""
    numbers: dict[str, set[str]] = {}
    for key in groups:
        numbers.setdefault(key[0], set()).add(key[1])
    by_file = {entry[1]: key for key, entries in groups.items() for entry in entries}
    return [
        replace(one, student=f"{one.student} ({by_file[one.file][1]})")
        if one.file in by_file and by_file[one.file][1] and len(numbers[one.student]) > 1
        else one
        for one in found
    ]


def _with_pages(found: list[Submission]) -> list[Submission]:
    """Give each submission a page of its own: no two that differ in capitals or endings alone."""
    taken, named = set(), []
    for one in sorted(found, key=lambda one: (one.shown, str(one.file))):
        parts = [_short(re.sub(r'[<>:"|?*]', "_", part).rstrip(". ") or "_") for part in PurePosixPath(one.shown).parts]
        parts[-1] = re.sub(r"(\.ipynb)?(\.\w{1,5})?$", "", parts[-1], flags=re.IGNORECASE) or "page"
        page, number = "/".join(parts), 2
        while page.casefold() in taken:
            page, number = f"{'/'.join(parts)} ({number})", number + 1
        taken.add(page.casefold())
        named.append(replace(one, page=f"{page}.html"))
    return named


def read_beside(submission: Submission) -> tuple[dict[str, bytes], list[str]]:
    """Return what was handed in beside a notebook, {name: bytes}, and a sentence for what was left out."""
    files, left_out, room = {}, [], MAX_BESIDE
    for name, file in submission.beside.items():
        try:
            handle = os.open(file, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
            with os.fdopen(handle, "rb") as data:
                content = data.read(room + 1)
        except OSError as error:
            left_out.append(f"{name} could not be read ({error.strerror})")
            continue
        if len(content) > room:
            left_out.append(f"{name} was left out: what lies beside a notebook is more than {MAX_BESIDE >> 20} MB")
            continue
        room -= len(content)
        files[name] = content
    return files, left_out
