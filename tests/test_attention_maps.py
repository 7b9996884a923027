"""Heat maps, words and figures made of recorded attention."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from sdlab import SdlabError, token_positions
from sdlab.figures import overlay, show_heat_maps, show_map_grid, show_text_attention, show_token_mass
from sdlab.instruments import record_attention, text_self_attention
from sdlab.prompts import split_words

PROMPT = "a man with blue eyes and a blue-green shirt"


@pytest.fixture(scope="module")
def maps(pocket):
    with record_attention(pocket, reduce="none", dtype=torch.float32) as found:
        pocket(PROMPT, num_inference_steps=3, generator=torch.Generator().manual_seed(0), output_type="latent")
    return found


@pytest.fixture(scope="module")
def summed(pocket):
    with record_attention(pocket) as found:
        pocket(PROMPT, num_inference_steps=3, generator=torch.Generator().manual_seed(0), output_type="latent")
    return found


# words and tokens


def test_a_word_is_found_where_it_stands(pocket):
    names = pocket.tokenizer.convert_ids_to_tokens(pocket.tokenizer(PROMPT).input_ids)
    for word in ("man", "eyes", "shirt"):
        (position,) = token_positions(pocket, PROMPT, word)
        assert names[position] == f"{word}</w>"
    assert token_positions(pocket, PROMPT, "Blue Eyes") == [4, 5]


def test_a_word_of_several_tokens_has_all_of_them(pocket):
    positions = token_positions(pocket, "an unbelievable man", "unbelievable")
    assert len(positions) > 2
    assert positions == list(range(positions[0], positions[0] + len(positions)))
    names = pocket.tokenizer.convert_ids_to_tokens(pocket.tokenizer("an unbelievable man").input_ids)
    assert "".join(names[at] for at in positions) == "unbelievable</w>"


def test_the_end_of_a_word_is_not_a_word(pocket):
    tail = pocket.tokenizer.tokenize("unbelievable")[-1].removesuffix("</w>")
    assert pocket.tokenizer.tokenize(tail) == [f"{tail}</w>"]
    with pytest.raises(SdlabError, match=f"'{tail}' is not in the prompt"):
        token_positions(pocket, "an unbelievable man", tail)


def test_a_word_that_is_not_there_is_said_with_the_words_that_are(pocket, maps):
    with pytest.raises(SdlabError, match="'hat' is not in the prompt that was read, 'a man with blue eyes and a blue"):
        maps.heat_map("hat")
    with pytest.raises(SdlabError, match="choose from a, red, cat"):
        token_positions(pocket, "a red cat", "hat")
    with pytest.raises(SdlabError, match="choose from nothing"):
        token_positions(pocket, "", "hat")
    with pytest.raises(SdlabError, match="'' is not in the prompt"):
        maps.heat_map("")


def test_a_word_that_was_cut_off_is_not_there(pocket):
    with pytest.raises(SdlabError, match="'eyes' is not in the prompt that was read"):
        token_positions(pocket, "a man " * 40 + "with blue eyes", "eyes")


def test_a_word_that_stands_twice_must_be_chosen(maps):
    with pytest.raises(SdlabError, match=r"'blue' stands 2 times in .*: say which with occurrence=0 to 1"):
        maps.heat_map("blue")
    assert maps.positions("blue", occurrence=0) == [4]
    assert maps.positions("blue", occurrence=-1) == maps.positions("blue", occurrence=1) == [8]
    with pytest.raises(SdlabError, match="there is no occurrence=2"):
        maps.positions("blue", occurrence=2)


def test_the_words_of_a_prompt_cover_its_tokens(maps):
    words = maps.words()
    assert [word for word, _ in words] == [
        "a",
        "man",
        "with",
        "blue",
        "eyes",
        "and",
        "a",
        "blue",
        "-",
        "green",
        "shirt",
    ]
    assert [position for _, positions in words for position in positions] == list(range(1, len(words) + 1))
    assert split_words([]) == []


def test_tokens_are_all_77(maps):
    tokens = maps.tokens()
    assert len(tokens) == 77
    assert tokens[0] == "<|startoftext|>"
    assert tokens[4:6] == ["blue</w>", "eyes</w>"]


# heat maps


def test_a_heat_map_has_the_pictures_size_and_is_a_mean_of_probabilities(maps):
    heat_map = maps.heat_map("eyes")
    assert (heat_map.shape, heat_map.dtype) == ((128, 128), torch.float32)
    assert 0 <= heat_map.min() < heat_map.max() < 1
    assert maps.heat_map("eyes", size=(20, 30)).shape == (20, 30)


def test_a_heat_map_by_hand(maps):
    by_hand = []
    for tensor in maps.select(["mid_block", "up_blocks.3"]).values():
        mean = tensor[:, 0, :, 5].mean(dim=(0, 1))
        by_hand.append(F.interpolate(mean[None, None], size=(128, 128), mode="bilinear", align_corners=False)[0, 0])
    found = maps.heat_map("eyes", layers=["mid_block", "up_blocks.3"])
    torch.testing.assert_close(found, torch.stack(by_hand).mean(0))


def test_the_heat_maps_of_all_tokens_add_up_to_one_everywhere(maps):
    total = maps.heat_map(list(range(77))) * 77
    torch.testing.assert_close(total, torch.ones_like(total), rtol=0, atol=1e-5)


def test_two_words_are_the_mean_of_their_maps(maps):
    both = (maps.heat_map("blue", occurrence=0) + maps.heat_map("eyes")) / 2
    torch.testing.assert_close(maps.heat_map("blue eyes"), both)


def test_the_sum_over_steps_gives_the_same_means(maps, summed):
    torch.testing.assert_close(summed.heat_map("eyes"), maps.heat_map("eyes"), rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(summed.daam("eyes"), maps.daam("eyes"), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(summed.token_mass(), maps.token_mass(), rtol=1e-4, atol=1e-7)


def test_a_step_a_head_and_a_layer_can_be_chosen(maps):
    name = maps.layers[0]
    one = maps.heat_map("eyes", layers=name, steps=2, heads=1, size=(16, 16))
    torch.testing.assert_close(one, maps[name][2, 0, 1, 5])
    assert maps.select(name, steps=[2, 0], heads=[1], tokens=[5, 4], images=0)[name].shape == (2, 1, 1, 2, 16, 16)


def test_the_share_of_the_tokens_adds_up_to_one(maps):
    mass = maps.token_mass()
    assert mass.shape == (77,)
    assert mass.sum() == pytest.approx(1, abs=1e-5)
    by_hand = torch.stack([tensor[:, 0].mean(dim=(0, 1, 3, 4)) for tensor in maps.select().values()]).mean(0)
    torch.testing.assert_close(mass, by_hand)


def test_every_word_has_its_heat_map(maps):
    found = maps.heat_maps()
    assert list(found) == ["a", "man", "with", "blue", "eyes", "and", "a (7)", "blue (8)", "-", "green", "shirt"]
    assert torch.equal(found["blue (8)"], maps.heat_map("blue", occurrence=1))
    assert list(maps.heat_maps(["eyes", 0], steps=1)) == ["eyes", "0"]


@pytest.mark.parametrize(
    ("choose", "sentence"),
    [
        (lambda maps: maps.heat_map("eyes", steps=9), r"steps=\[9\] cannot be chosen: recorded are 0, 1, 2, 3"),
        (lambda maps: maps.heat_map("eyes", heads=[0, 4]), r"heads=\[0, 4\] cannot be chosen: recorded are 0, 1, 2, 3"),
        (lambda maps: maps.heat_map(77), r"tokens=\[77\] cannot be chosen: recorded are 0, 1, 2, ..., 76"),
        (lambda maps: maps.heat_map("eyes", image=1), r"images=\[1\] cannot be chosen: recorded are 0\."),
        (lambda maps: maps.heat_map("eyes", layers="blocks.9"), "No attention layer fits 'blocks.9'"),
        (lambda maps: maps.select(heads=[]), r"heads=\[\] cannot be chosen"),
        (lambda maps: maps["up_blocks.3"], "'up_blocks.3' fits 3 layers"),
    ],
)
def test_what_was_not_recorded_is_said(maps, choose, sentence):
    with pytest.raises(SdlabError, match=sentence):
        choose(maps)


def test_what_was_combined_while_drawing_cannot_be_chosen(pocket, summed):
    with pytest.raises(SdlabError, match=r"The steps were combined while drawing, .* record with reduce='none'"):
        summed.heat_map("eyes", steps=1)
    with record_attention(pocket, heads="mean") as mean:
        pocket(PROMPT, num_inference_steps=1, output_type="latent")
    with pytest.raises(SdlabError, match=r"The heads were combined while drawing, .* record with heads='all'"):
        mean.heat_map("eyes", heads=0)


@pytest.mark.parametrize("use", ["heat_map", "daam"])
def test_maps_are_empty_before_the_first_drawing(pocket, use):
    with record_attention(pocket) as empty:
        with pytest.raises(SdlabError, match="Nothing has been recorded yet: draw a picture inside the with block"):
            getattr(empty, use)("eyes")
        assert repr(empty) == "AttentionMaps(no prompt: 16 layers, 0 steps, 0.0 MB)"


def test_a_recording_says_what_it_holds(maps):
    assert repr(maps) == ("AttentionMaps('a man with blue eyes and a blue - green shirt': 16 layers, 4 steps, 8.3 MB)")


# figures


@pytest.fixture
def image():
    return Image.fromarray(np.full((64, 96, 3), 200, dtype=np.uint8))


def test_an_overlay_is_hot_where_the_map_is(image):
    heat_map = torch.zeros(8, 12)
    heat_map[2, 3] = 1
    shown = np.asarray(overlay(image, heat_map)).astype(int)
    assert shown.shape == (64, 96, 3)
    red_minus_blue = shown[..., 0] - shown[..., 2]
    row, column = np.unravel_index(red_minus_blue.argmax(), red_minus_blue.shape)
    assert (row // 8, column // 8) == (2, 3)


def test_an_even_map_is_shown_even_and_a_common_scale_compares(image):
    assert len(np.unique(np.asarray(overlay(image, torch.full((4, 4), 0.5))))) <= 3
    weak, strong = torch.eye(8) * 0.1, torch.eye(8)
    assert overlay(image, weak).tobytes() == overlay(image, strong).tobytes()
    assert overlay(image, weak, low=0, high=1).tobytes() != overlay(image, strong, low=0, high=1).tobytes()


@pytest.mark.parametrize("bad", [torch.zeros(2, 3, 4), torch.full((4, 4), torch.nan)])
def test_an_overlay_of_something_else_is_refused(image, bad):
    with pytest.raises(SdlabError, match=r"A heat map is \[height, width\] of finite numbers"):
        overlay(image, bad)


def test_heat_maps_say_in_words_where_they_are_hot(image, maps):
    corner = torch.zeros(9, 9)
    corner[0, 8] = 1
    figure = show_heat_maps(image, {"blue": corner, "eyes": corner.T}, same_scale=True)
    assert "'blue' is hottest in the upper right; 'eyes' is hottest in the lower left" in figure.alt
    assert len(figure.axes) == 3
    assert len(show_heat_maps(image, maps.heat_maps(["eyes", "shirt"])).axes) == 3
    with pytest.raises(SdlabError, match="heat_maps is empty"):
        show_heat_maps(image, {})


def test_a_grid_of_maps_has_a_row_for_each_name(maps):
    steps, layers = [0, 3], ["down_blocks.0", "mid_block"]
    grid = [[maps.heat_map("eyes", layers=layer, steps=step) for step in steps] for layer in layers]
    figure = show_map_grid(grid, layers, ["step 0", "step 3"], alt="'eyes' by layer and step")
    assert len(figure.axes) == 4
    assert figure.axes[2].get_ylabel() == "mid_block"


def test_the_shares_are_bars_with_the_padding_in_one(maps):
    figure = show_token_mass(maps.tokens(), maps.token_mass())
    words = len(maps.words())
    names = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert names[-1] == f"padding ({77 - words - 2})"
    assert len(names) == words + 3
    heights = [bar.get_height() for bar in figure.axes[0].patches]
    assert sum(heights) == pytest.approx(1, abs=1e-5)
    assert f"{max(heights):.0%}" in figure.alt
    with pytest.raises(SdlabError, match="77 tokens but 3 shares"):
        show_token_mass(maps.tokens(), [1, 0, 0])


def test_the_text_encoders_attention_is_shown_with_its_strongest_pair():
    attention = torch.tensor([[1.0, 0, 0], [0.5, 0.5, 0], [0.1, 0.8, 0.1]])
    figure = show_text_attention(["<|startoftext|>", "blue</w>", "eyes</w>"], attention)
    assert "'eyes' looks most at 'blue'" in figure.alt
    with pytest.raises(SdlabError, match="there are 2 tokens"):
        show_text_attention(["blue</w>", "eyes</w>"], attention)


def test_the_text_encoders_attention_of_a_prompt_is_shown(pocket, maps):
    attention = text_self_attention(pocket, PROMPT)
    figure = show_text_attention(maps.tokens()[: attention.shape[-1]], attention[0].mean(0), title="layer 0")
    assert figure.axes[0].get_title() == "layer 0"
