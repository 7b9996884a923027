"""Measure seconds and memory honestly: on a CPU the time of this process, on a GPU the time until it has finished."""

import gc
import statistics
import time
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path

import torch

from .errors import SdlabError


def now(device: torch.device | str = "cpu") -> float:
    """Return seconds: processor time of this process on a CPU (others do not count), the clock elsewhere."""
    kind = torch.device(device).type
    if kind == "cuda":
        torch.cuda.synchronize()  # a GPU works behind Python's back: wait until it is done
    elif kind == "mps":
        torch.mps.synchronize()
    return time.process_time() if kind == "cpu" and torch.get_num_threads() == 1 else time.perf_counter()


def seconds(call, *, repeats: int = 5, device: torch.device | str = "cpu") -> float:
    """Return the median seconds of ``call()`` over ``repeats`` runs, after one that is not counted."""
    return take_turns({"call": call}, rounds=repeats + 1, device=device)["call"][0]


def take_turns(
    calls: dict, *, ways: dict | None = None, rounds: int = 6, device: torch.device | str = "cpu"
) -> dict[str, tuple]:
    """Run each of ``calls`` (name -> function) once a round, in turns; return name -> (median, lowest, highest).

    In turns, so that a busy moment of the computer meets all of them; the first round is not counted.
    ways: name -> function that opens a context for the call; a call inside that is not counted lets it get ready.
    """
    if rounds < 2:
        raise SdlabError(f"rounds={rounds} leaves nothing to count: the first round is dropped, so take 2 or more.")
    names, times = list(calls), {name: [] for name in calls}
    for number in range(rounds):
        shift = number % len(names)
        for name in names[shift:] + names[:shift]:
            with (ways or {}).get(name, nullcontext)():
                if name in (ways or {}):
                    calls[name]()
                start = now(device)
                calls[name]()
                times[name].append(now(device) - start)
    return {name: (statistics.median(kept[1:]), min(kept[1:]), max(kept[1:])) for name, kept in times.items()}


@contextmanager
def part_seconds(pipe):
    """Yield a dict that fills with the seconds spent in "text_encoder", "unet" and "vae" while drawing inside."""
    spent, started = dict.fromkeys(("text_encoder", "unet", "vae"), 0.0), {}
    parts = {"text_encoder": pipe.text_encoder, "unet": pipe.unet, "vae": pipe.vae.decoder}

    def enter(name):
        started[name] = now(pipe.device)

    def leave(name):
        spent[name] += now(pipe.device) - started[name]

    with ExitStack() as stack:
        for name, part in parts.items():
            stack.callback(part.register_forward_pre_hook(lambda *_, name=name: enter(name)).remove)
            stack.callback(part.register_forward_hook(lambda *_, name=name: leave(name)).remove)
        yield spent


class Meter:
    """Measure the ``seconds`` and the ``peak`` of memory (bytes) of what runs inside; on a CPU the whole process's."""

    def __init__(self, device: torch.device | str):
        self.device = torch.device(device)
        self.seconds = self.peak = None

    def __enter__(self):
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        elif Path("/proc/self/clear_refs").exists():
            Path("/proc/self/clear_refs").write_text("5")  # Linux: the peak of the resident memory starts anew
        self.start = now(self.device)
        return self

    def __exit__(self, *_):
        self.seconds = now(self.device) - self.start
        if self.device.type == "cuda":
            self.peak = torch.cuda.max_memory_allocated()
        elif Path("/proc/self/status").exists():
            lines = Path("/proc/self/status").read_text().splitlines()
            self.peak = next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
