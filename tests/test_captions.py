"""Captions: they say what is true, name what they claim to name, and their false twins are false."""

import re
from dataclasses import replace

import numpy as np
import pytest

from sdcourse.portraits import NAMES, VALUES, caption, compose, draw_portrait, plan_portrait, truth_matrix
from sdcourse.portraits.attributes import Attributes
from sdcourse.portraits.captions import (
    COLOR_WORDS,
    SAY_ABSENT,
    SCENE_PHRASES,
    SCENE_TAGS,
    SUBJECT_WORDS,
    caption_corpus,
    swap_captions,
    word_fit,
)
from sdcourse.portraits.vocabulary import IMPRESSIONISTS, SECOND, tone_of

PLANS = [plan_portrait(seed) for seed in range(300)]
SECOND_PLANS = [plan_portrait(seed, world="second") for seed in range(300)]


def said(name, value, subject):
    """Return the words, one of which a caption that names this value must contain."""
    if name == "subject":
        return SUBJECT_WORDS[value]
    if name == "scene":
        return (*SCENE_PHRASES[value], SCENE_TAGS[value])
    if name == "style":
        return ("cartoon", "drawing") if value == "none" else (value,)
    if value in ("none", "no"):
        return ("without", f"no {name}")
    if name == "glasses":
        return ("glasses",)
    return COLOR_WORDS.get((name, value), (value,))


def test_captions_say_every_attribute_they_name():
    rng = np.random.default_rng(0)
    for plan in PLANS:
        item = caption(plan, rng)
        for name, value in item.named.items():
            assert getattr(plan.attributes, name) == value
            assert any(words in item.text for words in said(name, value, plan.attributes.subject)), (
                name,
                value,
                item.text,
            )


def test_captions_do_not_mention_a_color_that_is_nowhere_in_the_portrait():
    colors = {value for name in ("eyes", "hair", "shirt", "hat") for value in VALUES[name]} - {"none"}
    synonyms = {word: value for (_, value), words in COLOR_WORDS.items() for word in words}
    rng = np.random.default_rng(1)
    for plan in PLANS:
        text = caption(plan, rng).text.replace("-", " ").replace(",", " ").split()
        true = {getattr(plan.attributes, name) for name in ("eyes", "hair", "shirt", "hat")}
        for word in text:
            value = synonyms.get(word, word)
            assert value not in colors or value in true, (word, plan.attributes)


def test_a_caption_is_true_of_its_own_portrait_and_its_twin_is_false():
    rng = np.random.default_rng(2)
    for plan in PLANS[:200]:
        item = caption(plan, rng)
        assert truth_matrix([item], [plan])[0, 0] > 0.4
        twin = swap_captions(item, rng)
        if twin is not None:
            assert truth_matrix([twin], [plan])[0, 0] == 0, (item.text, twin.text)
            assert twin.text != item.text


def test_the_truth_matrix_equals_a_comparison_attribute_by_attribute():
    rng = np.random.default_rng(3)
    captions = [caption(plan, rng, drop=0.7) for plan in PLANS[:60]]
    truth = truth_matrix(captions, PLANS[:60])
    for row, item in enumerate(captions):
        for column, plan in enumerate(PLANS[:60]):
            fits = all(getattr(plan.attributes, name) in values for name, values in item.allowed.items())
            assert (truth[row, column] > 0) == fits
    assert 0 < (truth > 0).mean() < 0.5


def test_what_is_absent_is_said_as_often_as_asked():
    bare = [plan for plan in PLANS if plan.attributes.hat == "none" and plan.attributes.style == "none"]
    for name in ("hat", "style"):
        share = {}
        for absent_said in (0.0, 0.5, 1.0):
            rng = np.random.default_rng(5)
            items = [caption(plan, rng, drop=0.0, absent_said=absent_said) for plan in bare for _ in range(20)]
            share[absent_said] = np.mean([name in item.named for item in items])
        low = SAY_ABSENT[name]
        assert share[0.0] == pytest.approx(low, abs=0.06)
        assert share[0.5] == pytest.approx((1 + low) / 2, abs=0.06)
        assert share[1.0] == 1.0


