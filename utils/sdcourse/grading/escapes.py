"""Try from inside whether a room holds: what a hostile notebook would do to get out, each with what it came to.

Each try is a probe: where it succeeds it has changed nothing (a place is unmounted that is no mount, a file has no name).

This file is run inside the room, as it is, by a bare Python (nothing but the standard library). :func:`check_room` of
:mod:`sdcourse.grading.roomcheck` lays out what there is to find, and reads the report.
"""

import ctypes
import errno
import json
import os
import socket
import sys

CLONE_NEWUSER, CLONE_NEWNS, MS_REMOUNT, MS_BIND = 0x10000000, 0x20000, 32, 4096
LIBC = ctypes.CDLL(None, use_errno=True)


def _can_read(path):
    try:
        with open(path, "rb") as file:
            return bool(file.read(1))
    except OSError:
        return bool(os.path.isdir(path) and os.listdir(path))


def read_outside(about):
    """Read a file of the instructor's: the solutions, the zip, the table, another learner's notebook."""
    return [path for path in about["files"] if _can_read(path)]


def see_temporary_folders(about):
    """See what lies in the temporary folder outside, as the connection file of another kernel."""
    names = set(os.listdir("/tmp"))
    return sorted(names & set(about["temporary"]))


def write_outside(about):
    """Write to a folder outside, to the package, to Python, or beside them."""
    places = [*about["folders"], *about["read_only"], "/", "/usr", "/etc", "/root", "/home", "/var", "/run", "/dev"]
    return [place for place in places if _can_write(place)]


def _can_write(place):
    """Say whether a file could be made in a folder, with one that has no name and is gone when it is closed."""
    try:
        os.close(os.open(place, os.O_TMPFILE | os.O_WRONLY, 0o600))
        return True
    except OSError as error:
        return error.errno in (errno.EOPNOTSUPP, errno.EISDIR) and os.access(place, os.W_OK)


def _allowed(result):
    """Say whether a call was refused for another reason than missing rights."""
    return result == 0 or ctypes.get_errno() not in (errno.EPERM, errno.EACCES)


def unmount(about):
    """Unmount what covers something; tried on a folder that is no mount, so that nothing goes."""
    os.makedirs("/tmp/no-mount", exist_ok=True)
    return ["umount"] if _allowed(LIBC.umount2(b"/tmp/no-mount", 0)) else []


def remount(about):
    """Mount again what is read-only, this time to be written; tried on a folder that is no mount."""
    os.makedirs("/tmp/no-mount", exist_ok=True)
    return ["remount"] if _allowed(LIBC.mount(None, b"/tmp/no-mount", None, MS_REMOUNT | MS_BIND, None)) else []


def mount_anew(about):
    """Mount something of one's own; tried with a kind of file system that does not exist."""
    os.makedirs("/tmp/no-mount", exist_ok=True)
    return ["mount"] if _allowed(LIBC.mount(b"none", b"/tmp/no-mount", b"no-such-kind", 0, None)) else []


def nest(about):
    """Become master of a namespace of one's own, where all rights are had again."""
    pid = os.fork()
    if pid == 0:
        os._exit(0 if LIBC.unshare(CLONE_NEWUSER | CLONE_NEWNS) == 0 else 1)
    return ["unshare"] if os.waitpid(pid, 0)[1] == 0 else []


