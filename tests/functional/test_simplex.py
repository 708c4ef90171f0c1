"""Projections onto simplices, against slow ones that are found in another way."""

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from lightning_interpret.functional.simplex import capped_simplex, sparsemax


def slow_sparsemax(scores):
    """Martins and Astudillo's algorithm 1, on a list."""
    ordered, total = sorted(scores, reverse=True), 0.0
    for k, value in enumerate(ordered, start=1):
        if 1 + k * value <= total + value:
            break
        total += value
        threshold = (total - 1) / k
    return [max(value - threshold, 0.0) for value in scores]


def slow_capped(scores, total):
    """Bisection on the threshold, on a list."""
    low, high = min(scores) - 1, max(scores)
    for _ in range(200):
        middle = (low + high) / 2
        if sum(min(max(value - middle, 0.0), 1.0) for value in scores) > total:
            low = middle
        else:
            high = middle
    return [min(max(value - low, 0.0), 1.0) for value in scores]


def rows(seed=0, count=40, size=13, spread=2.0):
    generator = torch.Generator().manual_seed(seed)
    scores = spread * torch.randn(count, size, generator=generator, dtype=torch.float64)
    scores[: count // 4] = scores[: count // 4].round()  # some are equal
    return scores, torch.rand(count, size, generator=generator) < 0.7


def test_sparsemax_is_that_of_martins_and_astudillo():
    scores, mask = rows()
    z = sparsemax(scores, mask)
    for i in range(len(scores)):
        if mask[i].any():
            assert z[i][mask[i]].tolist() == pytest.approx(slow_sparsemax(scores[i][mask[i]].tolist()), abs=1e-12)
    assert not z[~mask].any()
    torch.testing.assert_close(sparsemax(scores)[0], torch.tensor(slow_sparsemax(scores[0].tolist())).double())
    assert ((z == 0) & mask).any()


def test_the_capped_simplex_is_what_bisection_finds():
    scores, mask = rows()
    count = mask.sum(dim=1)
    totals = torch.rand(len(scores), generator=torch.Generator().manual_seed(1), dtype=torch.float64) * count
    totals[::3] = totals[::3].round()
    z = capped_simplex(scores, totals, mask)
    torch.testing.assert_close(z.sum(dim=1), totals, atol=1e-12, rtol=0)
    assert z.min() >= 0
    assert z.max() <= 1
    for i in range(len(scores)):
        if mask[i].any():
            expected = slow_capped(scores[i][mask[i]].tolist(), float(totals[i]))
            assert z[i][mask[i]].tolist() == pytest.approx(expected, abs=1e-10)


def test_it_is_no_further_from_the_scores_than_any_other_point():
    scores, _ = rows(spread=0.7)
    z = capped_simplex(scores, 4.0)
    others = capped_simplex(scores + torch.randn(200, *scores.shape, dtype=torch.float64), 4.0)
    assert ((z - scores).square().sum(dim=-1) <= (others - scores).square().sum(dim=-1) + 1e-12).all()


@pytest.mark.parametrize("spread", [1.0, 1e4])
def test_single_precision_sums_to_the_total(spread):
    scores, mask = rows(size=500, spread=spread)
    totals = (0.2 * mask.sum(dim=1)).round()
    z = capped_simplex(scores.float(), totals.float(), mask)
    torch.testing.assert_close(z.double().sum(dim=1), totals.double(), atol=1e-4, rtol=0)
    torch.testing.assert_close(z.double(), capped_simplex(scores.float().double(), totals, mask), atol=1e-6, rtol=0)


def test_gradients_are_exact_of_scores_and_of_the_total():
    scores, mask = rows(count=6, spread=0.8)
    scores += 0.01 * torch.randn_like(scores)  # none lies on a kink, and no total is whole
    mask[3] = False
    totals = torch.tensor([1.2, 2.5, 3.4, 2.0, 0.7, 4.3], dtype=torch.float64)
    inputs = (scores.requires_grad_(), totals.requires_grad_())
    assert gradcheck(lambda s, k: capped_simplex(s, k, mask), inputs)
    assert gradgradcheck(lambda s, k: capped_simplex(s, k, mask), inputs)
    assert gradcheck(lambda s: sparsemax(s, mask), inputs[:1])


def test_rows_of_nothing_are_zero_and_totals_that_are_too_large_take_all():
    scores = torch.tensor([[1.0, torch.nan, 2.0], [torch.inf, torch.nan, -torch.inf], [0.0, 1.0, 5.0]])
    mask = torch.tensor([[1, 0, 1], [0, 0, 0], [1, 1, 1]]).bool()
    scores.requires_grad_()
    z = torch.stack([capped_simplex(scores, total, mask) for total in (0.0, 2.0, 99.0)])
    assert z[0].tolist() == [[0, 0, 0]] * 3
    assert z[2].tolist() == mask.tolist()
    assert z[1].sum(dim=1).tolist() == [2, 0, 2]
    (gradient,) = torch.autograd.grad((z * torch.rand(3, 3, 3)).sum() + sparsemax(scores, mask).square().sum(), scores)
    assert gradient.isfinite().all()
    assert not gradient[~mask].any()


def test_it_is_mapped_over_examples():
    scores, _ = rows(count=5)

    def one(row):
        return capped_simplex(row, 3.0).square().sum()

    found = torch.func.vmap(torch.func.grad(one))(scores)
    expected = torch.stack([torch.func.grad(one)(row) for row in scores])
    torch.testing.assert_close(found, expected)
