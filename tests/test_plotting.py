"""Pictures are shown as they are, in one style, with a description."""

import base64
import io

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from sdcourse.portraits import draw_portrait, plan_portrait
from sdlab import SdlabError, contact_sheet
from sdlab.figures import COLORS, new_figure, show_images
from sdlab.images import to_pictures

RED = np.full((128, 128, 3), (200, 30, 30), np.uint8)


def rendered(figure) -> np.ndarray:
    image = Image.open(io.BytesIO(base64.b64decode(figure.to_base64())))
    return np.asarray(image.convert("RGB"))


def test_show_images_returns_a_matplotlib_figure():
    assert isinstance(show_images([RED, RED], ["one", "two"]), Figure)


def test_a_picture_is_stored_pixel_by_pixel_but_for_the_rounding_of_a_jpeg():
    portrait = draw_portrait(plan_portrait(3)).image
    pixels = rendered(show_images(portrait))
    assert pixels.shape == (136, 136, 3)
    assert np.abs(pixels[4:-4, 4:-4].astype(int) - portrait).mean() < 6
    shifted = np.roll(portrait, 1, axis=1).astype(int)
    assert np.abs(pixels[4:-4, 4:-4].astype(int) - shifted).mean() > 9


def test_small_maps_are_enlarged_to_sharp_squares():
    board = np.indices((16, 16)).sum(0) % 2 * 255
    pixels = rendered(show_images(board.astype(np.uint8)))[4:-4, 4:-4]
    assert set(np.unique(pixels)) == {0, 255}
    assert pixels.shape[:2] == (128, 128)


def test_arrays_tensors_and_pil_pictures_are_the_same():
    tensor = torch.from_numpy(RED).permute(2, 0, 1) / 255
    for image in (RED, tensor, Image.fromarray(RED), RED / 255):
        (picture,) = to_pictures(image)
        np.testing.assert_array_equal(np.asarray(picture), RED)


def test_a_batch_is_as_many_pictures():
    assert len(to_pictures(torch.zeros(5, 3, 8, 8))) == 5
    assert len(to_pictures(np.zeros((4, 8, 8, 3), np.uint8))) == 4


def test_columns_set_the_pictures_in_a_row():
    wide, high = show_images([RED] * 6, columns=3), show_images([RED] * 6, columns=2)
    assert wide.get_figwidth() > high.get_figwidth()
    assert len(wide.axes) == len(high.axes) == 6


def test_titles_stand_above_their_pictures():
    figure = show_images([RED, RED], ["seed 0", "seed 1"])
    assert [axes.get_title() for axes in figure.axes] == ["seed 0", "seed 1"]


def test_the_alt_text_names_the_titles_unless_it_is_given():
    assert show_images([RED, RED], ["blue", "green"]).alt == "2 pictures: blue; green"
    assert show_images(RED, alt="A red square").alt == "A red square"


def test_charts_use_the_colours_that_everybody_can_tell_apart():
    figure, axes = new_figure(alt="Two lines that rise")
    lines = [axes.plot([0, 1], [0, slope])[0] for slope in (1, 2)]
    assert [line.get_color() for line in lines] == list(COLORS[:2])
    assert len(rendered(figure).shape) == 3


def test_a_contact_sheet_holds_every_picture():
    sheet = contact_sheet([RED] * 10, columns=4, gap=2)
    assert sheet.size == (4 * 130 - 2, 3 * 130 - 2)
    assert sheet.getpixel((5, 265)) == (200, 30, 30)
    assert sheet.getpixel((400, 265)) == (255, 255, 255)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"images": []}, "list is empty"),
        ({"images": [RED], "titles": ["a", "b"]}, "1 pictures but 2 titles"),
        ({"images": torch.full((3, 8, 8), -1.0)}, r"values in \[0, 1\], not -1 to -1"),
        ({"images": torch.full((3, 8, 8), float("nan"))}, r"values in \[0, 1\], not nan"),
        ({"images": [np.zeros((8, 8, 4), np.uint8)]}, r"not \[8, 8, 4\]"),
    ],
)
def test_what_is_no_picture_is_refused_in_one_sentence(arguments, sentence):
    with pytest.raises(SdlabError, match=sentence):
        show_images(**arguments)


def test_a_chart_without_a_description_is_refused():
    with pytest.raises(SdlabError, match="say in words"):
        new_figure(alt=" ")


def test_pure_noise_can_be_stored():
    noise = np.random.default_rng(0).integers(0, 256, size=(3, 256, 256, 3), dtype=np.uint8)
    assert len(show_images(list(noise), alt="three pictures of pure noise").to_base64()) > 100_000
