"""Pictures drawn together are the pictures drawn one by one."""

import pytest
import torch

from sdcourse.lessons.lesson_09 import Setting, denoise_many, draw_groups, draw_many
from sdlab import SdlabError, denoising_steps, encode_prompt
from sdlab.latents import decode_latents

PROMPT = "a cat, a man"


@pytest.fixture(params=["pocket", "sd15"])
def pipe(request):
    return request.getfixturevalue(request.param)


def alone(pipe, setting: Setting) -> torch.Tensor:
    """Return the latents of the opened loop, which equals the pipeline bit for bit (test_loop.py)."""
    names = ("seed", "sampler", "num_inference_steps", "guidance_scale", "negative_prompt")
    *_, last = denoising_steps(pipe, setting.prompt, **{name: getattr(setting, name) for name in names})
    return last.prev_sample


def test_a_mixed_batch_gives_the_latents_that_each_setting_gives_alone(pipe):
    settings = [
        Setting(PROMPT, seed=number, sampler=sampler, num_inference_steps=2 + number % 3, guidance_scale=scale)
        for number, (sampler, scale) in enumerate(
            [("euler", 4.0), ("dpm", 1.0), ("pndm", 2.0), ("ddim", 1), ("ddpm", 3.0), ("ddpm", 1.0), (None, 5.0)]
        )
    ]
    settings.append(Setting("a dog", negative_prompt=PROMPT, num_inference_steps=3, sampler="euler"))
    together = denoise_many(pipe, settings, batch_size=3)  # so that finished ones make room for others
    for setting, found in zip(settings, together, strict=True):
        torch.testing.assert_close(found[None], alone(pipe, setting), atol=1e-3, rtol=1e-3)


def test_scale_zero_ignores_the_prompt_and_follows_the_negative_one(pipe):
    zero = {"guidance_scale": 0, "num_inference_steps": 3, "sampler": "ddim"}
    one, other = denoise_many(pipe, [Setting(PROMPT, **zero), Setting("a dog", **zero)])
    assert torch.equal(one, other)
    followed = denoise_many(pipe, [Setting("a dog", negative_prompt=PROMPT, **zero)])
    expected = alone(pipe, Setting(PROMPT, num_inference_steps=3, sampler="ddim", guidance_scale=1))
    torch.testing.assert_close(followed, expected, atol=1e-3, rtol=1e-3)


def test_another_step_seed_changes_ddpm_and_nothing_else(pocket):
    for sampler, same in (("ddpm", False), ("euler", True)):
        settings = [Setting(PROMPT, sampler=sampler, num_inference_steps=3, step_seed=seed) for seed in (1, 2)]
        one, other = denoise_many(pocket, settings)
        assert torch.equal(one, other) is same


@pytest.mark.parametrize("sampler", ["euler", "ddim", "pndm", "dpm", "ddpm"])
def test_at_calls_counts_the_calls_of_the_unet_and_trailing_starts_at_the_last_timestep(pipe, sampler):
    seen = []
    hook = pipe.unet.register_forward_pre_hook(lambda module, args: seen.append(int(args[1][0])))
    try:
        denoise_many(pipe, [Setting(PROMPT, timestep_spacing="trailing").at_calls(sampler, 4)])
    finally:
        hook.remove()
    assert len(seen) == 4
    assert seen[0] == 999


def test_the_scheduler_of_the_pipeline_is_left_alone(pocket):
    own = pocket.scheduler
    denoise_many(pocket, [Setting(PROMPT, sampler="euler", num_inference_steps=1, timestep_spacing="trailing")])
    assert pocket.scheduler is own


def test_groups_come_back_under_their_names_as_pictures(pocket):
    settings = [Setting(PROMPT, seed=seed, num_inference_steps=1, sampler="ddim") for seed in range(3)]
    groups = draw_groups(pocket, {"one": settings[:1], "two": settings[1:]})
    torch.testing.assert_close(torch.cat([groups["one"], groups["two"]]), draw_many(pocket, settings))
    torch.testing.assert_close(groups["one"], decode_latents(pocket, denoise_many(pocket, settings[:1])))
    assert groups["two"].shape == (2, 3, 128, 128)


def test_bad_settings_are_refused(pocket):
    for setting, words in (
        (Setting(PROMPT, num_inference_steps=0), "num_inference_steps=0"),
        (Setting(PROMPT, guidance_scale=-1), "guidance_scale=-1"),
        (Setting(" "), "empty"),
        (Setting(PROMPT, sampler="heun"), "no sampler"),
    ):
        with pytest.raises(SdlabError, match=words):
            denoise_many(pocket, [setting])


def test_embeddings_are_those_of_the_pipeline(pocket):
    prompt_embeds, negative_prompt_embeds = encode_prompt(pocket, PROMPT, negative_prompt="a dog")
    both = pocket.tokenizer(["a dog", PROMPT], padding="max_length", return_tensors="pt").input_ids
    with torch.no_grad():
        by_hand = pocket.text_encoder(both)[0]
    torch.testing.assert_close(by_hand, torch.cat([negative_prompt_embeds, prompt_embeds]), atol=1e-4, rtol=1e-4)
