"""Recorded attention is what the U-Net computes, and recording it changes nothing."""

import contextlib

import pytest
import torch
import torch.nn.functional as F
from diffusers import DDIMScheduler, PNDMScheduler, StableDiffusionImg2ImgPipeline
from peft import LoraConfig

from sdlab import SdlabError, attention_layers
from sdlab.compat import CROSS, SELF, eager_attention, layer_sizes, unet_of
from sdlab.instruments import (
    attention_bytes,
    build_on_meta,
    record_attention,
    record_self_attention,
    text_self_attention,
)
from sdlab.instruments.attention import attention_probabilities
from tiny_pipeline import sd15_shaped

PROMPT = "a man with blue eyes"


def latents_of(pipe, prompt=PROMPT, *, steps=3, guidance_scale=6.0, **options) -> torch.Tensor:
    """Draw from fixed noise and return the last latents."""
    count = 1 if isinstance(prompt, str) else len(prompt)
    generators = [torch.Generator().manual_seed(s) for s in range(count * options.get("num_images_per_prompt", 1))]
    return pipe(
        prompt,
        num_inference_steps=steps,
        guidance_scale=guidance_scale,
        generator=generators,
        output_type="latent",
        **options,
    ).images


def count_hooks(pipe) -> int:
    """Count the hooks on all of the U-Net and on the text encoder as a whole (inside it transformers keeps its own)."""
    parts = [*pipe.unet.modules(), pipe.text_encoder]
    return sum(len(part._forward_hooks) + len(part._forward_pre_hooks) for part in parts)


@contextlib.contextmanager
def probabilities_by_identity(calls: list):
    """Let every SDPA call also attend to the identity matrix: what comes out are its probabilities."""
    plain = F.scaled_dot_product_attention

    def watched(query, key, value, **options):
        identity = torch.eye(key.shape[-2]).expand(*key.shape[:-1], -1)
        calls.append(plain(query, key, identity, **options))
        return plain(query, key, value, **options)

    F.scaled_dot_product_attention = watched
    try:
        yield
    finally:
        F.scaled_dot_product_attention = plain


@contextlib.contextmanager
def layer_inputs_and_outputs(unet, name: str, found: list):
    """Keep what goes into and comes out of the attention layer ``name``, and its values."""
    attn = unet.get_submodule(name)
    handles = [
        attn.to_v.register_forward_hook(lambda _m, _a, output: found.append(output.clone())),
        attn.register_forward_hook(lambda _m, _a, output: found.append(output.clone())),
    ]
    yield attn
    for handle in handles:
        handle.remove()


# the picture stays what it is


@pytest.mark.parametrize(
    "options", [{}, {"heads": "mean"}, {"reduce": "none"}, {"steps": [1], "layers": "mid_block", "rows": "both"}]
)
def test_the_latents_are_bit_for_bit_the_same(pipe, options):
    plain = latents_of(pipe)
    with record_attention(pipe, **options):
        recorded = latents_of(pipe)
    assert torch.equal(plain, recorded)


def test_the_picture_is_the_same_after_the_decoder(pocket):
    options = {"num_inference_steps": 2, "output_type": "pt"}
    plain = pocket(PROMPT, generator=torch.Generator().manual_seed(1), **options).images
    with record_attention(pocket), record_self_attention(pocket, "mid_block"):
        recorded = pocket(PROMPT, generator=torch.Generator().manual_seed(1), **options).images
    assert torch.equal(plain, recorded)


# the maps are the right ones


def test_every_row_adds_up_to_one(pipe):
    with record_attention(pipe, reduce="none", dtype=torch.float32) as maps:
        latents_of(pipe)
    for tensor in maps.select().values():
        torch.testing.assert_close(tensor.sum(dim=3), torch.ones_like(tensor[:, :, :, 0]), rtol=0, atol=1e-6)


