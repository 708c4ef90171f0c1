"""Linear models on scikit-learn's bundled data: what training without an example would change is known exactly."""

from functools import cache

import torch
from digits import DigitsTask
from sklearn.datasets import load_breast_cancer, load_diabetes
from torch import nn


class Regression(DigitsTask):
    """Reads ``pixels`` and real ``labels``; its loss is ½ (ŷ − y)²."""

    def losses(self, module, batch):
        return 0.5 * (self.logits(module, batch)[:, 0] - batch["labels"]).square()

    def loss_roots(self, logits, samples=None, generator=None):
        return torch.ones_like(logits)[None]


def standardised(data):
    x, y = torch.tensor(data.data, dtype=torch.float64), torch.tensor(data.target)
    return (x - x.mean(0)) / x.std(0), y


def linear(weights):
    model = nn.Linear(*reversed(weights.shape), bias=False, dtype=torch.float64)
    with torch.no_grad():
        model.weight.copy_(weights)
    return model


def batch_from(x, y, first=0):
    return {"pixels": x, "labels": y, "example_id": torch.arange(first, first + len(x))}


def diabetes(count=342, ridge=1.0):
    """Ridge regression: data, weights at the optimum, and those at the optimum without each example."""
    x, y = standardised(load_diabetes())
    y = y.double() - y.double().mean()
    queries, (x, y) = (x[count:], y[count:]), (x[:count], y[:count])
    whole, right = x.T @ x + ridge * torch.eye(x.shape[1], dtype=torch.float64), x.T @ y
    without = torch.linalg.solve(whole - x[:, :, None] * x[:, None], right - x * y[:, None])
    return x, y, queries, torch.linalg.solve(whole, right), without, whole


class Logistic(DigitsTask):
    """Binary cross-entropy of one score."""

    def losses(self, module, batch):
        score = self.logits(module, batch)[:, 0]
        return nn.functional.binary_cross_entropy_with_logits(score, batch["labels"].double(), reduction="none")

    def loss_roots(self, logits, samples=None, generator=None):
        p = torch.sigmoid(logits)
        return (p * (1 - p)).sqrt()[None]


def newton(x, y, weights, left_out, penalty, steps=12):
    """Optima of L2 logistic regressions, one for each row of `left_out`, the share of each example that is away."""
    eye = penalty * torch.eye(x.shape[1], dtype=x.dtype)
    for _ in range(steps):
        p = torch.sigmoid(weights @ x.T)
        gradient = ((1 - left_out) * (p - y)) @ x + penalty * weights
        curvature = torch.einsum("kn,ni,nj->kij", (1 - left_out) * p * (1 - p), x, x) + eye
        weights = weights - torch.linalg.solve(curvature, gradient)
    assert float(gradient.abs().max()) < 1e-8
    return weights


@cache
def breast_cancer():
    """L2 logistic regression: model, examples, queries, and how 456 refits change each query's loss, (113, 456)."""
    x, y = standardised(load_breast_cancer())
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    x, y = x[order], y[order].double()
    (x, qx), (y, qy), penalty = x.split([456, 113]), y.split([456, 113]), 4.56
    start = torch.zeros(1, x.shape[1], dtype=torch.float64)
    weights = newton(x, y, start, torch.zeros(1, len(x), dtype=torch.float64), penalty)
    refitted = newton(x, y, weights.expand(len(x), -1), torch.eye(len(x), dtype=torch.float64), penalty, steps=6)
    margins = (2 * qy - 1)[:, None] * (qx @ torch.cat([weights, refitted]).T)
    losses = nn.functional.softplus(-margins)
    return linear(weights), batch_from(x, y), batch_from(qx, qy), losses[:, 1:] - losses[:, :1]
