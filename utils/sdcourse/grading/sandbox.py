"""The room in which a learner's code runs: no network, nothing to see but Python and the package, nothing to write to
but a small ``/tmp`` of its own, no rights of any kind.

Two rooms can be built on Linux. **bubblewrap** (the program ``bwrap``) is made for this and comes first; where it is
not to be had, a script does the same with ``unshare``, ``pivot_root`` and ``setpriv``. :func:`room_problem` says why
neither can be built. Whether a room really holds is tried from inside by :mod:`sdcourse.grading.escapes`.
"""

import functools
import os
import shutil
import site
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

WORK = "/tmp/work"  # where the notebook runs, inside
ROOM_BYTES = 512 * 2**20  # what may be written below /tmp, inside
SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64")
SETTINGS = ("ld.so.cache", "ld.so.conf", "ld.so.conf.d", "alternatives", "fonts", "localtime", "mime.types")
DEVICES = ("null", "zero", "full", "random", "urandom")
PACKAGES = Path(__file__).parents[2]


@dataclass(frozen=True)
class Inside:
    """What is seen in a room: places (read-only, where they are outside), and files that others stand in for."""

    seen: tuple[Path, ...]
    stand_ins: dict[Path, Path] = field(default_factory=dict)  # {file outside: what is seen in its place}
    emptied: tuple[Path, ...] = ()
    size: int = ROOM_BYTES

    def links(self) -> list[tuple[str, str]]:
        """Return (where it points, place) of the places that are links, as /bin is on most systems."""
        return [(os.readlink(place), str(place)) for place in self.seen if place.is_symlink()]

    def bound(self) -> list[str]:
        """Return the places that are no links, outer ones first."""
        places = {str(place) for place in self.seen if place.exists() and not place.is_symlink()}
        return sorted(place for place in places if not any(place.startswith(f"{other}/") for other in places))