def test_the_maps_equal_attention_to_the_identity_matrix(pipe):
    seen = []
    with (
        record_attention(pipe, reduce="none", dtype=torch.float32, rows="both") as maps,
        probabilities_by_identity(seen),
    ):
        latents_of(pipe, steps=1)
    cross = [probabilities for probabilities in seen if probabilities.shape[-1] == 77][-len(maps.layers) :]
    for name, wanted in zip(maps.layers, cross, strict=True):
        found = maps[name][0].flatten(-2).transpose(-1, -2)  # [images, heads, pixels, tokens]
        torch.testing.assert_close(found, wanted, rtol=0, atol=5e-6)


@pytest.mark.parametrize("layer", ["down_blocks.1.attentions.0", "mid_block", "up_blocks.1.attentions.2"])
def test_the_layers_output_can_be_rebuilt_from_its_map(pipe, layer):
    with record_attention(pipe, reduce="none", dtype=torch.float32, rows="both", steps=[0]) as maps:
        name = next(name for name in maps.layers if f".{layer}." in f".{name}")
        found = []
        with layer_inputs_and_outputs(unet_of(pipe), name, found) as attn:
            latents_of(pipe, steps=1)
    value, output = found
    value = value.unflatten(-1, (attn.heads, -1)).transpose(1, 2)
    mixed = maps[name][0].flatten(-2).transpose(-1, -2) @ value
    rebuilt = attn.to_out[0](mixed.transpose(1, 2).flatten(2))
    torch.testing.assert_close(rebuilt, output, rtol=1e-5, atol=2e-6)


def test_the_steps_add_up_to_the_running_sum(pipe):
    with (
        record_attention(pipe, reduce="none", dtype=torch.float32) as each,
        record_attention(pipe) as together,
        record_attention(pipe, heads="mean") as mean,
    ):
        latents_of(pipe)
    assert each.steps == together.steps == mean.steps
    for name in each.layers:
        torch.testing.assert_close(each[name].sum(0), together[name][0], rtol=1e-6, atol=1e-7)
        torch.testing.assert_close(each[name].sum(0).mean(1, keepdim=True), mean[name][0], rtol=1e-5, atol=1e-7)


def test_half_precision_storage_loses_little(sd15):
    with (
        record_attention(sd15, reduce="none") as half,
        record_attention(sd15, reduce="none", dtype=torch.float32) as full,
    ):
        latents_of(sd15)
    assert half["mid_block"].dtype == torch.float16
    torch.testing.assert_close(half["mid_block"].float(), full["mid_block"], rtol=1e-3, atol=1e-7)


def test_few_heads_at_a_time_give_the_same_probabilities(monkeypatch):
    query, key = torch.randn(256, 64), torch.randn(77, 64)
    together = torch.cat(list(attention_probabilities(query, key, heads=8, scale=0.35)))
    monkeypatch.setattr("sdlab.instruments.attention.CPU_WORK_BYTES", 1)
    parts = list(attention_probabilities(query, key, heads=8, scale=0.35))
    assert len(parts) == 8
    torch.testing.assert_close(torch.cat(parts), together)


# DAAM


