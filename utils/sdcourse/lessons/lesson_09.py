"""Lesson 09, measured: many drawings with different settings, what they have in common and how they differ."""

from dataclasses import dataclass, replace
from itertools import combinations

import torch

from sdlab import SdlabError, check_prompt, encode_prompt, guide, seeded_generators, use_sampler
from sdlab.denoising import prepare_latents
from sdlab.drawing import DEFAULT_GUIDANCE, DEFAULT_STEPS, check_settings
from sdlab.latents import decode_latents

from ..judging import agreement, judge_images, share
from ..judging.intervals import with_interval
from ..portraits import NAMES


@dataclass(frozen=True)
class Setting:
    """Everything that decides one picture.

    guidance_scale: 0 uses the prediction for ``negative_prompt`` alone, 1 that for ``prompt`` alone.
    step_seed: of the noise that ddpm adds on its way; by default it goes on from ``seed``, as in pipe(...).
    timestep_spacing: "trailing" starts every sampler at the last timestep; by default the pipeline's own.
    """

    prompt: str
    seed: int = 0
    sampler: str | None = None
    num_inference_steps: int = DEFAULT_STEPS
    guidance_scale: float = DEFAULT_GUIDANCE
    negative_prompt: str = ""
    step_seed: int | None = None
    timestep_spacing: str | None = None

    def at_calls(self, sampler: str, calls: int) -> "Setting":
        """Return the setting with another sampler, and the steps for which it calls the U-Net ``calls`` times."""
        return replace(self, sampler=sampler, num_inference_steps=calls - 1 if sampler == "pndm" else calls)


class _Run:
    """One picture on its way."""

    def __init__(self, pipe, setting: Setting, embeds):
        check_settings(setting.num_inference_steps, max(1, setting.guidance_scale))
        if setting.guidance_scale < 0:
            raise SdlabError(f"guidance_scale={setting.guidance_scale!r} must be 0 or more.")
        start = seeded_generators(setting.seed, 1)
        later = start if setting.step_seed is None else seeded_generators(setting.step_seed, 1)
        with use_sampler(pipe, setting.sampler):
            if setting.timestep_spacing:
                pipe.scheduler = _respaced(pipe.scheduler, setting.timestep_spacing)
            self.scheduler = pipe.scheduler
            self.scheduler.set_timesteps(setting.num_inference_steps, device=pipe.device)
            self.latents = prepare_latents(pipe, start)
            self.extra = pipe.prepare_extra_step_kwargs(later, 0.0)
        self.scale, self.timesteps = setting.guidance_scale, iter(self.scheduler.timesteps)
        prompt_embeds, negative_prompt_embeds = embeds
        self.embeds = {0: [negative_prompt_embeds], 1: [prompt_embeds]}.get(
            self.scale, [negative_prompt_embeds, prompt_embeds]
        )
        self.t = next(self.timesteps)

    def rows(self):
        """Return what the U-Net is to see: model input, timesteps and embeddings, one row or two."""
        count = len(self.embeds)
        model_input = self.scheduler.scale_model_input(self.latents, self.t)
        return model_input.repeat(count, 1, 1, 1), self.t.repeat(count), torch.cat(self.embeds)

    def step(self, noise_pred) -> bool:
        """Take one step with the rows that came back; say whether there is another one."""
        if len(noise_pred) == 2:
            noise_pred = guide(*noise_pred.split(1), self.scale)
        self.latents = self.scheduler.step(noise_pred, self.t, self.latents, **self.extra, return_dict=False)[0]
        self.t = next(self.timesteps, None)
        return self.t is not None


def _respaced(scheduler, timestep_spacing: str):
    return type(scheduler).from_config(scheduler.config, timestep_spacing=timestep_spacing)


@torch.no_grad()
def denoise_many(pipe, settings, *, batch_size: int | None = None) -> torch.Tensor:
    """Return the final latents [n, 4, h, w] of ``settings``, in their order; equal to ``loop.steps`` up to rounding.

    batch_size: pictures at a time; by default 16, or 4 where they are large. Raises SdlabError as ``draw`` does.
    """
    batch_size = batch_size or _batch_size(pipe)
    waiting = list(enumerate(settings))[::-1]
    embeds = _encode(pipe, [setting for _, setting in waiting])
    running, finished = {}, {}
    while waiting or running:
        while waiting and len(running) < batch_size:
            number, setting = waiting.pop()
            running[number] = _Run(pipe, setting, embeds[setting.prompt, setting.negative_prompt])
        rows = [run.rows() for run in running.values()]
        model_input, t, encoder_hidden_states = (torch.cat(part) for part in zip(*rows, strict=True))
        noise_pred = pipe.unet(model_input, t, encoder_hidden_states=encoder_hidden_states, return_dict=False)[0]
        parts = noise_pred.split([len(row[0]) for row in rows])
        for (number, run), part in zip(list(running.items()), parts, strict=True):
            if not run.step(part):
                finished[number] = running.pop(number).latents
    return torch.cat([finished[number] for number in sorted(finished)])


