"""The denoisers trained on two halves: their portraits, how they draw, their training, and the shipped weights."""

import json

import pytest
import torch

from sdcourse.lessons.lesson_02_denoisers import (
    HALVES_FOLDER,
    Denoiser,
    distance,
    half_pictures,
    load_denoiser,
    make_scheduler,
    nearest,
    noise_loss,
    sample,
    training_log,
)
from sdcourse.lessons.lesson_02_figures import show_rows
from sdcourse.training.command import main
from sdcourse.training.halves import HalfTrainer
from sdcourse.training.settings import load_settings
from sdlab import SdlabError
from sdlab.weights import verify_weights

shipped = pytest.mark.skipif(not (HALVES_FOLDER / "weights.json").exists(), reason="the weights are not in the package")
TINY = ["counts=[2, 3]", "steps=[2, 2]", "batch_sizes=[2, 2]", "log_every=1", "save_every=1", "widths=[4, 4, 4]"]


@pytest.fixture(scope="module")
def noise():
    return torch.randn(8, 3, 24, 24, generator=torch.Generator().manual_seed(5))


def test_the_halves_share_no_picture():
    first, second, fresh = (half_pictures(half, 20) for half in ("A", "B", "fresh"))
    assert first.shape == (20, 3, 24, 24)
    assert -1 <= first.min() < -0.5 < 0.5 < first.max() <= 1
    for one, other in ((first, second), (first, fresh), (second, fresh)):
        assert torch.cdist(one.flatten(1), other.flatten(1)).min() > 0.5


def test_more_pictures_begin_with_the_same_ones():
    assert torch.equal(half_pictures("A", 20)[:5], half_pictures("A", 5))


@pytest.mark.parametrize(("half", "count"), [("C", 4), ("A", 0), ("A", 2.5)])
def test_a_half_that_does_not_exist_is_refused(half, count):
    with pytest.raises(SdlabError, match=half if half == "C" else str(count)):
        half_pictures(half, count)


def test_an_untrained_denoiser_believes_that_pictures_are_grey(noise):
    denoiser, t = Denoiser(widths=(4, 4, 4)), 700  # its last layer gives v = 0
    alpha_bar = make_scheduler().alphas_cumprod[t]
    with torch.no_grad():
        torch.nn.init.zeros_(denoiser.last.bias)
        noise_pred = denoiser(noise, t)
    torch.testing.assert_close(noise_pred, (1 - alpha_bar).sqrt() * noise)
    picture = (noise - (1 - alpha_bar).sqrt() * noise_pred) / alpha_bar.sqrt()
    torch.testing.assert_close(picture, alpha_bar.sqrt() * noise)


def test_one_timestep_for_all_is_the_same_timestep_for_each(noise):
    denoiser = Denoiser(widths=(4, 4, 4))
    with torch.no_grad():
        torch.testing.assert_close(denoiser(noise, 300), denoiser(noise, torch.full((8,), 300)))


class PerfectMemory(torch.nn.Module):
    """The best denoiser there is for a training set of one picture."""

    def __init__(self, picture):
        super().__init__()
        self.picture, self.alphas_cumprod = picture, make_scheduler().alphas_cumprod

    def forward(self, noisy, timesteps):
        alpha_bar = self.alphas_cumprod[timesteps].view(-1, 1, 1, 1)
        return (noisy - alpha_bar.sqrt() * self.picture) / (1 - alpha_bar).sqrt()


def test_who_knows_only_one_picture_draws_it_from_any_noise(noise):
    picture = half_pictures("A", 1)
    drawn = sample(PerfectMemory(picture), noise, num_inference_steps=10)
    torch.testing.assert_close(drawn, picture.expand(8, -1, -1, -1), atol=1e-3, rtol=0)


def test_the_loss_of_perfect_memory_is_zero_on_its_picture_and_not_on_others():
    pictures = half_pictures("A", 2)
    memory = PerfectMemory(pictures[:1])
    assert noise_loss(memory, pictures[:1], draws=64) < 1e-6
    assert noise_loss(memory, pictures[1:], draws=64) > 1e-2


