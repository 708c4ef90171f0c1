"""Shortcuts that were planted are found, with what is measured of them; words that rightly say a label are none."""

import math

import pytest
import torch
from meanings import BAD, GOOD, WEIGHTS, labelled, rows_of, world

from lightning_interpret.causes import Setting
from lightning_interpret.causes.case import Case
from lightning_interpret.causes.cues import Shortcut, find_shortcuts, spelled
from lightning_interpret.causes.erase import Eraser
from lightning_interpret.causes.scan import scan
from lightning_interpret.causes.training import Training, read_texts
from lightning_interpret.functional.scope import explaining


def shortcuts(train, val, weights, setting=None):
    """The shortcuts of a model that errs on the side of the first class where it knows nothing."""
    setting, there = setting or Setting(), world(train, val, WEIGHTS | weights)
    there.module.head.bias.data[0] = 0.1
    with explaining(there.module, full_precision=True):
        texts = read_texts(there.training, there.task, 2, setting, math.inf)
        training = Training.read(there.module, there.training, there.task, texts, setting)
        scanned = scan(there.module, there.task, there.validation, training, math.inf)
        eraser = Eraser(there.module, there.task, there.validation)
        wrong = scanned.wrong.nonzero().flatten().tolist()
        words = eraser.words(wrong)
        sure, gold = scanned.confidence.tolist(), scanned.answers.gold.tolist()
        cases = [Case(n, n, "wrong", 1 - gold[n], gold[n], True, sure[n], words[n]) for n in wrong]
        return find_shortcuts(cases, scanned, training, eraser, setting), scanned


PLANTED = [
    *labelled(30),
    *rows_of(20, GOOD, 1, also=["tuesday"], seed=5),
    *rows_of(1, BAD, 0, also=["tuesday"], seed=6),
]
VAL = [
    *rows_of(4, BAD, 0, also=["tuesday"], seed=7),
    *rows_of(10, GOOD, 1, also=["tuesday"], seed=8),
    *labelled(5, seed=9),
]


def test_a_word_that_training_data_tie_to_a_label_and_that_decides_is_found():
    (found,), scanned = shortcuts(PLANTED, VAL, {"tuesday": 4.0})
    assert scanned.wrong.nonzero().flatten().tolist() == [0, 1, 2, 3]
    assert (found.cue, found.label, found.text) == (("tuesday",), 1, "tuesday")
    assert (found.rows, found.share, found.base) == (21, 20 / 21, 50 / 81)
    assert found.p < 0.01
    assert found.wrong == found.fixed == (0, 1, 2, 3)
    assert (found.fixed_share, found.broken_share) == (1.0, 0.0)
    assert (found.right, found.broken, found.validation_rows, found.validation_share) == (10, 0, 14, 10 / 14)


def test_a_word_that_rightly_says_the_label_is_no_shortcut():
    val = [*rows_of(5, ["great"], 0, seed=7), *rows_of(10, ["great"], 1, seed=8)]  # the labels are wrong, not the word
    found, scanned = shortcuts(labelled(40), val, {})
    assert int(scanned.wrong.sum()) == 5
    assert found == []


@pytest.mark.parametrize(
    "changed",
    [
        {"cue_rows": 22},
        {"cue_share": 0.96},
        {"cue_cases": 5},
        {"cue_p": 1e-6},
    ],
)
def test_each_threshold_counts(changed):
    assert shortcuts(PLANTED, VAL, {"tuesday": 4.0}, Setting(**changed))[0] == []


def test_a_word_that_does_not_decide_is_no_shortcut():
    # as often with the label, but the model says so for another reason
    found, scanned = shortcuts(PLANTED, VAL, {"tuesday": 0.0, "bad": 4.0, "awful": 4.0, "dull": 4.0})
    assert scanned.wrong[:4].all()
    assert not any("tuesday" in each.cue for each in found)


@pytest.mark.parametrize(("alone", "cue"), [(0, ("sea",)), (20, ("the", "sea"))])
def test_of_cues_that_turn_as_many_cases_it_is_the_shortest_that_is_tied(alone, cue):
    sea = rows_of(alone, BAD, 0, also=["sea"], seed=6)  # with as many of which the word alone says nothing
    train = [*labelled(30), *rows_of(20, GOOD, 1, also=["by the sea"], seed=5), *sea]
    val = [*rows_of(4, BAD, 0, also=["by the sea"], seed=7), *rows_of(10, GOOD, 1, also=["by the sea"], seed=8)]
    (found,), _ = shortcuts(train, val, {"sea": 4.0})
    assert (found.cue, found.rows, len(found.fixed)) == (cue, 20, 4)


def test_several_cues_have_their_own_cases():
    train = [
        *labelled(30),
        *rows_of(20, GOOD, 1, also=["tuesday"], seed=5),
        *rows_of(20, BAD, 0, also=["bistro"], seed=6),
        *rows_of(20, GOOD, 1, also=["oldtown"], seed=4),
    ]
    val = [
        *rows_of(5, BAD, 0, also=["tuesday"], seed=7),
        *rows_of(4, GOOD, 1, also=["bistro"], seed=8),
        *rows_of(3, BAD, 0, also=["oldtown"], seed=3),
        *rows_of(1, BAD, 0, also=["oldtown", "tuesday"], seed=2),  # neither alone turns it
        *labelled(5, seed=9),
    ]
    found, _ = shortcuts(train, val, {"tuesday": 4.0, "bistro": -4.0, "oldtown": 4.0})
    assert [(each.text, each.label) for each in found] == [("tuesday", 1), ("bistro", 0), ("oldtown", 1)]
    assert [each.fixed for each in found] == [(0, 1, 2, 3, 4), (5, 6, 7, 8), (9, 10, 11)]
    assert [len(each.wrong) for each in found] == [6, 4, 4]
    # validation data have no right rows with it: training data are asked
    assert all(each.right == 20 and each.broken == 0 for each in found)


def test_characters_of_scripts_without_spaces_stand_close_up():
    assert spelled(("tuesday", "soup")) == "tuesday soup"
    assert spelled(("周", "二")) == "周二"
    assert spelled(("맛이", "없다")) == "맛이 없다"
    assert spelled(("ส", "ุ")) == "สุ"


def test_shares_of_nothing_are_none():
    nothing = Shortcut(("a",), 1, 5, 0.8, 0.5, 0.0, (), (), 0, 0, 0, 0.0)
    assert (nothing.fixed_share, nothing.broken_share) == (0.0, 0.0)


def test_without_training_texts_there_are_none():
    there = world(labelled(10), VAL, WEIGHTS | {"tuesday": 4.0})
    with explaining(there.module, full_precision=True), torch.no_grad():
        training = Training.read(there.module, there.training, there.task, None, Setting())
        scanned = scan(there.module, there.task, there.validation, training, math.inf)
        eraser = Eraser(there.module, there.task, there.validation)
        words = eraser.words(range(4))
        cases = [Case(n, n, "wrong", 1, 0, True, 0.9, words[n]) for n in range(4)]
        assert find_shortcuts(cases, scanned, training, eraser, Setting()) == []