def hold_rights(about):
    """Hold a capability, or get one from a program that has it."""
    with open("/proc/self/status") as file:
        lines = dict(line.rstrip("\n").split(":", 1) for line in file)
    rights = [name for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb") if int(lines[name], 16)]
    return rights + ([] if lines.get("NoNewPrivs", "1").strip() == "1" else ["new privileges"])


def change_root(about):
    """Change the root folder and climb out of it."""
    pid = os.fork()
    if pid == 0:
        try:
            os.chroot("/tmp")
        except OSError:
            os._exit(1)
        os._exit(0)
    return ["chroot"] if os.waitpid(pid, 0)[1] == 0 else []


def reach_network(about):
    """Reach a server on this machine, or the world."""
    done = []
    for address in (("127.0.0.1", about["port"]), ("1.1.1.1", 53), ("169.254.169.254", 80)):
        try:
            socket.create_connection(address, timeout=1).close()
            done.append(address[0])
        except OSError:
            continue
    return done


def reach_sockets(about):
    """Reach a Unix socket outside, by its path or its abstract name."""
    done = []
    for address in (about["socket"], "\0" + about["abstract"]):
        line = socket.socket(socket.AF_UNIX)
        line.settimeout(1)
        try:
            line.connect(address)
            done.append(address.strip("\0"))
        except OSError:
            continue
        finally:
            line.close()
    return done


def reach_processes(about):
    """See, signal or look into a process outside."""
    done = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline") as file:
                done += ["see"] if about["mark"] in file.read().split("\0") else []
            done += [path for path in about["files"] if _can_read(f"/proc/{pid}/root{path}")]
        except (OSError, ValueError):
            continue
    try:
        if about["pid"] not in (os.getpid(), os.getppid()) and about["pid"] > 500:
            os.kill(about["pid"], 0)
            done.append("signal")
    except OSError:
        pass
    return done


def make_devices(about):
    """Make or open a device: a disk, the memory, the terminal."""
    done = [name for name in ("mem", "kmsg", "sda", "vda", "nvme0n1", "tty", "console", "fuse", "kvm") if _opens(name)]
    try:
        os.mknod("/tmp/device", 0o600 | 0o060000, os.makedev(8, 0))
        done.append("mknod")
        os.unlink("/tmp/device")
    except OSError:
        pass
    return done


def _opens(name):
    try:
        os.close(os.open(f"/dev/{name}", os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY))
        return True
    except OSError:
        return False


def change_kernel(about):
    """Change a setting of the kernel, or of the machine."""
    done = []
    for path in ("/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger", "/proc/sys/user/max_user_namespaces",
                 "/sys/kernel/uevent_helper", "/sys/fs/cgroup/notify_on_release"):  # fmt: skip
        try:
            os.close(os.open(path, os.O_WRONLY))
            done.append(path)
        except OSError:
            continue
    return done


def fill_disk(about):
    """Write more than a room may hold."""
    done = []
    for place in ("/tmp", "/dev/shm"):
        try:
            size = os.statvfs(place)
        except OSError:
            continue
        if size.f_blocks * size.f_frsize > about["bytes"] * 1.01:
            done.append(place)
    return done


def read_environment(about):
    """Read a variable of the instructor's environment."""
    return [name for name in os.environ if name == about["variable"]]


def find_open_files(about):
    """Find a file left open that leads outside."""
    done = []
    for number in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{number}")
        except OSError:
            continue
        if target.startswith("/") and not target.startswith(("/proc", "/dev/null")):
            done.append(target)
    return done


ESCAPES = (read_outside, see_temporary_folders, write_outside, hold_rights, reach_network, reach_sockets, reach_processes,
           make_devices, change_kernel, read_environment, find_open_files, fill_disk, change_root, nest, mount_anew,
           remount, unmount)  # fmt: skip


def main(about: dict) -> None:
    """Try all, and print {name: what was reached} as JSON; try nothing where there is no room around this process.

    Some of what is tried would do harm outside: without a mount and a user namespace of its own nothing is tried at all.
    """
    same = [name for name in ("mnt", "user") if os.readlink(f"/proc/self/ns/{name}") == about["namespaces"][name]]
    if same:
        print(json.dumps({"start": [f"there is no room: the namespace {name} is the one outside" for name in same]}))
        return
    report = {}
    for escape in ESCAPES:
        try:
            report[escape.__name__] = [str(item) for item in escape(about)]
        except Exception as error:
            report[escape.__name__] = [f"could not be tried: {type(error).__name__}: {error}"]
    report["write_after_all"] = write_outside(about) + read_outside(about)
    print(json.dumps(report))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
