"""Exact tests of counts by enumeration, and by values that are known."""

from itertools import product
from math import comb, prod

import pytest

from lightning_interpret.functional.count_tests import binomial_p_value, fisher_p_value


def test_the_lady_tasting_tea():
    assert fisher_p_value(4, 4, 0, 4) == pytest.approx(1 / 70)
    assert fisher_p_value(3, 4, 1, 4) == pytest.approx(17 / 70)
    assert fisher_p_value(0, 4, 4, 4) == pytest.approx(1.0)


@pytest.mark.parametrize("tries", range(6))
@pytest.mark.parametrize("other_tries", [0, 1, 4])
def test_fisher_is_the_share_of_the_tables_with_the_same_margins(tries, other_tries):
    for hits, other_hits in product(range(tries + 1), range(other_tries + 1)):
        drawn = hits + other_hits
        ways = [comb(tries, k) * comb(other_tries, drawn - k) for k in range(drawn + 1)]
        wanted = sum(ways[hits:]) / sum(ways)
        assert fisher_p_value(hits, tries, other_hits, other_tries) == pytest.approx(wanted, abs=1e-12)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.93, 1.0])
def test_the_binomial_is_the_sum_over_all_outcomes(share):
    for tries in range(7):
        outcomes = list(product((0, 1), repeat=tries))
        chances = [prod(share if hit else 1 - share for hit in each) for each in outcomes]
        for hits in range(tries + 1):
            wanted = sum(chance for each, chance in zip(outcomes, chances, strict=True) if sum(each) >= hits)
            assert binomial_p_value(hits, tries, share) == pytest.approx(wanted, abs=1e-12)


def test_what_cannot_be_is_nought_and_large_counts_keep_their_digits():
    assert binomial_p_value(3, 2, 0.5) == 0.0
    assert binomial_p_value(1, 10, 0.0) == 0.0
    assert binomial_p_value(0, 0, 0.5) == 1.0
    assert binomial_p_value(1000, 1000, 0.5) == pytest.approx(0.5**1000, rel=1e-9)
    assert binomial_p_value(50_000, 100_000, 0.5) == pytest.approx(0.5, abs=0.01)
    assert fisher_p_value(500, 500, 0, 500) == pytest.approx(1 / comb(1000, 500), rel=1e-9)
    assert fisher_p_value(0, 0, 0, 0) == 1.0