def test_every_value_is_named_in_many_captions_and_some_are_short():
    rng = np.random.default_rng(4)
    items = [caption(plan_portrait(seed), rng) for seed in range(3000)]
    for name in NAMES:
        for value in VALUES[name]:
            assert sum(item.named.get(name) == value for item in items) >= 40, (name, value)
    lengths = [len(item.text.split()) for item in items]
    assert min(lengths) <= 3 and max(lengths) >= 25 and len({item.text for item in items}) > 2700


def test_the_sentence_of_the_course_can_be_composed():
    texts = {compose({"subject": "man", "eyes": "blue"}, "man", layout=layout).text for layout in range(60)}
    assert "a man with blue eyes" in texts and "a blue-eyed man" in texts


def test_words_for_a_man_are_graded_and_each_has_its_own_evidence():
    def plan(**details):
        made = plan_portrait(1, attributes=Attributes(subject="man", hat="red"))
        return type(made)(1, made.attributes, made.details | details)

    formal = plan(collar="tie", hat_kind="bowler", stubble=False, moustache=False)
    casual = plan(collar="hood", hat_kind="cap", stubble=True, moustache=False)
    assert word_fit("gentleman", formal) > word_fit("guy", formal)
    assert word_fit("guy", casual) > word_fit("gentleman", casual)
    assert all(word_fit(word, made) >= 0.4 for word in SUBJECT_WORDS["man"] for made in (formal, casual))


@pytest.mark.parametrize(("wide", "subjects"), [("person", {"man", "woman"}), ("pet", {"cat", "dog"})])
def test_wider_words_are_true_of_several_subjects(wide, subjects):
    item = compose({"subject": "man" if wide == "person" else "cat"}, wide)
    for plan in PLANS[:80]:
        assert (truth_matrix([item], [plan])[0, 0] > 0) == (plan.attributes.subject in subjects)
    assert "subject" not in item.named


def test_a_hair_color_is_fur_on_an_animal():
    assert "black fur" in compose({"subject": "cat", "hair": "black"}, "cat", layout=1).text
    assert "fur" not in " ".join(compose({"subject": "man", "hair": "black"}, "man", layout=n).text for n in range(30))


def test_the_corpus_is_reproducible():
    assert caption_corpus(20, seed=3) == caption_corpus(20, seed=3) != caption_corpus(20, seed=4)


# ---------------------------------------------------------------- the second world


def words_of(texts):
    return {word for text in texts for word in re.findall(r"[a-z]+", text.lower())}


def test_captions_of_the_second_world_have_250_to_400_words_and_the_first_keeps_its_own():
    second = words_of(caption_corpus(6000, world="second"))
    assert 250 <= len(second) <= 400
    assert {"photo", "picture", "please", "grey", "gray", "blond", "blonde", "navy", "beret", "bearded"} <= second
    assert len(words_of(caption_corpus(6000))) < 90


def test_captions_of_the_second_world_say_what_they_name_in_one_of_its_words():
    rng = np.random.default_rng(0)
    for plan in SECOND_PLANS:
        item = caption(plan, rng)
        for name, value in item.named.items():
            assert getattr(plan.attributes, name) == value
            options = SECOND.colors.get((name, value), ()) or SECOND.things.get(name, ())
            if name == "subject":
                options = SECOND.subjects[value]
            elif name == "scene":
                options = (*SECOND.scenes[value], *SECOND.scene_tags[value])
            elif name == "style":
                openings = " ".join(SECOND.cartoon_openings)
                options = (value,) if value != "none" else [word for word in openings.split() if len(word) > 4]
            elif value in ("none", "no"):
                options = ("without", f"no {name}")
            assert any(word in item.text for word in options), (name, value, item.text)


