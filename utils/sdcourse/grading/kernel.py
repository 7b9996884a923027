"""A learner's notebook kernel, shut in (sdcourse.grading.sandbox) and watched: time, memory and output have limits."""

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
from dataclasses import dataclass
from pathlib import Path

import psutil

from ..checks import NotAttempted, Wrong
from ..checks.attempt import Remote
from ..checks.outcome import NOT_ATTEMPTED, WRONG
from .sandbox import MEMORY_GB, sandboxed
from .wire import MAX_BYTES, BadMessage, decode

MAX_OUTPUT = 200_000  # characters kept of what a cell prints
MAX_SHOWN = 3_000_000  # characters kept of pictures and pages that a cell shows
START_SECONDS = 300


@dataclass(frozen=True)
class Limits:
    """What a submission may use: seconds a cell or call, seconds in all, and memory in GB."""

    cell_seconds: float = 30
    seconds: float = 300
    memory_gb: float = MEMORY_GB


class Stopped(Exception):
    """The learner's process is gone; the sentence says why."""


class LearnerKernel:
    """Runs cells and calls of one submission; a context manager. After :class:`Stopped`, call :meth:`start` again."""

    def __init__(self, *, limits: Limits, hidden: list[Path]):
        self.limits, self.hidden = limits, hidden
        self.folder = Path(tempfile.mkdtemp(prefix="lab-"))
        self.manager = self.client = None
        self.number = 0
        self.deadline = time.monotonic() + limits.seconds

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(self) -> None:
        """Start a fresh process; raise Stopped if it does not answer."""
        from jupyter_client import KernelManager
        from jupyter_client.kernelspec import KernelSpecManager

        self.stop()
        self.number += 1
        run = self.folder / f"run-{self.number}"
        work = run / "work"
        (run / "kernels" / "learner").mkdir(parents=True)
        work.mkdir()
        command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}",
                   "--HistoryManager.hist_file=:memory:", "--InlineBackend.figure_formats={'png'}"]  # fmt: skip
        command = sandboxed(command, folder=work, hidden=self.hidden, memory_gb=self.limits.memory_gb)
        spec = {"argv": command, "display_name": "learner", "language": "python"}
        (run / "kernels" / "learner" / "kernel.json").write_text(json.dumps(spec))
        specs = KernelSpecManager(kernel_dirs=[str(run / "kernels")], ensure_native_kernel=False)
        self.manager = KernelManager(kernel_name="learner", kernel_spec_manager=specs, transport="ipc",
                                     connection_file=str(work / "k.json"))  # fmt: skip
        self.work = work
        self.manager.start_kernel(
            cwd=str(work), env=self._environment(work), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )
        self.client = self.manager.blocking_client()
        self.client.start_channels()
        try:
            self.client.wait_for_ready(timeout=START_SECONDS)
        except RuntimeError as error:
            self.stop()
            raise Stopped(f"the process of the notebook did not start ({error})") from None

    def _environment(self, work: Path) -> dict:
        own = {"HOME": str(work), "TMPDIR": str(work), "IPYTHONDIR": str(work / ".ipython"), "MPLCONFIGDIR": str(work)}
        quiet = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false",
                 "HF_HUB_OFFLINE": "1", "PYTHONWARNINGS": "ignore", "PYTHONDONTWRITEBYTECODE": "1"}  # fmt: skip
        kept = {name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL", "SYSTEMROOT", "LD_LIBRARY_PATH")
                if name in os.environ}  # fmt: skip
        utils = str(Path(__file__).parents[2])
        return kept | own | quiet | {"PYTHONPATH": utils}

    def stop(self) -> None:
        """End the process and all it started."""
        if self.manager is None:
            return
        with contextlib.suppress(Exception):
            self.client.stop_channels()
        processes = self._processes()
        with contextlib.suppress(Exception):
            self.manager.shutdown_kernel(now=True)
        for process in processes:
            with contextlib.suppress(psutil.Error):
                process.kill()
        self.manager = self.client = None

    def _processes(self) -> list[psutil.Process]:
        try:
            first = psutil.Process(self.manager.provisioner.pid)
            return [first, *first.children(recursive=True)]
        except (psutil.Error, AttributeError):
            return []

    def run(self, source: str) -> list[dict]:
        """Run a cell and return its outputs (as in a notebook); an error is an output too. Raises Stopped."""
        return self._execute(source, silent=False)

    def look_up(self, name: str):
        """Return (kind, value) of a name: "missing", "function" or "data" with its value, "other" with what it is."""
        reply = self._ask("look_up", name)
        return reply.get("kind"), reply.get("value", reply.get("text"))

    def call(self, name: str, arguments: tuple):
        """Return the plain result of the notebook's function ``name``; raise Wrong, NotAttempted or Stopped."""
        request = self.work / "request"
        request.write_bytes(pickle.dumps(arguments))
        reply = self._ask("call_answer", name, str(request))
        if reply.get("status") == "ok":
            return reply.get("value")
        if reply.get("status") not in (WRONG, NOT_ATTEMPTED):
            raise Wrong("what came back from the notebook is not what was asked for, as if it had been tampered with")
        raise (NotAttempted if reply["status"] == NOT_ATTEMPTED else Wrong)(str(reply.get("text"))[:500])

    def _ask(self, function: str, *arguments: str) -> dict:
        reply = self.work / "reply"
        reply.unlink(missing_ok=True)
        texts = ", ".join(repr(argument) for argument in (*arguments, str(reply)))
        self._execute(f"__import__('sdcourse.grading.inside', fromlist=['x']).{function}({texts})", silent=True)
        try:
            if reply.is_symlink() or reply.stat().st_size > MAX_BYTES:
                raise Wrong("the function returned more than can be read")
            answer = decode(reply.read_bytes())
        except (OSError, BadMessage):
            raise Wrong("nothing that could be read came back from the notebook") from None
        return answer if isinstance(answer, dict) else {}

    def _execute(self, source: str, *, silent: bool) -> list[dict]:
        if self.client is None:
            raise Stopped("the process of the notebook is gone")
        request = self.client.execute(source, silent=silent, store_history=not silent, allow_stdin=False)
        outputs = _Outputs()
        end = min(time.monotonic() + self.limits.cell_seconds, self.deadline)
        while True:
            try:
                message = self.client.get_iopub_msg(timeout=0.1)
            except queue.Empty:
                self._watch(end)
                continue
            if time.monotonic() > end:
                self._watch(end)
            if message["parent_header"].get("msg_id") != request:
                continue
            if message["msg_type"] == "status" and message["content"]["execution_state"] == "idle":
                return outputs.cells
            outputs.add(message)

    def _watch(self, end: float) -> None:
        """Stop the process, and raise Stopped, if it is dead, too slow or too large."""
        reason = None
        if not self.manager.is_alive():
            reason = "the notebook's process ended by itself"
        elif time.monotonic() > self.deadline:
            reason = f"the notebook took more than {self.limits.seconds:g} s in all"
        elif time.monotonic() > end:
            reason = f"it took more than {self.limits.cell_seconds:g} s"
        elif self._memory() > self.limits.memory_gb * 2**30:
            reason = f"it used more than {self.limits.memory_gb:g} GB of memory"
        if reason:
            self.stop()
            raise Stopped(reason)

    def _memory(self) -> int:
        total = 0
        for process in self._processes():
            with contextlib.suppress(psutil.Error):
                total += process.memory_info().rss
        return total


