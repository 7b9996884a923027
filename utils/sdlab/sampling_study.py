"""Draw many pictures, each with settings of its own: for lessons that compare samplers, steps and guidance.

Every picture has its own scheduler, but all share the calls of the U-Net: rows of other prompts and timesteps go
through it together, and a picture that is finished makes room for the next one. That is much cheaper on a CPU.
"""

from dataclasses import dataclass, replace

import torch

from .drawing import DEFAULT_GUIDANCE, DEFAULT_STEPS, check_prompt, check_settings, seeded_generators, use_sampler
from .errors import SdlabError
from .loop import decode_latents, encode_prompt, guide, prepare_latents


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
def draw_latents(pipe, settings, *, batch_size: int | None = None) -> torch.Tensor:
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
    latents = draw_latents(pipe, settings, batch_size=batch_size)
    return torch.cat([decode_latents(pipe, part).float().cpu() for part in latents.split(batch_size)])


def draw_groups(pipe, groups: dict) -> dict:
    """Return name -> pictures [n, 3, H, W] for name -> list of settings; all of them are drawn together."""
    pictures = draw_many(pipe, [setting for settings in groups.values() for setting in settings])
    parts = pictures.split([len(settings) for settings in groups.values()])
    return dict(zip(groups, parts, strict=True))
