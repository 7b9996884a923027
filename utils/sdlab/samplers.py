"""One step of DDPM, DDIM and Euler, written out, a loop around them, and the library's samplers by name.

All three take the predicted noise and the two cumulative products of the schedule: ``alpha_prod_t`` where we are and
``alpha_prod_t_prev`` where we go.
"""

from itertools import pairwise

import torch

from .arguments import check_pipeline, check_steps, seeded_generators
from .errors import SdlabError, context

STEPS = ("ddpm", "ddim", "euler")
SAMPLERS = {
    "ddim": "DDIMScheduler",
    "ddpm": "DDPMScheduler",
    "euler": "EulerDiscreteScheduler",
    "pndm": "PNDMScheduler",
    "dpm": "DPMSolverMultistepScheduler",
}


def pred_original_sample(noise_pred, sample, alpha_prod_t):
    """Return the guess at the clean sample if ``noise_pred`` were right (Ho et al. 2020, eq. 15)."""
    return (sample - (1 - alpha_prod_t) ** 0.5 * noise_pred) / alpha_prod_t**0.5


def ddpm_step(noise_pred, sample, alpha_prod_t, alpha_prod_t_prev, *, noise):
    """Return the next sample of DDPM (Ho et al. 2020, algorithm 2, with the smaller of its two variances, eq. 7).

    noise: fresh Gaussian noise in the shape of ``sample``. Steps may leave timesteps out: alpha is then the
    product over all that are passed.
    """
    alpha_t = alpha_prod_t / alpha_prod_t_prev  # what the passed steps keep together: a number, as beta_t
    beta_t = 1 - alpha_t
    mean = (sample - beta_t / (1 - alpha_prod_t) ** 0.5 * noise_pred) / alpha_t**0.5
    variance = (1 - alpha_prod_t_prev) / (1 - alpha_prod_t) * beta_t
    return mean + variance**0.5 * noise


def ddim_step(noise_pred, sample, alpha_prod_t, alpha_prod_t_prev):
    """Return the next sample of DDIM with eta 0 (Song et al. 2020, "Denoising Diffusion Implicit Models", eq. 12)."""
    guess = pred_original_sample(noise_pred, sample, alpha_prod_t)  # the shape of ``sample``, as noise_pred
    return alpha_prod_t_prev**0.5 * guess + (1 - alpha_prod_t_prev) ** 0.5 * noise_pred


def euler_step(noise_pred, sample, sigma, sigma_next):
    """Return the next sample of Euler's method (Karras et al. 2022, algorithm 1).

    sample: in sigma space, that is the noisy sample divided by alpha_prod_t ** 0.5.
    """
    return sample + (sigma_next - sigma) * noise_pred


def to_sigma(alpha_prod_t):
    """Return sigma, the noise in a sample for each unit of clean sample in it (Karras et al. 2022)."""
    return ((1 - alpha_prod_t) / alpha_prod_t) ** 0.5


def choose_timesteps(num_inference_steps: int, count: int = 1000) -> list[int]:
    """Return ``num_inference_steps`` timesteps from count - 1 down, in equal steps ("trailing" in diffusers)."""
    check_steps(num_inference_steps, count)
    return [round(count - count * step / num_inference_steps) - 1 for step in range(num_inference_steps)]


@torch.no_grad()
def sample(predict_noise, noise, *, sampler: str, num_inference_steps: int, alphas_cumprod, seed: int = 0):
    """Run a sampler from ``noise``; return the samples after every step, the noise itself first.

    predict_noise: function of (noisy samples, timestep) that returns the predicted noise in the same shape.
    sampler: "ddpm", "ddim" or "euler". seed: of the noise that DDPM adds on its way.
    """
    if sampler not in STEPS:
        raise SdlabError(f"There is no sampler {sampler!r} here: use one of {', '.join(STEPS)}.")
    (generator,) = seeded_generators(seed, 1)
    timesteps = choose_timesteps(num_inference_steps, len(alphas_cumprod))
    path = [noise]
    for t, prev_t in pairwise([*timesteps, None]):
        here = alphas_cumprod[t]
        there = torch.ones_like(here) if prev_t is None else alphas_cumprod[prev_t]
        noise_pred = predict_noise(path[-1], t)
        path.append(_step(sampler, noise_pred, path[-1], here, there, generator))
    return path


def _step(sampler, noise_pred, latents, here, there, generator):
    if sampler == "ddim":
        return ddim_step(noise_pred, latents, here, there)
    if sampler == "euler":  # into sigma space, one step, and back
        moved = euler_step(noise_pred, latents / here**0.5, to_sigma(here), to_sigma(there))
        return moved * there**0.5
    fresh = torch.randn(latents.shape, generator=generator, dtype=latents.dtype).to(latents.device)
    return ddpm_step(noise_pred, latents, here, there, noise=fresh)


@context
def use_sampler(pipe, sampler: str | None = None):
    """Give ``pipe`` a fresh scheduler of the kind ``sampler``, a name of ``SAMPLERS``; restore its own at the end."""
    import diffusers

    if sampler is not None and sampler not in SAMPLERS:
        raise SdlabError(f"There is no sampler {sampler!r}: use one of {', '.join(SAMPLERS)}.")
    check_pipeline(pipe, draws=False)
    own = pipe.scheduler
    kind = getattr(diffusers, SAMPLERS[sampler]) if sampler else type(own)
    try:
        options = {"skip_prk_steps": True} if sampler == "pndm" else {}  # as in Stable Diffusion's own PNDM
        pipe.scheduler = kind.from_config(own.config, **options)
        yield pipe
    finally:
        pipe.scheduler = own
