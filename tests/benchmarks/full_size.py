"""Measure Stable Diffusion 1.5 at full size, random weights, with and without every option of lesson 12; keep a table.

    python tests/benchmarks/full_size.py                     # on a GPU: 512 px, 50 steps, guidance; about five minutes
    python tests/benchmarks/full_size.py --calls 1           # on a CPU: one U-Net call a variant; about five minutes
    python tests/benchmarks/full_size.py --size reduced      # a twentieth of the widths: seconds

Nothing is downloaded; where sdlab is not installed, set PYTHONPATH=utils. On a CPU that others use too, give it time
with --minutes 60 (processor time is what counts there, not the clock). DATE-DEVICE.json and .md go to
utils/sdcourse/measured (or --out), where lesson 12 finds them; they are written anew after every variant, so a run
that is cut off keeps what it has. A variant that cannot run on this device is noted with the reason. Every variant
answers the same input, and must give the same answer up to rounding.
"""

import argparse
import contextlib
import datetime
import json
import platform
import re
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import diffusers
import torch
import transformers

sys.path.insert(0, str(Path(__file__).parents[1]))

from sdcourse.lessons.lesson_12 import sizes_of
from sdcourse.lessons.lesson_12_measured import FOLDER, to_markdown
from sdlab import draw, encode_prompt, load_pipeline
from sdlab.compat import quiet
from sdlab.instruments import Meter, part_seconds, random_pipeline, record_attention, take_turns
from sdlab.instruments.costs import now
from sdlab.pipeline import choose_device
from sdlab.speedups import cache_text, channels_last, use_kernel

PROMPT = "a man with blue eyes"
GUIDANCE = 7.5
PEAKS = {  # TFLOP/s of half precision on the tensor cores, dense, from NVIDIA's data sheet of each product
    "H200": 989.4,
    "H100 PCIe": 756.0,
    "H100 NVL": 835.5,
    "H100": 989.4,
    "A100": 312.0,
    "V100": 125.0,
    "L40S": 362.0,
    "L4": 121.0,
    "T4": 65.0,
}


@dataclass(frozen=True)
class Variant:
    """One way to run the same pipeline. ``open`` holds for all of it, ``each`` for one drawing.

    tolerance: how far the U-Net's answer may be from that of the first variant of its number type, which itself is
        held against float32's; in standard deviations of that answer.
    """

    name: str
    open: Callable = lambda pipe: contextlib.nullcontext()
    each: Callable = lambda pipe: contextlib.nullcontext()
    dtype: torch.dtype = torch.float32
    steps: float = 1.0
    tolerance: float = 0.05


@contextlib.contextmanager
def compiled(pipe, mode: str | None):
    """Draw with a U-Net that torch.compile has turned into kernels of its own."""
    own = pipe.unet
    pipe.unet = torch.compile(own, mode=mode)
    try:
        yield
    finally:
        pipe.unet = own
        torch.compiler.reset()


def list_variants(options, device: torch.device) -> list[Variant]:
    """Return what is tried, in order: float32, then half precision, on a GPU with all the options on half precision."""
    half = torch.float16 if device.type == "cuda" else torch.bfloat16
    base = half if device.type == "cuda" else torch.float32
    name = str(base).removeprefix("torch.")
    ways = [
        Variant(f"{name} again", dtype=base),
        Variant("channels_last", channels_last, dtype=base),
        Variant("keys and values of the text kept", cache_text, dtype=base, tolerance=1e-3),
        Variant("attention recorded", each=record, dtype=base, tolerance=1e-3),
        Variant("attention kernel: math", lambda pipe: use_kernel("math"), dtype=base),
        Variant("attention kernel: efficient", lambda pipe: use_kernel("efficient"), dtype=base),
        Variant("attention kernel: flash", lambda pipe: use_kernel("flash"), dtype=base),
    ]
    if options.pictures:
        ways.append(Variant("half the steps", dtype=base, steps=0.5))
    if options.compile:
        ways += [
            Variant("torch.compile", lambda pipe: compiled(pipe, None), dtype=base),
            Variant("torch.compile, CUDA graphs", lambda pipe: compiled(pipe, "reduce-overhead"), dtype=base),
        ]
    plain = [Variant("float32")]
    if device.type == "cuda":
        return [*plain, Variant("bfloat16", dtype=torch.bfloat16, tolerance=0.3), Variant(name, dtype=base), *ways]
    return [*plain, *ways, Variant("bfloat16", dtype=half, tolerance=0.3)]


def record(pipe):
    """Record every cross-attention of one drawing, summed over steps and heads."""
    return record_attention(pipe, heads="mean", prompt=PROMPT)


