"""Bad input by the table: every kind of argument, in every function that takes it, gets one sentence."""

import numpy as np
import pytest
import torch
from PIL import Image

from sdlab import (
    SdlabError,
    check_prompt,
    decode,
    denoising_steps,
    draw,
    encode,
    inpaint,
    load_pipeline,
    noise_predictor,
    redraw,
    sample,
    seeded_generators,
    start_noise,
    token_positions,
    use_sampler,
)
from sdlab.images import prepare_mask
from sdlab.instruments import edit_attention, edit_skips, keep_maps, record_attention, record_features, scale_tokens
from sdlab.speedups import use_kernel
from sdlab.steering import Hypernetwork, use_controlnet, use_hypernetwork, use_lora
from test_bad_input import fingerprint

PICTURE = Image.new("RGB", (128, 128), "grey")
WHITE = Image.new("L", (128, 128), 255)
NAN, HUGE = float("nan"), float("inf")
FEW = {"num_inference_steps": 1}

# functions that take the settings of a drawing: (pipe, prompt, settings) -> something
DRAWERS = {
    "draw": lambda p, text, **s: draw(p, text, **{**FEW, **s}),
    "denoising_steps": lambda p, text, **s: list(denoising_steps(p, text, **{**FEW, **s})),
    "redraw": lambda p, text, **s: redraw(p, PICTURE, text, **{**FEW, **s}),
    "inpaint": lambda p, text, **s: inpaint(p, PICTURE, WHITE, text, **{**FEW, **s}),
}
SETTINGS = [
    *(("num_inference_steps", value) for value in (0, -3, 2.5, 10**6, True, None, "20", NAN)),
    *(("guidance_scale", value) for value in (NAN, -1, "7", 1e30, HUGE, None, True, 0.5)),
    *(("seed", value) for value in (2**64, -1, None, True, 1.5, "one", NAN)),
    *(("sampler", value) for value in ("fast", 3, "")),
    *(("negative_prompt", value) for value in (5, "\ud83d", ["a", "b"])),
]
PROMPTS = [None, 5, "", "  \n", "\ud83d bad", b"bytes", 2.5, {"a": 1}]
NO_PIPELINES = ["pocket", None, 3, torch.nn.Linear(2, 2), PICTURE]

rows = {}
for name, call in DRAWERS.items():
    for key, value in SETTINGS:
        setting = {key: value}
        rows[f"{name} {key}={value!r:.20}"] = lambda p, call=call, setting=setting: call(p, "a cat", **setting)
    for prompt in PROMPTS:
        rows[f"{name} prompt={prompt!r:.20}"] = lambda p, call=call, prompt=prompt: call(p, prompt)
    for other in NO_PIPELINES:
        rows[f"{name} pipe={type(other).__name__}"] = lambda p, call=call, other=other: call(other, "a cat")
for prompt in PROMPTS:
    rows[f"check_prompt {prompt!r:.20}"] = lambda p, prompt=prompt: check_prompt(p, prompt)
for other in NO_PIPELINES:
    rows[f"start_noise pipe={type(other).__name__}"] = lambda p, other=other: start_noise(other)
    rows[f"decode pipe={type(other).__name__}"] = lambda p, other=other: decode(other, torch.zeros(1, 4, 4, 4))
    rows[f"encode pipe={type(other).__name__}"] = lambda p, other=other: encode(other, torch.zeros(1, 3, 32, 32))
    rows[f"noise_predictor pipe={type(other).__name__}"] = lambda p, other=other: noise_predictor(other, "a cat")
    rows[f"use_sampler pipe={type(other).__name__}"] = lambda p, other=other: opened(use_sampler(other, "ddim"))
    rows[f"record_attention pipe={type(other).__name__}"] = lambda p, other=other: opened(record_attention(other))
    rows[f"record_features pipe={type(other).__name__}"] = lambda p, other=other: opened(record_features(other, "x"))
    rows[f"edit_attention pipe={type(other).__name__}"] = lambda p, other=other: opened(edit_attention(other, print))
    rows[f"edit_skips pipe={type(other).__name__}"] = lambda p, other=other: opened(edit_skips(other, print, [0]))
for key, values in {"height": [0, -5, "big", 100.0, 33, True], "width": [0, -8, 12, 10**9]}.items():
    for value in values:
        rows[f"draw {key}={value!r}"] = lambda p, key=key, value=value: draw(p, "a cat", **{**FEW, key: value})
for count in (0, -1, 1.5, "two", True, None):
    rows[f"draw num_images={count!r}"] = lambda p, count=count: draw(p, "a cat", num_images=count, **FEW)
    rows[f"start_noise num_images={count!r}"] = lambda p, count=count: start_noise(p, num_images=count)
    rows[f"seeded_generators {count!r}"] = lambda p, count=count: seeded_generators(0, count)
for strength in (-0.1, 1.5, NAN, "much", None, True):
    rows[f"redraw strength={strength!r}"] = lambda p, some=strength: redraw(p, PICTURE, "a", strength=some, **FEW)
    rows[f"keep_maps until={strength!r}"] = lambda p, strength=strength: keep_maps(until=strength)
for scale in (NAN, HUGE, "full", None, True):
    rows[f"use_lora scale={scale!r}"] = lambda p, scale=scale: opened(use_lora(p, "nowhere", scale=scale))
    rows[f"use_hypernetwork scale={scale!r}"] = lambda p, scale=scale: opened(
        use_hypernetwork(p, Hypernetwork.for_unet(p.unet), scale=scale)
    )
    rows[f"use_controlnet scale={scale!r}"] = lambda p, scale=scale: opened(use_controlnet(p, None, None, scale=scale))
    rows[f"scale_tokens factor={scale!r}"] = lambda p, scale=scale: scale_tokens([1], scale)