class DaamProcessor:
    """What DAAM 0.2.0 does in a layer, by its published formulas: open probabilities, the conditional half summed."""

    def __init__(self, sums: dict, name: str):
        self.sums, self.name = sums, name

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None):
        query = attn.head_to_batch_dim(attn.to_q(hidden_states))
        key = attn.head_to_batch_dim(attn.to_k(encoder_hidden_states))
        value = attn.head_to_batch_dim(attn.to_v(encoder_hidden_states))
        probabilities = attn.get_attention_scores(query, key, attention_mask)
        side = int(probabilities.shape[1] ** 0.5)
        maps = probabilities[len(probabilities) // 2 :].permute(0, 2, 1).reshape(attn.heads, -1, side, side)
        self.sums[self.name] = self.sums.get(self.name, 0) + maps
        return attn.to_out[0](attn.batch_to_head_dim(torch.bmm(probabilities, value)))


def daam_of_the_authors(pipe, positions: list[int], side: int, **options) -> torch.Tensor:
    """Return DAAM's global heat map of the tokens at ``positions``: bicubic, clamp, mean over layers and heads."""
    sums, before = {}, dict(pipe.unet.attn_processors)
    for name, attn in attention_layers(pipe.unet).items():
        if not name.startswith("mid_block"):
            attn.set_processor(DaamProcessor(sums, name))
    latents_of(pipe, **options)
    pipe.unet.set_attn_processor(before)
    merged = [
        F.interpolate(head.unsqueeze(1), size=(side, side), mode="bicubic").clamp_(min=0)
        for layer in sums.values()
        for head in layer
    ]
    return torch.stack(merged).mean(0)[:, 0][positions].mean(0)


@pytest.mark.parametrize(("sample_size", "steps"), [(16, 3), (32, 2), (64, 1)])
def test_daams_number_comes_out(tmp_path, sample_size, steps):
    pipe = sd15_shaped(tmp_path, sample_size=sample_size)
    with record_attention(pipe) as maps:
        latents_of(pipe, steps=steps)
    wanted = daam_of_the_authors(pipe, maps.positions("eyes"), sample_size, steps=steps)
    assert maps.daam("eyes").shape == (sample_size, sample_size)
    torch.testing.assert_close(maps.daam("eyes"), wanted, rtol=0, atol=3e-6)


def test_daams_number_comes_out_on_the_pocket_model(pocket):
    with record_attention(pocket) as maps:
        latents_of(pocket)
    wanted = daam_of_the_authors(pocket, maps.positions("eyes"), 16)
    torch.testing.assert_close(maps.daam("eyes"), wanted, rtol=0, atol=3e-6)


def test_the_mean_over_heads_is_refused_for_daam(sd15):
    with record_attention(sd15, heads="mean") as maps:
        latents_of(sd15, steps=1)
    with pytest.raises(SdlabError, match="record it with heads='all'"):
        maps.daam("eyes")


# batches, sizes, guidance, schedulers


def test_a_batch_gives_the_maps_of_each_prompt(pipe):
    prompts = [PROMPT, "a cat with red hair"]
    with record_attention(pipe) as both:
        latents_of(pipe, prompts, steps=2)
    with record_attention(pipe) as first:
        latents_of(pipe, prompts[0], steps=2)
    assert both.prompts == prompts
    assert both["mid_block.attentions.0.transformer_blocks.0"].shape[1] == 2
    torch.testing.assert_close(both.heat_map("eyes"), first.heat_map("eyes"), rtol=1e-3, atol=1e-6)
    assert not torch.allclose(both.heat_map("a", image=1), both.heat_map("a", image=0), rtol=1e-3)
    with pytest.raises(SdlabError, match="'eyes' is not in the prompt that was read, 'a cat with red hair'"):
        both.heat_map("eyes", image=1)


def test_two_images_a_prompt_keep_their_maps_apart(pipe):
    with record_attention(pipe) as two:
        latents_of(pipe, num_images_per_prompt=2)
    with record_attention(pipe) as one:
        latents_of(pipe)
    assert two.prompts == [PROMPT, PROMPT]
    torch.testing.assert_close(two.heat_map("eyes", image=0), one.heat_map("eyes"), rtol=1e-3, atol=1e-6)
    assert (two.heat_map("eyes", image=1) - one.heat_map("eyes")).abs().max() > 1e-5


def test_without_guidance_all_rows_are_conditional(pipe):
    with record_attention(pipe) as maps:
        latents_of(pipe, [PROMPT, "a cat"], guidance_scale=1.0)
    assert maps.prompts == [PROMPT, "a cat"]
    assert {tensor.shape[1] for tensor in maps.select().values()} == {2}
    with pytest.raises(SdlabError, match="guidance is off"), record_attention(pipe, rows="uncond"):
        latents_of(pipe, guidance_scale=1.0)


def test_both_halves_are_the_unconditional_and_the_conditional(pipe):
    with (
        record_attention(pipe, rows="both") as both,
        record_attention(pipe, rows="uncond") as uncond,
        record_attention(pipe) as cond,
    ):
        latents_of(pipe, negative_prompt="red hair")
    assert (uncond.prompts, cond.prompts) == (["red hair"], [PROMPT])
    assert both.prompts == ["red hair", PROMPT]
    for name in both.layers:
        assert torch.equal(both[name], torch.cat([uncond[name], cond[name]], dim=1))
    assert both.heat_map("red", image=0).shape == both.heat_map("blue", image=1).shape


@pytest.mark.parametrize("negative_prompt", [None, ""])
def test_an_empty_negative_prompt_is_the_unconditional_half(pipe, negative_prompt):
    with record_attention(pipe) as maps:
        latents_of(pipe, negative_prompt=negative_prompt)
    assert maps.prompts == [PROMPT]


def test_the_empty_prompt_with_guidance_is_one_picture(sd15):
    with record_attention(sd15) as maps:
        latents_of(sd15, "")
    assert maps["mid_block"].shape[1] == 1


@pytest.mark.parametrize(("height", "width"), [(128, 192), (192, 64), (104, 88)])
def test_pictures_need_not_be_square(sd15, height, width):
    with record_attention(sd15) as maps:
        latents_of(sd15, height=height, width=width)
    assert maps.heat_map("eyes").shape == (height, width)
    assert maps.daam("eyes").shape == (height // 8, width // 8)
    assert maps["down_blocks.0.attentions.0"].shape[-2:] == (height // 8, width // 8)
    assert maps.nbytes == maps.predicted_bytes


def test_pndm_has_one_step_more_than_was_asked_for(sd15):
    sd15.scheduler = PNDMScheduler.from_config(sd15.scheduler.config, skip_prk_steps=True)
    try:
        with record_attention(sd15, "mid_block", reduce="none") as maps:
            latents_of(sd15, steps=50)
    finally:
        sd15.scheduler = DDIMScheduler.from_config(sd15.scheduler.config, clip_sample=False, set_alpha_to_one=False)
    assert maps.steps == list(range(51))
    assert maps.timesteps[1] == maps.timesteps[2]
    assert maps.nbytes == maps.predicted_bytes


def test_only_the_chosen_steps_are_kept(pipe):
    with record_attention(pipe, reduce="none") as all_steps, record_attention(pipe, reduce="none", steps=[0, 2]) as two:
        latents_of(pipe)
    assert two.steps == [0, 2]
    assert two.timesteps == [all_steps.timesteps[0], all_steps.timesteps[2]]
    chosen = all_steps.select(steps=[0, 2])
    assert all(torch.equal(two[name], chosen[name]) for name in two.layers)


def test_only_the_chosen_tokens_are_kept(pipe):
    with record_attention(pipe) as every, record_attention(pipe, tokens=[0, 3]) as two:
        latents_of(pipe)
    for name, wanted in every.select(tokens=[0, 3]).items():
        torch.testing.assert_close(two[name], wanted)
    with pytest.raises(SdlabError, match=r"tokens=\[1\] cannot be chosen: recorded are 0, 3"):
        two.heat_map(1)


def test_image_to_image_is_recorded_too(sd15):
    image_to_image = StableDiffusionImg2ImgPipeline(**sd15.components, requires_safety_checker=False)
    image_to_image.set_progress_bar_config(disable=True)
    with record_attention(image_to_image, reduce="none") as maps:
        image_to_image(PROMPT, image=torch.zeros(1, 3, 128, 128), strength=0.5, num_inference_steps=4)
    assert maps.steps == [0, 1]
    assert maps.prompts == [PROMPT]


# prompts that were encoded before


def test_given_prompt_embeds_need_the_prompt_for_words_only(pocket):
    prompt_embeds, negative = pocket.encode_prompt(PROMPT, pocket.device, 1, True)
    given = {"prompt_embeds": prompt_embeds, "negative_prompt_embeds": negative, "num_inference_steps": 2}
    with record_attention(pocket) as maps:
        pocket(**given, output_type="latent")
    assert maps["mid_block"].shape[1] == 1
    assert maps.heat_map(0).shape == (128, 128)
    with pytest.raises(SdlabError, match=r"give record_attention\(\.\.\., prompt="):
        maps.heat_map("eyes")
    with record_attention(pocket, prompt=PROMPT) as maps:
        pocket(**given, output_type="latent")
    assert maps.prompts == [PROMPT]
    assert maps.heat_map("eyes").shape == (128, 128)


def test_a_single_call_of_the_unet_is_a_drawing_of_one_step(pocket):
    with record_attention(pocket, reduce="none", dtype=torch.float32) as maps, torch.no_grad():
        prompt_embeds, _ = pocket.encode_prompt(PROMPT, pocket.device, 1, False)
        pocket.unet(torch.zeros(1, 4, 16, 16), 500, prompt_embeds)
    assert (maps.steps, maps.timesteps, maps.prompts) == ([0], [500], [PROMPT])


@pytest.mark.parametrize("first", ["", PROMPT])
def test_a_loop_by_hand_is_read_whatever_is_encoded_first(pocket, first):
    with record_attention(pocket) as maps, torch.no_grad():
        texts = {text: pocket.encode_prompt(text, pocket.device, 1, False)[0] for text in {first: 0, "": 0, PROMPT: 0}}
        pocket.unet(torch.zeros(2, 4, 16, 16), 500, torch.cat([texts[""], texts[PROMPT]]))
    assert maps.prompts == [PROMPT]


# everything is put back


def test_no_hook_is_left(pipe):
    before = count_hooks(pipe)
    with record_attention(pipe):
        assert count_hooks(pipe) > before
        latents_of(pipe, steps=1)
    assert count_hooks(pipe) == before == 0


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_no_hook_is_left_after_an_error_in_the_middle_of_a_step(pipe, error):
    def interrupt(*_):
        raise error

    plain = latents_of(pipe)
    broken = unet_of(pipe).up_blocks[1].register_forward_pre_hook(interrupt)
    with pytest.raises(error), record_attention(pipe) as maps:
        latents_of(pipe)
    broken.remove()
    assert count_hooks(pipe) == 0
    assert torch.equal(latents_of(pipe), plain)
    with pytest.raises(SdlabError, match="Nothing has been recorded yet"):
        maps.heat_map("eyes")


def test_an_interrupted_recording_keeps_the_whole_steps(sd15):
    def interrupt(_pipe, step, _timestep, values):
        if step == 1:
            raise KeyboardInterrupt
        return values

    with pytest.raises(KeyboardInterrupt), record_attention(sd15, reduce="none") as maps:
        latents_of(sd15, callback_on_step_end=interrupt)
    assert maps.steps == [0, 1]
    assert maps["mid_block"].shape[0] == 2


def test_recordings_can_be_nested(pipe):
    with record_attention(pipe) as outer:
        with record_attention(pipe, "mid_block") as inner:
            latents_of(pipe, steps=2)
        assert count_hooks(pipe) > 0
    name = "mid_block.attentions.0.transformer_blocks.0.attn2"
    assert torch.equal(outer[name], inner[name])


def test_the_processors_are_not_touched(pipe):
    before = dict(unet_of(pipe).attn_processors)
    with record_attention(pipe):
        assert all(found is before[name] for name, found in unet_of(pipe).attn_processors.items())


# other ways to run the U-Net


def test_sliced_attention_gives_the_same_maps(sd15):
    with record_attention(sd15) as plain:
        latents_of(sd15)
    sd15.enable_attention_slicing(1)
    try:
        sliced_latents = latents_of(sd15)
        with record_attention(sd15) as sliced:
            assert torch.equal(latents_of(sd15), sliced_latents)
    finally:
        sd15.disable_attention_slicing()
    torch.testing.assert_close(sliced.heat_map("eyes"), plain.heat_map("eyes"), rtol=1e-3, atol=1e-6)


def test_a_lora_adapter_is_in_the_maps(tmp_path):
    pipe, seen = sd15_shaped(tmp_path), []
    with record_attention(pipe, rows="both") as base:
        latents_of(pipe, steps=1)
    targets = ["to_q", "to_k", "to_v", "to_out.0"]
    pipe.unet.add_adapter(LoraConfig(r=4, init_lora_weights=False, target_modules=targets))
    adapted_latents = latents_of(pipe, steps=1)
    with record_attention(pipe, rows="both") as adapted, probabilities_by_identity(seen):
        assert torch.equal(latents_of(pipe, steps=1), adapted_latents)
    first = next(probabilities for probabilities in seen if probabilities.shape[-2:] == (256, 77))
    found, before = (maps[maps.layers[0]][0].flatten(-2).transpose(-1, -2) for maps in (adapted, base))
    torch.testing.assert_close(found, first, rtol=0, atol=5e-6)
    assert (found - before).abs().max() > 1e-3


def test_an_adapter_loaded_during_the_recording_is_refused(tmp_path):
    pipe = sd15_shaped(tmp_path)
    with record_attention(pipe):
        pipe.unet.add_adapter(LoraConfig(r=4, target_modules=["to_q", "to_k"]))
        with pytest.raises(SdlabError, match="changed during the recording"):
            latents_of(pipe)


def test_fused_projections_are_refused(tmp_path):
    pipe = sd15_shaped(tmp_path)
    pipe.fuse_qkv_projections(vae=False)
    with pytest.raises(SdlabError, match="fused projections"), record_attention(pipe):
        pass
    pipe.unfuse_qkv_projections(vae=False)
    with record_attention(pipe) as maps:
        latents_of(pipe, steps=1)
    assert maps.steps == [0]


@pytest.mark.parametrize("how", ["the whole", "in place", "a block"])
def test_a_compiled_unet_is_refused(tmp_path, how):
    pipe = sd15_shaped(tmp_path)
    if how == "the whole":
        pipe.unet = torch.compile(pipe.unet)
    else:
        (pipe.unet if how == "in place" else pipe.unet.mid_block).compile()
    with pytest.raises(SdlabError, match="The U-Net is compiled"), record_attention(pipe):
        pass


def test_half_precision_models_are_recorded(tmp_path):
    pipe = sd15_shaped(tmp_path).to(torch.bfloat16)
    plain = latents_of(pipe)
    with record_attention(pipe) as maps:
        assert torch.equal(latents_of(pipe), plain)
    assert maps["mid_block"].dtype == torch.float32
    assert maps.token_mass().sum() == pytest.approx(1, abs=1e-5)


# memory


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"heads": "mean"},
        {"reduce": "none"},
        {"reduce": "none", "dtype": torch.float32, "tokens": [0, 1, 2], "layers": "up_blocks"},
        {"reduce": "none", "heads": "mean", "steps": [0, 2]},
    ],
)
def test_the_bytes_are_the_predicted_ones(pipe, options):
    with record_attention(pipe, **options) as maps, record_attention(pipe, "mid_block", reduce="none") as every_step:
        latents_of(pipe)
    layers, calls = options.pop("layers", None), len(every_step.steps)
    assert maps.nbytes == maps.predicted_bytes > 0
    assert maps.nbytes == attention_bytes(pipe, layers, num_inference_steps=calls, **options)