class Bench:
    """The pipeline under test, one input for its U-Net, and the answers of the first variant of each number type."""

    def __init__(self, options, device: torch.device):
        self.options, self.device = options, device
        self.pipe = make_pipeline(options.size, device)
        self.plan = sizes_of("sd15" if options.size == "sd15" else self.pipe, name=options.size)
        generator = torch.Generator().manual_seed(0)
        self.latents = torch.randn((2, *self.plan.latents), generator=generator)
        self.references = {}

    def measure(self, variant: Variant) -> dict:
        """Return one row of the table."""
        with quiet():
            if self.pipe.unet.dtype != variant.dtype:
                self.pipe.to(variant.dtype)
        with variant.open(self.pipe), quiet():
            row = {"variant": variant.name, "dtype": str(variant.dtype).removeprefix("torch.")}
            row.update(self.calls(variant))
            steps = max(1, round(self.options.steps * variant.steps))
            if self.options.pictures:
                row.update(self.pictures(variant, steps))
            row["steps"], row["unet_calls"] = steps, steps + 1  # PNDM takes one call more than steps
        flops = 2 * self.plan.flops["unet"]
        row["tflops"] = flops / row["seconds_call"] / 1e12
        if self.options.peak and variant.dtype != torch.float32:
            row["share_of_peak"] = row["tflops"] / self.options.peak
        return row

    @torch.no_grad()
    def calls(self, variant: Variant) -> dict:
        """Time U-Net calls of two rows, with and without the prompt, and hold the answer against the plain one's."""
        pipe, latents = self.pipe, self.latents.to(self.device, variant.dtype)
        prompt_embeds, negative_prompt_embeds = encode_prompt(pipe, PROMPT)
        embeds = torch.cat([negative_prompt_embeds, prompt_embeds])
        t = torch.tensor(500, device=self.device)

        def call():
            return pipe.unet(latents, t, encoder_hidden_states=embeds, return_dict=False)[0]

        times = []
        with variant.each(pipe), Meter(self.device) as meter:
            call()  # warms up, or compiles
            for _ in range(self.options.rounds):
                start = now(self.device)
                for _ in range(self.options.calls):
                    answer = call()
                times.append((now(self.device) - start) / self.options.calls)
            answer = answer.float().cpu()
        reference = self.references.get(variant.dtype, next(iter(self.references.values()), answer))
        self.references.setdefault(variant.dtype, answer)
        difference = ((answer - reference).abs().max() / reference.std()).item()
        if not difference <= variant.tolerance:
            raise RuntimeError(f"its answer differs by {difference:.3g} standard deviations")
        return {"seconds_call": statistics.median(times), "peak_call": meter.peak, "difference": difference}

    def pictures(self, variant: Variant, steps: int) -> dict:
        """Time whole pictures, from the prompt to the pixels."""
        times, peaks = [], []
        for number in range(self.options.repeats + 1):
            with variant.each(self.pipe), Meter(self.device) as meter:
                self.draw(steps if number else 2)  # the first one warms up
            times.append(meter.seconds)
            peaks.append(meter.peak)
        return {"seconds_picture": statistics.median(times[1:]), "peak_picture": max(peaks[1:])}

    def draw(self, steps: int):
        return self.pipe(
            PROMPT,
            num_inference_steps=steps,
            guidance_scale=GUIDANCE,
            generator=torch.Generator().manual_seed(0),
            output_type="pt",
        ).images

    def parts(self) -> dict:
        """Return the seconds of each part: of a whole picture, or of one call each with the rest computed from it."""
        steps = self.options.steps if self.options.pictures else 1
        with part_seconds(self.pipe) as spent, quiet():
            self.draw(steps)  # PNDM: one step is one call, more are one call more than steps
        calls, measured = self.options.steps + 1, (steps + 1 if steps > 1 else 1)
        spent["unet"] *= calls / measured
        return {**spent, "unet_calls": calls, "unet_calls_measured": measured}


def make_pipeline(size: str, device: torch.device):
    """Return SD 1.5 at full size, or every block of it at a twentieth of its widths, with random weights."""
    if size == "sd15":
        return random_pipeline("sd15", device=device)
    from tiny_pipeline import sd15_shaped

    with tempfile.TemporaryDirectory() as folder:
        return random_pipeline(sd15_shaped(Path(folder)), device=device)


def measure_pocket(device: torch.device, rounds: int, steps: int) -> dict:
    """Return pictures a second of the pocket model: plain diffusers, and what the course adds, in turns."""
    pipe = load_pipeline("pocket", device=device)
    settings = {"num_inference_steps": steps, "guidance_scale": 4.0}

    def plain(count=1):
        generators = [torch.Generator().manual_seed(seed) for seed in range(count)]
        pipe(PROMPT, generator=generators, num_images_per_prompt=count, **settings)

    def recorded():
        with record_attention(pipe, heads="mean"):
            plain()

    def kept():
        with cache_text(pipe):
            plain()

    calls = {
        "plain diffusers": plain,
        "plain diffusers again": plain,
        "sdlab.draw": lambda: draw(pipe, PROMPT, num_inference_steps=steps),
        "attention recorded": recorded,
        "keys and values of the text kept": kept,
        "plain diffusers, 8 pictures a batch": lambda: plain(8),
    }
    with quiet():
        found = take_turns(calls, rounds=rounds, device=device)
    return {name: (8 if "8" in name else 1) / median for name, (median, _, _) in found.items()}


