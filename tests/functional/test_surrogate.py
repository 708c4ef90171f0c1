"""Linear surrogates of functions of coalitions, by their definitions."""

from itertools import permutations
from math import comb

import pytest
import torch

from lightning_interpret.functional.surrogate import (
    coalitions,
    local_kernel,
    local_surrogate,
    shapley_sizes,
    shapley_values,
)

UNITS = 6


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def game(units=UNITS, seed=0):
    """A function of coalitions with every interaction."""
    table = torch.randn(2**units, generator=generator(seed), dtype=torch.float64)
    return lambda masks: table[(masks.long() << torch.arange(units)).sum(dim=1)]


def shapley_by_orders(value, units):
    """The mean over all orders of what each unit adds to those before it."""
    found, orders = torch.zeros(units, dtype=torch.float64), list(permutations(range(units)))
    for order in orders:
        mask = torch.zeros(1, units, dtype=torch.bool)
        for unit in order:
            before = value(mask)
            mask[0, unit] = True
            found[unit] += (value(mask) - before).item() / len(orders)
    return found


def fitted(solve, value, sizes, kernel, samples, seed=0):
    drawn = coalitions(sizes, kernel, samples, generator(seed))
    weights = drawn.weights[drawn.masks.sum(dim=1)]
    return solve(drawn.masks.double(), value(drawn.masks), weights, drawn=drawn.drawn), drawn


def kernel_shap(value, samples, *, units=UNITS, seed=0):
    ones = torch.ones(units + 1, dtype=torch.float64)
    return fitted(shapley_values, value, shapley_sizes(units), ones, samples, seed)[0]


def lime(value, samples, *, units=UNITS, seed=0):
    sizes = torch.full((units + 1,), 1 / (units + 1), dtype=torch.float64)
    return fitted(local_surrogate, value, sizes, local_kernel(units, 0.25), samples, seed)[0]


@pytest.mark.parametrize("units", [1, 2, 3, 6])
def test_all_coalitions_give_shapley_values(units):
    value = game(units)
    fit = kernel_shap(value, 64, units=units)
    torch.testing.assert_close(fit.coefficients, shapley_by_orders(value, units), rtol=0, atol=1e-12)
    assert fit.standard_errors.tolist() == [0] * units


def test_all_coalitions_give_the_surrogate_of_their_distribution():
    """By the normal equations, written out coalition by coalition."""
    value, kernel = game(), local_kernel(UNITS, 0.25)
    left, right = torch.zeros(UNITS + 1, UNITS + 1).double(), torch.zeros(UNITS + 1).double()
    for number in range(2**UNITS):
        mask = torch.tensor([[number >> i & 1 for i in range(UNITS)]])
        size = int(mask.sum())
        weight = kernel[size] / (UNITS + 1) / comb(UNITS, size)
        row = torch.cat([mask[0], torch.ones(1, dtype=torch.long)]).double()
        left += weight * torch.outer(row, row)
        right += weight * row * value(mask)
    expected = torch.linalg.solve(left, right)[:-1]
    torch.testing.assert_close(lime(value, 64).coefficients, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("solve", [kernel_shap, lime])
def test_standard_errors_are_those_of_the_drawing(solve):
    """Over many seeds: the errors made are as large as the errors stated, unit by unit."""
    units, value = 8, game(8)
    exact = solve(value, 256, units=units).coefficients
    fits = [solve(value, 120, units=units, seed=seed) for seed in range(300)]
    made = torch.stack([fit.coefficients - exact for fit in fits]).square().mean(dim=0).sqrt()
    stated = torch.stack([fit.standard_errors for fit in fits]).square().mean(dim=0).sqrt()
    ratio = stated / made
    assert bool(((ratio > 0.8) & (ratio < 1.25)).all()), ratio


@pytest.mark.parametrize("solve", [kernel_shap, lime])
def test_a_sum_has_its_terms_however_few_are_drawn(solve):
    weights = torch.randn(9, generator=generator(), dtype=torch.float64)
    fit = solve(lambda masks: 3 + masks.double() @ weights, 60, units=9)
    torch.testing.assert_close(fit.coefficients, weights, rtol=0, atol=1e-10)
    assert float(fit.standard_errors.max()) < 1e-10


def test_shapley_values_that_are_drawn_sum_to_the_whole():
    value = game(12)
    ends = value(torch.tensor([[True] * 12, [False] * 12]))
    torch.testing.assert_close(kernel_shap(value, 100, units=12).coefficients.sum(), ends[0] - ends[1])


def test_drawn_coalitions_are_pairs_of_the_sizes_asked_for():
    units, ones = 12, torch.ones(13, dtype=torch.float64)
    drawn = coalitions(shapley_sizes(units), ones, 4000, generator())
    assert drawn.drawn
    assert drawn.masks.shape == (4000, units)
    assert drawn.masks[0].all()
    assert torch.equal(drawn.masks[1::2], ~drawn.masks[::2])
    found = drawn.masks[2:].sum(dim=1).bincount(minlength=13) / 3998
    torch.testing.assert_close(found.double(), shapley_sizes(units), rtol=0, atol=0.03)
    torch.testing.assert_close(drawn.masks[2:].double().mean(dim=0), torch.full((units,), 0.5).double())


def test_all_are_read_where_there_are_no_more_than_asked_for():
    ones = torch.ones(6, dtype=torch.float64)
    drawn = coalitions(shapley_sizes(5), ones, 32, generator())
    assert not drawn.drawn
    assert len({tuple(row) for row in drawn.masks.tolist()}) == 32
    assert coalitions(shapley_sizes(5), ones, 31, generator()).drawn


def test_many_units_are_told_apart_by_more_coalitions():
    drawn = coalitions(shapley_sizes(60), torch.ones(61, dtype=torch.float64), 10, generator())
    assert len(drawn.masks) == 240
    assert int(torch.linalg.matrix_rank(drawn.masks.double())) == 60


def test_one_seed_one_sample():
    first, same, other = (coalitions(shapley_sizes(20), torch.ones(21), 100, generator(seed)) for seed in (0, 0, 1))
    assert torch.equal(first.masks, same.masks)
    assert not torch.equal(first.masks, other.masks)
