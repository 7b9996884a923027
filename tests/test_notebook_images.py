"""The loose comparison of pictures accepts small differences and rejects another picture."""

import os
import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np
import pytest

from conftest import ROOT
from notebook_images import compare_pictures, difference
from sdcourse.notebooks import execute, write
from sdlab.figures import show_images


def picture_output(image: np.ndarray):
    return nbformat.v4.new_output("display_data", {"image/png": show_images(image).to_base64()})


def stripes(shift: int = 0) -> np.ndarray:
    columns = (np.arange(128) + shift) // 32 % 2 * 200
    return np.broadcast_to(columns[None, :, None], (128, 128, 3)).astype(np.uint8)


def test_the_same_picture_has_no_difference():
    output = picture_output(stripes())
    assert difference(output.data["image/png"], output.data["image/png"]) == 0
    assert compare_pictures([output], [output]) == ""


def test_a_faintly_changed_picture_is_accepted():
    assert compare_pictures([picture_output(stripes())], [picture_output(stripes() + np.uint8(2))]) == ""


def test_a_shifted_picture_is_rejected():
    assert "differs" in compare_pictures([picture_output(stripes())], [picture_output(stripes(8))])


def test_a_missing_picture_is_rejected():
    assert "0 pictures; 1 are stored" in compare_pictures([picture_output(stripes())], [])


def run_nbval(file: Path, how: str = "--nbval") -> subprocess.CompletedProcess:
    """Run a notebook as ``make test`` does, with the additions of notebook_plugin.py."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "notebook_plugin", "-p", "no:cacheprovider"]
    options = [how, "--nbval-current-env", f"--rootdir={file.parent}", str(file)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "tests"), str(ROOT / "utils")])}
    return subprocess.run([*command, *options], cwd=file.parent, env=environment, capture_output=True, text=True)


@pytest.fixture
def grey_notebook(tmp_path) -> Path:
    """A notebook of one cell that shows a grey square, run and stored."""
    source = (
        "import numpy as np\nfrom sdlab import show_images\n"
        "show_images(np.full((64, 64, 3), 200, np.uint8), alt='A grey square')"
    )
    file = tmp_path / "grey.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)]), file)
    write(execute(file), file)
    return file


def test_a_figure_shows_itself_once_with_its_alt_text(grey_notebook):
    (output,) = nbformat.read(grey_notebook, as_version=4).cells[0].outputs
    assert set(output.data) == {"image/png", "text/plain"}
    assert output.data["text/plain"] == output.metadata["image/png"]["alt"] == "A grey square"


def test_nbval_reruns_a_notebook_and_rejects_a_changed_picture(grey_notebook):
    assert "1 passed" in run_nbval(grey_notebook).stdout
    stored = nbformat.read(grey_notebook, as_version=4)
    stored.cells[0].outputs[0].data["image/png"] = picture_output(stripes()).data["image/png"]
    nbformat.write(stored, grey_notebook)
    assert "Picture 1 differs from the stored one" in run_nbval(grey_notebook).stdout


@pytest.mark.parametrize(("raised", "found"), [("NotAttempted", "1 passed"), ("NameError", "1 failed")])
def test_a_cell_of_an_unsolved_lab_may_only_raise_that_it_is_not_solved(tmp_path, raised, found):
    source = f"class NotAttempted(Exception):\n    pass\n\nraise {raised}('here')"
    cell = nbformat.v4.new_code_cell(source, metadata={"tags": ["raises-exception"]})
    file = tmp_path / "labs" / "01_a.ipynb"
    file.parent.mkdir()
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), file)
    assert found in run_nbval(file, "--nbval-lax").stdout


def test_every_pytest_command_of_the_makefile_loads_these_additions():
    for goal in ("test", "test-all"):
        made = subprocess.run(["make", "--dry-run", goal], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        commands = [line for line in made.splitlines() if "-m pytest" in line]
        assert len(commands) == 1
        parts = ["-p notebook_plugin", "PYTHONPATH=tests", "SDLAB_DEVICE=cpu", "--nbval ", "course solutions labs"]
        assert [part for part in parts if part not in commands[0]] == []
