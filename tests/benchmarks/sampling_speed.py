"""Print the seconds one picture takes (20 steps, guidance): python tests/benchmarks/sampling_speed.py --repeats 10."""

import argparse
import math
import statistics
import time

import torch

from sdlab import draw, load_pipeline
from sdlab.drawing import DEFAULT_GUIDANCE, DEFAULT_STEPS


def measure(pipe, repeats: int) -> list[float]:
    """Return the seconds of ``repeats`` pictures, after one to warm up."""
    draw(pipe, "a man with blue eyes")
    seconds = []
    for seed in range(repeats):
        start = time.perf_counter()
        draw(pipe, "a man with blue eyes", seed=seed)  # ends with a PIL picture, so a GPU has finished too
        seconds.append(time.perf_counter() - start)
    return seconds


def main() -> None:
    """Measure and print one line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--device", help="by default the best there is")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=10)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    pipe = load_pipeline(options.model, device=options.device)
    seconds = measure(pipe, max(2, options.repeats))
    mean, half = statistics.mean(seconds), 1.96 * statistics.stdev(seconds) / math.sqrt(len(seconds))
    print(
        f"{options.model} on {pipe.device}, {options.threads} threads, {DEFAULT_STEPS} steps, "
        f"guidance {DEFAULT_GUIDANCE}: {mean:.2f} s a picture (95 % interval {mean - half:.2f} to {mean + half:.2f}, "
        f"best {min(seconds):.2f}, n = {len(seconds)})"
    )


if __name__ == "__main__":
    main()
