"""Weight files on the disk: safetensors only, with their SHA-256 in the ``weights.json`` of their folder."""

import hashlib
import json
import math
import re
import struct
from contextlib import contextmanager
from pathlib import Path

from .errors import SdlabError

MODELS_FOLDER = Path(__file__).parent / "models"  # every weight that ships
HASHES = "weights.json"
_LFS_POINTER = b"version https://git-lfs"


def sha256(file: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_hashes(folder: str | Path) -> dict[str, str]:
    """Write ``weights.json``: the SHA-256 of every safetensors file below ``folder``; return it."""
    folder = Path(folder)
    files = sorted(folder.rglob("*.safetensors"))
    hashes = {file.relative_to(folder).as_posix(): sha256(file) for file in files}
    (folder / HASHES).write_text(json.dumps(hashes, indent=2) + "\n")
    return hashes


def verify_weights(folder: str | Path) -> int:
    """Compare every file named in ``weights.json`` with its SHA-256; return how many were compared.

    Raises SdlabError that names the first file that is absent, only a git-lfs pointer, or damaged.
    """
    folder = Path(folder)
    if not (folder / HASHES).is_file():
        raise SdlabError(
            f"The model in {folder} is incomplete: {HASHES} is missing; get the course files again."
        )
    hashes = read_json(folder / HASHES)
    for name, expected in hashes.items():
        _verify_file(folder / name, expected)
    return len(hashes)


@contextmanager
def readable(path: Path, what: str):
    """Let the block read weights at ``path``: hashes are compared where there are any (all that ships has them).

    What the libraries say of a damaged or foreign file becomes one SdlabError.
    """
    folder = path if path.is_dir() else path.parent
    if (folder / HASHES).is_file() or MODELS_FOLDER in folder.resolve().parents:
        verify_weights(folder)
    try:
        yield
    except SdlabError:
        raise
    except Exception as error:
        line = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise SdlabError(f"The {what} in {path} could not be read ({type(error).__name__}: {line[:150]}).") from error


def _verify_file(file: Path, expected: str) -> None:
    if not file.is_file():
        raise SdlabError(f"The weights {file} are missing; get the course files again.")
    with open(file, "rb") as stream:
        if stream.read(len(_LFS_POINTER)) == _LFS_POINTER:
            raise SdlabError(f"{file} is only a git-lfs pointer, not the weights: run 'git lfs pull'.")
    found = sha256(file)
    if found != expected:
        raise SdlabError(
            f"The weights {file} are damaged (sha256 {found[:12]}..., not {expected[:12]}...): get them again."
        )


def weight_files(folder: str | Path, variant: str | None = None, *, strict: bool = False) -> list[Path]:
    """Return the safetensors files that a pipeline folder loads: those of ``variant``, or the plain ones.

    A part that has no files of the ``variant`` gives its plain ones, as in diffusers; not so with ``strict``.
    """
    found = []
    for part in sorted(path for path in Path(folder).iterdir() if path.is_dir()):
        files = sorted(part.glob("*.safetensors"))
        half = [file for file in files if re.search(r"\.fp16[.-]", file.name)]
        plain = [file for file in files if file not in half]
        found += half if variant == "fp16" and (half or strict) else plain
    return found


def count_parameters(file: str | Path) -> int:
    """Return how many numbers a safetensors file holds; only its header is read."""
    return sum(map(math.prod, tensor_shapes(file).values()))


def tensor_shapes(file: str | Path) -> dict[str, list[int]]:
    """Return the names and shapes in a safetensors file; only its header is read."""
    try:
        with open(file, "rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            header = json.loads(stream.read(length))
        return {name: entry["shape"] for name, entry in header.items() if name != "__metadata__"}
    except (struct.error, ValueError, OverflowError, MemoryError, AttributeError, KeyError, TypeError):
        raise SdlabError(
            f"The weights {file} are damaged: they have no safetensors header; get the file again."
        ) from None
    except OSError as error:
        raise SdlabError(f"{file} cannot be read ({error.strerror}).") from None


def read_json(file: Path) -> dict:
    """Return the dictionary in a JSON file; raise SdlabError if it is damaged or holds another thing."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SdlabError(f"{file} cannot be read as JSON ({type(error).__name__}): get the file again.") from None
    if not isinstance(found, dict):
        raise SdlabError(f"{file} holds a {type(found).__name__}, not a dictionary: get the file again.")
    return found
