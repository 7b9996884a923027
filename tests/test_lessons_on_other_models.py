"""The lessons must run on any Stable Diffusion: here on one of random weights, with other widths and sizes.

Nothing it shows means anything; but no cell may be bound to the pocket model's shapes. The instruments also meet the
text and the latents of SD 1.5. Every notebook in course/ is taken in; ``make test`` runs the first,
``make test-all`` all.
"""

import pytest
from diffusers import UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

from conftest import ROOT
from sdcourse.notebooks import execute
from sdlab import denoising_steps, load_pipeline
from sdlab.instruments import record_attention, unet_table
from tiny_pipeline import sd15_shaped

LESSONS = sorted(file.stem for file in (ROOT / "course").glob("[0-9][0-9]_*.ipynb"))
QUICK = ("00",)


def save_with_words(pipe, folder, *, width: int):
    """Save ``pipe`` with a text encoder of ``width`` that reads words (lesson 06 wants them), not single letters."""
    pipe.tokenizer = load_pipeline("pocket", device="cpu").tokenizer
    marks = {name: getattr(pipe.tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    changed = {"vocab_size": len(pipe.tokenizer), "hidden_size": width, "projection_dim": width}
    pipe.text_encoder = CLIPTextModel(CLIPTextConfig(**pipe.text_encoder.config.to_dict() | marks | changed))
    pipe.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    pipe = sd15_shaped(tmp_path_factory.mktemp("parts"))
    return save_with_words(pipe, tmp_path_factory.mktemp("other") / "model", width=16)


@pytest.fixture(scope="module")
def real_shapes(tmp_path_factory):
    """A model with the text of SD 1.5, 77 x 768, and its latents, 64 x 64; only the widths of its U-Net are small."""
    pipe = sd15_shaped(tmp_path_factory.mktemp("parts"), sample_size=64)
    pipe.unet = UNet2DConditionModel.from_config({**pipe.unet.config, "cross_attention_dim": 768})
    return save_with_words(pipe, tmp_path_factory.mktemp("real") / "model", width=768)


def lesson(name: str):
    return pytest.param(name, marks=() if name[:2] in QUICK else pytest.mark.slow)


def test_the_lessons_are_found():
    assert {"00", "05", "08"} <= {name[:2] for name in LESSONS}


@pytest.mark.parametrize("name", [lesson(name) for name in LESSONS])
def test_the_lesson_runs_on_a_model_of_other_shapes(name, folder, monkeypatch):
    monkeypatch.setenv("SDLAB_MODEL", str(folder))
    notebook = execute(ROOT / "course" / f"{name}.ipynb")
    assert any(output.get("data", {}) for cell in notebook.cells for output in cell.get("outputs", []))


def test_the_instruments_fit_the_shapes_of_sd15(real_shapes):
    pipe = load_pipeline(real_shapes, device="cpu")
    with record_attention(pipe, "up_blocks.3") as maps:
        pipe("a man", num_inference_steps=1, output_type="latent")
    assert {maps[name].shape[-3:] for name in maps.layers} == {(77, 64, 64)}
    *_, last = denoising_steps(pipe, "a man", num_inference_steps=1)
    assert last.prev_sample.shape == (1, 4, 64, 64)
    assert unet_table(pipe)["conv_in"].input == (4, 64, 64)
