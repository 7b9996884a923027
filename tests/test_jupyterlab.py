"""Lessons and a lab in JupyterLab, in a real browser: they run, sliders move by keyboard, nothing comes from outside.

Screenshots are kept in the folder that the environment variable SDLAB_SCREENSHOTS names.
"""

import shutil

import pytest

from browser import keep, opened, why_not
from conftest import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.skipif(why_not() is not None, reason=str(why_not()))]
SLIDERS = {
    "00_the_whole_picture": "drawing_panel",
    "04_reverse_diffusion": "explore(",
    "08_cross_attention": "explore(",
}
LAB = "01_loss_and_gradient_descent"


@pytest.fixture
def copy(tmp_path):
    """A copy of lessons and labs, so that nothing is written to the checkout."""
    for folder in ("course", "labs"):
        shutil.copytree(ROOT / folder, tmp_path / "work" / folder, ignore=shutil.ignore_patterns(".*"))
    (tmp_path / "own").mkdir()
    return tmp_path


@pytest.mark.parametrize("lesson", SLIDERS)
def test_a_lesson_runs_and_its_slider_moves_by_keyboard(copy, lesson):
    with opened(copy / "work", f"course/{lesson}.ipynb", copy / "own") as lab:
        total, done = lab.run_all()
        assert done == total
        index = lab.index_of(SLIDERS[lesson])
        lab.show_cell(index)
        cell = lab.cell(index)
        picture = cell.locator(".jupyter-widgets img").first
        before = picture.get_attribute("src")
        handle = cell.locator(".noUi-handle").first
        handle.focus()
        assert cell.locator(".widget-label").first.inner_text().strip()
        for _ in range(3):
            lab.page.keyboard.press("ArrowRight")
        lab.page.wait_for_function(
            "([old, image]) => image.src != old", arg=[before, picture.element_handle()], timeout=600_000
        )
        keep(lab.page, lesson)
        assert picture.get_attribute("src") != before
        assert lab.wrong == []


def test_a_check_goes_from_not_attempted_to_right(copy):
    with opened(copy / "work", f"labs/{LAB}/{LAB}.ipynb", copy / "own") as lab:
        total, done = lab.run_all()
        assert done == total
        answer, check = lab.index_of("def predict_distance"), lab.index_of("check.predict_distance(")
        lab.show_cell(check)
        assert "○ predict_distance: not attempted yet." in lab.cell(check).inner_text()
        assert "Traceback" not in lab.cell(check).inner_text()
        head = "def predict_distance(start, learning_rate, curvature, steps):\n    "
        for sign, said in (("+", "✗ predict_distance: the sign is wrong"), ("-", "✓ predict_distance: right")):
            lab.write(answer, f"{head}return start * (1 {sign} learning_rate * curvature) ** steps")
            lab.run_cell(answer)
            lab.run_cell(check)
            lab.cell(check).get_by_text(said).wait_for(timeout=600_000)
            keep(lab.page, f"lab 01 {'right' if sign == '-' else 'wrong'}")
        assert lab.wrong == []
