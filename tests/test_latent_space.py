"""The way into the latent space and back, and the measurements and figures of lesson 05."""

import numpy as np
import pytest
import torch

from sdcourse.judging.scores import psnr
from sdcourse.lessons.charts import plot_curves
from sdcourse.lessons.lesson_05 import (
    cells_for,
    double_exposure,
    from_tiles,
    stripe_card,
    swatches,
    text_card,
    to_tiles,
)
from sdcourse.lessons.lesson_05_figures import plot_channels, plot_reach
from sdlab import SdlabError, decode, encode, load_pipeline
from sdlab.instruments import count_calls
from sdlab.instruments.costs import unet_flops


@pytest.fixture(scope="module")
def pipe(tiny_pipeline_original):
    return load_pipeline(tiny_pipeline_original)


def pictures(count: int = 2, size: int = 64, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_encoding_is_the_scaled_mean_of_the_encoder(pipe):
    images = pictures()
    with torch.no_grad():
        mean = pipe.vae.encode(images).latent_dist.mean
    torch.testing.assert_close(encode(pipe, images), mean * pipe.vae.config.scaling_factor)


def test_with_a_generator_the_latents_are_sampled_and_repeat(pipe):
    first, again = (encode(pipe, pictures(), generator=torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, encode(pipe, pictures()))


def test_many_pictures_are_encoded_like_single_ones(pipe):
    images = pictures(18)
    torch.testing.assert_close(encode(pipe, images)[17:], encode(pipe, images[17:]), atol=1e-5, rtol=1e-4)


def test_decoding_is_what_the_pipeline_shows_of_its_last_latents(pipe):
    settings = {"num_inference_steps": 2, "guidance_scale": 1.0}
    last = pipe("a", generator=torch.Generator().manual_seed(0), output_type="latent", **settings).images
    shown = pipe("a", generator=torch.Generator().manual_seed(0), output_type="pt", **settings).images
    torch.testing.assert_close(decode(pipe, last), shown)


@pytest.mark.parametrize("shape", [(3, 64, 64), (1, 1, 64, 64), (1, 3, 60, 64)])
def test_pictures_of_another_shape_are_refused_with_it(pipe, shape):
    with pytest.raises(SdlabError, match=str(shape[0])):
        encode(pipe, torch.zeros(shape))


def test_pictures_from_0_to_255_are_refused_with_their_range(pipe):
    with pytest.raises(SdlabError, match=r"255\.00"):
        encode(pipe, torch.full((1, 3, 64, 64), 255.0))


def test_latents_with_three_channels_are_refused(pipe):
    with pytest.raises(SdlabError, match=r"\[1, 3, 8, 8\]"):
        decode(pipe, torch.zeros(1, 3, 8, 8))


def test_tiles_put_together_give_the_picture_again():
    images = pictures(2, 32)
    assert to_tiles(images).shape == (2, 16, 192)
    assert torch.equal(from_tiles(to_tiles(images), 32, 32), images)


def test_pictures_that_do_not_divide_into_tiles_are_refused():
    with pytest.raises(SdlabError, match="30"):
        to_tiles(pictures(1, 30))


def test_an_error_of_a_tenth_everywhere_is_twenty_decibels():
    images = torch.full((2, 3, 8, 8), 0.5)
    torch.testing.assert_close(psnr(images, images + 0.1), torch.tensor([20.0, 20.0]))
    with pytest.raises(SdlabError, match="one shape"):
        psnr(images, images[:1])


def test_a_mixture_of_two_pictures_is_all_double_exposure_and_another_picture_is_none():
    first, last, other = pictures(3, 32)
    assert double_exposure(0.3 * first + 0.7 * last, first, last) == pytest.approx(1.0)
    assert double_exposure(other, first, last) < 0.05


def test_cells_are_counted_from_the_largest():
    assert cells_for(torch.tensor([[6.0, 1.0], [3.0, 0.0]]), 0.5) == 1
    assert cells_for(torch.tensor([[6.0, 1.0], [3.0, 0.0]]), 0.85) == 2
    assert cells_for(torch.ones(4, 4), 0.5) == 8


def test_calls_are_counted_inside_the_block_only(pipe):
    with count_calls(pipe) as calls:
        pipe("a", num_inference_steps=2, guidance_scale=1.0)
    unet_calls = calls["unet"]
    pipe("a", num_inference_steps=2, guidance_scale=1.0)
    assert calls == {"encoder": 0, "unet": unet_calls, "decoder": 1}
    assert unet_calls >= 2


def test_twice_the_side_costs_more_than_four_times_as_much(pipe):
    small, large = unet_flops(pipe.unet.config, 8), unet_flops(pipe.unet.config, 16)
    assert large > 4 * small > 0


def test_stripes_have_the_width_asked_for():
    card = stripe_card(4, 16)
    assert card.shape == (16, 16, 3)
    assert card[0, :, 0].tolist() == [0] * 4 + [255] * 4 + [0] * 4 + [255] * 4
    with pytest.raises(SdlabError, match="width=0"):
        stripe_card(0)


def test_the_text_card_has_black_text_on_white():
    card = text_card(128)
    assert card.shape == (128, 128, 3)
    assert card[0, 0].tolist() == [255, 255, 255]
    assert 0.02 < (card < 128).mean() < 0.4


def test_swatches_are_squares_side_by_side():
    shown = swatches([[255, 0, 0], [0, 0, 255]], width=4)
    assert shown.shape == (4, 8, 3)
    assert shown[0, 0].tolist() == [255, 0, 0]
    assert shown[-1, -1].tolist() == [0, 0, 255]


def test_every_figure_keeps_its_alt_text():
    change = torch.rand(16, 16, generator=torch.Generator().manual_seed(0))
    figures = [
        plot_channels(torch.randn(1, 4, 8, 8), np.zeros((64, 64, 3), np.uint8), alt="what is seen"),
        plot_reach({"a": change, "b": change}, {"a": (3, 3, 1), "b": (2, 2, 4)}, alt="what is seen"),
        plot_curves([1, 2, 4], {"a": [1, 2, 3]}, alt="what is seen", xlabel="x", ylabel="y", log="x"),
        plot_curves([1, 2], {"a": [1, 2]}, alt="what is seen", xlabel="x", ylabel="y", log="y", points={"p": (1, 2)}),
    ]
    assert [figure.alt for figure in figures] == ["what is seen"] * 4
    assert len({figure.to_base64() for figure in figures}) == 4
