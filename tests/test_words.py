import numpy as np
import pytest
import torch

from sdcourse.lessons.charts import plot_share_bars, plot_strips
from sdcourse.lessons.lesson_06 import (
    CARRIERS,
    PERSON_CARRIERS,
    attention_input_and_output,
    byte_characters,
    centre_distances,
    contextual_vectors,
    cosine,
    merge_rules,
    nearest,
    off_diagonal,
    pair_groups,
    project,
    rank_agreement,
    static_vectors,
    word_list,
)
from sdcourse.lessons.lesson_06_figures import NearestPanel, plot_matching
from sdlab import SdlabError, load_pipeline
from sdlab.compat import text_transformer
from sdlab.figures import CourseFigure


@pytest.fixture(scope="module")
def pipe():
    return load_pipeline()


@pytest.fixture(scope="module")
def vectors(pipe):
    return contextual_vectors(pipe, [word.text for word in word_list()]).mean(dim=1)


def test_no_word_is_listed_twice_and_every_carrier_has_one_place_for_it():
    texts = [word.text for word in word_list()]
    assert len(texts) == len(set(texts))
    assert all(carrier.count("{}") == 1 for carrier in (*CARRIERS, *PERSON_CARRIERS))
    assert len(set(CARRIERS)) == len(CARRIERS)
    assert len(set(PERSON_CARRIERS)) == len(PERSON_CARRIERS)


def test_a_kind_that_does_not_exist_is_an_error():
    with pytest.raises(SdlabError, match="painters"):
        word_list("vegetables")


def test_the_parts_of_a_text_encoder_are_found_with_and_without_a_projection():
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    sizes = {"vocab_size": 50, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}
    config = CLIPTextConfig(**sizes, num_attention_heads=2, bos_token_id=48, eos_token_id=49, pad_token_id=49)
    for kind in (CLIPTextModel, CLIPTextModelWithProjection):
        parts = text_transformer(kind(config))
        assert parts.embeddings.token_embedding.weight.shape == (50, 16)
        assert len(parts.encoder.layers) == 1
    with pytest.raises(SdlabError, match="Linear"):
        text_transformer(torch.nn.Linear(2, 2))


def test_every_byte_has_its_own_printable_character():
    characters = {byte_characters(chr(number)) for number in range(128)}
    assert len(characters) == 128
    assert all(character.isprintable() and not character.isspace() for character in characters)
    assert len(byte_characters("蓝")) == 3


def test_the_merge_rules_join_neighbouring_pieces_of_the_vocabulary(pipe):
    vocabulary, rules = pipe.tokenizer.get_vocab(), merge_rules(pipe.tokenizer)
    assert sorted(rules.values()) == list(range(len(rules)))
    assert all("".join(pair) in vocabulary for pair in rules)


def test_what_leaves_the_attention_follows_from_what_enters_it(pipe):
    ids = pipe.tokenizer("a man with blue eyes", return_tensors="pt").input_ids
    entering, leaving = attention_input_and_output(pipe, ids, 1)
    assert entering.shape == leaving.shape == (1, ids.shape[1], pipe.text_encoder.config.hidden_size)
    shorter, _ = attention_input_and_output(pipe, ids[:, :3], 1)
    torch.testing.assert_close(shorter, entering[:, :3], rtol=1e-3, atol=1e-4)
    layers = text_transformer(pipe.text_encoder).encoder.layers
    assert not any(layer.self_attn._forward_hooks for layer in layers)


def test_a_static_vector_is_the_row_of_the_table(pipe):
    row = pipe.text_encoder.get_input_embeddings().weight[pipe.tokenizer("blue").input_ids[1]]
    assert torch.equal(static_vectors(pipe, ["blue"])[0], row.detach().float().cpu())


def test_a_contextual_vector_is_the_row_of_prompt_embeds(pipe):
    prompt_embeds, _ = pipe.encode_prompt("a man with blue eyes", pipe.device, 1, False)
    found = contextual_vectors(pipe, ["eyes"], ["a man with blue {}"])[0, 0]
    torch.testing.assert_close(found, prompt_embeds[0, 5].detach().float().cpu(), rtol=1e-3, atol=1e-4)