def test_black_to_white_is_the_distance_one():
    black, white = -torch.ones(2, 3, 4, 4), torch.ones(2, 3, 4, 4)
    torch.testing.assert_close(distance(black, white), torch.ones(2))
    assert distance(white, white).max() == 0


def test_the_nearest_of_a_set_to_its_own_pictures_are_these():
    pictures = half_pictures("A", 20)
    assert torch.equal(nearest(pictures[[3, 17]], pictures), pictures[[3, 17]])


def test_rows_of_pictures_are_shown_with_their_alt_text():
    figure = show_rows({"A": half_pictures("A", 3), "B": half_pictures("B", 3)}, alt="Two rows of portraits")
    assert figure.alt == "Two rows of portraits"
    assert len(figure.axes) == 2


def test_a_folder_without_denoisers_says_how_to_train_them(tmp_path):
    with pytest.raises(SdlabError, match="sdlab train halves"):
        load_denoiser("A", 16, folder=tmp_path)


def test_the_command_trains_and_writes_what_is_loaded_again(tmp_path, noise):
    run, out = str(tmp_path / "run"), tmp_path / "out"
    settings = [part for text in TINY for part in ("--set", text)]
    assert main(["halves", "--run", run, "--out", str(out), *settings]) == 0
    assert verify_weights(out) == 4
    assert [entry["step"] for entry in training_log(out)["runs"]["B-3"]] == [1, 2]
    drawn = [sample(load_denoiser(half, 2, folder=out), noise, num_inference_steps=2) for half in ("A", "B")]
    assert not torch.equal(*drawn)
    with pytest.raises(SdlabError, match="A-2, A-3, B-2, B-3"):
        load_denoiser("A", 16, folder=out)


def test_a_training_that_was_interrupted_ends_as_if_it_had_not_been(tmp_path):
    settings = load_settings("halves", overrides=TINY)
    whole, first, second = (
        HalfTrainer("A", 3, tmp_path / folder, settings, steps=4, batch_size=2) for folder in ("one", "two", "two")
    )
    whole.run()
    first._train_step()
    first._save()
    second.run()
    for one, other in zip(whole.averaged.parameters(), second.averaged.parameters(), strict=True):
        torch.testing.assert_close(one, other)


@shipped
def test_the_shipped_weights_are_whole_and_small():
    assert verify_weights(HALVES_FOLDER) == 4
    assert sum(file.stat().st_size for file in HALVES_FOLDER.glob("*.safetensors")) < 1_500_000
    assert (HALVES_FOLDER / "README.md").is_file()


@shipped
def test_few_portraits_are_memorised_and_the_two_machines_differ(noise):
    drawn = {half: sample(load_denoiser(half, 16), noise) for half in ("A", "B")}
    for half, pictures in drawn.items():
        copies = distance(pictures, nearest(pictures, half_pictures(half, 16)))
        assert copies.median() < 0.04
    assert distance(drawn["A"], drawn["B"]).median() > 0.1


@shipped
def test_many_portraits_are_generalised_and_the_two_machines_agree(noise):
    first, second = (sample(load_denoiser(half, 2048), noise) for half in ("A", "B"))
    agreement = distance(first, second).median()
    assert agreement < 0.08
    assert agreement < 0.5 * distance(first, second.roll(1, 0)).median()


@shipped
def test_the_loss_gap_shows_who_has_memorised():
    fresh = half_pictures("fresh", 64)
    gap = {}
    for count in (16, 2048):
        denoiser = load_denoiser("A", count)
        gap[count] = noise_loss(denoiser, fresh, draws=128) / noise_loss(denoiser, half_pictures("A", 64), draws=128)
    assert gap[2048] < 1.2
    few = load_denoiser("A", 16)
    assert noise_loss(few, fresh, draws=128) > 5 * noise_loss(few, half_pictures("A", 16), draws=128)


@shipped
def test_the_log_of_the_shipped_runs_is_the_one_of_their_settings():
    log = training_log()
    for count, steps in zip(log["settings"]["counts"], log["settings"]["steps"], strict=True):
        for half in ("A", "B"):
            entries = log["runs"][f"{half}-{count}"]
            assert entries[-1]["step"] == steps
    assert json.dumps(log["network"]) == json.dumps(Denoiser(log["settings"]["widths"]).config)
