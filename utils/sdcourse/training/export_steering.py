"""Write trained adapters as the folders that the package ships, in the formats their users know, with a card.

scores.json is measured on what was written, through the same context managers that a lesson uses.
"""

import json
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch

from sdlab import SdlabError, count_parameters, load_pipeline, seeded_generators
from sdlab.drawing import DEFAULT_GUIDANCE, DEFAULT_STEPS
from sdlab.steering import (
    Hypernetwork,
    add_lora,
    load_controlnet,
    make_controlnet,
    outline_agreement,
    save_lora,
    use_controlnet,
    use_hypernetwork,
    use_lora,
)
from sdlab.weights import weight_files, write_hashes

from ..judging import draw_prompts, load_judge
from ..judging.momo import score_momo
from ..judging.scores import world_of_model
from ..portraits import caption, plan_outline, plan_portrait
from .checkpoints import history_of, load_state, load_weights, whole_run
from .hypernetwork import HypernetworkStage, widen
from .log import read_log

PARTS = ("lora", "hypernetwork", "controlnet")
MOMO_TIMES = 3  # prompts of Momo for every ordinary one: hers is one answer a picture, an ordinary prompt names several
TEST_SEED = 80_000_000  # outlines that no training has seen


def export_steering(out, *, gain=1.0, **runs):
    """Write out/lora, out/hypernetwork and out/controlnet from the run folders that are given; return their paths.

    Of several runs of one part, a list, the weights are averaged (successive stages of one training, each begun from
    the one before). gain: what the hypernetwork adds is multiplied by it, so that strength 1 is the best strength.
    """
    out, written = Path(out), []
    for part, given in runs.items():
        if given:
            row = [given] if isinstance(given, str | Path) else list(given)
            settings, weights = _averaged(row)
            if part == "hypernetwork":
                weights = _amplified(weights, gain)
            EXPORTS[part](SimpleNamespace(**settings), weights, out / part)
            recipe = history_of(load_state(row[-1])) | {"log": read_log(row[-1])}
            recipe |= {"averaged_stages": len(row)} if row[1:] else {}
            recipe |= {"gain": gain} if part == "hypernetwork" and gain != 1 else {}
            (out / part / "training.json").write_text(json.dumps(recipe) + "\n")
            written.append(out / part)
    if not written:
        raise SdlabError(f"Nothing to export: name a run with --{', --'.join(PARTS)}.")
    return written


def _averaged(runs):
    """Return the settings of the last run and the mean of the runs' weights."""
    loaded = [load_weights(run) for run in runs]
    names = [set(weights) for _, weights in loaded]
    if any(other != names[0] for other in names[1:]):
        raise SdlabError(f"These runs cannot be averaged: {', '.join(map(str, runs))} have other weights.")
    mean = {name: sum(weights[name].float() for _, weights in loaded) / len(loaded) for name in loaded[-1][1]}
    return loaded[-1][0], mean


def _amplified(weights, gain):
    """Multiply the last layer of every MLP of a hypernetwork by ``gain``: the same as that strength."""
    return {name: value * gain if ".linear.2." in name else value for name, value in weights.items()}


def _export_lora(settings, weights, folder):
    pipe = load_pipeline(settings.base, device="cpu")
    parameters = add_lora(pipe, rank=settings.rank)
    with torch.no_grad():
        for parameter, name in zip(parameters.values(), weights, strict=True):
            parameter.copy_(weights[name])
    save_lora(pipe, folder)


def _export_hypernetwork(settings, weights, folder):
    adapter = HypernetworkStage.new_adapter(load_pipeline(settings.base, device="cpu"), settings)
    weights = {name.removeprefix("adapter."): value for name, value in weights.items()}
    adapter.load_state_dict(widen(weights, adapter.state_dict()))
    adapter.save(folder)


def _export_controlnet(settings, weights, folder):
    controlnet = make_controlnet(load_pipeline(settings.base, device="cpu").unet)
    controlnet.load_state_dict({name.removeprefix("controlnet."): value for name, value in weights.items()})
    controlnet.half().save_pretrained(folder, safe_serialization=True)
    config = json.loads((folder / "config.json").read_text())
    config = {name: value for name, value in config.items() if name != "_name_or_path"}
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    (folder / "diffusion_pytorch_model.safetensors").chmod(0o644)
    write_hashes(folder)


EXPORTS = {"lora": _export_lora, "hypernetwork": _export_hypernetwork, "controlnet": _export_controlnet}


def score_steering(folder, *, base="pocket", n=100, seed=0):
    """Measure the adapters in ``folder``: rates with n and 95 % intervals, for ``scores.json`` and the card."""
    folder, pipe, judge = Path(folder), load_pipeline(base, device="cpu"), load_judge()
    scores = {"n": n, "seed": seed}
    for part in ("base", "lora", "hypernetwork"):
        attached = {
            "base": lambda: nullcontext(),
            "lora": lambda: use_lora(pipe, folder / "lora"),
            "hypernetwork": lambda: use_hypernetwork(pipe, Hypernetwork.load(folder / "hypernetwork")),
        }[part]
        if part == "base" or (folder / part).exists():
            with attached():
                scores[part] = score_momo(pipe, n, momo_n=MOMO_TIMES * n, judge=judge, seed=seed)[0]
    if (folder / "controlnet").exists():
        scores["controlnet"] = score_outlines(pipe, load_controlnet(folder / "controlnet"), n, seed=seed)
    return scores


