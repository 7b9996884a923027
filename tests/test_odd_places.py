"""The package works where nothing can be written, without a home folder, in odd folders, and twice at once."""

import os
import shutil
import subprocess
import sys

import pytest

from conftest import ROOT

DRAW = """
import warnings
warnings.simplefilter("error")
warnings.simplefilter("ignore", ResourceWarning)  # torch before 2.7 leaves a folder to be cleaned up
from sdlab import draw, load_pipeline, show_images
picture = draw(load_pipeline(), "a man with blue eyes", num_inference_steps=2)
show_images([picture], ["a man"], alt="a picture of a man after two steps").to_base64()
print(picture.size, sum(picture.tobytes()))
"""


def run(*, cwd, utils=ROOT / "utils", **environment):
    """Start a process that draws, with no other environment than this."""
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH", "SYSTEMROOT") if name in os.environ}
    environment = kept | {"PYTHONPATH": str(utils), "OMP_NUM_THREADS": "1"} | environment
    command = [sys.executable, "-c", DRAW]
    return subprocess.Popen(
        command, cwd=cwd, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def finished(process) -> str:
    """Return what the process printed; fail if it complained about anything."""
    out, complaints = process.communicate(timeout=600)
    assert process.returncode == 0, complaints
    assert not complaints.strip()
    return out


def test_without_a_home_folder_it_draws_and_complains_about_nothing(tmp_path):
    assert "(128, 128)" in finished(run(cwd=tmp_path, HOME=str(tmp_path / "none")))


def test_in_a_folder_with_spaces_and_other_letters_from_a_copy_that_cannot_be_written(tmp_path):
    folder = tmp_path / "my course 画 é"
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
    shutil.copytree(ROOT / "utils", folder / "utils", ignore=ignored)
    for path in [*folder.rglob("*"), folder]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        said = finished(run(cwd=folder, utils=folder / "utils", HOME=str(tmp_path), PYTHONDONTWRITEBYTECODE="1"))
        files = {str(path.relative_to(folder)) for path in (folder / "utils").rglob("*") if path.is_file()}
    finally:
        for path in [folder, *folder.rglob("*")]:
            if path.is_dir():
                path.chmod(0o755)
    assert "(128, 128)" in said
    assert not [name for name in files if "__pycache__" in name]


def test_two_processes_at_once_draw_the_same_picture(tmp_path):
    both = [run(cwd=tmp_path, HOME=str(tmp_path)) for _ in range(2)]
    first, second = map(finished, both)
    assert first == second


def test_cells_out_of_order_end_in_pythons_own_name_error_and_a_second_run_works(tmp_path):
    nbformat = pytest.importorskip("nbformat")
    from sdcourse.notebooks import execute
    from sdlab import SdlabError

    cells = [
        "picture.size",
        "from sdlab import draw, load_pipeline",
        "picture = draw(load_pipeline(), 'a cat', num_inference_steps=1)",
    ]
    ordered = [*cells[1:], cells[0]]
    for name, sources, fails in (("mixed", cells, True), ("ordered", ordered, False)):
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
        nbformat.write(notebook, tmp_path / f"{name}.ipynb")
        if fails:
            with pytest.raises(SdlabError, match="name 'picture' is not defined"):
                execute(tmp_path / f"{name}.ipynb")
        else:
            assert execute(tmp_path / f"{name}.ipynb").cells[-1].outputs[0].data["text/plain"] == "(128, 128)"
