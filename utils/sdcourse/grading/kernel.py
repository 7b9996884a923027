"""A learner's notebook kernel, in a room (sdcourse.grading.sandbox) and watched: time, memory, processes, output."""

import contextlib
import json
import os
import pickle
import queue
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from ..checks.attempt import Remote
from ..checks.outcome import NOT_ATTEMPTED, WRONG, NotAttempted, Wrong
from . import channel
from .redacted import FOLDER, stand_ins
from .sandbox import ROOM_BYTES, WORK, Inside, Room, find_room, needed, room_problem
from .wire import BadMessage, decode

MAX_OUTPUT = 200_000  # characters kept of what a cell prints
MAX_SHOWN = 3_000_000  # characters kept of pictures and pages that a cell shows
MAX_SENT = 200_000_000  # bytes of output after which a cell is stopped
MAX_PROCESSES, MAX_THREADS = 64, 400
START_SECONDS = 300
WATCH_SECONDS = 0.25
SHOWN_TYPES = ("text/plain", "text/html", "text/markdown", "text/latex", "image/png", "image/jpeg")


@dataclass(frozen=True)
class Limits:
    """What a submission may use: seconds a cell or call, seconds in all, and memory in GB."""

    cell_seconds: float = 30
    seconds: float = 300
    memory_gb: float = 8


@dataclass(frozen=True)
class Place:
    """Where a notebook runs.

    room: the room to use (by default the best that can be built). trust: run it without a room where there is none.
    hidden: folders that must not be seen, wherever they lie. files: what was handed in beside the notebook, by name.
    given: the text of the lab as it was given out; of the checks, only what it names is seen (sdcourse.grading.redacted).
    """

    room: Room | None = None
    trust: bool = False
    hidden: tuple[Path, ...] = ()
    files: dict[str, bytes] = field(default_factory=dict)
    given: str = ""


class Stopped(Exception):
    """The learner's process is gone; the sentence says why."""


class NotStarted(Exception):
    """The room or the kernel did not start: nothing can be said about the submission."""


