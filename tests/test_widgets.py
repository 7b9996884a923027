"""Controls of the lessons: what they show, how fast, and what they refuse."""

import io
import time

import pytest
from PIL import Image

from sdlab import SdlabError
from sdlab.figures import explore, new_figure

WIDTHS = [300, 400, 500]


def picture_of(panel) -> Image.Image:
    return Image.open(io.BytesIO(panel.children[-1].value))


def blank(*, width, shade=0):
    return Image.new("RGB", (width, 10), (shade, shade, shade))


def test_moving_a_slider_changes_the_picture():
    panel = explore(blank, width=WIDTHS)
    assert picture_of(panel).width == 300
    panel.children[0].value = 500
    assert picture_of(panel).width == 500


def test_every_choice_gets_a_labelled_slider_and_may_start_anywhere():
    panel = explore(blank, width=(WIDTHS, 400), shade=[0, 255])
    assert [slider.description for slider in panel.children[:-1]] == ["width", "shade"]
    assert picture_of(panel).width == 400
    panel.children[1].value = 255
    assert picture_of(panel).getpixel((0, 0)) == (255, 255, 255)


def test_a_picture_is_made_only_once():
    calls = []
    panel = explore(lambda width: calls.append(width) or blank(width=width), width=WIDTHS)
    for width in (400, 300, 400, 300):
        panel.children[0].value = width
    assert calls == [300, 400]


def test_precomputing_makes_all_pictures_beforehand():
    calls = []

    def render(width, shade):
        calls.append((width, shade))
        return blank(width=width, shade=shade)

    panel = explore(render, precompute=True, width=WIDTHS, shade=[0, 255])
    assert len(calls) == 6
    panel.children[0].value = 500
    assert len(calls) == 6


def test_a_figure_answers_within_a_tenth_of_a_second():
    """The fastest of five, in seconds of the processor: other programs may hold it up."""

    def render(slope):
        figure, axes = new_figure(alt="a straight line of some slope", width=6, height=3)
        axes.plot([0, 1], [0, slope])
        return figure

    panel = explore(render, slope=list(range(8)))
    seconds = []
    for slope in range(1, 6):
        start = time.process_time()
        panel.children[0].value = slope
        seconds.append(time.process_time() - start)
    assert min(seconds) < 0.1


def test_an_empty_choice_and_a_wrong_start_are_refused():
    with pytest.raises(SdlabError, match="nothing to choose for width"):
        explore(blank, width=[])
    with pytest.raises(SdlabError, match="width cannot start at 7"):
        explore(blank, width=(WIDTHS, 7))


def test_the_picture_is_shown_in_its_own_size():
    panel = explore(blank, width=WIDTHS)
    panel.children[0].value = 400
    assert panel.children[-1].layout.width == "400px"
    assert panel.children[-1].layout.align_self == "flex-start"
