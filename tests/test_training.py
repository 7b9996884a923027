"""Training: settings, data, resuming, several processes, and what the stages hand to each other."""

import itertools
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import chdir
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers import ControlNetModel, StableDiffusionPipeline
from PIL import Image
from safetensors.torch import load_file
from transformers import CLIPModel, CLIPTextModel

from sdcourse.judging.evaluate import evaluate
from sdcourse.judging.scores import world_of_model
from sdcourse.portraits import NAMES, VALUES, caption
from sdcourse.portraits.captions import SUBJECT_WORDS
from sdcourse.portraits.momo import STRANGERS
from sdcourse.training.card import write_card
from sdcourse.training.chain import SHARES, Link, make_chain, run_chain
from sdcourse.training.checkpoints import load_checkpoint, load_state, load_weights
from sdcourse.training.clip import UNNAMED, ClipStage, choice_captions, load_trained_clip, named_codes, padded_ids
from sdcourse.training.command import main, make_parser
from sdcourse.training.controlnet import ControlNetStage, wear
from sdcourse.training.data import draw_fresh, load_data, make_data, world_of
from sdcourse.training.denoise import denoise
from sdcourse.training.encode import centre_latents, measure_latents
from sdcourse.training.export_steering import export_steering
from sdcourse.training.hypernetwork import HypernetworkStage
from sdcourse.training.latents import load_denoised, load_latents
from sdcourse.training.log import append_log, forget_after, plot_log, read_log
from sdcourse.training.loop import Trainer, make_accelerator
from sdcourse.training.lora import OTHER_NAMES, LoraStage, StyleLoraStage
from sdcourse.training.optimizers import make_optimizer
from sdcourse.training.randomness import step_generator, step_rng
from sdcourse.training.report import find_failures
from sdcourse.training.restore import restore_adapters
from sdcourse.training.reward import RewardStage
from sdcourse.training.schedule import Schedule
from sdcourse.training.settings import SETTINGS_FOLDER, load_settings
from sdcourse.training.tokenizer import END, START, decode, load_tokenizer
from sdcourse.training.unet import UnetStage, min_snr_weights, text_encoder_of
from sdcourse.training.vae import (
    VaeStage,
    crop_corners,
    gram_matrix,
    lightness,
    load_trained_vae,
    make_vae,
    noise_share,
    picture_psnr,
)
from sdlab import SdlabError, load_pipeline
from sdlab.images import as_pictures, to_batch
from sdlab.pipeline import MODEL_FOLDERS
from sdlab.steering import Hypernetwork, make_controlnet
from sdlab.weights import verify_weights

