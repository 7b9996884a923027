"""What a call costs: FLOPs, seconds and memory, measured honestly.

On a CPU the time of this process counts, on a GPU the time until it has finished.
"""

import gc
import statistics
import time
from contextlib import ExitStack, nullcontext
from pathlib import Path

import torch

from ..errors import SdlabError, context

KINDS = {  # what torch's counter calls an operation -> what it does in the network
    "convolution": "convolution",
    "addmm": "linear",
    "mm": "linear",
    "bmm": "attention",
    "baddbmm": "attention",
}


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


@context
def part_seconds(pipe):
    """Yield a dict that fills with the seconds spent in "text_encoder", "unet" and "vae" while drawing inside."""
    spent, started = dict.fromkeys(("text_encoder", "unet", "vae"), 0.0), {}
    parts = [("text_encoder", pipe.text_encoder), ("text_encoder", getattr(pipe, "text_encoder_2", None))]
    parts += [("unet", pipe.unet), ("vae", pipe.vae.decoder)]

    def enter(name):
        started[name] = now(pipe.device)

    def leave(name):
        spent[name] += now(pipe.device) - started[name]

    with ExitStack() as stack:
        for name, part in ((name, part) for name, part in parts if part is not None):
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


def count_part(parts: dict, part: str, *, size: int | None = None) -> dict[str, int]:
    """Return the FLOPs by kind of one call of a part, for one row; ``size``: side of the latents.

    For the VAE the decoding counts, which is all that text to image needs of it.
    """
    unet = parts["unet"].config
    size = size or unet.sample_size
    tokens = parts["text_encoder"].config.max_position_embeddings
    calls = {
        "text_encoder": lambda: parts[part](torch.zeros(1, tokens, dtype=torch.long)),
        "unet": lambda: parts[part](
            torch.empty(1, unet.in_channels, size, size),
            torch.zeros(1),
            torch.empty(1, tokens, unet.cross_attention_dim),
        ),
        "vae": lambda: parts[part].decode(torch.empty(1, unet.in_channels, size, size)),
    }
    return count_flops(calls[part])


def count_flops(call, *, device: str | None = "meta") -> dict[str, int]:
    """Run ``call()``; return its FLOPs by kind: convolution, linear, attention. Their sum is all of them.

    "attention" is what grows with the square of the number of cells: queries times keys, and weights times values;
    the layers that make queries, keys and values are "linear". Additions and activations are not counted.
    device: where tensors made by the call lie, by default torch's meta device; None leaves that to the call.
    """
    from torch.utils.flop_counter import FlopCounterMode

    place = nullcontext() if device is None else torch.device(device)
    with FlopCounterMode(display=False) as counter, torch.no_grad(), place:
        call()
    kinds = dict.fromkeys(("convolution", "linear", "attention"), 0)
    for operation, count in counter.get_flop_counts()["Global"].items():
        kinds[KINDS.get(str(operation).split(".")[-1], "attention")] += count
    return kinds


@context
def count_calls(pipe):
    """Count within the ``with`` block how often the VAE's encoder, the U-Net and the VAE's decoder are called."""
    parts = {"encoder": pipe.vae.encoder, "unet": pipe.unet, "decoder": pipe.vae.decoder}
    calls = dict.fromkeys(parts, 0)

    def hook(name):
        def count(*_):
            calls[name] += 1

        return count

    handles = [part.register_forward_hook(hook(name)) for name, part in parts.items()]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def unet_flops(config, side: int) -> int:
    """Return the multiplications and additions of one call of a U-Net of ``config`` on [1, channels, side, side].

    Built on torch's meta device: shapes without numbers, so it needs neither memory nor time. 77 text places.
    """
    from diffusers import UNet2DConditionModel

    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(config)
        sample = torch.empty(1, unet.config.in_channels, side, side)
        condition = torch.empty(1, 77, unet.config.cross_attention_dim)
        timestep = torch.empty(())
    return sum(count_flops(lambda: unet(sample, timestep, encoder_hidden_states=condition)).values())
