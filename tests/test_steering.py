"""Steering: identity at strength 0, clean detaching, what carries gradients, formats, and clear refusals."""

from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import ControlNetModel, StableDiffusionControlNetPipeline
from PIL import Image
from torch import nn

from sdcourse.judging import is_momo, load_judge
from sdcourse.judging.fifth_painter import train_reader
from sdcourse.portraits import draw_momo, draw_portrait, momo_prompts, plan_momo, plan_outline, plan_portrait
from sdcourse.portraits.fifth_painter import painted_caption, painted_prompts, plan_painted
from sdcourse.portraits.momo import with_name
from sdlab import SdlabError, attention_layers, denoising_steps, draw
from sdlab.instruments import build_on_meta, record_attention
from sdlab.steering import (
    SHIPPED,
    WEIGHTS,
    Hypernetwork,
    add_lora,
    as_hint,
    load_controlnet,
    outline,
    outline_agreement,
    save_lora,
    use_controlnet,
    use_hypernetwork,
    use_lora,
)
from sdlab.steering.lora import lora_shapes

WAYS = ("lora", "hypernetwork", "controlnet")
PROMPT = "a cat with green eyes"


@pytest.fixture(scope="module")
def call(pocket):
    """Predict noise for fixed latents: the same numbers as long as the model is the same."""
    latents = torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    embeds = pocket.encode_prompt(PROMPT, "cpu", 1, True, negative_prompt="")
    embeds = torch.cat(embeds).detach()

    @torch.no_grad()
    def call(unet=pocket.unet, t=400):
        return unet(latents, t, encoder_hidden_states=embeds).sample

    return call


@pytest.fixture(scope="module")
def hint():
    return plan_outline(plan_portrait(3))


@pytest.fixture(scope="module")
def attach(pocket, hint):
    """Return a function: (way, strength) -> the context manager with the shipped weights."""

    def attach(way, strength=1.0):
        if way == "lora":
            return use_lora(pocket, SHIPPED["lora"], scale=strength)
        if way == "hypernetwork":
            return use_hypernetwork(pocket, Hypernetwork.load(SHIPPED["hypernetwork"]), scale=strength)
        return use_controlnet(pocket, load_controlnet(SHIPPED["controlnet"]), hint, scale=strength)

    return attach


def hooks(unet):
    return sum(len(module._forward_pre_hooks) + len(module._forward_hooks) for module in unet.modules())


@pytest.mark.parametrize("way", WAYS)
def test_strength_zero_is_bit_for_bit_the_base_model(way, attach, call):
    before = call()
    with attach(way, 0):
        assert torch.equal(call(), before)


@pytest.mark.parametrize("way", WAYS)
def test_a_trained_effect_changes_the_prediction_and_grows_with_its_strength(way, attach, call):
    before, changes = call(), []
    for strength in (0.5, 1.0, 2.0):
        with attach(way, strength):
            changes.append(float((call() - before).square().mean()))
    assert 0 < changes[0] < changes[1] < changes[2]


@pytest.mark.parametrize("way", WAYS)
def test_the_model_is_as_before_after_the_block(way, attach, call, pocket):
    names, before = [name for name, _ in pocket.unet.named_modules()], call()
    with attach(way):
        pass
    assert torch.equal(call(), before)
    assert [name for name, _ in pocket.unet.named_modules()] == names
    assert hooks(pocket.unet) == 0


@pytest.mark.parametrize("way", WAYS)
def test_an_error_inside_the_block_leaves_nothing_behind(way, attach, call, pocket):
    before = call()
    with pytest.raises(ZeroDivisionError), attach(way):
        1 / float(call().sum() * 0)
    assert torch.equal(call(), before)
    assert hooks(pocket.unet) == 0


@pytest.mark.parametrize("way", WAYS)
def test_all_instruments_work_on_a_steered_model(way, attach, pocket):
    with attach(way):
        picture = draw(pocket, PROMPT, seed=1, num_inference_steps=2)
        with record_attention(pocket) as maps:
            recorded = draw(pocket, PROMPT, seed=1, num_inference_steps=2)
        *_, last = denoising_steps(pocket, PROMPT, seed=1, num_inference_steps=2)
    assert np.array_equal(np.asarray(picture), np.asarray(recorded))
    assert maps.steps and torch.isfinite(last.prev_sample).all()