def test_full_size_takes_what_the_course_says():
    unet = build_on_meta("sd15")
    assert attention_bytes(unet, reduce="none") == 1_659_750_400  # everything
    assert attention_bytes(unet, heads="mean") == 8_298_752  # under the bar of 10 MB
    assert attention_bytes(unet) == 8 * 8_298_752
    assert attention_bytes(unet, self_attention=True, reduce="none") == 71_568_588_800  # 143 GB for both halves


def test_too_much_is_refused_before_the_first_step(pipe):
    worked, needed = [], attention_bytes(pipe, num_inference_steps=3, reduce="none")
    handle = unet_of(pipe).conv_in.register_forward_hook(lambda *_: worked.append(1))
    try:
        with (
            record_attention(pipe, reduce="none", max_bytes=needed - 1),
            pytest.raises(SdlabError, match=r"more than max_bytes=[\d.]+ MB: heads='mean' keeps [\d.]+ MB; choose"),
        ):
            latents_of(pipe)
    finally:
        handle.remove()
    assert worked == []


def test_too_much_for_any_reduction_asks_for_fewer_layers(sd15):
    with pytest.raises(SdlabError, match="MB: choose layers, steps or tokens"), record_attention(sd15, max_bytes=1):
        latents_of(sd15)


# one clear sentence


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"layers": "up_block.1"}, "No attention layer fits 'up_block.1': give a part of one of the"),
        ({"layers": ["mid_block", "sideways"]}, "No attention layer fits 'sideways'"),
        ({"layers": []}, "No attention layer fits 'nothing'"),
        ({"heads": "first"}, "heads='first' must be 'all'"),
        ({"reduce": "mean"}, "reduce='mean' must be 'sum'"),
        ({"rows": "all"}, "rows='all' must be 'cond', 'uncond' or 'both'"),
        ({"steps": [-1]}, r"steps=\[-1\] must be whole numbers"),
        ({"steps": []}, r"steps=\[\] must be whole numbers"),
        ({"tokens": ["eyes"]}, r"tokens=\['eyes'\] must be whole numbers"),
    ],
)
def test_bad_options_are_said_before_anything_is_drawn(sd15, options, sentence):
    with pytest.raises(SdlabError, match=sentence), record_attention(sd15, **options):
        pass
    assert count_hooks(sd15) == 0