def needed() -> tuple[Path, ...]:
    """Return the places that Python, its packages and this one need: never a folder of the course or of a person."""
    python = [sys.prefix, sys.base_prefix, sys.exec_prefix, *_hops(Path(sys.executable))]
    packages = [*(sysconfig.get_paths()[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")), *_own_site()]
    # a folder of packages only: what lies beside it (a course, its solutions) is not seen
    ours = [folder for folder in PACKAGES.iterdir() if (folder / "__init__.py").is_file()]
    system = [*SYSTEM, *(f"/etc/{name}" for name in SETTINGS)]
    places = [Path(place) for place in (*system, *python, *packages, *ours)]
    places += [place.resolve() for place in places if str(place) not in SYSTEM]
    return tuple(dict.fromkeys(place for place in places if place.exists() and place != Path("/")))


def _own_site() -> list[str]:
    """Return the user's own folder of packages, where Python uses it."""
    return [site.getusersitepackages()] if site.ENABLE_USER_SITE else []


def _hops(program: Path) -> list[str]:
    """Return the prefixes of all programs that a link to Python leads through."""
    found = []
    while program.is_symlink():
        program = program.parent / os.readlink(program)
        found.append(os.path.normpath(program.parent.parent))
    return [place for place in found if place not in ("/", os.path.expanduser("~"))]


def bubblewrap(command: list[str], inside: Inside, _mount_point: Path) -> list[str]:
    """Return the command that runs ``command`` in a room of bubblewrap."""
    room = ["bwrap", "--unshare-all", "--unshare-user", "--die-with-parent", "--new-session", "--cap-drop", "ALL"]
    room += ["--hostname", "room", *(["--disable-userns"] if "--disable-userns" in _bwrap_help() else [])]
    sized = ["--size", str(inside.size)] if "--size" in _bwrap_help() else []
    room += [*sized, "--tmpfs", "/tmp"]  # first: Python or the package may lie below the /tmp outside
    for place in inside.bound():
        room += ["--ro-bind", place, place]
    for target, place in inside.links():
        room += ["--symlink", target, place]
    for file, other in inside.stand_ins.items():
        room += ["--ro-bind", str(other), str(file)]
    for place in inside.emptied:
        room += ["--tmpfs", str(place), "--remount-ro", str(place)]
    room += ["--proc", "/proc", "--remount-ro", "/proc", "--dev", "/dev", *sized, "--tmpfs", "/dev/shm", "--remount-ro", "/dev"]
    room += ["--dir", WORK, "--dir", "/run", "--dir", "/var", "--remount-ro", "/"]
    return [*room, "--chdir", WORK, "--", *command]


@functools.cache
def _bwrap_help() -> str:
    done = subprocess.run(["bwrap", "--help"], capture_output=True, text=True)
    return done.stdout + done.stderr


# $1: the mount namespace outside, in which nothing may be done; $2: an empty folder to build the room on; $3: bytes for
# /tmp; then lists, each up to "--": places to bind, links (target,
# place), stand-ins (file, what is seen), places to empty; then the command. What cannot be done ends the script.
_SCRIPT = r"""
set -e
if [ "$(readlink /proc/self/ns/mnt)" = "$1" ]; then echo "there is no namespace of its own" >&2; exit 1; fi
root=$2; size=$3; shift 3
mount --make-rprivate /
mount -t tmpfs -o size=4m,mode=755 none "$root"
mkdir "$root/tmp"
mount -t tmpfs -o "size=$size,mode=1777" none "$root/tmp"  # first: Python or the package may lie below the /tmp outside
put() { if [ -d "$1" ]; then mkdir -p "$root$2"; else mkdir -p "$root${2%/*}"; : > "$root$2"; fi; mount --rbind "$1" "$root$2"; }
while [ "$1" != "--" ]; do put "$1" "$1"; shift; done; shift
while [ "$1" != "--" ]; do mkdir -p "$root${2%/*}"; ln -s "$1" "$root$2"; shift 2; done; shift
while [ "$1" != "--" ]; do mount --bind "$2" "$root$1"; shift 2; done; shift
while [ "$1" != "--" ]; do mount -t tmpfs -o size=4k none "$root$1"; shift; done; shift
mkdir -p "$root/proc" "$root/dev" "$root/run" "$root/var" "$root/.before"
mount -t tmpfs -o size=64k,mode=755 none "$root/dev"
for name in null zero full random urandom; do put "/dev/$name" "/dev/$name"; done
ln -s /proc/self/fd "$root/dev/fd"; ln -s fd/0 "$root/dev/stdin"; ln -s fd/1 "$root/dev/stdout"; ln -s fd/2 "$root/dev/stderr"
mkdir "$root/dev/shm"
while read -r _ place _ options _; do
    place=$(printf '%b' "$place")
    case "$place" in "$root"|"$root"/*) ;; *) continue;; esac
    kept=ro
    for flag in nosuid nodev noexec noatime nodiratime relatime; do
        case ",$options," in *",$flag,"*) kept="$kept,$flag";; esac
    done
    case "$place" in "$root"|"$root/tmp") ;; *) mount -o "remount,bind,$kept" "$place";; esac
done < /proc/self/mounts
mount -t tmpfs -o "size=$size,mode=1777" none "$root/dev/shm"
mkdir "$root/tmp/work"
mount -t proc -o nosuid,nodev,noexec proc "$root/proc"
cd "$root"
pivot_root . .before
cd /
umount -l /.before
rmdir /.before
mount -o remount,bind,ro /
ip link set lo up 2>/dev/null || true
echo 0 > /proc/sys/user/max_user_namespaces
mount -o remount,bind,ro,nosuid,nodev,noexec /proc
cd /tmp/work
exec setpriv --bounding-set=-all --inh-caps=-all --ambient-caps=-all --no-new-privs "$@"
"""
_UNSHARE = ["unshare", "--user", "--map-root-user", "--net", "--mount", "--pid", "--ipc", "--uts", "--fork",
            "--kill-child"]  # fmt: skip


def namespaces(command: list[str], inside: Inside, mount_point: Path) -> list[str]:
    """Return the command that runs ``command`` in a room of our own script; ``mount_point`` is an empty folder."""
    links = [text for pair in inside.links() for text in pair]
    stand_ins = [str(file) for pair in inside.stand_ins.items() for file in pair]
    lists = [*inside.bound(), "--", *links, "--", *stand_ins, "--", *map(str, inside.emptied), "--"]
    start = ["setpriv", "--pdeathsig", "KILL", *_UNSHARE, "bash", "-c", _SCRIPT, "room"]  # ends when the grader does
    return [*start, os.readlink("/proc/self/ns/mnt"), str(mount_point.resolve()), str(inside.size), *lists, *command]


@dataclass(frozen=True)
class Room:
    """A way to shut a command in, and the programs that it needs."""

    name: str
    shut_in: Callable[[list[str], Inside, Path], list[str]]
    programs: tuple[str, ...]

    def problem(self) -> str | None:
        """Return why this room cannot be built here, or None if it can."""
        if not sys.platform.startswith("linux"):
            return f"there are no namespaces on {sys.platform}"
        if missing := [program for program in self.programs if not shutil.which(program)]:
            return f"the program {missing[0]} is missing"
        return _tried(self)


ROOMS = {
    "bubblewrap": Room("bubblewrap", bubblewrap, ("bwrap",)),
    "namespaces": Room("namespaces", namespaces, ("unshare", "setpriv", "pivot_root", "mount", "bash")),
}


@functools.cache
def _tried(room: Room) -> str | None:
    """Start a command in the room and return what went wrong, or None."""
    import tempfile

    system = tuple(Path(place) for place in SYSTEM if Path(place).exists())
    with tempfile.TemporaryDirectory() as folder:
        command = room.shut_in(["/usr/bin/env", "echo", "here"], Inside(system), Path(folder))
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", stdin=subprocess.DEVNULL)
    if done.returncode == 0 and done.stdout.strip() == "here":
        return None
    said = (done.stderr.strip().splitlines() or ["it did not start"])[-1]
    return f"this system does not let it be built ({said})"


def find_room() -> Room | None:
    """Return the best room that can be built here, or None."""
    return next((room for room in ROOMS.values() if room.problem() is None), None)


def room_problem() -> str | None:
    """Return why learners' code cannot be shut in here, or None if it can."""
    problems = {name: room.problem() for name, room in ROOMS.items()}
    if None in problems.values():
        return None
    return "; ".join(f"{name}: {problem}" for name, problem in problems.items())
