"""The table and the drawing of a U-Net say what a forward pass does."""

import re

import pytest
import torch
from peft import LoraConfig

from sdlab import SdlabError, load_pipeline
from sdlab.figures import draw_unet
from sdlab.instruments import CONFIGS, build_on_meta, unet_table
from tiny_pipeline import sd15_shaped, sdxl_shaped


@pytest.fixture(scope="module")
def pocket():
    return load_pipeline("pocket", device="cpu")


@pytest.fixture(scope="module")
def sd15():
    return unet_table("sd15")


@pytest.fixture(scope="module")
def sdxl():
    return unet_table("sdxl")


def test_sd15_and_sdxl_have_the_published_number_of_parameters(sd15, sdxl):
    assert sd15.parameters == 859_520_964
    assert sdxl.parameters == 2_567_463_684


@pytest.mark.parametrize("name", ["sd15", "sdxl"])
def test_the_blocks_add_up_to_the_whole(name, request):
    table = request.getfixturevalue(name)
    assert sum(row.parameters for row in table.blocks) == table.parameters
    assert sum(row.share for row in table.blocks) == pytest.approx(1)
    for block in table.blocks:
        parts = [row for row in table.rows if row.level == 1 and row.name.startswith(f"{block.name}.")]
        assert not parts or sum(row.parameters for row in parts) == block.parameters


def test_sd15s_blocks_are_as_large_as_the_course_says(sd15):
    down, up = [10_524_480, 36_818_560, 139_992_320, 62_277_120], [162_241_280, 258_330_880, 71_413_120, 18_810_560]
    assert [sd15[f"down_blocks.{index}"].parameters for index in range(4)] == down
    assert sd15["mid_block"].parameters == 97_038_080
    assert [sd15[f"up_blocks.{index}"].parameters for index in range(4)] == up
    shares = {
        kind: sum(row.share for row in sd15.rows if row.class_name == kind)
        for kind in ("ResnetBlock2D", "Transformer2DModel")
    }
    assert shares == {
        "ResnetBlock2D": pytest.approx(0.626, abs=5e-4),
        "Transformer2DModel": pytest.approx(0.311, abs=5e-4),
    }


def test_the_rows_stand_in_execution_order(sd15):
    names = [row.name for row in sd15.blocks]
    assert names == [
        *("time_proj", "time_embedding", "conv_in"),
        *(f"down_blocks.{index}" for index in range(4)),
        "mid_block",
        *(f"up_blocks.{index}" for index in range(4)),
        *("conv_norm_out", "conv_act", "conv_out"),
    ]
    parts = [row.name.removeprefix("up_blocks.1.") for row in sd15.rows if row.name.startswith("up_blocks.1.")]
    assert parts == [
        *("resnets.0", "attentions.0", "resnets.1", "attentions.1", "resnets.2", "attentions.2", "upsamplers.0")
    ]


def test_sd15_has_22_resnet_blocks_16_transformers_and_12_skips(sd15):
    classes = [row.class_name for row in sd15.rows]
    assert (classes.count("ResnetBlock2D"), classes.count("Transformer2DModel"), len(sd15.skips)) == (22, 16, 12)
    assert (classes.count("Downsample2D"), classes.count("Upsample2D")) == (3, 3)


def test_the_960_channels_are_640_from_below_and_320_through_the_skip(sd15):
    (skip,) = [skip for skip in sd15.skips if skip.target == "up_blocks.3.resnets.0"]
    assert (skip.from_below, skip.shape[0], sd15[skip.target].input[0]) == (640, 320, 960)
    channels = [(skip.from_below, skip.shape[0]) for skip in sd15.skips]
    assert channels == [
        *[(1280, 1280)] * 5,
        *[(1280, 640), (1280, 640), (640, 640), (640, 320)],
        *[(640, 320), (320, 320), (320, 320)],
    ]


def test_sd15s_shapes_go_down_to_8_and_up_again(sd15):
    assert [sd15[f"down_blocks.{index}"].input[1] for index in range(4)] == [64, 32, 16, 8]
    assert sd15["mid_block"].output == (1280, 8, 8)
    assert sd15["conv_in"].input == sd15["conv_out"].output == (4, 64, 64)
    assert sd15["time_embedding"].output == (1280,)