def _encode(pipe, settings) -> dict:
    pairs = dict.fromkeys((setting.prompt, setting.negative_prompt) for setting in settings)
    for prompt, _ in pairs:
        check_prompt(pipe, prompt)
    return {(prompt, negative): encode_prompt(pipe, prompt, negative_prompt=negative) for prompt, negative in pairs}


def _batch_size(pipe) -> int:
    return 16 if pipe.unet.config.sample_size <= 32 else 4


def draw_many(pipe, settings, *, batch_size: int | None = None) -> torch.Tensor:
    """Return the pictures [n, 3, H, W] in [0, 1] of ``settings``, in their order, on the CPU."""
    batch_size = batch_size or _batch_size(pipe)
    latents = denoise_many(pipe, settings, batch_size=batch_size)
    return torch.cat([decode_latents(pipe, part).float().cpu() for part in latents.split(batch_size)])


def draw_groups(pipe, groups: dict) -> dict:
    """Return name -> pictures [n, 3, H, W] for name -> list of settings; all of them are drawn together."""
    pictures = draw_many(pipe, [setting for settings in groups.values() for setting in settings])
    parts = pictures.split([len(settings) for settings in groups.values()])
    return dict(zip(groups, parts, strict=True))


def distance(pictures, reference) -> torch.Tensor:
    """Return the root mean square difference [n] of pictures [n, 3, H, W] to their references; black to white is 1."""
    return (pictures - reference).square().mean(dim=(1, 2, 3)).sqrt()


def contrast(pictures) -> torch.Tensor:
    """Return the standard deviation of the brightness of each picture [n, 3, H, W], [n]."""
    return pictures.mean(dim=1).flatten(1).std(dim=1)


def clipped(pictures) -> torch.Tensor:
    """Return the share of colour values of each picture [n, 3, H, W] that stand at 0 or 1, [n]: lost detail."""
    return ((pictures < 0.002) | (pictures > 0.998)).float().mean(dim=(1, 2, 3))


def composition(pictures) -> tuple[float, float]:
    """Return how alike pictures [prompts, seeds, 3, H, W] are beyond their prompt: (same seed, other seed).

    From the brightness of each picture the mean picture of its prompt is taken away; then the correlations of what is
    left are averaged over pairs of two prompts. Unrelated pictures give 0, or a little less where the seeds are few.
    """
    rest = pictures.mean(dim=2).flatten(2)
    rest = rest - rest.mean(dim=1, keepdim=True)
    rest = torch.nn.functional.normalize(rest - rest.mean(dim=-1, keepdim=True), dim=-1)
    found = torch.einsum("psx,qtx->pqst", rest, rest)
    prompts, seeds = pictures.shape[:2]
    other_prompt = ~torch.eye(prompts, dtype=torch.bool)[:, :, None, None]
    same_seed = torch.eye(seeds, dtype=torch.bool)[None, None]
    return found[other_prompt & same_seed].mean().item(), found[other_prompt & ~same_seed].mean().item()


def differing(readings, named) -> float:
    """Return the share of the attributes not in ``named`` in which two of the judge's ``readings`` differ."""
    free = [name for name in NAMES if name not in named]
    pairs = list(combinations(readings, 2))
    return sum(one.values[name] != other.values[name] for one, other in pairs for name in free) / len(pairs) / len(free)


def score_guidance(pictures: dict, named: list[dict]) -> dict:
    """Return title -> list of (value, low, high) over the guidance scales, with 95 % intervals.

    pictures: scale -> [n, 3, H, W], as many for each of the sentences, one sentence after the other; named: what each
    sentence names. agreement: named attributes that the judge finds (Wilson's interval, every attribute counted as one
    trial). diversity: see ``differing``; it, contrast and clipped with the jackknife's interval.
    """
    scores: dict = {title: [] for title in ("agreement", "diversity", "contrast", "clipped")}
    for batch in pictures.values():
        each = len(batch) // len(named)
        readings = judge_images(list(batch))
        marks = agreement(readings, [words for words in named for _ in range(each)]).values()
        found = share(sum(right for right, _ in marks), sum(count for _, count in marks))
        scores["agreement"].append((found["share"], *found["interval"]))
        scores["diversity"].append(with_interval(lambda groups: _diversity(groups, named), _grouped(readings, each)))
        for title, measure in (("contrast", contrast), ("clipped", clipped)):
            scores[title].append(with_interval(_mean, _grouped(measure(batch).tolist(), each)))
    return scores


def _grouped(items: list, each: int) -> list[list]:
    return [items[start : start + each] for start in range(0, len(items), each)]


def _diversity(groups: list, named: list[dict]) -> float:
    return _mean([[differing(group, words) for group, words in zip(groups, named, strict=True)]])


def _mean(groups: list) -> float:
    return sum(map(sum, groups)) / sum(map(len, groups))
