"""Loading gives the genuine diffusers pipeline, or one sentence about what is wrong."""

import inspect
import json
import os
import shutil
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import diffusers
import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline

from sdlab import SdlabError, check_prompt, count_parameters, draw, load_pipeline, use_sampler
from sdlab.drawing import check_strength
from sdlab.pipeline import (
    HUB_PARAMETERS,
    MODEL_FOLDERS,
    check_memory,
    choose_device,
    choose_dtype,
    find_folder,
    free_memory,
)
from sdlab.prompts import PromptWarning, unknown_words, words_of
from sdlab.weights import verify_weights, write_hashes

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def tiny(tiny_pipeline_original):
    return load_pipeline(tiny_pipeline_original, device="cpu")


def pixels(image) -> np.ndarray:
    return np.asarray(image)


def run_python(code: str, **environment) -> subprocess.CompletedProcess:
    """Run code in a new Python, where environment variables are read afresh."""
    return subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **environment}, capture_output=True, text=True, timeout=600
    )


OFFLINE = """
from sdlab import load_pipeline
print(load_pipeline().name_or_path)
print(load_pipeline("owner/name", device="cpu").unet.dtype)
load_pipeline("owner/other", device="cpu")
"""


@pytest.fixture(scope="module")
def offline(tiny_pipeline_original, tmp_path_factory):
    """What one new Python says without a network, with one model in its cache and another one as the default."""
    home = tmp_path_factory.mktemp("home")
    cache = home / "hub" / "models--owner--name"
    shutil.copytree(tiny_pipeline_original, cache / "snapshots" / "abc")
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text("abc")
    return run_python(OFFLINE, HF_HUB_OFFLINE="1", HF_HOME=str(home), SDLAB_MODEL=str(tiny_pipeline_original))


# the pocket model


def test_the_default_is_the_pocket_model():
    assert inspect.signature(load_pipeline).parameters["model"].default == os.environ.get("SDLAB_MODEL", "pocket")


def test_plain_from_pretrained_draws_the_same_picture(pocket):
    plain = StableDiffusionPipeline.from_pretrained(MODEL_FOLDERS["pocket"])
    plain.set_progress_bar_config(disable=True)
    assert {part.dtype for part in (plain.unet, plain.vae, plain.text_encoder)} == {torch.float32}
    pictures = [
        pipe("a cat", num_inference_steps=3, generator=torch.Generator().manual_seed(1), output_type="pt").images
        for pipe in (plain, pocket.to(plain.device))
    ]
    torch.testing.assert_close(*pictures, rtol=0, atol=0)


def test_the_pocket_model_is_genuine_and_has_no_safety_checker(pocket):
    assert type(pocket) is StableDiffusionPipeline
    assert pocket.safety_checker is None
    assert not any(module.training for module in (pocket.unet, pocket.vae, pocket.text_encoder))


def test_loading_the_pocket_model_prints_nothing():
    run = run_python("from sdlab import load_pipeline, draw; draw(load_pipeline(), 'a man', num_inference_steps=1)")
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")


def test_every_shipped_weight_file_is_as_its_hash_says():
    for index in MODEL_FOLDERS["pocket"].parent.rglob("weights.json"):
        assert verify_weights(index.parent) >= 1


# loading from a folder


def test_a_folder_loads_as_the_genuine_pipeline(tiny, tiny_pipeline_original):
    assert type(tiny) is StableDiffusionPipeline
    assert tiny.name_or_path == str(tiny_pipeline_original)
    assert tiny.unet.dtype == torch.float32


def test_the_dtype_is_the_one_asked_for(tiny_pipeline_original):
    pipe = load_pipeline(tiny_pipeline_original, device="cpu", dtype="bfloat16")
    assert {part.dtype for part in (pipe.unet, pipe.vae, pipe.text_encoder)} == {torch.bfloat16}


def test_loading_restores_the_libraries_chatter(tiny_pipeline_original):
    diffusers.utils.logging.set_verbosity_info()
    load_pipeline(tiny_pipeline_original, device="cpu")
    assert diffusers.utils.logging.get_verbosity() == diffusers.utils.logging.INFO
    diffusers.utils.logging.set_verbosity_warning()


