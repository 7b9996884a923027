"""Editing the attention does what the edit says, and nothing once it is over."""

import pytest
import torch
from peft import LoraConfig

from sdlab import SdlabError, attention_layers, token_positions
from sdlab.instruments import edit_attention, keep_maps, record_attention, scale_tokens
from sdlab.instruments.attention_edits import Place
from test_attention import PROMPT, count_hooks, latents_of
from tiny_pipeline import sd15_shaped

SWAPPED = "a man with grey eyes"


def unchanged(attention_probs, _place):
    return attention_probs


def same_noise(pipe, prompts, *, seed=7, num_inference_steps=3, **options):
    """Draw the prompts in one batch from the same noise."""
    generators = [torch.Generator().manual_seed(seed) for _ in prompts]
    return pipe(
        prompts, num_inference_steps=num_inference_steps, generator=generators, output_type="latent", **options
    ).images


def test_the_identity_gives_the_same_latents_up_to_rounding(pipe):
    plain = latents_of(pipe)
    with edit_attention(pipe, unchanged):
        edited = latents_of(pipe)
    torch.testing.assert_close(edited, plain, rtol=1e-3, atol=5e-4)


@pytest.mark.parametrize("way", ["sliced", "lora", "no guidance"])
def test_the_identity_holds_for_other_ways_to_run(tmp_path, way):
    pipe = sd15_shaped(tmp_path)
    if way == "lora":
        pipe.unet.add_adapter(LoraConfig(r=4, init_lora_weights=False, target_modules=["to_q", "to_v"]))
    if way == "sliced":
        pipe.enable_attention_slicing(1)
    options = {"guidance_scale": 1.0} if way == "no guidance" else {}
    before, plain = dict(pipe.unet.attn_processors), latents_of(pipe, **options)
    with edit_attention(pipe, unchanged):
        torch.testing.assert_close(latents_of(pipe, **options), plain, rtol=1e-3, atol=5e-4)
    assert all(processor is before[name] for name, processor in pipe.unet.attn_processors.items())


def test_fn_sees_the_conditional_rows_of_every_layer_and_step(pipe):
    seen = []

    def look(attention_probs, place):
        seen.append((place, attention_probs.shape))
        torch.testing.assert_close(attention_probs.sum(-1), torch.ones(attention_probs.shape[:-1]))
        return attention_probs

    with edit_attention(pipe, look), record_attention(pipe, reduce="none") as maps:
        latents_of(pipe, [PROMPT, "a cat"], height=128, width=192)
    assert len(seen) == len(maps.steps) * len(maps.layers)
    for place, shape in seen:
        height, width = maps[place.layer].shape[-2:]
        assert (place.height, place.width, place.steps) == (height, width, len(maps.steps))
        assert shape == (2, maps.heads[place.layer], height * width, 77)


def test_only_the_chosen_layers_are_edited(pipe):
    layers = set()
    with edit_attention(pipe, lambda probs, place: layers.add(place.layer) or probs, layers=["mid_block"]):
        latents_of(pipe)
    assert layers == {name for name in attention_layers(pipe.unet) if name.startswith("mid_block")}


def test_a_zeroed_column_is_an_edit_of_that_word_only(pipe):
    tokens = token_positions(pipe, PROMPT, "blue")
    edit, probabilities = scale_tokens(tokens), torch.rand(1, 2, 16, 77)
    place = Place("mid_block", 0, 10, 4, 4)
    edited = edit(probabilities.clone(), place)
    others = [token for token in range(77) if token not in tokens]
    assert edited[..., tokens].abs().max() == 0
    assert torch.equal(edited[..., others], probabilities[..., others])
    assert torch.equal(scale_tokens(tokens, 1.0)(probabilities.clone(), place), probabilities)


def test_a_word_whose_column_is_zero_cannot_change_a_layers_output(sd15):
    """With its column at zero, the value vector of a token may be anything."""
    tokens, outputs = token_positions(sd15, PROMPT, "blue"), []
    (name, attn), *_ = attention_layers(sd15.unet).items()
    shift = {"by": 0.0}

    def move_values(_module, _args, output):
        moved = output.clone()
        moved[:, tokens] += shift["by"]
        return moved

    handles = [
        attn.to_v.register_forward_hook(move_values),
        attn.register_forward_hook(lambda _m, _a, output: outputs.append(output[1:].clone())),
    ]
    with edit_attention(sd15, scale_tokens(tokens)):
        for shift["by"] in (0.0, 100.0):
            latents_of(sd15, steps=1)
    for handle in handles:
        handle.remove()
    torch.testing.assert_close(outputs[0], outputs[1])
    assert name in attention_layers(sd15.unet)


