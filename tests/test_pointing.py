"""The pointing game counts right, and the pocket model's words point better than chance and than other words."""

import numpy as np
import pytest
import torch

from sdcourse.lessons.lesson_08 import look_at, peak_inside
from sdcourse.portraits import draw_portrait, plan_portrait
from sdlab import SdlabError, load_pipeline


@pytest.fixture(scope="module")
def pocket():
    return load_pipeline("pocket", device="cpu")


def test_a_peak_is_inside_its_mask_or_within_the_margin():
    heat_map, mask = torch.zeros(20, 30), np.zeros((20, 30), dtype=bool)
    heat_map[10, 10], mask[4:6, 10] = 1, True
    assert not peak_inside(heat_map, mask)
    assert not peak_inside(heat_map, mask, margin=4)
    assert peak_inside(heat_map, mask, margin=5)
    assert peak_inside(heat_map.roll(-5, 0), mask)
    heat_map = torch.zeros(20, 30)
    heat_map[0, 29] = 1
    assert not peak_inside(heat_map, mask, margin=3)


def test_a_mask_of_another_size_is_said():
    with pytest.raises(SdlabError, match=r"The map is \[20, 30\] but the mask \[30, 20\]"):
        peak_inside(torch.zeros(20, 30), np.zeros((30, 20), dtype=bool))


def test_each_picture_is_read_with_its_caption(pocket):
    portraits = [draw_portrait(plan_portrait(seed)) for seed in (1, 2)]
    captions = ["a man with blue eyes", "a cat"]
    both = look_at(pocket, [portrait.image for portrait in portraits], captions, t=300)
    assert (both.prompts, both.steps, both.timesteps) == (captions, [0], [300])
    alone = look_at(pocket, [portraits[1].image], captions[1:], t=300, seed=1)
    torch.testing.assert_close(both.heat_map("cat", image=1), alone.heat_map("cat"), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(("captions", "t"), [(["a man"], 500), (["a man", "a cat"], 1000)])
def test_wrong_counts_and_timesteps_are_said(pocket, captions, t):
    images = [np.zeros((128, 128, 3), dtype=np.uint8)] * 2
    with pytest.raises(SdlabError, match=f"There are 2 images, {len(captions)} captions and t={t}"):
        look_at(pocket, images, captions, t=t)


def test_the_pocket_models_shirts_and_eyes_are_found_by_their_own_word(pocket):
    plans = [plan_portrait(seed) for seed in range(900, 924)]
    portraits = [draw_portrait(plan, masks=True) for plan in plans]
    parts = [plan.attributes for plan in plans]
    captions = [f"a {each.subject} with {each.eyes} eyes, wearing a {each.shirt} shirt" for each in parts]
    maps = look_at(pocket, [portrait.image for portrait in portraits], captions, t=500)
    found = {
        (word, region): np.mean(
            [
                peak_inside(maps.heat_map(word, image=index), portrait.masks[region], margin=8)
                for index, portrait in enumerate(portraits)
            ]
        )
        for word in ("eyes", "shirt")
        for region in ("eyes", "shirt")
    }
    assert found["shirt", "shirt"] > 0.7 > 0.3 > found["eyes", "shirt"]
    assert found["eyes", "eyes"] > 0.5 > found["shirt", "eyes"]
