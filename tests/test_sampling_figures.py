"""The figures of lesson 09 hold what they were given."""

import numpy as np
import pytest

from sdcourse.lessons.lesson_09_figures import show_guidance, show_race
from sdlab.figures import show_rows

SQUARE = np.full((32, 32, 3), 120, np.uint8)


def test_rows_have_the_size_that_was_asked_for_and_are_stored_smaller_than_other_pictures():
    figure = show_rows({"above": [SQUARE] * 5, "below": [SQUARE] * 3}, alt="Grey squares in rows", size=40)
    width, height = figure.get_size_inches() * figure.dpi
    assert 5 * 40 < width < 5 * 40 + 40 and height > 2 * 40
    assert figure.kind == "image/jpeg" and figure.quality < type(figure).quality


def test_a_race_has_one_line_for_each_sampler_and_the_level():
    errors = {"euler": {4: 0.1, 16: 0.03}, "dpm": {4: 0.1, 16: 0.01}}
    (axis,) = show_race(errors, level=("two seeds", 0.2), alt="Two falling lines").axes
    assert [line.get_label() for line in axis.lines] == ["euler", "dpm", "two seeds"]
    assert axis.lines[1].get_ydata() == pytest.approx([0.1, 0.01])


def test_guidance_has_a_panel_for_each_measure_with_the_scales_as_marks():
    panels = {"agreement": [(0.1, 0.0, 0.2), (0.9, 0.8, 1.0)], "contrast": [(0.2, 0.1, 0.3)] * 2}
    figure = show_guidance([0, 4], panels, alt="Two panels over the guidance scale")
    assert [axis.get_title() for axis in figure.axes] == ["agreement", "contrast"]
    assert [mark.get_text() for mark in figure.axes[0].get_xticklabels()] == ["0", "4"]
