"""What lesson 11 measures: where each way of steering enters, what is left of a hint, and its figures."""

from copy import deepcopy

import numpy as np
import pytest
import torch
from PIL import Image

from sdcourse.judging.intervals import mean_interval
from sdcourse.lessons.charts import plot_curves, plot_rates, plot_strips
from sdcourse.lessons.lesson_11 import (
    FEATURES,
    READ,
    WEIGHTS,
    Portraits,
    adapters_for,
    agreements,
    draw_along,
    entries,
    examine,
    hint_for,
    hint_signal,
    keep_rank,
    new_controlnet,
    only,
)
from sdcourse.lessons.lesson_11_figures import plot_learning
from sdcourse.portraits import plan_momo, plan_portrait
from sdlab import SdlabError
from sdlab.drawing import DEFAULT_GUIDANCE
from sdlab.figures import picture_table
from sdlab.instruments import count_flops
from sdlab.steering import SHIPPED, Hypernetwork, add_lora, use_controlnet, use_hypernetwork, use_lora


@pytest.fixture(scope="module")
def adapters(pocket):
    return adapters_for(pocket, SHIPPED)


@pytest.fixture(scope="module")
def embeds(pocket):
    return pocket.encode_prompt("a cat", "cpu", 1, False)[0].detach()


@pytest.fixture(scope="module")
def hint(pocket):
    return hint_for(pocket, plan_momo(2000))


def test_the_shipped_adapters_fit_the_pocket_model(adapters):
    assert adapters.trained and adapters.lora == SHIPPED["lora"]


def test_a_model_of_other_shapes_gets_new_adapters_that_change_its_prediction(sd15, capsys):
    found = adapters_for(sd15, SHIPPED)
    assert not found.trained and "random numbers" in capsys.readouterr().out
    embeds = torch.randn(1, 77, sd15.unet.config.cross_attention_dim, generator=torch.Generator().manual_seed(0))
    latents = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(1))

    @torch.no_grad()
    def call():
        return sd15.unet(latents, 300, encoder_hidden_states=embeds).sample

    before = call()
    blank = Image.new("RGB", (128, 128))
    for attached in (
        use_lora(sd15, found.lora),
        use_hypernetwork(sd15, found.hypernetwork),
        use_controlnet(sd15, found.controlnet, blank),
    ):
        with attached:
            assert not torch.equal(call(), before)
    assert torch.equal(call(), before)


def test_each_way_enters_at_one_place_and_leaves_the_other_two(pocket, adapters, embeds, hint):
    ways = {
        READ: use_hypernetwork(pocket, adapters.hypernetwork),
        WEIGHTS: use_lora(pocket, adapters.lora),
        FEATURES: use_controlnet(pocket, adapters.controlnet, hint),
    }
    for place, attached in ways.items():
        with attached:
            assert {name for name, change in entries(pocket, embeds).items() if change > 0} == {place}
    assert set(entries(pocket, embeds).values()) == {0.0}


def test_looking_where_adapters_enter_leaves_no_hook(pocket, embeds):
    entries(pocket, embeds)
    with pytest.raises(RuntimeError):
        entries(pocket, embeds[..., :5])
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in pocket.unet.modules())


def test_a_controlnet_adds_arithmetic_and_a_lora_next_to_none(pocket, adapters, embeds, hint):
    def call():
        pocket.unet(torch.zeros(1, 4, 16, 16), 5, encoder_hidden_states=embeds)

    base = sum(count_flops(call, device=None).values())
    with use_lora(pocket, adapters.lora):
        assert 1 < sum(count_flops(call, device=None).values()) / base < 1.25
    with use_controlnet(pocket, adapters.controlnet, hint):
        assert sum(count_flops(call, device=None).values()) / base > 1.4


def test_half_of_a_batch_is_momo_and_the_same_seed_gives_the_same_batch(pocket):
    portraits = Portraits(pocket, momo=3, ordinary=3)
    first, second = (portraits.batch(4, torch.Generator().manual_seed(0)) for _ in range(2))
    assert torch.equal(first[0], second[0]) and torch.equal(first[1], second[1])
    assert first[0].shape == (4, 4, 16, 16) and first[1].shape == (4, 77, 128)
    where = [int((portraits.latents - row).abs().flatten(1).sum(dim=1).argmin()) for row in first[0]]
    assert sum(index < 3 for index in where) == 2
    assert len(Portraits(pocket, momo=2, ordinary=0).batch(3, torch.Generator())[0]) == 3


def test_cutting_to_the_full_rank_changes_nothing_and_rank_one_leaves_rank_one(pocket, adapters):
    name = "mid_block.attentions.0.transformer_blocks.0.attn2.to_v"

    def product():
        layer = pocket.unet.get_submodule(name)
        return layer.lora_B["lora"].weight.detach() @ layer.lora_A["lora"].weight.detach()

    with use_lora(pocket, adapters.lora):
        before = product()
        keep_rank(pocket, len(pocket.unet.get_submodule(name).lora_A["lora"].weight))
        torch.testing.assert_close(product(), before, atol=1e-5, rtol=1e-4)
        keep_rank(pocket, 1)
        values = torch.linalg.svdvals(product())
        torch.testing.assert_close(values[0], torch.linalg.svdvals(before)[0], atol=1e-5, rtol=1e-4)
        assert values[1] < 1e-5 * values[0]
    with pytest.raises(SdlabError, match="no LoRA to cut down"):
        keep_rank(pocket, 1)


