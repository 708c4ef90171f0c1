"""Relevance of a plain net, for the tests of its rules."""

import torch

from lightning_interpret.functional.relevance import relevance


def propagate(net, x, rule, *, layers=None, column=0):
    """Return R ``(N, *shape)`` of one output of a net, that output ``(N,)``, and what was absorbed, by name.

    The forward inside is the one outside, bit by bit.
    """
    for weight in net.parameters():
        weight.requires_grad_(False)
    x = x.detach().requires_grad_()
    outside = net(x).detach()
    with relevance(net, rule, layers=layers) as scope:
        inside = net(x)
        score = inside.flatten(1)[:, column]
    assert torch.equal(inside, outside)
    (found,) = scope.relevance(score, x)
    return found, score.detach(), scope.ledger.absorbed


def assert_law(found, score, absorbed, within=1e-12):
    """F(x) = Σ R + Σ absorbed, row by row."""
    total = found.flatten(1).sum(dim=1) + sum(absorbed.values(), torch.zeros(len(score)))
    torch.testing.assert_close(total, score, rtol=0, atol=within * max(1.0, float(score.abs().max())))
