"""Each rule holds at its thresholds and not below them; the first that holds decides, and what came near is told."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from lightning_interpret.bad_cases import CAUSES
from lightning_interpret.causes import Setting
from lightning_interpret.causes.case import Case
from lightning_interpret.causes.cues import Shortcut
from lightning_interpret.causes.erase import Words
from lightning_interpret.causes.negations import negated
from lightning_interpret.causes.rules import Evidence, verdicts
from lightning_interpret.causes.scan import Scan
from lightning_interpret.causes.words import WordIndex
from lightning_interpret.evidence import Approximation, InfluenceRow, TrainingExample
from lightning_interpret.methods.neighbors import Answers

NAMES = ("negative", "positive", "mixed")
SETTING = Setting()
TRAINED = ["the food was good", "the soup was bad", "a plain old place", "not bad at all"] * 3


def case(words="the food was good", *, sure=0.95, predicted=1, other=0, wrong=True, **options):
    """A case of number 0, whose words are parted by spaces."""
    given = Words.of(words.split())
    return Case(0, 0, "confident" if sure >= 0.9 else "wrong", predicted, other, wrong, sure, given, **options)


def known(
    asked, *, neighbors=(1,) * 10, labels=None, suspected=(), alike=None, words=None, distance=0.2, notes=(), **options
):
    """What is known of a case: by default it stands among training examples of its predicted class, and is like none.

    ``neighbors`` are the classes of training examples 0, 1, ..., and ``alike`` the similarity of each of them.
    """
    index = WordIndex()
    index.add(range(len(TRAINED)), TRAINED, [0] * len(TRAINED))
    given = [*neighbors, *[0] * (12 - len(neighbors))] if labels is None else labels
    store = SimpleNamespace(ids=torch.arange(12))
    training = SimpleNamespace(
        classes=NAMES,
        labels=dict(enumerate(given)),
        suspected=dict.fromkeys(suspected),
        texts=SimpleNamespace(index=index, row_of={i: i for i in range(12)}),
        fitted=SimpleNamespace(store=store),
    )
    count = len(neighbors)
    chances = torch.full((1, 3), 0.0)
    chances[0, asked.other] = 1 - asked.before
    chances[0, asked.predicted] = asked.before
    answers = Answers(
        chances,
        torch.linspace(0.1, 0.9, count)[None],
        torch.arange(count)[None],
        torch.tensor([neighbors]).reshape(1, count),
        torch.tensor([asked.other if asked.wrong else asked.predicted]),
        torch.tensor([True]),
    )
    scan = Scan(answers, [7], [" ".join(asked.words.shown)], [tuple(notes)], [0])
    near = torch.zeros(1, 12)
    for i, value in enumerate(alike or ()):
        near[0, i] = value
    said = None if words is None else torch.tensor([words])
    basis = {"shortcuts": {}, "tails": {}, "confused": {frozenset((asked.predicted, asked.other)): 1}}
    return Evidence(scan, training, SETTING, near, said, torch.tensor([distance]), **basis | options)


def judged(cause, asked, **options):
    """What the rule of one cause says, if it comes near."""
    found = [each for each in verdicts(0, asked, known(asked, **options)) if each.cause == cause]
    return found[0] if found else None


def holds(cause, asked, **options):
    found = judged(cause, asked, **options)
    assert found is None or 0 <= found.confidence <= 1
    assert found is None or found.holds == (found.confidence >= 0.5)
    return found is not None and found.holds


# Which of several


def test_no_rule_holds_says_what_came_near():
    first, *near = verdicts(0, case("the food was good"), known(case(), neighbors=(1, 1, 1, 1, 0, 2, 2, 2, 2, 2)))
    assert (first.cause, first.cue, first.confidence, first.holds) == ("unexplained", "", 0.0, True)
    assert first.evidence[0].startswith("No rule holds; nearest to it: ")
    assert all(not each.holds and each.confidence >= 0.35 for each in near)
    assert [each.confidence for each in near] == sorted((each.confidence for each in near), reverse=True)


def test_where_nothing_comes_near_it_says_so():
    asked = case("the food was good", sure=0.5, wrong=False)
    (first,) = verdicts(0, asked, known(asked, neighbors=()))
    assert first.evidence == ("No rule holds; nearest to it: none comes near.",)


def test_of_several_the_first_in_the_order_of_causes_decides_and_the_others_speak_against_it():
    asked = case("zyx wvu food tsr")
    given = {"notes": ["cut to 8 of 16 tokens"], "tails": {0: [0.9, 0.05, 0.05]}, "words": [0.05, 0.9, 0.05]}
    found = verdicts(0, asked, known(asked, suspected=(0, 1, 2), **given))
    holding = [each.cause for each in found if each.holds]
    assert holding == ["truncation", "coverage", "validation_label_error"]
    assert holding == sorted(holding, key=list(CAUSES).index)
    assert len(found[0].against) == 2
    assert found[0].against[0].startswith("The rule of coverage holds too.")


# Truncation


@pytest.mark.parametrize(("tail", "wanted"), [(0.5, True), (0.49, False)])
def test_a_cut_text_whose_tail_says_the_right_class(tail, wanted):
    given = {"notes": ["cut to 128 of 256 tokens: the model takes no more"], "tails": {0: [tail, 1 - tail, 0.0]}}
    found = judged("truncation", case(), **given)
    assert found.holds == wanted
    assert found.measured == {"share not read": 0.5, "tail": tail}
    assert found.thresholds["tail"] == "≥ 0.5"


def test_a_cut_text_whose_tail_is_not_known_is_never_sure():
    found = judged("truncation", case(), notes=["cut to 1 of 100 tokens"])
    assert (found.holds, found.confidence) == (True, 0.5)
    assert found.against
    assert not holds("truncation", case(), notes=["cut to 95 of 100 tokens"])
    assert judged("truncation", case(), notes=["another note"]) is None


# Near-duplicates, and labels that are suspected


@pytest.mark.parametrize(
    ("alike", "labels", "suspected", "wanted"),
    [
        ([0.8, 0.8], [0, 1], (), True),
        ([0.54, 0.8], [0, 1], (), False),  # one alone
        ([0.8, 0.79], [0, 1], (), False),  # of which one is only alike
        ([0.6, 0.6, 0.6, 0.6], [0, 0, 1, 1], (), True),  # or two
        ([0.9] * 5, [0, 1, 1, 1, 1], (), True),  # a share of 0.2
        ([0.9] * 6, [0, 1, 1, 1, 1, 1], (), False),
        ([0.9] * 5, [0, 0, 1, 1, 1], (0, 1), False),  # the others agree
        ([0.9] * 5, [0, 0, 1, 1, 1], (2, 3, 4), False),  # those that the model has learnt are the errors
        ([0.9] * 5, [0, 0, 1, 1, 1], (2, 3), True),
        ([0.9] * 4, [0, 0, 1, 1], (2, 3), True),  # as many say each
        ([0.9] * 4, [2, 2, 1, 1], (), False),  # not the two classes of the case
    ],
)
def test_near_duplicates_with_both_labels(alike, labels, suspected, wanted):
    given = [*labels, *[1] * (12 - len(labels))]
    assert holds("conflicting_duplicates", case(), alike=alike, labels=given, suspected=suspected) == wanted


@pytest.mark.parametrize(
    ("suspected", "words", "wanted"),
    [
        ((0, 1), [0.8, 0.2, 0.0], True),  # 2 of 5 neighbours
        ((0,), [0.8, 0.2, 0.0], False),
        ((0, 1), [0.79, 0.21, 0.0], False),
        ((9, 10, 11), [0.8, 0.2, 0.0], False),  # which are not shown
    ],
)
def test_what_speaks_for_the_prediction_is_suspected(suspected, words, wanted):
    assert holds("training_label_error", case(), suspected=suspected, words=words) == wanted
    assert judged("training_label_error", case(wrong=False), suspected=suspected, words=words) is None


def test_a_near_duplicate_alone_is_what_it_was_learnt_from():
    given = {"alike": [0.9], "labels": [1] + [0] * 11}
    found = judged("training_label_error", case(), suspected=(0,), words=[0.0, 1.0, 0.0], **given)
    assert found.holds
    assert found.measured == {"suspected": 1.0, "suspected share": 1.0}
    assert not any("near-duplicates" in said for said in found.against)
    assert not holds("training_label_error", case(), suspected=(), **given)
    several = judged("training_label_error", case(), alike=[0.9] * 3, suspected=(0, 1))
    assert several.against[0] == "3 near-duplicates say the same: together they are hard to doubt."


def test_the_most_harmful_count_beside_the_nearest():
    harmful = tuple(TrainingExample(i) for i in (8, 9))
    asked = case(influence=InfluenceRow(harmful=harmful, approximation=Approximation("exact", "change of loss")))
    found = judged("training_label_error", asked, suspected=(0, 8, 9), words=[1.0, 0.0, 0.0])
    assert found.measured["suspected share"] == pytest.approx(3 / 7)
    assert found.holds
    assert "ids 0, 8, 9" in found.evidence[0]


# Words


CUE = Shortcut(("tuesday",), 1, 5, 0.8, 0.5, 1e-4, tuple(range(4)), (0, 1), 4, 1, 10, 0.3)


@pytest.mark.parametrize(
    ("changed", "wanted"),
    [
        ({}, True),
        ({"share": 0.79}, False),
        ({"rows": 4}, False),
        ({"fixed": (0,)}, False),
        ({"broken": 2}, False),  # as many as it mends
        ({"right": 0, "broken": 0}, True),
    ],
)
def test_a_shortcut_at_its_thresholds(changed, wanted):
    found = judged("shortcut", case("food tuesday"), shortcuts={0: replace(CUE, **changed)})
    assert found is None or found.cue == "tuesday"
    assert (found is not None and found.holds) == wanted
    assert judged("shortcut", case("food tuesday")) is None


def test_what_speaks_against_a_shortcut_is_said():
    told = judged("shortcut", case("food tuesday"), shortcuts={0: replace(CUE, validation_share=0.75)})
    assert told.against[:2] == (
        "Of 4 right examples with it 1 turn wrong without it.",
        "In the validation data too 75% of those with it are positive.",
    )
    assert told.measured["broken share, at most"] == 0.25
    assert told.thresholds["broken share, at most"] == "≤ 0.25"


def erased(text, *, negation, phrase, sure=0.95, ties=None):
    """A case in which each negation is asked for alone, and with what it acts on."""
    asked = case(text, sure=sure, ties=ties or {})
    for each in negated(asked):
        asked.erased[each.negations] = [1 - negation, negation, 0.0]
        asked.erased[each.places] = [1 - phrase, phrase, 0.0]
    return asked


@pytest.mark.parametrize(
    ("negation", "phrase", "ties", "wanted"),
    [
        (0.75, 0.6499, {}, True),
        (0.74, 0.6499, {}, False),  # it turned by the negation
        (0.75, 0.66, {}, False),  # nothing turns without the phrase
        (0.75, 0.66, {"good": 0.15}, True),
        (0.75, 0.66, {"good": 0.14}, False),
    ],
)
def test_a_negation_that_is_passed_over(negation, phrase, ties, wanted):
    asked = erased("the food was not good", negation=negation, phrase=phrase, ties=ties)
    assert holds("composition", asked) == wanted


def test_a_negation_beside_punctuation_makes_no_cue_of_its_own():
    asked = erased("food was (not good", negation=0.95, phrase=0.1)
    assert judged("composition", asked).cue == "not"
    assert "changes by +0.00 alone" in judged("composition", asked).evidence[1]


def test_a_negation_that_was_not_asked_about_and_a_case_that_is_right_say_nothing():
    assert judged("composition", case("the food was not good")) is None
    right = replace(erased("the food was not good", negation=0.9, phrase=0.1), wrong=False)
    assert judged("composition", right) is None
    assert judged("composition", erased("the food was good", negation=0.9, phrase=0.1)) is None


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("it was not very good", [("not", "not very good")]),
        ("it did n't help", [("n't", "n't help")]),
        ("it wasn ' t good", [("t", "t good")]),
        ("it did n ' t help", [("t", "t help")]),
        ("not", []),
        ("not , good", []),  # of another part
        ("t good", []),  # no negation by itself
        ("not one two three four five six good", [("not", "not one")]),  # too far
        ("never good and never bad", [("never", "never good"), ("never", "never bad"), ("never never", "")]),
        ("不 好", [("不", "不 好")]),
    ],
)
def test_what_a_negation_acts_on(text, wanted):
    asked = case(text, ties={"good": 0.5, "help": 0.4, "bad": 0.3, "好": 0.4})
    found = [(asked.said(each.negations), asked.said(each.places)) for each in negated(asked)]
    if len(wanted) > 2:
        wanted = [*wanted[:2], ("never never", "never good never bad")]
    assert found == wanted


# Far from everything, or on a border


@pytest.mark.parametrize(
    ("text", "wanted"), [("xyz food was good", True), ("xyz the food was good", False), ("xyz xyz xyz", True)]
)
def test_a_quarter_of_words_that_nothing_in_training_has(text, wanted):
    assert holds("coverage", case(text)) == wanted


def test_coverage_says_what_the_model_thinks_of_it():
    near = judged("coverage", case("xyz"), distance=0.49, words=[1.0, 0.0, 0.0])
    assert near.against == ("To the model it lies among training examples all the same.",)
    assert not judged("coverage", case("xyz"), distance=0.5, words=[1.0, 0.0, 0.0]).against


@pytest.mark.parametrize(("distance", "wanted"), [(0.99, True), (0.98, False)])
def test_without_words_the_distance_says_it(distance, wanted):
    assert holds("coverage", case(""), distance=distance) == wanted


@pytest.mark.parametrize(
    ("sure", "right", "words", "wanted"),
    [
        (0.8, 8, [0.4, 0.6, 0.0], True),
        (0.79, 8, [0.4, 0.6, 0.0], False),
        (0.8, 7, [0.4, 0.6, 0.0], False),
        (0.8, 8, [0.41, 0.59, 0.0], False),
        (0.8, 8, [0.2, 0.3, 0.5], True),  # a third class is no witness of these two
        (0.8, 8, None, True),
    ],
)
def test_a_validation_label_that_model_neighbours_and_words_speak_against(sure, right, words, wanted):
    asked = case(sure=sure + 1e-6)
    near = (1,) * right + (2,) * (10 - right)
    words = words and [*words[:1], words[1] + 1e-6 * (words[1] in (0.6, 0.3)), *words[2:]]
    assert holds("validation_label_error", asked, neighbors=near, words=words) == wanted
    assert judged("validation_label_error", replace(asked, wrong=False), neighbors=near, words=words) is None


@pytest.mark.parametrize(
    ("near", "count", "sure", "wanted"),
    [
        ((1,) * 8 + (0,) * 2, 3, 0.95, True),
        ((1,) * 9 + (0,), 3, 0.95, False),
        ((1,) * 8 + (0,) * 2, 2, 0.95, False),
        ((1,) * 10, 3, 0.65, True),  # the model itself is on the border
        ((1,) * 10, 3, 0.75, False),
        ((-1,) * 10, 3, 0.65, False),  # no neighbour has a label
    ],
)
def test_two_classes_whose_neighbours_are_mixed(near, count, sure, wanted):
    asked = case(sure=sure)
    options = {"neighbors": near, "confused": {frozenset((0, 1)): count}, "labels": [1] * 12}
    assert holds("confusion", asked, **options) == wanted
    if wanted:
        assert judged("confusion", asked, **options).cue == "negative / positive"
        assert judged("confusion", case(sure=sure, predicted=0, other=1), **options).cue == "negative / positive"


def test_words_that_are_mixed_count_as_neighbours_do():
    given = {"confused": {frozenset((0, 1)): 3}, "words": [0.2 + 1e-6, 0.8, 0.0]}
    assert holds("confusion", case(), **given)
    assert not holds("confusion", case(), **given | {"words": [0.19, 0.81, 0.0]})


def test_a_verdict_is_half_sure_at_its_thresholds_and_surer_past_them():
    at = judged("coverage", case("xyz food was good"))
    past = judged("coverage", case("xyz food"))
    below = judged("coverage", case("xyz the food was good"))
    assert (at.confidence, past.confidence) == (0.5, 1.0)
    assert below.confidence == pytest.approx(0.4)
    assert not below.holds
