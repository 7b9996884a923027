"""The measures of lesson 09 on pictures whose answer is known."""

import pytest
import torch

from sdcourse.judging.intervals import with_interval
from sdcourse.judging.judge import Reading
from sdcourse.lessons.lesson_09 import clipped, composition, contrast, differing, distance, score_guidance
from sdcourse.portraits import draw_portrait, plan_portrait
from sdlab import SdlabError


def noise(*shape, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def reading(**values) -> Reading:
    everything = dict.fromkeys(("subject", "eyes", "hair", "shirt", "hat", "glasses", "scene", "style"), "x")
    return Reading(values={**everything, **values}, confidence={}, is_portrait=1.0)


def test_black_and_white_are_one_apart_and_a_picture_is_no_distance_from_itself():
    black, white = torch.zeros(2, 3, 4, 4), torch.ones(2, 3, 4, 4)
    assert distance(black, white).tolist() == [1.0, 1.0]
    assert distance(white, white).tolist() == [0.0, 0.0]


def test_contrast_is_half_for_black_and_white_halves_and_scales_with_the_picture():
    halves = torch.zeros(1, 3, 10, 10)
    halves[..., 5:] = 1
    assert contrast(halves).item() == pytest.approx(0.5, abs=0.01)
    torch.testing.assert_close(contrast(0.5 * halves), 0.5 * contrast(halves))


def test_clipped_counts_the_values_at_both_ends():
    picture = torch.full((1, 3, 2, 2), 0.5)
    picture[0, 0] = torch.tensor([[0.0, 1.0], [0.5, 0.5]])
    assert clipped(picture).item() == pytest.approx(2 / 12)


def test_pictures_that_share_what_their_seed_brings_correlate_only_for_the_same_seed():
    of_prompt, of_seed = noise(3, 1, 3, 16, 16), noise(1, 8, 3, 16, 16, seed=1)
    same, other = composition(of_prompt + of_seed)
    assert same == pytest.approx(1.0)
    assert other < 0.05
    unrelated_same, unrelated_other = composition(noise(3, 8, 3, 16, 16, seed=2))
    assert abs(unrelated_same) < 0.1 and abs(unrelated_other) < 0.1


def test_only_attributes_that_were_not_named_count_as_differing():
    pair = [reading(eyes="blue", hat="red"), reading(eyes="green", hat="red")]
    assert differing(pair, {"eyes": "blue"}) == 0
    assert differing(pair, {"hat": "red"}) == pytest.approx(1 / 7)
    assert differing([*pair, pair[0]], {"hat": "red"}) == pytest.approx(2 / 3 / 7)


def test_the_jackknife_of_a_mean_is_its_usual_standard_error():
    values = noise(30).tolist()
    value, low, high = with_interval(_mean, [values])
    error = torch.tensor(values).std().item() / 30**0.5
    assert value == pytest.approx(_mean([values]))
    assert (high - low) / 2 == pytest.approx(1.96 * error, rel=1e-4)


def _mean(groups) -> float:
    return sum(map(sum, groups)) / sum(map(len, groups))


def test_an_interval_of_equal_items_has_no_width_and_two_items_are_too_few():
    assert with_interval(_mean, [[0.5] * 3, [0.5] * 3]) == (0.5, 0.5, 0.5)
    with pytest.raises(SdlabError, match="2 items"):
        with_interval(_mean, [[0.5, 0.6]])


def test_true_renders_agree_with_what_they_show_and_differ_where_they_differ():
    plans = [plan_portrait(number, split="any") for number in range(60_000_000, 60_000_006)]
    pictures = torch.stack([torch.from_numpy(draw_portrait(plan).image).permute(2, 0, 1) / 255 for plan in plans])
    renders = {"renders": pictures, "one portrait": pictures[:1].expand(6, -1, -1, -1)}
    one = plans[0].attributes
    scores = score_guidance(renders, [{"subject": one.subject, "scene": one.scene}] * 2)
    assert set(scores) == {"agreement", "diversity", "contrast", "clipped"}
    (some, _, _), (same, low, high) = scores["agreement"]
    assert same == 1.0 > some and low < 1.0 == high
    assert scores["diversity"][0][0] > 0.3 and scores["diversity"][1][0] == 0
