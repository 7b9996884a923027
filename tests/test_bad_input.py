"""Bad input, all over the package: one clear sentence each, and the pipeline is left as it was."""

import numpy as np
import pytest
import torch
from PIL import Image

from sdcourse.course_copy import copy_course
from sdcourse.judging import judge_images
from sdcourse.judging.evaluate import evaluate
from sdcourse.judging.scores import psnr
from sdcourse.lessons.lesson_06 import project, word_list
from sdcourse.lessons.lesson_12_measured import read_measured
from sdcourse.notebooks import execute
from sdlab import (
    SdlabError,
    check_prompt,
    contact_sheet,
    decode,
    denoising_steps,
    draw,
    encode,
    inpaint,
    load_pipeline,
    prepare_image,
    redraw,
    start_noise,
)
from sdlab.drawing import check_weight as check_adapter_strength
from sdlab.figures import animate, explore, new_figure, show_images
from sdlab.image_to_image import latent_mask
from sdlab.images import prepare_mask
from sdlab.instruments import edit_attention, keep_maps, record_attention, record_features
from sdlab.steering import Hypernetwork, load_controlnet, use_lora

PICTURE = Image.new("RGB", (128, 128), "grey")
WHITE = Image.new("L", (128, 128), 255)


def recorded(pipe, **options):
    with record_attention(pipe, **options) as maps:
        draw(pipe, "a cat", num_inference_steps=1)
    return maps


def in_context(manager):
    with manager:
        pass


# what comes in: (a call with the pipeline and an empty folder, a part of the sentence)
CASES = {
    "empty prompt": (lambda p, f: draw(p, ""), "is empty"),
    "prompt of spaces": (lambda p, f: draw(p, "  \n "), "is empty"),
    "empty prompt to check": (lambda p, f: check_prompt(p, ""), "is empty"),
    "zero steps": (lambda p, f: draw(p, "a cat", num_inference_steps=0), "num_inference_steps=0"),
    "half a step": (lambda p, f: draw(p, "a cat", num_inference_steps=1.5), "num_inference_steps=1.5"),
    "too many steps": (lambda p, f: draw(p, "a cat", num_inference_steps=5000), "num_inference_steps=5000"),
    "guidance below zero": (lambda p, f: draw(p, "a cat", guidance_scale=-1), "guidance_scale=-1"),
    "guidance of text": (lambda p, f: draw(p, "a cat", guidance_scale="high"), "guidance_scale='high'"),
    "no picture": (lambda p, f: draw(p, "a cat", num_images=0), "num_images=0"),
    "seed of text": (lambda p, f: draw(p, "a cat", seed="one"), "seed='one'"),
    "unknown sampler": (lambda p, f: draw(p, "a cat", sampler="fast"), "'fast'"),
    "steps of the loop": (lambda p, f: [*denoising_steps(p, "a cat", num_inference_steps=0)], "num_inference_steps=0"),
    "noise with a bad seed": (lambda p, f: start_noise(p, seed=None), "seed=None"),
    "unknown model": (lambda p, f: load_pipeline("poket"), "'poket'"),
    "folder without a model": (lambda p, f: load_pipeline(f), "model_index.json"),
    "unknown device": (lambda p, f: load_pipeline(device="gpu"), "device='gpu'"),
    "unknown dtype": (lambda p, f: load_pipeline(dtype="int8"), "int8"),
    "strength above one": (lambda p, f: redraw(p, PICTURE, "a cat", strength=1.5), "strength=1.5"),
    "strength below zero": (lambda p, f: redraw(p, PICTURE, "a cat", strength=-0.1), "strength=-0.1"),
    "strength of text": (lambda p, f: redraw(p, PICTURE, "a cat", strength="much"), "strength='much'"),
    "picture that is not there": (lambda p, f: prepare_image(f / "cat.png"), "There is no file"),
    "picture on the web": (lambda p, f: prepare_image("https://example.org/cat.png"), "address on the web"),
    "picture that is a number": (lambda p, f: prepare_image(3), "not int"),
    "black mask": (lambda p, f: prepare_mask(np.zeros((128, 128), bool)), "black all over"),
    "mask of bad shape": (lambda p, f: latent_mask(np.ones((5, 5), bool)), "[5, 5]"),
    "inpainting nothing": (lambda p, f: inpaint(p, PICTURE, np.zeros((128, 128), bool), "a cat"), "black all over"),
    "picture of bad size to encode": (lambda p, f: encode(p, torch.zeros(1, 3, 30, 30)), "[1, 3, 30, 30]"),
    "picture out of range to encode": (lambda p, f: encode(p, torch.full((1, 3, 64, 64), 255.0)), "255"),
    "latents of bad shape": (lambda p, f: decode(p, torch.zeros(1, 3, 16, 16)), "[1, 3, 16, 16]"),
    "pictures of two shapes": (lambda p, f: psnr(torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 4, 4)), "[1, 3, 4, 4]"),
    "judge of nothing": (lambda p, f: judge_images([torch.zeros(3)]), "(3,)"),
    "word not in the prompt": (lambda p, f: recorded(p).heat_map("dog"), "dog"),
    "attention of no layer": (lambda p, f: recorded(p, layers="nowhere"), "nowhere"),
    "edit that is no function": (lambda p, f: in_context(edit_attention(p, 3)), "edit=3"),
    "maps kept for too long": (lambda p, f: keep_maps(until=2), "until=2"),
    "features of no part": (lambda p, f: in_context(record_features(p, "left_block")), "left_block"),
    "too few pictures to evaluate": (lambda p, f: evaluate(p, n=3), "n=3"),
    "nothing to show": (lambda p, f: show_images([]), "no picture to show"),
    "sheet of nothing": (lambda p, f: contact_sheet([]), "no picture to show"),
    "figure without a text": (lambda p, f: new_figure(alt=""), "alt"),
    "animation of one picture": (lambda p, f: animate([PICTURE], alt="one grey picture"), "two or more"),
    "slider without values": (lambda p, f: explore(lambda a: PICTURE, a=[]), "nothing to choose"),
    "unknown kind of words": (lambda p, f: word_list("verbs"), "'verbs'"),
    "unknown projection": (lambda p, f: project(torch.randn(30, 4), "tsne"), "'tsne'"),
    "too few vectors": (lambda p, f: project(torch.randn(3, 4)), "too few"),
    "measurements of no device": (lambda p, f: read_measured("abacus"), "'abacus'"),
    "adapter that is not there": (lambda p, f: in_context(use_lora(p, f / "none")), "none"),
    "hypernetwork that is not there": (lambda p, f: Hypernetwork.load(f / "none"), "none"),
    "ControlNet that is not there": (lambda p, f: load_controlnet(f / "none"), "none"),
    "strength of an adapter": (lambda p, f: check_adapter_strength("full"), "'full'"),
    "lessons into a file": (lambda p, f: copy_course(_file(f)), "is a file"),
    "notebook that fails": (lambda p, f: execute(_failing(f)), "did not run to its end"),
}


