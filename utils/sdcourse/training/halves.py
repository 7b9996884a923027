"""Train the denoisers of lesson 02: one architecture, two disjoint halves of portraits, few of them and many."""

import json
import math
import time
from pathlib import Path

import torch
from safetensors.torch import save_file

from sdlab.weights import write_hashes

from ..lessons.lesson_02_denoisers import (
    SIDE,
    Denoiser,
    distance,
    half_pictures,
    load_denoiser,
    make_scheduler,
    nearest,
    noise_loss,
    sample,
    training_log,
)
from .log import append_log, forget_after, read_log
from .randomness import step_generator

VALIDATION_PICTURES = 256


def train_halves(out, *, run, settings, fresh=False):
    """Train (or go on training) every denoiser in the folder ``run``, and write them to the folder ``out``."""
    run, names = Path(run), []
    for count, steps, batch_size in zip(settings.counts, settings.steps, settings.batch_sizes, strict=True):
        for half in ("A", "B"):
            names.append(f"{half}-{count}")
            trainer = HalfTrainer(half, count, run / names[-1], settings, steps=steps, batch_size=batch_size)
            trainer.run(fresh=fresh)
    export_halves(out, run=run, names=names, settings=settings)


class HalfTrainer:
    """One denoiser on the first ``count`` portraits of one half; resumes from ``folder``."""

    def __init__(self, half, count, folder, settings, *, steps, batch_size):
        self.settings, self.steps, self.batch_size, self.folder = settings, steps, batch_size, Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.seed = settings.seed + ["A", "B"].index(half)
        self.training = half_pictures(half, count)
        self.validation = half_pictures("fresh", VALIDATION_PICTURES)
        self.alphas_cumprod = make_scheduler().alphas_cumprod
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)  # the two halves also start from different weights
            self.denoiser, self.averaged = Denoiser(settings.widths), Denoiser(settings.widths)
        self.averaged.load_state_dict(self.denoiser.state_dict())
        self.optimizer = torch.optim.AdamW(self.denoiser.parameters(), lr=settings.learning_rate)
        self.step, self.seconds = 0, 0.0

    def run(self, *, fresh=False):
        """Train to the last step; save and log on the way."""
        if not fresh and self._checkpoint.exists():
            self._load()
        forget_after(self.folder, self.step)
        while self.step < self.steps:
            start = time.process_time()
            self._train_step()
            self.seconds += time.process_time() - start
            if self.step % self.settings.log_every == 0 or self.step == self.steps:
                self._log()
            if self.step % self.settings.save_every == 0 or self.step == self.steps:
                self._save()

    def _train_step(self):
        rate = 0.5 * (1 + math.cos(math.pi * self.step / self.steps))
        for group in self.optimizer.param_groups:
            warmup = min(1.0, (self.step + 1) / self.settings.warmup_steps)
            group["lr"] = self.settings.learning_rate * warmup * rate
        self.optimizer.zero_grad()
        self._loss().backward()
        self.optimizer.step()
        self.step += 1
        decay = min(self.settings.average, self.step / (self.step + 9))
        for averaged, weight in zip(self.averaged.parameters(), self.denoiser.parameters(), strict=True):
            averaged.data.lerp_(weight.data, 1 - decay)

    def _loss(self):
        """Return the squared error of the noise, divided by alpha_bar: that of v, so that every timestep counts."""
        generator = step_generator(self.seed, self.step)
        rows = torch.randint(len(self.training), (self.batch_size,), generator=generator)
        timesteps = torch.randint(0, 1000, (self.batch_size,), generator=generator)
        clean = self.training[rows]
        noise = torch.randn(clean.shape, generator=generator)
        kept = self.alphas_cumprod[timesteps].view(-1, 1, 1, 1)
        noisy = kept.sqrt() * clean + (1 - kept).sqrt() * noise
        return ((self.denoiser(noisy, timesteps) - noise).square() / kept).mean()

    def _log(self):
        entry = {"step": self.step, "views": self.step * self.batch_size, "seconds": round(self.seconds, 1)}
        entry["train"] = round(noise_loss(self.averaged, self.training), 5)
        entry["validation"] = round(noise_loss(self.averaged, self.validation), 5)
        append_log(self.folder, entry)

    @property
    def _checkpoint(self):
        return self.folder / "checkpoint.pt"

    def _save(self):
        parts = {name: getattr(self, name).state_dict() for name in ("denoiser", "averaged", "optimizer")}
        unfinished = self._checkpoint.with_suffix(".unfinished")
        torch.save(parts | {"step": self.step, "seconds": self.seconds}, unfinished)
        unfinished.replace(self._checkpoint)

    def _load(self):
        state = torch.load(self._checkpoint, weights_only=True)
        for name in ("denoiser", "averaged", "optimizer"):
            getattr(self, name).load_state_dict(state[name])
        self.step, self.seconds = state["step"], state["seconds"]


