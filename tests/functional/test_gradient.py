"""The first-order expansion: its remainder in closed form, and which other methods it is."""

import pytest
import torch

from lightning_interpret.functional.gradient import gradient, gradient_times_input, taylor
from lightning_interpret.functional.path import integrate

X, BASELINE = (torch.tensor([[3.0, 2.0], [-1.0, 4.0]], dtype=torch.float64) - shift for shift in (0, 0.5))
HESSIAN = torch.tensor([[2.0, -1.0], [-1.0, 5.0]], dtype=torch.float64)


def quadratic(points, rows):
    return points.sum(dim=1) + 0.5 * (points @ HESSIAN * points).sum(dim=1)


def curved(points, rows):
    return torch.tanh(points[:, 0] * points[:, 1]) + points[:, 0] ** 3


def missed(score, at):
    rows = torch.arange(len(X))
    return taylor(score, X, BASELINE, at=at).sum(dim=1) - (score(X, rows) - score(BASELINE, rows))


def test_of_a_quadratic_the_error_is_half_the_curvature_with_a_sign_for_each_end():
    step = X - BASELINE
    remainder = 0.5 * (step @ HESSIAN * step).sum(dim=1)
    assert float(remainder.min()) > 0.5
    torch.testing.assert_close(missed(quadratic, "input"), remainder)
    torch.testing.assert_close(missed(quadratic, "baseline"), -remainder)


@pytest.mark.parametrize("score", [quadratic, curved])
def test_the_error_is_what_a_step_further_along_the_gradient_misses(score):
    rows, step = torch.arange(len(X)), X - BASELINE
    back = score(X, rows) - (gradient(score, X) * step).sum(dim=1)  # the expansion at x, evaluated at x'
    on = score(BASELINE, rows) + (gradient(score, BASELINE) * step).sum(dim=1)
    torch.testing.assert_close(missed(score, "input"), score(BASELINE, rows) - back)
    torch.testing.assert_close(missed(score, "baseline"), on - score(X, rows))


@pytest.mark.parametrize(("rule", "at"), [("right", "input"), ("left", "baseline")])
@pytest.mark.parametrize("score", [quadratic, curved])
def test_it_is_integrated_gradients_with_one_node(rule, at, score):
    rows = torch.arange(len(X))
    ends = {"target": score(X, rows), "baseline_target": score(BASELINE, rows)}
    expected = integrate(score, X, BASELINE, **ends, rule=rule, steps=1, tolerance=None).contributions
    torch.testing.assert_close(taylor(score, X, BASELINE, at=at), expected, rtol=1e-13, atol=0)


def test_at_the_input_with_nothing_for_a_baseline_it_is_gradient_times_input():
    zero = torch.zeros_like(X)
    expected = X * gradient(curved, X)
    assert torch.equal(taylor(curved, X, zero), expected)
    assert torch.equal(gradient_times_input(curved, X, zero), expected)


def test_a_point_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match=r"`at='inputs'` does not exist\. Did you mean 'input'"):
        taylor(curved, X, BASELINE, at="inputs")