ZEROS = torch.zeros(1, 4, 4, 4)
for latents in (ZEROS / 0, ZEROS[0], ZEROS[:, :3], ZEROS.int(), None, [1]):
    rows[f"decode {len(rows)}"] = lambda p, latents=latents: decode(p, latents)
for images in (torch.full((1, 3, 32, 32), NAN), torch.zeros(3, 32, 32), np.zeros((1, 3, 32, 32)), PICTURE, "a.png"):
    rows[f"encode {len(rows)}"] = lambda p, images=images: encode(p, images)
for tokens in ([], [-1], ["a"], [1.5], [True]):
    rows[f"scale_tokens {tokens}"] = lambda p, tokens=tokens: scale_tokens(tokens)
    rows[f"record_attention steps={tokens}"] = lambda p, tokens=tokens: opened(record_attention(p, steps=tokens))
for model in (None, 3, "poket", "a.ckpt", "model.safetensors", PICTURE, ["pocket"], "nowhere/at/all"):
    rows[f"load_pipeline {model!r:.20}"] = lambda p, model=model: load_pipeline(model)
rows |= {
    "kernel": lambda p: use_kernel("fastest"),
    "skip that is none": lambda p: opened(edit_skips(p, lambda maps: maps, [99])),
    "skip edit that is none": lambda p: opened(edit_skips(p, 3, [0])),
    "option that is none": lambda p: draw(p, "a cat", speed=3),
    "prompt twice": lambda p: draw(p, "a cat", prompt_embeds=torch.zeros(1, 77, 64)),
    "embeddings of NaN": lambda p: draw(p, prompt_embeds=torch.full((1, 77, p.unet.config.cross_attention_dim), NAN)),
    "embeddings of another model": lambda p: draw(p, prompt_embeds=torch.zeros(1, 77, 3)),
    "sampler of the course": lambda p: sample(print, ZEROS, sampler="x", num_inference_steps=1, alphas_cumprod=[]),
    "word of a number": lambda p: token_positions(p, "a cat", 3),
    "with block opened twice": lambda p: twice(record_attention(p)),
    "maps asked before drawing": lambda p: asked_early(p),
}


def opened(manager):
    with manager:
        pass


def twice(manager):
    opened(manager)
    opened(manager)


def asked_early(pipe):
    with record_attention(pipe) as maps:
        maps.heat_map("cat")


def test_the_table_has_three_hundred_rows():
    assert len(rows) >= 300


def test_every_bad_input_gets_one_sentence_and_leaves_the_pipeline_as_it_was(pocket):
    before, wrong = fingerprint(pocket), []
    for name, call in rows.items():
        try:
            call(pocket)
        except SdlabError as error:
            sentence = str(error)
            if "\n" in sentence or not sentence.endswith(".") or len(sentence) > 400:
                wrong.append((name, sentence))
        except BaseException as error:  # what a learner would see of a library's inside
            wrong.append((name, f"{type(error).__name__}: {error}"[:200]))
        else:
            wrong.append((name, "no error"))
    assert not wrong, "\n".join(map(str, wrong))
    assert fingerprint(pocket) == before


def test_numbers_of_numpy_are_numbers(pocket):
    mine = draw(pocket, "a cat", seed=np.int64(3), num_inference_steps=np.int32(1), guidance_scale=np.float32(2.5))
    assert mine.tobytes() == draw(pocket, "a cat", seed=3, num_inference_steps=1).tobytes()


def masks():
    """Return masks as tools write them; all mean the left half."""
    left = np.zeros((128, 128), bool)
    left[:, :64] = True
    grey = Image.fromarray(left.astype(np.uint8) * 255)
    clear = Image.merge("RGBA", [Image.new("L", (128, 128), 255)] * 3 + [grey])
    return {
        "bool": left,
        "bool [1, H, W]": left[None],
        "0 and 1": left.astype(np.uint8),
        "tensor [1, H, W]": torch.from_numpy(left)[None],
        "grey": grey,
        "LA": Image.merge("LA", [Image.new("L", (128, 128), 255), grey]),
        "transparent ground": clear,
        "one bit": grey.convert("1"),
        "palette": grey.convert("P"),
        "16 bit": Image.fromarray(left.astype(np.uint16) * 65535),
    }


@pytest.mark.parametrize("kind", masks())
def test_a_mask_of_any_mode_means_the_same(kind):
    np.testing.assert_array_equal(prepare_mask(masks()[kind], 128), masks()["bool"])


def test_a_palette_with_transparency_is_no_mask_of_everything():
    picture = Image.new("P", (128, 128), 0)
    picture.putpalette([255, 255, 255, 255, 255, 255])
    picture.paste(1, (0, 0, 64, 128))
    picture.info["transparency"] = 0
    mask = prepare_mask(picture, 128)
    assert mask[:, :60].all()
    assert not mask[:, 70:].any()


def test_a_blanked_picture_is_said(pocket, monkeypatch):
    from sdlab.prompts import PromptWarning

    monkeypatch.setattr(pocket, "run_safety_checker", lambda image, device, dtype: (image, [True]))
    with pytest.warns(PromptWarning, match=r"safety checker has blacked out the pictures \[0\]"):
        draw(pocket, "a cat", **FEW)


def test_pixels_that_are_no_numbers_are_said(pocket):
    handle = pocket.vae.decoder.conv_out.register_forward_hook(lambda *found: found[-1] * NAN)
    try:
        with pytest.raises(SdlabError, match=r"pixels that the VAE made hold NaN.*dtype='float32'"):
            draw(pocket, "a cat", **FEW)
    finally:
        handle.remove()
