"""Plain data are compared kind first, then shape, dtype and values, and the difference is one clause."""

import math

import numpy as np
import pytest
import torch
from PIL import Image

from sdcourse.checks.compare import difference
from sdcourse.checks.plain import NotPlain, plain

GREY = Image.new("RGB", (4, 4), (100, 100, 100))


@pytest.mark.parametrize(
    "value",
    [None, True, 3, 2.5, math.nan, math.inf, "blue", [1, 2], (1.0, "a"), {"a": torch.ones(2)}, GREY, torch.empty(0, 3),
     torch.tensor([math.nan, 1.0]), torch.tensor(3), torch.ones(2, dtype=torch.float16)],
)  # fmt: skip
def test_a_value_does_not_differ_from_itself(value):
    assert difference(plain(value), plain(value)) is None


@pytest.mark.parametrize(
    ("actual", "expected", "said"),
    [
        (4_407_001, 4_407_000, "expected 4407000, got 4407001"),
        (1.01, 1.0, "expected 1, got 1.01"),
        (True, 1, "expected a number, got True or False"),
        (None, torch.ones(2), "expected a tensor, got None (is a return missing?)"),
        (1.0, torch.tensor(1.0), "leave out .item()"),
        (torch.tensor(1.0), 1.0, ".item() turns"),
        (torch.ones(2, 3), torch.ones(3, 2), "expected the shape [3, 2], got [2, 3]"),
        (torch.ones(2), torch.ones(2, dtype=torch.float64), "expected values of torch.float64, got torch.float32"),
        (torch.tensor([1.0, math.nan]), torch.ones(2), "not finite"),
        (torch.tensor([1, 2]), torch.tensor([1, 3]), "most of all at [1]: expected 3, got 2"),
        (torch.tensor([1000001]), torch.tensor([1000000]), "expected 1000000, got 1000001"),
        ([1, 2, 3], [1, 2], "expected a list or tuple of 2, got a list or tuple of 3"),
        ([1, 3], [1, 2], "item 1: expected 2, got 3"),
        ({"a": 1}, {"b": 1}, "the key 'b' is missing and the key 'a' is not expected"),
        ({"a": 2}, {"a": 1}, "'a': expected 1, got 2"),
        ("grey", "gray", "expected 'gray', got 'grey'"),
        (Image.new("RGB", (4, 4), (110, 100, 100)), GREY, "differ by up to 10 of 255"),
        (Image.new("RGB", (5, 4)), GREY, "expected a picture of (4, 4) pixels"),
    ],
)
def test_a_difference_is_said_in_one_clause(actual, expected, said):
    assert said in difference(actual, expected)


def test_half_precision_has_room_for_its_rounding():
    expected = torch.tensor([1.0], dtype=torch.float16)
    assert difference(expected * 1.005, expected) is None
    assert difference(expected * 1.05, expected)


def test_arrays_and_their_numbers_become_tensors_and_numbers():
    assert torch.equal(plain(np.arange(3)), torch.arange(3))
    assert plain(np.float32(0.5)) == 0.5


@pytest.mark.parametrize("value", [object(), torch.nn.Linear(1, 1), {1, 2}, lambda: 1, [object()], np.array(["a"])])
def test_what_is_not_plain_is_refused(value):
    with pytest.raises(NotPlain):
        plain(value)


def test_a_message_between_processes_comes_back_as_it_was():
    from sdcourse.grading.wire import BadMessage, decode, encode

    sent = {"a": [1, 2.5, None, ..., True], 3: (torch.ones(2, 2, dtype=torch.bfloat16), torch.tensor(4)), "p": GREY}
    assert difference(decode(encode(sent)), sent) is None
    for damaged in (b"", b"12345678", encode(sent)[:-3], b"\x80\x04."):
        with pytest.raises(BadMessage):
            decode(damaged)


def test_a_tensor_stands_for_a_list_of_numbers_and_for_nothing_else():
    assert difference(torch.tensor([3, 2]), [3, 2]) is None
    assert difference(torch.tensor([[1.0, 2.0]]), [[1.0, 2.0]]) is None
    assert "expected 2" in difference(torch.tensor([3, 1]), [3, 2])
    assert "expected" in difference(torch.tensor([3.0, 2.0]), ["3", "2"])
    assert "expected" in difference(torch.tensor([3, 2]), {"a": 3, "b": 2})
