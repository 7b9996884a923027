"""Models and adapters of one's own: what diffusers loads is loaded, the rest is refused in one true sentence."""

import json
import shutil

import numpy as np
import pytest
import torch
from diffusers import ControlNetModel, UNet2DConditionModel
from PIL import Image
from safetensors.torch import load_file, save_file

from sdlab import SdlabError, denoising_steps, draw, load_pipeline
from sdlab.instruments import record_attention, unet_table
from sdlab.steering import (
    SHIPPED,
    WEIGHTS,
    Hypernetwork,
    load_controlnet,
    use_controlnet,
    use_hypernetwork,
    use_lora,
)
from sdlab.weights import HASHES
from tiny_pipeline import sd15_shaped

FEW = {"num_inference_steps": 2}
PART = "diffusion_pytorch_model"


def to_half(file, name=None):
    """Write the half precision version of a safetensors file beside it; return its path."""
    half = file.with_name(name or file.name.replace(".safetensors", ".fp16.safetensors"))
    save_file({key: value.half() for key, value in load_file(file).items()}, half, metadata={"format": "pt"})
    return half


def test_half_precision_of_one_part_only_is_loaded(tiny_pipeline_folder):
    file = tiny_pipeline_folder / "unet" / f"{PART}.safetensors"
    (tiny_pipeline_folder / HASHES).unlink()
    to_half(file)
    file.unlink()
    assert load_pipeline(tiny_pipeline_folder, device="cpu").unet.dtype == torch.float32


def test_the_precision_that_was_asked_for_is_read(tiny_pipeline_folder):
    (tiny_pipeline_folder / HASHES).unlink()
    plain = tiny_pipeline_folder / "unet" / f"{PART}.safetensors"
    exact = load_file(plain)["conv_in.weight"]
    to_half(plain)
    assert torch.equal(load_pipeline(tiny_pipeline_folder, device="cpu", dtype="float32").unet.conv_in.weight, exact)
    half = load_pipeline(tiny_pipeline_folder, device="cpu", dtype="float16").unet.conv_in.weight
    assert torch.equal(half, exact.half())


def test_shards_of_half_precision_are_loaded(tiny_pipeline_folder):
    (tiny_pipeline_folder / HASHES).unlink()
    unet = tiny_pipeline_folder / "unet"
    whole = UNet2DConditionModel.from_pretrained(unet)
    (unet / f"{PART}.safetensors").unlink()
    whole.half().save_pretrained(unet, variant="fp16", max_shard_size="30KB")
    assert len(list(unet.glob("*.safetensors"))) > 1
    assert load_pipeline(tiny_pipeline_folder, device="cpu").unet.dtype == torch.float32


def broken(folder, how):
    index = folder / "model_index.json"
    if how == "index cut":
        index.write_text(index.read_text()[:40])
    elif how == "index of a list":
        index.write_text("[1, 2]")
    elif how == "index that is no UTF-8":
        index.write_bytes(b"\xff\xfe{")
    elif how == "config of a list":
        (folder / "unet" / "config.json").write_text("[]")
    elif how == "no tokenizer":
        shutil.rmtree(folder / "tokenizer")
    elif how == "tokenizer without words":
        for file in (folder / "tokenizer").iterdir():
            if file.name in ("tokenizer.json", "vocab.json"):
                file.unlink()
    elif how == "another class":
        index.write_text(json.dumps({"_class_name": ["x"]}))
    return folder


@pytest.mark.parametrize(
    "how",
    [
        "index cut",
        "index of a list",
        "index that is no UTF-8",
        "config of a list",
        "no tokenizer",
        "tokenizer without words",
        "another class",
    ],
)
def test_a_damaged_folder_is_said_in_one_sentence(tiny_pipeline_folder, how):
    with pytest.raises(SdlabError) as caught:
        load_pipeline(broken(tiny_pipeline_folder, how), device="cpu")
    assert str(tiny_pipeline_folder) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_single_file_is_never_a_pickle_nor_half_a_model(tmp_path):
    (tmp_path / "model.ckpt").write_bytes(b"x")
    with pytest.raises(SdlabError, match="a pickle, which can run any program"):
        load_pipeline(tmp_path / "model.ckpt")
    save_file({"lora.weight": torch.zeros(2)}, tmp_path / "lora.safetensors")
    with pytest.raises(SdlabError, match="holds no whole model"):
        load_pipeline(tmp_path / "lora.safetensors")
    with pytest.raises(SdlabError, match="There is no model"):
        load_pipeline("owner/absent.safetensors")


def test_a_home_folder_is_found(tiny_pipeline_folder, monkeypatch):
    monkeypatch.setenv("HOME", str(tiny_pipeline_folder.parent))
    assert load_pipeline("~/model", device="cpu").unet is not None


