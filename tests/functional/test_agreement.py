"""Agreement of two attributions by closed forms (golden case T14), and beside scipy's correlations."""

import math

import pytest
import torch
from scipy.stats import kendalltau, pearsonr, spearmanr

from lightning_interpret.functional.agreement import CORRELATIONS, TOP, correlation, method_agreement, top_agreement

FIRST, SECOND = torch.tensor([[0.5, -0.4, 0.3, 0.2, 0.1]]).double(), torch.tensor([[0.4, 0.5, -0.3, 0.1, 0.2]]).double()
ALL = torch.ones(1, 5, dtype=torch.bool)


def test_t14_agreement_of_the_three_largest():
    found = {name: value.item() for name, value in top_agreement(FIRST, SECOND, ALL, k=3).items()}
    assert found == pytest.approx({"feature": 1, "rank": 1 / 3, "sign": 1 / 3, "signed_rank": 0})


@pytest.mark.parametrize(
    ("kind", "signed", "sizes"),
    [("kendall", -0.4, 0.6), ("spearman", -0.4, 0.8), ("pearson", -0.42027, None), ("cosine", -0.09091, None)],
)
def test_t14_correlations(kind, signed, sizes):
    assert correlation(FIRST, SECOND, ALL, kind).item() == pytest.approx(signed, abs=1e-5)
    if sizes is not None:
        assert correlation(FIRST.abs(), SECOND.abs(), ALL, kind).item() == pytest.approx(sizes, abs=1e-12)


def test_correlations_are_those_of_scipy_over_what_counts():
    generator = torch.Generator().manual_seed(0)
    first, second = torch.randint(-4, 5, (2, 8, 11), generator=generator).double()
    counts = torch.rand(8, 11, generator=generator) < 0.7
    for kind, peer in (("pearson", pearsonr), ("kendall", kendalltau), ("spearman", spearmanr)):
        wanted = [peer(a[c], b[c]).statistic for a, b, c in zip(first, second, counts, strict=True)]
        assert correlation(first, second, counts, kind).tolist() == pytest.approx(wanted, abs=1e-12)
    wanted = [torch.cosine_similarity(a[c], b[c], dim=0) for a, b, c in zip(first, second, counts, strict=True)]
    assert correlation(first, second, counts, "cosine").tolist() == pytest.approx(list(map(float, wanted)), abs=1e-12)


def test_the_largest_are_those_found_one_by_one():
    generator = torch.Generator().manual_seed(1)
    first, second = torch.randint(-3, 4, (2, 20, 9), generator=generator).double()
    counts = torch.rand(20, 9, generator=generator) < 0.8
    found = top_agreement(first, second, counts, k=4)
    for row in range(20):
        places = counts[row].nonzero().flatten().tolist()
        tops = [sorted(places, key=lambda i, s=s: -abs(s[row, i].item()))[:4] for s in (first, second)]
        same = [a == b for a, b in zip(*tops, strict=True)]
        signs = {i: first[row, i].sign() == second[row, i].sign() for i in places}
        size, both = min(4, len(places)), set(tops[0]) & set(tops[1])
        wanted = {
            "feature": len(both),
            "rank": sum(same),
            "sign": sum(bool(signs[i]) for i in both),
            "signed_rank": sum(ok and bool(signs[i]) for ok, i in zip(same, tops[0], strict=True)),
        }
        assert {name: found[name][row].item() for name in TOP} == pytest.approx(
            {name: wanted[name] / size for name in TOP}
        )


def test_what_cannot_be_compared_is_no_number():
    first = torch.tensor([[0.1, 0.1, 0.1], [1, 2, torch.nan], [1, 2, 3], [1, 2, torch.inf], [0, 0, 0]]).double()
    second = torch.tensor([[1.0, 2, 3]]).expand(5, 3).double()
    counts = torch.tensor([[True] * 3, [True] * 3, [False] * 3, [True, True, False], [True] * 3])
    for measure in (*TOP, *CORRELATIONS):
        found = method_agreement(first, second, counts, measure)
        assert found.isnan()[1:3].all()
        assert found[3] == pytest.approx(1)
        assert found[0].isnan() == (measure in ("pearson", "kendall", "spearman"))
        assert found[4].isnan() == (measure in CORRELATIONS)
    one = torch.tensor([[True, False, False]])
    assert method_agreement(first[2:3], second[:1], one, "feature").item() == 1
    assert math.isnan(method_agreement(first[2:3], second[:1], one, "spearman").item())


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"must be of one shape \(N, T\), but are \(1, 5\), \(1, 4\), \(1, 5\)"):
        method_agreement(FIRST, SECOND[:, 1:], ALL, "kendall")
    with pytest.raises(ValueError, match="`measure='jaccard'` does not exist"):
        method_agreement(FIRST, SECOND, ALL, "jaccard")
    with pytest.raises(ValueError, match="`k=0` must be a whole number of at least 1"):
        method_agreement(FIRST, SECOND, ALL, "rank", k=0)