def export_halves(out, *, run, names, settings):
    """Write the averaged weights in float16, their hashes, and the losses of every run into the folder ``out``."""
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    log = {"settings": vars(settings), "runs": {}}
    for name in names:
        folder = Path(run) / name
        averaged = torch.load(folder / "checkpoint.pt", weights_only=True)["averaged"]
        save_file({key: weight.half() for key, weight in averaged.items()}, out / f"{name}.safetensors")
        (out / f"{name}.safetensors").chmod(0o644)
        log["runs"][name] = read_log(folder)
    log["network"] = Denoiser(settings.widths).config
    (out / "training.json").write_text(json.dumps(log) + "\n")
    write_hashes(out)
    (out / "README.md").write_text(write_card(out), encoding="utf-8")


CARD = """# Denoisers trained on two halves

Four small U-Nets for lesson 02: A and B have the same architecture, {parameters:,} parameters each, but were trained on
portraits that the other never saw. They predict the noise in pictures of 24 x 24 pixels, without a prompt.

Trained from scratch on portraits that `sdcourse.portraits` draws: men with blue eyes before a plain wall, with any
hair and shirt. No picture or weight of anybody else went into them. Made by `sdlab train halves`; the settings and
every logged loss are in `training.json`, the hashes of the weights (float16) in `weights.json`.

| denoiser | portraits | steps | views | CPU minutes | loss, training | loss, unseen |
|---|---|---|---|---|---|---|
{runs}

Loss: mean squared error of the predicted noise. Unseen: {validation} portraits that are in neither half.

Drawn from the same {noises} pieces of noise (DDIM, 25 steps); root mean square distances, medians, black to white is 1:

| portraits | A to B | A to its nearest training portrait | B to its nearest | an unseen portrait to A's nearest |
|---|---|---|---|---|
{distances}

What they are for: to show memorising and generalising side by side. Those trained on {fewest} portraits are meant to
have memorised them.
"""
NOISES = 64


def write_card(folder):
    """Return the model card of a folder of denoisers: its log in a table, and the distances measured anew."""
    log = training_log(folder)
    counts = log["settings"]["counts"]
    return CARD.format(
        parameters=sum(weight.numel() for weight in Denoiser(**log["network"]).parameters()),
        runs="\n".join(_run_row(name, entries[-1]) for name, entries in log["runs"].items()),
        distances="\n".join(_distance_row(folder, count) for count in counts),
        validation=VALIDATION_PICTURES,
        noises=NOISES,
        fewest=min(counts),
    )


def _run_row(name, entry):
    cells = [name, int(name.partition("-")[2]), entry["step"], entry["views"], f"{entry['seconds'] / 60:.1f}"]
    cells += [entry["train"], entry["validation"]]
    return "| " + " | ".join(f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in cells) + " |"


def _distance_row(folder, count):
    noise = torch.randn(NOISES, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    drawn = {half: sample(load_denoiser(half, count, folder=folder), noise) for half in ("A", "B")}
    values = [distance(drawn["A"], drawn["B"])]
    values += [distance(pictures, nearest(pictures, half_pictures(half, count))) for half, pictures in drawn.items()]
    fresh = half_pictures("fresh", VALIDATION_PICTURES)
    values.append(distance(fresh, nearest(fresh, half_pictures("A", count))))
    return " | ".join([f"| {count:,}", *(f"{value.median():.3f}" for value in values)]) + " |"