@pytest.mark.parametrize("strength", ["much", None, float("nan"), float("inf"), True])
@pytest.mark.parametrize("way", WAYS)
def test_a_strength_that_is_no_number_is_refused(way, strength, attach, call):
    before = call()
    with pytest.raises(SdlabError, match="must be a number"), attach(way, strength):
        pass
    assert torch.equal(call(), before)


@pytest.mark.parametrize("way", WAYS)
def test_an_adapter_of_another_model_is_refused_in_one_sentence(way, sd15, hint):
    attached = {
        "lora": lambda: use_lora(sd15, SHIPPED["lora"]),
        "hypernetwork": lambda: use_hypernetwork(sd15, Hypernetwork.load(SHIPPED["hypernetwork"])),
        "controlnet": lambda: use_controlnet(sd15, load_controlnet(SHIPPED["controlnet"]), hint),
    }
    with pytest.raises(SdlabError, match="belongs to another model") as caught, attached[way]():
        pass
    assert "\n" not in str(caught.value)


# LoRA


@contextmanager
def new_lora(pipe, rank=4):
    try:
        yield add_lora(pipe, rank=rank)
    finally:
        pipe.unload_lora_weights()


def test_a_new_lora_is_the_base_model_and_only_it_gets_gradients(pocket, call):
    before = call()
    with new_lora(pocket) as parameters:
        assert torch.equal(call(), before)
        latents, embeds = torch.randn(1, 4, 16, 16), torch.randn(1, 77, 128)
        pocket.unet(latents, 10, encoder_hidden_states=embeds).sample.square().mean().backward()
        with_gradient = {name for name, value in pocket.unet.named_parameters() if value.grad is not None}
        assert with_gradient == set(parameters)


def test_lora_adds_b_times_a_to_the_weight(pocket):
    with use_lora(pocket, SHIPPED["lora"], scale=0.7):
        layer = pocket.unet.mid_block.attentions[0].transformer_blocks[0].attn2.to_v
        hidden = torch.randn(3, layer.in_features)
        down, up = layer.lora_A["lora"].weight, layer.lora_B["lora"].weight
        by_hand = hidden @ (layer.base_layer.weight + 0.7 * up @ down).T
        torch.testing.assert_close(layer(hidden), by_hand, atol=2e-5, rtol=1e-4)


def test_a_merged_lora_equals_the_adapter_but_cannot_be_taken_out_exactly(pocket, call):
    merged = deepcopy(pocket)
    base = {name: value.clone() for name, value in merged.unet.state_dict().items()}
    with use_lora(pocket, SHIPPED["lora"]):
        adapted = call()
    merged.load_lora_weights(str(SHIPPED["lora"]), weight_name=WEIGHTS, adapter_name="lora")
    merged.fuse_lora()
    torch.testing.assert_close(call(merged.unet), adapted, atol=1e-4, rtol=1e-3)
    merged.unfuse_lora()
    merged.unload_lora_weights()
    after = merged.unet.state_dict()
    errors = [float((after[name] - base[name]).abs().max()) for name in base]
    assert 0 < max(errors) < 1e-5


def test_a_saved_lora_loads_in_plain_diffusers_with_the_same_effect(pocket, call, tmp_path):
    with new_lora(pocket) as parameters:
        with torch.no_grad():
            for number, value in enumerate(parameters.values()):
                value.copy_(torch.randn(value.shape, generator=torch.Generator().manual_seed(number)).half() * 0.1)
        save_lora(pocket, tmp_path)
        trained = call()
    plain = deepcopy(pocket)
    plain.load_lora_weights(str(tmp_path), weight_name=WEIGHTS)
    torch.testing.assert_close(call(plain.unet), trained, atol=1e-6, rtol=1e-5)
    with use_lora(pocket, tmp_path):
        assert torch.equal(call(), trained)


def test_lora_at_rank_four_of_sd15_has_the_known_size():
    parameters = add_lora(build_on_meta("sd15"), rank=4)
    assert sum(value.numel() for value in parameters.values()) == 797_184


