import pytest
import torch

from lightning_interpret.metrics import EntityF1

TAGS = ["B-LOC", "B-PER", "I-LOC", "I-PER", "O"]


def classes(*tags):
    return torch.tensor([[TAGS.index(tag) if tag in TAGS else -100 for tag in row.split()] for row in tags])


def test_spans_and_types_must_both_be_right():
    gold = classes("B-PER I-PER O B-LOC", "O B-LOC I-LOC O")
    found = classes("B-PER I-PER O B-PER", "O B-LOC O O")
    metric = EntityF1(TAGS)
    metric.update(found, gold)
    assert metric.compute().item() == pytest.approx(2 * 1 / (3 + 3))
    metric.update(gold, gold)
    assert metric.compute().item() == pytest.approx(2 * 4 / (6 + 6))


def test_what_is_no_first_token_of_a_word_is_no_part_of_an_entity():
    gold = classes("x B-PER x I-PER x")
    found = classes("B-LOC B-PER B-LOC I-PER B-LOC")
    metric = EntityF1(TAGS)
    metric.update(found, gold)
    assert metric.compute() == 1


def test_nothing_found_and_nothing_there_is_0():
    metric = EntityF1(TAGS)
    metric.update(classes("O O"), classes("O O"))
    assert metric.compute() == 0


def test_shapes_that_differ_are_refused():
    with pytest.raises(ValueError, match=r"`predicted` \(2,\) and `labels` \(1, 2\)"):
        EntityF1(TAGS).update(torch.tensor([1, 2]), torch.tensor([[1, 2]]))
