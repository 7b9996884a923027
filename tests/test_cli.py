"""The command line does what the library does, and says what is wrong in one line."""

import json
import subprocess
import sys

import pytest
from PIL import Image

from sdcourse.cli import flatten, main
from sdcourse.doctor import Check, check_drawing, check_models, check_packages, check_python, required_packages
from sdlab import draw, load_pipeline


def test_draw_writes_the_picture_of_the_library(tiny_pipeline_original, tmp_path, capsys):
    out = tmp_path / "new" / "cat.png"
    options = ["--seed", "4", "--steps", "2", "--guidance", "3", "--sampler", "ddim", "--out", str(out)]
    assert main(["draw", "a cat", "--model", str(tiny_pipeline_original), *options]) == 0
    settings = {"seed": 4, "num_inference_steps": 2, "guidance_scale": 3.0, "sampler": "ddim"}
    expected = draw(load_pipeline(tiny_pipeline_original), "a cat", **settings)
    assert Image.open(out).tobytes() == expected.tobytes()
    assert str(out) in capsys.readouterr().out


def test_draw_uses_the_pocket_model_by_default(tmp_path):
    assert main(["draw", "a man with blue eyes", "--steps", "2", "--out", str(tmp_path / "man.png")]) == 0
    assert Image.open(tmp_path / "man.png").size == (128, 128)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["draw", "a cat", "--model", "poket"], "There is no model 'poket'"),
        (["draw", " ", "--model", "TINY"], "is empty: say what to draw"),
        (["draw", "a cat", "--model", "TINY", "--steps", "0"], "num_inference_steps=0 must be"),
        (["draw", "a cat", "--model", "TINY", "--steps", "1", "--out", "OUT.nonsense"], "use a name like picture.png"),
        (["portraits", "--n", "0"], "--n 0 must be at least 1"),
        (["evaluate", "--n", "0"], "n=0 must be"),
    ],
)
def test_an_error_is_one_line_and_exit_code_two(arguments, sentence, tiny_pipeline_original, tmp_path, capfd):
    places = {"TINY": str(tiny_pipeline_original), "OUT.nonsense": str(tmp_path / "out.nonsense")}
    assert main([places.get(argument, argument) for argument in arguments]) == 2
    lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("sdlab:")]
    assert len(lines) == 1
    assert sentence in lines[0]


def test_a_cut_prompt_is_said_and_still_drawn(tiny_pipeline_original, tmp_path, capfd):
    options = ["--model", str(tiny_pipeline_original), "--steps", "1", "--out", str(tmp_path / "long.png")]
    assert main(["draw", "abcdefgh " * 12, *options]) == 0
    assert "cut off" in capfd.readouterr().err
    assert (tmp_path / "long.png").is_file()


def test_no_command_shows_a_traceback(tmp_path):
    command = [sys.executable, "-m", "sdcourse.cli", "draw", "a cat", "--model", "poket"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 2
    assert run.stderr.count("\n") == 1


def test_portraits_draws_a_contact_sheet(tmp_path):
    out = tmp_path / "sheet.png"
    assert main(["portraits", "--n", "10", "--seed", "5", "--out", str(out)]) == 0
    assert Image.open(out).size == (8 * 130 - 2, 2 * 130 - 2)


def test_portraits_of_the_second_world_are_drawn_when_asked_for(tmp_path):
    files = {world: tmp_path / f"{world}.png" for world in ("first", "second", "default")}
    for world, file in files.items():
        chosen = [] if world == "default" else ["--world", world]
        assert main(["portraits", "--n", "4", *chosen, "--out", str(file)]) == 0
    pixels = {world: Image.open(file).tobytes() for world, file in files.items()}
    assert pixels["default"] == pixels["first"] != pixels["second"]


def test_the_same_portraits_are_drawn_for_the_same_seed(tmp_path):
    sheets = [tmp_path / "one.png", tmp_path / "two.png"]
    for sheet in sheets:
        main(["portraits", "--n", "3", "--out", str(sheet)])
    assert sheets[0].read_bytes() == sheets[1].read_bytes()


def test_evaluate_prints_one_json_object(capfd):
    assert main(["evaluate", "--n", "10", "--steps", "2", "--training-pictures", "40", "--json"]) == 0
    scores = json.loads(capfd.readouterr().out)
    names = {"attributes", "joint", "binding", "held_out", "judge_on_renders", "vae", "clip", "memorisation"}
    assert names <= set(scores)
    assert scores["memorisation"]["training_pictures"] == 40
    assert 0 <= scores["attributes"]["eyes"]["share"] <= 1


def test_nested_scores_become_dotted_lines():
    assert flatten({"joint": 0.5, "vae": {"psnr": 30.0}}) == [("joint", 0.5), ("vae.psnr", 30.0)]


def test_train_without_a_stage_says_what_there_is(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["train", "--help"])
    assert stopped.value.code == 0
    output = capsys.readouterr().out
    assert all(stage in output for stage in ("tokenizer", "judge", "clip", "vae", "unet"))


# the doctor


def test_the_doctor_finds_python_and_every_package_well():
    checks = [check_python(), *check_packages()]
    assert len(checks) == 1 + len(required_packages())
    assert [check for check in checks if check.remedy] == []


def test_the_doctor_says_what_to_do():
    assert str(Check("torch", "not installed", "pip install torch")).endswith("-> pip install torch")


def test_the_doctor_compares_every_shipped_model():
    checks = check_models()
    names = {f"model {name}" for name in ["clip", "controlnet", "halves", "hypernetwork", "judge", "lora", "pocket"]}
    assert {check.name for check in checks} == names
    assert [check for check in checks if check.remedy] == []


def test_the_doctor_times_a_picture():
    check = check_drawing()
    assert not check.remedy
    assert "s a picture (20 steps)" in check.found


def test_the_doctor_exits_with_zero_when_all_is_well(capsys):
    assert main(["doctor"]) == 0
    assert capsys.readouterr().out.endswith("All is well.\n")
