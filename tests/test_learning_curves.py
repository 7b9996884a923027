"""The small trainings of lesson 02, and the pictures of their curves."""

import pytest
import torch

from sdcourse.lessons.lesson_02 import (
    NOISE,
    all_sums,
    error,
    fit,
    make_network,
    noisy_points,
    take,
    training_steps,
    wave,
)
from sdcourse.lessons.lesson_02_figures import plot_data_sizes, plot_fits, plot_gaps, plot_step, plot_stops, plot_sums
from sdlab import SdlabError


@pytest.fixture(scope="module")
def curves():
    return fit(make_network(8), noisy_points(40), noisy_points(40, seed=1), steps=60, every=20)


def test_the_points_lie_around_the_wave_as_far_as_the_noise_says():
    inputs, targets = noisy_points(20_000, seed=4)
    assert inputs.abs().max() <= 1
    assert (targets - wave(inputs)).std().item() == pytest.approx(NOISE, rel=0.03)
    without = noisy_points(50, noise=0.0)
    torch.testing.assert_close(without[1], wave(without[0]))


def test_taking_rows_keeps_inputs_and_targets_together():
    inputs, targets = noisy_points(10)
    assert torch.equal(torch.cat(take((inputs, targets), [7, 2])), torch.cat([inputs[[7, 2]], targets[[7, 2]]]))


def test_the_error_of_the_rule_itself_is_the_noise():
    points = noisy_points(20_000, seed=2)
    assert error(_Wave(), points) == pytest.approx(NOISE**2, rel=0.05)


class _Wave(torch.nn.Module):
    def forward(self, inputs):
        return wave(inputs)


def test_a_training_is_the_same_with_the_same_seed(curves):
    again = fit(make_network(8), noisy_points(40), noisy_points(40, seed=1), steps=60, every=20)
    assert again.training == curves.training
    other = fit(make_network(8), noisy_points(40), noisy_points(40, seed=1), steps=60, every=20, seed=1)
    assert other.training[0] == curves.training[0]
    assert other.training[-1] != curves.training[-1]


def test_every_point_is_seen_once_an_epoch():
    points = torch.eye(32), torch.ones(32, 1)  # with these inputs a point moves only its own column of the weights
    network = make_network(4, inputs=32, layers=1)
    before, seen = network[0].weight.detach().clone(), []
    for _ in training_steps(network, points, steps=2):
        seen.append((network[0].weight != before).any(dim=0).sum().item())
    assert seen == [16, 32]


def test_the_records_belong_to_their_steps(curves):
    assert curves.steps == [0, 20, 40, 60]
    assert curves.training[-1] == error(curves.network, curves.points)
    assert curves.training[-1] < curves.training[0]
    assert len(curves.answers) == 4


def test_every_training_learns_from_its_own_points_only():
    first, second = noisy_points(16), noisy_points(16, seed=1)
    alone = fit(make_network(4), first, first, steps=20)
    watched = fit(make_network(4), first, second, steps=20)
    assert alone.training == watched.training
    assert alone.validation == alone.training


def test_a_wide_network_overfits_few_points_and_not_many():
    validation = noisy_points(300, seed=9)
    few, many = (fit(make_network(32), noisy_points(count, seed=8), validation, every=100) for count in (12, 300))
    assert few.training[-1] < 0.5 * NOISE**2
    assert few.validation[-1] > 1.5 * many.validation[-1]
    assert many.validation[-1] < 2 * NOISE**2


def test_the_sums_are_right_and_their_inputs_one_hot():
    pairs, (inputs, targets) = all_sums()
    assert pairs[37].tolist() == [3, 7]
    assert targets[37] == 10
    assert inputs.shape == (100, 20)
    assert inputs[37].nonzero()[:, 0].tolist() == [3, 17]


def test_every_plot_describes_itself(curves):
    pairs, _ = all_sums()
    entries = [{"step": 10, "train": 0.1, "validation": 0.1}, {"step": 20, "train": 0.05, "validation": 0.12}]
    figures = [
        plot_fits({"one": curves, "two": curves}, floor=0.09, alt="Two trainings side by side"),
        plot_step(curves, 40, floor=0.09),
        plot_stops(curves, {"early": 1, "late": 60}, floor=0.09, alt="Two moments of a training"),
        plot_data_sizes([8, 16], [0.0, 0.1], [0.3, 0.2], floor=0.09, alt="Two errors that meet"),
        plot_sums({"right": (pairs.sum(1), [11]), "zero": (torch.zeros(100), [])}, alt="Two tables of sums"),
        plot_gaps({"few": entries, "many": entries}, alt="Two losses that part"),
    ]
    for figure in figures:
        assert len(figure.alt.split()) >= 3
        assert len(figure.to_base64()) > 2000


@pytest.mark.parametrize("width", [0, -3, 2.5])
def test_a_network_without_units_is_refused(width):
    with pytest.raises(SdlabError, match=str(width)):
        make_network(width)


@pytest.mark.parametrize("count", [0, 1.5])
def test_a_senseless_number_of_points_is_refused(count):
    with pytest.raises(SdlabError, match=str(count)):
        noisy_points(count)
