"""Train the judge on damaged renders, with pictures that are no portraits beside them."""

from types import SimpleNamespace

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from sdlab.images import as_pictures, to_batch

from ..judging import agreement, judge_images, load_judge
from ..judging.judge import Judge
from ..portraits import NAMES
from .checkpoints import load_weights
from .data import JUDGE_VALIDATION_SEED, SIZE, draw_fresh, load_data
from .loop import Stage
from .randomness import step_generator, step_rng
from .sheets import save_sheet


class JudgeObjective(nn.Module):
    """Damaged pictures in, cross-entropy over all heads out; negatives should leave every head undecided."""

    def __init__(self, settings):
        super().__init__()
        self.judge = Judge(widths=tuple(settings.widths), groups=settings.groups)

    def forward(self, pictures, codes, genuine):
        """Return (loss, numbers). pictures [B, 3, 128, 128], codes [B, 8], genuine [B] 1.0 for portraits."""
        logits, portrait = self.judge(pictures)
        right = functional.binary_cross_entropy_with_logits(portrait.float(), genuine)
        loss, hits = right, []
        for column, logit in enumerate(logits):
            logit = logit.float()
            known = functional.cross_entropy(logit, codes[:, column], reduction="none")
            undecided = -functional.log_softmax(logit, dim=-1).mean(dim=-1)
            loss = loss + (genuine * known + 0.3 * (1 - genuine) * undecided).mean()
            hits.append((genuine * (logit.argmax(-1) == codes[:, column])).sum() / genuine.sum())
        return loss, {"accuracy": torch.stack(hits).mean()}


class JudgeStage(Stage):
    """The judge stage of `sdlab train`."""

    name = "judge"

    def __init__(self, settings, device):
        super().__init__(settings, device)
        self.objective = JudgeObjective(settings)
        self.data = load_data(settings.data)
        self.images = torch.from_numpy(self.data.images).to(device)
        self.codes = torch.from_numpy(self.data.codes.astype(np.int64)).to(device)
        self.validation, plans = draw_fresh(
            settings.validation_pictures, JUDGE_VALIDATION_SEED, split="any", world=self.data.world
        )
        self.wanted = [{name: getattr(plan.attributes, name) for name in NAMES} for plan in plans]

    def compile(self):
        self.objective.judge.compile()

    def draw_batch(self, step, rank):
        rng = step_rng(self.settings.seed, step, rank=rank)
        return torch.from_numpy(rng.integers(0, len(self.data), size=self.settings.batch_size))

    def loss(self, objective, batch, *, step, rank, progress):
        settings, indices = self.settings, batch.to(self.device)
        generator = step_generator(settings.seed, step, rank=rank, device=self.device)
        pictures = damage_pictures(to_batch(self.images[indices]), generator, share=settings.damage)
        genuine = torch.ones(len(indices), device=self.device)
        count = round(settings.negatives * len(indices))
        if count:
            pictures[:count] = make_negatives(pictures[:count], generator, first=step)
            genuine[:count] = 0
        return objective(pictures, self.codes[indices], genuine)

    def report(self, folder, step):
        counts = agreement(judge_images(self.validation, self.objective.judge), self.wanted)
        generator = step_generator(self.settings.seed, 0, device=self.device)
        pictures = to_batch(self.validation[:40]).to(self.device)
        damaged, negatives = (
            damage_pictures(pictures, generator, share=1.0),
            make_negatives(pictures, generator, first=0),
        )
        seen = judge_images((negatives + 1) / 2, self.objective.judge)
        blurred = agreement(judge_images((damaged + 1) / 2, self.objective.judge), self.wanted[:40])
        save_sheet(
            as_pictures(torch.cat([damaged[:24], negatives[:24]])), folder / "samples" / f"{step:06d}.png"
        )
        return {
            "accuracy": {name: right / count for name, (right, count) in counts.items()},
            "damaged": sum(right for right, _ in blurred.values())
            / sum(count for _, count in blurred.values()),
            "fooled": float(np.mean([reading.is_portrait > 0.5 for reading in seen])),
        }


