"""The three samplers of lesson 04 against diffusers, and against each other."""

import diffusers
import pytest
import torch

from sdcourse.lessons.lesson_04 import PointDenoiser, exact_noise_pred
from sdlab import SdlabError, ddim_step, ddpm_step, euler_step, sample
from sdlab.samplers import choose_timesteps, pred_original_sample, to_sigma

SCHEDULE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
ALPHAS = diffusers.DDPMScheduler(**SCHEDULE).alphas_cumprod


def random_pair(shape=(2, 4, 6, 6)):
    generator = torch.Generator().manual_seed(5)
    return torch.randn(shape, generator=generator), torch.randn(shape, generator=generator)


@pytest.mark.parametrize("steps", [1000, 25, 7])
@pytest.mark.parametrize("place", [0, 3, -1])
def test_a_ddpm_step_equals_the_scheduler(steps, place):
    scheduler = diffusers.DDPMScheduler(**SCHEDULE, clip_sample=False)
    scheduler.set_timesteps(steps)
    t = scheduler.timesteps[place]
    prev_t = t - 1000 // steps
    noise_pred, latents = random_pair()
    expected = scheduler.step(noise_pred, t, latents, generator=torch.Generator().manual_seed(1)).prev_sample
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(1))
    there = ALPHAS[prev_t] if prev_t >= 0 else torch.tensor(1.0)
    torch.testing.assert_close(ddpm_step(noise_pred, latents, ALPHAS[t], there, noise=noise), expected)


@pytest.mark.parametrize("steps", [1000, 25, 7])
@pytest.mark.parametrize("place", [0, 3, -1])
def test_a_ddim_step_equals_the_scheduler(steps, place):
    scheduler = diffusers.DDIMScheduler(**SCHEDULE, clip_sample=False)
    scheduler.set_timesteps(steps)
    t = scheduler.timesteps[place]
    prev_t = t - 1000 // steps
    noise_pred, latents = random_pair()
    there = ALPHAS[prev_t] if prev_t >= 0 else torch.tensor(1.0)
    expected = scheduler.step(noise_pred, t, latents).prev_sample
    torch.testing.assert_close(ddim_step(noise_pred, latents, ALPHAS[t], there), expected)


@pytest.mark.parametrize("place", [0, 3, 9])
def test_an_euler_step_equals_the_scheduler(place):
    scheduler = diffusers.EulerDiscreteScheduler(**SCHEDULE)
    scheduler.set_timesteps(10)
    noise_pred, latents = random_pair()
    scheduler._init_step_index(scheduler.timesteps[place])
    expected = scheduler.step(noise_pred, scheduler.timesteps[place], latents).prev_sample
    sigma, sigma_next = scheduler.sigmas[place], scheduler.sigmas[place + 1]
    torch.testing.assert_close(euler_step(noise_pred, latents, sigma, sigma_next), expected)


def test_sigma_is_what_the_euler_scheduler_uses():
    scheduler = diffusers.EulerDiscreteScheduler(**SCHEDULE)
    torch.testing.assert_close(to_sigma(ALPHAS).flip(0), scheduler.sigmas[:-1])


def test_the_true_noise_gives_back_the_clean_sample_in_one_step():
    clean, noise = random_pair()
    noisy = ALPHAS[600] ** 0.5 * clean + (1 - ALPHAS[600]) ** 0.5 * noise
    torch.testing.assert_close(pred_original_sample(noise, noisy, ALPHAS[600]), clean, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(ddim_step(noise, noisy, ALPHAS[600], torch.tensor(1.0)), clean, rtol=1e-4, atol=1e-5)


def test_euler_and_ddim_are_the_same_walk():
    noise = torch.randn(64, 2, generator=torch.Generator().manual_seed(0))
    network = PointDenoiser()
    options = {"num_inference_steps": 12, "alphas_cumprod": ALPHAS}
    walks = [sample(network, noise, sampler=sampler, **options) for sampler in ("ddim", "euler")]
    for first, second in zip(*walks, strict=True):
        torch.testing.assert_close(first, second, rtol=1e-3, atol=1e-4)


def test_the_exact_denoiser_leads_every_noise_to_a_sample_of_the_data():
    data = torch.tensor([[-1.0], [0.5], [1.5]])
    noise = torch.randn(200, 1, generator=torch.Generator().manual_seed(0))

    def predict(noisy, t):
        return exact_noise_pred(noisy, ALPHAS[t], data)

    for sampler in ("ddpm", "ddim", "euler"):
        ends = sample(predict, noise, sampler=sampler, num_inference_steps=100, alphas_cumprod=ALPHAS)[-1]
        assert torch.cdist(ends, data).min(dim=1).values.max() < 0.05
        assert len({round(float(end), 1) for end in ends}) == 3


def test_the_exact_denoiser_is_the_mean_of_the_posterior():
    """Against a plain sum over the data, without any trick."""
    data, noisy = random_pair((7, 3))
    keep, add = ALPHAS[300] ** 0.5, (1 - ALPHAS[300]) ** 0.5
    for row, found in zip(noisy, exact_noise_pred(noisy, ALPHAS[300], data), strict=True):
        likely = torch.stack([torch.exp(-((row - keep * clean) ** 2).sum() / (2 * add**2)) for clean in data])
        guess = (likely[:, None] * data).sum(0) / likely.sum()
        torch.testing.assert_close(found, (row - keep * guess) / add, rtol=1e-4, atol=1e-5)


def test_the_seed_decides_the_noise_that_ddpm_adds():
    noise = torch.randn(8, 2, generator=torch.Generator().manual_seed(0))
    options = {"sampler": "ddpm", "num_inference_steps": 5, "alphas_cumprod": ALPHAS}
    network = PointDenoiser()
    assert torch.equal(sample(network, noise, **options)[-1], sample(network, noise, **options)[-1])
    assert not torch.equal(sample(network, noise, **options)[-1], sample(network, noise, **options, seed=1)[-1])


def test_timesteps_begin_at_the_last_and_are_those_of_diffusers_trailing():
    scheduler = diffusers.DDIMScheduler(**SCHEDULE, timestep_spacing="trailing")
    for steps in (1, 3, 20, 50, 1000):
        scheduler.set_timesteps(steps)
        assert choose_timesteps(steps) == scheduler.timesteps.tolist()


def test_zero_steps_and_unknown_samplers_are_refused():
    with pytest.raises(SdlabError, match="num_inference_steps=0"):
        choose_timesteps(0)
    with pytest.raises(SdlabError, match="no sampler 'heun'"):
        sample(None, torch.zeros(1, 2), sampler="heun", num_inference_steps=2, alphas_cumprod=ALPHAS)
