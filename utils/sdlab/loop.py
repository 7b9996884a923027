"""The parts of the drawing loop as functions, for lessons that no longer write them out: noise in, picture out."""

import torch

from .drawing import DEFAULT_GUIDANCE, check_prompt, seeded_generators
from .errors import SdlabError


def start_noise(pipe, *, seed: int = 0, count: int = 1) -> torch.Tensor:
    """Return Gaussian noise in the shape of ``count`` latents; number i is made from seed + i, always on the CPU."""
    size, channels = pipe.unet.config.sample_size, pipe.unet.config.in_channels
    rows = [
        torch.randn((1, channels, size, size), generator=generator, dtype=pipe.unet.dtype)
        for generator in seeded_generators(seed, count)
    ]
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
    def predict_noise(latents, t):
        t = torch.as_tensor(t, device=latents.device)
        if not guided:
            return pipe.unet(latents, t, encoder_hidden_states=text.repeat(len(latents), 1, 1)).sample
        both = torch.cat([empty, text]).repeat_interleave(len(latents), dim=0)
        noise_pred = pipe.unet(torch.cat([latents, latents]), t, encoder_hidden_states=both).sample
        noise_pred_uncond, noise_pred_text = noise_pred.chunk(2)
        return noise_pred_uncond + guidance_scale * (noise_pred_text - noise_pred_uncond)

    return predict_noise


@torch.no_grad()
def decode_latents(pipe, latents: torch.Tensor) -> torch.Tensor:
    """Return pictures [n, 3, H, W] in [0, 1] of latents [n, 4, h, w]."""
    pictures = pipe.vae.decode(latents / pipe.vae.config.scaling_factor).sample
    return (pictures / 2 + 0.5).clamp(0, 1)