def test_a_pipeline_without_a_unet_is_refused(sd15):
    with pytest.raises(SdlabError, match="AutoencoderKL has no UNet2DConditionModel"), record_attention(sd15.vae):
        pass


def test_steps_that_never_come_are_said(sd15):
    with pytest.raises(SdlabError, match=r"steps=\[7\] fits no step: the drawing had the steps 0 to 2"):  # noqa: SIM117
        with record_attention(sd15, steps=[7]):
            latents_of(sd15)


def test_a_second_drawing_needs_a_second_recording(pipe):
    with record_attention(pipe) as maps:
        latents_of(pipe, steps=1)
        with pytest.raises(SdlabError, match="already holds a drawing"):
            latents_of(pipe, "a cat", steps=1)
    assert maps.prompts == [PROMPT]


def test_an_attention_mask_is_refused(sd15):
    embeds, mask = torch.randn(1, 77, 16), torch.ones(1, 77, dtype=torch.bool)
    with pytest.raises(SdlabError, match="attention mask"), record_attention(sd15):
        sd15.unet(torch.zeros(1, 4, 16, 16), 1, embeds, encoder_attention_mask=mask)


# self-attention


def test_the_unets_self_attention_equals_attention_to_the_identity_matrix(pipe):
    seen = []
    layer = "mid_block.attentions.0.transformer_blocks.0.attn1"
    with (
        record_self_attention(pipe, layer, heads="all", dtype=torch.float32, rows="both") as maps,
        probabilities_by_identity(seen),
    ):
        latents_of(pipe, steps=1)
    (found,) = maps.select().values()  # [steps, images, heads, places that look, height, width]
    same_size = [wanted for wanted in seen if wanted.shape[-1] == wanted.shape[-2] == found.shape[3]]
    wanted = min(same_size, key=lambda each: (each - found[0].flatten(-2)).abs().max())
    torch.testing.assert_close(found[0].flatten(-2), wanted, rtol=0, atol=5e-6)


