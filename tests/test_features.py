"""Recorded features are what flows through the U-Net, and recording them changes nothing."""

import pytest
import torch

from sdlab import SdlabError
from sdlab.instruments import record_features, unet_table
from test_attention import PROMPT, count_hooks, latents_of
from tiny_pipeline import sd15_shaped


def test_the_latents_are_bit_for_bit_the_same(pipe):
    plain = latents_of(pipe)
    with record_features(pipe, ["skips", "mid_block", "time_embedding", "up_blocks.0.resnets.1"]):
        assert torch.equal(latents_of(pipe), plain)


def test_every_part_of_the_table_can_be_recorded(pipe):
    table = unet_table(pipe)
    with record_features(pipe, [row.name for row in table.rows], steps=[0]) as features:
        latents_of(pipe)
    for row in table.rows:
        assert tuple(features[row.name].shape[2:]) == row.output, row.name


def test_a_feature_is_what_the_next_part_is_given(pipe):
    given = []
    handle = pipe.unet.mid_block.register_forward_pre_hook(lambda _m, args: given.append(args[0].clone()))
    last = f"down_blocks.{len(pipe.unet.down_blocks) - 1}"
    with record_features(pipe, last, rows="both") as features:
        latents_of(pipe)
    handle.remove()
    assert torch.equal(features[last], torch.stack(given))


def test_the_skips_are_their_sources_bit_for_bit(pipe):
    table = unet_table(pipe)
    with record_features(pipe, ["skips", *{skip.source for skip in table.skips}]) as features:
        latents_of(pipe, steps=2)
    for index, skip in enumerate(table.skips):
        assert torch.equal(features.skip(index), features[skip.source]), skip
        assert tuple(features.skip(index).shape[2:]) == skip.shape


def test_freeu_does_not_reach_into_what_was_recorded(sd15):
    with record_features(sd15, ["mid_block", "skips"], steps=[0]) as plain:
        latents_of(sd15)
    sd15.enable_freeu(s1=0.9, s2=0.2, b1=1.5, b2=1.6)
    inputs = []
    handle = sd15.unet.up_blocks[0].resnets[0].register_forward_pre_hook(lambda _m, args: inputs.append(args[0]))
    try:
        with record_features(sd15, ["mid_block", "skips"], steps=[0]) as features:
            latents_of(sd15)
    finally:
        handle.remove()
        sd15.disable_freeu()
    assert torch.equal(features["mid_block"], plain["mid_block"])  # FreeU changes it later, in place
    assert not torch.equal(inputs[0][1:, :64], features["mid_block"][0])
    assert not torch.equal(features.skip(0), plain.skip(0))  # what the right-hand block reads has changed


def test_the_timestep_embedding_changes_from_step_to_step_only(pipe):
    with record_features(pipe, "time_embedding", rows="both") as features:
        latents_of(pipe)
    embedding = features["time_embedding"]
    assert len(features.timesteps) == len(embedding) >= 3
    rows = embedding.flatten(1, -2) if embedding.ndim > 3 else embedding
    torch.testing.assert_close(rows[:, 0], rows[:, -1])  # the same for both rows of guidance
    assert not torch.allclose(rows[0], rows[-1])


def test_the_conditional_rows_are_the_second_half(pipe):
    with (
        record_features(pipe, "mid_block", rows="both") as both,
        record_features(pipe, "mid_block", rows="uncond") as uncond,
        record_features(pipe, "mid_block") as cond,
    ):
        latents_of(pipe, [PROMPT, "a cat"])
    assert both["mid_block"].shape[1] == 4
    assert torch.equal(both["mid_block"], torch.cat([uncond["mid_block"], cond["mid_block"]], dim=1))


def test_only_the_chosen_steps_are_kept(pipe):
    with record_features(pipe, "mid_block", steps=[0, 2]) as two, record_features(pipe, "mid_block") as every:
        latents_of(pipe)
    assert two.steps == [0, 2]
    assert torch.equal(two["mid_block"], every["mid_block"][[0, 2]])
    with pytest.raises(SdlabError, match=r"steps=\[9\] fits no step: the drawing had the steps 0 to"):  # noqa: SIM117
        with record_features(pipe, "mid_block", steps=9):
            latents_of(pipe)