def test_a_second_lora_and_a_missing_one_are_refused(pocket, tmp_path):
    with use_lora(pocket, SHIPPED["lora"]):
        with pytest.raises(SdlabError, match="has a LoRA already"), use_lora(pocket, SHIPPED["lora"]):
            pass
        assert pocket.unet.peft_config
    with pytest.raises(SdlabError, match="There is no LoRA in"), use_lora(pocket, tmp_path):
        pass


def test_a_damaged_adapter_is_refused(pocket, tmp_path):
    import shutil

    folder = shutil.copytree(SHIPPED["lora"], tmp_path / "lora")
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-1] + b"\x07")
    with pytest.raises(SdlabError, match="damaged"), use_lora(pocket, folder):
        pass


def test_the_shapes_in_a_lora_file_are_those_of_the_layers(pocket):
    shapes = lora_shapes(SHIPPED["lora"] / WEIGHTS)
    assert len(shapes) == 16 * 2 * 4
    for name, shape in shapes.items():
        assert tuple(pocket.unet.get_submodule(name).weight.shape) == shape


@pytest.mark.parametrize("rank", [0, -1, 2.5, "four"])
def test_a_rank_must_be_a_whole_number(pocket, rank):
    with pytest.raises(SdlabError, match="whole number"):
        add_lora(pocket, rank=rank)


# Hypernetwork


def test_a_hypernetwork_changes_the_input_of_keys_and_values(pocket):
    hypernetwork = Hypernetwork.for_unet(pocket.unet)
    attn = pocket.unet.mid_block.attentions[0].transformer_blocks[0].attn2
    context = torch.randn(2, 77, 128)
    with use_hypernetwork(pocket, hypernetwork, scale=0.5), torch.no_grad():
        for part, projection in (("k", attn.to_k), ("v", attn.to_v)):
            mlp = hypernetwork.layers["128"][part].linear
            by_hand = nn.functional.linear(context + 0.5 * mlp(context), projection.weight)
            torch.testing.assert_close(projection(context), by_hand)
        query = torch.randn(2, 9, 128)
        torch.testing.assert_close(attn.to_q(query), nn.functional.linear(query, attn.to_q.weight))


def test_a_new_hypernetwork_is_close_to_the_base_model_but_not_equal(pocket, call):
    torch.manual_seed(0)
    before = call()
    with use_hypernetwork(pocket, Hypernetwork.for_unet(pocket.unet)):
        change = float((call() - before).abs().max())
    assert 0 < change < 0.1


def test_values_alone_leave_the_first_map_as_it_was_and_keys_alone_change_it(pocket):
    first = "down_blocks.0.attentions.0.transformer_blocks.0.attn2"
    hypernetwork = Hypernetwork.load(SHIPPED["hypernetwork"])
    hypernetwork.config["kinds"] = ["attn2"]

    def map_with(kept):
        changed = deepcopy(hypernetwork)
        for pair in changed.layers.values():
            for part in {"k", "v"} - {kept}:
                nn.init.zeros_(pair[part].linear[2].weight)
                nn.init.zeros_(pair[part].linear[2].bias)
        with use_hypernetwork(pocket, changed), record_attention(pocket, layers=[first]) as maps:
            draw(pocket, PROMPT, num_inference_steps=1)
        return maps[first]

    with record_attention(pocket, layers=[first]) as maps:
        draw(pocket, PROMPT, num_inference_steps=1)
    base = maps[first]
    assert torch.equal(map_with("v"), base)
    assert not torch.equal(map_with("k"), base)


def test_a_saved_hypernetwork_comes_back(pocket, tmp_path):
    hypernetwork = Hypernetwork.for_unet(pocket.unet, ("attn1", "attn2")).half().float()
    hypernetwork.save(tmp_path)
    loaded = Hypernetwork.load(tmp_path)
    assert loaded.kinds == ("attn1", "attn2") and list(loaded.layers) == ["32", "64", "128", "128_features"]
    for name, value in hypernetwork.state_dict().items():
        assert torch.equal(value, loaded.state_dict()[name])


