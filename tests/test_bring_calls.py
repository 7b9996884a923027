"""What people do with the instruments: whatever they bring, rows, steps and words are the right ones."""

import pytest
import torch
from diffusers import DDPMScheduler, StableDiffusionImg2ImgPipeline
from PIL import Image

from sdlab import SdlabError, draw, redraw, token_positions
from sdlab.instruments import edit_attention, record_attention, record_features
from tiny_pipeline import sd15_shaped

PROMPT = "a red cat"
FEW = {"num_inference_steps": 3, "guidance_scale": 3.0}


@pytest.fixture
def own(tmp_path):
    """A pipeline that a test may change."""
    return sd15_shaped(tmp_path)


def seen_by(pipe, call, **options) -> list:
    """Return (number of pictures, step, steps) of every U-Net call in ``call()``."""
    seen = []
    note = lambda probs, place: seen.append((len(probs), place.step, place.steps)) or probs  # noqa: E731
    with edit_attention(pipe, note, layers="mid_block", **options):
        call()
    return seen


def test_two_pictures_without_guidance_stay_two_in_every_drawing(sd15):
    def call():
        for _drawing in range(3):
            draw(sd15, PROMPT, num_images=2, num_inference_steps=1, guidance_scale=1)

    assert seen_by(sd15, call) == [(2, 0, 1)] * 3


def test_a_prompt_told_and_encoded_again_is_two_pictures(sd15):
    with record_attention(sd15, prompt=PROMPT) as maps:
        draw(sd15, PROMPT, num_images=2, num_inference_steps=1, guidance_scale=1)
    assert maps.prompts == [PROMPT, PROMPT]


def test_texts_of_the_drawings_before_are_forgotten(sd15):
    from sdlab.instruments.unet_calls import follow_calls

    with follow_calls(sd15, many_drawings=True) as calls:
        for _drawing in range(4):
            draw(sd15, PROMPT, **FEW)
            assert len(calls._texts) == 2


def stop_guidance(pipe, index, _t, kwargs):
    if index == 0:
        pipe._guidance_scale = 1.0
        kwargs["prompt_embeds"] = kwargs["prompt_embeds"].chunk(2)[-1]
    return kwargs


def test_guidance_that_stops_on_the_way_is_one_drawing(own):
    def call():
        options = {"callback_on_step_end": stop_guidance, "callback_on_step_end_tensor_inputs": ["prompt_embeds"]}
        draw(own, PROMPT, **options, **FEW)

    assert seen_by(own, call) == [(1, 0, 3), (1, 1, 3), (1, 2, 3)]
    with record_attention(own, reduce="none") as maps:
        call()
    assert maps.steps == [0, 1, 2]
    assert maps.prompts == [PROMPT]
    with record_attention(own, rows="both"), pytest.raises(SdlabError, match="record with rows='cond'"):
        call()


@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_steps_of_image_to_image_are_counted_over_the_calls_that_come(sd15, strength):
    picture = Image.new("RGB", (128, 128), "grey")
    calls = round(4 * strength)
    options = {"strength": strength, "num_inference_steps": 4, "guidance_scale": 2.0}
    library = StableDiffusionImg2ImgPipeline(**sd15.components, requires_safety_checker=False)
    library.set_progress_bar_config(disable=True)
    expected = [(1, step, calls) for step in range(calls)]
    assert seen_by(sd15, lambda: redraw(sd15, picture, PROMPT, **options)) == expected
    assert seen_by(library, lambda: library(PROMPT, picture, **options)) == expected


def test_timesteps_of_ones_own_are_counted(own):
    own.scheduler = DDPMScheduler.from_config(own.scheduler.config)
    assert seen_by(own, lambda: own(PROMPT, timesteps=[900, 500, 100])) == [(1, 0, 3), (1, 1, 3), (1, 2, 3)]


def test_weighted_embeddings_take_the_words_of_the_prompt_that_was_told(sd15):
    embeds, negative = sd15.encode_prompt(PROMPT, "cpu", 1, True)
    with record_attention(sd15, prompt=PROMPT) as maps:
        draw(sd15, prompt_embeds=embeds * 1.1, negative_prompt_embeds=negative, **FEW)
    assert maps.prompts == [PROMPT]
    with record_attention(sd15) as unknown:
        draw(sd15, prompt_embeds=embeds * 1.1, negative_prompt_embeds=negative, **FEW)
    assert unknown["mid_block"].shape[1] == 1
    with pytest.raises(SdlabError, match="Which words these embeddings hold is not known"):
        unknown.heat_map("cat")


def test_long_embeddings_are_drawn_and_read_by_number(sd15):
    embeds = torch.randn(1, 154, 16, generator=torch.Generator().manual_seed(0))
    with record_attention(sd15, prompt=PROMPT) as maps:
        draw(sd15, prompt_embeds=embeds, negative_prompt_embeds=-embeds, **FEW)
    assert maps.heat_map(100).shape == (128, 128)
    with pytest.raises(SdlabError, match="more than one text's length"):
        maps.heat_map("cat")


def test_skipped_layers_that_the_libraries_cannot_skip_are_said(pocket):
    if hasattr(pocket.text_encoder, "text_model"):
        with record_attention(pocket) as maps:
            draw(pocket, "a red cat", clip_skip=1, num_inference_steps=1)
        assert maps.prompts == ["a red cat"]
    else:
        with pytest.raises(SdlabError, match="clip_skip needs an older transformers"):
            draw(pocket, "a red cat", clip_skip=1)


def test_an_interrupted_step_leaves_no_half(own):
    calls = []

    def stop(_module, _args, _output):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt

    handle = own.unet.mid_block.register_forward_hook(stop)
    with (
        record_attention(own) as maps,
        record_features(own, "down_blocks.0") as features,
        pytest.raises(KeyboardInterrupt),
    ):
        draw(own, PROMPT, **FEW)
    handle.remove()
    assert maps.steps == features.steps == [0]
    assert maps.token_mass().sum() == pytest.approx(1, abs=1e-5)


def add_vectors(pipe, word: str, count: int) -> None:
    width = pipe.text_encoder.config.hidden_size
    pipe.load_textual_inversion({word: torch.randn(count, width)}, token=word)


def test_an_embedding_of_three_vectors_is_one_word_of_three_tokens(own):
    add_vectors(own, "<momo>", 3)
    prompt = "a <momo> cat"
    assert token_positions(own, prompt, "<momo>") == [2, 3, 4]
    assert token_positions(own, prompt, "cat") == [5, 6, 7]
    with record_attention(own, rows="both") as maps:
        draw(own, "cat", negative_prompt=prompt, **FEW)
    assert maps.words(0) == [("a", [1]), ("<momo>", [2, 3, 4]), ("cat", [5, 6, 7])]
    assert maps.positions("cat", image=0) == [5, 6, 7]
    assert set(maps.heat_maps(image=0)) == {"a", "<momo>", "cat"}


def test_words_keep_their_own_letters(pocket):
    with record_attention(pocket) as maps, pytest.warns(UserWarning, match="never seen"):
        draw(pocket, "a café cat", num_inference_steps=1)
    assert [word for word, _positions in maps.words()] == ["a", "café", "cat"]
    assert torch.equal(maps.heat_map("café"), maps.heat_maps()["café"])