def test_a_bare_unet_can_be_recorded(pocket):
    prompt_embeds = pocket.encode_prompt(PROMPT, pocket.device, 1, False)[0]
    with record_features(pocket.unet, "conv_in") as features, torch.no_grad():
        pocket.unet(torch.ones(2, 4, 16, 16), 10, prompt_embeds.expand(2, -1, -1))
        wanted = pocket.unet.conv_in(torch.ones(2, 4, 16, 16))
    assert torch.equal(features["conv_in"][0], wanted)


def test_features_can_be_stored_in_half_precision(sd15):
    with record_features(sd15, "mid_block", dtype=torch.float16) as half, record_features(sd15, "mid_block") as full:
        latents_of(sd15)
    assert half.nbytes * 2 == full.nbytes
    torch.testing.assert_close(half["mid_block"].float(), full["mid_block"], rtol=1e-3, atol=1e-3)


def test_the_bytes_are_those_of_the_tensors_and_no_more(sd15):
    with record_features(sd15, "up_blocks.3.resnets.0") as features:  # a slice of a batch must not keep the batch
        latents_of(sd15)
    kept = features["up_blocks.3.resnets.0"]
    assert features.nbytes == kept.nbytes == 3 * 16 * 16 * 16 * 4
    assert features._kept["up_blocks.3.resnets.0"][0].untyped_storage().nbytes() == kept[0].nbytes


def test_too_much_is_refused_in_the_first_step(sd15):
    with record_features(sd15, ["mid_block", "conv_in"]) as features:
        latents_of(sd15)
    steps = []
    with (
        record_features(sd15, ["mid_block", "conv_in"], max_bytes=features.nbytes - 1),
        pytest.raises(SdlabError, match=r"These features would take at least .* choose steps=\[0, \.\.\.\]"),
    ):
        latents_of(sd15, callback_on_step_end=lambda *arguments: steps.append(1) or arguments[3])
    assert steps == []
    with record_features(sd15, ["mid_block", "conv_in"], max_bytes=features.nbytes):
        latents_of(sd15)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_no_hook_is_left_after_an_error(pipe, error):
    def interrupt(*_):
        raise error

    broken = pipe.unet.up_blocks[1].register_forward_pre_hook(interrupt)
    with pytest.raises(error), record_features(pipe, ["skips", "conv_in"]) as features:
        latents_of(pipe)
    broken.remove()
    assert count_hooks(pipe) == 0
    with pytest.raises(SdlabError, match="Nothing has been recorded yet"):
        features["conv_in"]


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        ("middle", "The U-Net has no part 'middle': use a name of unet_table"),
        (["mid_block", "down_blocks.9"], "The U-Net has no part 'down_blocks.9'"),
        ([], "names is empty"),
    ],
)
def test_unknown_names_are_said(sd15, names, sentence):
    with pytest.raises(SdlabError, match=sentence), record_features(sd15, names):
        pass


def test_what_was_not_recorded_is_said(sd15):
    with record_features(sd15, "skips") as features:
        latents_of(sd15)
    with pytest.raises(SdlabError, match="'mid_block' was not recorded: recorded are skips"):
        features["mid_block"]
    with pytest.raises(SdlabError, match="There is no skip 12: this U-Net has the skips 0 to 11"):
        features.skip(12)
    with record_features(sd15, "mid_block") as features:
        latents_of(sd15)
    with pytest.raises(SdlabError, match="The skips were not recorded"):
        features.skip(0)


def test_a_second_drawing_needs_a_second_recording(sd15):
    with record_features(sd15, "mid_block"):
        latents_of(sd15)
        with pytest.raises(SdlabError, match="already holds a drawing"):
            latents_of(sd15)


def test_a_compiled_unet_is_refused(tmp_path):
    pipe = sd15_shaped(tmp_path)
    pipe.unet.compile()
    with pytest.raises(SdlabError, match="The U-Net is compiled"), record_features(pipe, "mid_block"):
        pass
