"""Run a learner's code where it can do no harm: no network, nothing written outside its folder, no solutions to read.

On Linux this is done with ``unshare`` (user, mount, network and process namespaces), for which no rights are needed
on most systems. Where that is not to be had, the limits on memory and time still hold, and :func:`sandbox_problem`
says what is missing.
"""

import functools
import shutil
import subprocess
import sys
from pathlib import Path

MEMORY_GB = 8

# $1: the folder that may be written; then folders to hide, up to "--"; then the command.
_SCRIPT = """
set -e
work=$1; shift
mount --make-rprivate /
mount --bind "$work" "$work"
while [ "$1" != "--" ]; do mount -t tmpfs -o size=64k,mode=755 none "$1"; shift; done
shift
mount -t tmpfs -o size=64m none /dev/shm
ip link set lo up 2>/dev/null || true
while read -r _ place _; do
    place=$(printf '%b' "$place")
    case "$place" in "$work"|/proc|/proc/*|/dev|/dev/*|/sys|/sys/*) continue;; esac
    mount -o remount,bind,ro "$place" 2>/dev/null || true
done < /proc/self/mounts
cd "$work"
exec "$@"
"""
_UNSHARE = [
    "unshare",
    "--user",
    "--map-root-user",
    "--net",
    "--mount",
    "--pid",
    "--fork",
    "--kill-child",
    "--mount-proc",
]


@functools.cache
def sandbox_problem() -> str | None:
    """Return why learners' code cannot be shut in here, or None if it can."""
    if not sys.platform.startswith("linux"):
        return f"there are no namespaces on {sys.platform}"
    if not (shutil.which("unshare") and shutil.which("bash")):
        return "the program unshare (package util-linux) is missing"
    test = "mount -t tmpfs none /dev/shm && mount -o remount,bind,ro / && ! touch /sdlab-sandbox-test 2>/dev/null"
    tried = subprocess.run([*_UNSHARE, "bash", "-c", test], capture_output=True, text=True)
    if tried.returncode == 0:
        return None
    said = (tried.stderr.strip().splitlines() or ["it did not work"])[-1]
    return f"this system does not let an ordinary user do it ({said})"


def sandboxed(command: list[str], *, folder: Path, hidden: list[Path], memory_gb: float = MEMORY_GB) -> list[str]:
    """Return the command that runs ``command`` with limits, and shut in where that is possible.

    folder: the only one that may be written. hidden: folders that look empty from inside.
    """
    if sys.platform == "win32":
        return command
    limits = f'ulimit -c 0 -f 1000000 -d {int(memory_gb * 2**20)} 2>/dev/null; exec "$@"'
    limited = ["bash", "-c", limits, "limits", *command]
    if sandbox_problem():
        return limited
    folders = [str(path.resolve()) for path in hidden if path.is_dir()]
    with_parent = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []  # ends when the grader does
    return [*with_parent, *_UNSHARE, "bash", "-c", _SCRIPT, "sandbox", str(folder.resolve()), *folders, "--", *limited]