class LearnerFunction(Remote):
    """A function of the notebook, called in the notebook's process."""

    def __init__(self, kernel: LearnerKernel, name: str):
        self.kernel, self.name = kernel, name

    def call(self, arguments: tuple):
        """Return the plain result of the function; raise Wrong, NotAttempted or Stopped."""
        return self.kernel.call(self.name, arguments)


class _Outputs:
    """Collects the outputs of a cell, and no more than a page can hold."""

    def __init__(self):
        self.cells: list[dict] = []
        self.text = self.shown = 0

    def add(self, message: dict) -> None:
        kind, content = message["msg_type"], message["content"]
        if kind == "stream":
            self._add_text(content)
        elif kind in ("display_data", "execute_result"):
            size = sum(len(str(part)) for part in content["data"].values())
            self.shown += size
            if self.shown <= MAX_SHOWN:
                data = {key: value for key, value in content["data"].items() if "widget" not in key}
                self.cells.append({"output_type": "display_data", "data": data, "metadata": {}})
        elif kind == "error":
            lines = [str(line)[:2000] for line in content["traceback"]][-30:]
            self.cells.append({"output_type": "error", "ename": content["ename"], "evalue": content["evalue"][:2000],
                               "traceback": lines})  # fmt: skip

    def _add_text(self, content: dict) -> None:
        room = MAX_OUTPUT - self.text
        self.text += len(content["text"])
        if room <= 0:
            return
        text = content["text"] if len(content["text"]) <= room else content["text"][:room] + "\n[more was cut]\n"
        self.cells.append({"output_type": "stream", "name": content["name"], "text": text})