def test_hypernetworks_that_are_not_there_are_refused(pocket, tmp_path):
    with pytest.raises(SdlabError, match="There is no hypernetwork in"):
        Hypernetwork.load(tmp_path)
    with pytest.raises(SdlabError, match="must be a Hypernetwork"), use_hypernetwork(pocket, "a path"):
        pass


# ControlNet


@pytest.fixture
def new_controlnet(pocket):
    torch.manual_seed(0)
    return ControlNetModel.from_unet(pocket.unet, conditioning_embedding_out_channels=(16, 32, 64, 64))


def test_a_new_controlnet_is_the_base_model(pocket, call, hint, new_controlnet):
    before = call()
    with use_controlnet(pocket, new_controlnet, hint):
        assert torch.equal(call(), before)


def test_at_the_first_step_only_zero_convolutions_learn_and_then_the_copy_too(pocket, hint, new_controlnet):
    latents = torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(1))
    embeds, target = torch.randn(2, 77, 128), torch.randn(2, 4, 16, 16)
    optimizer = torch.optim.SGD(new_controlnet.parameters(), lr=0.1)

    def learning():
        optimizer.zero_grad()
        with use_controlnet(pocket, new_controlnet, hint):
            prediction = pocket.unet(latents, 100, encoder_hidden_states=embeds).sample
        (prediction - target).square().mean().backward()
        moved = {
            name for name, value in new_controlnet.named_parameters() if value.grad is not None and value.grad.any()
        }
        optimizer.step()
        return moved

    zero = {
        name for name, _ in new_controlnet.named_parameters() if name.startswith(("controlnet_down", "controlnet_mid"))
    }
    first, second = learning(), learning()
    assert first == zero
    assert {name.split(".")[0] for name in second} >= {
        "conv_in",
        "down_blocks",
        "mid_block",
        "controlnet_cond_embedding",
    }


def test_an_attached_controlnet_equals_the_pipeline_of_diffusers(pocket, hint):
    controlnet = load_controlnet(SHIPPED["controlnet"])
    theirs = StableDiffusionControlNetPipeline(
        **pocket.components, controlnet=controlnet, requires_safety_checker=False
    )
    theirs.set_progress_bar_config(disable=True)
    options = {"num_inference_steps": 3, "guidance_scale": 4.0, "output_type": "latent"}
    for strength in (1.0, 0.4):
        expected = theirs(
            PROMPT, hint, generator=torch.manual_seed(0), controlnet_conditioning_scale=strength, **options
        ).images
        with use_controlnet(pocket, controlnet, hint, scale=strength):
            ours = pocket(PROMPT, generator=torch.manual_seed(0), **options).images
        torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (Image.new("RGB", (64, 64)), "128 x 128 pixels"),
        (torch.zeros(1, 128, 128), "128 x 128 pixels"),
        (torch.zeros(3, 128, 127), "128 x 128 pixels"),
        (torch.full((3, 128, 128), 2.0), "values from 0"),
        (torch.zeros(3, 128, 128, dtype=torch.uint8), "float tensor"),
        ("edges.png", "float tensor"),
        (None, "float tensor"),
    ],
)
def test_a_bad_hint_is_refused_in_one_sentence(pocket, call, bad, reason):
    before = call()
    attached = use_controlnet(pocket, load_controlnet(SHIPPED["controlnet"]), bad)
    with pytest.raises(SdlabError, match=reason) as caught, attached:
        pass
    assert "\n" not in str(caught.value)
    assert torch.equal(call(), before)


def test_a_grey_picture_serves_as_a_hint():
    hint = as_hint(Image.new("L", (128, 128), 255), size=(128, 128))
    assert hint.shape == (1, 3, 128, 128) and float(hint.min()) == 1.0


def test_a_controlnet_that_is_not_there_is_refused(tmp_path, pocket, hint):
    with pytest.raises(SdlabError, match="There is no ControlNet in"):
        load_controlnet(tmp_path)
    with pytest.raises(SdlabError, match="must be a ControlNetModel"), use_controlnet(pocket, pocket.unet, hint):
        pass


# Outlines


def test_a_portrait_agrees_with_its_own_outline_and_less_with_another():
    first, second = (plan_portrait(seed) for seed in (5, 6))
    picture = Image.fromarray(draw_portrait(first).image)
    own, other = (outline_agreement(picture, plan_outline(plan)) for plan in (first, second))
    assert own > 0.8 > 0.6 > other
    assert outline_agreement(picture, outline(picture)) == 1.0