def test_sdlab_model_sets_the_default(offline, tiny_pipeline_original):
    assert offline.stdout.splitlines()[0] == str(tiny_pipeline_original), offline.stderr


def test_importing_sdlab_does_not_import_torch():
    run = run_python("import sys, sdlab, sdcourse.cli; print(*{'torch', 'diffusers', 'matplotlib'} & set(sys.modules))")
    assert run.stdout.strip() == "", run.stderr


# device, dtype, memory


def test_full_size_models_are_half_precision_on_cuda_only():
    assert choose_dtype(None, "cuda", full_size=True) == torch.float16
    assert choose_dtype(None, "cuda", full_size=False) == torch.float32
    assert choose_dtype(None, "cpu", full_size=True) == torch.float32


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_asked_for_but_absent_is_said():
    with pytest.raises(SdlabError, match=r"device='cuda' was asked for, .* sees 0 CUDA devices"):
        load_pipeline("pocket", device="cuda")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_the_pocket_model_draws_nearly_the_same_on_a_gpu(pocket):
    on_gpu = pixels(draw(load_pipeline("pocket", device="cuda"), "a cat"))
    on_cpu = pixels(draw(pocket.to("cpu"), "a cat"))
    assert np.abs(on_gpu.astype(int) - on_cpu).mean() < 3


def test_an_unknown_device_or_dtype_is_said():
    with pytest.raises(SdlabError, match="device='gpu' is not a device"):
        choose_device("gpu")
    with pytest.raises(SdlabError, match="dtype='int8' is not a floating point type"):
        choose_dtype("int8", CPU)


def test_the_environment_names_the_device_where_the_call_does_not(monkeypatch):
    monkeypatch.setenv("SDLAB_DEVICE", "cpu")  # where there is a GPU, too: the stored outputs are those of a CPU
    assert choose_device() == CPU
    monkeypatch.setenv("SDLAB_DEVICE", "abacus")
    assert choose_device("cpu") == CPU
    with pytest.raises(SdlabError, match="device='abacus' is not a device"):
        choose_device()


def test_too_little_memory_is_said_before_loading():
    check_memory(1000, device=CPU, dtype=torch.float32)
    with pytest.raises(SdlabError, match=r"needs about 5000000\.1 GB on 'cpu', but [\d.]+ GB are free"):
        check_memory(10**15, device=CPU, dtype=torch.float32)


def test_a_model_too_large_for_the_memory_is_refused_by_its_header(tiny_pipeline_folder):
    header = json.dumps({"weights": {"dtype": "F32", "shape": [10**15], "data_offsets": [0, 4 * 10**15]}}).encode()
    file = tiny_pipeline_folder / "unet" / "diffusion_pytorch_model.safetensors"
    file.write_bytes(len(header).to_bytes(8, "little") + header)
    write_hashes(tiny_pipeline_folder)
    with pytest.raises(SdlabError, match="GB are free: close other programs"):
        load_pipeline(tiny_pipeline_folder, device="cpu")


@pytest.mark.skipif(torch.cuda.is_available() or free_memory(CPU) > 7e9, reason="SD 1.5 fits into this memory")
def test_sd15_is_refused_before_anything_is_downloaded():
    with pytest.raises(SdlabError, match=r"needs about 7\.0 GB"):
        load_pipeline("sd15", device="cpu")


def test_parameters_are_counted_from_the_header(tiny, tiny_pipeline_original):
    counted = count_parameters(tiny_pipeline_original / "unet" / "diffusion_pytorch_model.safetensors")
    assert counted == sum(parameter.numel() for parameter in tiny.unet.parameters())
    assert HUB_PARAMETERS["sd15"] > 1_066_235_307  # the three networks; the safety checker comes on top


# missing and damaged weights


