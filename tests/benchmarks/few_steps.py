"""Print what few steps cost and what is left of the picture: python tests/benchmarks/few_steps.py --n 100.

For each sampler and number of steps: calls of the U-Net, seconds a picture (decode included) beside those of plain
diffusers without this package in the same run, the share of prompts with all five attributes right, and the Fréchet
distance to fresh renders.
"""

import argparse
import statistics
import time

import numpy as np
import torch
from diffusers import DPMSolverMultistepScheduler, PNDMScheduler, StableDiffusionPipeline

from sdcourse.judging import image_features, load_clip, load_judge
from sdcourse.judging.evaluate import draw_prompts, prompts, score_pictures
from sdcourse.judging.looks import frechet
from sdcourse.judging.scores import RENDER_SEED, world_of_model
from sdcourse.portraits import draw_portrait, plan_portrait
from sdlab import draw, load_pipeline
from sdlab.compat import quiet
from sdlab.drawing import DEFAULT_GUIDANCE
from sdlab.instruments import count_calls

PNDM, DPM = (PNDMScheduler, {"skip_prk_steps": True}), (DPMSolverMultistepScheduler, {"timestep_spacing": "trailing"})
ROWS = (("pndm", *PNDM, 20), *(("dpm, trailing", *DPM, steps) for steps in (20, 8, 6, 4, 3, 2)))
PROMPT = "a man with blue eyes"


def seconds_of(call, repeats: int) -> float:
    """Return the median seconds of ``repeats`` calls, after one to warm up."""
    call()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--n", type=int, default=100, help="pictures behind each share and distance (default 100)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    return parser


def main() -> None:
    """Measure and print one row a setting."""
    options = make_parser().parse_args()
    torch.set_num_threads(options.threads)
    pipe, judge, clip = load_pipeline(options.model, device="cpu"), load_judge(), load_clip()
    with quiet(progress=True):
        plain = StableDiffusionPipeline.from_pretrained(pipe.name_or_path, local_files_only=True)
    plain.set_progress_bar_config(disable=True)
    world = world_of_model(pipe)
    captions = prompts(options.n, options.seed, world=world)
    plans = [plan_portrait(RENDER_SEED + index, split="any", world=world) for index in range(options.n)]
    fresh = image_features(clip, [draw_portrait(plan).image for plan in plans]).numpy()
    print("sampler         steps  calls  seconds  diffusers  all five right            Frechet x 1000 (interval)")
    for name, kind, settings, steps in ROWS:
        for one in (pipe, plain):
            one.scheduler = kind.from_config(one.scheduler.config, **settings)
        with count_calls(pipe) as calls:
            draw(pipe, PROMPT, num_inference_steps=steps)
        few = {"num_inference_steps": steps, "guidance_scale": DEFAULT_GUIDANCE}
        ours = seconds_of(lambda few=few: draw(pipe, PROMPT, **few), options.repeats)
        theirs = seconds_of(lambda few=few: plain(PROMPT, **few), options.repeats)
        images = draw_prompts(pipe, [item.text for item in captions], seed=options.seed, **few)
        right = score_pictures(images, [item.named for item in captions], judge)["joint"]
        far = frechet(image_features(clip, [np.asarray(image) for image in images]).numpy(), fresh)
        print(
            f"{name:<15} {steps:>5}  {calls['unet']:>5}  {ours:>7.2f}  {theirs:>9.2f}  "
            f"{right['share']:.3f} {right['interval']}  {far['distance']:.1f} {far['interval']}",
            flush=True,
        )


if __name__ == "__main__":
    main()