def test_a_caption_of_the_second_world_is_true_of_its_portrait_and_its_twin_is_false():
    rng = np.random.default_rng(2)
    truths = []
    for plan in SECOND_PLANS:
        item = caption(plan, rng)
        assert item.world == "second"
        truths.append(truth_matrix([item], [plan])[0, 0])
        twin = swap_captions(item, rng)
        if twin is not None:
            assert truth_matrix([twin], [plan])[0, 0] == 0, (item.text, twin.text)
            assert twin.text != item.text and twin.world == "second"
    assert min(truths) > 0 and np.mean(truths) > 0.7


def test_words_fit_the_shade_that_a_portrait_shows():
    plan = plan_portrait(1, attributes=Attributes(shirt="blue"), world="second")

    def shaded(shade):
        return replace(plan, details={**plan.details, "shades": {**plan.details["shades"], "shirt": shade}})

    dark, light = shaded(-0.9), shaded(0.9)
    for word, better, worse in (("navy", dark, light), ("dark blue", dark, light), ("azure", light, dark)):
        assert SECOND.grade("shirt", word, better) > SECOND.grade("shirt", word, worse) + 0.5
    assert SECOND.grade("shirt", "blue", dark) == SECOND.grade("shirt", "blue", light) == 1.0
    mean = [draw_portrait(made, masks=True) for made in (dark, light)]
    means = [made.image[made.masks["shirt"]].mean() for made in mean]
    assert means[0] + 15 < means[1]
    assert tone_of("pale blue") == "light" and tone_of("blue") == ""


@pytest.mark.parametrize("kind", ["beret", "cap", "bowler", "top hat"])
def test_a_kind_of_hat_is_named_where_it_is_seen(kind):
    shown = {"top hat": "tophat"}.get(kind, kind)
    for plan in SECOND_PLANS:
        fits = plan.attributes.hat != "none" and plan.details["hat_kind"] == shown
        assert SECOND.grade("thing", kind, plan) == (1.0 if fits else 0.1)


def test_what_no_attribute_names_is_only_said_where_it_is_so():
    rng, said = np.random.default_rng(4), 0
    for plan in SECOND_PLANS * 3:
        item = caption(plan, rng)
        for kind, word in item.graded:
            if kind == "extra":
                said += 1
                assert SECOND.grade("extra", word, plan) == 1.0
                assert word.removeprefix("a ") in item.text
    assert said > 100


def test_a_twin_keeps_the_words_for_all_that_it_does_not_change():
    rng, kept = np.random.default_rng(5), 0
    for plan in SECOND_PLANS:
        item = caption(plan, rng, drop=0.0)
        twin = swap_captions(item, rng)
        for place, word in item.words.items():
            name = place.split()[0]
            if name in item.named and twin.named.get(name) == item.named[name]:
                kept += 1
                assert twin.words[place] == word and word in twin.text
    assert kept > 500


def test_the_name_of_another_impressionist_is_less_wrong_than_a_far_painters():
    plans = [plan_portrait(1, attributes=Attributes(style=style)) for style in VALUES["style"]]
    monet = compose({"subject": "man", "style": "Monet"}, "man")
    school = compose({"subject": "man", "style": "Monet"}, "man", impressionist=True)
    fit = word_fit("man", plans[0])
    strict, graded = truth_matrix([monet], plans)[0] / fit, truth_matrix([monet], plans, school=0.3)[0] / fit
    np.testing.assert_allclose(strict, [0, 1, 0, 0, 0], atol=1e-6)
    np.testing.assert_allclose(graded, [0, 1, 0.3, 0.3, 0], atol=1e-6)
    np.testing.assert_allclose(truth_matrix([school], plans, school=0.3)[0] / fit, [0, 1, 1, 1, 0], atol=1e-6)


def test_captions_of_impressionists_say_so_in_a_share_of_cases():
    rng = np.random.default_rng(6)
    shares = {}
    for world in ("first", "second"):
        plans = [plan_portrait(seed, world=world) for seed in range(4000)]
        items = [caption(plan, rng, drop=0.0) for plan in plans if plan.attributes.style in IMPRESSIONISTS]
        shares[world] = np.mean(["impressionist" in item.text for item in items])
    assert shares["first"] == pytest.approx(0.08, abs=0.02)
    assert shares["second"] == pytest.approx(0.25, abs=0.04)