def test_a_damaged_file_is_named(tiny_pipeline_folder):
    file = tiny_pipeline_folder / "vae" / "diffusion_pytorch_model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(SdlabError, match=r"vae/diffusion_pytorch_model\.safetensors are damaged \(sha256"):
        load_pipeline(tiny_pipeline_folder)


def test_a_missing_file_is_named(tiny_pipeline_folder):
    (tiny_pipeline_folder / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(SdlabError, match=r"unet/diffusion_pytorch_model\.safetensors are missing"):
        load_pipeline(tiny_pipeline_folder)


def test_a_git_lfs_pointer_is_told_from_weights(tiny_pipeline_folder):
    file = tiny_pipeline_folder / "unet" / "diffusion_pytorch_model.safetensors"
    file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    with pytest.raises(SdlabError, match="run 'git lfs pull'"):
        load_pipeline(tiny_pipeline_folder)


def test_a_folder_without_hashes_is_checked_for_missing_weights(tiny_pipeline_folder):
    (tiny_pipeline_folder / "weights.json").unlink()
    (tiny_pipeline_folder / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(SdlabError, match="no safetensors file for unet"):
        load_pipeline(tiny_pipeline_folder)


def test_a_truncated_file_without_hashes_is_one_sentence(tiny_pipeline_folder):
    (tiny_pipeline_folder / "weights.json").unlink()
    file = tiny_pipeline_folder / "unet" / "diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(SdlabError, match="could not be loaded: ") as raised:
        load_pipeline(tiny_pipeline_folder)
    assert "\n" not in str(raised.value)


def test_half_precision_files_are_found_beside_or_without_the_others(tiny, tiny_pipeline_folder):
    tiny.save_pretrained(tiny_pipeline_folder, variant="fp16", safe_serialization=True)
    for file in tiny_pipeline_folder.glob("*/*.safetensors"):
        if ".fp16." not in file.name:
            file.unlink()
    write_hashes(tiny_pipeline_folder)
    assert load_pipeline(tiny_pipeline_folder, device="cpu").unet.dtype == torch.float32


def test_another_kind_of_pipeline_is_refused(tiny_pipeline_folder):
    index = json.loads((tiny_pipeline_folder / "model_index.json").read_text())
    (tiny_pipeline_folder / "model_index.json").write_text(json.dumps({**index, "_class_name": "FluxPipeline"}))
    with pytest.raises(SdlabError, match="holds a FluxPipeline"):
        load_pipeline(tiny_pipeline_folder)


def test_a_folder_without_a_model_is_said(tmp_path):
    with pytest.raises(SdlabError, match=r"has no model_index\.json"):
        load_pipeline(tmp_path)


# names and the hub


@pytest.mark.parametrize("name", ["poket", "no/such/folder", "./nowhere", "a model"])
def test_an_unknown_name_lists_what_is_known(name):
    with pytest.raises(SdlabError, match=r"There is no model .*: use 'pocket', 'sd15', a hub id such as"):
        find_folder(name)


def test_offline_mode_without_a_cached_model_is_said(offline):
    assert "SdlabError: owner/other is not in the local cache and HF_HUB_OFFLINE is set" in offline.stderr


def test_offline_mode_loads_a_cached_model(offline):
    assert offline.stdout.splitlines()[1] == "torch.float32", offline.stderr


class NotFound(BaseHTTPRequestHandler):
    """A mirror of the hub that has no model, and remembers what it was asked for."""

    asked: list[str] = []  # noqa: RUF012

    def do_GET(self):
        self.asked.append(self.path)
        self.send_response(404)
        self.send_header("X-Error-Code", "RepoNotFound")
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_GET

    def log_message(self, *arguments):
        """Keep the test's output quiet."""


TWICE = """
import sys
from sdlab import SdlabError, load_pipeline
for _ in range(2):
    try:
        load_pipeline("owner/name", device="cpu")
    except SdlabError as error:
        print(f"{type(error).__name__}: {error}", flush=True)
    sys.stdin.readline()
"""


def test_a_mirror_is_asked_an_unknown_repository_is_said_and_then_that_there_is_no_network(tmp_path):
    server = ThreadingHTTPServer(("127.0.0.1", 0), NotFound)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    endpoint = f"http://127.0.0.1:{server.server_port}"
    environment = os.environ | {"HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "0"}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", TWICE], env=environment, text=True, **pipes) as process:
        first = process.stdout.readline()
        server.shutdown()
        server.server_close()
        second, complaints = process.communicate("the server is gone\n", timeout=600)
    assert first.startswith(f"SdlabError: {endpoint} knows no model 'owner/name'"), complaints
    assert any(path.startswith("/api/models/owner/name") for path in NotFound.asked)
    assert f"could not be downloaded: no network, or {endpoint} cannot be reached" in second, complaints


# drawing


def test_draw_equals_the_pipeline_call(tiny):
    generator = torch.Generator().manual_seed(3)
    expected = tiny("a man", num_inference_steps=4, guidance_scale=2.0, generator=generator).images[0]
    drawn = draw(tiny, "a man", seed=3, num_inference_steps=4, guidance_scale=2.0)
    np.testing.assert_array_equal(pixels(drawn), pixels(expected))


def test_the_second_picture_of_a_batch_is_that_of_the_next_seed(tiny):
    batch = draw(tiny, "a man", seed=5, num_inference_steps=2, num_images=2)
    alone = draw(tiny, "a man", seed=6, num_inference_steps=2)
    assert np.abs(pixels(batch[1]).astype(int) - pixels(alone)).max() <= 1


@pytest.mark.parametrize("sampler", ["ddim", "ddpm", "euler", "pndm", "dpm"])
def test_each_sampler_draws_and_leaves_the_pipeline_as_it_was(tiny, sampler):
    own, before = tiny.scheduler, dict(tiny.scheduler.config)
    assert draw(tiny, "a man", num_inference_steps=3, sampler=sampler).size == (64, 64)
    assert tiny.scheduler is own
    assert dict(tiny.scheduler.config) == before


def test_the_scheduler_comes_back_after_an_error(tiny):
    own = tiny.scheduler
    with pytest.raises(RuntimeError), use_sampler(tiny, "ddim"):
        raise RuntimeError
    assert tiny.scheduler is own


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"num_inference_steps": 0}, "num_inference_steps=0 must be a whole number from 1 to 1000"),
        ({"num_inference_steps": 2.5}, r"num_inference_steps=2\.5 must"),
        ({"guidance_scale": 0}, r"guidance_scale=0 must be 1 \(the prompt"),
        ({"guidance_scale": float("nan")}, "guidance_scale=nan must"),
        ({"sampler": "magic"}, "no sampler 'magic': use one of ddim, ddpm, euler, pndm, dpm"),
        ({"num_images": 0}, "num_images=0 must"),
        ({"seed": 0.5}, r"seed=0\.5 must be a whole number"),
        ({"prompt": "  "}, "prompt='  ' is empty: say what to draw"),
    ],
)
def test_settings_out_of_range_are_one_sentence(tiny, settings, sentence):
    with pytest.raises(SdlabError, match=sentence):
        draw(tiny, **{"prompt": "a man", "num_inference_steps": 1, **settings})


