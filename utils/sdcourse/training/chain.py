"""Train all parts of the second pocket model in their order: `sdlab train chain`, over days on a CPU or in minutes.

Every step is a command of `sdlab train` that can be run alone; what is finished is written down and not done again, and
a step that was stopped goes on where it was. On a CPU: `sdlab train chain`, days at low priority. On a GPU with 16
cores, in two pieces of less than ten minutes (give the same --minutes again: the learning rates follow it):

    sdlab train chain --device gpu --minutes 8 --workers 16 --until export
    sdlab train chain --device gpu --minutes 8
"""

import json
from dataclasses import dataclass
from pathlib import Path

from sdlab import SdlabError

from .settings import SETTINGS_FOLDER

STAGE_FOLDER = SETTINGS_FOLDER / "second"
# share of the minutes that each stage gets, when a budget is given
SHARES = {"judge": 0.05, "vae": 0.34, "clip": 0.12, "unet": 0.37, "controlnet": 0.06, "lora": 0.02}
SHARES |= {"hypernetwork": 0.02, "style_lora": 0.02}
PLENTY = 10_000_000  # steps of a stage that its minutes end
GPU = {  # larger batches, captions and crops made ahead, few reports before the last
    "judge": ["batch_size=256", "channels_last=false", "report_every=5000"],
    "vae": ["batch_size=192", "learning_rate=2e-3", "workers=4", "report_every=2500"],
    "clip": ["batch_size=256", "workers=8", "report_every=5000"],
    "unet": ["batch_size=512", "learning_rate=2e-3", "workers=10", "report_every=3000"],
    "controlnet": ["batch_size=128", "workers=6", "report_every=5000"],
    **{stage: ["batch_size=48", "workers=3", "report_every=5000"] for stage in ("lora", "hypernetwork", "style_lora")},
}
NETWORK = ["block_out_channels=[8, 8, 8, 8]", "norm_num_groups=4"]
TOY = {  # every stage for two steps, of two pictures: does the chain hold together?
    "judge": ["widths=[8, 8, 8]", "validation_pictures=2"],
    "vae": [*NETWORK, "validation_pictures=2"],
    "clip": ["hidden_size=16", "layers=1", "heads=2", "projection=8", "validation_pictures=4", "choices=0.0"],
    "unet": [*NETWORK, "attention_head_dim=2", "layers_per_block=1", "score_prompts=2", "score_steps=2"],
    "controlnet": ["portraits=12", "score_prompts=2", "score_steps=2"],
    "lora": ["portraits=6", "ordinary_portraits=6", "score_prompts=2", "rank=2"],
    "hypernetwork": ["portraits=6", "ordinary_portraits=6", "score_prompts=2"],
    "style_lora": ["portraits=6", "ordinary_portraits=6", "score_prompts=2", "rank=2"],
}
TINY = ["batch_size=2", "report_every=0", "log_every=1", "warmup_steps=1", "workers=0", "mixed_precision=no"]
READY = "chain.json"


@dataclass(frozen=True)
class Link:
    """One command of the chain: its name, and the words behind `sdlab train`."""

    name: str
    words: tuple[str, ...]


