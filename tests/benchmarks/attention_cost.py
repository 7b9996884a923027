"""Compare what recording cross-attention costs, side by side in one process, with plain drawing and with others' tools.

    python tests/benchmarks/attention_cost.py --size pocket|reduced|sd15 --rounds 6 --steps 4

The arms take turns on the same pipeline, prompt, seed and scheduler (DDIM); each is held against the plain drawing of
its own round, the first round is dropped, and plain runs twice to show the noise. On a CPU the processor time of one
thread counts, on a GPU the time on its clock. All arms must show the same maps before a time is printed.
daam (0.2.0) and attention_map_diffusers (1.0.0) take part where they can be imported, and are skipped where not.
"""

import argparse
import contextlib
import importlib
import statistics
import sys
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from diffusers import DDIMScheduler

sys.path.insert(0, str(Path(__file__).parents[1]))

from sdlab import load_pipeline
from sdlab.compat import quiet
from sdlab.instruments import Meter, build_on_meta, record_attention
from sdlab.pipeline import choose_device
from tiny_pipeline import sd15_shaped

PROMPT, WORD = "a man with blue eyes", "eyes"
LAYER = "up_blocks.3.attentions.2"  # the last layer, of full size, that every arm records


@dataclass
class Arm:
    """One way to draw: how to open it, how to get the map [tokens, h, w] of ``LAYER`` and that of ``WORD``, and times.

    layer_map is the sum over steps of the mean over heads; kept_bytes is what the recording holds at the end.
    """

    name: str
    open: Callable = lambda pipe: contextlib.nullcontext()
    layer_map: Callable | None = None
    word_map: Callable = lambda found: None
    kept_bytes: Callable = lambda found: 0
    seconds: list = field(default_factory=list)
    after: list = field(default_factory=list)
    peak: list = field(default_factory=list)
    kept: float = 0.0


def our_arm(name: str, **options) -> Arm:
    """Return an arm of ``record_attention``."""

    def layer_map(maps):
        return maps[LAYER].float().sum(0)[0].mean(0)

    def word_map(maps):
        return maps.heat_map(WORD)

    return Arm(name, lambda pipe: record_attention(pipe, **options), layer_map, word_map, lambda maps: maps.nbytes)


def daam_arm() -> Arm:
    """Return DAAM's arm: it keeps a sum for each layer and head; layers count up the right side, then the left."""
    daam = importlib.import_module("daam")

    def layer_map(trace):
        last = max(layer for _, layer, _ in trace.all_heat_maps.ids_to_heatmaps if layer < 9)  # 9 on the right side
        heads = [m for (_, layer, _), m in trace.all_heat_maps.ids_to_heatmaps.items() if layer == last]
        return torch.stack(heads).mean(0)

    def word_map(trace):
        return trace.compute_global_heat_map().compute_word_heat_map(WORD).heatmap

    def kept_bytes(trace):
        return sum(heads.nbytes for heads in trace.all_heat_maps.ids_to_heatmaps.values())

    return Arm("daam", daam.trace, layer_map, word_map, kept_bytes)


def other_arm(mode: str) -> Arm:
    """Return an arm of attention_map_diffusers: "fast" keeps queries and keys, "exact" computes at once."""
    other = importlib.import_module("attention_map_diffusers")

    def layer_map(capture):
        maps = [record.data for record in capture.compute().records if f"{LAYER}." in record.layer_id]
        pixels = torch.stack([data[-1].float().mean(0) for data in maps]).sum(0)  # the conditional row
        return pixels.T.unflatten(1, (int(pixels.shape[0] ** 0.5), -1))

    def open_capture(pipe):
        return other.AttentionCapture(pipe, timesteps="all", mode=mode, allow_large_maps=True)

    return Arm(
        f"attention_map_diffusers {mode}",
        open_capture,
        layer_map,
        lambda capture: capture.compute(),
        lambda capture: capture.collector.peak_capture_bytes,
    )


def make_arms(names: list[str]) -> list[Arm]:
    """Return the arms that can run; say which cannot."""
    makers = {
        "plain": lambda: Arm("plain"),
        "again": lambda: Arm("plain again"),
        "sum": lambda: our_arm("sdlab sum, mean of heads", heads="mean"),
        "heads": lambda: our_arm("sdlab sum, every head"),
        "all": lambda: our_arm("sdlab everything (float16)", reduce="none"),
        "daam": daam_arm,
        "fast": lambda: other_arm("fast"),
        "exact": lambda: other_arm("exact"),
    }
    arms = []
    for name in ["plain", *(name for name in names or makers if name != "plain")]:
        try:
            arms.append(makers[name]())
        except ImportError as error:
            print(f"skipped: {name} ({error})")
    return arms


