"""Image to image and inpainting against diffusers' own pipelines, and the limits: strength 0, strength 1, the mask."""

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionImg2ImgPipeline, StableDiffusionInpaintPipeline
from PIL import Image

from sdcourse.judging import share
from sdcourse.lessons.charts import plot_rates_along
from sdcourse.lessons.lesson_10 import change_by_distance, pixels_of, redraw_panel, seam, steps_outside
from sdcourse.lessons.lesson_10_figures import framed_mask, plot_strength
from sdcourse.portraits import draw_portrait, plan_portrait
from sdlab import SdlabError, decode, encode, inpaint, load_pipeline, prepare_image, redraw, use_sampler
from sdlab.image_to_image import (
    late_timesteps,
    latent_mask,
    paste_back,
    prepare_image_latents,
    redraw_latents,
    start_step,
)
from sdlab.instruments import count_calls
from sdlab.prompts import PromptWarning
from tiny_pipeline import sd15_shaped

PROMPT = "a man with blue eyes"


@pytest.fixture(scope="module", params=["pocket", "sd15-shaped"])
def pipe(request, tmp_path_factory):
    return load_pipeline("pocket", device="cpu") if request.param == "pocket" else sd15_shaped(
        tmp_path_factory.mktemp("sd15")
    )


@pytest.fixture(scope="module")
def portrait():
    return draw_portrait(plan_portrait(60_000_210), masks=True)


@pytest.fixture(scope="module")
def picture(portrait):
    return Image.fromarray(portrait.image)


def generator(seed=3):
    return torch.Generator().manual_seed(seed)


def library_of(kind, pipe):
    library = kind(**pipe.components, requires_safety_checker=False)
    library.set_progress_bar_config(disable=True)
    return library


def ours(pipe, picture, *, mask=None, seed=3, **options):
    generators = [generator(seed)]
    latents, noise = prepare_image_latents(pipe, [picture], generators)
    return redraw_latents(pipe, latents, noise, [PROMPT], generators=generators, mask=mask, **options)


# whole pictures