def score_outlines(pipe, controlnet, n, *, seed=0):
    """Return mean and standard error of the outline agreement: with the ControlNet, without, and with another hint."""
    first, world = TEST_SEED + seed * 10_000, world_of_model(pipe)
    plans = [plan_portrait(first + index, split="any", world=world) for index in range(n)]
    hints, rng = [plan_outline(plan) for plan in plans], np.random.default_rng([seed, 31])
    texts = [caption(plan, rng).text for plan in plans]
    base = draw_prompts(pipe, texts, seed=seed)
    steered = draw_hints(pipe, controlnet, texts, hints, seed=seed)
    return {
        "n": n,
        "with": _mean([outline_agreement(*pair) for pair in zip(steered, hints, strict=True)]),
        "without": _mean([outline_agreement(*pair) for pair in zip(base, hints, strict=True)]),
        "other_hint": _mean([outline_agreement(*pair) for pair in zip(steered, hints[1:] + hints[:1], strict=True)]),
    }


def draw_hints(pipe, controlnet, texts, hints, *, seed=0):
    """Draw every text along its own hint, one by one; PIL pictures."""
    images, options = [], {"num_inference_steps": DEFAULT_STEPS, "guidance_scale": DEFAULT_GUIDANCE}
    for index, (text, hint) in enumerate(zip(texts, hints, strict=True)):
        with use_controlnet(pipe, controlnet, hint):
            images += pipe(text, generator=seeded_generators(seed + index, 1), **options).images
    return images


def _mean(values):
    values = np.array(values)
    return {"mean": round(float(values.mean()), 4), "error": round(float(values.std(ddof=1) / len(values) ** 0.5), 4)}


CARD = """# Three ways to steer the pocket model

For lesson 11: a LoRA and a hypernetwork that teach the pocket model Momo, a black cat with a blue and an amber eye, and
a ControlNet that lets outlines say where things go. The base model's own weights are not changed.

Trained from scratch on pictures that `sdcourse.portraits` draws; no picture or weight of anybody
else went into them. Made by `sdlab train lora|hypernetwork|controlnet` and `sdlab train steering`; settings and logs
are in each folder's `training.json`, hashes in `weights.json`, the scores below in `scores.json`. The LoRA and the
ControlNet load in plain diffusers (`pipe.load_lora_weights`, `ControlNetModel.from_pretrained`).

| part | parameters | file | steps | views |
|---|---|---|---|---|
{parts}

## Momo

{momo_n} prompts of Momo and {n} ordinary ones (seed {seed}), judged; in brackets the 95 % interval.

| model | Momo is recognised | what her prompts name | what ordinary prompts name | ordinary pictures taken for Momo |
|---|---|---|---|---|
{momo}

## Outlines

Agreement of a drawing's outlines with a hint: F1 at a tolerance of one pixel, mean and standard error over {n} outlines
of portraits that no training has seen, with a caption of the same portrait.

| drawn | F1 |
|---|---|
{outlines}

## Limits

Everything the pocket model cannot do, these cannot do either. Momo's name is spelt by the tokenizer letter by letter,
and other unknown names may call her too. The ControlNet has seen outlines of our own portraits; a sketch of anything
else is outside its world.

Licence of weights and code: Apache-2.0.
"""
OUTLINE_ROWS = {
    "without the ControlNet": "without",
    "with it": "with",
    "with it, held against another hint": "other_hint",
}


def write_steering_card(folder, *, n=100):
    """Measure the adapters in ``folder``; write scores.json and README.md; return the card's path."""
    folder = Path(folder)
    scores = score_steering(folder, n=n)
    (folder / "scores.json").write_text(json.dumps(scores, indent=1) + "\n")
    parts = []
    for part in PARTS:
        (file,) = [file for file in weight_files(folder) if file.parent.name == part]
        steps, views = whole_run(json.loads((folder / part / "training.json").read_text()))
        size = f"{file.stat().st_size / 1e6:.2f} MB"
        parts.append(f"| {part} | {count_parameters(file):,} | {size} | {steps:,} | {views:,} |")
    momo = [_momo_row(part, scores[part]) for part in ("base", "lora", "hypernetwork")]
    found = scores["controlnet"]
    outlines = [
        f"| {what} | {found[key]['mean']:.3f} ± {found[key]['error']:.3f} |" for what, key in OUTLINE_ROWS.items()
    ]
    text = CARD.format(
        parts="\n".join(parts), momo="\n".join(momo), outlines="\n".join(outlines), n=n, seed=scores["seed"],
        momo_n=scores["base"]["momo"]["n"],
    )
    (folder / "README.md").write_text(text, encoding="utf-8")
    return folder / "README.md"


def _momo_row(part, scores):
    cells = []
    for name in ("momo", "named", "ordinary", "strangers"):
        low, high = (100 * end for end in scores[name]["interval"])
        cells.append(f"{100 * scores[name]['share']:.1f} % ({low:.1f}-{high:.1f})")
    return f"| {part} | " + " | ".join(cells) + " |"
