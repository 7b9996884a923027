"""The drawing loop, opened: its parts as functions, and ``steps``, which gives everything that one round computes.

For lessons that no longer write the loop out. Everything works on the pipeline's own parts, and ``steps`` ends with
exactly the latents of ``pipe(...)``.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from .drawing import DEFAULT_GUIDANCE, DEFAULT_STEPS, check_settings, seeded_generators
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
    prompt: str,
    *,
    seed: int = 0,
    num_inference_steps: int = DEFAULT_STEPS,
    guidance_scale: float = DEFAULT_GUIDANCE,
    sampler: str | None = None,
    negative_prompt: str = "",
    num_images: int = 1,
) -> Iterator[Step]:
    """Draw ``prompt`` and yield a ``Step`` for every call of the U-Net; picture number i starts from seed + i.

    The last ``prev_sample`` is, bit for bit, what pipe(prompt, ..., output_type="latent") returns.
    Ho & Salimans 2022 (guidance); the rest is the scheduler's. Raises SdlabError as ``draw`` does.
    """
    check_settings(num_inference_steps, guidance_scale, num_images)
    check_prompt(pipe, prompt)
    generators = seeded_generators(seed, num_images)
    prompt_embeds, negative_prompt_embeds = encode_prompt(
        pipe, prompt, negative_prompt=negative_prompt, num_images=num_images
    )
    with use_sampler(pipe, sampler):
        pipe.scheduler.set_timesteps(num_inference_steps, device=pipe.device)
        latents = prepare_latents(pipe, generators)
        extra = pipe.prepare_extra_step_kwargs(generators, 0.0)
        for index, t in enumerate(pipe.scheduler.timesteps):
            negative = negative_prompt_embeds if guidance_scale > 1 else None
            uncond, text = predict_noise(pipe, latents, t, prompt_embeds, negative_prompt_embeds=negative)
            noise_pred = text if uncond is None else guide(uncond, text, guidance_scale)
            guess = _pred_original_sample(pipe.scheduler, noise_pred, latents, t)
            prev_sample = pipe.scheduler.step(noise_pred, t, latents, **extra, return_dict=False)[0]
            yield Step(index, t, latents, uncond, text, noise_pred, guess, prev_sample)
            latents = prev_sample


@torch.no_grad()
def encode_prompt(pipe, prompt: str, *, negative_prompt: str = "", num_images: int = 1):
    """Return (prompt_embeds, negative_prompt_embeds), both [num_images, tokens, width]: what the U-Net reads."""
    return pipe.encode_prompt(prompt, pipe.device, num_images, True, negative_prompt=negative_prompt)


def prepare_latents(pipe, generators: list) -> torch.Tensor:
    """Return the start noise [n, 4, h, w], one picture a generator, at the scale of the pipeline's scheduler."""
    return _noise(pipe, generators) * pipe.scheduler.init_noise_sigma


@torch.no_grad()
def predict_noise(pipe, latents, t, prompt_embeds, *, negative_prompt_embeds=None):
    """Return (noise_pred_uncond, noise_pred_text) of one call of the U-Net; the first is None without guidance.

    latents [n, 4, h, w] at the scheduler's scale; prompt_embeds [n, tokens, width].
    """
    embeds = prompt_embeds if negative_prompt_embeds is None else torch.cat([negative_prompt_embeds, prompt_embeds])
    rows = torch.cat([latents] * (len(embeds) // len(latents)))
    model_input = pipe.scheduler.scale_model_input(rows, t)
    noise_pred = pipe.unet(model_input, t, encoder_hidden_states=embeds, return_dict=False)[0]
    return (None, noise_pred) if negative_prompt_embeds is None else tuple(noise_pred.chunk(2))


def guide(noise_pred_uncond, noise_pred_text, guidance_scale: float):
    """Return eps_uncond + s (eps_text - eps_uncond): classifier-free guidance (Ho & Salimans 2022, with s = w + 1)."""
    return noise_pred_uncond + guidance_scale * (noise_pred_text - noise_pred_uncond)


def _pred_original_sample(scheduler, noise_pred, latents, t):
    """Solve the forward diffusion for the clean latents (Ho et al. 2020, eq. 15; Salimans & Ho 2022 for v)."""
    kind = scheduler.config.prediction_type
    sample, alpha_prod_t = scheduler.scale_model_input(latents, t), scheduler.alphas_cumprod[int(t)].to(latents.device)
    keep, add = alpha_prod_t**0.5, (1 - alpha_prod_t) ** 0.5
    if kind not in ("epsilon", "v_prediction"):
        raise SdlabError(f"This model predicts {kind!r}: denoising_steps knows 'epsilon' and 'v_prediction'.")
    return (sample - add * noise_pred) / keep if kind == "epsilon" else keep * sample - add * noise_pred


def start_noise(pipe, *, seed: int = 0, num_images: int = 1) -> torch.Tensor:
    """Return Gaussian noise in the shape of ``num_images`` latents; number i is made from seed + i, on the CPU."""
    return _noise(pipe, seeded_generators(seed, num_images))


def _noise(pipe, generators: list) -> torch.Tensor:
    shape = (1, pipe.unet.config.in_channels, *[pipe.unet.config.sample_size] * 2)
    rows = [torch.randn(shape, generator=generator, dtype=pipe.unet.dtype) for generator in generators]
    return torch.cat(rows).to(pipe.device)


def noise_predictor(pipe, prompt: str = "", *, guidance_scale: float = DEFAULT_GUIDANCE):
    """Return a function (latents [n, 4, h, w], timestep) -> predicted noise of the same shape, guided by ``prompt``.

    With guidance (scale s > 1) it is eps_uncond + s (eps_text - eps_uncond) (Ho & Salimans 2022); with scale 1, or
    with the empty prompt, one prediction is used as it is. For models that predict noise ("epsilon").
    """
    kind = pipe.scheduler.config.prediction_type
    if kind != "epsilon":
        raise SdlabError(f"This model predicts {kind!r}, not noise: use a model whose prediction_type is 'epsilon'.")
    guided = bool(prompt) and guidance_scale != 1
    if prompt:
        check_prompt(pipe, prompt)
    with torch.no_grad():
        text, empty = pipe.encode_prompt(prompt, pipe.device, 1, do_classifier_free_guidance=True, negative_prompt="")

    @torch.no_grad()
    def predict(latents, t):
        t = torch.as_tensor(t, device=latents.device)
        if not guided:
            return pipe.unet(latents, t, encoder_hidden_states=text.repeat(len(latents), 1, 1)).sample
        both = torch.cat([empty, text]).repeat_interleave(len(latents), dim=0)
        noise_pred = pipe.unet(torch.cat([latents, latents]), t, encoder_hidden_states=both).sample
        return guide(*noise_pred.chunk(2), guidance_scale)

    return predict
