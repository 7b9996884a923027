"""The drawing loop, opened: its parts as functions, and everything that one round of it computes.

Everything works on the pipeline's own parts, and ``denoising_steps`` ends with exactly the latents of ``pipe(...)``.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from .arguments import (
    MOST_GUIDANCE,
    check_negative,
    check_number,
    check_pipeline,
    check_prompts,
    check_settings,
    check_size,
    latent_size,
    seeded_generators,
)
from .compat import added_conditions, step_options
from .drawing import DEFAULT_GUIDANCE, DEFAULT_STEPS
from .errors import SdlabError
from .prompts import check_prompt
from .samplers import use_sampler


@dataclass(frozen=True)
class Step:
    """One round of the loop; tensors [n, 4, h, w].

    latents: before the round, prev_sample: after it (diffusers' name: towards smaller t). noise_pred: guided.
    noise_pred_uncond is None without guidance. pred_original_sample: the clean latents if noise_pred were right.
    """

    index: int
    t: torch.Tensor
    latents: torch.Tensor
    noise_pred_uncond: torch.Tensor | None
    noise_pred_text: torch.Tensor
    noise_pred: torch.Tensor
    pred_original_sample: torch.Tensor
    prev_sample: torch.Tensor


def denoising_steps(
    pipe,
    prompt: str | list[str],
    *,
    seed: int = 0,
    num_inference_steps: int = DEFAULT_STEPS,
    guidance_scale: float = DEFAULT_GUIDANCE,
    sampler: str | None = None,
    negative_prompt: str | list[str] | None = None,
    num_images: int = 1,
) -> Iterator[Step]:
    """Draw ``prompt`` and yield a ``Step`` for every call of the U-Net; picture number i starts from seed + i.

    The last ``prev_sample`` is, bit for bit, what pipe(prompt, ..., output_type="latent") returns, SDXL's too.
    Ho & Salimans 2022 (guidance); the rest is the scheduler's. Raises SdlabError as ``draw`` does.
    """
    check_pipeline(pipe)
    check_settings(num_inference_steps, guidance_scale, num_images)
    prompts = check_prompts(prompt)
    for text in prompts:
        check_prompt(pipe, text)
    negative_prompt = check_negative(negative_prompt, len(prompts))
    generators = seeded_generators(seed, num_images * len(prompts))
    with use_sampler(pipe, sampler):
        prompt_embeds, negative_prompt_embeds, added = encode_all(
            pipe, prompts, negative_prompt=negative_prompt, num_images=num_images, guided=guidance_scale > 1
        )
        pipe.scheduler.set_timesteps(num_inference_steps, device=pipe.device)
        latents = prepare_latents(pipe, generators)  # [n, 4, h, w]: pure noise at the scheduler's scale
        extra = step_options(pipe, generators)
        conditions = {"negative_prompt_embeds": negative_prompt_embeds, "added_cond_kwargs": added}
        for index, t in enumerate(pipe.scheduler.timesteps):
            uncond, text = predict_noise(pipe, latents, t, prompt_embeds, **conditions)  # two times [n, 4, h, w]
            noise_pred = text if uncond is None else guide(uncond, text, guidance_scale)
            guess = _pred_original_sample(pipe.scheduler, noise_pred, latents, t)
            prev_sample = pipe.scheduler.step(noise_pred, t, latents, **extra, return_dict=False)[0]
            yield Step(index, t, latents, uncond, text, noise_pred, guess, prev_sample)
            latents = prev_sample


def encode_prompt(pipe, prompt: str, *, negative_prompt: str | None = None, num_images: int = 1):
    """Return (prompt_embeds, negative_prompt_embeds), both [num_images, tokens, width]: what the U-Net reads."""
    return encode_all(pipe, prompt, negative_prompt=negative_prompt, num_images=num_images)[:2]


@torch.no_grad()
def encode_all(pipe, prompt, *, negative_prompt=None, num_images: int = 1, guided: bool = True, size=None):
    """Return (prompt_embeds, negative_prompt_embeds, added_cond_kwargs), all that ``predict_noise`` takes of a text.

    prompt, negative_prompt: as the pipeline's. guided: without it the second is None. added_cond_kwargs: None but for
    SDXL, whose U-Net also reads a pooled vector and the ``size`` (height, width) of the picture.
    """
    options = {"device": pipe.device, "num_images_per_prompt": num_images, "do_classifier_free_guidance": True}
    found = pipe.encode_prompt(prompt=prompt, negative_prompt=negative_prompt, **options)
    text, negative, *pooled = (found[0], found[1] if guided else None, *found[2:])
    if not pooled:
        return text, negative, None
    size, (cond, uncond) = size or check_size(pipe), pooled
    parts = [added_conditions(pipe, uncond, size, low_score=True)] if guided else []
    parts.append(added_conditions(pipe, cond, size))
    return text, negative, {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def prepare_latents(pipe, generators: list) -> torch.Tensor:
    """Return the start noise [n, 4, h, w], one picture a generator, at the scale of the pipeline's scheduler."""
    return _noise(pipe, generators) * pipe.scheduler.init_noise_sigma


@torch.no_grad()
def predict_noise(pipe, latents, t, prompt_embeds, *, negative_prompt_embeds=None, added_cond_kwargs=None):
    """Return (noise_pred_uncond, noise_pred_text) of one call of the U-Net; the first is None without guidance.

    latents [n, 4, h, w] at the scheduler's scale; prompt_embeds [n, tokens, width]. added_cond_kwargs: what SDXL's
    U-Net reads beside the text, from ``denoising.encode_all``.
    """
    if added_cond_kwargs is None and pipe.unet.config.addition_embed_type:
        raise SdlabError(
            "SDXL's U-Net reads more than prompt_embeds: give the three values of sdlab.denoising.encode_all, the last "
            "as added_cond_kwargs."
        )
    embeds = prompt_embeds if negative_prompt_embeds is None else torch.cat([negative_prompt_embeds, prompt_embeds])
    rows = torch.cat([latents] * (len(embeds) // len(latents)))  # [2n, 4, h, w] with guidance: unconditional rows first
    model_input, text = pipe.scheduler.scale_model_input(rows, t), {"encoder_hidden_states": embeds}
    noise_pred = pipe.unet(model_input, t, **text, added_cond_kwargs=added_cond_kwargs, return_dict=False)[0]
    return (None, noise_pred) if negative_prompt_embeds is None else tuple(noise_pred.chunk(2))


def guide(noise_pred_uncond, noise_pred_text, guidance_scale: float):
    """Return eps_uncond + s (eps_text - eps_uncond): classifier-free guidance (Ho & Salimans 2022, with s = w + 1)."""
    return noise_pred_uncond + guidance_scale * (noise_pred_text - noise_pred_uncond)


def _pred_original_sample(scheduler, noise_pred, latents, t):
    """Solve the forward diffusion for the clean latents (Ho et al. 2020, eq. 15; Salimans & Ho 2022 for v)."""
    kind = scheduler.config.prediction_type
    if not hasattr(scheduler, "alphas_cumprod"):
        raise SdlabError(f"{type(scheduler).__name__} has no alphas_cumprod, which denoising_steps needs: use_sampler.")
    sample, alpha_prod_t = scheduler.scale_model_input(latents, t), scheduler.alphas_cumprod[int(t)].to(latents.device)
    keep, add = alpha_prod_t**0.5, (1 - alpha_prod_t) ** 0.5
    if kind not in ("epsilon", "v_prediction"):
        raise SdlabError(f"This model predicts {kind!r}: denoising_steps knows 'epsilon' and 'v_prediction'.")
    return (sample - add * noise_pred) / keep if kind == "epsilon" else keep * sample - add * noise_pred


def start_noise(pipe, *, seed: int = 0, num_images: int = 1) -> torch.Tensor:
    """Return Gaussian noise in the shape of ``num_images`` latents; number i is made from seed + i, on the CPU."""
    check_pipeline(pipe)
    return _noise(pipe, seeded_generators(seed, num_images))


def _noise(pipe, generators: list) -> torch.Tensor:
    shape = (1, pipe.unet.config.in_channels, *latent_size(pipe.unet))
    rows = [torch.randn(shape, generator=generator, dtype=pipe.unet.dtype) for generator in generators]
    return torch.cat(rows).to(pipe.device)


def noise_predictor(pipe, prompt: str = "", *, guidance_scale: float = DEFAULT_GUIDANCE):
    """Return a function (latents [n, 4, h, w], timestep) -> predicted noise of the same shape, guided by ``prompt``.

    With guidance (scale s > 1) it is eps_uncond + s (eps_text - eps_uncond) (Ho & Salimans 2022); with scale 1, or
    with the empty prompt, one prediction is used as it is. For models that predict noise ("epsilon").
    """
    check_pipeline(pipe)
    kind = pipe.scheduler.config.prediction_type
    if kind != "epsilon":
        raise SdlabError(f"This model predicts {kind!r}, not noise: use a model whose prediction_type is 'epsilon'.")
    check_number("guidance_scale", guidance_scale, 0, MOST_GUIDANCE, f"lie between 0 and {MOST_GUIDANCE}")
    guided = bool(prompt) and guidance_scale != 1
    if prompt:
        check_prompt(pipe, prompt)
    text, negative, added = encode_all(pipe, prompt, negative_prompt="" if prompt else None, guided=guided)

    @torch.no_grad()
    def predict(latents, t):
        t = torch.as_tensor(t, device=latents.device)
        embeds = text if negative is None else torch.cat([negative, text])
        rows = {name: _repeat(part, latents) for name, part in (added or {}).items()}
        text_rows = {"encoder_hidden_states": _repeat(embeds, latents), "added_cond_kwargs": rows or None}
        noise_pred = pipe.unet(torch.cat([latents] * len(embeds)), t, **text_rows).sample
        return guide(*noise_pred.chunk(2), guidance_scale) if guided else noise_pred

    return predict


def _repeat(rows, latents):
    return rows.repeat_interleave(len(latents), dim=0)
