"""The p-value of Kendall's tau, held to SciPy's row by row."""

import pytest
import torch
from scipy.stats import kendalltau

from lightning_interpret.functional.rank_tests import kendall_p_value
from lightning_interpret.functional.ranks import kendall


def rows(count, length, *, levels=None, seed=0):
    generator = torch.Generator().manual_seed(seed)
    first, noise = (torch.rand(count, length, generator=generator, dtype=torch.float64) for _ in range(2))
    second = first + noise
    if levels:
        first, second = ((values * levels).floor() for values in (first, second))
    lengths = torch.randint(3, length + 1, (count, 1), generator=generator)
    return first, second, torch.arange(length) < lengths


@pytest.mark.parametrize(("length", "levels"), [(6, None), (33, None), (60, None), (6, 3), (40, 4)])
def test_p_values_are_those_of_scipy_row_by_row(length, levels):
    first, second, counts = rows(40, length, levels=levels)
    tau = kendall(first, second, counts)
    found = kendall_p_value(tau, first, second, counts)
    known = 0
    for i in range(len(first)):
        if tau[i].isfinite():
            known += 1
            pair = first[i][counts[i]], second[i][counts[i]]
            untied = all(len(values.unique()) == len(values) for values in pair)
            expected = kendalltau(*pair, method="exact" if untied and len(pair[0]) <= 33 else "asymptotic")
            assert float(found[i]) == pytest.approx(expected.pvalue, abs=1e-10)
    assert known > 20


def test_a_p_value_of_nothing_to_order_is_nan():
    first, second = torch.ones(1, 4), torch.arange(4.0)[None]
    counts = torch.ones(1, 4, dtype=torch.bool)
    assert kendall_p_value(kendall(first, second, counts), first, second, counts).isnan().all()
