"""The landscapes of lesson 01, the walks down them, and their figures."""

import math

import numpy as np
import pytest
import torch

from sdcourse.lessons.charts import plot_curves
from sdcourse.lessons.lesson_01 import (
    BETAS,
    EyeSearch,
    NoiseSamples,
    batch_gradients,
    descend,
    final_excess,
    gradient_noise,
    train_many,
    walk_with_batches,
    with_neighbours,
)
from sdcourse.lessons.lesson_01_figures import SearchPanel, plot_map_paths, plot_row_paths, plot_weight_paths
from sdcourse.portraits import plan_portrait
from sdlab import SdlabError
from sdlab.images import to_batch


@pytest.fixture(scope="module")
def samples():
    return NoiseSamples(1000)


@pytest.fixture(scope="module")
def search():
    return EyeSearch(plan_portrait(256))


def direct_loss(samples, weights):
    return (samples.inputs @ weights - samples.targets).square().mean()


def test_pixels_run_from_minus_one_to_one():
    assert to_batch([np.array([[[0, 255, 0]]], dtype=np.uint8)]).tolist() == [[[[-1]], [[1]], [[-1]]]]


def test_neighbours_are_the_mean_of_the_eight_values_around():
    noisy = torch.randn(5, 6, 3, generator=torch.Generator().manual_seed(0))
    pairs = with_neighbours(noisy)
    around = (noisy[1:4, 2:5, 1].sum() - noisy[2, 3, 1]) / 8
    assert pairs.shape == (5, 6, 3, 2)
    assert torch.equal(pairs[..., 0], noisy)
    torch.testing.assert_close(pairs[2, 3, 1, 1], around)
    torch.testing.assert_close(with_neighbours(noisy[None])[0], pairs)


def test_no_weights_beat_the_best_ones(samples):
    torch.testing.assert_close(
        samples.best, torch.linalg.lstsq(samples.inputs, samples.targets[:, None]).solution[:, 0]
    )
    assert samples.excess(samples.best) == 0
    assert (samples.excess(samples.best + torch.randn(50, 2)) > 0).all()


def test_the_loss_of_many_weights_is_the_mean_squared_error_of_each(samples):
    weights = torch.randn(4, 2, generator=torch.Generator().manual_seed(1))
    expected = torch.stack([direct_loss(samples, one) for one in weights])
    torch.testing.assert_close(samples.loss(weights), expected, rtol=1e-4, atol=1e-5)


def test_the_noise_to_be_predicted_has_variance_one_and_a_fixed_seed(samples):
    assert samples.targets.var().item() == pytest.approx(1, abs=0.15)
    assert torch.equal(NoiseSamples(200).targets, NoiseSamples(200).targets)
    assert not torch.equal(NoiseSamples(200, seed=1).targets, NoiseSamples(200).targets)


@pytest.mark.parametrize("count", [0, -5, 2.5])
def test_a_senseless_number_of_samples_is_refused(count):
    with pytest.raises(SdlabError, match=str(count)):
        NoiseSamples(count)


def test_the_window_shows_what_is_wanted_only_at_the_eyes(search):
    assert search.loss(*search.eyes) == 0
    assert (search.loss(torch.tensor([0.1, 0.3, 0.7, 0.9])) > 0.05).all()
    assert search.picture_at(0.5).shape == (*search.shape, 3)


def test_the_window_follows_the_picture_by_whole_pixels(search):
    place = torch.tensor([40.5 / 128, 60.5 / 128], dtype=torch.float64)  # the middle of pixel (40, 60)
    moved = search.window(place[0] + 1 / 128, place[1]).reshape(*search.shape, 3)
    torch.testing.assert_close(moved[:, :-1], search.window(*place).reshape(*search.shape, 3)[:, 1:])


def test_the_eyes_row_has_three_valleys(search):
    heights = search.loss(torch.linspace(0.2, 0.85, 131, dtype=torch.float64))
    lower = (heights[1:-1] < heights[:-2]) & (heights[1:-1] < heights[2:])
    assert int(lower.sum()) == 3


def test_a_mean_over_chosen_pixels_of_all_is_the_loss(search):
    every = torch.arange(len(search.wanted))
    torch.testing.assert_close(search.loss(0.3, 0.4, chosen=every), search.loss(0.3, 0.4))
    assert search.window(0.3, 0.4, chosen=every[:7]).shape == (7, 3)


def test_descending_a_parabola_multiplies_the_distance_by_one_minus_rate_times_curvature():
    path = descend(lambda place: 3 * (place - 2).square(), 5.0, [0.1, 0.3])
    assert path.tolist() == pytest.approx([5, 2 + 3 * 0.4, 2 - 3 * 0.4 * 0.8])