@pytest.mark.parametrize("sampler", ["ddim", "euler", "ddpm", "dpm"])
@pytest.mark.parametrize(("steps", "strength"), [(10, 0.35), (7, 0.5), (2, 1.0)])
def test_redrawn_latents_are_those_of_the_library(pipe, picture, sampler, steps, strength):
    options = {"strength": strength, "num_inference_steps": steps, "guidance_scale": 4.0}
    with use_sampler(pipe, sampler):
        library = library_of(StableDiffusionImg2ImgPipeline, pipe)
        expected = library(PROMPT, picture, generator=generator(), output_type="latent", **options).images
        torch.testing.assert_close(ours(pipe, picture, **options), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("strength", [0.7, 1.0])
def test_pndm_equals_the_library_too_with_its_extra_call(pocket, picture, strength):
    library = library_of(StableDiffusionImg2ImgPipeline, pocket)
    options = {"strength": strength, "num_inference_steps": 3, "guidance_scale": 4.0}
    expected = library(PROMPT, picture, generator=generator(), output_type="latent", **options).images
    with count_calls(pocket) as calls:
        torch.testing.assert_close(ours(pocket, picture, **options), expected, atol=1e-5, rtol=1e-5)
    assert calls["unet"] == int(3 * strength) + 1


def test_without_guidance_and_with_a_negative_prompt_the_latents_are_the_library_s(pipe, picture):
    with use_sampler(pipe, "ddim"):
        library = library_of(StableDiffusionImg2ImgPipeline, pipe)
        for options in ({"guidance_scale": 1.0}, {"guidance_scale": 3.0, "negative_prompt": "a cat"}):
            options |= {"strength": 0.5, "num_inference_steps": 4}
            expected = library(PROMPT, picture, generator=generator(), output_type="latent", **options).images
            torch.testing.assert_close(ours(pipe, picture, **options), expected, atol=1e-5, rtol=1e-5)


def test_redraw_returns_the_library_s_picture(pipe, picture):
    options = {"strength": 0.5, "num_inference_steps": 4, "guidance_scale": 4.0}
    with use_sampler(pipe, "euler"):
        library = library_of(StableDiffusionImg2ImgPipeline, pipe)
        expected = library(PROMPT, picture, generator=generator(), **options).images[0]
    redrawn = redraw(pipe, picture, PROMPT, seed=3, sampler="euler", **options)
    assert np.abs(np.asarray(redrawn, dtype=int) - np.asarray(expected, dtype=int)).max() <= 1


def test_a_picture_is_the_same_alone_and_in_a_batch(pocket, picture):
    options = {"strength": 0.5, "num_inference_steps": 4}
    many = redraw(pocket, picture, [PROMPT, "a cat", "a dog"], seed=5, **options)
    alone = redraw(pocket, picture, "a dog", seed=7, **options)
    assert np.abs(np.asarray(many[2], dtype=int) - np.asarray(alone, dtype=int)).max() <= 1


@pytest.mark.parametrize("sampler", ["ddim", "pndm", "euler"])
@pytest.mark.parametrize("strength", [0.0, 0.04])
def test_without_a_step_to_run_the_picture_comes_back_through_the_vae(pocket, picture, sampler, strength):
    with count_calls(pocket) as calls:
        redrawn = redraw(pocket, picture, PROMPT, strength=strength, seed=3, sampler=sampler)
    assert calls["unet"] == 0
    latents = encode(pocket, pocket.image_processor.preprocess(picture), generator=generator())
    expected = decode(pocket, latents)[0].permute(1, 2, 0).numpy()
    assert np.abs(np.asarray(redrawn) / 255 - expected).max() < 0.01


@pytest.mark.parametrize("steps", [1, 7, 20, 50])
@pytest.mark.parametrize("strength", [0.0, 0.29, 0.35, 0.58, 0.99, 1.0])
def test_as_many_steps_run_as_the_product_has_whole_ones(pocket, steps, strength):
    assert start_step(steps, strength) == steps - int(steps * strength)
    with use_sampler(pocket, "ddim"):
        assert len(late_timesteps(pocket.scheduler, steps, strength=strength)) == int(steps * strength)


def test_the_late_timesteps_are_the_last_ones(pocket):
    with use_sampler(pocket, "ddim"):
        late = late_timesteps(pocket.scheduler, 10, strength=0.3)
        assert late.tolist() == pocket.scheduler.timesteps[-3:].tolist()


def test_more_strength_takes_the_picture_further_away(pocket, picture):
    options = {"num_inference_steps": 6, "sampler": "ddim"}
    far = [
        np.abs(np.asarray(redraw(pocket, picture, "a cat", strength=strength, **options), dtype=float) - picture)
        .mean()
        for strength in (0.0, 0.4, 0.9)
    ]
    assert far[0] < far[1] < far[2]


def test_strength_one_still_depends_on_the_picture(pocket, picture):
    other = draw_portrait(plan_portrait(60_000_007)).image
    options = {"strength": 1.0, "num_inference_steps": 5, "sampler": "ddim"}
    one, two = (np.asarray(redraw(pocket, item, PROMPT, **options), dtype=float) for item in (picture, other))
    assert np.abs(one - two).mean() > 5


def test_the_scheduler_is_restored(pocket, picture):
    own = pocket.scheduler
    redraw(pocket, picture, PROMPT, strength=0.5, num_inference_steps=2, sampler="euler")
    assert pocket.scheduler is own


# behind a mask


@pytest.mark.parametrize("sampler", ["ddim", "euler", "dpm"])
@pytest.mark.parametrize("strength", [0.6, 1.0])
def test_inpainted_latents_are_those_of_the_library(pipe, portrait, picture, sampler, strength):
    mask = portrait.masks["shirt"]
    options = {"strength": strength, "num_inference_steps": 4, "guidance_scale": 4.0}
    with use_sampler(pipe, sampler):
        library = library_of(StableDiffusionInpaintPipeline, pipe)
        expected = library(
            PROMPT, picture, Image.fromarray(mask), height=128, width=128, generator=generator(),
            output_type="latent", **options,
        ).images
        cells = latent_mask(mask, pipe.vae_scale_factor, cover="corner")
        torch.testing.assert_close(ours(pipe, picture, mask=cells, **options), expected, atol=1e-4, rtol=1e-4)


def test_outside_the_mask_the_latents_end_as_they_were(pipe, portrait, picture):
    cells = latent_mask(portrait.masks["hat"], pipe.vae_scale_factor)
    latents, noise = prepare_image_latents(pipe, [picture], [generator()])
    with use_sampler(pipe, "ddim"):
        result = redraw_latents(pipe, latents, noise, [PROMPT], strength=1.0, num_inference_steps=3, mask=cells)
    outside = cells.expand_as(latents) == 0
    assert torch.equal(result[outside], latents[outside])
    assert not torch.allclose(result[~outside], latents[~outside], atol=0.1)


def test_a_mask_of_everything_draws_from_the_noise_alone(pocket, picture):
    latents, noise = prepare_image_latents(pocket, [picture], [generator()])
    options = {"num_inference_steps": 3, "guidance_scale": 4.0}
    with use_sampler(pocket, "ddim"):
        everything = torch.ones_like(latents[:, :1])
        result = redraw_latents(pocket, latents, noise, [PROMPT], strength=1.0, mask=everything, **options)
        expected = pocket(PROMPT, latents=noise, output_type="latent", **options).images
    torch.testing.assert_close(result, expected, atol=1e-5, rtol=1e-5)


def test_pasting_keeps_every_pixel_outside_the_mask(pocket, portrait, picture):
    mask = portrait.masks["eyes"]
    result = inpaint(pocket, picture, mask, PROMPT, num_inference_steps=2, paste=True)
    assert np.array_equal(np.asarray(result)[~mask], portrait.image[~mask])
    assert not np.array_equal(np.asarray(result)[mask], portrait.image[mask])


def test_inpainting_many_pictures_equals_one_at_a_time(pocket, portrait, picture):
    masks = [portrait.masks["hat"], portrait.masks["shirt"]]
    many = inpaint(pocket, picture, masks, PROMPT, num_inference_steps=2, seed=4)
    alone = inpaint(pocket, picture, masks[1], PROMPT, num_inference_steps=2, seed=5)
    assert len(many) == 2
    assert np.abs(np.asarray(many[1], dtype=int) - np.asarray(alone, dtype=int)).max() <= 1


def test_a_cell_is_covered_by_any_of_its_pixels_or_by_its_corner():
    mask = np.zeros((16, 16), dtype=bool)
    mask[3, 5] = mask[8, 0] = True
    assert latent_mask(mask, 8)[0, 0].tolist() == [[1, 0], [1, 0]]
    assert latent_mask(mask, 8, cover="corner")[0, 0].tolist() == [[0, 0], [1, 0]]


def test_every_masked_pixel_lies_under_a_covered_cell(portrait):
    for mask in portrait.masks.values():
        assert not (mask & ~pixels_of(latent_mask(mask, 8))[0]).any()


# what is refused, and what is warned of


def test_values_out_of_range_are_refused_with_what_came_in(pocket, portrait, picture):
    with pytest.raises(SdlabError, match=r"strength=1\.5"):
        redraw(pocket, picture, PROMPT, strength=1.5)
    with pytest.raises(SdlabError, match="num_inference_steps=0"):
        redraw(pocket, picture, PROMPT, num_inference_steps=0)
    with pytest.raises(SdlabError, match="empty"):
        redraw(pocket, picture, " ")
    with pytest.raises(SdlabError, match="2 of image, 3 of prompt"):
        redraw(pocket, [picture] * 2, [PROMPT] * 3)
    with pytest.raises(SdlabError, match="0 of image"):
        redraw(pocket, [], PROMPT)
    with pytest.raises(SdlabError, match="black all over"):
        inpaint(pocket, picture, np.zeros((128, 128), dtype=bool), PROMPT)
    with pytest.raises(SdlabError, match="cover='half'"):
        inpaint(pocket, picture, portrait.masks["hat"], PROMPT, cover="half")
    with pytest.raises(SdlabError, match=r"divisible by 8; not bool \[10, 16\]"):
        latent_mask(np.ones((10, 16), dtype=bool), 8)


def test_words_that_do_not_reach_the_picture_are_warned_of(pocket, picture):
    with pytest.warns(PromptWarning, match="zeppelin"):
        redraw(pocket, picture, "a zeppelin", strength=0.0)


# figures, measures and the panel


def test_the_strip_marks_the_start_of_every_picture(picture):
    figure = plot_strength([picture] * 3, [0.0, 0.35, 1.0], num_inference_steps=20, alt="three pictures")
    said = [axis.get_xlabel() for axis in figure.axes[3:]]
    assert said == ["0 of 20 steps", "7 of 20 steps", "20 of 20 steps"]
    assert figure.axes[4].lines[0].get_xdata()[0] == 12.5
    with pytest.raises(SdlabError, match="1 pictures but 2 strengths"):
        plot_strength([picture], [0.1, 0.2], num_inference_steps=20, alt="one picture")


def test_the_bars_of_the_rates_are_their_intervals():
    rates = [share(1, 10), share(9, 10)]
    figure = plot_rates_along([0, 1], {"kept": {"hair": rates}}, xlabel="strength", alt="two shares with bars")
    segments = figure.axes[0].collections[0].get_segments()
    for segment, item in zip(segments, rates, strict=True):
        assert segment[:, 1].tolist() == pytest.approx(item["interval"])


def test_the_distance_from_a_mask_counts_pixels_also_diagonally():
    mask = np.zeros((1, 5, 5), dtype=bool)
    mask[0, 0, 0] = True
    assert steps_outside(mask)[0].diagonal().tolist() == [0, 1, 2, 3, 4]
    assert steps_outside(mask)[0, 0].tolist() == [0, 1, 2, 3, 4]


def test_change_by_distance_finds_where_two_pictures_differ():
    mask = np.zeros((1, 8, 8), dtype=bool)
    mask[0, :, :2] = True
    one, other = np.zeros((8, 8, 3), dtype=np.uint8), np.zeros((8, 8, 3), dtype=np.uint8)
    other[:, 2] = 255
    assert change_by_distance([one], [other], mask, [0, 1, 2]) == [0.0, 1.0, 0.0]


def test_the_seam_is_the_jump_across_the_border():
    picture, mask = np.zeros((4, 4, 3), dtype=np.uint8), np.zeros((4, 4), dtype=bool)
    picture[:, 2:], mask[:, 2:] = 51, True
    assert seam(picture, mask) == pytest.approx(0.2)


def test_framing_and_pasting_leave_the_right_side_alone(portrait, picture):
    mask = portrait.masks["hat"]
    framed = np.asarray(framed_mask(picture, mask))
    assert np.array_equal(framed[mask], portrait.image[mask])
    assert framed[~mask].mean() > portrait.image[~mask].mean()
    pasted = np.asarray(paste_back(Image.new("RGB", (128, 128)), picture, mask))
    assert pasted[mask].max() == 0
    assert np.array_equal(pasted[~mask], portrait.image[~mask])


def test_the_panel_redraws_and_explains(pocket, picture):
    panel = redraw_panel(pocket, picture, PROMPT, strength=0.0)
    controls, before, after = panel.children
    _, prompt, strength, _, message = controls.children
    first = after.value
    assert before.value[:4] == first[:4] == b"\x89PNG"
    strength.value = 0.3
    assert after.value != first
    prompt.value = " "
    assert "empty" in message.value


def test_the_picture_is_made_to_fit_the_model(tmp_path_factory, picture):
    small = sd15_shaped(tmp_path_factory.mktemp("small"), sample_size=8)
    assert redraw(small, picture, PROMPT, strength=0.5, num_inference_steps=2).size == (64, 64)
    assert prepare_image(picture, 64).size == (64, 64)