PORTRAITS = 12
CHAIN_ADAPTERS = ["controlnet", "lora", "hypernetwork", "style_lora"]
NEEDS_MUON = pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="this torch is older than 2.9")
TINY = ["mixed_precision=no", "save_seconds=1000.0", "log_every=1", "report_every=0", "batch_size=2"]
TINY_VAE = [*TINY, "block_out_channels=[8, 8, 8, 8]", "norm_num_groups=4", "validation_pictures=2"]
TINY_CLIP = [*TINY, "hidden_size=16", "layers=1", "heads=2", "projection=8", "validation_pictures=4"]
TINY_UNET = [*TINY, "block_out_channels=[8, 8, 8, 8]", "norm_num_groups=4", "attention_head_dim=2"]
TINY_UNET += ["layers_per_block=1", "score_prompts=2", "score_steps=2"]
TINY_REWARD = [*TINY_UNET, "judge=''", "critic=runs/judge", "optimizer=adamw", "drawn=3", "draw_steps=2"]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with every stage trained for a step or two, by the command line, with tiny networks."""
    folder, threads = tmp_path_factory.mktemp("runs_home"), torch.get_num_threads()
    torch.set_num_threads(1)
    with chdir(folder):  # left again if a stage fails, too
        train_every_stage()
        yield folder
    torch.set_num_threads(threads)


def train_every_stage():
    assert main(["data", "--n", str(PORTRAITS), "--out", "runs/data/train", "--workers", "1"]) == 0
    assert main(["tokenizer", "--n", "1500"]) == 0
    assert run_stage("vae", TINY_VAE, 2) == 0
    assert main(["latents"]) == 0
    assert run_stage("clip", TINY_CLIP, 2) == 0
    assert run_stage("judge", [*TINY, "data=runs/data/train", "widths=[8, 8, 8]", "validation_pictures=2"], 2) == 0
    assert run_stage("unet", TINY_UNET, 2) == 0


@pytest.fixture(scope="module")
def exported(home, tmp_path_factory):
    """The trained stages as a folder of models, made once: read it, do not change it."""
    folder = tmp_path_factory.mktemp("exported")
    assert main(["export", "--out", str(folder)]) == 0
    return folder


def run_stage(stage, settings, steps, *options):
    return main(stage_command(stage, settings, steps, *options))


def stage_command(stage, settings, steps, *options):
    changes = [word for setting in settings for word in ("--set", setting)]
    return [stage, "--steps", str(steps), *changes, *options]


def train_and_stop(stage_class, settings, run, *, stop_before=None):
    """Train in this process; SIGTERM arrives while the batch of step `stop_before` is drawn."""

    class Stopped(stage_class):
        def draw_batch(self, step, rank):
            if step == stop_before:
                os.kill(os.getpid(), signal.SIGTERM)
            return super().draw_batch(step, rank)

    accelerator = make_accelerator(settings, cpu=True)
    torch.manual_seed(settings.seed)
    return Trainer(Stopped(settings, accelerator.device), accelerator, run).run()


def assert_same_training_state(first, second):
    first, second = load_checkpoint(first), load_checkpoint(second)
    assert first["step"] == second["step"]
    for name, weight in first["model"].items():
        assert torch.equal(weight, second["model"][name]), name
    for one, other in zip(first["ema"]["shadow_params"], second["ema"]["shadow_params"], strict=True):
        assert torch.equal(one, other)
    assert_same_values(first["optimizer"], second["optimizer"])


def assert_same_values(first, second):
    """Compare nested dicts and lists of tensors and plain values."""
    if isinstance(first, dict):
        assert first.keys() == second.keys()
        first, second = list(first.values()), list(second.values())
    if isinstance(first, torch.Tensor):
        assert torch.equal(first, second)
    elif isinstance(first, list):
        for one, other in zip(first, second, strict=True):
            assert_same_values(one, other)
    else:
        assert first == second


# ---------------------------------------------------------------- resuming


@pytest.mark.parametrize(
    ("stage", "stage_class", "tiny"),
    [
        ("vae", VaeStage, TINY_VAE),
        ("unet", UnetStage, [*TINY_UNET, "judge=''"]),
        pytest.param("unet", UnetStage, [*TINY_UNET, "judge=''", "optimizer=muon"], marks=NEEDS_MUON),
        ("reward", RewardStage, TINY_REWARD),
    ],
)
def test_training_resumes_to_the_same_state(home, tmp_path, stage, stage_class, tiny):
    settings = load_settings(stage, overrides=[*tiny, "steps=5"])
    straight, halved = tmp_path / "straight", tmp_path / "halved"
    assert train_and_stop(stage_class, settings, straight) == 5
    assert train_and_stop(stage_class, settings, halved, stop_before=2) == 3
    assert load_checkpoint(halved)["step"] == 3
    assert train_and_stop(stage_class, settings, halved) == 5
    assert_same_training_state(straight, halved)


def test_worker_processes_do_not_change_the_training(home):
    tiny = [*TINY_UNET, "judge=''", "steps=3"]
    alone, helped = home / "runs/unet_alone", home / "runs/unet_helped"
    train_and_stop(UnetStage, load_settings("unet", overrides=tiny), alone)
    train_and_stop(UnetStage, load_settings("unet", overrides=[*tiny, "workers=1"]), helped)
    assert_same_training_state(alone, helped)


def test_a_run_killed_in_the_middle_goes_on_to_the_same_state(home):
    settings = [*TINY_VAE, "save_seconds=0.0"]
    command = stage_command("vae", settings, 400, "--run", "runs/killed", "--threads", "1", "--cpu")
    with subprocess.Popen([sys.executable, "-m", "sdcourse.training", *command], stdout=subprocess.DEVNULL) as process:
        wait_for(lambda: any(entry["step"] >= 3 for entry in read_log("runs/killed")), process)
        process.kill()
    reached = load_checkpoint("runs/killed")["step"]
    assert 2 <= reached < 400
    assert run_stage("vae", settings, 400, "--run", "runs/killed", "--decay-now", "2") == 0
    state = load_checkpoint("runs/killed")
    assert state["step"] == reached + 2
    steps = [entry["step"] for entry in read_log("runs/killed")]
    assert steps == sorted(set(steps)), "the log repeats or skips back"
    assert read_log("runs/killed")[-1]["lr"] < read_log("runs/killed")[-2]["lr"]


def wait_for(condition, process, *, seconds=600):
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, "the training ended by itself"
        assert time.monotonic() < end, "the training did not get anywhere"
        time.sleep(0.02)


@pytest.mark.slow
def test_two_processes_train_one_model_and_go_on_where_one_stopped(home):
    assert run_stage("vae", TINY_VAE, 1, "--run", "runs/two") == 0
    command = stage_command("vae", TINY_VAE, 2, "--run", "runs/two", "--processes", "2", "--cpu", "--threads", "1")
    program = [sys.executable, "-m", "sdcourse.training"]
    subprocess.run([*program, *command], check=True, timeout=600, stdout=subprocess.DEVNULL)
    last = read_log("runs/two")[-1]
    assert last["step"] == 2
    assert last["views"] == 2 + 2 * 2, "two processes must see twice the pictures of one"
    assert load_checkpoint("runs/two")["step"] == 2


def test_a_finished_run_stays_as_it_is(home):
    before = load_checkpoint("runs/vae")["model"]
    assert run_stage("vae", TINY_VAE, 2) == 0
    assert all(torch.equal(weight, before[name]) for name, weight in load_checkpoint("runs/vae")["model"].items())


def test_fresh_forgets_the_run(home):
    assert run_stage("vae", TINY_VAE, 2, "--run", "runs/anew") == 0
    assert run_stage("vae", TINY_VAE, 1, "--run", "runs/anew", "--fresh") == 0
    assert load_checkpoint("runs/anew")["step"] == 1
    assert [entry["step"] for entry in read_log("runs/anew")] == [1]


# ---------------------------------------------------------------- checkpoints


def test_a_damaged_checkpoint_falls_back_to_the_one_before(home, capsys):
    for steps in (1, 2):
        assert run_stage("vae", TINY_VAE, steps, "--run", "runs/damaged") == 0
    file = Path("runs/damaged/checkpoint.pt")
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    assert load_checkpoint("runs/damaged")["step"] == 1
    assert "checkpoint.pt is damaged" in capsys.readouterr().err


def test_two_damaged_checkpoints_are_said_in_one_sentence(home, tmp_path, capsys):
    for name in ("checkpoint.pt", "checkpoint.previous.pt"):
        (tmp_path / name).write_bytes(b"not a checkpoint")
    assert run_stage("vae", TINY_VAE, 2, "--run", str(tmp_path)) == 2
    assert "start this run again with --fresh" in capsys.readouterr().err.splitlines()[-1]


def test_another_architecture_cannot_resume_a_run(home, capsys):
    changed = [*TINY_VAE, "block_out_channels=[8, 8, 8, 16]"]
    assert run_stage("vae", changed, 3) == 2
    assert "do not fit these settings" in capsys.readouterr().err


def test_a_run_that_is_not_there_is_named(tmp_path):
    with pytest.raises(SdlabError, match="There is no checkpoint in"):
        load_state(tmp_path)


# ---------------------------------------------------------------- settings


@pytest.mark.parametrize("stage", ["vae", "judge", "clip", "unet", "reward"])
def test_every_stage_has_settings_that_load(stage):
    settings = load_settings(stage, overrides=["steps=7", "learning_rate=1"])
    assert settings.steps == 7
    assert settings.learning_rate == 1.0


def test_an_unknown_setting_is_named_with_those_allowed():
    with pytest.raises(SdlabError, match=r"Unknown setting 'lerning_rate'.*learning_rate"):
        load_settings("vae", overrides=["lerning_rate=1e-3"])


def test_a_setting_of_another_type_is_refused(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text('batch_size = "many"\n')
    with pytest.raises(SdlabError, match=r"'batch_size'.*must be of type int, but got 'many'"):
        load_settings("unet", file)


def test_a_settings_file_changes_only_what_it_names(tmp_path):
    (tmp_path / "mine.toml").write_text("steps = 3\n")
    assert load_settings("vae", tmp_path / "mine.toml").steps == 3
    assert load_settings("vae", tmp_path / "mine.toml").crop == load_settings("vae").crop


def test_mistakes_on_the_command_line_are_one_sentence(capsys, tmp_path):
    assert run_stage("vae", [*TINY_VAE, f"data={tmp_path}/nothing"], 1, "--cpu") == 2
    assert "make them with: sdlab train data" in capsys.readouterr().err


# ---------------------------------------------------------------- schedule, seeds, log


def test_the_learning_rate_warms_up_and_ends_at_zero():
    schedule = Schedule(steps=100, warmup_steps=10)
    rates = [schedule.rate(step, schedule.progress(step, 0.0)) for step in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == pytest.approx(1.0, abs=0.05)
    assert rates[100] == pytest.approx(0.0)


def test_a_budget_of_minutes_ends_a_run_before_its_steps():
    schedule = Schedule(steps=1000, warmup_steps=0, minutes=2)
    assert schedule.progress(10, 60.0) == pytest.approx(0.5)
    assert schedule.progress(10, 120.0) == 1.0


@NEEDS_MUON
def test_muon_turns_hidden_kernels_by_an_orthogonal_step_and_leaves_the_rest_to_adamw():
    torch.manual_seed(0)
    shapes = {"conv_in.weight": (8, 4, 3, 3), "mid.weight": (8, 4, 3, 3), "mid.bias": (8,)}
    named = {name: torch.nn.Parameter(torch.zeros(shape)) for name, shape in shapes.items()}
    settings = load_settings("unet", overrides=["optimizer=muon", "learning_rate=0.01", "weight_decay=0.0"])
    optimizer = make_optimizer(named.items(), settings)
    for parameter in named.values():
        parameter.grad = torch.randn_like(parameter)
    optimizer.step()
    turned = torch.linalg.svdvals(named["mid.weight"].detach().view(8, -1)) / (0.01 * 0.2 * 36**0.5)
    assert turned.min() > 0.5 and turned.max() < 1.5  # about 1 in every direction, after five rounds of Newton-Schulz
    for name in ("conv_in.weight", "mid.bias"):  # AdamW's first step is the sign of the gradient
        torch.testing.assert_close(named[name], -0.01 * named[name].grad.sign(), rtol=1e-3, atol=1e-6)
    optimizer.zero_grad()
    assert all(parameter.grad is None for parameter in named.values())
    assert {group["lr"] for group in optimizer.param_groups} == {0.01}


def test_muon_on_an_older_torch_is_refused_in_one_sentence(monkeypatch):
    monkeypatch.delattr(torch.optim, "Muon", raising=False)
    with pytest.raises(SdlabError, match=r"Muon needs torch 2\.9"):
        make_optimizer([], load_settings("unet", overrides=["optimizer=muon"]))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [(["optimizer=sgd"], "adamw or muon, but got 'sgd'"), (["optimizer=muon", "channels_last=true"], "channels_last")],
)
def test_an_optimizer_that_cannot_be_is_named(changes, sentence):
    with pytest.raises(SdlabError, match=sentence):
        make_optimizer([], load_settings("unet", overrides=changes))


def test_decay_now_goes_on_from_the_present_rate_to_zero():
    whole, ending = Schedule(100, 0), Schedule(100, 0, decay=(40, 10, 0.4))
    assert ending.rate(40, ending.progress(40, 0)) == pytest.approx(whole.rate(40, 0.4))
    assert ending.rate(45, ending.progress(45, 0)) == pytest.approx(whole.rate(40, 0.4) / 2)
    assert ending.rate(50, ending.progress(50, 0)) == pytest.approx(0.0)


def test_random_numbers_depend_on_seed_step_and_rank_alone():
    keys = itertools.product((0, 1), repeat=3)
    draws = {step_rng(seed, step, rank=rank).integers(2**60) for seed, step, rank in keys}
    assert len(draws) == 8
    first, again = (torch.randn(4, generator=step_generator(3, 5, rank=1)) for _ in range(2))
    assert torch.equal(first, again)


def test_the_log_forgets_what_will_be_done_again_and_skips_a_cut_line(tmp_path):
    for step in (1, 2, 3):
        append_log(tmp_path, {"step": step, "views": 8 * step, "loss": 1 / step, "psnr": {"all": 20.0 + step}})
    with open(tmp_path / "log.jsonl", "a") as file:
        file.write('{"step": 4, "vie')
    forget_after(tmp_path, 2)
    assert [entry["step"] for entry in read_log(tmp_path)] == [1, 2]
    assert plot_log(tmp_path).read_bytes().startswith(b"\x89PNG")


# ---------------------------------------------------------------- data


def test_rendered_data_are_the_portraits_of_their_seeds(home):
    data = load_data("runs/data/train")
    images, plans = draw_fresh(PORTRAITS, 0)
    assert np.array_equal(data.images, images)
    assert np.array_equal(data.codes, np.stack([plan.attributes.codes() for plan in plans]))
    assert np.allclose(data.eyes[5], plans[5].eye_centres)
    assert data.plan(5).attributes == plans[5].attributes


def test_rendering_goes_on_after_a_kill(tmp_path):
    make_data(tmp_path, n=3, workers=1)
    done = np.load(tmp_path / "done.npy", mmap_mode="r+")
    images = np.load(tmp_path / "images.npy", mmap_mode="r+")
    whole = images.copy()
    done[:], images[:] = False, 0
    done.flush()
    with pytest.raises(SdlabError, match="not drawn yet; run the same"):
        load_data(tmp_path)
    assert np.array_equal(make_data(tmp_path, n=3, workers=1).images, whole)


def test_a_folder_with_other_portraits_is_not_overwritten(home):
    with pytest.raises(SdlabError, match="holds other portraits"):
        make_data("runs/data/train", n=PORTRAITS, first_seed=77)


def test_pictures_survive_the_way_to_batch_and_back():
    pictures = torch.arange(256, dtype=torch.uint8).repeat(3).reshape(1, 16, 16, 3)
    assert np.array_equal(as_pictures(to_batch(pictures)), pictures)


# ---------------------------------------------------------------- tokenizer


def test_the_tokenizer_gives_captions_back(home):
    tokenizer = load_tokenizer("runs/tokenizer")
    for text in (
        "a man with blue eyes",
        "a painting by monet of a cat in the snow",
        "42 astronauts, naïvely",
    ):
        assert decode(tokenizer, text).replace(" ", "") == text.replace(" ", "")


def test_the_tokenizer_lowers_case_as_clip_does(home):
    tokenizer = load_tokenizer("runs/tokenizer")
    assert tokenizer("A Man by MONET").input_ids == tokenizer("a man by monet").input_ids


def test_a_chinese_prompt_falls_into_bytes_and_never_into_unknown(home):
    tokenizer = load_tokenizer("runs/tokenizer")
    ids = tokenizer("一个蓝眼睛的男人").input_ids
    assert len(ids) == 2 + 3 * 8
    assert tokenizer.eos_token_id not in ids[1:-1]
    assert decode(tokenizer, "一个蓝眼睛的男人") == "一个蓝眼睛的男人"


def test_the_tokenizer_has_the_marks_and_length_of_stable_diffusion(home):
    tokenizer = load_tokenizer("runs/tokenizer")
    ids = tokenizer("a dog", padding="max_length", truncation=True).input_ids
    assert (tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token) == (START, END, END)
    assert len(ids) == tokenizer.model_max_length == 77
    assert ids[0] == tokenizer.bos_token_id
    assert set(ids[3:]) == {tokenizer.eos_token_id}
    assert {"man</w>", "eyes</w>"} <= set(tokenizer.get_vocab())


# ---------------------------------------------------------------- stages and what they hand on


def test_a_frozen_encoder_stays_while_the_decoder_learns(home):
    options = ("--run", "runs/decoder", "--init", "runs/vae")
    assert run_stage("vae", [*TINY_VAE, "freeze_encoder=true"], 2, *options) == 0
    before, after = load_trained_vae("runs/vae"), load_trained_vae("runs/decoder")
    for part in ("encoder", "quant_conv"):
        pairs = zip(getattr(before, part).parameters(), getattr(after, part).parameters(), strict=True)
        assert all(torch.equal(one, other) for one, other in pairs)
    assert not torch.equal(before.decoder.conv_in.weight, after.decoder.conv_in.weight)


def test_a_decoder_learns_from_latents_that_a_unet_denoised(home, capsys):
    frozen = [*TINY_VAE, "freeze_encoder=true", "denoised_share=1.0", "perceptual_weight=0.5", "texture_weight=1.0"]
    options = ("--run", "runs/painter", "--init", "runs/vae")
    assert run_stage("vae", [*frozen, "full_fraction=0.5"], 4, *options) == 2
    assert "sdlab train denoised" in capsys.readouterr().err
    assert run_stage("vae", [*TINY_VAE, "denoised_share=1.0"], 4, *options) == 2
    assert "needs freeze_encoder" in capsys.readouterr().err
    assert main(["denoised", "--n", "13"]) == 2
    assert f"{PORTRAITS} portraits" in capsys.readouterr().err
    assert main(["denoised", "--n", "5"]) == 0
    assert run_stage("vae", [*frozen, "full_fraction=0.5"], 4, *options) == 0
    assert not torch.equal(
        load_trained_vae("runs/vae").decoder.conv_in.weight, load_trained_vae("runs/painter").decoder.conv_in.weight
    )


def test_denoised_latents_are_in_the_coordinates_of_the_encoder(home):
    assert main(["denoised", "--n", "5"]) == 0
    found, vae = load_denoised("runs/data/train", load_trained_vae("runs/vae")), load_trained_vae("runs/vae")
    stored, (_, meta) = (
        torch.from_numpy(np.load("runs/data/train/denoised.npy")).float(),
        load_latents("runs/data/train"),
    )
    centred = centre_latents(load_trained_vae("runs/vae"), meta)
    torch.testing.assert_close(vae.decode(found).sample, centred.decode(stored).sample, atol=1e-4, rtol=1e-3)
    assert found.shape == (5, 4, 16, 16)


def test_little_noise_denoises_back_to_the_latents():
    """With a U-Net that says the true noise, the way back ends where it began."""
    clean, noise, kept = torch.randn(2, 4, 2, 2), torch.randn(2, 4, 2, 2), torch.linspace(0.999, 0.01, 1000)
    noisy = kept[400] ** 0.5 * clean + (1 - kept[400]) ** 0.5 * noise

    def unet(_latents, _timestep, encoder_hidden_states):
        return SimpleNamespace(sample=torch.cat([noise, noise]))

    drawn = denoise(unet, noisy, None, [400, 200, 100], kept, guidance_scale=2.5)
    torch.testing.assert_close(drawn, clean, atol=1e-4, rtol=1e-4)


def test_gram_matrices_forget_where_a_texture_lies():
    features = torch.randn(2, 3, 4, 5)
    torch.testing.assert_close(gram_matrix(features.roll((1, 2), (2, 3))), gram_matrix(features))
    assert not torch.allclose(gram_matrix(features.roll(1, 1)), gram_matrix(features))


def test_crops_stay_inside_the_picture_and_favour_the_eyes():
    settings = load_settings("vae", overrides=["eye_fraction=1.0"])
    eyes = np.tile(np.array([[50.0, 60.0], [78.0, 60.0]]), (200, 1, 1))
    corners = crop_corners(np.random.default_rng(0), eyes, settings)
    assert corners.min() >= 0
    assert corners.max() <= 128 - settings.crop
    inside = (eyes >= corners[:, None]) & (eyes < corners[:, None] + settings.crop)
    assert inside.all(-1).any(-1).mean() > 0.95


def test_crops_can_begin_on_the_grid_of_the_latents():
    rng, eyes = np.random.default_rng(0), np.full((400, 2, 2), (50.0, 64.0))
    settings = SimpleNamespace(crop=64, eye_fraction=0.5, crop_step=8)
    corners = crop_corners(rng, eyes, settings)
    assert (corners % 8 == 0).all() and corners.min() >= 0 and corners.max() <= 64
    places, counts = np.unique(corners, return_counts=True)
    assert len(places) == 9 and counts.min() > 30  # the last row and column too


def test_a_texture_that_repeats_in_every_latent_cell_cannot_be_carried():
    """Why the strokes of the second world repeat every two cells (see sdcourse.portraits.lattice)."""
    torch.manual_seed(0)
    settings = load_settings("vae", overrides=[*TINY_VAE])
    vae = make_vae(settings).eval()
    inside = slice(12, 20)
    with torch.no_grad():
        for cells, varies in ((1, False), (2, True)):
            picture = torch.rand(1, 3, 8 * cells, 8 * cells).mul(2).sub(1).repeat(1, 1, 32 // cells, 32 // cells)
            latents = vae.encode(picture).latent_dist.mean[..., inside, inside]
            assert bool(latents.std(dim=(2, 3)).max() > 1e-3) == varies
        flat = vae.decode(torch.randn(1, 4, 1, 1).expand(1, 4, 32, 32)).sample[..., 96:160, 96:160]
        assert flat.std(dim=(2, 3)).max() < 1e-4


def test_noise_on_the_latents_is_a_share_of_their_spread():
    mean = torch.randn(8, 4, 8, 8, generator=torch.Generator().manual_seed(0)) * torch.arange(1.0, 5)[:, None, None]
    posterior = SimpleNamespace(mean=mean, std=torch.full_like(mean, 0.03))
    assert torch.equal(noise_share(posterior, 0.0), posterior.std)
    expected = (0.03**2 + (0.05 * mean.std(dim=(0, 2, 3))) ** 2).sqrt()
    torch.testing.assert_close(noise_share(posterior, 0.05)[0, :, 0, 0], expected)


def test_lightness_is_linear_and_that_of_bt601():
    white, red = torch.ones(1, 3, 1, 1), torch.tensor([1.0, 0, 0])[None, :, None, None]
    assert lightness(white).item() == pytest.approx(1) and lightness(red).item() == pytest.approx(0.299)
    torch.testing.assert_close(lightness(white - red), lightness(white) - lightness(red))


def test_painted_pictures_are_drawn_as_often_as_asked(home):
    settings = load_settings("vae", overrides=[*TINY_VAE, "painted_share=1.0", "batch_size=32", "full_fraction=0.0"])
    stage = VaeStage(settings, "cpu")
    indices = torch.cat([stage.draw_batch(step, 0)["indices"] for step in range(4)]).numpy()
    styles = {stage.data.plan(index).attributes.style for index in indices}
    assert styles and styles <= {"Monet", "Manet", "Degas"}
    plain = VaeStage(load_settings("vae", overrides=[*TINY_VAE, "batch_size=32"]), "cpu").draw_batch(0, 0)["indices"]
    assert any(stage.data.plan(index).attributes.style == "none" for index in plain)


def test_the_second_worlds_autoencoder_trains_with_all_that_its_settings_switch_on(home):
    file = SETTINGS_FOLDER / "second" / "vae.toml"
    settings = load_settings("vae", file, overrides=[*TINY_VAE, "optimizer=adamw", "steps=2"])
    assert settings.crop_step == 8 and settings.latent_noise > 0 and settings.luma_weight > 0
    train_and_stop(VaeStage, settings, home / "runs/vae_second")
    assert math.isfinite(read_log(home / "runs/vae_second")[-1]["loss"])


def test_portraits_of_the_second_world_are_kept_apart(home, tmp_path):
    data = make_data(tmp_path / "second", n=3, world="second")
    assert data.world == "second" == world_of(tmp_path / "second")
    assert data.plan(1).world == "second" and world_of(home / "runs/data/train") == "first"
    np.testing.assert_array_equal(data.images, draw_fresh(3, 0, world="second")[0])
    with pytest.raises(SdlabError, match="holds other portraits"):
        make_data(tmp_path / "second", n=3)
    old = json.loads((home / "runs/data/train/meta.json").read_text())
    shutil.copytree(home / "runs/data/train", tmp_path / "old")
    (tmp_path / "old/meta.json").write_text(json.dumps({key: value for key, value in old.items() if key != "world"}))
    assert load_data(tmp_path / "old").world == "first"  # as folders of earlier days are


def test_other_cats_are_called_by_other_names(home):
    settings = load_settings("lora", overrides=[*ADAPTERS["lora"][1], "other_names=1.0", "ordinary_share=1.0"])
    stage = LoraStage(settings, "cpu")
    cats = [index for index, plan in enumerate(stage.ordinary) if plan.attributes.subject == "cat"]
    rng = np.random.default_rng(0)
    texts = [stage._caption(len(stage.momo) + index, rng) for index in cats for _ in range(4)]
    assert texts and all(any(name in text for name in OTHER_NAMES) for text in texts)
    assert not any("Momo" in text for text in texts) and not set(OTHER_NAMES) & set(STRANGERS)


def test_a_controlnet_can_start_as_diffusers_makes_it(home):
    unet = load_pipeline(device="cpu").unet
    zero = [
        name
        for name, weight in make_controlnet(unet, hint_start="diffusers").named_parameters()
        if name.endswith("weight") and not weight.any() and weight.ndim == 4
    ]
    assert len(zero) == 14 and sum("cond_embedding" in name for name in zero) == 1
    with pytest.raises(SdlabError, match="must be 'he' or 'diffusers'"):
        make_controlnet(unet, hint_start="zero")


def test_psnr_is_the_textbook_number():
    pictures = torch.zeros(1, 3, 4, 4)
    assert picture_psnr(pictures + 0.2, pictures).item() == pytest.approx(20.0)  # 0.1 of the range 0..1


def test_centred_latents_have_no_mean_and_draw_the_same_picture(home):
    torch.manual_seed(0)
    vae = make_vae(load_settings("vae", overrides=TINY_VAE)).eval().requires_grad_(False)
    images = load_data("runs/data/train").images
    pictures = to_batch(images)
    before = vae.decode(vae.encode(pictures).latent_dist.mean).sample
    centre_latents(vae, measure_latents(vae, images, device="cpu"))
    torch.testing.assert_close(vae.decode(vae.encode(pictures).latent_dist.mean).sample, before, atol=1e-5, rtol=1e-4)
    after = measure_latents(vae, images, device="cpu")
    assert np.allclose(after["latent_mean"], 0, atol=1e-4)
    assert np.allclose(np.array(after["latent_std"]) * vae.config.scaling_factor, 1, atol=1e-3)


def test_cached_latents_are_what_the_encoder_says(home):
    latents, meta = load_latents("runs/data/train")
    vae = centre_latents(load_trained_vae("runs/vae"), meta)
    pictures = to_batch(load_data("runs/data/train").images[:3])
    expected = vae.encode(pictures).latent_dist.parameters
    torch.testing.assert_close(torch.from_numpy(latents[:3]).float(), expected, atol=2e-2, rtol=2e-3)


def test_a_unet_refuses_latents_of_another_encoder(home, capsys):
    assert run_stage("vae", [*TINY_VAE, "seed=9"], 1, "--run", "runs/other_vae") == 0
    assert run_stage("unet", [*TINY_UNET, "vae=runs/other_vae"], 1, "--run", "runs/wrong") == 2
    assert "another encoder" in capsys.readouterr().err


def test_the_text_encoder_of_the_pipeline_is_the_text_tower_of_clip(home):
    clip, tokenizer = load_trained_clip("runs/clip")
    ids = tokenizer(["a man with blue eyes", ""], padding="max_length", return_tensors="pt").input_ids
    assert torch.equal(text_encoder_of(clip)(ids)[0], clip.text_model(ids)[0])


def test_unnamed_attributes_are_left_out_of_the_text_loss():
    from sdcourse.portraits import compose

    codes = named_codes([compose({"subject": "woman", "glasses": "yes"}, "lady")])
    assert codes.tolist() == [[1, UNNAMED, UNNAMED, UNNAMED, UNNAMED, 1, UNNAMED, UNNAMED]]


def test_min_snr_weights_are_one_where_noise_is_strong_and_fall_where_it_is_weak():
    snr = torch.tensor([0.1, 5.0, 50.0])
    weights = min_snr_weights(snr / (1 + snr), 5.0, is_epsilon=True)
    torch.testing.assert_close(weights, torch.tensor([1.0, 1.0, 0.1]))
    weights = min_snr_weights(snr / (1 + snr), 5.0, is_epsilon=False)
    torch.testing.assert_close(weights, torch.tensor([0.1 / 1.1, 5 / 6, 5 / 51]))


def test_a_report_draws_with_the_pipeline_and_reads_the_samples(home):
    assert run_stage("unet", [*TINY_UNET, "report_every=1"], 1, "--run", "runs/reported") == 0
    scores = next(entry for entry in read_log("runs/reported") if "score" in entry)
    assert 0 <= scores["score"]["named"] <= 1
    assert set(scores["accuracy"]) <= set(NAMES)
    assert Path("runs/reported/samples/000001.png").exists()


@pytest.mark.filterwarnings("ignore")
def test_exported_models_load_the_plain_way_and_compute_in_float32(exported):
    pipe = StableDiffusionPipeline.from_pretrained(exported / "pocket", local_files_only=True)
    for part in (pipe.unet, pipe.vae, pipe.text_encoder):
        assert {weight.dtype for weight in part.parameters()} == {torch.float32}
    scaling_factor = load_latents("runs/data/train")[1]["scaling_factor"]
    assert pipe.vae.config.scaling_factor == pytest.approx(scaling_factor, abs=1e-5)
    clip = CLIPModel.from_pretrained(exported / "clip", local_files_only=True)
    ids = pipe.tokenizer("a cat", return_tensors="pt").input_ids
    torch.testing.assert_close(clip.text_model(ids)[0], pipe.text_encoder(ids)[0])
    assert isinstance(pipe.text_encoder, CLIPTextModel)
    assert [verify_weights(exported / name) for name in ("pocket", "clip", "judge")] == [3, 1, 1]
    assert json.loads((exported / "pocket/training.json").read_text())["unet"]["step"] == 2


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_card_shows_what_was_learned_when_and_the_failures_as_pictures(home, tmp_path):
    run, folder = tmp_path / "kept", tmp_path / "models" / "pocket"
    tiny = [*TINY_UNET, "keep_every=2", "report_every=2", "judge=runs/judge"]
    assert run_stage("unet", tiny, 4, "--run", str(run)) == 0
    assert main(["export", "--out", str(folder.parent), "--unet", str(run)]) == 0
    scores = evaluate(str(folder), n=10, num_inference_steps=2, training_pictures=5)
    (folder / "scores.json").write_text(json.dumps(scores))
    shutil.copy(MODEL_FOLDERS["pocket"] / "choices.json", folder)
    assert main(["learning", str(folder), "--runs", str(run), "--n", "3"]) == 0
    points = json.loads((folder / "learning.json").read_text())
    # a snapshot and a scored report after steps 2 and 4, of 2 views each
    assert [(point["views"], point["prompts"]) for point in points] == [(4, 2), (4, 3), (8, 2), (8, 3)]
    assert points[1]["attributes"]["subject"]["n"] == 3
    card = write_card(folder, failures=4).read_text()
    assert Image.open(folder / "learning.png").size[0] > 500 and "](learning.png)" in card
    assert "drawn with guidance 2.5." in card
    assert Image.open(folder / "failures.jpg").size[0] > 100 and "](failures.jpg)" in card
    missed = int(re.search(r"Of the first 4 prompts, (\d) pictures miss", card).group(1))
    pictures, notes = find_failures(folder, n=4, steps=2)
    assert len(pictures) == len(notes) == missed > 0 and all(" → " in note for note in notes)
    run_again = [*TINY_UNET, "report_every=0", "judge=''"]
    assert run_stage("unet", run_again, 1, "--run", str(run), "--fresh") == 0
    assert not list(run.glob("snapshots/*"))


def test_runs_without_scores_make_no_learning_curve(exported, capsys):
    capsys.readouterr()
    assert main(["learning", str(exported / "pocket"), "--runs", "runs/unet"]) != 0
    assert "Neither logged scores nor snapshots in runs/unet" in capsys.readouterr().err


def test_captions_lose_their_padding_only_in_training_and_keep_their_words(home):
    settings = load_settings("unet", overrides=[*TINY_UNET, "judge=''", "padding_dropout=1.0"])
    stage = UnetStage(settings, torch.device("cpu"))
    ids = stage.tokenize(["a man with blue eyes", ""])
    plain, without = stage._embed(ids), stage._embed(ids, torch.Generator().manual_seed(0))
    end = int((ids[0] == stage.text_encoder.config.eos_token_id).int().argmax())
    assert torch.equal(without[0, :end], plain[0, :end])
    assert torch.equal(without[0, end:], plain[1, end:])
    assert torch.equal(without[1], plain[1])
    assert not torch.equal(without[0], plain[0])


def test_errors_around_the_eyes_weigh_more_also_in_mirrored_pictures(home):
    settings = load_settings("unet", overrides=[*TINY_UNET, "judge=''", "eye_weight=5.0"])
    stage = UnetStage(settings, torch.device("cpu"))
    (weights,) = stage._weights_of(torch.tensor([0]))
    assert sorted(weights.unique().tolist()) == [1, 5]
    for x, y in stage.data.eyes[0] / 8:
        assert weights[0, int(y), int(x)] == 5
    assert 9 <= (weights == 5).sum() <= 18
    (mirrored,) = stage._weights_of(torch.tensor([len(stage.data)]))
    assert [mirrored[0, int(y), int(16 - x)].item() for x, y in stage.data.eyes[0] / 8] == [5, 5]
    even = UnetStage(load_settings("unet", overrides=[*TINY_UNET, "judge=''"]), torch.device("cpu"))
    assert (even._weights_of(torch.tensor([0, 1])) == 1).all()
    noisy, target = torch.zeros(1, 4, 16, 16), torch.zeros(1, 4, 16, 16)
    embeds = stage._embed(stage.tokenize(["a man"]))
    losses = [stage.objective(noisy, torch.tensor([500]), embeds, target, w)[0] for w in (weights[None], 1.0)]
    assert losses[0] != losses[1]


def test_the_unet_reads_captions_that_say_what_is_absent_as_often_as_asked(home, monkeypatch):
    said = []
    monkeypatch.setattr(
        "sdcourse.training.unet.caption", lambda plan, rng, **given: said.append(given) or caption(plan, rng, **given)
    )
    settings = load_settings("unet", overrides=[*TINY_UNET, "judge=''", "absent_said=0.6"])
    stage, said[:] = UnetStage(settings, torch.device("cpu")), []
    stage.draw_batch(0, 0)
    assert said == [{"absent_said": 0.6}] * settings.batch_size


# ---------------------------------------------------------------- steering


TINY_ADAPTER = [*TINY, "portraits=3", "ordinary_portraits=3", "score_prompts=2"]
ADAPTERS = {
    "lora": (LoraStage, [*TINY_ADAPTER, "rank=2"]),
    "hypernetwork": (HypernetworkStage, TINY_ADAPTER),
    "controlnet": (ControlNetStage, [*TINY, "portraits=4", "score_prompts=2", "score_steps=2", "data=runs/data/train"]),
}


@pytest.mark.parametrize("stage", ADAPTERS)
def test_an_adapter_resumes_to_the_same_state_and_leaves_the_model_as_it_was(home, stage):
    stage_class, tiny = ADAPTERS[stage]
    settings = load_settings(stage, overrides=[*tiny, "steps=4"])
    straight, halved = home / f"runs/{stage}_straight", home / f"runs/{stage}_halved"
    assert train_and_stop(stage_class, settings, straight) == 4
    assert train_and_stop(stage_class, settings, halved, stop_before=1) == 2
    assert train_and_stop(stage_class, settings, halved) == 4
    assert_same_training_state(straight, halved)
    base = load_pipeline("pocket", device="cpu").unet.state_dict()
    assert not any(name in base for name in load_checkpoint(straight)["model"])


@pytest.mark.slow
def test_exported_adapters_load_the_plain_way_with_a_card_of_measured_scores(home, capsys):
    for stage, (_, tiny) in ADAPTERS.items():
        assert run_stage(stage, tiny, 1, "--cpu", "--run", f"runs/{stage}_export") == 0
    runs = [word for stage in ADAPTERS for word in (f"--{stage}", f"runs/{stage}_export")]
    assert main(["steering", *runs, "--out", "steering", "--n", "2"]) == 0
    pipe = load_pipeline("pocket", device="cpu")
    pipe.load_lora_weights("steering/lora", weight_name="pytorch_lora_weights.safetensors")
    ControlNetModel.from_pretrained("steering/controlnet")
    assert Hypernetwork.load("steering/hypernetwork").kinds == ("attn2", "attn1")
    scores, card = json.loads(Path("steering/scores.json").read_text()), Path("steering/README.md").read_text()
    assert scores["lora"]["momo"]["n"] == 6 and f"{scores['controlnet']['with']['mean']:.3f}" in card


def test_the_hint_reaches_the_encoder_of_a_new_controlnet():
    controlnet = make_controlnet(load_pipeline("pocket", device="cpu").unet)
    lines = (torch.rand(2, 3, 128, 128, generator=torch.Generator().manual_seed(0)) < 0.1).float()
    with torch.no_grad():
        spread = controlnet.controlnet_cond_embedding(lines).std()
    assert 0.01 < spread < 10  # with the usual start: 0.00002


def test_rubbing_out_only_takes_lines_away():
    hint = np.ones((128, 128), dtype=np.uint8)
    worn = [wear(hint, np.random.default_rng(seed)) for seed in range(20)]
    assert all(((one == 0) | (one == 1)).all() for one in worn) and min(one.mean() for one in worn) < 0.97
    assert hint.all()


def test_exporting_no_adapter_is_a_mistake_in_one_sentence(tmp_path, capsys):
    assert main(["steering", "--out", str(tmp_path)]) == 2
    assert "Nothing to export" in capsys.readouterr().err


# ---------------------------------------------------------------- a reward, a picture tower, and the way back


def reward_stage(*changes):
    torch.manual_seed(0)
    return RewardStage(load_settings("reward", overrides=[*TINY_REWARD, *changes]), "cpu")


def reward_loss(stage, step):
    return stage.loss(stage.objective, stage.draw_batch(step, 0), step=step, rank=0, progress=0.0)


def test_the_pictures_of_the_reward_are_drawn_as_guided_ddim_draws_them(home):
    stage = reward_stage("drawn=2", "draw_steps=3", "draw_guidance=2.0")
    with torch.no_grad():
        reward_loss(stage, 0)
        stage._begin(1, 0)
        stage.drawn["place"][:] = 0
        first = stage.drawn["latents"].clone()
        embeds = torch.cat([stage._embed(stage.tokenize([""] * 2)), stage.drawn["embeds"]])
        for step in range(3):
            reward_loss(stage, 7)
            assert stage.drawn["place"].tolist() == [step + 1] * 2
        timesteps = stage.timesteps[:-1].tolist()
        expected = denoise(stage.objective.unet, first, embeds, timesteps, stage.alphas_cumprod, guidance_scale=2.0)
    torch.testing.assert_close(stage.drawn["latents"], expected)


def test_a_finished_picture_makes_room_for_a_new_one_with_a_caption_of_its_own(home):
    stage = reward_stage("draw_steps=2")
    stage._begin(0, 0)
    before = {name: tensor.clone() for name, tensor in stage.drawn.items()}
    assert before["place"].tolist() == [0, -1, 0]  # spread over the steps: one waits
    stage.drawn["place"][:] = torch.tensor([2, 1, 1])
    stage._begin(1, 0)
    assert stage.drawn["place"].tolist() == [0, 1, 1]
    for name in ("latents", "embeds"):
        changed = (stage.drawn[name] != before[name]).flatten(1).any(dim=1)
        assert changed.tolist() == [True, False, False], name


def test_a_picture_that_waits_stays_noise(home):
    stage = reward_stage("draw_steps=2")
    stage._begin(0, 0)
    noise = stage.drawn["latents"].clone()
    reward_loss(stage, 0)
    moved = (stage.drawn["latents"] != noise).flatten(1).any(dim=1)
    assert moved.tolist() == [True, False, True] and stage.drawn["place"].tolist() == [1, 0, 1]


def test_the_reward_reaches_the_unet_and_only_from_steps_that_are_clear(home):
    gradients = {}
    for below, weight in ((1000, 1.0), (1000, 0.0), (-1, 1.0)):
        stage = reward_stage(f"reward_below={below}", f"reward_weight={weight}")
        loss, numbers = reward_loss(stage, 0)
        loss.backward()
        gradients[below, weight] = torch.cat([p.grad.flatten() for p in stage.objective.parameters()])
        assert 0 <= numbers["right"] <= 1
        assert not any(p.requires_grad for part in stage.objective.frozen for p in part.parameters())
    assert not torch.allclose(gradients[1000, 1.0], gradients[1000, 0.0])
    torch.testing.assert_close(gradients[-1, 1.0], gradients[1000, 0.0])


def test_doubt_counts_only_where_the_caption_says_nothing(home):
    named = torch.tensor([[0] * len(NAMES), [0] + [UNNAMED] * (len(NAMES) - 1)])
    found = {}
    for weight in (0.0, 0.5):
        stage = reward_stage(f"doubt_weight={weight}", "portrait_weight=0.0", "reward_below=1000")
        generator = step_generator(0, 0)
        latents = torch.randn((2, 4, 16, 16), generator=generator)
        drawn = {"latents": latents, "timesteps": torch.tensor([100, 100]), "kept": torch.full((2,), 0.9)}
        for row in (0, 1):
            one = {name: tensor[row : row + 1] for name, tensor in drawn.items()} | {"named": named[row : row + 1]}
            found[weight, row] = stage.objective._read(torch.zeros(1, 4, 16, 16), one)[0].item()
    assert found[0.5, 0] == found[0.0, 0]
    most = sum(math.log(len(VALUES[name])) for name in NAMES[1:])
    assert 0 < found[0.5, 1] - found[0.0, 1] <= 0.5 * most


def test_the_reward_falls_where_the_critic_is_answered(home):
    stage = reward_stage("drawn=4", "reward_weight=1.0", "reward_below=1000")
    optimizer = torch.optim.Adam(stage.objective.parameters(), lr=3e-3)
    missed = []
    for _ in range(12):
        torch.manual_seed(0)
        stage.drawn = None  # the same pictures every time
        loss, numbers = reward_loss(stage, 0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        missed.append(numbers["missed"].item())
    assert missed[-1] < 0.99 * missed[0]


def test_a_reward_for_a_unet_that_predicts_v_is_refused(home):
    with pytest.raises(SdlabError, match="predicts epsilon, not 'v_prediction'"):
        reward_stage("prediction_type=v_prediction")


def test_the_short_captions_to_choose_among_differ_in_one_value(home):
    texts, values = choice_captions(np.random.default_rng(0)), sum(len(VALUES[name]) for name in NAMES)
    assert len(texts) == len(VALUES["subject"]) * values
    for row, subject in enumerate(VALUES["subject"]):
        own = texts[row * values : (row + 1) * values]
        assert all(any(word in text for word in SUBJECT_WORDS[subject]) for text in own[len(VALUES["subject"]) :])
        assert any(f" {word}" in own[row] for word in SUBJECT_WORDS[subject])
    assert texts[: len(VALUES["subject"])] == texts[values : values + len(VALUES["subject"])]


def test_choices_are_read_as_zero_shot_reads_them(home):
    stage = ClipStage(load_settings("clip", overrides=[*TINY_CLIP, "choices=1.0"]), "cpu")
    objective, count, values = stage.objective, 5, sum(stage.objective.sizes)
    image = torch.nn.functional.normalize(torch.randn(count, 8, generator=step_generator(0, 0)), dim=-1)
    codes = torch.from_numpy(stage.codes[:count])
    ids = padded_ids(stage.tokenizer, choice_captions(np.random.default_rng(0)))
    _, right = objective._choose(image, ids, codes)
    words = objective.clip.text_projection(objective.clip.text_model(input_ids=ids).pooler_output)
    hits = 0
    for one, code in zip(image, codes.tolist(), strict=True):
        own = torch.nn.functional.normalize(words[code[0] * values : (code[0] + 1) * values], dim=-1)
        parts = (own @ one).split([len(VALUES[name]) for name in NAMES])
        hits += sum(int(part.argmax()) == wanted for part, wanted in zip(parts, code, strict=True))
    assert float(right) == pytest.approx(hits / (count * len(NAMES)))


def test_a_frozen_text_tower_stays_while_the_picture_tower_learns(home):
    options = ["--init", "runs/clip", "--run", "runs/clip_pictures"]
    assert run_stage("clip", [*TINY_CLIP, "freeze_text=true", "choices=1.0"], 2, *options) == 0
    before, after = load_weights("runs/clip")[1], load_checkpoint("runs/clip_pictures")["model"]
    for name in before:
        if "text_model" in name:
            assert torch.equal(after[name], before[name]), name
    moved = [name for name in before if "vision_model" in name and not torch.equal(after[name], before[name])]
    assert moved


def test_shipped_models_go_back_into_runs_and_out_again_unchanged(exported, tmp_path, capsys):
    models, back, again = exported, tmp_path / "runs", tmp_path / "again"
    assert main(["restore", "--models", str(models), "--out", str(back)]) == 0
    data = back / "data"
    shutil.copytree("runs/data/train", data)
    assert main(["latents", "--vae", str(back / "vae"), "--data", str(data), "--fresh"]) == 0
    assert load_latents(data)[1]["scaling_factor"] == load_latents("runs/data/train")[1]["scaling_factor"]
    names = ("clip", "vae", "unet", "judge", "tokenizer")
    assert main(["export", "--out", str(again), *(w for n in names for w in (f"--{n}", str(back / n)))]) == 0
    for file in models.rglob("*.safetensors"):
        one, other = load_file(file), load_file(again / file.relative_to(models))
        assert all(torch.equal(one[name], other[name]) for name in one), file
    capsys.readouterr()
    assert main(["restore", "--models", str(models), "--out", str(back)]) == 2
    assert "exists already" in capsys.readouterr().err


def test_training_goes_on_from_restored_runs(exported, tmp_path):
    back = tmp_path / "runs"
    assert main(["restore", "--models", str(exported), "--out", str(back)]) == 0
    for stage, tiny in (("clip", TINY_CLIP), ("vae", TINY_VAE)):
        assert run_stage(stage, tiny, 1, "--init", str(back / stage), "--run", str(tmp_path / stage)) == 0
        state = load_state(tmp_path / stage)
        assert (state["step"], state["before"]["step"]) == (1, 2)


def test_shipped_adapters_go_back_into_runs_and_out_again_unchanged(tmp_path):
    shipped = MODEL_FOLDERS["pocket"].parent / "steering"
    runs = {folder.name: folder for folder in restore_adapters(shipped, tmp_path / "runs")}
    assert set(runs) == {"lora", "hypernetwork", "controlnet"}
    export_steering(tmp_path / "again", **runs)
    for file in shipped.rglob("*.safetensors"):
        one, other = load_file(file), load_file(tmp_path / "again" / file.relative_to(shipped))
        assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one), file
    steps = json.loads((shipped / "lora" / "training.json").read_text())["step"]
    assert load_state(runs["lora"])["step"] == steps


# ---------------------------------------------------------------- the chain of the second model


def test_the_chain_trains_every_part_at_toy_size_and_does_nothing_twice(home, tmp_path, capsys):
    command = ["chain", "--toy", "--workers", "1", "--runs", str(tmp_path / "runs")]
    assert main([*command, "--until", "tokenizer"]) == 0
    assert json.loads((tmp_path / "runs/chain.json").read_text()) == ["portraits", "judge_portraits", "tokenizer"]
    assert main(command) == 0
    done = json.loads((tmp_path / "runs/chain.json").read_text())
    assert done[3:] == ["judge", "vae", "latents", "clip", "unet", "export", *CHAIN_ADAPTERS]
    pipe = load_pipeline(str(tmp_path / "runs/models/pocket"), device="cpu")
    assert world_of_model(pipe) == "second"
    assert {"photo", "please", "navy"} <= set((tmp_path / "runs/models/pocket/words.txt").read_text().split())
    for adapter in CHAIN_ADAPTERS:
        assert load_checkpoint(tmp_path / "runs" / adapter)["step"] == 2
    capsys.readouterr()
    assert main(command) == 0
    assert "sdlab train" not in capsys.readouterr().out


def test_a_link_that_was_stopped_is_not_done_and_ends_the_chain(tmp_path, capsys):
    links = [Link("one", ("one",)), Link("two", ("two",)), Link("three", ("three",))]
    assert run_chain(links, tmp_path, lambda words: words != ["two"]) == ["one"]
    assert "stopped in two; the same command goes on" in capsys.readouterr().out
    assert run_chain(links, tmp_path, lambda words: True) == ["two", "three"]
    assert run_chain(links, tmp_path, lambda words: True, only=["one"]) == ["one"]
    with pytest.raises(SdlabError, match="no link 'four'; its links are: one, two, three"):
        run_chain(links, tmp_path, lambda words: True, until="four")


def test_a_budget_of_minutes_is_shared_among_the_stages_of_the_chain(tmp_path):
    assert sum(SHARES.values()) == pytest.approx(1)
    links = {link.name: link.words for link in make_chain(tmp_path, minutes=10, device="gpu")}
    given = [float(words[words.index("--minutes") + 1]) for words in links.values() if "--minutes" in words]
    assert sum(given) == pytest.approx(10, abs=0.05) and len(given) == len(SHARES)
    assert "batch_size=512" in links["unet"] and "--cpu" not in links["unet"]
    assert "--cpu" in {link.name: link.words for link in make_chain(tmp_path)}["unet"]


@pytest.mark.parametrize("device", ["cpu", "gpu"])
def test_every_link_of_the_chain_has_settings_that_load(tmp_path, device):
    for link in make_chain(tmp_path, device=device):
        arguments = make_parser().parse_args(link.words)
        if hasattr(arguments, "settings"):
            load_settings(arguments.stage, arguments.settings, overrides=arguments.set)


def test_a_style_lora_learns_from_portraits_in_the_hand_of_a_fifth_painter(home):
    settings = load_settings("style_lora", overrides=[*ADAPTERS["lora"][1][:-1], "portraits=4", "ordinary_portraits=4"])
    stage = StyleLoraStage(settings, "cpu")
    assert {plan.details["hand"] for plan in stage.momo} == {"Seurat"}
    rng = np.random.default_rng(0)
    assert all("Seurat" in stage._caption(index, rng) for index in range(4))
    assert not any("Seurat" in stage._caption(4 + index, rng) for index in range(4))
    loss, _ = stage.loss(stage.objective, stage.draw_batch(0, 0), step=0, rank=0, progress=0.0)
    assert torch.isfinite(loss)
