"""What a teacher would see in the pictures: every bar is right where the truth is known."""

import numpy as np
import pytest
from scipy.linalg import sqrtm

from sdcourse.judging import load_clip, load_judge
from sdcourse.judging.evaluate import FEW_STEPS, prompts, score_few_steps, score_looks
from sdcourse.judging.looks import (
    HUE_FROM,
    edge_agreement,
    edge_ratio,
    eye_difference,
    find_eyes,
    frechet,
    frechet_distance,
    half_painted,
    iris_colors,
    mean_with_interval,
    picture_distances,
    score_half_painted,
    two_hued,
)
from sdcourse.judging.words import score_words
from sdcourse.portraits import VALUES, draw_momo, draw_portrait, plan_momo, plan_portrait
from sdcourse.portraits.worlds import WORLDS
from sdlab import load_pipeline

FIRST = 71_000_000


@pytest.fixture(scope="module")
def pipe():
    return load_pipeline(device="cpu")


def plans(count, world="first", **options):
    return [plan_portrait(FIRST + index, split="any", world=world, **options) for index in range(count)]


def renders(count, **options):
    return [draw_portrait(plan).image for plan in plans(count, **options)]


def blurred(image):
    soft = image.astype(float)
    for axis in (0, 1):
        soft = (np.roll(soft, 1, axis) + 2 * soft + np.roll(soft, -1, axis)) / 4
    return soft.round().astype(np.uint8)


def test_the_interval_of_a_mean_is_that_of_the_textbook():
    found = mean_with_interval([1.0, 2.0, 3.0, 4.0])
    half = 1.96 * np.std([1, 2, 3, 4], ddof=1) / 2
    assert found == {"mean": 2.5, "n": 4, "interval": [round(2.5 - half, 4), round(2.5 + half, 4)]}


def test_pictures_agree_with_their_own_edges_and_less_with_those_of_others():
    images = renders(8)
    assert edge_agreement(images, images)["mean"] == 1.0
    others = edge_agreement(images, images[1:] + images[:1])
    assert others["mean"] < 0.75 and others["n"] == 8 and others["interval"][0] < others["mean"]


def test_washed_out_pictures_have_weaker_edges():
    images = renders(24)
    assert edge_ratio(images, images)["ratio"] == 1.0
    soft = edge_ratio([blurred(image) for image in images], images)
    assert soft["ratio"] < 0.93 and soft["interval"][0] < soft["ratio"] < soft["interval"][1]


def test_the_frechet_distance_is_the_formula_with_scipys_matrix_root():
    rng = np.random.default_rng(0)
    one, other = rng.normal(size=(200, 6)), rng.normal(0.5, 2.0, size=(200, 6))
    first, second = np.cov(one, rowvar=False), np.cov(other, rowvar=False)
    gap = np.square(one.mean(0) - other.mean(0)).sum()
    expected = gap + np.trace(first + second - 2 * sqrtm(first @ second).real)
    assert frechet_distance(one, other) == pytest.approx(expected, rel=1e-8)
    assert frechet_distance(one, one) == pytest.approx(0, abs=1e-9)
    far = frechet(one, other)
    assert far["n"] == 200 and far["interval"][0] < far["distance"] < far["interval"][1]


def test_washed_out_renders_are_farther_from_fresh_ones_than_other_renders_are():
    images = renders(120)
    others = [draw_portrait(plan_portrait(80_000_000 + index, split="any")).image for index in range(120)]
    gray = [(0.5 * image + 64).round().astype(np.uint8) for image in others]
    found = picture_distances(load_clip(), gray, images, others, others)
    assert found["drawn"]["distance"] > 1.2 * found["render_against_render"]["distance"]
    assert found["vae_reconstructions"] == found["render_against_render"]


def test_a_picture_counts_as_half_painted_when_the_impressionists_together_are_likely():
    sure, torn, comic = [1, 0, 0, 0, 0], [0.75, 0.1, 0.1, 0.05, 0], [0.1, 0, 0, 0, 0.9]
    assert VALUES["style"] == ("none", "Monet", "Manet", "Degas", "Lichtenstein")
    found = half_painted(np.array([sure, torn, comic, sure]))
    assert (found["share"], found["n"]) == (0.25, 4)


def test_both_readers_tell_cartoons_from_paintings():
    readers = {"judge": load_judge(), "clip": load_clip()}
    drawn = {True: [], False: []}
    for plan in plans(120):
        if plan.attributes.style != "Lichtenstein":
            drawn[plan.attributes.style == "none"].append(draw_portrait(plan).image)
    cartoons, paintings = (score_half_painted(drawn[plain], **readers) for plain in (True, False))
    for reader in readers:
        assert cartoons[reader]["share"] < 0.1 and paintings[reader]["share"] > 0.9


@pytest.mark.parametrize("world", WORLDS)
def test_eyes_are_found_to_two_pixels_with_hats_glasses_and_strokes(world):
    for plan in plans(60, world):
        assert np.abs(find_eyes(draw_portrait(plan).image, world=world) - plan.eye_centres).max() < 2


@pytest.mark.parametrize("world", WORLDS)
def test_momo_has_eyes_of_two_hues_and_no_ordinary_sitter_has(world):
    momo = [np.asarray(draw_momo(plan_momo(number, world=world))) for number in range(30)]
    assert two_hued(momo, world=world)["share"] == 1.0
    ordinary = renders(60, world=world)
    assert two_hued(ordinary, world=world)["share"] == 0.0
    assert max(eye_difference(image, world=world) for image in ordinary) < HUE_FROM / 2


def test_the_iris_is_measured_and_not_the_white_or_the_pupil():
    image = np.full((128, 128, 3), 255, np.uint8)
    rows, columns = np.mgrid[:128, :128]
    for x, color in ((51, (0, 0, 255)), (77, (0, 0, 255))):
        image[np.hypot(columns - x, rows - 64) < 7] = color
        image[np.hypot(columns - x, rows - 64) < 3] = 0
    one, other = iris_colors(image, np.array([[51.0, 64.0], [77.0, 64.0]]))
    np.testing.assert_allclose(one, [79.2, -107.9], atol=0.5)  # sRGB blue in CIE a*b*
    np.testing.assert_allclose(one, other)


def test_words_have_a_score_with_intervals_and_the_painters_are_told_apart(pipe):
    scores = score_words(pipe)
    for family in ("man", "painters"):
        for name in ("inside", "nearer_than_others"):
            low, high = scores[family][name]["interval"]
            assert low <= scores[family][name]["mean"] <= high
    assert scores["man"]["inside"]["mean"] > 0.5
    assert scores["probe"]["share"] > 0.9 and scores["probe"]["n"] >= 24


def test_the_looks_of_a_model_are_scored_and_its_scheduler_stays(pipe):
    captions, shown = prompts(10, 1), plans(16)
    before = pipe.scheduler
    images = renders(10)
    looks = score_looks(pipe, captions, images, shown, judge=load_judge(), clip=load_clip())
    assert set(looks) == {"frechet", "edge_strength", "vae_edges", "half_painted", "two_hued"}
    assert looks["edge_strength"]["ratio"] == 1.0 and looks["two_hued"]["share"] == 0.0
    assert 0.5 < looks["vae_edges"]["mean"] < 1
    few = score_few_steps(pipe, captions, seed=1)
    assert few["joint"]["n"] == 10 and few["num_inference_steps"] == FEW_STEPS == 4
    assert few["joint"]["share"] >= 0.5
    assert pipe.scheduler is before