def test_what_follows_a_word_does_not_change_its_vector(pipe):
    short, longer = contextual_vectors(pipe, ["cat"], ["a {}", "a {} in the snow"])[0]
    torch.testing.assert_close(short, longer, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("carrier", ["a cat", "{} and {}", "a tom{}", "a {}fish"])
def test_a_carrier_without_exactly_one_place_for_a_whole_word_is_an_error(pipe, carrier):
    with pytest.raises(SdlabError, match="once"):
        contextual_vectors(pipe, ["cat"], [carrier])


def test_a_word_without_letters_is_an_error(pipe):
    with pytest.raises(SdlabError, match="no letters"):
        static_vectors(pipe, [" "])


def test_centred_cosines_ignore_what_all_vectors_share():
    rows = torch.randn((40, 30), generator=torch.Generator().manual_seed(0))
    shifted = rows + 100
    assert off_diagonal(cosine(shifted)).min() > 0.9
    torch.testing.assert_close(cosine(shifted, centred=True), cosine(rows, centred=True), rtol=0, atol=1e-3)


def test_the_nearest_word_is_never_the_word_itself():
    assert nearest(torch.tensor([[1.0, 0.2, 0.3], [0.2, 1.0, 0.1], [0.3, 0.1, 1.0]])) == [2, 0, 0]


def test_words_with_the_same_meaning_nearly_coincide_in_the_shipped_model(vectors):
    words, similar = word_list(), cosine(vectors, centred=True)
    groups, neighbours = pair_groups(similar, words), nearest(similar)
    paired = [row for row, one in enumerate(words) if sum(two.meaning == one.meaning for two in words) > 1]
    own = [words[neighbours[row]].meaning == words[row].meaning for row in paired]
    assert np.mean(own) > 0.95
    assert np.mean(groups["same meaning"]) > 0.9 > 0.3 > np.mean(groups["different kinds"])
    assert sum(map(len, groups.values())) == len(words) * (len(words) - 1) // 2


def test_pca_maps_keep_the_largest_distances_of_a_flat_cloud():
    flat = torch.zeros(30, 20)
    angles = torch.linspace(0, 6, 30)
    flat[:, 3], flat[:, 7] = angles.cos(), angles.sin()
    assert project(flat, "pca").trust > 0.99


@pytest.mark.slow  # UMAP is compiled for a quarter of a minute; lesson 06 draws with it
def test_umap_repeats_itself_for_a_seed_and_is_quiet(vectors, capfd, recwarn):
    threads = torch.get_num_threads()
    one, two = project(vectors, "umap", seed=3), project(vectors, "umap", seed=3)
    assert torch.get_num_threads() == threads
    assert np.array_equal(one.points, two.points)
    assert one.trust > 0.8 > 0.65 > project(vectors, "random").trust
    assert capfd.readouterr().err == ""
    assert not recwarn.list


def test_unknown_methods_and_too_few_vectors_are_errors(vectors):
    with pytest.raises(SdlabError, match="umap"):
        project(vectors, "tsne")
    with pytest.raises(SdlabError, match="too few"):
        project(vectors[:8])


def test_rank_agreement_is_one_for_the_same_order_and_minus_one_for_the_opposite():
    assert rank_agreement([1, 2, 9], [10, 20, 21]) == pytest.approx(1)
    assert rank_agreement([1, 2, 9], [3, 2, 1]) == pytest.approx(-1)


def test_the_distance_of_two_meanings_is_that_of_their_centres():
    words = word_list("people")
    points = np.array([[0.0, 0], [1, 0], [2, 0], [1, 3], [1, 4], [1, 5]])
    assert centre_distances(points, words) == pytest.approx([4])


def test_the_figures_of_the_lesson_are_course_figures(vectors):
    words = word_list()
    groups = pair_groups(cosine(vectors, centred=True), words)
    rates = {"style": {"share": 0.7, "n": 10, "interval": [0.5, 0.9]}}
    pictures = [np.zeros((8, 8, 3), dtype=np.uint8)] * 2
    for figure in (
        plot_strips(groups, alt="strips of dots, one for each group", xlabel="cosine"),
        plot_share_bars(rates, chance=0.5, alt="one bar at 70 percent"),
        plot_matching({"": torch.eye(2)}, pictures, ["a cat", "a dog"], alt="a bright diagonal of two"),
        NearestPanel(words, {"contextual": vectors})("man", "contextual"),
        NearestPanel(words, {"contextual": vectors}, projections=("umap",))("man", "contextual", "umap"),
    ):
        assert isinstance(figure, CourseFigure)
        assert len(figure.to_base64()) > 1000
