"""nbgrader's formgrader in a real browser: it finds the labs, grades a submission, and shows its score."""

import os
import shutil
import sys
from pathlib import Path

import nbformat
import pytest

from browser import chromium, jupyterlab, watched, why_not
from conftest import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.skipif(why_not() is not None, reason=str(why_not()))]
LAB = "01_loss_and_gradient_descent"


@pytest.fixture
def course(tmp_path, monkeypatch):
    """A copy of the course with one submission in it, the solution itself."""
    root = tmp_path / "course"
    for folder in ("solutions", "labs"):
        shutil.copytree(ROOT / folder, root / folder)
    shutil.copy(ROOT / "nbgrader_config.py", root)
    submitted = root / "grading" / "submitted" / "ada" / LAB
    submitted.mkdir(parents=True)
    shutil.copy(ROOT / "solutions" / LAB / f"{LAB}.ipynb", submitted)
    (tmp_path / "own").mkdir()
    monkeypatch.chdir(root)
    monkeypatch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    return root


def points(notebook: Path) -> float:
    cells = nbformat.read(notebook, as_version=4).cells
    return sum(cell.metadata.nbgrader.get("points", 0) for cell in cells if "nbgrader" in cell.metadata)


def test_formgrader_lists_the_labs_makes_one_and_grades_a_submission(course, tmp_path):
    with jupyterlab(course, tmp_path / "own") as (address, token), chromium() as browser:
        page, _ = watched(browser, "http://127.0.0.1")
        home = address.removesuffix("/lab") + "/formgrader"
        page.goto(f"{home}?token={token}")
        page.wait_for_selector(f"text={LAB}")
        labs = sorted(folder.name for folder in (course / "labs").iterdir() if folder.is_dir())
        assert [name for name in labs if page.locator(f"text={name}").count() != 1] == []
        page.locator("tr", has_text=LAB).locator("td.assign a").click()
        page.wait_for_selector(".modal-title:has-text('Success')", timeout=600_000)
        lab = Path("labs", LAB, f"{LAB}.ipynb")
        assert (course / lab).read_bytes() == (ROOT / lab).read_bytes()
        page.goto(f"{home}/manage_submissions/{LAB}")
        page.wait_for_selector("text=needs autograding")
        page.locator("td.autograde a").click()
        page.wait_for_selector(".modal-title:has-text('Success')", timeout=600_000)
        page.goto(f"{home}/manage_submissions/{LAB}")
        row = page.locator("tr", has_text="ada")
        row.wait_for()
        total = points(course / "solutions" / LAB / f"{LAB}.ipynb")
        score = row.locator("td.score").inner_text()
        automatic = float(score.split("/")[0])
        assert float(score.split("/")[1]) == total
        assert 0.7 * total < automatic < total  # the open exercise waits for a person
        assert "needs manual grading" in row.inner_text()
