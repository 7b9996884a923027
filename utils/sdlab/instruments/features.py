"""Record what flows through a U-Net while it draws: feature maps, skip connections, the timestep embedding.

Everything is cloned: parts of diffusers (FreeU, for one) write into these tensors later on.
"""

from collections.abc import Iterable
from contextlib import ExitStack
from functools import partial

import torch

from ..compat import unet_of
from ..errors import SdlabError, context
from .recording import MAX_BYTES, Recording, check_positions, format_bytes
from .skips import SKIPS, _skip_readers
from .unet_calls import follow_calls


class Features(Recording):
    """What was recorded. ``features[name]`` is a tensor [steps, images, ...]: [.., channels, height, width] for blocks.

    ``features.skip(i)`` is the i-th skip connection [steps, images, channels, height, width], in the order in which
    the right-hand side reads them.
    """

    def __init__(self, names: list[str]):
        super().__init__(names)
        self.names = names

    def __repr__(self) -> str:
        return f"Features({len(self.names)} parts, {len(self.steps)} steps, {self.nbytes / 1e6:.1f} MB)"

    def __getitem__(self, name: str) -> torch.Tensor:
        """Return what left the module ``name``: [steps, images, ...]."""
        if name not in self._kept:
            raise SdlabError(f"{name!r} was not recorded: recorded are {', '.join(self.names)}.")
        self.check_drawn()
        return torch.stack(self._kept[name][: len(self.steps)])

    def skip(self, index: int) -> torch.Tensor:
        """Return skip connection number ``index`` [steps, images, channels, height, width]; 0 is read first."""
        skips = [name for name in self.names if name.startswith(f"{SKIPS}.")]
        if not skips:
            raise SdlabError("The skips were not recorded: put 'skips' among the names of record_features.")
        if not 0 <= index < len(skips):
            raise SdlabError(f"There is no skip {index}: this U-Net has the skips 0 to {len(skips) - 1}.")
        return self[skips[index]]


@context
def record_features(
    pipe,
    names: str | Iterable[str],
    *,
    steps: Iterable[int] | None = None,
    rows: str = "cond",
    dtype: torch.dtype | None = None,
    max_bytes: float = MAX_BYTES,
):
    """Record the outputs of parts of the U-Net: ``with record_features(pipe, "mid_block") as features: pipe(prompt)``.

    pipe: a pipeline or a U-Net. names: of modules as in ``unet.named_modules()`` or ``unet_table``: "down_blocks.0",
        "up_blocks.1.resnets.0", "time_embedding"; and "skips" for all skip connections.
    steps: the U-Net calls to record, 0 is the first; by default all. rows: of the batch, "cond", "uncond" or "both".
    dtype: of what is kept, by default as it comes. max_bytes: to keep more is refused, in the first step.

    Gives ``Features``. Nothing is replaced, and every hook is gone at the end, also after an error.
    Raises SdlabError: no such name, too much memory, compiled U-Net, a second drawing, no such step.
    """
    unet = unet_of(pipe)
    wanted = list(dict.fromkeys([names] if isinstance(names, str) else names))
    modules = {name: _find(unet, name) for name in wanted if name != SKIPS}
    readers = _skip_readers(unet) if SKIPS in wanted else {}
    if not modules and not readers:
        raise SdlabError("names is empty: name parts of the U-Net, such as 'mid_block', or 'skips'.")
    features = Features([*modules, *readers])
    with ExitStack() as stack:
        calls = stack.enter_context(follow_calls(pipe, rows))
        keeper = _Keeper(features, calls, check_positions("steps", steps), dtype, max_bytes)
        for name, module in modules.items():
            stack.callback(module.register_forward_hook(partial(keeper.keep_output, name)).remove)
        for name, (block, below) in readers.items():
            stack.callback(block.register_forward_pre_hook(partial(keeper.keep_skip, name, below)).remove)
        stack.callback(unet.register_forward_hook(keeper.end_step).remove)
        yield features
    if calls.step >= 0 and not any(map(keeper.wants, range(calls.step + 1))):
        raise SdlabError(f"steps={list(keeper.steps)} fits no step: the drawing had the steps 0 to {calls.step}.")


def _find(unet, name: str):
    try:
        return unet.get_submodule(name) if name else unet
    except AttributeError:
        raise SdlabError(
            f"The U-Net has no part {name!r}: use a name of unet_table(pipe), such as 'down_blocks.0', or 'skips'."
        ) from None


class _Keeper:
    """The hooks of one recording of features."""

    def __init__(self, features: Features, calls, steps, dtype, max_bytes: float):
        self.features, self.calls, self.steps = features, calls, steps
        self.dtype, self.max_bytes = dtype, max_bytes

    def wants(self, step: int) -> bool:
        """Say whether U-Net call number ``step`` is recorded."""
        return self.steps is None or step in self.steps

    def keep_output(self, name: str, _module, _args, output) -> None:
        """Forward hook: keep what leaves a module, the first tensor where there are several."""
        self._keep(name, output if torch.is_tensor(output) else output[0])

    def keep_skip(self, name: str, below: int, _module, args) -> None:
        """Forward pre-hook of a right-hand ResnetBlock: keep the channels behind those from below."""
        self._keep(name, args[0][:, below:])

    def end_step(self, _unet, _args, _output) -> None:
        """Forward hook of the U-Net: the step is complete."""
        if self.wants(self.calls.step):
            self.features.end_step(self.calls.step, self.calls.timestep)

    def _keep(self, name: str, output: torch.Tensor) -> None:
        if not self.wants(self.calls.step):
            return
        rows = self.calls.rows if len(output) == self.calls.shape[0] else slice(None)  # time_proj may have one row
        kept = output[rows].detach().to(self.dtype or output.dtype, copy=True, memory_format=torch.contiguous_format)
        self.features.add_tensor(name, kept)
        ahead = sum(self.wants(step) for step in range(self.calls.step, self.calls.expected))
        self._check_bytes(self.features.nbytes + ahead * self.features.step_bytes)

    def _check_bytes(self, needed: int) -> None:
        if needed > self.max_bytes:
            raise SdlabError(
                f"These features would take at least {format_bytes(needed)}, more than max_bytes="
                f"{format_bytes(self.max_bytes)}: choose steps=[0, ...] or fewer names, or dtype=torch.float16."
            )
