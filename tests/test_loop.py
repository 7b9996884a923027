"""The opened loop against the pipeline: the same numbers, bit for bit, with every quantity on the way."""

import gc
from itertools import pairwise

import pytest
import torch

from sdlab import SdlabError, denoising_steps, guide, load_pipeline, noise_predictor, start_noise, use_sampler
from sdlab.latents import decode_latents
from tiny_pipeline import sd15_shaped

PROMPT = "a man with blue eyes"


@pytest.fixture(scope="module", params=["pocket", "sd15-shaped"])
def pipe(request, tmp_path_factory):
    if request.param == "pocket":
        return load_pipeline("pocket", device="cpu")
    pipe = sd15_shaped(tmp_path_factory.mktemp("sd15"))
    pipe.set_progress_bar_config(disable=True)
    return pipe


def drawn_by_pipe(pipe, *, sampler, count=1, **options):
    generators = [torch.Generator().manual_seed(5 + number) for number in range(count)]
    with use_sampler(pipe, sampler):
        return pipe(PROMPT, generator=generators, num_images_per_prompt=count, output_type="latent", **options).images


@pytest.mark.parametrize("sampler", ["pndm", "ddim", "euler", "ddpm"])
@pytest.mark.parametrize("guidance_scale", [1.0, 5.0])
def test_the_steps_end_with_the_latents_of_the_pipeline(pipe, sampler, guidance_scale):
    options = {"num_inference_steps": 4, "guidance_scale": guidance_scale}
    *_, last = denoising_steps(pipe, PROMPT, seed=5, sampler=sampler, **options)
    assert torch.equal(last.prev_sample, drawn_by_pipe(pipe, sampler=sampler, **options))


def test_batches_and_a_negative_prompt_equal_the_pipeline_too(pipe):
    options = {"num_inference_steps": 3, "guidance_scale": 4.0, "negative_prompt": "a cat"}
    *_, last = denoising_steps(pipe, PROMPT, seed=5, sampler="ddim", num_images=2, **options)
    assert torch.equal(last.prev_sample, drawn_by_pipe(pipe, sampler="ddim", count=2, **options))


def test_each_round_begins_where_the_last_one_ended(pipe):
    rounds = list(denoising_steps(pipe, PROMPT, num_inference_steps=4, sampler="euler"))
    assert [step.index for step in rounds] == [0, 1, 2, 3]
    for before, after in pairwise(rounds):
        assert torch.equal(before.prev_sample, after.latents)
        assert before.t > after.t


def test_the_guided_noise_is_the_formula_of_its_two_parts(pipe):
    for step in denoising_steps(pipe, PROMPT, num_inference_steps=3, guidance_scale=3.0):
        expected = step.noise_pred_uncond + 3.0 * (step.noise_pred_text - step.noise_pred_uncond)
        assert torch.equal(step.noise_pred, expected)
        assert torch.equal(step.noise_pred, guide(step.noise_pred_uncond, step.noise_pred_text, 3.0))


def test_without_guidance_the_text_prediction_is_used_alone(pipe):
    for step in denoising_steps(pipe, PROMPT, num_inference_steps=2, guidance_scale=1.0):
        assert step.noise_pred_uncond is None
        assert step.noise_pred is step.noise_pred_text


def test_pndm_calls_the_unet_once_more_than_it_has_steps():
    assert len(list(denoising_steps(load_pipeline("pocket", device="cpu"), PROMPT, num_inference_steps=5))) == 6


@pytest.mark.parametrize("sampler", ["ddim", "euler", "ddpm"])
def test_the_guess_at_the_end_is_the_schedulers_own(pipe, sampler):
    for step in denoising_steps(pipe, PROMPT, num_inference_steps=3, sampler=sampler):
        with use_sampler(pipe, sampler):
            pipe.scheduler.set_timesteps(3)
            pipe.scheduler.scale_model_input(step.latents, step.t)
            library = pipe.scheduler.step(step.noise_pred, step.t, step.latents).pred_original_sample
        torch.testing.assert_close(step.pred_original_sample, library, rtol=5e-3, atol=1e-3)


def test_the_guess_adds_up_with_the_noise_to_the_latents(pipe):
    for step in denoising_steps(pipe, PROMPT, num_inference_steps=3, sampler="ddim"):
        alpha_prod_t = pipe.scheduler.alphas_cumprod[int(step.t)]
        mixed = alpha_prod_t**0.5 * step.pred_original_sample + (1 - alpha_prod_t) ** 0.5 * step.noise_pred
        torch.testing.assert_close(mixed, step.latents, rtol=1e-4, atol=1e-4)


def test_the_predictor_is_the_guided_noise_of_the_first_step(pipe):
    first = next(iter(denoising_steps(pipe, PROMPT, seed=3, num_inference_steps=4, guidance_scale=4.0, sampler="ddim")))
    predict = noise_predictor(pipe, PROMPT, guidance_scale=4.0)
    torch.testing.assert_close(predict(start_noise(pipe, seed=3), first.t), first.noise_pred)


def test_decoding_gives_the_pictures_of_the_pipeline(pipe):
    options = {"num_inference_steps": 2, "guidance_scale": 2.0}
    *_, last = denoising_steps(pipe, PROMPT, seed=5, sampler="ddim", **options)
    with use_sampler(pipe, "ddim"):
        library = pipe(PROMPT, generator=torch.Generator().manual_seed(5), output_type="pt", **options).images
    assert torch.equal(decode_latents(pipe, last.prev_sample), library)


def test_the_scheduler_is_restored_even_if_the_loop_is_left_early(pipe):
    own = pipe.scheduler
    for _step in denoising_steps(pipe, PROMPT, num_inference_steps=4, sampler="euler"):
        break
    gc.collect()  # the generator is left behind, and cleans up when it is collected
    assert pipe.scheduler is own


def test_bad_settings_are_refused_before_anything_is_drawn(pipe):
    with pytest.raises(SdlabError, match="num_inference_steps=0"):
        next(iter(denoising_steps(pipe, PROMPT, num_inference_steps=0)))
    with pytest.raises(SdlabError, match=r"guidance_scale=0\.5"):
        next(iter(denoising_steps(pipe, PROMPT, guidance_scale=0.5)))
    with pytest.raises(SdlabError, match="empty"):
        next(iter(denoising_steps(pipe, " ")))
