"""Whose is this file? The patterns in which learning platforms put a person's name, and the code pages of old zips."""

import os
import re
import unicodedata
import zipfile
from dataclasses import dataclass
from pathlib import PurePosixPath

# What each platform makes of "Ada Lovelace" handing in "lab.ipynb", in a folder of hers or as one flat file.
MOODLE = re.compile(r"(?P<who>.+?)_(?P<number>\d+)_assignsubmission_(?:file|onlinetext)_?(?P<file>.*)", re.DOTALL)
BLACKBOARD = re.compile(r".*?_(?P<who>[^_]+)_attempt_\d{4}(?:-\d\d){5}(?:_(?P<file>.+)|\.txt)", re.DOTALL)
CANVAS = re.compile(r"(?P<who>[^\W_]+)_(?:LATE_)?(?P<number>\d+)_\d+_(?P<file>.+)", re.DOTALL)
BRIGHTSPACE = re.compile(r"\d+-\d+ ?- ?(?P<who>.+?) ?- ?\w{3,} \d{1,2}, \d{4} .*", re.DOTALL)
CLASSROOM = re.compile(r"(?P<who>[^\d_]+?) - (?P<file>.+)", re.DOTALL)
GENERIC = {"submissions", "submission", "submitted", "assignments", "handed in", "abgaben", "homework", "download"}


@dataclass(frozen=True)
class Owner:
    """Who handed in a file: the name, the platform's number where there is one, and the file's own name."""

    who: str
    number: str = ""
    file: str = ""


def owner_of(below: PurePosixPath) -> Owner:
    """Return whose file ``below`` (a path below the folder of submissions) is, by its first folder or its own name."""
    first, flat = below.parts[0], len(below.parts) == 1
    rest = str(PurePosixPath(*below.parts[1:])) if not flat else ""
    patterns = (MOODLE, BLACKBOARD, CANVAS, CLASSROOM) if flat else (MOODLE, BRIGHTSPACE)
    for pattern in patterns:
        if found := pattern.fullmatch(first):
            parts = found.groupdict()
            return Owner(_tidy(parts["who"]), parts.get("number") or "", rest or parts.get("file") or first)
    return Owner(_stem(first), file=first) if flat else Owner(_tidy(first), file=rest)


def _tidy(name: str) -> str:
    return unicodedata.normalize("NFC", printable(name)).strip() or "(no name)"


def _stem(name: str) -> str:
    return _tidy(re.sub(r"(\.ipynb)?\.\w{1,5}$", "", name, flags=re.IGNORECASE) or name)


def printable(name: str) -> str:
    """Return a file's name as text that can be written anywhere: bytes that are no UTF-8 become question marks."""
    text = os.fsencode(name).decode("utf-8", "replace") if isinstance(name, str) else str(name)
    return "".join(char if char.isprintable() else " " for char in text)


# commoner characters first: gb2312 has those of mainland China alone, gb18030 nearly all that there are
CODE_PAGES = ("utf-8", "cp437", "gb2312", "cp932", "big5", "cp949", "cp1252", "cp1251", "gb18030")


def entry_name(info: zipfile.ZipInfo, code_page: str | None = None) -> str:
    """Return the name of an entry of a zip, also where Windows has written it in an old code page.

    code_page: what was used ("cp936"); by default it is guessed: letters of one script are likelier than signs.
    """
    if info.flag_bits & 0x800 or info.filename.isascii():
        return info.filename
    try:
        raw = info.filename.encode("cp437")
    except UnicodeEncodeError:
        return info.filename
    if code_page:
        return raw.decode(code_page, "replace")
    guesses = []
    for page in CODE_PAGES:
        try:
            guesses.append(raw.decode(page))
        except UnicodeDecodeError:
            continue
    return min(guesses, key=_oddity)  # the first of equals


def _oddity(text: str) -> int:
    """Count what a person's name has not: signs beyond ASCII, and two scripts in one word."""
    signs = sum(not char.isascii() and (not char.isalpha() or _script(char) == "HALFWIDTH") for char in text)
    mixed = sum(len({_script(char) for char in word if char.isalpha()}) > 1 for word in re.split(r"[\W\d_]+", text))
    return 3 * signs + 2 * mixed


def _script(char: str) -> str:
    script = unicodedata.name(char, "?").split()[0]
    return "CJK" if script in ("HIRAGANA", "KATAKANA") else script
