"""Plans from configs, the work of a call, the shortcuts that must not change a picture, and the stored measurements."""

import json
import sys

import pytest
import torch

from conftest import ROOT
from sdcourse.lessons.lesson_12 import find_full_size, sizes_of
from sdcourse.lessons.lesson_12_figures import (
    plot_flow_paths,
    plot_options,
    plot_parts,
    plot_ratios,
    plot_work,
    size_table,
)
from sdcourse.lessons.lesson_12_measured import describe, measured_table, picture_seconds, read_measured, to_markdown
from sdcourse.lessons.lesson_12_newer_models import models_table, newer_models
from sdlab import SdlabError
from sdlab.figures import Table
from sdlab.instruments import Meter, build_parts, count_flops, count_part, part_seconds, random_pipeline, take_turns
from sdlab.instruments.costs import seconds
from sdlab.speedups import cache_text, channels_last, usable_kernels, use_kernel, with_dtype

sys.path.insert(0, str(ROOT / "tests" / "benchmarks"))

PROMPT = "a man with blue eyes"


def draw(pipe, steps: int = 3):
    generator = torch.Generator().manual_seed(0)
    return pipe(PROMPT, num_inference_steps=steps, generator=generator, output_type="latent").images


@pytest.fixture(scope="module")
def full():
    return sizes_of("sd15")


def test_the_plan_of_sd15_has_the_published_counts(full):
    assert full.parameters == {"text_encoder": 123_060_480, "unet": 859_520_964, "vae": 83_653_863}
    assert (full.latents, full.context, full.picture) == ((4, 64, 64), (77, 768), 512)
    assert full.weight_bytes(torch.float16) == 2 * 1_066_235_307


def test_a_call_of_sd15_takes_about_402_billion_multiplications_with_their_additions(full):
    assert full.flops["unet"] / 2e9 == pytest.approx(402, abs=1)
    assert full.picture_flops(50) / 1e12 == pytest.approx(82.9, abs=0.2)


def test_guidance_doubles_the_work_of_the_unet(full):
    more = full.picture_flops(11) - full.picture_flops(10)
    assert more == 2 * (full.picture_flops(11, guidance=False) - full.picture_flops(10, guidance=False))


def test_the_plan_of_a_pipeline_counts_its_own_weights(pocket):
    found = sizes_of(pocket)
    assert found.parameters["unet"] == sum(weight.numel() for weight in pocket.unet.parameters())
    assert found.latents == (4, 16, 16)


def test_the_work_of_a_linear_layer_is_two_for_each_weight_and_row():
    with torch.device("meta"):
        layer = torch.nn.Linear(30, 7)
    assert count_flops(lambda: layer(torch.empty(5, 30)))["linear"] == 2 * 5 * 30 * 7


def test_attention_counts_its_two_products_only():
    def attend():
        query = torch.empty(1, 2, 10, 4)
        torch.nn.functional.scaled_dot_product_attention(query, query, query)

    assert count_flops(attend) == {"convolution": 0, "linear": 0, "attention": 2 * 2 * 2 * 10 * 10 * 4}


def test_attention_grows_faster_than_the_area():
    parts = build_parts("sd15")
    small, large = (count_part(parts, "unet", size=size) for size in (32, 64))
    assert large["convolution"] == 4 * small["convolution"]
    assert large["attention"] > 12 * small["attention"]


def test_another_name_than_sd15_is_refused():
    with pytest.raises(SdlabError, match="no configs of 'sd9'"):
        sizes_of("sd9")


def test_a_random_pipeline_draws(sd15):
    image = draw(random_pipeline(sd15))
    assert image.shape == (1, 4, 16, 16)
    assert image.isfinite().all()


def test_a_full_size_model_is_not_looked_for_without_a_gpu(monkeypatch):
    monkeypatch.setenv("SDLAB_DEVICE", "cpu")
    pipe, reason = find_full_size()
    assert pipe is None
    assert "no CUDA GPU" in reason


@pytest.mark.parametrize("name", ["pocket", "sd15"])
def test_kept_keys_and_values_leave_the_latents_bit_for_bit_the_same(name, request):
    pipe = request.getfixturevalue(name)
    before = draw(pipe)
    with cache_text(pipe) as kept:
        assert torch.equal(draw(pipe), before)
    assert {layer.computed for layer in kept} == {1}
    assert all(layer.reused >= 2 for layer in kept)
    assert not any("forward" in layer.__dict__ for layer in pipe.unet.modules())


def test_a_second_prompt_is_computed_anew(pocket):
    with cache_text(pocket):
        draw(pocket)
        other = pocket("a cat", num_inference_steps=2, generator=torch.Generator().manual_seed(0)).images[0]
    plain = pocket("a cat", num_inference_steps=2, generator=torch.Generator().manual_seed(0)).images[0]
    assert other.tobytes() == plain.tobytes()


def test_a_text_changed_in_place_is_computed_anew(pocket):
    text = torch.randn(1, 77, pocket.unet.config.cross_attention_dim)
    with cache_text(pocket) as kept, torch.no_grad():
        for _ in range(2):
            pocket.unet(torch.zeros(1, 4, 16, 16), 5, encoder_hidden_states=text)
            text.mul_(2)
    assert {layer.computed for layer in kept} == {2}


def test_the_layers_are_restored_after_an_error(pocket):
    with pytest.raises(KeyboardInterrupt), cache_text(pocket):
        raise KeyboardInterrupt
    assert not any("forward" in layer.__dict__ for layer in pocket.unet.modules())