def test_strength_must_lie_between_zero_and_one():
    assert check_strength(0.3) == 0.3
    for strength in (-0.1, 1.1, float("nan")):
        with pytest.raises(SdlabError, match="must lie between 0"):
            check_strength(strength)


# what of the prompt is read


def test_a_prompt_that_is_read_whole_has_no_remark(tiny):
    assert check_prompt(tiny, "a man with blue eyes") == []


def test_a_long_prompt_is_reported_with_the_words_that_are_cut_off(tiny):
    words = " ".join(["abcdefgh"] * 10)  # a letter is a token here: 9 words, start and end are 74 tokens
    (sentence,) = check_prompt(tiny, f"{words} lost")
    assert "longer than the 77 tokens" in sentence
    assert sentence.endswith("and this is cut off: 'abcdefgh lost'.")


def test_a_cut_prompt_is_warned_of_once(tiny, capfd):
    with pytest.warns(PromptWarning, match="cut off") as caught:
        draw(tiny, "abcdefgh " * 12, num_inference_steps=1)
    assert len(caught) == 1
    assert "truncated" not in capfd.readouterr().err


def test_words_never_seen_in_training_are_named(tiny_pipeline_folder):
    (tiny_pipeline_folder / "words.txt").write_text("a man with blue eyes\n")
    pipe = load_pipeline(tiny_pipeline_folder, device="cpu")
    assert check_prompt(pipe, "A man with blue eyes.") == []
    (sentence,) = check_prompt(pipe, "a man with a zebra, blue zebra")
    assert sentence == "In training the model has never seen 'zebra': it can only guess."


def test_words_are_read_without_punctuation_and_case():
    assert words_of("A man, with BLUE eyes!") == ["a", "man", "with", "blue", "eyes"]
    assert unknown_words("a cat", frozenset()) == []