def test_a_chosen_point_is_the_row_of_its_pixel(sd15):
    with (
        record_self_attention(sd15, "down_blocks.1.attentions.0") as every,
        record_self_attention(sd15, "down_blocks.1.attentions.0", points=[(0.0, 0.0), (0.99, 0.5)]) as two,
    ):
        latents_of(sd15, height=128, width=192)
    (all_rows,), (rows,) = every.select().values(), two.select().values()
    assert (all_rows.shape[-3:], rows.shape[-3:]) == ((96, 8, 12), (2, 8, 12))
    torch.testing.assert_close(rows, all_rows[:, :, :, [0, 4 * 12 + 11]])
    assert two.heat_map(1).shape == (128, 192)
    with pytest.raises(SdlabError, match="Self-attention knows no words"):
        two.heat_map("eyes")


def test_self_attention_of_everything_is_refused_at_full_size():
    unet = build_on_meta("sd15")
    needed = attention_bytes(unet, self_attention=True, num_inference_steps=1, heads="mean")
    points = attention_bytes(unet, self_attention=True, points=[(0.5, 0.5)], heads="mean")
    assert needed > 300e6
    assert points == 8_298_752 // 77


def test_points_outside_the_picture_are_said(sd15):
    with pytest.raises(SdlabError, match=r"must be \(x, y\) pairs"), record_self_attention(sd15, points=[(2, 0)]):
        pass


