"""Write the model card of the pocket model from what was recorded (training.json) and measured (scores.json).

No number in the card is typed by hand, so a card cannot praise weights it does not belong to.
"""

import json
from pathlib import Path

from sdlab import SdlabError

from ..portraits import HELD_OUT_PAIRS
from .report import (
    FAILURES_PICTURE,
    LEARNING,
    LEARNING_PICTURE,
    MOST_FAILURES,
    find_failures,
    plot_learning,
    save_figure,
    show_failures,
)

INTRODUCTION = """# The pocket model

A complete, trained Stable Diffusion at about a tenth of the width of SD 1.5: CLIP text encoder, VAE, U-Net and
scheduler in the exact layout of diffusers. `StableDiffusionPipeline.from_pretrained` on this folder loads it.

It was trained from scratch on portraits that `sdcourse.portraits` draws by rule and describes in captions.
No picture, text or weight of anybody else went into it.
"""

LIMITS = """## Limits

- It knows four kinds of sitters, their eyes, hair or fur, shirts, hats and glasses, six places and five styles, in
  about a hundred English words. Anything else is outside its world, and it will guess.
- 128 x 128 pixels. Fine texture does not survive the eightfold compression of the VAE.
- The scores come from a judge that answers a closed set of questions about our own portraits. They must not be put
  into one column with open-vocabulary benchmarks of general models.
- The four painters' names stand for four ways of placing strokes that we programmed, not for the painters' works.

## Licence

Weights and code: Apache-2.0.
"""


def write_card(folder, *, failures: int = 60) -> Path:
    """Write README.md in a model's ``folder`` from its training.json, scores.json and weights.json; return its path.

    Two pictures go beside it: what was learned when (if ``sdlab train learning`` measured it), and what the model still
    gets wrong, found among the first ``failures`` prompts of ``sdlab evaluate``.
    """
    folder = Path(folder)
    training, scores, hashes = (_read(folder / name) for name in ("training.json", "scores.json", "weights.json"))
    choices = _read(folder / "choices.json")
    sections = [
        INTRODUCTION,
        _recipe(training),
        _choices(choices),
        _scores(scores),
        _learning(folder),
        _failures(folder, scores, failures),
        LIMITS,
        _hashes(hashes),
    ]
    (folder / "README.md").write_text("\n".join(sections), encoding="utf-8")
    return folder / "README.md"


def _read(file):
    if not file.is_file():
        raise SdlabError(
            f"{file} is missing: run 'sdlab train export', then 'sdlab evaluate --json > {file.parent}/scores.json'."
        )
    return json.loads(file.read_text())


def _recipe(training) -> str:
    lines = [
        "## Data and recipe",
        "",
        f"{training['portraits']:,} portraits (seeds from {training['first_seed']}), captions "
        f"drawn anew for every view; {len(HELD_OUT_PAIRS)} pairs of attribute values never occur in training (only the "
        "judge and the reward's critic, which read pictures and no captions, have seen them).",
        "",
    ]
    for stage in ("clip", "vae", "unet", "judge"):
        run, note = training[stage], ""
        while run:
            lines.append(f"- **{stage}**: {_run_line(run)}{note}")
            run, note = run["before"], " (the run before it)"
    commands = [
        "data",
        "data --split any --first-seed 20000000 --out runs/data/judge",
        "data --n 20000 --split any --first-seed 22000000 --out runs/data/reader",
        "tokenizer",
        "judge",
        "clip",
        "vae",
        "latents",
        "unet",
        "judge --run runs/critic --set data=runs/data/train --set damage=0.2 --set seed=77",
        "denoised",
        "vae --init runs/vae --run runs/decoder --set freeze_encoder=true --set denoised_share=0.25 "
        "--set judge=runs/critic --set perceptual_weight=0.5 --set texture_weight=5.0 --set edge_from=0.0",
        "judge --run runs/reader --set data=runs/data/reader --set damage=0.7 --set seed=177 --steps 1600",
        "reward --init runs/unet --set vae=runs/decoder --set critic=runs/reader",
        "data --n 100000 --out runs/data/wide",
        "clip --init runs/clip --run runs/pictures --set data=runs/data/wide --set freeze_text=true --set choices=1.0 "
        "--set image_heads=0.5",
        "export --vae runs/decoder --unet runs/reward --clip runs/pictures",
    ]
    return "\n".join(
        [
            *lines,
            "",
            "This release was trained on two CPU cores and stopped early; its settings are in `training.json`.",
            "The commands:",
            "",
            "```",
            *(f"sdlab train {command}" for command in commands),
            "```",
            "",
        ]
    )


def _choices(recorded) -> str:
    lines = ["## Choices that were measured", "", f"On {recorded['machine']}.", "", "| question | tried | chosen |"]
    lines.append("|---|---|---|")
    for choice in recorded["choices"]:
        tried = "; ".join(f"{name}: {result}" for name, result in choice["tried"].items())
        lines.append(f"| {choice['question']} | {tried} | {choice['chosen']} |")
    return "\n".join([*lines, ""])


