"""The training report of the model card: what was learned when, and what the model still gets wrong, as pictures."""

import base64
import json
from pathlib import Path

import numpy as np

from sdlab import SdlabError, load_pipeline
from sdlab.drawing import DEFAULT_GUIDANCE, DEFAULT_STEPS
from sdlab.figures import new_figure, show_images

from ..judging import draw_prompts, judge_images, load_judge, share
from ..judging.evaluate import prompts, score_pictures
from ..portraits import NAMES, plan_portrait
from .checkpoints import averaged_weights, load_state, whole_run
from .data import VALIDATION_SEED, world_of
from .log import read_log
from .unet import validation_captions

LEARNING, LEARNING_PICTURE, FAILURES_PICTURE = "learning.json", "learning.png", "failures.jpg"
MOST_FAILURES = 18


def write_learning(folder, runs, *, n=100, seed=0):
    """Write what the U-Net of a model ``folder`` could do after how many views; return the file's path.

    runs: the stages of its training in their order. Each gives the scores in its log (few prompts) and its kept
    snapshots, which draw the first ``n`` prompts of ``sdlab evaluate`` with the folder's other parts. What was measured
    of stages before the first of them stays.
    """
    folder = Path(folder)
    points = _measured_before(folder, runs[0])
    pipe, judge = load_pipeline(folder, device="cpu"), load_judge()
    pipe.set_progress_bar_config(disable=True)
    for run in map(Path, runs):
        state = load_state(run)
        _, before = whole_run(state["before"])
        points += [point | {"views": before + point["views"]} for point in _logged(run, state["settings"])]
        for file in sorted((run / "snapshots").glob("*.pt")):
            views, attributes = _measured(file, pipe, judge, n, seed)
            point = {"views": before + views, "prompts": n, "guidance_scale": DEFAULT_GUIDANCE}
            points.append(point | {"attributes": attributes})
    if not points:
        raise SdlabError(f"Neither logged scores nor snapshots in {', '.join(map(str, runs))}; name runs of the U-Net.")
    points = sorted(points, key=lambda point: point["views"])
    (folder / LEARNING).write_text(json.dumps(points, indent=1) + "\n")
    return folder / LEARNING


def _measured_before(folder, run):
    """Return the points in the file that lie before the views at which a run began."""
    known = json.loads((folder / LEARNING).read_text()) if (folder / LEARNING).is_file() else []
    _, began = whole_run(load_state(run)["before"])
    return [point for point in known if point["views"] <= began]


def _logged(run, settings):
    """Return a point for every scored report in a run's log, with the n that its few prompts give."""
    count = settings["score_prompts"]
    world = world_of(settings["data"])
    plans = [plan_portrait(VALIDATION_SEED + index, split="any", world=world) for index in range(count)]
    named = [item.named for item in validation_captions(plans)]
    times = {name: sum(name in one for one in named) for name in NAMES}
    return [
        {
            "views": entry["views"],
            "prompts": count,
            "guidance_scale": settings["score_guidance"],
            "attributes": {
                name: share(round(value * times[name]), times[name]) for name, value in entry["accuracy"].items()
            },
        }
        for entry in read_log(run)
        if "accuracy" in entry
    ]


def _measured(file, pipe, judge, n, seed):
    state = load_state(file)
    pipe.unet.load_state_dict(
        {name.removeprefix("unet."): weight for name, weight in averaged_weights(state).items()}
    )
    captions = prompts(n, seed)
    images = draw_prompts(pipe, [item.text for item in captions], seed=seed)
    return state["views"], score_pictures(images, [item.named for item in captions], judge)["attributes"]


def plot_learning(points):
    """Return a figure with one panel per attribute: the share drawn right, with 95 % intervals, over the views."""
    figure, axes = new_figure(
        2, 4, width=9, height=4, alt="One panel for each of eight attributes: the share drawn right against the views"
    )
    for name, axis in zip(NAMES, axes.flat, strict=True):
        found = [(point["views"] / 1000, point["attributes"].get(name, share(0, 0))) for point in points]
        found = [(views, item) for views, item in found if item["n"]]
        middle = [item["share"] for _, item in found]
        ends = np.array([item["interval"] for _, item in found]).T
        reach = np.abs(ends - middle)
        axis.errorbar([views for views, _ in found], middle, yerr=reach, marker="o", markersize=3, linewidth=1)
        axis.set(title=name, ylim=(0, 1.03), xlim=(0, None))
    for axis in axes[1]:
        axis.set_xlabel("thousand views")
    for axis in axes[:, 0]:
        axis.set_ylabel("right")
    return figure


def find_failures(folder, *, n=60, seed=0, steps=DEFAULT_STEPS, guidance=DEFAULT_GUIDANCE):
    """Draw the first ``n`` prompts of ``sdlab evaluate``; return (pictures, notes) of those that miss what is named."""
    captions = prompts(n, seed)
    pipe = load_pipeline(folder, device="cpu")
    pipe.set_progress_bar_config(disable=True)
    texts = [item.text for item in captions]
    images = draw_prompts(pipe, texts, seed=seed, num_inference_steps=steps, guidance_scale=guidance)
    pictures, notes = [], []
    for image, item, reading in zip(images, captions, judge_images(images), strict=True):
        wrong = [
            f"{name}: {value} → {reading.values[name]}"
            for name, value in item.named.items()
            if reading.values[name] != value
        ]
        if wrong:
            pictures.append(image)
            notes.append("\n".join(wrong))
    return pictures, notes


def show_failures(pictures, notes, *, most=MOST_FAILURES):
    """Return a figure with the first ``most`` failures: under each, what was asked for and what the judge sees."""
    return show_images(
        pictures[:most], notes[:most], columns=6, alt="Failures: pictures with what was asked for and what is seen"
    )  # of this size it is a JPEG


def save_figure(figure, file):
    """Write a course figure as the file that it is: a PNG, or a JPEG where it is large."""
    Path(file).write_bytes(base64.b64decode(figure.to_base64()))
