"""The point clouds of lessons 03 and 04."""

import pytest
import torch

from sdcourse.lessons.lesson_03 import clusters, swiss_roll
from sdlab import SdlabError


@pytest.mark.parametrize("make", [swiss_roll, clusters])
def test_the_points_have_mean_zero_and_variance_one(make):
    points = make(20_000, seed=3, width=0.0)
    assert points.shape == (20_000, 2)
    assert points.mean(dim=0).abs().max() < 0.03
    assert points.square().mean().item() == pytest.approx(1.0, abs=0.03)


@pytest.mark.parametrize("make", [swiss_roll, clusters])
def test_the_seed_decides_the_points(make):
    assert torch.equal(make(50, seed=1), make(50, seed=1))
    assert not torch.equal(make(50, seed=1), make(50, seed=2))


def test_the_spiral_is_filled_evenly_along_its_length():
    from sdcourse.lessons.lesson_03 import _spiral

    path = _spiral(torch.linspace(0, 1, 1001))
    lengths = path.diff(dim=0).norm(dim=1)
    assert lengths.max() / lengths.min() < 1.05


def test_clusters_lie_at_the_places_asked_for():
    points = clusters(400, width=0.0, places=5)
    assert len(torch.unique((points * 1e4).round(), dim=0)) == 5


@pytest.mark.parametrize(("count", "width"), [(0, 0.1), (2.5, 0.1), (10, -1.0), (10, float("nan"))])
def test_senseless_counts_and_widths_are_refused_with_what_came_in(count, width):
    with pytest.raises(SdlabError, match=f"{count}|{width}"):
        swiss_roll(count, width=width)