def make_chain(runs, *, portraits=40_000, workers=1, minutes=None, device="cpu", toy=False, extra=None):
    """Return the links of the chain whose run folders lie in ``runs``.

    Args:
        portraits: how many to train on; half as many for the judge.
        minutes: for all training stages together, by SHARES; without it each runs for the steps of its settings.
        device: "gpu" takes the settings of GPU on top.
        toy: two steps of everything with tiny networks, on a dozen portraits.
        extra: {stage: ["key=value", ...]}, more settings.
    """
    runs, count = Path(runs), 12 if toy else portraits
    data, judge_data, models = runs / "data/second", runs / "data/judge_second", runs / "models"
    words = ("--world", "second", "--workers", str(workers))
    links = [
        Link("portraits", ("data", "--n", str(count), "--out", str(data), *words)),
        Link("judge_portraits", _judge_data(judge_data, max(12, count // 2), words)),
        Link("tokenizer", _tokenizer(runs, toy)),
    ]
    places = {"data": data, "vae": runs / "vae", "clip": runs / "clip", "tokenizer": runs / "tokenizer"}
    places |= {"judge": runs / "judge", "base": models / "pocket"}
    options = {"minutes": minutes, "device": device, "toy": toy, "extra": extra or {}}
    made = {stage: _stage(stage, runs, places, judge_data, **options) for stage in SHARES}
    links += [made["judge"], made["vae"], Link("latents", _with_run("latents", runs, data)), made["clip"], made["unet"]]
    links += [Link("export", _export(runs, models))]
    return links + [made[stage] for stage in ("controlnet", "lora", "hypernetwork", "style_lora")]


def _judge_data(folder, count, words):
    return ("data", "--n", str(count), "--first-seed", "20000000", "--split", "any", "--out", str(folder), *words)


def _tokenizer(runs, toy):
    size = ("--n", "1500", "--vocabulary", "740") if toy else ("--n", "80000", "--vocabulary", "1100")
    return ("tokenizer", "--world", "second", "--out", str(runs / "tokenizer"), *size)


def _with_run(command, runs, data):
    return (command, "--vae", str(runs / "vae"), "--data", str(data))


def _export(runs, models):
    parts = [(f"--{part}", str(runs / part)) for part in ("clip", "vae", "unet", "judge", "tokenizer")]
    return ("export", *(word for pair in parts for word in pair), "--out", str(models))


def _stage(stage, runs, places, judge_data, *, minutes, device, toy, extra):
    """Return the link of one stage: its settings file, where its inputs lie, and how long it may take."""
    needs = {"judge": ("data",), "vae": ("data",), "clip": ("data", "tokenizer"), "controlnet": ("base", "data")}
    needs |= {"unet": ("data", "vae", "clip", "tokenizer", "judge")}
    changes = [f"{name}={places[name]}" for name in needs.get(stage, ("base",))]
    if stage == "judge":
        changes = [f"data={judge_data}"]
    if stage in ("lora", "hypernetwork", "style_lora"):
        changes.append(f"judge={places['base'].parent / 'judge'}")
    changes += GPU[stage] if device == "gpu" else []
    changes += [*TINY, *TOY[stage]] if toy else []
    changes += extra.get(stage, [])
    length = ("--steps", "2") if toy else ()
    if minutes and not toy:
        length = ("--steps", str(PLENTY), "--minutes", f"{minutes * SHARES[stage]:.2f}")
    words = (stage, "--run", str(runs / stage), "--settings", str(STAGE_FOLDER / f"{stage}.toml"), *length)
    words += ("--cpu",) if device == "cpu" else ()
    return Link(stage, words + tuple(word for change in changes for word in ("--set", change)))


def run_chain(links, runs, run, *, only=None, until=None):
    """Run the links that are not done, in order; return the names of those that were finished.

    run: takes a link's words and says whether it came to its end (one that was asked to stop did not, and the chain
    ends there). only: names to run, done or not. until: the last link to run.
    """
    known = [link.name for link in links]
    for name in [*(only or []), *([until] if until else [])]:
        if name not in known:
            raise SdlabError(f"The chain has no link {name!r}; its links are: {', '.join(known)}.")
    links = links[: known.index(until) + 1] if until else links
    file, ran = Path(runs) / READY, []
    done = json.loads(file.read_text()) if file.exists() else []
    for link in links:
        if link.name not in only if only else link.name in done:
            continue
        print(f"chain: sdlab train {' '.join(link.words)}", flush=True)
        if not run(list(link.words)):
            print(f"chain: stopped in {link.name}; the same command goes on from there.", flush=True)
            break
        ran.append(link.name)
        done = [*(name for name in done if name != link.name), link.name]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(done) + "\n")
    return ran