@pytest.mark.parametrize("make", ["pocket", "sd15", "sdxl"])
def test_the_shapes_are_those_of_a_real_call(make, pocket, tmp_path):
    pipe = {"pocket": lambda _: pocket, "sd15": sd15_shaped, "sdxl": sdxl_shaped}[make](tmp_path)
    table, seen = unet_table(pipe, height=16, width=24), {}
    handles = [
        pipe.unet.get_submodule(row.name).register_forward_hook(
            lambda _m, args, out, name=row.name: seen.update({name: (args, out if torch.is_tensor(out) else out[0])})
        )
        for row in table.rows
    ]
    pipe("a cat", height=128, width=192, num_inference_steps=1, guidance_scale=1, output_type="latent")
    for handle in handles:
        handle.remove()
    assert {row.name for row in table.rows} == set(seen)
    for row in table.rows:
        args, output = seen[row.name]
        assert tuple(output.shape[1:]) == row.output, row.name
        assert not args or tuple(args[0].shape[1:]) == row.input, row.name
    assert table.parameters == sum(weight.numel() for weight in pipe.unet.parameters())


def test_a_pipeline_its_unet_and_its_config_have_the_same_table(pocket):
    tables = [unet_table(each) for each in (pocket, pocket.unet, dict(pocket.unet.config))]
    assert tables[0].rows == tables[1].rows == tables[2].rows
    assert tables[0].skips == tables[1].skips == tables[2].skips


def test_making_a_table_changes_nothing(pocket):
    before = pocket.unet.conv_in.weight.clone()
    unet_table(pocket)
    assert torch.equal(pocket.unet.conv_in.weight, before)
    assert pocket.unet.device.type == "cpu"
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in pocket.unet.modules())


def test_an_adapters_parameters_are_counted(tmp_path):
    pipe = sd15_shaped(tmp_path)
    before = unet_table(pipe).parameters
    pipe.unet.add_adapter(LoraConfig(r=4, target_modules=["to_q"]))
    added = sum(weight.numel() for name, weight in pipe.unet.named_parameters() if "lora" in name)
    assert unet_table(pipe).parameters == before + added > before


def test_a_sd15_lora_of_rank_4_has_797184_parameters():
    unet = build_on_meta("sd15")
    with torch.device("meta"):
        unet.add_adapter(LoraConfig(r=4, target_modules=["to_q", "to_k", "to_v", "to_out.0"]))
    assert sum(weight.numel() for name, weight in unet.named_parameters() if "lora" in name) == 797_184


def test_full_size_models_take_no_memory():
    unet = build_on_meta("sdxl")
    assert {weight.device.type for weight in unet.parameters()} == {"meta"}


def test_only_the_text_is_read_by_22_thousandths_of_sd15():
    weights = {
        name: weight.numel()
        for name, weight in build_on_meta("sd15").named_parameters()
        if ".attn2.to_k." in name or ".attn2.to_v." in name
    }
    assert sum(weights.values()) == 19_169_280
    assert len(weights) == 32


@pytest.mark.parametrize(
    ("what", "sentence"),
    [("sd3", "There is no config 'sd3': use one of sd15, sdxl"), (torch.nn.Linear(1, 1), "Linear has no UNet2DCondit")],
)
def test_what_is_no_unet_is_said(what, sentence):
    with pytest.raises(SdlabError, match=sentence):
        unet_table(what)


def test_a_row_that_is_not_there_is_said(sd15):
    with pytest.raises(SdlabError, match=r"There is no row 'down_blocks\.7': the rows are time_proj, time_embedding"):
        sd15["down_blocks.7"]


def test_the_table_shows_itself(sd15):
    text = repr(sd15)
    assert "859,520,964" in text.splitlines()[-1]
    assert max(map(len, text.splitlines())) <= 120
    assert re.search(r"up_blocks\.3\.resnets\.0 +ResnetBlock2D +960x64x64 +320x64x64 +4,407,040 +0\.5%", text)
    html = sd15._repr_html_()
    assert html.count("<tr>") == len(sd15.rows) + 2
    assert "<td>859,520,964</td>" in html


@pytest.mark.parametrize("name", list(CONFIGS))
def test_the_letter_u_shows_every_skip(name, request):
    table = request.getfixturevalue(name)
    figure = draw_unet(table)
    texts = [text.get_text() for text in figure.axes[0].texts]
    for skip in table.skips:
        shape = "×".join(map(str, skip.shape))
        assert texts.count(shape) == sum(other.shape == skip.shape for other in table.skips)
    assert f"{len(table.skips)} skip connections" in figure.alt
    assert any(f"{table.parameters:,}" in text for text in texts)


def test_the_letter_u_of_a_pipeline_has_its_own_shapes(pocket):
    texts = [text.get_text() for text in draw_unet(pocket).axes[0].texts]
    assert any("64 + 32 = 96" in text for text in texts)