def test_a_model_that_is_not_square_is_drawn_and_recorded(tmp_path):
    pipe = sd15_shaped(tmp_path)
    pipe.unet.register_to_config(sample_size=[8, 16])
    with record_attention(pipe) as maps:
        assert draw(pipe, "a cat", **FEW).size == (128, 64)
    assert maps.heat_map("cat").shape == (64, 128)
    *_, last = denoising_steps(pipe, "a cat", **FEW)
    assert last.prev_sample.shape == (1, 4, 8, 16)
    assert unet_table(pipe)["conv_in"].input == (4, 8, 16)


def test_nine_channels_are_said(tmp_path):
    pipe = sd15_shaped(tmp_path)
    config = {key: value for key, value in pipe.unet.config.items() if not key.startswith("_")}
    pipe.unet = UNet2DConditionModel(**config | {"in_channels": 9})
    with pytest.raises(SdlabError, match="reads 9 channels, not 4: it is an inpainting model"):
        draw(pipe, "a cat")


# adapters


def as_kohya(weights: dict) -> dict:
    """Return the weights of a diffusers LoRA in kohya's layout: names with underscores, and an alpha for each."""
    found = {}
    for key, value in weights.items():
        module, _, part = key.removeprefix("unet.").partition(".lora")
        name = "lora_unet_" + module.replace(".", "_")
        down = part.startswith(("_A", ".down"))
        found[f"{name}.lora_{'down' if down else 'up'}.weight"] = value
        if down:
            found[f"{name}.alpha"] = torch.tensor(float(len(value)))
    return found


@pytest.mark.parametrize("layout", ["diffusers", "kohya", "file"])
def test_a_lora_of_another_layout_draws_the_same(pocket, tmp_path, layout):
    weights = load_file(SHIPPED["lora"] / WEIGHTS)
    with use_lora(pocket, SHIPPED["lora"]):
        shipped = draw(pocket, "a cat", **FEW)
    name = WEIGHTS if layout == "diffusers" else "my_style.safetensors"
    save_file(as_kohya(weights) if layout == "kohya" else weights, tmp_path / name)
    with use_lora(pocket, tmp_path / name if layout == "file" else tmp_path):
        mine = draw(pocket, "a cat", **FEW)
    difference = np.abs(np.asarray(mine, dtype=int) - np.asarray(shipped, dtype=int)).max()
    assert difference <= 1
    assert mine.tobytes() != draw(pocket, "a cat", **FEW).tobytes()


def test_a_file_that_is_no_lora_is_said(pocket, tmp_path):
    save_file({"something.weight": torch.zeros(2)}, tmp_path / "a.safetensors")
    with pytest.raises(SdlabError), use_lora(pocket, tmp_path):
        pass
    (tmp_path / "a.safetensors").write_bytes(b"damaged")
    with pytest.raises(SdlabError, match=r"LoRA in .* could not be read"), use_lora(pocket, tmp_path):
        pass
    (tmp_path / "b.safetensors").write_bytes(b"damaged")
    with pytest.raises(SdlabError, match="holds 2 safetensors files"), use_lora(pocket, tmp_path):
        pass
    assert not hasattr(pocket.unet, "peft_config") or not pocket.unet.peft_config


def test_a_controlnet_folder_as_on_the_hub_follows_dtype_and_size(tmp_path):
    pipe = sd15_shaped(tmp_path / "parts").to(torch.bfloat16)
    ControlNetModel.from_unet(pipe.unet).save_pretrained(tmp_path / "net")
    controlnet = load_controlnet(tmp_path / "net")
    with use_controlnet(pipe, controlnet, Image.new("RGB", (192, 64)), height=64, width=192):
        assert draw(pipe, "a cat", height=64, width=192, **FEW).size == (192, 64)
    small = Image.new("RGB", (64, 64))
    with pytest.raises(SdlabError, match="draws 128 x 128"), use_controlnet(pipe, controlnet, small):
        pass


@pytest.mark.parametrize("load", [load_controlnet, Hypernetwork.load])
def test_a_folder_of_something_else_is_said(tmp_path, load):
    (tmp_path / "config.json").write_text('{"a": ')
    with pytest.raises(SdlabError, match="could not be read"):
        load(tmp_path)


def test_a_table_is_made_while_the_model_is_steered_and_recorded(sd15):
    plain = repr(unet_table(sd15))
    with use_hypernetwork(sd15, Hypernetwork.for_unet(sd15.unet)), record_attention(sd15):
        assert repr(unet_table(sd15)) == plain


def test_an_ip_adapter_is_said(tmp_path):
    pipe = sd15_shaped(tmp_path)
    pipe.unet.register_to_config(encoder_hid_dim_type="ip_image_proj")
    with pytest.raises(SdlabError, match="does not know IP-Adapters"):
        unet_table(pipe)
