"""Ranks beside scipy's and scikit-learn's."""

import math

import pytest
import torch
from scipy.stats import kendalltau, rankdata, spearmanr
from sklearn.metrics import roc_auc_score

from lightning_interpret.functional.ranks import area_under_curve, average_ranks, kendall, recall_at, spearman

TIED = torch.randint(0, 6, (25, 3), generator=torch.Generator().manual_seed(0)).double()


def test_ranks_are_those_of_scipy():
    assert average_ranks(TIED).tolist() == rankdata(TIED.numpy(), axis=0).tolist()
    assert average_ranks(TIED[:, 0]).tolist() == rankdata(TIED[:, 0].numpy()).tolist()


def test_rank_correlations_are_those_of_scipy():
    other = TIED.roll(1, dims=1) + TIED
    found = spearman(TIED, other)
    assert found.tolist() == pytest.approx([spearmanr(TIED[:, i], other[:, i]).statistic for i in range(3)], abs=1e-12)


def test_what_is_always_the_same_has_no_rank_correlation():
    actual = torch.rand(5, 4, dtype=torch.float64)
    predicted = actual.clone()
    actual[:, 1] = 2.0  # nothing to order
    predicted[:, 2] = 1.0  # orders nothing
    actual[3, 3] = torch.inf
    found = spearman(predicted, actual)
    assert found[0] == pytest.approx(1)
    assert found[2] == 0
    assert found[[1, 3]].isnan().all()


@pytest.mark.parametrize("pairs", [2**24, 50])
def test_kendall_is_that_of_scipy_over_what_counts(pairs, monkeypatch):
    monkeypatch.setattr("lightning_interpret.functional.ranks._PAIRS", pairs)  # several parts, one row at least
    generator = torch.Generator().manual_seed(0)
    first, second = torch.randint(-3, 4, (2, 9, 13), generator=generator).double()
    counts = torch.rand(9, 13, generator=generator) < 0.7
    wanted = [kendalltau(a[c], b[c]).statistic for a, b, c in zip(first, second, counts, strict=True)]
    assert kendall(first, second, counts).tolist() == pytest.approx(wanted, abs=1e-12)
    assert kendall(first[counts][None], second[counts][None]).item() == pytest.approx(
        kendalltau(first[counts], second[counts]).statistic, abs=1e-12
    )


def test_t14_kendall_of_ties():
    first, second = torch.tensor([[-1.0, 1, 1, 0], [0, 1, 0, 1]]), torch.tensor([[0.0, 0, 2, 9], [1, 2, 1, 0]])
    counts = torch.tensor([[True, True, True, False], [True] * 4])
    assert kendall(first, second, counts).tolist() == pytest.approx([0.5, 0], abs=1e-12)


def test_what_cannot_be_ordered_has_no_kendall():
    first = torch.tensor([[1.0, 2, 3], [4, 4, 4], [1, 2, 3], [1, torch.nan, 3], [1, torch.inf, 3]])
    second = torch.tensor([[1.0, 2, 3]]).expand(5, 3)
    counts = torch.tensor([[True, False, False], [True] * 3, [False] * 3, [True] * 3, [True, False, True]])
    assert kendall(first, second, counts).isnan().tolist() == [True, True, True, True, False]
    assert kendall(first[:0], second[:0]).shape == (0,)
    with pytest.raises(ValueError, match=r"must be of one shape \(N, T\)"):
        kendall(first, second[0])


def test_the_area_under_the_curve_is_that_of_scikit_learn():
    wanted = torch.rand(25, generator=torch.Generator().manual_seed(1)) < 0.3
    for scores in (TIED[:, 0], TIED[:, 1], torch.zeros(25)):
        assert area_under_curve(scores, wanted) == pytest.approx(roc_auc_score(wanted, scores), abs=1e-12)
    assert math.isnan(area_under_curve(TIED[:, 0], torch.ones(25, dtype=torch.bool)))


def test_recall_counts_what_is_found_in_the_highest_share():
    scores = torch.tensor([5.0, 4, 3, 2, 1, 0, -1, -2, -3, -4])
    wanted = torch.tensor([1, 0, 1, 0, 0, 0, 0, 0, 0, 1], dtype=torch.bool)
    assert [recall_at(scores, wanted, share) for share in (0.1, 0.2, 0.3, 1)] == pytest.approx([1 / 3, 1 / 3, 2 / 3, 1])
    assert recall_at(scores, wanted, 0.21) == pytest.approx(2 / 3)  # rounded up
    assert math.isnan(recall_at(scores, wanted & False, 0.5))
