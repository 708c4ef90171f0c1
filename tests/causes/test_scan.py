"""Validation examples looked through once: which are bad and how, in whatever parts they are read."""

import math
import time

import pytest
import torch
from meanings import MeaningTask, labelled, scan_of, world

from lightning_interpret.causes import Setting
from lightning_interpret.causes import scan as scanning
from lightning_interpret.causes.scan import scan
from lightning_interpret.causes.training import Training, read_texts
from lightning_interpret.functional.scope import explaining


def test_a_bad_case_is_wrong_or_unsure_and_one_without_a_label_can_be_but_unsure():
    found = scan_of(
        [[0.95, 0.05], [0.9, 0.1], [0.2, 0.8], [0.55, 0.45], [0.4, 0.6], [0.97, 0.03], [0.5, 0.5]],
        [1, 1, 0, 0, 1, -1, -1],
    )
    setting = Setting(confident_from=0.9, unsure_below=0.6)
    assert found.badness(setting) == ["confident", "confident", "wrong", "unsure", None, None, "unsure"]
    assert found.chosen(setting) == [0, 1, 2, 6, 3]
    assert found.chosen(Setting(cases=2)) == [0, 1]
    assert [found.other(n) for n in range(4)] == [1, 1, 0, 1]
    assert found.losses[0] == pytest.approx(-math.log(0.05), rel=1e-5)
    assert found.losses[5].isnan()


def test_what_is_unsure_is_never_below_the_share_of_one_class_of_many():
    rows = [[0.34, 0.33, 0.33], [0.5, 0.3, 0.2]]
    assert scan_of(rows, [0, 0]).badness(Setting(unsure_below=0.1)) == [None, None]
    assert scan_of([[0.3, 0.3, 0.4]], [2]).badness(Setting(unsure_below=0.1)) == [None]
    assert scan_of([[1.0]], [0]).other(0) == 0  # of a single class


@pytest.mark.parametrize("size", [1, 5, 32])
def test_the_parts_it_is_read_in_do_not_matter(size, monkeypatch):
    rows = labelled(12, seed=3)
    there = world(labelled(10), [*rows, ("good " * 90, 1)])
    with explaining(there.module, full_precision=True):
        texts = read_texts(there.training, there.task, 2, Setting(), math.inf)
        training = Training.read(there.module, there.training, there.task, texts, Setting())
        whole = scan(there.module, there.task, there.validation, training, math.inf)
        monkeypatch.setattr(scanning, "_AT_ONCE", size)
        parts = scan(there.module, there.task, there.validation, training, math.inf)
    torch.testing.assert_close(parts.answers.probabilities, whole.answers.probabilities)
    torch.testing.assert_close(parts.answers.distances, whole.answers.distances)
    assert parts.ids == whole.ids == list(range(1000, 1025))
    assert parts.texts == whole.texts
    assert parts.texts[:24] == [text for text, _ in rows]
    assert parts.notes == whole.notes
    assert parts.notes[-1][0].startswith("cut to 64 of 92 tokens")
    assert parts.words[0] == rows[0][0].split()


def test_when_the_time_is_spent_one_part_has_been_read_all_the_same(monkeypatch):
    there = world(labelled(10), labelled(6))
    monkeypatch.setattr(scanning, "_AT_ONCE", 4)
    with explaining(there.module, full_precision=True):
        training = Training.read(there.module, there.training, there.task, None, Setting())
        assert len(scan(there.module, there.task, there.validation, training, time.perf_counter() - 1)) == 4


def test_examples_without_ids_and_texts_have_none():
    class Silent(MeaningTask):
        def texts(self, batch):
            return None

        def example_ids(self, batch):
            return None

    there = world(labelled(10), labelled(3))
    with explaining(there.module, full_precision=True):
        training = Training.read(there.module, there.training, there.task, None, Setting())
        found = scan(
            there.module, Silent(there.tokenizer, ["negative", "positive"]), there.validation, training, math.inf
        )
    assert found.ids == found.texts == [None] * 6
    assert found.words == [[]] * 6
