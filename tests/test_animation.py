"""The animation is a PNG of few colours whose frames are the pictures, with the last one as its still picture."""

import base64
import io

import numpy as np
import pytest
import torch
from PIL import Image

from notebook_images import difference
from sdlab import SdlabError
from sdlab.figures import animate, show_images

GREYS = [np.full((64, 64, 3), value, np.uint8) for value in (10, 90, 170, 250)]


def opened(animation) -> Image.Image:
    return Image.open(io.BytesIO(animation.data))


def test_every_frame_plays_in_order_without_end_and_the_last_one_stays_longest():
    image = opened(animate(GREYS, alt="Four shades of grey", seconds=0.1, last_seconds=2))
    assert image.format == "PNG" and image.is_animated and image.info["loop"] == 0
    shades, times = [], []
    for frame in range(1, image.n_frames):  # 0 is the still picture
        image.seek(frame)
        shades.append(int(np.asarray(image.convert("RGB")).mean()))
        times.append(image.info["duration"])
    assert shades == pytest.approx([10, 90, 170, 250], abs=3)
    assert times == [100, 100, 100, 2000]


def test_what_cannot_play_it_shows_the_last_picture():
    still = opened(animate(GREYS, alt="Four shades of grey")).convert("RGB")
    assert np.asarray(still).mean() == pytest.approx(250, abs=3)


def test_the_picture_comparison_of_the_notebook_tests_reads_it():
    animation, still = animate(GREYS, alt="Four shades of grey"), show_images(GREYS[-1], scale=1)
    assert difference(animation.to_base64(), animation.to_base64()) == 0
    assert difference(animation.to_base64(), animate(GREYS[::-1], alt="Four shades of grey").to_base64()) > 0.5
    assert base64.b64decode(still.to_base64())[:4] == animation.data[:4] == b"\x89PNG"


def test_large_frames_are_made_smaller_and_a_noisy_animation_stays_below_120_kB():
    frames = torch.rand(16, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    large = torch.nn.functional.interpolate(frames, (512, 512), mode="bicubic").clamp(0, 1)
    animation = animate(large, alt="Sixteen frames of noise")
    assert opened(animation).size == (112, 112)
    assert len(animation.to_base64()) < 120_000


def test_it_shows_itself_with_its_alt_text(capsys):
    pytest.importorskip("IPython")
    animate(GREYS, alt="Four   shades of grey")._ipython_display_()
    assert "Four shades of grey" in capsys.readouterr().out


def test_one_picture_or_pictures_of_two_sizes_are_refused():
    with pytest.raises(SdlabError, match="not 1 of sizes"):
        animate(GREYS[:1], alt="One shade of grey")
    with pytest.raises(SdlabError, match=r"\(32, 32\), \(64, 64\)"):
        animate([GREYS[0], np.zeros((32, 32, 3), np.uint8)], alt="Two sizes of grey")
    with pytest.raises(SdlabError, match="alt"):
        animate(GREYS, alt=" ")
