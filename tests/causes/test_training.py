"""Training labels that are suspected: by words and by neighbours, near-duplicates aside; and how texts are read."""

import math
import time
from types import SimpleNamespace

import pytest
import torch
from meanings import MeaningTask, labelled, world

from lightning_interpret.causes import Setting
from lightning_interpret.causes.training import Training, read_texts, right_distances
from lightning_interpret.causes.words import WordIndex
from lightning_interpret.functional.scope import explaining
from lightning_interpret.methods.neighbors import Answers


def seen(there, setting=None):
    """The training data of a world, as its model sees them."""
    setting = setting or Setting()
    with explaining(there.module, full_precision=True):
        texts = read_texts(there.training, there.task, 2, setting, math.inf)
        return Training.read(there.module, there.training, there.task, texts, setting)


def flipped(rows, wrong):
    return [(text, 1 - label if n in wrong else label) for n, (text, label) in enumerate(rows)]


def witnesses(held_out, labels, points, *, clusters=None, read=None, k=4):
    """Training data whose words say ``held_out`` of each label, and whose features are points on a line.

    ``read`` are the rows that the datastore has.
    """
    size = len(labels)
    read = list(range(size)) if read is None else read
    index = WordIndex()
    index.add(range(10, 10 + size), ["a"] * size, labels)
    texts = SimpleNamespace(
        index=index,
        labels=torch.tensor(labels),
        model=SimpleNamespace(held_out=torch.tensor(held_out, dtype=torch.double)),
        clusters=torch.arange(size) if clusters is None else torch.tensor(clusters),
        row_of={i: row for row, i in enumerate(index.ids)},
    )
    store = SimpleNamespace(
        ids=torch.tensor([10 + row for row in read]),
        labels=torch.tensor([labels[row] for row in read]),
        features=torch.tensor([[float(points[row])] for row in read]),
        classes=("negative", "positive"),
    )
    fitted = SimpleNamespace(store=store, method=SimpleNamespace(metric="euclidean"))
    return Training(fitted, texts, Setting(k=k))


# What is suspected


def test_wrong_labels_are_suspected_and_no_others():
    wrong = {3, 11, 40, 52}
    found = seen(world(flipped(labelled(30), wrong), [("good", 1)])).suspected
    assert set(found) == {100 + n for n in wrong}
    for i, each in found.items():
        assert (each.example_id, each.proposed, each.label) == (i, int(i < 130), int(i >= 130))
        assert each.words > 0.5
        assert each.neighbors > 0.5
    suspicions = [each.suspicion for each in found.values()]
    assert suspicions == sorted(suspicions, reverse=True)
    assert all(0.6 <= each <= 1 for each in suspicions)


@pytest.mark.parametrize(
    ("said", "near", "wanted"),
    [
        (0.6, 4, 0.8),  # both
        (0.7, 2, 0.6),  # their mean
        (0.6, 2, None),
        (0.84, 0, None),  # words alone
        (0.85, 0, 0.6),
        (0.49, 4, 0.745),
        (0.1, 4, None),  # neighbours alone: both are trusted alike, and the words are the first
    ],
)
def test_both_witnesses_speak_or_one_is_very_sure(said, near, wanted):
    said += 1e-9
    others = [1] * near + [0] * (4 - near)
    training = witnesses([[1 - said, said]] + [[1.0 - label, float(label)] for label in others], [0, *others], range(5))
    found = training.suspected
    assert list(found) == ([] if wanted is None else [10])
    if wanted is not None:
        assert found[10].suspicion == pytest.approx(wanted)
        assert (found[10].proposed, found[10].words, found[10].neighbors) == (1, pytest.approx(said), near / 4)


def answers(predicted, labels, gold):
    """What neighbours say of validation examples."""
    known, none = torch.nn.functional.one_hot(torch.tensor(predicted), 2).float(), torch.ones(len(gold), 1)
    return Answers(known, none, none.long(), torch.tensor(labels)[:, None], torch.tensor(gold), none[:, 0] > 0)


