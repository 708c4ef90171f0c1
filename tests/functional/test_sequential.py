"""Golden case T6: the score of a unit is what is lost without it, and its error is measured against that."""

import torch

from lightning_interpret.functional.occlusion import differences
from lightning_interpret.functional.sequential import integrate_sets


def integral(score, x, baseline, sets, **options):
    sets, every = list(sets), torch.arange(len(x))

    def without(row, features):
        return score(torch.where(features, baseline[row], x[row]), row)

    lost = differences(without, score(x, every), sets)
    found = integrate_sets(
        score,
        x,
        baseline,
        sets,
        target=score(x, every),
        lost=lost,
        error_floor=torch.full_like(lost, 0.01),
        per_unit=lambda values: values,
        **options,
    )
    return found, lost


def single_units(rows, size, split):
    row = torch.arange(rows).repeat_interleave(size)
    members = torch.eye(size, dtype=torch.bool).repeat(rows, 1)
    return zip(row.split(split), members.split(split), strict=True)


def test_t6_of_a_product_each_unit_is_the_whole():
    x = torch.tensor([[2.0, 3.0]], dtype=torch.float64)
    found, lost = integral(lambda p, rows: p[:, 0] * p[:, 1], x, torch.zeros_like(x), single_units(1, 2, 2))
    torch.testing.assert_close(found.contributions, torch.full((1, 2), 6.0, dtype=torch.float64))
    torch.testing.assert_close(found.found - lost, torch.zeros(2, dtype=torch.float64), atol=1e-12, rtol=0)
    assert lost.tolist() == [6, 6]  # and not F(x) − F(x') = 6 for both together


def test_how_the_sets_are_split_changes_nothing():
    torch.manual_seed(0)
    x, baseline = torch.randn(3, 4, dtype=torch.float64), torch.randn(3, 4, dtype=torch.float64)
    weight = torch.randn(3, 4, 4, dtype=torch.float64)

    def score(points, rows):
        return torch.tanh(torch.einsum("md,mde->me", points, weight[rows])).prod(dim=1)

    whole, _ = integral(score, x, baseline, single_units(3, 4, 12))
    for split, chunk in [(1, 64), (5, 2), (12, 1)]:
        parts, _ = integral(score, x, baseline, single_units(3, 4, split), chunk=chunk)
        torch.testing.assert_close(parts.contributions, whole.contributions, rtol=0, atol=1e-12)
        assert torch.equal(parts.gradients, whole.gradients)
    assert float(whole.contributions.abs().min()) > 1e-6


def test_sets_of_several_units_and_none():
    x = torch.tensor([[2.0, 3.0, 4.0], [1.0, 1.0, 1.0]], dtype=torch.float64)
    sets = [(torch.tensor([0]), torch.tensor([[True, True, False]]))]
    found, _ = integral(lambda p, rows: p.prod(dim=1), x, torch.zeros_like(x), sets)
    expected = torch.tensor([[12.0, 12, 0], [0, 0, 0]], dtype=torch.float64)
    torch.testing.assert_close(found.contributions, expected, rtol=0, atol=1e-4)
    nothing, _ = integral(lambda p, rows: p.prod(dim=1), x, x, [])
    assert nothing.contributions.abs().sum() == 0
    assert nothing.found.tolist() == nothing.gradients.tolist() == []
