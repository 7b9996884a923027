"""The course can be copied out of an installation, and a copy never loses work."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from conftest import ROOT
from sdcourse.cli import main
from sdcourse.course_copy import copy_course, find_material
from sdlab import SdlabError


@pytest.fixture
def material(tmp_path):
    """A small course of two files."""
    for name in ("course/00_a.ipynb", "labs/01_b/01_b.ipynb"):
        (tmp_path / "material" / name).parent.mkdir(parents=True)
        (tmp_path / "material" / name).write_text("old")
    return tmp_path / "material"


def test_the_first_copy_has_every_lesson_and_lab(tmp_path, capsys):
    assert main(["course", str(tmp_path / "my work")]) == 0
    for folder in ("course", "labs"):
        names = {file.relative_to(ROOT) for file in (ROOT / folder).rglob("*.ipynb") if "checkpoints" not in str(file)}
        assert names == {f.relative_to(tmp_path / "my work") for f in (tmp_path / "my work" / folder).rglob("*.ipynb")}
    assert "jupyter lab" in capsys.readouterr().out


def test_a_second_copy_updates_what_was_not_touched_and_keeps_work(material, tmp_path):
    copy_course(tmp_path / "mine", material=material)
    (tmp_path / "mine/labs/01_b/01_b.ipynb").write_text("my answers")
    for file in material.rglob("*.ipynb"):
        file.write_text("new")
    copied = copy_course(tmp_path / "mine", material=material)
    assert (copied.updated, copied.kept) == (["course/00_a.ipynb"], ["labs/01_b/01_b.ipynb"])
    assert (tmp_path / "mine/course/00_a.ipynb").read_text() == "new"
    assert (tmp_path / "mine/labs/01_b/01_b.ipynb").read_text() == "my answers"
    assert copy_course(tmp_path / "mine", material=material).kept == ["labs/01_b/01_b.ipynb"]


def test_a_file_that_was_there_before_is_not_overwritten(material, tmp_path):
    (tmp_path / "mine" / "course").mkdir(parents=True)
    (tmp_path / "mine/course/00_a.ipynb").write_text("something of mine")
    assert copy_course(tmp_path / "mine", material=material).kept == ["course/00_a.ipynb"]


def test_a_deleted_file_comes_back(material, tmp_path):
    copy_course(tmp_path / "mine", material=material)
    (tmp_path / "mine/course/00_a.ipynb").unlink()
    assert copy_course(tmp_path / "mine", material=material).new == ["course/00_a.ipynb"]


def test_a_damaged_note_loses_nothing(material, tmp_path):
    copy_course(tmp_path / "mine", material=material)
    (tmp_path / "mine/.sdlab-course.json").write_text("{")
    (material / "course/00_a.ipynb").write_text("new")
    assert copy_course(tmp_path / "mine", material=material).kept == ["course/00_a.ipynb"]


def test_a_file_in_the_place_of_the_folder_gets_one_sentence(material, tmp_path):
    (tmp_path / "mine").write_text("")
    with pytest.raises(SdlabError, match="is a file: give the name of a folder"):
        copy_course(tmp_path / "mine", material=material)


def test_the_checkout_is_found():
    assert find_material() == ROOT


def test_the_wheel_draws_and_copies_the_course_outside_the_checkout(tmp_path):
    build = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    source = tmp_path / "source"
    copy_sources(source)
    subprocess.run([*build, "wheel", "--no-deps", "--no-build-isolation", "-w", str(tmp_path), str(source)], check=True)
    (wheel,) = tmp_path.glob("sdlab-*.whl")
    assert wheel.stat().st_size < 60e6
    subprocess.run([*build, "install", "--no-deps", "--target", str(tmp_path / "site"), str(wheel)], check=True)
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(tmp_path / "site"), "OMP_NUM_THREADS": "1"}
    for command in (["draw", "a cat", "--steps", "2"], ["course", "mine"]):
        run = subprocess.run([sys.executable, "-m", "sdcourse.cli", *command], cwd=tmp_path, env=environment,
                             capture_output=True, text=True)  # fmt: skip
        assert run.returncode == 0, run.stderr
    assert Image.open(tmp_path / "picture.png").size == (128, 128)
    lessons = sorted(file.name for file in (tmp_path / "mine" / "course").glob("*.ipynb"))
    assert lessons == sorted(file.name for file in (ROOT / "course").glob("*.ipynb"))
    imported = "import sdlab; print(sdlab.__file__)"
    where = subprocess.run(
        [sys.executable, "-c", imported], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert Path(where.stdout.strip()).is_relative_to(tmp_path / "site")


def copy_sources(target: Path) -> None:
    """Copy the files of the checkout that a wheel is built from, so that building leaves nothing behind."""
    import shutil

    ignore = shutil.ignore_patterns("__pycache__", "*.egg-info", ".ipynb_checkpoints", "build")
    for folder in ("course", "labs", "utils"):
        shutil.copytree(ROOT / folder, target / folder, ignore=ignore)
    for name in ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, target / name)
