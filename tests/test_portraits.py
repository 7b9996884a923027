"""Portraits: exact attributes, deterministic pictures, true masks, held-out pairs really held out."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from sdcourse.portraits import (
    HELD_OUT_PAIRS,
    NAMES,
    REGIONS,
    VALUES,
    draw_portrait,
    held_out_pair,
    lattice,
    plan_portrait,
)
from sdcourse.portraits.attributes import Attributes, sample_attributes
from sdcourse.portraits.canvas import Canvas
from sdcourse.portraits.palette import EYES, HAIR, HAT, SHIRT
from sdcourse.portraits.worlds import DEFAULT_WORLD, WORLDS
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


@pytest.mark.parametrize("world", WORLDS)
def test_masks_do_not_change_the_picture_and_cover_every_pixel_once(world):
    for seed in range(12):
        plan = plan_portrait(seed, world=world)
        portrait = draw_portrait(plan, masks=True)
        np.testing.assert_array_equal(portrait.image, draw_portrait(plan).image)
        assert set(portrait.masks) == set(REGIONS)
        np.testing.assert_array_equal(sum(mask.astype(int) for mask in portrait.masks.values()), 1)


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize(("region", "palette"), [("shirt", SHIRT), ("hat", HAT), ("hair", HAIR)])
def test_the_mask_of_a_region_holds_the_color_that_the_attribute_names(region, palette, world):
    for seed in range(20):
        for value in palette:
            others = {"hat": "none", "subject": "cat"} if region == "hair" else {}
            plan = changed(plan_portrait(seed, world=world), **{"style": "none", **others, region: value})
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


def test_a_portrait_is_of_the_first_world_unless_the_second_is_asked_for():
    assert DEFAULT_WORLD == "first"
    assert plan_portrait(3) == plan_portrait(3, world="first") != plan_portrait(3, world="second")
    painted = changed(plan_portrait(3), style="Monet")
    second = draw_portrait(replace(painted, world="second")).image
    assert not np.array_equal(draw_portrait(painted).image, second)
    with pytest.raises(SdlabError, match="world cannot be 'third': choose one of first, second"):
        plan_portrait(3, world="third")


def test_more_pictures_of_the_second_world_are_in_no_painters_hand():
    for world, share in (("first", 0.5), ("second", 0.6)):
        plans = [plan_portrait(seed, split="any", world=world) for seed in range(3000)]
        assert np.mean([plan.attributes.style == "none" for plan in plans]) == pytest.approx(share, abs=0.03)


def test_a_sitter_in_no_painters_hand_looks_the_same_in_both_worlds():
    plan = changed(plan_portrait(3), style="none", scene="beach")
    first, second = (draw_portrait(replace(plan, world=world), masks=True) for world in WORLDS)
    for name, mask in first.masks.items():
        np.testing.assert_array_equal(mask, second.masks[name])
    figure = ~first.masks["background"]
    pixels = [portrait.image[figure].astype(float).ravel() for portrait in (first, second)]
    assert np.corrcoef(*pixels)[0, 1] > 0.98  # the shades of shirt, hat, hair and eyes may differ


def flat_canvas(level=140):
    canvas = Canvas(128)
    canvas.backdrop(np.full((128, 128, 3), level / 255))
    return canvas


def painted_flat(style):
    canvas = flat_canvas()
    if style == "Lichtenstein":
        lattice.halftone(canvas)
    else:
        lattice.paint(canvas, style)
    return canvas.image().astype(int)


@pytest.mark.parametrize("style", ["Monet", "Manet", "Degas", "Lichtenstein"])
def test_strokes_repeat_every_two_latent_cells_and_not_in_every_one(style):
    """Latents that are the same in every cell are drawn flat, so a tile of one cell could not be carried."""
    picture = painted_flat(style)[16:112, 16:112]
    drift = 255 * 0.05 * 2 * 16 / 127  # how far a painter's warmth falls over one tile
    for axis in (0, 1):
        shifted = [np.roll(picture, -shift, axis)[:72, :72] for shift in (16, 8)]
        assert np.abs(shifted[0] - picture[:72, :72]).max() <= drift + 2
        assert np.abs(shifted[1] - picture[:72, :72]).max() > 12


@pytest.mark.parametrize("style", ["Monet", "Manet", "Degas", "Lichtenstein"])
def test_the_places_of_strokes_do_not_depend_on_the_seed(style):
    """Between the two places of the moon, where no hill and no hair is, all nights of a painter are the same."""

    def corner(seed):
        plan = changed(plan_portrait(7, world="second"), style=style, scene="night", hat="none")
        return draw_portrait(replace(plan, seed=seed)).image[:14, 48:72].tobytes()

    assert len({corner(seed) for seed in range(12)}) == 1
    first_world = changed(plan_portrait(7), style="Monet", scene="night", hat="none")
    loose = {draw_portrait(replace(first_world, seed=seed)).image[:14, 48:72].tobytes() for seed in range(12)}
    assert len(loose) == 12


@pytest.mark.parametrize("scene", ["forest", "beach", "night", "city", "snow"])
def test_a_background_of_the_second_world_is_one_of_four(scene):
    def background(seed):
        plan = changed(plan_portrait(7, world="second"), style="none", scene=scene, subject="cat", hat="none")
        return draw_portrait(replace(plan, seed=seed)).image[:48, :16].tobytes()

    assert 2 <= len({background(seed) for seed in range(40)}) <= 4


def test_a_painter_repaints_what_is_new_and_leaves_the_rest():
    canvas = flat_canvas()
    before = canvas.pixels_view().copy()
    canvas.ellipse((64, 64), (24, 24), (0.8, 0.2, 0.2))
    lattice.paint(canvas, "Monet", before=before)
    changed_pixels = (canvas.pixels_view() != before).any(axis=-1)
    assert changed_pixels[64, 64] and changed_pixels[40:88, 40:88].mean() > 0.7
    assert not changed_pixels[:24].any() and not changed_pixels[:, :24].any()
    for style in ("none", "Lichtenstein"):
        same = flat_canvas()
        lattice.paint(same, style)
        np.testing.assert_array_equal(same.image(), flat_canvas().image())
