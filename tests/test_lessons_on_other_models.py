"""The lessons must run on any Stable Diffusion: here on one of random weights, with other widths and sizes.

Nothing it shows means anything; but no cell may be bound to the pocket model's shapes.
"""

import pytest
from transformers import CLIPTextConfig, CLIPTextModel

from conftest import ROOT
from sdlab import load_pipeline
from sdlab.notebooks import execute
from tiny_pipeline import sd15_shaped

LESSONS = ["06_clip_words_into_numbers", "07_inside_the_unet", "08_cross_attention"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    pipe = sd15_shaped(tmp_path_factory.mktemp("parts"))
    pipe.tokenizer = load_pipeline("pocket", device="cpu").tokenizer  # lesson 06 wants words, not single letters
    marks = {name: getattr(pipe.tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    config = CLIPTextConfig(**pipe.text_encoder.config.to_dict() | marks | {"vocab_size": len(pipe.tokenizer)})
    pipe.text_encoder = CLIPTextModel(config)
    folder = tmp_path_factory.mktemp("other") / "model"
    pipe.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("lesson", LESSONS)
def test_the_lesson_runs_on_a_model_of_other_shapes(lesson, folder, monkeypatch):
    monkeypatch.setenv("SDLAB_MODEL", str(folder))
    notebook = execute(ROOT / "course" / f"{lesson}.ipynb")
    assert any(output.get("data", {}) for cell in notebook.cells for output in cell.get("outputs", []))