class LearnerKernel:
    """Runs cells and calls of one submission; a context manager. After :class:`Stopped`, call :meth:`start` again."""

    def __init__(self, *, limits: Limits, place: Place):
        self.limits, self.place = limits, place
        self.room = place.room or find_room()
        if self.room is None and not place.trust:
            raise NotStarted(f"there is no room to run it in: {room_problem()}")
        self.folder = _short_folder()
        self.process = self.channel = self.said = None
        self.deadline = time.monotonic() + limits.seconds
        self.watched = 0.0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def over(self) -> bool:
        """Whether the time for the whole notebook is used up."""
        return time.monotonic() > self.deadline

    def start(self) -> None:
        """Start a fresh process; raise Stopped if the time is over, NotStarted if it does not answer."""
        self.stop()
        if self.over:
            raise Stopped(self._too_long())
        outside = Path(tempfile.mkdtemp(dir=self.folder))
        self.process = subprocess.Popen(
            self._command(outside), cwd=outside, env=self._environment(outside), stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True, bufsize=1 << 16,
        )  # fmt: skip
        self.said = channel.Tail(self.process.stderr)
        self.channel = channel.Channel(self.process.stdin, self.process.stdout)
        self.channel.send(channel.FILES, pickle.dumps(self.place.files))
        begun = time.monotonic()
        self._wait_for_start(begun)
        self.deadline += time.monotonic() - begun  # a slow machine is not the learner's fault

    def _wait_for_start(self, begun: float) -> None:
        while True:
            try:
                if self.channel.receive(0.1)[0] == channel.READY:
                    return
            except queue.Empty:
                if time.monotonic() - begun < START_SECONDS:
                    continue
                reason = f"it did not answer in {START_SECONDS} s"
            except channel.Closed:
                reason = self.said.text()[-300:] or "it ended at once"
            self.stop()
            raise NotStarted(f"the process for the notebook did not start ({reason})")

    def _command(self, outside: Path) -> list[str]:
        memory = int(self.limits.memory_gb * 2**30)
        command = [sys.executable, "-m", "sdcourse.grading.inside", "--memory", str(memory),
                   "--processes", str(MAX_THREADS), "--file-bytes", str(ROOM_BYTES)]  # fmt: skip
        if self.room is None:
            return command
        inside = Inside(needed(), stand_ins(self.place.given, outside))
        emptied = [str(path) for path in self.place.hidden if path.is_dir()]
        bound = inside.bound()
        emptied = [path for path in emptied if any(path == place or path.startswith(f"{place}/") for place in bound)]
        emptied += [str(FOLDER / "__pycache__")] if (FOLDER / "__pycache__").is_dir() else []
        (outside / "root").mkdir()
        room = Inside(inside.seen, inside.stand_ins, tuple(map(Path, emptied)))
        return self.room.shut_in(command, room, outside / "root")

    def _environment(self, outside: Path) -> dict:
        work, temporary = (WORK, "/tmp") if self.room else (str(outside), str(outside))
        own = {"HOME": work, "TMPDIR": temporary, "IPYTHONDIR": f"{temporary}/ipython", "MPLCONFIGDIR": f"{temporary}/mpl",
               "JUPYTER_CONFIG_DIR": f"{temporary}/jupyter", "JUPYTER_RUNTIME_DIR": f"{temporary}/runtime",
               "JUPYTER_PLATFORM_DIRS": "1", "USER": "learner", "LOGNAME": "learner"}  # fmt: skip
        quiet = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false",
                 "HF_HUB_OFFLINE": "1", "PYTHONWARNINGS": "ignore", "PYTHONDONTWRITEBYTECODE": "1",
                 "PYTHONUTF8": "1", "MPLBACKEND": "module://matplotlib_inline.backend_inline"}  # fmt: skip
        kept = {name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL", "SYSTEMROOT", "LD_LIBRARY_PATH")
                if name in os.environ}  # fmt: skip
        return kept | own | quiet | {"PYTHONPATH": str(Path(__file__).parents[2])}

    def stop(self) -> None:
        """End the process and all it started."""
        if self.process is None:
            return
        processes = self._processes()
        with contextlib.suppress(OSError):
            self.process.kill()
        for process in processes:
            with contextlib.suppress(psutil.Error):
                process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=10)
        self.channel.close()
        self.process = self.channel = None

    def _processes(self) -> list[psutil.Process]:
        try:
            first = psutil.Process(self.process.pid)
            return [first, *first.children(recursive=True)]
        except (psutil.Error, AttributeError):
            return []

    def run(self, source: str) -> list[dict]:
        """Run a cell and return its outputs (as in a notebook); an error is an output too. Raises Stopped."""
        outputs, _ = self._do(channel.RUN, source.encode("utf-8", "replace"))
        return outputs.cells

    def look_up(self, name: str):
        """Return (kind, value) of a name: "missing", "function" or "data" with its value, "other" with what it is."""
        reply = self._ask(channel.LOOK, name.encode())
        return reply.get("kind"), reply.get("value", reply.get("text"))

    def call(self, name: str, arguments: tuple, *, without: tuple[str, ...] = (), used: set | None = None):
        """Return the plain result of the notebook's function ``name``; raise Wrong, NotAttempted or Stopped."""
        reply = self._ask(channel.CALL, pickle.dumps((name, arguments, without)))
        if reply.get("status") == "ok":
            if used is not None and isinstance(reply.get("used"), list | tuple):
                used |= set(map(str, reply["used"]))
            return reply.get("value")
        if reply.get("status") not in (WRONG, NOT_ATTEMPTED):
            raise Wrong("what came back from the notebook is not what was asked for, as if it had been tampered with")
        raise (NotAttempted if reply["status"] == NOT_ATTEMPTED else Wrong)(str(reply.get("text"))[:500])

    def _ask(self, kind: bytes, payload: bytes) -> dict:
        _, answers = self._do(kind, payload)
        try:
            answer = decode(answers[0])
        except (IndexError, BadMessage):
            raise Wrong("nothing that could be read came back from the notebook") from None
        return answer if isinstance(answer, dict) else {}

    def _do(self, kind: bytes, payload: bytes) -> tuple["_Outputs", list[bytes]]:
        """Send one frame and gather what comes until the notebook is idle."""
        if self.process is None:
            raise Stopped(self._too_long() if self.over else "the process of the notebook is gone")
        outputs, answers, sent = _Outputs(), [], 0
        begun = time.monotonic()
        self.channel.send(kind, payload)
        while True:
            try:
                came, data = self.channel.receive(0.1)
            except queue.Empty:
                self._watch(begun)
                continue
            except channel.Closed:
                self._stopped("the notebook's process ended by itself")
            if came == channel.IDLE:
                return outputs, answers
            sent += len(data)
            if sent > MAX_SENT:
                self._stopped("it printed or returned more than can be read")
            if came == channel.ANSWER:
                answers = answers or [data]
            elif came == channel.OUTPUT:
                outputs.add(data)
            self._watch(begun)

    def _watch(self, begun: float) -> None:
        """Stop the process, and raise Stopped, if it is too slow or too large."""
        now = time.monotonic()
        if now > self.deadline:
            self._stopped(self._too_long())
        if now > begun + self.limits.cell_seconds:
            self._stopped(f"it took more than {self.limits.cell_seconds:g} s")
        if now < self.watched + WATCH_SECONDS:
            return
        self.watched = now
        processes = self._processes()
        if len(processes) > MAX_PROCESSES:
            self._stopped(f"it started more than {MAX_PROCESSES} processes")
        if self._memory(processes) > self.limits.memory_gb * 2**30:
            self._stopped(f"it used more than {self.limits.memory_gb:g} GB of memory")

    def _stopped(self, reason: str):
        self.stop()
        raise Stopped(reason)

    def _too_long(self) -> str:
        return f"the notebook took more than {self.limits.seconds:g} s in all"

    @staticmethod
    def _memory(processes: list[psutil.Process]) -> int:
        total = 0
        for process in processes:
            with contextlib.suppress(psutil.Error):
                total += process.memory_info().rss
        return total