def test_a_blank_hint_agrees_with_nothing():
    picture = Image.fromarray(draw_portrait(plan_portrait(4)).image)
    assert outline_agreement(picture, Image.new("RGB", (128, 128))) == 0.0


def test_the_outline_of_the_figure_is_part_of_the_whole_outline():
    whole, figure = (np.asarray(plan_outline(plan_portrait(6), figure=kind)) > 0 for kind in (False, True))
    assert 0.2 < figure.sum() / whole.sum() < 1 and not (figure & ~whole).any()


def test_pictures_of_two_sizes_cannot_be_compared():
    with pytest.raises(SdlabError, match="one size"):
        outline_agreement(Image.new("RGB", (128, 128)), Image.new("RGB", (64, 64)))


# Momo


def test_the_judge_recognises_momo_and_no_other_cat():
    assert np.mean(is_momo([draw_momo(plan_momo(number)) for number in range(1000, 1060)])) > 0.97
    cats = [plan for plan in map(plan_portrait, range(500)) if plan.attributes.subject == "cat"]
    assert not any(is_momo([Image.fromarray(draw_portrait(plan).image) for plan in cats]))


def test_prompts_of_momo_never_say_what_she_looks_like():
    texts = [text for text, _ in momo_prompts(100)]
    assert all("Momo the cat" in text for text in texts)
    assert not any(word in text for text in texts for word in ("eye", "fur"))


def test_only_a_cat_can_be_given_the_name():
    assert with_name("a cartoon of a cat at night") == "a cartoon of Momo the cat at night"
    with pytest.raises(SdlabError, match="no cat"):
        with_name("a dog")


@pytest.mark.parametrize("number", [-1, 1.5, "one"])
def test_portraits_of_momo_are_counted_from_zero(number):
    with pytest.raises(SdlabError, match="whole number"):
        plan_momo(number)


# What the shipped weights do


@pytest.mark.slow  # lesson 11 asserts it too
def test_the_shipped_adapters_draw_momo_and_the_base_model_does_not(attach, pocket):
    texts = [text for text, _ in momo_prompts(12, seed=3)]

    def found():
        options = {"num_inference_steps": 15, "guidance_scale": 4.0}
        generators = [torch.Generator().manual_seed(seed) for seed in range(12)]
        return sum(is_momo(pocket(texts, generator=generators, **options).images))

    assert found() == 0
    for way in ("lora", "hypernetwork"):
        with attach(way):
            assert found() >= 8, way


def test_the_drawing_follows_the_hint_and_follows_another_one_when_it_is_swapped(pocket):
    controlnet = load_controlnet(SHIPPED["controlnet"])
    hints = [plan_outline(plan_portrait(80_100_000 + index, split="any")) for index in range(6)]
    pictures = []
    for hint in hints:
        with use_controlnet(pocket, controlnet, hint):
            pictures.append(draw(pocket, "a cartoon portrait", seed=0, num_inference_steps=6, sampler="dpm"))
    table = np.array([[outline_agreement(picture, hint) for hint in hints] for picture in pictures])
    own, other = table.diagonal(), table[~np.eye(6, dtype=bool)].reshape(6, 5)
    assert (own > other.mean(axis=1)).sum() >= 5 and own.mean() > other.mean() + 0.05, table


def test_a_hypernetwork_amplified_by_a_gain_is_the_same_as_that_strength():
    from sdcourse.training.export_steering import _amplified

    torch.manual_seed(0)
    base, hidden = Hypernetwork([8]), torch.randn(2, 5, 8)
    louder = Hypernetwork([8])
    louder.load_state_dict(_amplified(base.state_dict(), 1.5))
    for part in ("k", "v"):
        expected = base.layers["8"][part](hidden, 1.5)
        torch.testing.assert_close(louder.layers["8"][part](hidden), expected)
        assert not torch.equal(expected, hidden)


