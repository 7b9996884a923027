"""What every recording of a drawing has: which steps it holds, their timesteps, and the bytes that are kept."""

from collections.abc import Iterable
from numbers import Integral

import torch

from ..errors import SdlabError

MAX_BYTES = 2_000_000_000  # every map of one SD 1.5 picture of 512 pixels and 50 steps takes 1.66 GB


class Recording:
    """Tensors by name, one for each recorded step: the U-Net's calls are counted from 0."""

    def __init__(self, names):
        self.steps: list[int] = []
        self._timesteps: list = []
        self._kept: dict[str, list[torch.Tensor]] = {name: [] for name in names}
        self._step: dict[str, torch.Tensor] = {}  # of the step that is being computed

    @property
    def timesteps(self) -> list[int]:
        """The timestep t of each recorded step."""
        return [int(torch.as_tensor(timestep).flatten()[0]) for timestep in self._timesteps]

    @property
    def nbytes(self) -> int:
        """The bytes that the recorded tensors take."""
        return sum(kept.nbytes for part in self._kept.values() for kept in part)

    def add_tensor(self, name: str, tensor: torch.Tensor) -> None:
        """Take in a tensor of the step that is being computed; it counts when the step is complete."""
        self._step[name] = tensor

    @property
    def step_bytes(self) -> int:
        """The bytes of what was taken in of the step that is being computed."""
        return sum(tensor.nbytes for tensor in self._step.values())

    def end_step(self, step: int, timestep, *, add_up: bool = False) -> None:
        """Keep what was taken in of this step, or add it to what there is; a step that was interrupted leaves none."""
        for name, tensor in self._step.items():
            if self._kept[name] and add_up:
                self._kept[name][0] += tensor
            else:
                self._kept[name].append(tensor)
        self._step = {}
        self.steps.append(step)
        self._timesteps.append(timestep)

    def check_drawn(self) -> None:
        """Raise SdlabError if no step was recorded."""
        if not self.steps:
            raise SdlabError("Nothing has been recorded yet: draw a picture inside the with block.")


def find_places(axis: str, wanted, recorded: Iterable[int] | None) -> list[int] | None:
    """Return where the ``wanted`` numbers stand among the ``recorded``; None for all."""
    if wanted is None:
        return None
    if recorded is None:
        advice = "reduce='none'" if axis == "steps" else "heads='all'"
        raise SdlabError(f"The {axis} were combined while drawing, so {wanted} cannot be chosen: record with {advice}.")
    wanted = list(wanted) if isinstance(wanted, Iterable) else [wanted]
    missing = [number for number in wanted if number not in recorded]
    if missing or not wanted:
        raise SdlabError(f"{axis}={wanted} cannot be chosen: recorded are {_short(list(recorded))}.")
    return [list(recorded).index(number) for number in wanted]


def _short(numbers: list[int]) -> str:
    ends = [*numbers[:3], "...", numbers[-1]] if len(numbers) > 5 else numbers
    return ", ".join(map(str, ends))


def check_positions(name: str, numbers) -> tuple | None:
    """Return ``numbers`` (or one number) as a tuple; raise SdlabError unless they are positions counted from 0."""
    if numbers is None:
        return None
    numbers = tuple(numbers) if isinstance(numbers, Iterable) else (numbers,)
    if not numbers or not all(isinstance(n, Integral) and not isinstance(n, bool) and n >= 0 for n in numbers):
        raise SdlabError(f"{name}={list(numbers)!r} must be whole numbers, counted from 0, at least one.")
    return tuple(dict.fromkeys(numbers))


def format_bytes(count: float) -> str:
    """Return a number of bytes in MB or GB."""
    return f"{count / 1e9:.2f} GB" if count >= 1e8 else f"{count / 1e6:.2f} MB"