def matrix_tflops(device: torch.device, dtype: torch.dtype) -> float:
    """Return the TFLOP/s of one large matrix product on this device: what it really reaches."""
    size = 8192 if device.type == "cuda" else 1024
    left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    times = []
    for _ in range(6):
        start = now(device)
        left @ right
        times.append(now(device) - start)
    return 2 * size**3 / statistics.median(times[1:]) / 1e12


def device_name(device: torch.device) -> str:
    """Return the name of the GPU, or of the processor."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    info = Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*:\s*(.+)", info.read_text()) if info.is_file() else []
    return names[0] if names else platform.processor() or platform.machine()


def header(options, device: torch.device, plan_) -> dict:
    """Return what the figures belong to: date, device, versions, settings."""
    return {
        "date": datetime.date.today().isoformat(),
        "device": device.type,
        "name": device_name(device),
        "threads": torch.get_num_threads() if device.type == "cpu" else None,
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "cuda": torch.version.cuda,
            "diffusers": diffusers.__version__,
            "transformers": transformers.__version__,
        },
        "size": options.size,
        "weights": "random",
        "picture": plan_.picture,
        "steps": options.steps,
        "guidance_scale": GUIDANCE,
        "rows": 2,
        "flops_unet_row": plan_.flops["unet"],
        "peak_tflops": options.peak,
        "peak_source": options.peak and (options.peak_source or "NVIDIA's data sheet, half precision, dense"),
    }


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Read the command line and fill in what depends on the device."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=["sd15", "reduced"], default="sd15")
    parser.add_argument("--device", help="by default the best there is")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--calls", type=int, help="U-Net calls timed together; by default 10 on a GPU, 1 on a CPU")
    parser.add_argument("--rounds", type=int, help="how often; the median counts; by default 3 on a GPU, 1 on a CPU")
    parser.add_argument("--repeats", type=int, default=3, help="whole pictures a variant")
    parser.add_argument("--pictures", action=argparse.BooleanOptionalAction, help="by default on a GPU")
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, help="by default on a GPU")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--peak", type=float, help="TFLOP/s of half precision; by default from a table of devices")
    parser.add_argument("--minutes", type=float, default=6, help="start no variant after this time")
    parser.add_argument("--out", type=Path, default=FOLDER)
    options = parser.parse_args(argv)
    device = choose_device(options.device)
    gpu = device.type == "cuda"
    options.device, options.peak_source = device, "given with --peak" if options.peak else None
    options.calls, options.rounds = options.calls or (10 if gpu else 1), options.rounds or (3 if gpu else 1)
    options.pictures = gpu if options.pictures is None else options.pictures
    options.compile = gpu if options.compile is None else options.compile
    if gpu and options.peak is None:
        name = torch.cuda.get_device_name(device)
        options.peak = next((peak for part, peak in PEAKS.items() if part in name), None)
    return options


def main(argv: list[str] | None = None) -> Path:
    """Measure, write after every variant, print the table; return the JSON file."""
    options, start = parse(argv), time.perf_counter()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(options.threads)
    device = options.device
    with quiet():
        bench = Bench(options, device)
        result = header(options, device, bench.plan)
        half = torch.float16 if device.type == "cuda" else torch.bfloat16
        rates = {dtype: matrix_tflops(device, dtype) for dtype in (torch.float32, half)}
        result["matrix_tflops"] = {str(dtype).removeprefix("torch."): rate for dtype, rate in rates.items()}
        result["pocket_pictures_per_second"] = measure_pocket(
            device, rounds=4 if options.size == "sd15" else 2, steps=min(20, options.steps)
        )
    result["rows_measured"], result["not_measured"], result["parts"] = [], {}, {}
    options.out.mkdir(parents=True, exist_ok=True)
    slug = re.sub(r"[^a-z0-9]+", "-", f"{device.type} {result['name']}".lower()).strip("-")
    suffix = "" if options.size == "sd15" else f"-{options.size}"
    file = options.out / f"{result['date']}-{slug}{suffix}.json"
    base = None
    for variant in list_variants(options, device):
        note = add_row(bench, variant, result, late=time.perf_counter() - start > 60 * options.minutes)
        print(f"{time.perf_counter() - start:5.0f} s  {variant.name}{note}", file=sys.stderr, flush=True)
        base = base or (result["rows_measured"] and variant.dtype == (half if device.type == "cuda" else torch.float32))
        if base and not result["parts"]:
            result["parts"] = {"variant": variant.name, **bench.parts()}
        result["minutes"] = round((time.perf_counter() - start) / 60, 1)
        file.write_text(json.dumps(result, indent=1) + "\n")
        file.with_suffix(".md").write_text(to_markdown(result) + "\n")
    print(to_markdown(result))
    return file


def add_row(bench: Bench, variant: Variant, result: dict, late: bool) -> str:
    """Measure one variant into ``result``, or note why not; return the note."""
    try:
        if late:
            raise RuntimeError("the time was over")
        result["rows_measured"].append(bench.measure(variant))
        return ""
    except Exception as error:  # another device, another torch: the table says so, and the rest goes on
        lines = str(error).strip().splitlines()
        result["not_measured"][variant.name] = f"{type(error).__name__}: {lines[0][:160] if lines else ''}"
        return f": {result['not_measured'][variant.name]}"


if __name__ == "__main__":
    main()