def test_taking_a_word_out_changes_the_picture(pipe):
    plain = latents_of(pipe)
    with edit_attention(pipe, scale_tokens(token_positions(pipe, PROMPT, "blue"))):
        assert (latents_of(pipe) - plain).abs().max() > 1e-3


def test_kept_maps_are_the_maps_of_the_source(pipe):
    seen = []

    def keep_and_look(attention_probs, place):
        kept = keep_maps()(attention_probs, place)
        seen.append((attention_probs[0].clone(), kept))
        return kept

    with edit_attention(pipe, keep_and_look):
        same_noise(pipe, [PROMPT, SWAPPED])
    for source, kept in seen:
        assert torch.equal(kept[0], source)
        assert torch.equal(kept[1], source)


def test_keeping_the_maps_leaves_the_source_picture_alone(pipe):
    plain = same_noise(pipe, [PROMPT, SWAPPED])
    with edit_attention(pipe, keep_maps()):
        kept = same_noise(pipe, [PROMPT, SWAPPED])
    torch.testing.assert_close(kept[0], plain[0], rtol=1e-3, atol=5e-4)
    assert not torch.allclose(kept[1], plain[1], rtol=1e-3, atol=5e-4)


def test_keeping_the_maps_holds_the_pocket_models_composition(pocket):
    def distance(seed):
        source, other = same_noise(
            pocket, [PROMPT, "a man with green eyes"], seed=seed, num_inference_steps=8, guidance_scale=2.5
        )
        return (other - source).square().mean()

    plain = [distance(seed) for seed in range(6)]
    with edit_attention(pocket, keep_maps()):
        kept = [distance(seed) for seed in range(6)]
    assert sum(kept) < 0.95 * sum(plain)


@pytest.mark.parametrize(("until", "kept_steps"), [(0.0, []), (0.5, [0, 1]), (1.0, [0, 1, 2, 3])])
def test_maps_are_kept_for_a_share_of_the_steps(until, kept_steps):
    probabilities = torch.rand(2, 1, 4, 5)
    edit = keep_maps(until=until)
    changed = [
        step
        for step in range(4)
        if not torch.equal(edit(probabilities, Place("mid_block", step, 4, 2, 2)), probabilities)
    ]
    assert changed == kept_steps


def test_a_second_drawing_starts_at_step_0_again(sd15):
    steps = []
    with edit_attention(sd15, lambda probs, place: steps.append(place.step) or probs, layers="mid_block"):
        latents_of(sd15, steps=2)
        latents_of(sd15, "a cat", steps=2)
    assert steps == [0, 1, 0, 1]


@pytest.mark.parametrize("error", [None, RuntimeError, KeyboardInterrupt])
def test_processors_and_hooks_are_back_also_after_an_error(pipe, error):
    before, plain = dict(pipe.unet.attn_processors), latents_of(pipe)

    def edit(attention_probs, place):
        if error and place.step == 1:
            raise error
        return attention_probs * 0.5

    if error:
        with pytest.raises(error), edit_attention(pipe, edit):
            latents_of(pipe)
    else:
        with edit_attention(pipe, edit):
            latents_of(pipe)
    assert all(processor is before[name] for name, processor in pipe.unet.attn_processors.items())
    assert count_hooks(pipe) == 0
    assert torch.equal(latents_of(pipe), plain)


@pytest.mark.parametrize(
    ("fn", "sentence"),
    [
        (lambda probs, _place: None, "edit must return probabilities of the shape .*, not NoneType"),
        (
            lambda probs, _place: probs[..., :3],
            r"edit must return probabilities of the shape \[1, 2, .*, not \[1, 2, .*3\]",
        ),
        (keep_maps(source=1), "There is no picture 1 in a batch of 1: give both prompts"),
        (scale_tokens([77]), "There is no token 77: the U-Net reads 77"),
    ],
)
def test_an_edit_that_goes_wrong_is_said(sd15, fn, sentence):
    with pytest.raises(SdlabError, match=sentence), edit_attention(sd15, fn):
        latents_of(sd15)


def test_bad_arguments_are_said_at_once(sd15, tmp_path):
    with pytest.raises(SdlabError, match="must be a function"), edit_attention(sd15, "zero"):
        pass
    with (
        pytest.raises(SdlabError, match="No attention layer fits 'left'"),
        edit_attention(sd15, unchanged, layers="left"),
    ):
        pass
    with pytest.raises(SdlabError, match="until=2 must lie between 0"):
        keep_maps(until=2)
    with pytest.raises(SdlabError, match=r"tokens=\['blue'\] must be whole numbers"):
        scale_tokens(["blue"])
    fused = sd15_shaped(tmp_path)
    fused.fuse_qkv_projections(vae=False)
    with pytest.raises(SdlabError, match="fused projections"), edit_attention(fused, unchanged):
        pass