def damage_pictures(pictures, generator, *, share):
    """Shift, blur, re-colour and noise a share of pictures [B, 3, H, W] in [-1, 1], as a decoder might."""
    count, device = len(pictures), pictures.device

    def uniform(low, high):
        return low + (high - low) * torch.rand((count, 1, 1, 1), generator=generator, device=device)

    chosen = uniform(0, 1) < share
    shifts = [int(shift) for shift in torch.randint(-4, 5, (2,), generator=generator, device=device)]
    rolled = functional.pad(pictures, (4, 4, 4, 4), mode="replicate")
    rolled = rolled[..., 4 + shifts[0] : 4 + shifts[0] + SIZE, 4 + shifts[1] : 4 + shifts[1] + SIZE]
    small = functional.interpolate(rolled, scale_factor=0.5, mode="area")
    soft = functional.interpolate(small, scale_factor=2.0, mode="bilinear", align_corners=False)
    amount = uniform(0, 1) * (uniform(0, 1) < 0.6)
    damaged = rolled + amount * (soft - rolled)
    mean = damaged.mean(dim=(1, 2, 3), keepdim=True)
    damaged = (damaged - mean) * uniform(0.85, 1.15) + mean + uniform(-0.12, 0.12)
    noise = torch.randn(pictures.shape, generator=generator, device=device)
    damaged = damaged + noise * uniform(0, 0.12) * (uniform(0, 1) < 0.5)
    return torch.where(chosen, damaged, pictures).clamp(-1, 1)


def make_negatives(pictures, generator, *, first):
    """Make pictures that are no portraits, of the same shape; kind (first + i) % 6 for picture i."""
    makers = (_noise, _one_colour, _shuffled, _smooth_noise, _half_noise, _upside_down_blocks)
    kinds = [(first + index) % len(makers) for index in range(len(pictures))]
    return torch.stack(
        [makers[kind](picture, generator) for picture, kind in zip(pictures, kinds, strict=True)]
    ).clamp(-1, 1)


def _noise(picture, generator):
    return torch.randn(picture.shape, generator=generator, device=picture.device) * 0.7


def _one_colour(picture, generator):
    colour = torch.rand((3, 1, 1), generator=generator, device=picture.device) * 2 - 1
    return colour + 0.05 * _noise(picture, generator)


def _shuffled(picture, generator, *, patch=16):
    rows = SIZE // patch
    patches = (
        picture.reshape(3, rows, patch, rows, patch)
        .permute(1, 3, 0, 2, 4)
        .reshape(rows * rows, 3, patch, patch)
    )
    patches = patches[torch.randperm(rows * rows, generator=generator, device=picture.device)]
    return patches.reshape(rows, rows, 3, patch, patch).permute(2, 0, 3, 1, 4).reshape(3, SIZE, SIZE)


def _smooth_noise(picture, generator):
    cells = int(2 ** torch.randint(2, 7, (1,), generator=generator, device=picture.device))
    coarse = torch.randn((1, 3, cells, cells), generator=generator, device=picture.device) * 0.7
    return functional.interpolate(coarse, size=SIZE, mode="bicubic", align_corners=False)[0]


def _half_noise(picture, generator):
    return 0.45 * picture + 0.9 * _noise(picture, generator)


def _upside_down_blocks(picture, generator):
    return _shuffled(picture, generator, patch=32).flip(-2)


def load_trained_judge(source):
    """Return the judge of a run folder or checkpoint, or of an exported folder, ready to read pictures."""
    from pathlib import Path

    if (Path(source) / "judge.safetensors").exists():
        return load_judge(source)
    settings, weights = load_weights(source)
    objective = JudgeObjective(SimpleNamespace(**settings))
    objective.load_state_dict(weights)
    return objective.judge.eval().requires_grad_(False)
