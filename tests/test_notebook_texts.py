"""Where the last digits are a processor's, what cells print is compared by its words and by numbers within a tenth."""

import nbformat
import pytest

from notebook_plugin import compare, distances
from notebook_texts import compare_numbers, compare_words, distance, text_distance, words_and_numbers


def printed(text: str) -> list:
    return [nbformat.v4.new_output("stream", name="stdout", text=text)]


def cell(text: str, *tags: str):
    return nbformat.v4.new_code_cell("1", outputs=printed(text), metadata={"tags": list(tags)})


def test_words_and_numbers_are_told_apart():
    words, numbers = words_and_numbers("loss  0.31, 12 % of 2,048 in 64x64: -3e-08\n  94%")
    assert words == "loss #, # of # in 64x64: # #"
    assert numbers == ["0.31", "12%", "2048", "-3e-08", "94%"]


@pytest.mark.parametrize(
    ("stored", "fresh", "near"),
    [
        ("0.31", "0.33", True),  # two units of the last digit
        ("0.31", "0.35", False),
        ("20.3", "22.2", True),  # a tenth
        ("20.3", "22.4", False),
        ("3e-08", "5e-08", True),
        ("3e-08", "6e-08", False),
        ("19%", "25%", True),  # one picture of sixteen
        ("19%", "32%", False),
        ("6", "8", True),
        ("6", "9", False),
        ("-0.2", "0.2", False),
    ],
)
def test_a_number_is_near_within_two_units_a_tenth_or_ten_points(stored, fresh, near):
    assert (distance(stored, fresh) <= 1) is near
    assert (compare_numbers(printed(stored), printed(fresh)) == "") is near


def test_other_words_are_found_whatever_the_numbers_are():
    assert "stored is 'loss #'" in compare_words(printed("loss 0.3"), printed("error 0.3"))
    assert compare_words(printed("loss 0.3"), printed("loss 7")) == ""
    result = nbformat.v4.new_output("display_data", {"text/plain": "b"})
    assert "(nothing)" in compare_words([*printed("a"), result], printed("a"))
    assert text_distance(printed("loss 0.3"), printed("error 0.3")) == float("inf")


def test_tags_decide_what_is_compared():
    fresh = printed("took 9.0")
    assert "9.0" in compare(cell("took 3.0", "nbval-ignore-output"), fresh)
    assert compare(cell("took 3.0", "nbval-ignore-output", "measures-time"), fresh) == ""
    assert "took" in compare(cell("lasted 3.0", "nbval-ignore-output", "measures-time"), fresh)
    assert dict(distances(cell("took 8.9", "nbval-ignore-output"), fresh))["numbers"] == pytest.approx(0.1 / 0.89)
