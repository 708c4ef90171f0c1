"""What the scope refuses, by name, and that it is a scope: nothing of it is seen outside."""

import threading

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lightning_interpret.functional.rescale import RescaleError, deep_lift


def drawn(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


X, BASELINE = drawn(3, 4, seed=2), drawn(3, 4, seed=3)


class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return 2 * x

    @staticmethod
    def backward(ctx, gradient):
        return 2 * gradient


def without_gradient(x):
    with torch.no_grad():
        scale = x.exp()
    return x * scale


def another_way(x):
    return x.exp() if torch.equal(x, X) else x.sin()


def shorter(x):
    return x.exp() if torch.equal(x, X) else x.exp().exp()


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x: x.sort(dim=-1).values, "no rule for `sort`.*IntegratedGradients"),
        (lambda x: x.cumprod(dim=-1), "no rule for `cumprod`"),
        (lambda x: torch.fft.rfft(x).abs(), "no rule for `fft_rfft`"),
        (lambda x: F.grid_sample(x[:, None, None], x.view(3, 1, 2, 2))[:, 0, 0], "no rule for `grid_sampler`"),
        (lambda x: x.exp() ** x, "no rule for `pow` of two tensors"),
        (lambda x: torch.einsum("bi,bi,bi->b", x, x, x)[:, None], "no rule for `einsum` of three"),
        (lambda x: x * x.detach(), "`mul` is given other constants at x than at x'.*`detach`"),
        (lambda x: x.where(x > 0, 0.0), "`where` is given other constants.*comparison"),
        (lambda x: x[:, x.argmax(dim=1)], "`getitem` is given other constants"),
        (lambda x: x * x.max().item(), "`mul` is given other constants"),
        (lambda x: x + torch.rand(4), "`add` is given other constants.*at random"),
        (without_gradient, "`mul` is given other constants.*`no_grad`"),
        (lambda x: Doubled.apply(x).exp() + x, "`add` is given other constants.*`autograd.Function`"),
        (another_way, r"goes another way at x than at x' \(exp where there was sin\)"),
        (shorter, r"goes another way at x than at x' .*exp"),
        (lambda x: Doubled.apply(x).exp(), "functions that cannot be met"),
        (lambda x: F.dropout(x, 0.5), r"Dropout \(p=0.5\) is random.*eval mode"),
        (lambda x: F.batch_norm(x, None, None, training=True), "mixes the examples: put it in eval mode"),
    ],
)
def test_refusals(function, message):
    with pytest.raises(RescaleError, match=message):
        deep_lift(lambda points, rows: function(points).sum(1), X, BASELINE)
    assert torch._C._len_torch_function_stack() == 0


def test_a_forward_that_ends_early_is_refused():
    with pytest.raises(RescaleError, match=r"goes another way at x than at x' \(nothing where there was exp\)"):
        deep_lift(lambda points, rows: points.sum(1) if torch.equal(points, X) else points.sum(1).exp(), X, BASELINE)


def test_a_score_that_the_features_do_not_reach_is_refused():
    with pytest.raises(ValueError, match="No gradient of the score reaches the layer"):
        deep_lift(lambda points, rows: points.detach().sum(1), X, BASELINE)


@pytest.mark.parametrize("at", [1, 2])
def test_nothing_is_left_behind_by_a_forward_that_raises(at):
    calls = []

    def score(points, rows):
        calls.append(points.exp())
        if len(calls) == at:
            raise RuntimeError("in the middle")
        return points.sum(1)

    with pytest.raises(RuntimeError, match="in the middle"):
        deep_lift(score, X, BASELINE)
    assert torch._C._len_torch_function_stack() == 0
    assert X.grad is BASELINE.grad is None
    assert not X.requires_grad
    assert not vars(X)


def test_another_thread_is_untouched_and_two_scopes_do_not_meet():
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 1)).double().requires_grad_(False)
    inside, outside, found = threading.Event(), threading.Event(), {}

    def score(points, rows):
        inside.set()
        assert outside.wait(10)
        return model(points)[:, 0]

    expected = deep_lift(lambda points, rows: model(points)[:, 0], X, BASELINE)
    thread = threading.Thread(target=lambda: found.update(scores=deep_lift(score, X, BASELINE)))
    thread.start()
    assert inside.wait(10)
    points = X.clone().requires_grad_()
    slope = 1 - torch.tanh(points.detach()) ** 2
    assert torch.allclose(torch.autograd.grad(torch.tanh(points).sum(), points)[0], slope, rtol=1e-15)
    assert torch.equal(deep_lift(lambda points, rows: model(points)[:, 0], X, BASELINE), expected)
    outside.set()
    thread.join()
    assert torch.equal(found["scores"], expected)


def test_weights_that_require_gradients_change_nothing():
    model = nn.Sequential(nn.Linear(4, 5), nn.GELU(), nn.LayerNorm(5), nn.Linear(5, 1)).double()
    free = deep_lift(lambda points, rows: model(points)[:, 0], X, BASELINE)
    frozen = model.requires_grad_(False)
    assert torch.equal(deep_lift(lambda points, rows: frozen(points)[:, 0], X, BASELINE), free)
    assert all(weight.grad is None for weight in model.parameters())


def test_a_change_too_small_for_a_quotient_has_a_slope():
    """Below √ε a quotient would be rounding; the slope between them is as good."""
    x = torch.linspace(-2, 2, 9, dtype=torch.float64)[:, None]
    found = deep_lift(lambda points, rows: points.sigmoid()[:, 0], x, x - 1e-13)
    slope = x.sigmoid() * (1 - x.sigmoid())
    torch.testing.assert_close(found / (x - (x - 1e-13)), slope, rtol=1e-9, atol=0)


@pytest.mark.parametrize(
    ("function", "x", "baseline"),
    [
        (torch.rsqrt, 4e-4, 1e-6),  # steep: what is near in x is not near in y
        (torch.sin, 5e3, 5e3 + 2 * torch.pi),  # periodic: what is near in y is not near in x
        (torch.relu, 1e-6, -1e-6),  # a kink between them
    ],
)
def test_a_small_change_is_not_taken_for_rounding(function, x, baseline):
    x, baseline = torch.tensor([[x]]), torch.tensor([[baseline]])
    found = deep_lift(lambda points, rows: function(points)[:, 0], x, baseline)
    torch.testing.assert_close(found[:, 0], (function(x) - function(baseline))[:, 0], rtol=1e-5, atol=0)