def test_every_kernel_and_layout_gives_the_same_latents(pocket):
    before = draw(pocket)
    assert "math" in usable_kernels(pocket)
    for name in usable_kernels(pocket):
        with use_kernel(name):
            torch.testing.assert_close(draw(pocket), before, atol=1e-3, rtol=1e-3)
    with channels_last(pocket):
        torch.testing.assert_close(draw(pocket), before, atol=1e-3, rtol=1e-3)
    assert torch.equal(draw(pocket), before)


def test_a_copy_of_another_dtype_leaves_the_original_alone(pocket):
    copy = with_dtype(pocket, torch.bfloat16)
    assert (copy.unet.dtype, pocket.unet.dtype) == (torch.bfloat16, torch.float32)
    assert draw(copy, 1).isfinite().all()


@pytest.mark.slow
def test_the_newer_models_have_their_published_sizes():
    models = newer_models()
    counts = {name: model.parameters for name, model in models.items()}
    assert counts["SDXL"] == 2_567_463_684
    assert counts["SD 2.1"] == 865_910_724
    assert counts["FLUX.1 dev"] == 11_901_408_320
    assert models_table(models)["SD 3 medium"][:2] == ("transformer", "2.03 billion")


def test_the_parts_of_a_drawing_are_timed(pocket):
    with part_seconds(pocket) as spent:
        pocket(PROMPT, num_inference_steps=2)
    assert all(value > 0 for value in spent.values())
    assert max(spent, key=spent.get) == "unet"
    assert not pocket.unet._forward_hooks


def test_turns_are_taken_and_the_first_round_is_dropped():
    said = []
    found = take_turns({"a": lambda: said.append("a"), "b": lambda: said.append("b")}, rounds=3)
    assert said == ["a", "b", "b", "a", "a", "b"]
    median, low, high = found["a"]
    assert low <= median <= high
    with pytest.raises(SdlabError, match="rounds=1"):
        take_turns({}, rounds=1)


def test_a_longer_call_takes_more_seconds():
    matrix = torch.ones(300, 300)
    assert seconds(lambda: [matrix @ matrix for _ in range(20)]) > seconds(lambda: None)


def test_the_meter_sees_memory_that_is_taken():
    with Meter("cpu") as little:
        pass
    with Meter("cpu") as much:
        torch.ones(30_000_000)
    if little.peak is None:
        pytest.skip("this system does not tell a process its peak")
    assert much.peak > little.peak + 60e6


def test_the_stored_measurement_is_complete():
    result = read_measured("cpu")
    assert result["weights"] == "random"
    assert result["flops_unet_row"] == sizes_of("sd15").flops["unet"]
    assert {"float32", "bfloat16", "attention recorded"} <= {row["variant"] for row in result["rows_measured"]}
    kept = next(row for row in result["rows_measured"] if "text kept" in row["variant"])
    assert kept["difference"] == 0
    first = result["rows_measured"][0]
    assert picture_seconds(result, first) > 50 * first["seconds_call"]
    assert first["variant"] in repr(measured_table(result))
    assert result["date"] in describe(result)


def test_what_was_not_measured_says_how_to_measure_it(tmp_path):
    assert read_measured("cuda", folder=tmp_path) is None
    assert "full_size.py" in describe(None)
    with pytest.raises(SdlabError, match="no kind of device"):
        read_measured("gpu")


@pytest.mark.slow
def test_the_benchmark_runs_to_its_end_at_reduced_size(tmp_path, capsys):
    import full_size

    options = ["--size", "reduced", "--device", "cpu", "--steps", "2", "--repeats", "1", "--pictures"]
    file = full_size.main([*options, "--out", str(tmp_path)])
    result = json.loads(file.read_text())
    rows = {row["variant"]: row for row in result["rows_measured"]}
    assert {"float32", "channels_last", "attention recorded", "half the steps", "bfloat16"} <= set(rows)
    assert rows["keys and values of the text kept"]["difference"] == 0
    assert all(row["seconds_picture"] > 0 for row in rows.values())
    assert result["parts"]["unet"] > 0
    assert read_measured("cpu", folder=tmp_path) is None  # a reduced size is not taken for the full one
    assert file.with_suffix(".md").read_text().strip() == capsys.readouterr().out.strip() == to_markdown(result)


def test_a_table_shows_itself_as_text_and_as_escaped_html():
    table = Table(("", "a"), [("x < y", "1")])
    assert repr(table).splitlines()[1].startswith("x < y")
    assert "x &lt; y" in table._repr_html_()
    assert table["x < y"] == ("1",)


def test_every_figure_says_what_it_shows(pocket, full):
    small = sizes_of(pocket, name="pocket")
    work = dict.fromkeys((256, 512), full.kinds)
    spent = {"here": {"text_encoder": 1.0, "unet": 300.0, "vae": 2.0}}
    figures = [
        plot_ratios(small, full, alt="ratios of sizes"),
        plot_work(work, chosen=512, alt="work by kind"),
        plot_parts(spent, alt="shares of time"),
        plot_options({"plain": (2.0, 1.0, 3.0), "other": (1.0, 1.0, 1.0)}, alt="seconds by option"),
        plot_flow_paths([0.99, 0.7, 0.1], [0.14, 0.71, 0.99], alt="two paths"),
    ]
    assert all(figure.alt and len(figure.to_base64()) > 1000 for figure in figures)
    assert "859,520,964" in repr(size_table(small, full))