def make_pipeline(size: str, device: torch.device):
    """Return the pocket model, or random weights: SD 1.5 at a twentieth of its widths, or at full size."""
    if size == "pocket":
        pipe = load_pipeline("pocket", device="cpu")
    else:
        pipe = sd15_shaped(Path(tempfile.mkdtemp()), sample_size=64)
    if size == "sd15":
        pipe.unet = build_on_meta("sd15").to_empty(device=device)
        fill(pipe.unet)
        full = pipe.text_encoder.config.to_dict() | {"hidden_size": 768, "num_attention_heads": 12}
        pipe.text_encoder = type(pipe.text_encoder)(type(pipe.text_encoder.config)(**full))
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config, clip_sample=False, set_alpha_to_one=False)
    pipe.set_progress_bar_config(disable=True)
    return pipe.to(device)


@torch.no_grad()
def fill(unet) -> None:
    """Give every weight a random value, and the queries large ones, so that the attention is not even."""
    torch.manual_seed(0)
    for name, weight in unet.named_parameters():
        if weight.ndim > 1:
            bound = (12 if ".to_q." in name else 1) / weight[0].numel() ** 0.5
            weight.uniform_(-bound, bound)
        else:
            weight.fill_(float(name.endswith("weight")))
    unet.eval()


def run(arm: Arm, pipe, options, maps: dict) -> None:
    """Draw once with an arm, then compute its word map; note times and memory, and its maps for the comparison."""
    side = options.latent_size * 8
    with Meter(pipe.device) as drawing, arm.open(pipe) as found:
        pipe(
            PROMPT,
            num_inference_steps=options.steps,
            height=side,
            width=side,
            generator=torch.Generator().manual_seed(0),
            output_type="latent",
        )
    with Meter(pipe.device) as computing:
        arm.word_map(found)
    arm.seconds.append(drawing.seconds)
    arm.after.append(computing.seconds)
    arm.peak.append(drawing.peak)
    if arm.layer_map and arm.name not in maps:
        maps[arm.name] = arm.layer_map(found).cpu()
    arm.kept = arm.kept_bytes(found)


def check_maps(maps: dict) -> None:
    """Raise unless all arms show the same map of ``LAYER``."""
    reference = maps["sdlab sum, mean of heads"]
    for name, found in maps.items():
        difference = (found[: len(reference)] - reference).abs().max() / reference.abs().max()
        print(f"same map: {name}: largest difference {difference:.1e} of the largest value")
        if not difference < 2e-3:  # float16 storage rounds to 5e-4
            raise SystemExit(f"{name} shows another map: no times are compared.")


def report(arms: list[Arm]) -> None:
    """Print a line for each arm, against the plain drawing of the same round; the first round is dropped."""
    plain = arms[0]
    print(
        "| arm | time / plain, median (range) | with the word's map | peak above plain | kept |\n|---|---|---|---|---|"
    )
    for arm in arms:
        ratios = [one / base for one, base in zip(arm.seconds[1:], plain.seconds[1:], strict=True)]
        full = [(one + more) / base for one, more, base in zip(arm.seconds, arm.after, plain.seconds, strict=True)][1:]
        peak = statistics.median(one - base for one, base in zip(arm.peak[1:], plain.peak[1:], strict=True))
        print(
            f"| {arm.name} | {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f}) "
            f"| {statistics.median(full):.3f} | {peak / 1e6:.1f} MB | {arm.kept / 1e6:.1f} MB |"
        )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=["pocket", "reduced", "sd15"], default="pocket")
    parser.add_argument("--latent-size", type=int, help="by default 16 for pocket, else 64")
    parser.add_argument("--rounds", type=int, default=6, help="the first is dropped")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--device", help="by default the best there is")
    parser.add_argument("--arms", nargs="*", help="of plain again sum heads all daam fast exact; by default all")
    options = parser.parse_args()
    options.latent_size = options.latent_size or (16 if options.size == "pocket" else 64)
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    device = choose_device(options.device)
    arms, maps = make_arms(options.arms), {}
    with quiet():
        pipe = make_pipeline(options.size, device)
        for number in range(max(2, options.rounds)):
            for arm in list(arms[number % len(arms) :] + arms[: number % len(arms)]):
                try:
                    run(arm, pipe, options, maps)
                except RuntimeError as error:
                    print(f"skipped: {arm.name} cannot record this size ({str(error).splitlines()[0]})")
                    arms.remove(arm)
            if number == 0:
                check_maps(maps)
    once = statistics.median(arms[0].seconds[1:])
    print(
        f"{options.size} on {device}, {options.latent_size} x {options.latent_size} latents, {options.steps} steps, ",
        end="",
    )
    print(f"{options.rounds - 1} rounds, torch {torch.__version__}; plain: {once:.2f} s")
    report(arms)


if __name__ == "__main__":
    main()
