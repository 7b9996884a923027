"""Say whether a room holds: lay something out to be found, and let :mod:`sdcourse.grading.escapes` try to get at it."""

import json
import os
import secrets
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from contextlib import contextmanager
from pathlib import Path

from . import escapes
from .sandbox import ROOM_BYTES, Inside, Room, needed

SECONDS = 60
COULD_NOT_START = "start"


@contextmanager
def _laid_out(files: Iterable[Path]):
    """Lay out a file, a server, two sockets and a process, and give what the escapes need to look for them."""
    mark = f"room-{secrets.token_hex(8)}"
    with tempfile.TemporaryDirectory(prefix="lab-") as name, socket.create_server(("127.0.0.1", 0)) as server:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "solution.ipynb").write_text("the solution")
        with _listening(str(folder / "s")) as path, _listening(f"\0{mark}") as abstract:
            process = subprocess.Popen([sys.executable, "-c", f"import time; time.sleep({SECONDS})", mark],
                                       stdout=subprocess.DEVNULL)  # fmt: skip
            try:
                yield {
                    "files": [str(folder / "solution.ipynb"), *map(str, files)],
                    "folders": [str(folder)],
                    "read_only": [str(Path(escapes.__file__).parent), sys.prefix, sys.base_prefix],
                    "temporary": [folder.name],
                    "port": server.getsockname()[1],
                    "socket": path,
                    "abstract": abstract.strip("\0"),
                    "pid": process.pid,
                    "mark": mark,
                    "namespaces": {name: os.readlink(f"/proc/self/ns/{name}") for name in ("mnt", "user")},
                    "bytes": ROOM_BYTES,
                    "variable": "SDLAB_ROOM_CHECK",
                }
            finally:
                process.kill()
                process.wait()


@contextmanager
def _listening(address: str):
    with socket.socket(socket.AF_UNIX) as line:
        line.bind(address if len(address) < 100 else f"\0{secrets.token_hex(8)}")
        line.listen()
        yield address


def check_room(
    room: Room, *, files: Iterable[Path] = (), inside: Inside | None = None, python: str = sys.executable,
    before: Iterable[str] = (),
) -> dict[str, list[str]]:  # fmt: skip
    """Return {escape: what it reached}; a room that holds has nothing but empty lists.

    files: more that must not be read. inside, python: what is seen in the room, and the Python in it. before: a command
    that the room is started with, as ``setpriv --reuid ...``.
    """
    with _laid_out(files) as about, tempfile.TemporaryDirectory() as mount_point:
        os.chmod(mount_point, 0o755)
        source = Path(escapes.__file__).read_text(encoding="utf-8")
        command = room.shut_in([python, "-I", "-c", source, json.dumps(about)], inside or Inside(needed()), Path(mount_point))
        environment = {"PATH": os.environ.get("PATH", os.defpath)}
        done = subprocess.run([*before, *command], capture_output=True, text=True, errors="replace", env=environment,
                              stdin=subprocess.DEVNULL, timeout=SECONDS)  # fmt: skip
    try:
        return {name: list(reached) for name, reached in json.loads(done.stdout).items()}
    except (ValueError, AttributeError):
        said = " ".join(done.stderr.split())[-300:] or "it said nothing"
        return {COULD_NOT_START: [said]}


def holds(report: dict[str, list[str]]) -> bool:
    """Say whether nothing was reached."""
    return not any(report.values())