def test_descending_equals_torch_sgd_in_two_dimensions():
    def loss(place):
        return place[0].square() + 5 * place[1].square() + place[0] * place[1]

    parameter = torch.nn.Parameter(torch.tensor([1.0, -2.0], dtype=torch.float64))
    optimizer = torch.optim.SGD([parameter], lr=0.05)
    for _ in range(7):
        optimizer.zero_grad()
        loss(parameter).backward()
        optimizer.step()
    torch.testing.assert_close(descend(loss, (1.0, -2.0), [0.05] * 7)[-1], parameter.detach())


def test_many_starts_walk_independently(search):
    both = descend(search.loss, torch.tensor([0.3, 0.7], dtype=torch.float64), [0.01] * 3)
    torch.testing.assert_close(both[:, 1], descend(search.loss, 0.7, [0.01] * 3))


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_many_trainings_equal_torchs_optimizer(samples, optimizer):
    rates = [0.05 / (1 + step) for step in range(12)]
    path = train_many(samples, rates, batch_size=5, runs=1, optimizer=optimizer, seed=3)
    parameter, generator = torch.nn.Parameter(torch.zeros(2)), torch.Generator().manual_seed(3)
    kinds = {"sgd": torch.optim.SGD, "adam": lambda p, lr: torch.optim.Adam(p, lr=lr, betas=BETAS)}
    torch_optimizer = kinds[optimizer]([parameter], lr=1.0)
    for rate in rates:
        chosen = torch.randint(1000, (1, 5), generator=generator)[0]
        torch_optimizer.param_groups[0]["lr"] = rate
        torch_optimizer.zero_grad()
        (samples.inputs[chosen] @ parameter - samples.targets[chosen]).square().mean().backward()
        torch_optimizer.step()
    assert path.shape == (13, 1, 2)
    torch.testing.assert_close(path[-1, 0], parameter.detach(), rtol=1e-4, atol=1e-5)


def test_the_gradient_of_all_samples_is_autograds(samples):
    weights = torch.tensor([[0.7, -0.3]], requires_grad=True)
    (gradient,) = torch.autograd.grad(direct_loss(samples, weights[0]), weights)
    found = batch_gradients(samples, weights.detach(), torch.arange(1000)[None])
    torch.testing.assert_close(found, gradient, rtol=1e-4, atol=1e-5)


def test_four_times_the_batch_halves_the_noise_of_the_gradient(samples):
    small, large = gradient_noise(samples, 10)[0], gradient_noise(samples, 40)[0]
    assert small / large == pytest.approx(2, rel=0.1)


def test_each_rate_of_a_sweep_is_trained_on_its_own(samples):
    excess = final_excess(samples, [0.0, 0.1, 2.0], 100, batch_size=20, runs=5)
    assert excess[0] == pytest.approx(samples.excess(torch.zeros(2)).item())
    assert excess[1] < 0.1 * excess[0]
    assert excess[2] > 10 * excess[0]


def test_unknown_optimizers_and_batch_sizes_are_refused_with_what_came_in(samples):
    with pytest.raises(SdlabError, match="'lion'"):
        train_many(samples, [0.1], batch_size=3, optimizer="lion")
    for batch_size in (0, 1001, 2.5):
        with pytest.raises(SdlabError, match=str(batch_size)):
            train_many(samples, [0.1], batch_size=batch_size)


def test_a_walk_that_compares_every_pixel_has_no_noise_to_shake_it(search):
    path = walk_with_batches(search, 0.01, len(search.wanted), (0.45, 0.4))
    losses = search.loss(path[:, 0], path[:, 1])
    assert path.shape == (51, 2)
    assert losses[-1] < 0.01 * losses[0]


def test_the_panel_draws_the_same_walk_again_after_another(search):
    panel = SearchPanel(search)
    first, other, again = (panel(rate, 30, (0.42, 0.3)) for rate in (0.02, 0.002, 0.02))
    assert first.tobytes() == again.tobytes()
    assert first.tobytes() != other.tobytes()


def test_the_figures_carry_their_alt_text_and_every_label(samples, search):
    row = plot_row_paths(search, {"a": descend(search.loss, 0.3, [0.01] * 3)}, alt="one walk along the row")
    drawn = plot_map_paths(search, {"b": torch.rand(4, 2)}, alt="one walk over the portrait")
    weights = plot_weight_paths(samples, {"c": torch.rand(4, 2), "d": torch.rand(4, 2)}, alt="two walks of weights")
    panels = plot_curves(
        [1, 2], {"e": {"line": [1, math.e]}, "f": {"line": [1, 2]}}, alt="two panels", xlabel="x", ylabel="y"
    )
    assert row.alt == "one walk along the row"
    assert [text.get_text() for text in row.axes[1].get_legend().get_texts()] == ["a"]
    assert [text.get_text() for text in drawn.axes[1].get_legend().get_texts()] == ["b"]
    assert [axes.get_title() for axes in weights.axes] == ["c", "d"]
    assert [axes.get_title() for axes in panels.axes] == ["e", "f"]
