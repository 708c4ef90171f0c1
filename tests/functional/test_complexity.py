"""Complexity by the closed forms of golden case T19."""

import math

import pytest
import torch

from lightning_interpret.functional.complexity import entropy, gini

ALL = torch.ones(1, 4, dtype=torch.bool)


@pytest.mark.parametrize(
    ("scores", "index", "nats"),
    [((0, 0, 0, 1), 0.75, 0.0), ((2, 2, 2, 2), 0.0, math.log(4)), ((1, 2, 3, 4), 0.25, 1.279854)],
)
def test_t19_gini_and_entropy(scores, index, nats):
    for row in (torch.tensor([scores]).double(), -3 * torch.tensor([scores]).double().flip(1)):
        assert gini(row, ALL).item() == pytest.approx(index, abs=1e-12)
        assert entropy(row, ALL).item() == pytest.approx(nats, abs=1e-6)


def test_what_does_not_count_is_as_if_it_were_not_there():
    scores, counts = torch.tensor([[9.0, 1, -2, 9, 3, 4]]), torch.tensor([[0, 1, 1, 0, 1, 1]]).bool()
    assert gini(scores, counts).item() == pytest.approx(0.25)
    assert entropy(scores, counts).item() == pytest.approx(1.279854, abs=1e-6)


def test_of_nothing_there_is_no_complexity_and_of_one_unit_it_is_least():
    scores = torch.tensor([[0.0, 0], [1, torch.nan], [torch.inf, 1], [5, 7]])
    counts = torch.tensor([[True, True], [True, True], [True, True], [False, False]])
    for measure in (gini, entropy):
        assert measure(scores, counts).isnan().all()
        assert measure(scores[1:2], torch.tensor([[True, False]])).item() == 0
        with pytest.raises(ValueError, match=r"must both be \(N, T\)"):
            measure(scores, counts[:, :1])