def _file(folder):
    (folder / "here").write_text("")
    return folder / "here"


def _failing(folder):
    import nbformat

    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1 / 0")]), folder / "fails.ipynb")
    return folder / "fails.ipynb"


def fingerprint(pipe) -> tuple:
    """Return what an unfinished patch would change: classes, hooks, own attributes, the scheduler and the weights."""
    modules = [
        (name, module) for part in (pipe.unet, pipe.vae, pipe.text_encoder) for name, module in part.named_modules()
    ]
    hooks = [(name, len(m._forward_hooks), len(m._forward_pre_hooks), "forward" in vars(m)) for name, m in modules]
    processors = [(name, type(processor)) for name, processor in sorted(pipe.unet.attn_processors.items())]
    weights = sum(parameter.double().sum().item() for parameter in pipe.unet.parameters())
    return hooks, processors, type(pipe.scheduler), dict(pipe.scheduler.config), weights


@pytest.mark.parametrize("case", CASES)
def test_bad_input_gets_one_sentence_and_leaves_the_pipeline_as_it_was(pocket, tmp_path, case):
    call, part = CASES[case]
    before = fingerprint(pocket)
    with pytest.raises(SdlabError) as caught:
        call(pocket, tmp_path)
    sentence = str(caught.value)
    assert part in sentence
    assert caught.value._render_traceback_() == [f"SdlabError: {sentence}"]
    if case != "notebook that fails":
        assert "\n" not in sentence
        assert sentence.endswith(".")
        assert len(sentence) < 400
    assert fingerprint(pocket) == before


def test_there_are_at_least_forty_cases():
    assert len(CASES) >= 40
