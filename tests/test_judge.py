"""The judge: what it accepts, what it answers, and (with the shipped weights) how often it is right."""

import numpy as np
import pytest
import torch
from PIL import Image

from sdcourse.judging import agreement, judge_images, load_judge
from sdcourse.judging.judge import JUDGE_FOLDER, Judge
from sdcourse.portraits import NAMES, VALUES, draw_portrait, plan_portrait
from sdcourse.training.export import export_judge
from sdcourse.training.judge import JudgeObjective, damage_pictures, make_negatives
from sdcourse.training.randomness import step_generator
from sdcourse.training.settings import load_settings
from sdlab import SdlabError
from sdlab.images import to_batch
from sdlab.weights import write_hashes

shipped = pytest.mark.skipif(not JUDGE_FOLDER.exists(), reason="the judge's weights are not in the package")
FRESH_SEED = 40_000_000


@pytest.fixture(scope="module")
def judge():
    torch.manual_seed(0)
    return Judge().eval().requires_grad_(False)


@pytest.fixture(scope="module")
def portraits():
    plans = [plan_portrait(FRESH_SEED + index, split="any") for index in range(4)]
    return np.stack([draw_portrait(plan).image for plan in plans])


def test_all_kinds_of_pictures_are_read_alike(judge, portraits):
    expected = judge_images(portraits, judge)
    as_floats = torch.from_numpy(portraits).permute(0, 3, 1, 2) / 255
    assert judge_images([Image.fromarray(image) for image in portraits], judge) == expected
    assert judge_images(as_floats, judge) == expected


def test_a_picture_is_read_alone_as_in_a_batch(judge, portraits):
    together, alone = judge_images(portraits, judge)[2], judge_images(portraits[2:3], judge)[0]
    assert together.values == alone.values
    assert together.is_portrait == pytest.approx(alone.is_portrait, abs=1e-5)


def test_a_reading_names_every_attribute_with_its_confidence(judge, portraits):
    reading = judge_images(portraits[:1], judge)[0]
    assert tuple(reading.values) == tuple(reading.confidence) == NAMES
    for name, value in reading.values.items():
        assert value in VALUES[name]
        assert 1 / len(VALUES[name]) <= reading.confidence[name] <= 1
    assert 0 <= reading.is_portrait <= 1


def test_no_pictures_give_no_readings(judge):
    assert judge_images([], judge) == []


@pytest.mark.parametrize(
    ("image", "sentence"),
    [
        (np.zeros((128, 128, 3), dtype=np.float32), "reads PIL images.*but got ndarray float32"),
        (np.zeros((128, 128), dtype=np.uint8), r"but got ndarray uint8 \(128, 128\)"),
        (torch.zeros(3, 128, 96), "square pictures, but got 96 x 128 pixels"),
        (torch.full((3, 128, 128), -0.5), r"values in \[0, 1\], but got -0.50..-0.50"),
        ("portrait.png", "but got str"),
    ],
)
def test_what_is_no_picture_is_refused_in_one_sentence(judge, image, sentence):
    with pytest.raises(SdlabError, match=sentence):
        judge_images([image], judge)


def test_agreement_counts_only_what_was_asked(judge, portraits):
    readings = judge_images(portraits, judge)
    wanted = [{"eyes": reading.values["eyes"]} for reading in readings[:3]] + [{"hat": "no such hat"}]
    counts = agreement(readings, wanted)
    assert counts["eyes"] == (3, 3)
    assert counts["hat"] == (0, 1)
    assert counts["style"] == (0, 0)


def test_the_judge_is_small():
    assert sum(weight.numel() for weight in Judge().parameters()) < 900_000


def test_an_exported_judge_reads_the_same_and_a_damaged_one_is_refused(judge, portraits, tmp_path):
    folder = tmp_path / "judge"
    export_judge(judge, folder)
    write_hashes(folder)
    for one, other in zip(
        judge_images(portraits, judge), judge_images(portraits, load_judge(folder)), strict=True
    ):
        assert one.is_portrait == pytest.approx(other.is_portrait, abs=1e-2)
    file = folder / "judge.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    with pytest.raises(SdlabError, match="damaged"):
        load_judge(folder)


def test_a_judge_that_is_not_there_is_named(tmp_path):
    with pytest.raises(SdlabError, match="no judge in"):
        load_judge(tmp_path / "nowhere")


def test_damage_and_negatives_keep_shape_and_range_and_repeat_with_the_seed(portraits):
    pictures = to_batch(portraits)
    for change in (
        lambda generator: damage_pictures(pictures, generator, share=1.0),
        lambda generator: make_negatives(pictures, generator, first=1),
    ):
        first, again = (change(step_generator(0, 4)) for _ in range(2))
        assert torch.equal(first, again)
        assert first.shape == pictures.shape
        assert first.abs().max() <= 1
        assert not torch.equal(first, pictures)


def test_a_small_judge_learns_four_portraits_by_heart(portraits):
    settings = load_settings("judge", overrides=["widths=[8, 16, 32]"])
    torch.manual_seed(0)
    objective = JudgeObjective(settings)
    optimizer = torch.optim.AdamW(objective.parameters(), lr=1e-2)
    plans = [plan_portrait(FRESH_SEED + index, split="any") for index in range(4)]
    codes = torch.from_numpy(np.stack([plan.attributes.codes() for plan in plans]).astype(np.int64))
    pictures, genuine = to_batch(portraits), torch.ones(4)
    for _ in range(40):
        loss, numbers = objective(pictures, codes, genuine)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert numbers["accuracy"] > 0.95


# ---------------------------------------------------------------- the shipped weights


@shipped
def test_the_shipped_judge_reads_fresh_renders():
    plans = [plan_portrait(FRESH_SEED + index, split="any") for index in range(600)]
    readings = judge_images([draw_portrait(plan).image for plan in plans])
    wanted = [{name: getattr(plan.attributes, name) for name in NAMES} for plan in plans]
    shares = {name: right / count for name, (right, count) in agreement(readings, wanted).items()}
    assert min(shares.values()) >= 0.995, shares
    assert np.mean([reading.is_portrait for reading in readings]) > 0.99


@shipped
def test_the_shipped_judge_says_when_it_sees_no_portrait():
    rng = np.random.default_rng(5)
    noise = [rng.integers(0, 256, (128, 128, 3), dtype=np.uint8) for _ in range(8)]
    flat = [np.full((128, 128, 3), colour, dtype=np.uint8) for colour in (0, 90, 255)]
    for reading in judge_images(noise + flat):
        assert reading.is_portrait < 0.2
        assert np.mean(list(reading.confidence.values())) < 0.7


@shipped
def test_the_shipped_judge_fits_in_two_megabytes():
    assert sum(file.stat().st_size for file in JUDGE_FOLDER.rglob("*")) < 2e6