def test_a_hypernetwork_for_values_leaves_keys_alone_and_the_original_as_it_was(adapters):
    before = deepcopy(adapters.hypernetwork.state_dict())
    values = only(adapters.hypernetwork, "v")
    context = torch.randn(1, 3, 128)
    assert values.kinds == ("attn2",)
    assert torch.equal(values.layers["128"]["k"](context), context)
    assert not torch.equal(values.layers["128"]["v"](context), context)
    assert all(torch.equal(value, before[name]) for name, value in adapters.hypernetwork.state_dict().items())


def test_torch_s_usual_weights_lose_the_hint_and_those_of_he_keep_it(pocket, hint):
    from diffusers import ControlNetModel

    torch.manual_seed(0)
    usual = hint_signal(
        ControlNetModel.from_unet(pocket.unet, conditioning_embedding_out_channels=(16, 32, 64, 64)), hint
    )
    better = hint_signal(new_controlnet(pocket), hint)
    assert len(usual) == len(better) == 8 and usual[0] == better[0]
    assert usual[-1] < 0.003 * usual[0] and better[-1] > 0.02 * better[0]


def test_drawing_along_hints_in_a_batch_equals_drawing_them_one_by_one(pocket, adapters, hint):
    other = hint_for(pocket, plan_portrait(7), figure=True)
    both = draw_along(pocket, adapters.controlnet, ["a cat", "a man"], [hint, other], num_inference_steps=2)
    for index, (text, own) in enumerate((("a cat", hint), ("a man", other))):
        with use_controlnet(pocket, adapters.controlnet, own):
            generator = torch.Generator().manual_seed(index)
            alone = pocket(text, num_inference_steps=2, guidance_scale=DEFAULT_GUIDANCE, generator=generator).images[0]
        difference = np.abs(np.asarray(alone, int) - np.asarray(both[index], int))
        assert difference.max() <= 1


def test_an_examination_counts_what_it_says(pocket):
    found = examine(pocket, 2, num_inference_steps=2)
    assert found.momo["n"] == found.strangers["n"] == len(found.pictures) == 2
    assert found.ordinary["n"] == 10  # five named attributes each


def test_agreement_and_interval_of_known_pictures(hint):
    assert agreements([hint.convert("L").point(lambda value: 0).convert("RGB")], [hint])[0] == 0
    mean, low, high = mean_interval([1.0, 2.0, 3.0])
    assert mean == 2 and high - mean == pytest.approx(mean - low) == pytest.approx(1.96 / 3**0.5)


def test_a_hint_has_the_size_that_is_drawn_and_only_black_and_white(pocket, hint):
    assert hint.size == (128, 128) and set(np.unique(np.asarray(hint))) == {0, 255}


def test_every_row_of_a_picture_table_needs_its_columns():
    pictures = [Image.new("RGB", (8, 8))] * 2
    figure = picture_table(
        {"a": pictures, "b": pictures}, ["1", "2"], alt="four black squares", notes={"a": ["x", "y"]}
    )
    assert len(figure.axes) == 4 and {text.get_text() for text in figure.texts} >= {"a", "b", "x", "y"}
    with pytest.raises(SdlabError, match="must have 3 pictures"):
        picture_table({"a": pictures}, ["1", "2", "3"], alt="two black squares")


def test_the_figures_show_what_they_are_given():
    rate = {"share": 0.5, "n": 10, "interval": [0.2, 0.8]}
    rates = plot_rates({"one": {"a": rate, "b": rate}}, alt="two bars of one half")
    assert [bar.get_height() for bar in rates.axes[0].patches] == [0.5, 0.5]
    learning = plot_learning([3.0, 1.0], [2.0, 1.5, 1.0], every=1, alt="two falling curves")
    assert list(learning.axes[1].lines[0].get_xdata()) == [0, 1, 2]
    curves = plot_curves([1, 2], {"a": [1.0, 0.1]}, alt="one falling curve", xlabel="x", ylabel="y", log="y")
    assert curves.axes[0].get_yscale() == "log" and list(curves.axes[0].lines[0].get_xdata()) == [1, 2]
    groups = {"with": np.array([0.5, 0.7]), "without": np.array([0.1, 0.2])}
    dots = plot_strips(groups, alt="two rows of dots", xlabel="F1", interval=True)
    assert [label.get_text() for label in dots.axes[0].get_yticklabels()] == ["with", "without"]


def test_a_new_lora_can_be_trained_on_the_portraits_in_a_few_steps(pocket):
    portraits, generator = Portraits(pocket, momo=2, ordinary=2), torch.Generator().manual_seed(0)
    latents, embeds = portraits.batch(2, generator)
    noise, t = torch.randn(latents.shape, generator=generator), torch.tensor([200, 700])
    noisy = pocket.scheduler.add_noise(latents, noise, t)

    def loss():
        return (pocket.unet(noisy, t, encoder_hidden_states=embeds).sample - noise).square().mean()

    try:
        torch.manual_seed(0)
        optimizer = torch.optim.Adam(add_lora(pocket).values(), lr=8e-3)
        losses = []
        for _ in range(5):
            optimizer.zero_grad()
            losses.append(loss())
            losses[-1].backward()
            optimizer.step()
        assert losses[-1] < losses[0]
    finally:
        pocket.unload_lora_weights()


def test_the_pair_for_each_width_has_four_d_squared_and_three_d_numbers(pocket):
    for name, pair in Hypernetwork.for_unet(pocket.unet, ("attn1", "attn2")).layers.items():
        d = int(name.removesuffix("_features"))
        assert sum(value.numel() for value in pair.parameters()) == 2 * (4 * d * d + 3 * d)