def test_each_witness_is_trusted_as_far_as_it_is_right_on_validation_examples():
    """Of 8 the words have 6 right and the neighbours all; one without a label is not asked."""
    training = witnesses([[0.4, 0.6]], [0], [0])
    gold, said = [0, 1] * 4 + [-1], [0, 1, 0, 1, 0, 1, 1, 0, 0]
    training.texts.model.probabilities = lambda bags: torch.nn.functional.one_hot(torch.tensor(said), 2).double()
    training.weigh([["a"]] * 9, answers([0] * 9, [0, 1] * 4 + [1], gold))
    assert training.trust == pytest.approx((math.log(7 / 3), math.log(9)))
    training.weigh([["a"]] * 9, answers([0] * 9, [1, 0] * 4 + [1], gold))
    assert training.trust[1] == 0  # worse than chance is no witness
    training.weigh([["a"]] * 9, answers([0] * 9, [0, 1] * 4 + [1], [-1] * 9))
    assert training.trust == (0, 0)


def test_the_better_witness_has_more_to_say_and_alone_may_be_enough():
    near = [[0.9, 0.1]] + [[0.0, 1.0]] * 4, [0, 1, 1, 1, 1], range(5)
    assert not witnesses(*near).suspected
    training = witnesses(*near)
    training.trust = (0.5, 1.5)
    (found,) = training.suspected.values()
    assert found.suspicion == pytest.approx(0.25 * 0.1 + 0.75)  # also more than 1 - 0.25
    training = witnesses(*near)
    training.trust = (0.0, 0.0)  # nothing is known: alike, as without validation labels
    assert not training.suspected


def test_near_duplicates_of_a_wrong_label_do_not_back_it():
    said = [[0.2, 0.8]] * 3 + [[0.0, 1.0]] * 4
    labels, points = [0, 0, 0, 1, 1, 1, 1], [0.0, 0.01, 0.02, 1, 2, 3, 4]
    assert not witnesses(said, labels, points, k=2).suspected
    apart = witnesses(said, labels, points, clusters=[0, 0, 0, 3, 4, 5, 6], k=2).suspected
    assert list(apart) == [10, 11, 12]
    assert all(each.neighbors == 1.0 for each in apart.values())


def test_of_a_class_there_may_be_but_near_duplicates():
    training = witnesses([[0.2, 0.8]] * 3, [0, 0, 0], [0, 1, 2], clusters=[0, 0, 0])
    assert training.suspected == {}  # nobody is left to ask


def test_what_is_not_labelled_or_not_read_is_not_suspected():
    said = [[0.0, 1.0]] * 6
    assert list(witnesses(said, [0, -1, 1, 1, 1, 1], range(6)).suspected) == [10]
    assert list(witnesses(said, [0, 0, 1, 1, 1, 1], range(6), read=[1, 2, 3, 4, 5]).suspected) == [11]
    assert witnesses(said, [1] * 6, range(6)).suspected == {}


# How they are read


def test_texts_are_read_no_further_when_the_time_is_spent():
    there = world(labelled(20), [("good", 1)], batch_size=8)
    assert len(read_texts(there.training, there.task, 2, Setting(), time.perf_counter() - 1).index) == 8
    assert read_texts(there.training, there.task, 2, Setting(), math.inf).index.ids == list(range(100, 140))


def test_examples_that_are_no_texts_have_none_and_nothing_is_suspected():
    class Silent(MeaningTask):
        def texts(self, batch):
            return None

    there = world(flipped(labelled(10), {1}), [("good", 1)])
    task = Silent(there.tokenizer, ["negative", "positive"])
    assert read_texts(there.training, task, 2, Setting(), math.inf) is None
    with explaining(there.module, full_precision=True):
        training = Training.read(there.module, there.training, task, None, Setting())
    assert training.suspected == {}
    assert (len(training), training.classes) == (20, ("negative", "positive"))


def test_copies_of_a_text_share_a_number():
    rows = labelled(10)
    there = world([*rows, rows[4], (rows[4][0] + " zulan", 0)], [("good", 1)])
    clusters = seen(there).texts.clusters.tolist()
    assert [n for n, cluster in enumerate(clusters) if cluster == 4] == [4, 20, 21]
    assert len(set(clusters)) == 20


def test_distances_are_ranked_among_those_of_right_examples():
    distances = torch.tensor([[0.1, 0.5], [0.1, 0.2], [0.3, 0.9], [0.1, torch.inf], [0.2, 0.5]])
    right = torch.tensor([True, True, False, True, False])
    training = SimpleNamespace()
    assert right_distances(training, distances, right).tolist() == [0.5, 0.0, 1.0, 1.0, 0.5]
    assert right_distances(training, distances, ~torch.ones(5, dtype=torch.bool)).tolist() == [0.0] * 5
    assert right_distances(training, distances[:, :0], right).tolist() == [0.0] * 5
