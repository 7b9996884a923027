"""One process that has imported the libraries; every notebook kernel is a fork of it and starts at once.

Importing torch, transformers and diffusers takes seven seconds, a kernel of a lesson does it once, and there are three
dozen of them. So the tests start one process that imports them (``Nursery``), and the kernels they ask for are forked
from it. A fork is a process of its own, with the environment, folder and output of whoever asked; nothing of the
course itself is imported before. The asking process (``nursery.py ADDRESS CONNECTION_FILE``, a kernel's command)
passes signals on, ends when its fork ends, and takes the fork with it when it is killed.
"""

import array
import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys

LIBRARIES = ("torch", "numpy", "matplotlib.pyplot", "ipykernel.kernelapp",
             "diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion", "transformers.models.clip",
             "transformers.models.clip.modeling_clip", "transformers.models.clip.image_processing_pil_clip",
             "diffusers.models.controlnets.controlnet", "ipywidgets", "safetensors.torch", "peft")  # fmt: skip
NAME = "forked"


class Nursery:
    """The process and what Jupyter must know to have kernels forked from it."""

    def __init__(self, folder, libraries: tuple[str, ...] = LIBRARIES):
        self.address = str(folder / "door")
        spec = folder / "kernels" / NAME / "kernel.json"
        spec.parent.mkdir(parents=True)
        command = [sys.executable, "-S", "-E", __file__, self.address, "{connection_file}"]
        spec.write_text(json.dumps({"argv": command, "display_name": NAME, "language": "python"}))
        serve = [sys.executable, __file__, "serve", self.address, *libraries]
        with open(folder / "said", "w") as said:  # what the libraries complain about when they are imported
            self.process = subprocess.Popen(serve, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said)
        self.process.stdout.readline()  # the door is open; whoever knocks before all is imported waits

    def close(self) -> None:
        """End the process; its forks have ended with those who asked for them."""
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


def possible() -> bool:
    """Return whether processes can be forked here; on a Mac they must not be after torch is imported."""
    return sys.platform == "linux"


# the asking side: starts without site-packages, in hundredths of a second


def ask(address: str, connection_file: str) -> int:
    """Have a kernel forked for ``connection_file``; return its exit code when it ends."""
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(address)
        request = {"file": connection_file, "folder": os.getcwd(), "environment": dict(os.environ)}
        descriptors = array.array("i", [0, 1, 2])
        message = json.dumps(request).encode()
        line.sendmsg([len(message).to_bytes(8, "big")], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptors)])
        line.sendall(message)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda number, frame: line.sendall(bytes([number])))
        answer = line.recv(1)
        return answer[0] if answer else 1


# the forking side


def serve(address: str, libraries: list[str]) -> None:
    """Import the libraries, then fork a kernel for everyone who asks at ``address``, until standard input closes."""
    import gc
    import importlib
    import threading

    with socket.socket(socket.AF_UNIX) as door:
        door.bind(address)
        door.listen(64)
        sys.stdout.write("open\n")
        sys.stdout.flush()
        os.environ["MPLBACKEND"] = "module://matplotlib_inline.backend_inline"  # as in a kernel; loaded when first used
        for name in libraries:
            with contextlib.suppress(ImportError):  # another version has other modules: the kernel imports them
                importlib.import_module(name)
        assert threading.active_count() == 1, "a process with threads must not be forked"
        gc.freeze()
        signal.signal(signal.SIGCHLD, reap)
        while sys.stdin not in select.select([door, sys.stdin], [], [])[0]:  # closed when the tests are gone
            line, _ = door.accept()
            if os.fork() == 0:
                door.close()
                guard(line)
            line.close()


def reap(*_) -> None:
    """Take leave of every child that has ended."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def guard(line: socket.socket) -> None:
    """In a fork: fork the kernel, pass signals to it, kill it when whoever asked is gone, say how it ended."""
    import threading

    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    header, ancillary, _, _ = line.recvmsg(8, socket.CMSG_SPACE(3 * array.array("i").itemsize))
    descriptors = array.array("i")
    descriptors.frombytes(ancillary[0][2])
    message = b""
    while len(message) < int.from_bytes(header, "big"):
        message += line.recv(2**16)
    child = os.fork()
    if child == 0:
        line.close()
        become_kernel(json.loads(message), descriptors)

    def listen():
        while number := line.recv(1):
            os.kill(child, number[0])
        os.kill(child, signal.SIGKILL)

    threading.Thread(target=listen, daemon=True).start()
    status = os.waitpid(child, 0)[1]
    with contextlib.suppress(OSError):
        line.sendall(bytes([abs(os.waitstatus_to_exitcode(status)) % 256]))
    os._exit(0)


def become_kernel(request: dict, descriptors) -> None:
    """In a fork of a fork: be the kernel that was asked for."""
    os.setsid()
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    os.environ.pop("JPY_PARENT_PID", None)  # the guard watches, not the kernel
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv = ["ipykernel_launcher.py", "-f", request["file"]]
    paths = [path for path in request["environment"].get("PYTHONPATH", "").split(os.pathsep) if path]
    sys.path[:] = ["", *paths, *(path for path in sys.path[1:] if path not in paths)]
    code = 1
    try:
        from ipykernel.kernelapp import launch_new_instance

        launch_new_instance()
        code = 0
    finally:
        sys.stdout.flush()
        os._exit(code)


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        sys.exit(serve(sys.argv[2], sys.argv[3:]))
    sys.exit(ask(*sys.argv[1:]))
