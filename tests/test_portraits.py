"""Portraits: exact attributes, deterministic pictures, true masks, held-out pairs really held out."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from sdcourse.portraits import HELD_OUT_PAIRS, NAMES, REGIONS, VALUES, draw_portrait, held_out_pair, plan_portrait
from sdcourse.portraits.attributes import Attributes, sample_attributes
from sdcourse.portraits.palette import EYES, HAIR, HAT, SHIRT
from sdlab import SdlabError


def changed(plan, **values):
    return replace(plan, attributes=replace(plan.attributes, **values))


def mean_color(portrait, region):
    return portrait.image[portrait.masks[region]].mean(axis=0)


def test_the_same_seed_gives_the_same_portrait_and_another_seed_another():
    first, again = draw_portrait(plan_portrait(5)), draw_portrait(plan_portrait(5))
    np.testing.assert_array_equal(first.image, again.image)
    assert first.plan == again.plan and first.plan.details == again.plan.details
    assert not np.array_equal(first.image, draw_portrait(plan_portrait(6)).image)


def test_masks_do_not_change_the_picture_and_cover_every_pixel_once():
    for seed in range(12):
        portrait = draw_portrait(plan_portrait(seed), masks=True)
        np.testing.assert_array_equal(portrait.image, draw_portrait(plan_portrait(seed)).image)
        assert set(portrait.masks) == set(REGIONS)
        np.testing.assert_array_equal(sum(mask.astype(int) for mask in portrait.masks.values()), 1)


@pytest.mark.parametrize(("region", "palette"), [("shirt", SHIRT), ("hat", HAT), ("hair", HAIR)])
def test_the_mask_of_a_region_holds_the_color_that_the_attribute_names(region, palette):
    for seed in range(20):
        for value in palette:
            others = {"hat": "none", "subject": "cat"} if region == "hair" else {}
            plan = changed(plan_portrait(seed), **{"style": "none", **others, region: value})
            portrait = draw_portrait(plan, masks=True)
            found = np.median(portrait.image[portrait.masks[region]], axis=0)
            nearest = min(palette, key=lambda other: np.abs(found - palette[other]).sum())
            assert nearest == value, (seed, value, found)


def test_changing_only_the_eye_color_changes_pixels_only_inside_the_eyes():
    plan = changed(plan_portrait(3), eyes="blue", style="none", glasses="no")
    blue, green = draw_portrait(plan, masks=True), draw_portrait(changed(plan, eyes="green"), masks=True)
    different = (blue.image != green.image).any(axis=-1)
    assert different.sum() > 100
    assert (different & ~blue.masks["eyes"]).sum() <= 0.05 * different.sum()
    assert mean_color(blue, "eyes")[2] > mean_color(green, "eyes")[2]
    assert set(EYES) == set(VALUES["eyes"])


def test_eye_centres_lie_inside_the_eye_mask():
    for seed in range(40):
        plan = changed(plan_portrait(seed), glasses="no")
        eyes = draw_portrait(plan, masks=True).masks["eyes"]
        for x, y in plan.eye_centres:
            assert eyes[int(y), int(x)], seed


def test_a_portrait_without_hat_or_glasses_has_empty_masks_for_them():
    portrait = draw_portrait(changed(plan_portrait(8), hat="none", glasses="no"), masks=True)
    assert not portrait.masks["hat"].any() and not portrait.masks["glasses"].any()
    dressed = draw_portrait(changed(plan_portrait(8), hat="red", glasses="yes"), masks=True)
    assert dressed.masks["hat"].sum() > 300 and dressed.masks["glasses"].sum() > 100


def test_portraits_scale_to_other_sizes():
    large, small = (draw_portrait(plan_portrait(4), size=size).image for size in (256, 128))
    assert large.shape == (256, 256, 3)
    halved = large.reshape(128, 2, 128, 2, 3).mean(axis=(1, 3))
    assert np.abs(halved - small).mean() < 6


def test_training_attributes_never_hold_a_held_out_pair_and_held_out_ones_always_do():
    rng = np.random.default_rng(0)
    assert all(held_out_pair(sample_attributes(rng)) is None for _ in range(2000))
    assert all(held_out_pair(sample_attributes(rng, split="held_out")) for _ in range(300))


def test_about_a_tenth_of_the_attribute_pairs_is_held_out_and_every_value_stays_frequent():
    named = {
        name: [v for v in values if v not in ("none", "no")] for name, values in VALUES.items() if name != "glasses"
    }
    sizes = [len(values) for values in named.values()]
    total = (sum(sizes) ** 2 - sum(size**2 for size in sizes)) / 2
    assert 0.08 <= len(HELD_OUT_PAIRS) / total <= 0.12
    assert len(set(HELD_OUT_PAIRS)) == len(HELD_OUT_PAIRS)
    rng = np.random.default_rng(1)
    drawn = [sample_attributes(rng) for _ in range(4000)]
    for name in NAMES:
        counts = Counter(getattr(attributes, name) for attributes in drawn)
        assert min(counts[value] for value in VALUES[name]) > 150, (name, counts)


def test_the_story_of_the_course_is_not_held_out():
    assert held_out_pair(Attributes(subject="man", eyes="blue")) is None


def test_codes_and_attributes_are_inverse():
    attributes = sample_attributes(np.random.default_rng(2))
    assert Attributes.from_codes(attributes.codes()) == attributes


def test_an_unknown_value_or_split_is_a_clear_error():
    with pytest.raises(SdlabError, match="eyes cannot be 'pink': choose one of blue, green"):
        Attributes(eyes="pink")
    with pytest.raises(SdlabError, match="split cannot be 'test'"):
        sample_attributes(np.random.default_rng(0), split="test")
