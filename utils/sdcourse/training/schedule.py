"""When a run ends and how its learning rate falls; signals that ask it to end early."""

import math
import signal
import threading
from dataclasses import dataclass


@dataclass
class Schedule:
    """Warm-up, then cosine decay over progress: the larger of steps done and minutes spent."""

    steps: int
    warmup_steps: int
    minutes: float | None = None
    decay: tuple | None = None  # (first step, number of steps, progress there): linear decay to 0 from there

    def progress(self, step, seconds):
        """Return how much of the run is over, 0..1."""
        if self.decay:
            start, count, before = self.decay
            return min(1.0, before + (1 - before) * (step - start) / count)
        spent = seconds / (60 * self.minutes) if self.minutes else 0.0
        return min(1.0, max(step / self.steps, spent))

    def rate(self, step, progress):
        """Return the learning rate at this step as a fraction of its peak."""
        warmup = min(1.0, (step + 1) / max(1, self.warmup_steps))
        if self.decay:
            before = self.decay[2]
            return warmup * 0.5 * (1 + math.cos(math.pi * before)) * (1 - progress) / max(1e-9, 1 - before)
        return warmup * 0.5 * (1 + math.cos(math.pi * progress))


class StopFlag:
    """SIGTERM and Ctrl-C ask the loop to save and leave; a second Ctrl-C interrupts at once."""

    def __init__(self):
        self.asked = False
        self._before = {}

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._before[number] = signal.signal(number, self._ask)
        return self

    def __exit__(self, *_):
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, number, _frame):
        if self.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.asked = True