def _short_folder() -> Path:
    """Return a new folder; a path to a socket in it must be short (about 100 characters)."""
    usual = tempfile.gettempdir()
    return Path(tempfile.mkdtemp(prefix="lab-", dir="/tmp" if len(usual) > 50 and os.access("/tmp", os.W_OK) else usual))


class LearnerFunction(Remote):
    """A function of the notebook, called in the notebook's process."""

    def __init__(self, kernel: LearnerKernel, name: str):
        self.kernel, self.name = kernel, name

    def call(self, arguments: tuple, *, without: tuple[str, ...] = (), used: set | None = None):
        """Return the plain result of the function; raise Wrong, NotAttempted or Stopped."""
        return self.kernel.call(self.name, arguments, without=without, used=used)


class _Outputs:
    """Collects the outputs of a cell, and no more than a page can hold; what is no output is left out."""

    def __init__(self):
        self.cells: list[dict] = []
        self.text = self.shown = 0

    def add(self, data: bytes) -> None:
        """Add what came as JSON: an output of Jupyter's protocol, or anything at all."""
        if self.text > MAX_OUTPUT and self.shown > MAX_SHOWN:
            return
        with contextlib.suppress(Exception):  # forged
            message = json.loads(data)
            kind, content = message["type"], message["content"]
            if kind == "stream":
                self._add_text(str(content["text"]), str(content["name"]))
            elif kind in ("display_data", "execute_result"):
                self._add_shown(content["data"])
            elif kind == "error":
                self._add_error(content)

    def _add_text(self, text: str, name: str) -> None:
        room = MAX_OUTPUT - self.text
        self.text += len(text)
        if room <= 0:
            return
        text = text if len(text) <= room else text[:room] + "\n[more was cut]\n"
        name = "stderr" if name == "stderr" else "stdout"
        self.cells.append({"output_type": "stream", "name": name, "text": clean_text(text)})

    def _add_shown(self, data: dict) -> None:
        shown = {kind: clean_text(str(data[kind])) for kind in SHOWN_TYPES if kind in data}
        self.shown += sum(map(len, shown.values()))
        if self.shown <= MAX_SHOWN:
            shown = shown or {"text/plain": f"[an output of the type {clean_text(next(iter(data), 'none'))[:80]}]"}
            self.cells.append({"output_type": "display_data", "data": shown, "metadata": {}})

    def _add_error(self, content: dict) -> None:
        lines = [clean_text(str(line))[:2000] for line in content["traceback"]][-30:]
        self.text += sum(map(len, lines))
        self.cells.append({"output_type": "error", "ename": clean_text(str(content["ename"]))[:200],
                           "evalue": clean_text(str(content["evalue"]))[:2000], "traceback": lines})  # fmt: skip


def clean_text(text: str) -> str:
    """Return ``text`` with what UTF-8 cannot hold replaced by question marks."""
    return text.encode("utf-8", "replace").decode()
