"""The figures of lesson 07 show what was recorded, and skip connections are edited where they are read."""

import pytest
import torch
from PIL import Image

from sdcourse.lessons.charts import show_bars
from sdcourse.lessons.lesson_07_figures import (
    levels,
    map_names,
    show_channels,
    show_embeddings,
    show_feature_maps,
    show_sizes,
    similarities,
)
from sdlab import SdlabError, load_pipeline
from sdlab.instruments import edit_skips, record_features, unet_table


@pytest.fixture(scope="module")
def pipe():
    return load_pipeline("pocket", device="cpu")


@pytest.fixture(scope="module")
def table(pipe):
    return unet_table(pipe)


def call(pipe):
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(1, 4, 16, 16, generator=generator)
    words = torch.randn(1, 77, pipe.unet.config.cross_attention_dim, generator=generator)
    with torch.no_grad():
        return pipe.unet(latents, 500, encoder_hidden_states=words).sample


@pytest.fixture(scope="module")
def features(pipe, table):
    with record_features(pipe, [row.name for row in table.rows]) as recorded:
        call(pipe)
    return recorded


def test_each_skip_connection_is_on_one_level_the_finest_first(table):
    found = levels(table)
    assert list(found) == ["16 x 16", "8 x 8", "4 x 4", "2 x 2"]
    assert sorted(number for numbers in found.values() for number in numbers) == list(range(12))
    for size, numbers in found.items():
        assert all(f"{table.skips[n].shape[1]} x {table.skips[n].shape[2]}" == size for n in numbers)


def test_each_level_is_shown_once_on_the_way_down_and_once_on_the_way_up(table):
    down, up = map_names(table)
    assert down[0] == "conv_in" and down[-1] == "mid_block" and up[0] == "conv_out"
    sizes = [table[name].output[1] for name in down[1:-1]]
    assert sizes == [table[name].output[1] for name in up[1:]] == [16, 8, 4, 2]


def test_an_edit_sees_what_the_skip_connection_carries(pipe, table):
    seen = []
    with record_features(pipe, "skips") as features, edit_skips(pipe, lambda skip: seen.append(skip) or skip, [0, 11]):
        call(pipe)
    assert torch.equal(seen[0], features.skip(0)[0]) and torch.equal(seen[1], features.skip(11)[0])


def test_an_edit_that_changes_nothing_leaves_the_prediction(pipe):
    before = call(pipe)
    with edit_skips(pipe, lambda skip: skip, range(12)):
        assert torch.equal(call(pipe), before)


def test_a_cut_changes_the_prediction_and_is_gone_afterwards_also_after_an_error(pipe):
    before = call(pipe)
    with edit_skips(pipe, torch.zeros_like, [11]):
        assert not torch.allclose(call(pipe), before, atol=0.01)
    assert torch.equal(call(pipe), before)
    with pytest.raises(RuntimeError), edit_skips(pipe, lambda skip: skip[..., 1:], [11]):
        call(pipe)
    assert torch.equal(call(pipe), before)


def test_a_skip_connection_that_is_not_there_is_named(pipe):
    with pytest.raises(SdlabError, match=r"no skip connection 12.*0 to 11"), edit_skips(pipe, torch.zeros_like, [12]):
        pass


def test_similarities_are_cosines():
    vectors = torch.tensor([[2.0, 0.0], [0.0, 3.0], [-1.0, 0.0]])
    torch.testing.assert_close(similarities(vectors), torch.tensor([[1.0, 0, -1], [0, 1, 0], [-1, 0, 1]]))


def test_feature_maps_show_every_level_and_the_picture(features, table):
    figure = show_feature_maps(features, table, step=0, alt="maps of every level", image=torch.zeros(8, 8, 3).numpy())
    assert sum(bool(axis.images) for axis in figure.axes) == 6 + 5 + 1
    assert "mid_block" in figure.axes[5].get_title()


def test_the_strongest_channel_stands_first(features):
    figure = show_channels(features, "conv_out", step=0, alt="four channels of the prediction")
    maps = features["conv_out"][0, 0]
    strongest = maps[maps.flatten(1).std(dim=1).argmax()]
    tile = torch.as_tensor(figure.axes[0].images[0].get_array()[2:50:3, 2:50:3].astype("float32"))
    assert torch.corrcoef(torch.stack([tile.flatten(), strongest.flatten()]))[0, 1] > 0.98


def test_bars_show_the_shares_in_percent():
    figure = show_bars({"one": {"a": 0.25, "b": 0.75}, "two": {"a": 1.0}}, alt="bars of two series", ylabel="percent")
    assert [bar.get_height() for bar in figure.axes[0].patches] == [25, 75, 100, 0]


def test_embeddings_are_shown_as_waves_and_two_matrices():
    timesteps = torch.arange(0, 100, 10)
    figure = show_embeddings(torch.rand(10, 6), torch.rand(10, 12), timesteps, alt="waves and two square maps")
    assert [axis.images[0].get_array().shape for axis in figure.axes[:3]] == [(10, 6), (10, 10), (10, 10)]


def test_pictures_of_different_sizes_stand_at_one_scale():
    figure = show_sizes([Image.new("RGB", size) for size in ((64, 32), (32, 64))], alt="two pictures of two sizes")
    extents = [image.get_extent() for image in figure.axes[0].images]
    assert [(right - left, top - bottom) for left, right, bottom, top in extents] == [(64, 32), (32, 64)]
