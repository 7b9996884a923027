"""What runs in a room: a notebook's kernel, and the grader's hand beside it (``python -m sdcourse.grading.inside``).

The main thread is the ordinary kernel of JupyterLab. A second thread takes the grader's frames from the pipe that was
this process's input, lets the kernel run them, and writes what comes of it to the pipe that was its output. Nothing that
happens here is trusted: the grader reads bounded frames and plain data (sdcourse.grading.channel, sdcourse.grading.wire).
"""

import argparse
import contextlib
import json
import os
import pickle
import sys
import threading
from pathlib import Path

from ..checks.attempt import call_here
from ..checks.outcome import CheckError
from ..checks.plain import NotPlain, plain
from . import channel
from .wire import encode

MAX_OUTPUT = 3_500_000  # characters of one cell that are sent on; the grader keeps less
_ASKED: list[tuple[bytes, bytes]] = []
_SAID: list[bytes] = []


def main() -> None:
    """Take over the two pipes, set the limits, and run the kernel until the grader hangs up."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--memory", type=int, required=True, help="bytes of data of one process")
    parser.add_argument("--processes", type=int, required=True)
    parser.add_argument("--file-bytes", type=int, required=True)
    options = parser.parse_args()
    from_grader, to_grader = _take_pipes()
    _limit(options)
    threading.excepthook = lambda _args: os._exit(1)
    from ipykernel.kernelapp import IPKernelApp

    place = Path(os.environ["TMPDIR"]) / "kernel"
    place.mkdir(mode=0o700)
    transport = "tcp" if sys.platform == "win32" else "ipc"
    app = IPKernelApp.instance()
    app.initialize(["-f", str(place / "k.json"), f"--IPKernelApp.transport={transport}", "--log-level=50",
                    "--HistoryManager.hist_file=:memory:", "--HistoryManager.enabled=False",
                    "--InlineBackend.figure_formats={'png'}"])  # fmt: skip
    app.session.pack = _pack
    threading.Thread(target=_serve, args=(str(place / "k.json"), from_grader, to_grader), daemon=True).start()
    app.start()


def _pack(message) -> bytes:
    """Return a message of the kernel as JSON, also where a text in it is none that UTF-8 can hold."""
    from jupyter_client.jsonutil import json_default

    return json.dumps(message, default=json_default, allow_nan=True).encode("ascii")


def _take_pipes():
    """Return the two pipes as files, and leave nothing in their place: what a learner prints goes to the kernel."""
    pipes = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)
    os.close(nothing)
    return os.fdopen(pipes[0], "rb"), os.fdopen(pipes[1], "wb")


def _limit(options) -> None:
    if sys.platform == "win32":
        return
    import resource

    wanted = {"RLIMIT_CORE": 0, "RLIMIT_DATA": options.memory, "RLIMIT_FSIZE": options.file_bytes,
              "RLIMIT_NPROC": options.processes if sys.platform.startswith("linux") else None}  # fmt: skip
    for name, value in wanted.items():
        if value is None:
            continue
        _, highest = resource.getrlimit(getattr(resource, name))
        value = value if highest == resource.RLIM_INFINITY else min(value, highest)
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(getattr(resource, name), (value, value))


def _serve(connection: str, from_grader, to_grader) -> None:
    """Do what the grader asks, one thing after the other; when it is gone, end."""
    from jupyter_client import BlockingKernelClient

    client = BlockingKernelClient(connection_file=connection)
    client.load_connection_file()
    client.start_channels()
    client.wait_for_ready(timeout=120)
    with contextlib.suppress(channel.Closed):
        kind, payload = channel.read_frame(from_grader, most=2**31)
        _lay_out(pickle.loads(payload))
        channel.write_frame(to_grader, channel.READY)
        while True:
            _do(client, *channel.read_frame(from_grader), to_grader)
    os._exit(0)


def _lay_out(files: dict[str, bytes]) -> None:
    """Write the files that were handed in beside the notebook."""
    for name, data in files.items():
        file = Path.cwd() / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)


def _do(client, kind: bytes, payload: bytes, to_grader) -> None:
    _ASKED[:], _SAID[:] = [(kind, payload)], []
    hand = f"__import__({__name__!r}, fromlist=['x'])"  # works whatever the notebook has done to its own names
    source = payload.decode() if kind == channel.RUN else f"{hand}.answer()"
    silent = kind != channel.RUN
    request = client.execute(source, silent=silent, store_history=not silent, allow_stdin=False)
    room = MAX_OUTPUT
    while True:
        message = client.get_iopub_msg(timeout=None)
        if message["parent_header"].get("msg_id") != request:
            continue
        if message["msg_type"] == "status" and message["content"]["execution_state"] == "idle":
            break
        if message["msg_type"] in ("stream", "display_data", "execute_result", "error") and not silent and room > 0:
            content = _kept(message, room)
            room -= len(content)
            channel.write_frame(to_grader, channel.OUTPUT, content)
    for answer in _SAID[:1]:
        channel.write_frame(to_grader, channel.ANSWER, answer)
    channel.write_frame(to_grader, channel.IDLE)


def _kept(message, room: int) -> bytes:
    content = message["content"]
    if message["msg_type"] == "stream":
        content = {**content, "text": content["text"][:room]}
    text = json.dumps({"type": message["msg_type"], "content": content}, default=str)
    return text.encode("utf-8", "backslashreplace")


def answer() -> None:
    """Look up or call what the grader has asked for (in the kernel's own thread), and keep the answer to be sent."""
    from IPython import get_ipython

    (kind, payload), names = _ASKED[0], get_ipython().user_ns
    said = look_up(names, payload.decode()) if kind == channel.LOOK else _called(names, payload)
    try:
        data = encode(said)
    except (TypeError, ValueError, RuntimeError) as error:
        data = encode({"status": "wrong", "text": f"the function returned what cannot be carried over ({error})"})
    if len(data) > channel.MAX_FRAME:
        data = encode({"status": "wrong", "text": "the function returned more than can be read"})
    _SAID.append(data)


def look_up(names: dict, name: str) -> dict:
    """Return what the notebook's name is: missing, a function, plain data or other."""
    if name not in names:
        return {"kind": "missing"}
    if callable(names[name]):
        return {"kind": "function"}
    try:
        return {"kind": "data", "value": plain(names[name])}
    except NotPlain as error:
        return {"kind": "other", "text": str(error)}


def _called(names: dict, payload: bytes) -> dict:
    name, arguments, without = pickle.loads(payload)  # written by the grader, for us
    try:
        used: set[str] = set()
        return {"status": "ok", "value": call_here(names[name], arguments, without=without, used=used), "used": sorted(used)}
    except CheckError as error:
        return {"status": error.status, "text": str(error)}


if __name__ == "__main__":
    from sdcourse.grading import inside  # not as __main__: a notebook's own names must not get in the way

    inside.main()
