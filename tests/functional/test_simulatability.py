"""Leakage-adjusted simulatability: by hand, its limits, and a batch at a time."""

import math

import pytest
import torch

from lightning_interpret.functional.simulatability import simulatability
from lightning_interpret.metrics import LeakageAdjustedSimulatability


def columns(text):
    """One example a word: whether the simulator is right with the explanation, without, and from it alone."""
    rows = torch.tensor([[int(digit) for digit in word] for word in text.split()])
    return torch.ones(len(rows), dtype=torch.long), *rows.T


def test_by_hand():
    found = simulatability(*columns("101 111 001 100 010 110 100 000"))
    # three leak: gains 1, 0, 0; five do not: 1, -1, 0, 1, 0
    assert found.leaking.item() == pytest.approx(1 / 3)
    assert found.opaque.item() == pytest.approx(1 / 5)
    assert found.las.item() == pytest.approx((1 / 3 + 1 / 5) / 2)
    assert found.gain.item() == pytest.approx(2 / 8)
    assert (found.leaked.item(), found.with_explanation.item(), found.without.item()) == (3 / 8, 5 / 8, 3 / 8)


def test_explanations_that_give_the_prediction_away_are_half_the_score_however_many_they_are():
    few = simulatability(*columns("101 " + "000 " * 9))
    many = simulatability(*columns("101 " * 9 + "000"))
    assert few.las.item() == many.las.item() == 0.5
    assert few.gain.item() != many.gain.item()


def test_it_is_a_slow_mean_of_means_of_any_predictions():
    generator = torch.Generator().manual_seed(0)
    target, full, without, alone = torch.randint(4, (4, 200), generator=generator)
    groups = {True: [], False: []}
    for i in range(200):
        gain = (full[i] == target[i]).item() - (without[i] == target[i]).item()
        groups[(alone[i] == target[i]).item()].append(gain)
    means = [sum(group) / len(group) for group in groups.values()]
    assert simulatability(target, full, without, alone).las.item() == pytest.approx(sum(means) / 2, abs=1e-12)


def test_without_examples_on_either_side_there_is_nothing_to_adjust_for():
    found = simulatability(*columns("101 111"))
    assert math.isnan(found.las)
    assert found.gain.item() == 0.5
    assert math.isnan(simulatability(*(torch.zeros(0, dtype=torch.long),) * 4).gain)


def test_shapes_that_differ_are_named():
    with pytest.raises(ValueError, match=r"\(2,\), \(3,\)"):
        simulatability(torch.ones(2), torch.ones(3), torch.ones(2), torch.ones(2))


def test_a_metric_of_batches_is_that_of_all():
    generator = torch.Generator().manual_seed(1)
    every = torch.randint(3, (4, 50), generator=generator)
    metric = LeakageAdjustedSimulatability()
    for part in every.split(20, dim=1):
        metric.update(*part)
    assert metric.compute().item() == pytest.approx(simulatability(*every).las.item(), abs=1e-6)
    assert metric.details().leaked == simulatability(*every).leaked
    assert metric.reason is None


@pytest.mark.parametrize(("alone", "said"), [(0, "all of the explanations give"), (1, "none of the explanations give")])
def test_where_all_or_none_leak_there_is_no_score_and_it_says_so(alone, said):
    metric = LeakageAdjustedSimulatability()
    assert metric.reason == "no example was given"
    metric.update(*torch.zeros(3, 4, dtype=torch.long), torch.full((4,), alone))
    with pytest.warns(UserWarning, match=f"Simulatability is NaN: {said}"):
        assert metric.compute().isnan()
