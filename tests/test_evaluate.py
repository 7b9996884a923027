"""Evaluation: intervals, prompts and scores mean what they say."""

import math

import numpy as np
import pytest
import torch

from sdcourse.judging import share
from sdcourse.judging.evaluate import NAMED_ATTRIBUTES, evaluate, prompts, score_pictures
from sdcourse.judging.scores import score_renders
from sdcourse.portraits import HELD_OUT_PAIRS, NAMES, VALUES, draw_portrait, plan_portrait
from sdlab import SdlabError
from sdlab.images import thumbnails

PLANS = [plan_portrait(60_000_000 + index, split="any") for index in range(60)]


def test_the_wilson_interval_solves_its_own_equation():
    for right, n in ((98, 100), (3, 40), (0, 25), (25, 25)):
        low, high = share(right, n)["interval"]
        for bound in (low, high):
            if 0 < bound < 1:
                distance = abs(right / n - bound) / math.sqrt(bound * (1 - bound) / n)
                assert distance == pytest.approx(1.96, abs=0.02)
    assert share(0, 0) == {"share": None, "n": 0, "interval": None}


@pytest.mark.parametrize("split", ["train", "held_out"])
def test_evaluation_prompts_name_the_subject_and_four_other_attributes(split):
    for item in prompts(60, 3, split=split):
        assert len(item.named) == NAMED_ATTRIBUTES
        assert "subject" in item.named
        assert all(value in VALUES[name] for name, value in item.named.items())


def test_held_out_prompts_name_a_held_out_pair_and_training_prompts_never_do():
    def pairs_in(item):
        return [pair for pair in HELD_OUT_PAIRS if all(item.named.get(name) == value for name, value in pair)]

    assert all(pairs_in(item) for item in prompts(60, 1, split="held_out"))
    assert not any(pairs_in(item) for item in prompts(200, 1))


def test_prompts_of_the_second_world_have_its_words():
    items = prompts(120, 1, world="second")
    assert all(item.world == "second" and len(item.named) == NAMED_ATTRIBUTES for item in items)
    words = set(" ".join(item.text for item in items).split())
    assert words & {"photo", "picture", "please", "image"} and words & {"navy", "azure", "blonde", "grey", "emerald"}


def test_the_same_seed_gives_the_same_prompts_and_another_seed_others():
    texts = [[item.text for item in prompts(20, seed)] for seed in (1, 1, 2)]
    assert texts[0] == texts[1]
    assert texts[0] != texts[2]


def test_scores_count_what_was_named_and_nothing_else():
    images = [draw_portrait(plan).image for plan in PLANS[:20]]
    wanted = [{"eyes": plan.attributes.eyes} for plan in PLANS[:20]]
    wrong = [{"eyes": next(value for value in VALUES["eyes"] if value != named["eyes"])} for named in wanted]
    assert score_pictures(images, wanted)["attributes"]["eyes"]["n"] == 20
    assert score_pictures(images, wanted)["attributes"]["hat"]["n"] == 0
    assert score_pictures(images, wanted)["joint"]["share"] >= 0.9
    assert score_pictures(images, wrong)["joint"]["share"] <= 0.1


def test_binding_counts_only_prompts_that_name_two_different_colors():
    images = [draw_portrait(PLANS[0]).image] * 3
    truth = PLANS[0].attributes
    wanted = [{"eyes": "blue", "shirt": "blue"}, {"eyes": truth.eyes}, {"eyes": truth.eyes, "shirt": truth.shirt}]
    expected = 1 if truth.eyes != truth.shirt else 0
    assert score_pictures(images, wanted)["binding"]["n"] == expected


def test_the_judge_reads_renders_better_than_generated_pictures_could_need():
    scores = score_renders(PLANS)
    assert set(scores) == set(NAMES)
    assert np.mean([item["share"] for item in scores.values()]) > 0.98


def test_thumbnail_distances_are_root_mean_squares():
    black, white = np.zeros((128, 128, 3), np.uint8), np.full((128, 128, 3), 255, np.uint8)
    assert torch.cdist(thumbnails([black]), thumbnails([white])).item() == pytest.approx(1.0, abs=1e-3)


def test_too_few_pictures_are_refused_in_one_sentence():
    with pytest.raises(SdlabError, match="n=3 must be a whole number of at least 10"):
        evaluate(n=3)


def test_a_small_evaluation_has_every_part_of_the_report():
    scores = evaluate(n=10, num_inference_steps=4, training_pictures=20)
    for name in ("attributes", "joint", "binding", "held_out", "judge_on_renders", "vae", "clip", "memorisation"):
        assert name in scores
    assert {"looks", "few_steps", "words"} <= set(scores) and scores["world"] == "first"
    assert set(scores["attributes"]) == set(NAMES)
    assert {"share", "n", "interval"} <= set(scores["attributes"]["subject"])
    assert {"psnr", "judge_agreement"} <= set(scores["vae"])
    assert {"zero_shot", "swapped"} <= set(scores["clip"])
    groups = scores["clip"]["zero_shot_by_pairs"].values()
    assert sum(group["n"] for group in groups) == scores["clip"]["attributes"]["eyes"]["n"]
    whole = sum(group["n"] * (group["zero_shot"] or 0) for group in groups) / sum(group["n"] for group in groups)
    assert whole == pytest.approx(scores["clip"]["zero_shot"], abs=2e-4)