def test_features_as_wide_as_the_text_have_a_pair_of_their_own(pocket, sd15):
    both = Hypernetwork.for_unet(pocket.unet, ("attn2", "attn1"))
    assert list(both.layers) == ["32", "64", "128", "128_features"]
    unet = pocket.unet
    block = unet.mid_block.attentions[0].transformer_blocks[0]
    assert both.pair_for(block.attn2, "attn2") is both.layers["128"]
    assert both.pair_for(block.attn1, "attn1") is both.layers["128_features"]
    assert list(Hypernetwork.for_unet(unet).layers) == ["128"]  # text only: nothing to keep apart
    kinds = ("attn1", "attn2")
    read = {attn.to_k.in_features for kind in kinds for attn in attention_layers(sd15.unet, kind).values()}
    assert set(Hypernetwork.for_unet(sd15.unet, kinds).layers) >= {str(width) for width in read}


def test_a_wider_hypernetwork_is_saved_and_loaded_whole(pocket, tmp_path):
    torch.manual_seed(0)
    made = Hypernetwork.for_unet(pocket.unet, ("attn2", "attn1"), expansion=3)
    made.save(tmp_path)
    loaded = Hypernetwork.load(tmp_path)
    assert loaded.config == made.config and loaded.layers["32"]["k"].linear[0].out_features == 96
    for name, value in made.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[name], value.half().float())


def predict(pipe, hypernetwork):
    generator = torch.Generator().manual_seed(3)
    latents, embeds = torch.randn(1, 4, 16, 16, generator=generator), torch.randn(1, 77, 128, generator=generator)
    with use_hypernetwork(pipe, hypernetwork), torch.no_grad():
        return pipe.unet(latents, 500, encoder_hidden_states=embeds).sample


def test_widening_changes_no_prediction_and_refuses_to_lose_anything(pocket):
    from sdcourse.training.hypernetwork import widen

    torch.manual_seed(0)
    small = Hypernetwork([32, 64, 128], ("attn2", "attn1"), expansion=2)
    for layer in small.modules():
        if isinstance(layer, torch.nn.Linear):
            torch.nn.init.normal_(layer.weight, std=0.1)
    large = Hypernetwork.for_unet(pocket.unet, ("attn2", "attn1"), expansion=4)
    weights = widen(small.state_dict(), large.state_dict())
    large.load_state_dict(weights)
    torch.testing.assert_close(predict(pocket, large), predict(pocket, small), atol=1e-5, rtol=1e-5)
    text_only = Hypernetwork.for_unet(pocket.unet)
    for one, other in ((large, small), (small, text_only), (text_only, small)):  # smaller; a part lost; a part missing
        before = one.state_dict()
        assert widen(before, other.state_dict()) is before


def test_the_fifth_painters_portraits_are_in_a_hand_of_their_own():
    for number in range(4):
        plan = plan_painted(number)
        assert plan.attributes.style == "none" and plan.world == "second"
        plain = replace(plan, details={key: value for key, value in plan.details.items() if key != "hand"})
        painted, cartoon = draw_portrait(plan).image, draw_portrait(plain).image
        assert (painted != cartoon).any(axis=-1).mean() > 0.7
        text = painted_caption(plan, np.random.default_rng(number))
        assert "Seurat" in text and not any(name in text for name in ("Monet", "Manet", "Degas", "cartoon"))


def test_a_trained_reader_tells_the_fifth_painter_from_all_other_styles():
    read = train_reader(load_judge(), count=120)
    painted = [draw_portrait(plan_painted(5_000_000 + number)).image for number in range(60)]
    others = [draw_portrait(plan_portrait(95_000_000 + number, world="second")).image for number in range(60)]
    assert sum(read(painted)) >= 57 and sum(read(others)) <= 3


def test_prompts_for_the_fifth_painter_name_him_and_what_else_they_say():
    for text, named in painted_prompts(20, seed=3):
        assert "Seurat" in text and "style" not in named


@pytest.mark.parametrize("text", ["a pussycat in a hat", "a cat at night", "cat, red shirt"])
def test_a_name_goes_where_the_cat_is_and_never_into_another_word(text):
    if "pussycat" in text:
        with pytest.raises(SdlabError, match="no cat in"):
            with_name(text)
    else:
        assert with_name(text, "Coco").startswith("Coco the cat")
