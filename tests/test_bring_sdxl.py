"""SDXL end to end: on an SDXL-shaped random model every function gives exactly what diffusers gives."""

import numpy as np
import pytest
import torch
from diffusers import (
    ControlNetModel,
    StableDiffusionXLControlNetPipeline,
    StableDiffusionXLImg2ImgPipeline,
    StableDiffusionXLInpaintPipeline,
)
from PIL import Image

from sdlab import (
    SdlabError,
    decode,
    denoising_steps,
    draw,
    encode_prompt,
    inpaint,
    load_pipeline,
    noise_predictor,
    predict_noise,
    redraw,
    start_noise,
    use_sampler,
)
from sdlab.image_to_image import latent_mask, prepare_image_latents, redraw_latents
from sdlab.instruments import edit_attention, part_seconds, record_attention, record_features, unet_table
from sdlab.steering import Hypernetwork, use_controlnet, use_hypernetwork

PROMPT = "a red cat"
FEW = {"num_inference_steps": 2, "guidance_scale": 3.0}


def seeded(*seeds):
    return [torch.Generator().manual_seed(seed) for seed in seeds]


@pytest.fixture(scope="module")
def picture():
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (128, 128, 3), dtype=np.uint8))


def parts(pipe, **more):
    return {**{name: part for name, part in pipe.components.items() if name not in ("image_encoder",)}, **more}


@pytest.mark.parametrize("options", [{}, {"guidance_scale": 1.0}, {"negative_prompt": "blue"}, {"negative_prompt": ""}])
@pytest.mark.parametrize("sampler", ["ddim", "euler"])
def test_the_steps_end_with_the_latents_of_the_pipeline(sdxl, sampler, options):
    options = {**FEW, **options}
    *_, last = denoising_steps(sdxl, PROMPT, seed=5, sampler=sampler, **options)
    with use_sampler(sdxl, sampler):
        theirs = sdxl(PROMPT, generator=seeded(5), output_type="latent", **options).images
    assert torch.equal(last.prev_sample, theirs)


def test_a_list_of_prompts_and_several_pictures_equal_the_pipeline(sdxl):
    prompts = [PROMPT, "a dog"]
    *_, last = denoising_steps(sdxl, prompts, seed=5, num_images=2, **FEW)
    theirs = sdxl(prompts, generator=seeded(5, 6, 7, 8), num_images_per_prompt=2, output_type="latent", **FEW).images
    assert torch.equal(last.prev_sample, theirs)


def test_pictures_are_drawn_as_by_the_pipeline_in_every_size(sdxl):
    size = {"height": 64, "width": 192}
    mine = draw(sdxl, PROMPT, seed=3, negative_prompt="blue", **size, **FEW)
    theirs = sdxl(PROMPT, generator=seeded(3), negative_prompt="blue", **size, **FEW).images[0]
    assert (mine.width, mine.height) == (192, 64)
    np.testing.assert_array_equal(np.asarray(mine), np.asarray(theirs))


def test_latents_become_the_pipelines_picture(sdxl):
    latents = sdxl(PROMPT, generator=seeded(5), output_type="latent", **FEW).images
    theirs = sdxl(PROMPT, generator=seeded(5), output_type="pt", **FEW).images
    assert torch.equal(decode(sdxl, latents), theirs)


@pytest.mark.parametrize("guidance_scale", [1.0, 3.0])
def test_a_picture_is_redrawn_as_by_the_pipeline(sdxl, picture, guidance_scale):
    options = {"num_inference_steps": 4, "guidance_scale": guidance_scale, "strength": 0.6}
    library = StableDiffusionXLImg2ImgPipeline(**parts(sdxl), add_watermarker=False)
    theirs = library(PROMPT, image=picture, generator=seeded(5), output_type="latent", **options).images
    with use_sampler(sdxl):
        latents, noise = prepare_image_latents(sdxl, [picture], seeded(5))
        mine = redraw_latents(sdxl, latents, noise, [PROMPT], **options)
    torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-5)
    assert redraw(sdxl, picture, PROMPT, **options).size == (128, 128)


