"""Bags of features: common shares by brute force, planted near-duplicates, and Naive Bayes by its closed form."""

import math
from random import Random

import pytest
import torch

from lightning_interpret.functional.bags import Bags, LabelModel, jaccard, near_duplicates

WIDTH = 40


def drawn(count, *, seed=0, width=WIDTH, most=9):
    random = Random(seed)
    return [random.sample(range(width), random.randint(0, most)) for _ in range(count)]


def test_sizes_and_rows_count_empty_bags():
    bags = Bags.of([[3, 1], [], [2]], 5)
    assert (len(bags), bags.sizes.tolist(), bags.rows.tolist()) == (3, [2, 0, 1], [0, 0, 2])


def test_the_common_share_is_that_of_sets():
    queries, rows = drawn(21, seed=1), drawn(19, seed=2)  # more queries than are asked at once
    found = jaccard(Bags.of(queries, WIDTH), Bags.of(rows, WIDTH))
    wanted = [[len({*a} & {*b}) / max(1, len({*a} | {*b})) for b in rows] for a in queries]
    torch.testing.assert_close(found, torch.tensor(wanted))
    assert jaccard(Bags.of([[]], WIDTH), Bags.of([[], [1]], WIDTH)).tolist() == [[0.0, 0.0]]
    assert jaccard(Bags.of([], WIDTH), Bags.of(rows, WIDTH)).shape == (0, 19)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_near_duplicates_are_found_and_others_are_apart(seed):
    random = Random(seed)
    rows = [random.sample(range(5000), 20) for _ in range(60)]
    rows[40] = [*rows[3][:19], 4999]  # 19 of 21 are common
    rows[50] = [4998, *rows[40][1:]]  # of the copy 19 of 21, so that it is one of the first as well
    rows[20], rows[21], rows[30] = [], [], rows[7][:10]  # nothing is no copy of nothing; half is not enough
    clusters = near_duplicates(Bags.of(rows, 5000), 0.6, seed).tolist()
    wanted = list(range(60))
    wanted[40] = wanted[50] = 3
    assert clusters == wanted


def test_pairs_below_the_threshold_are_apart_even_where_they_meet():
    rows = [[1, 2, 3, 4, 5, 6, 7, 8], [1, 2, 3, 4, 5, 6, 7, 9]]  # 7 of 9
    bags = Bags.of(rows, 10)
    assert near_duplicates(bags, 7 / 9).tolist() == [0, 0]
    assert near_duplicates(bags, 0.8).tolist() == [0, 1]
    assert near_duplicates(Bags.of([[1]], 10), 0.5).tolist() == [0]
    assert near_duplicates(Bags.of([], 10), 0.5).tolist() == []


# Naive Bayes


def closed_form(sets, labels, classes, kept, width):
    """Log-probabilities of features and classes by the textbook, with one added to each count."""
    weight, prior = torch.zeros(width, classes, dtype=torch.double), torch.zeros(classes, dtype=torch.double)
    seen = {v for row, label in enumerate(labels) if kept(row) and label >= 0 for v in sets[row]}
    for c in range(classes):
        mine = [sets[row] for row, label in enumerate(labels) if kept(row) and label == c]
        total = sum(map(len, mine)) + width
        for v in seen:
            weight[v, c] = math.log((sum(v in each for each in mine) + 1) / total)
        prior[c] = len(mine) + 1
    return weight, (prior / prior.sum()).log()


def scored(bag, weight, prior):
    return weight[bag].sum(dim=0) + prior


SETS = drawn(30, seed=5, width=12, most=5)
LABELS = [Random(i).choice([0, 1, 1, 2, -1]) for i in range(30)]
GROUPS = [min(i, i - i % 3 if i % 2 else i) for i in range(30)]  # some rows share a number


def fitted():
    return LabelModel.fit(Bags.of(SETS, 12), torch.tensor(LABELS), 3, torch.tensor(GROUPS))


def test_the_model_is_the_closed_form():
    model = fitted()
    weight, prior = closed_form(SETS, LABELS, 3, lambda row: True, 12)
    torch.testing.assert_close(model.weight, weight, rtol=0, atol=1e-12)
    torch.testing.assert_close(model.prior, prior, rtol=0, atol=1e-12)
    others = drawn(7, seed=6, width=12, most=5)
    wanted = torch.stack([(scored(bag, weight, prior) / model.temperature).softmax(dim=0) for bag in others])
    torch.testing.assert_close(model.probabilities(Bags.of(others, 12)), wanted, rtol=0, atol=1e-12)


def test_what_is_held_out_never_sees_its_fold_nor_its_near_duplicates():
    model = fitted()
    fold = [(group * 40_503 + 17) % 5 for group in GROUPS]
    assert len(set(fold)) == 5
    for row in range(30):
        seen = [i for i in range(30) if fold[i] != fold[row]]
        assert row not in seen
        assert not any(GROUPS[i] == GROUPS[row] for i in seen)
        scores = scored(SETS[row], *closed_form(SETS, LABELS, 3, seen.__contains__, 12))
        torch.testing.assert_close(model.held_out[row], (scores / model.temperature).softmax(dim=0), rtol=0, atol=1e-12)


def test_another_label_of_an_example_and_its_copies_changes_nothing_that_is_said_of_them():
    row = next(i for i in range(30) if GROUPS.count(GROUPS[i]) > 1 and LABELS[i] >= 0)
    copies = [i for i in range(30) if GROUPS[i] == GROUPS[row]]
    changed = [(label + 1) % 3 if i in copies and label >= 0 else label for i, label in enumerate(LABELS)]
    before = fitted()
    after = LabelModel.fit(Bags.of(SETS, 12), torch.tensor(changed), 3, torch.tensor(GROUPS))
    # the temperature is one for all
    scores = [(model.held_out[copies].log() * model.temperature) for model in (before, after)]
    apart = [each - each.mean(dim=1, keepdim=True) for each in scores]
    torch.testing.assert_close(*apart, rtol=0, atol=1e-9)


def test_the_temperature_is_that_of_the_least_held_out_loss():
    model = fitted()
    labelled = torch.tensor([i for i, label in enumerate(LABELS) if label >= 0])
    gold = torch.tensor(LABELS)[labelled]
    scores = model.held_out[labelled].log() * model.temperature

    def loss(temperature):
        return torch.nn.functional.cross_entropy(scores / temperature, gold)

    grid = torch.logspace(0, 2.5, 26, dtype=torch.double)
    assert loss(model.temperature) <= min(loss(t) for t in grid) + 1e-12
    assert float(grid[0]) <= model.temperature <= float(grid[-1])


def test_without_a_label_the_classes_are_even():
    model = LabelModel.fit(Bags.of([[1], [2]], 4), torch.tensor([-1, -1]), 2, torch.arange(2))
    assert model.temperature == 1.0
    torch.testing.assert_close(model.held_out, torch.full((2, 2), 0.5).double())