def test_the_text_encoders_attention_is_causal_and_adds_up(pipe):
    attention = text_self_attention(pipe, PROMPT)
    config = pipe.text_encoder.config
    tokens = len(pipe.tokenizer(PROMPT).input_ids)
    assert attention.shape == (config.num_hidden_layers, config.num_attention_heads, tokens, tokens)
    torch.testing.assert_close(attention.sum(-1), torch.ones_like(attention[..., 0]))
    assert attention.triu(1).abs().max() == 0


def test_the_text_encoders_first_layer_by_hand(pocket):
    found, encoder = text_self_attention(pocket, PROMPT)[0], pocket.text_encoder
    ids = pocket.tokenizer(PROMPT, return_tensors="pt").input_ids
    layers = getattr(encoder, "text_model", encoder)
    first = layers.encoder.layers[0]
    with torch.no_grad():
        hidden_states = first.layer_norm1(layers.embeddings(ids))
        query, key = first.self_attn.q_proj(hidden_states), first.self_attn.k_proj(hidden_states)
    heads = encoder.config.num_attention_heads
    query, key = (each[0].unflatten(-1, (heads, -1)).transpose(0, 1) for each in (query, key))
    scores = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
    causal = scores.masked_fill(torch.ones_like(scores[0]).triu(1).bool(), -torch.inf)
    torch.testing.assert_close(found, causal.softmax(-1), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("error", [None, RuntimeError, KeyboardInterrupt])
def test_the_text_encoder_gets_its_fast_attention_back(pocket, error):
    before = pocket.text_encoder.config._attn_implementation
    plain = pocket.encode_prompt(PROMPT, pocket.device, 1, False)[0]
    with contextlib.suppress(*filter(None, [error])), eager_attention(pocket.text_encoder):
        assert pocket.text_encoder.config._attn_implementation == "eager" != before
        if error:
            raise error
    assert pocket.text_encoder.config._attn_implementation == before
    assert torch.equal(pocket.encode_prompt(PROMPT, pocket.device, 1, False)[0], plain)


# what the libraries do not promise: these fail loudly when a name changes


def test_diffusers_still_names_its_attention_layers_so(pipe):
    unet = unet_of(pipe)
    cross, own = attention_layers(unet, CROSS), attention_layers(unet, SELF)
    assert len(cross) == len(own) == sum(type(m).__name__ == "BasicTransformerBlock" for m in unet.modules())
    assert all(attn.is_cross_attention for attn in cross.values())
    assert not any(attn.is_cross_attention for attn in own.values())
    places = [name.split("_")[0] for name in cross]
    assert places == sorted(places, key=["down", "mid", "up"].index)


def test_layers_that_were_renamed_raise():
    unet = build_on_meta("sd15")
    with pytest.raises(SdlabError, match="No attention layer of this U-Net is called 'attention_two'"):
        attention_layers(unet, "attention_two")


@pytest.mark.parametrize("size", [(16, 16), (16, 24), (13, 11)])
def test_the_sizes_inside_the_blocks_are_as_predicted(pipe, size):
    unet, found = unet_of(pipe), {}
    handles = [
        unet.get_submodule(name.partition(".transformer_blocks.")[0]).register_forward_pre_hook(
            lambda _m, args, name=name: found.update({name: tuple(args[0].shape[-2:])})
        )
        for name in attention_layers(unet)
    ]
    with contextlib.ExitStack() as stack:
        for handle in handles:
            stack.callback(handle.remove)
        latents_of(pipe, steps=1, height=size[0] * 8, width=size[1] * 8)
    sizes = layer_sizes(unet, *size)
    assert {name: sizes[next(p for p in sizes if name.startswith(f"{p}."))] for name in found} == found