def test_a_picture_is_inpainted_as_by_the_pipeline(sdxl, picture):
    mask = np.zeros((128, 128), bool)
    mask[32:96, 40:80] = True
    library = StableDiffusionXLInpaintPipeline(**parts(sdxl), add_watermarker=False)
    options = {"num_inference_steps": 3, "guidance_scale": 3.0, "strength": 0.99}
    theirs = library(
        PROMPT, image=picture, mask_image=Image.fromarray(mask), generator=seeded(5), output_type="latent", **options
    ).images
    with use_sampler(sdxl):
        latents, noise = prepare_image_latents(sdxl, [picture], seeded(5))
        cells = latent_mask(mask, cover="corner")
        mine = redraw_latents(sdxl, latents, noise, [PROMPT], mask=cells, **options)
    torch.testing.assert_close(mine, theirs, atol=1e-4, rtol=1e-4)
    assert inpaint(sdxl, picture, mask, PROMPT, num_inference_steps=2).size == (128, 128)


def test_a_controlnet_steers_as_in_the_pipeline(sdxl):
    torch.manual_seed(0)
    controlnet = ControlNetModel.from_unet(sdxl.unet).eval()
    with torch.no_grad():
        for weight in controlnet.controlnet_down_blocks.parameters():
            weight += 0.05
    hint = torch.rand(3, 128, 128)
    library = StableDiffusionXLControlNetPipeline(**parts(sdxl, controlnet=controlnet), add_watermarker=False)
    library.set_progress_bar_config(disable=True)
    theirs = library(PROMPT, image=hint[None], generator=seeded(5), output_type="latent", **FEW).images
    plain = sdxl(PROMPT, generator=seeded(5), output_type="latent", **FEW).images
    with use_controlnet(sdxl, controlnet, hint):
        *_, last = denoising_steps(sdxl, PROMPT, seed=5, **FEW)
    torch.testing.assert_close(last.prev_sample, theirs, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(last.prev_sample, plain, atol=1e-3)


def test_every_instrument_sees_a_drawing_that_stays_the_same(sdxl):
    plain = draw(sdxl, PROMPT, **FEW)
    network = Hypernetwork.for_unet(sdxl.unet)
    with (
        record_attention(sdxl) as maps,
        record_features(sdxl, ["mid_block", "skips"]) as features,
        part_seconds(sdxl) as seconds,
        use_hypernetwork(sdxl, network, scale=0),
    ):
        assert draw(sdxl, PROMPT, **FEW).tobytes() == plain.tobytes()
    assert maps.prompts == ["a r e d c a t"] or maps.prompts == [PROMPT]
    assert maps.heat_map("cat").shape == (128, 128)
    assert maps.nbytes == maps.predicted_bytes
    assert features["mid_block"].shape[:2] == (2, 1)
    assert min(seconds.values()) > 0
    assert unet_table(sdxl).skips
    seen = []
    with edit_attention(sdxl, lambda probs, place: seen.append(place) or probs, layers="mid_block"):
        draw(sdxl, PROMPT, **FEW)
    assert {(place.step, place.steps) for place in seen} == {(0, 2), (1, 2)}


def test_the_loop_is_recorded_like_the_pipeline(sdxl):
    with record_attention(sdxl) as ours:
        list(denoising_steps(sdxl, PROMPT, **FEW))
    with record_attention(sdxl) as theirs:
        draw(sdxl, PROMPT, **FEW)
    torch.testing.assert_close(ours.heat_map("cat"), theirs.heat_map("cat"))


def test_predicted_noise_is_that_of_the_first_step(sdxl):
    first = next(iter(denoising_steps(sdxl, PROMPT, seed=3, negative_prompt="", **FEW)))
    predict = noise_predictor(sdxl, PROMPT, guidance_scale=3.0)
    torch.testing.assert_close(predict(start_noise(sdxl, seed=3), first.t), first.noise_pred)


def test_a_call_without_the_pooled_text_is_said_in_one_sentence(sdxl):
    embeds, _negative = encode_prompt(sdxl, PROMPT)
    with pytest.raises(SdlabError, match="added_cond_kwargs"):
        predict_noise(sdxl, start_noise(sdxl), 1, embeds)


def test_an_sdxl_folder_is_loaded(sdxl, tmp_path):
    sdxl.save_pretrained(tmp_path / "xl")
    loaded = load_pipeline(tmp_path / "xl", device="cpu")
    loaded.set_progress_bar_config(disable=True)
    assert draw(loaded, PROMPT, **FEW).tobytes() == draw(sdxl, PROMPT, **FEW).tobytes()
