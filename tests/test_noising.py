"""Measurements and figures of lesson 03."""

import numpy as np
import pytest
import torch

from sdcourse.judging import image_features, load_clip, load_judge
from sdcourse.lessons.charts import plot_correlations, plot_curves, plot_strips
from sdcourse.lessons.lesson_03 import distance_from_gaussian, draw_from, recognition, swiss_roll
from sdcourse.lessons.lesson_03_figures import plot_bells, plot_point_clouds
from sdcourse.portraits import VALUES, draw_portrait, plan_portrait
from sdlab import SdlabError, load_pipeline
from sdlab.images import as_pictures, same_width


def normal(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, 2, generator=torch.Generator().manual_seed(seed))


def test_pictures_are_the_batch_rounded_to_bytes_and_cut_off_outside():
    batch = torch.tensor([-3.0, -1.0, 0.0, 1.0, 3.0]).expand(1, 3, 2, 5)
    assert as_pictures(batch)[0][0, :, 0].tolist() == [0, 0, 128, 255, 255]


def test_a_normal_cloud_is_nearer_to_gaussian_than_a_spiral_of_the_same_variance():
    assert distance_from_gaussian(normal(2000)) < 0.3 * distance_from_gaussian(swiss_roll(2000))


def test_the_distance_of_a_normal_cloud_falls_with_the_number_of_points():
    assert distance_from_gaussian(normal(20_000)) < distance_from_gaussian(normal(200))


def test_the_distance_sees_a_shift_by_its_size():
    shifted = normal(20_000) + torch.tensor([1.0, 0.0])
    assert distance_from_gaussian(shifted) == pytest.approx(2 / np.pi, abs=0.05)  # the mean of |cos| over all sides


@pytest.mark.parametrize("shape", [(5,), (5, 3), (1, 2)])
def test_what_is_no_cloud_is_refused_with_its_shape(shape):
    with pytest.raises(SdlabError, match=str(shape[0])):
        distance_from_gaussian(torch.zeros(shape))


@pytest.fixture(scope="module")
def witnesses():
    plans = [plan_portrait(61_000_000 + number) for number in range(8)]
    pictures = [draw_portrait(plan).image for plan in plans]
    clip = load_clip()
    return (
        clip,
        load_judge(),
        pictures,
        image_features(clip, pictures),
        [plan.attributes.subject for plan in plans],
    )


def test_clean_pictures_are_found_and_judged(witnesses):
    clip, judge, pictures, album, subjects = witnesses
    scores = recognition(clip, judge, pictures, album, subjects)
    assert scores.found == 1.0
    assert scores.judged == 1.0
    assert 0 <= scores.named <= 1


def test_pictures_in_another_order_are_not_found(witnesses):
    clip, judge, pictures, album, subjects = witnesses
    assert recognition(clip, judge, pictures[1:] + pictures[:1], album, subjects).found == 0.0


def test_an_album_of_another_length_is_refused(witnesses):
    clip, judge, pictures, album, subjects = witnesses
    with pytest.raises(SdlabError, match="7 pictures"):
        recognition(clip, judge, pictures[:7], album, subjects)


def test_the_subjects_are_those_of_the_attributes():
    assert VALUES["subject"] == ("man", "woman", "cat", "dog")


def test_drawing_from_given_latents_repeats_and_restores_the_scheduler(tiny_pipeline_folder):
    pipe = load_pipeline(tiny_pipeline_folder)
    before, start = pipe.scheduler, torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    first = draw_from(pipe, start, "a", num_inference_steps=2)
    assert first.shape == (2, 3, 64, 64)
    assert pipe.scheduler is before
    assert torch.equal(first, draw_from(pipe, start, "a", num_inference_steps=2))
    assert not torch.equal(first, draw_from(pipe, start + 1, "a", num_inference_steps=2))


def test_pictures_of_different_sizes_come_out_equally_wide():
    small, large = np.zeros((16, 16, 3), np.uint8), np.zeros((128, 256, 3), np.uint8)
    assert [picture.size for picture in same_width([small, large], 96)] == [(96, 96), (96, 48)]


def test_every_figure_keeps_its_alt_text():
    cloud, line = normal(50), [1.0, 2.0]
    figures = [
        plot_curves(
            [0, 1], {"a": {"b": line}}, alt="a rising line", xlabel="t", log=("a",), levels={"a": {"one": 1.0}}
        ),
        plot_point_clouds([cloud], ["t"], color_by=cloud[:, 0], alt="a rising line"),
        plot_bells({"one": cloud[:, 0]}, 0.0, 1.0, alt="a rising line"),
        plot_correlations({"a": (cloud[:, 0], cloud[:, 1])}, alt="a rising line", xlabel="x", ylabel="y"),
        plot_strips({"a": cloud[:, 0], "b": cloud[:, 1]}, alt="a rising line", xlabel="x"),
    ]
    assert [figure.alt for figure in figures] == ["a rising line"] * 5
    assert len({figure.to_base64() for figure in figures}) == 5