def _run_line(run) -> str:
    settings = run["settings"]
    notes = {"freeze_encoder": "encoder frozen", "freeze_text": "text tower frozen", "reward_weight": "with a reward"}
    special = "".join(f", {note}" for name, note in notes.items() if settings.get(name))
    return (
        f"{run['step']:,} steps, {run['views']:,} views, {run['seconds'] / 60:.0f} minutes, seed {settings['seed']}, "
        f"learning rate {settings['learning_rate']}{special}"
    )


def _percent(item) -> str:
    if item["share"] is None:
        return "not measured"
    low, high = item["interval"]
    return f"{item['share']:.1%} ({low:.1%} to {high:.1%}, n = {item['n']})"


def _scores(scores) -> str:
    lines = [
        "## Scores",
        "",
        f"`sdlab evaluate --n {scores['n']} --seed {scores['seed']} --steps {scores['num_inference_steps']} "
        f"--guidance {scores['guidance_scale']} --json`, with 95 % intervals. Every prompt names five attributes.",
        "",
        "| what | model | judge on real renders |",
        "|---|---|---|",
    ]
    for name, item in scores["attributes"].items():
        lines.append(f"| {name} | {_percent(item)} | {_percent(scores['judge_on_renders'][name])} |")
    lines += [
        f"| all five named attributes | {_percent(scores['joint'])} | |",
        f"| eye and shirt colour both right | {_percent(scores['binding'])} | |",
        f"| all five, with a held-out pair | {_percent(scores['held_out']['joint'])} | |",
        "",
    ]
    vae, clip, memory = scores["vae"], scores["clip"], scores["memorisation"]
    lines += [
        f"- VAE: {vae['psnr']} dB on unseen unstyled renders, {vae['psnr_styled']} dB on painted ones; judge agreement "
        f"on reconstructions {vae['judge_agreement']:.1%}; standard deviations of the channels {vae['channel_std']}.",
        f"- CLIP: zero-shot {clip['zero_shot']:.1%} (mean over attributes), swapped {_percent(clip['swapped'])}"
        f"{_by_pairs(clip)}.",
        f"- Copies: the nearest of {memory['training_pictures']:,} training portraits is at {memory['generated']} for "
        f"generated pictures and at {memory['fresh']} for fresh renders (median root mean square over thumbnails).",
        "",
    ]
    return "\n".join(lines)


def _by_pairs(clip) -> str:
    """Say how zero-shot depends on whether a portrait holds a pair that never occurs in training."""
    groups = clip.get("zero_shot_by_pairs")
    if groups is None:
        return ""
    told = {"seen": "of portraits whose pairs all occur in training", "held_out": "of those with a held-out pair"}
    shares = {name: item["zero_shot"] for name, item in groups.items()}
    parts = [f"{shares[name]:.1%} {told[name]} (n = {groups[name]['n']})" for name in told if shares[name] is not None]
    return "; zero-shot " + ", ".join(parts)


def _learning(folder) -> str:
    if not (folder / LEARNING).is_file():
        return ""
    points = _read(folder / LEARNING)
    save_figure(plot_learning(points), folder / LEARNING_PICTURE)
    few = [point["prompts"] for point in points]
    scales = sorted({point["guidance_scale"] for point in points}, reverse=True)
    guidance = " or ".join(f"{scale:g}" for scale in scales)
    return (
        "## What was learned when\n\n"
        f"![The share of each attribute that is drawn right, against the views]({LEARNING_PICTURE})\n\n"
        f"Scores of the U-Net after so many views, with 95 % intervals, from {min(few)} to {max(few)} prompts a point "
        f"(in early stages those of the training log), drawn with guidance {guidance}.\n"
    )


def _failures(folder, scores, n) -> str:
    worst = sorted(scores["attributes"].items(), key=lambda pair: pair[1]["share"] or 0)[:3]
    named = ", ".join(f"{name} ({item['share']:.1%})" for name, item in worst)
    text = f"## Weakest points\n\nThe three attributes it gets wrong most often: {named}.\n"
    pictures, notes = find_failures(
        folder, n=n, seed=scores["seed"], steps=scores["num_inference_steps"], guidance=scores["guidance_scale"]
    )
    if not pictures:
        return text
    save_figure(show_failures(pictures, notes), folder / FAILURES_PICTURE)
    shown = "all of them" if len(pictures) <= MOST_FAILURES else f"the first {MOST_FAILURES} of them"
    return (
        f"{text}\nOf the first {n} prompts, {len(pictures)} pictures miss something that was named; {shown}, each with "
        f"what was asked for → what the judge sees:\n\n![Failures]({FAILURES_PICTURE})\n"
    )


def _hashes(hashes) -> str:
    return "\n".join(
        [
            "## Weights (SHA-256)",
            "",
            "```",
            *(f"{value}  {name}" for name, value in hashes.items()),
            "```",
            "",
        ]
    )
