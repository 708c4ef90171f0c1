import pytest
import torch
from digits import WEIGHT_DECAY, DigitsTask, digits, split, train
from sklearn.datasets import load_breast_cancer, load_diabetes
from sklearn.metrics import roc_auc_score
from torch import nn

from lightning_interpret import ExactInfluence


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


def test_a1_removal_of_an_example_from_a_ridge_regression_is_exact_with_leverage_and_short_by_h_without():
    x, y, (qx, _), weights, without, whole = diabetes()
    module, examples = linear(weights[None]), split(batch_from(x, y), 100)
    h = (x @ torch.linalg.inv(whole) * x).sum(dim=1)
    change = qx @ (without - weights).T  # of what is predicted for each query
    options = {"weight_decay": 1.0 / len(x)}
    measured = {"measure": lambda module, batch: module(batch["pixels"])[:, 0]}
    queries = batch_from(qx, torch.zeros(len(qx)))
    corrected = ExactInfluence(leverage_correction=True).fit(module, examples, Regression(), **options)
    _, exact = corrected.matrix(queries, **measured)
    assert float((exact - change).abs().max() / change.abs().max()) < 1e-10
    fitted = ExactInfluence().fit(module, examples, Regression(), **options)
    _, plain = fitted.matrix(queries, **measured)
    assert torch.allclose((plain - change) / change, -h.expand_as(change), atol=1e-6)
    assert float(h.max()) > 0.1
    _, own = fitted.self_influence()
    _, corrected_own = corrected.self_influence()
    assert torch.allclose(corrected_own, own / (1 - h), rtol=1e-10)


@pytest.mark.parametrize(("dtype", "error"), [(torch.float64, 1e-6), (torch.float32, 1e-3)])
def test_a2_the_influence_matrix_of_a_linear_regression_is_its_closed_form(dtype, error):
    x, y, (qx, qy), _, _, _ = diabetes()
    x, y, qx, qy = (each.to(dtype) for each in (x, y, qx, qy))
    with torch.random.fork_rng():
        torch.manual_seed(1)
        module = nn.Linear(x.shape[1], 1).to(dtype)
    fitted = ExactInfluence(damping=0.1).fit(module, split(batch_from(x, y), 64), Regression())
    ids, scores = fitted.matrix(batch_from(qx, qy))
    ones, qones = (torch.cat([each, torch.ones(len(each), 1)], dim=1).double() for each in (x, qx))
    left = qones * (module(qx)[:, 0] - qy).detach().double()[:, None]
    right = ones * (module(x)[:, 0] - y).detach().double()[:, None]
    curvature = ones.T @ ones / len(x) + 0.1 * torch.eye(11, dtype=torch.float64)
    expected = left @ torch.linalg.solve(curvature, right.T) / len(x)
    assert ids.tolist() == list(range(342))
    assert float((scores - expected).abs().max() / expected.abs().max()) < error
    assert (fitted.approximation.damping, fitted.approximation.weight_decay) == (0.1, 0.0)


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


@pytest.fixture(scope="module")
def cancer():
    """L2 logistic regression on breast cancer, and the loss of each query without each training example."""
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


class Logistic(DigitsTask):
    """Binary cross-entropy of one score."""

    def losses(self, module, batch):
        score = self.logits(module, batch)[:, 0]
        return nn.functional.binary_cross_entropy_with_logits(score, batch["labels"].double(), reduction="none")

    def loss_roots(self, logits, samples=None, generator=None):
        p = torch.sigmoid(logits)
        return (p * (1 - p)).sqrt()[None]


def rank(values):
    return values.argsort(dim=-1).argsort(dim=-1).double()


def correlation(a, b):
    return torch.nn.functional.cosine_similarity(a - a.mean(-1, True), b - b.mean(-1, True), dim=-1)


def test_a3_influence_on_a_logistic_regression_is_what_456_refits_without_an_example_say(cancer):
    module, examples, queries, truth = cancer
    fitted = ExactInfluence().fit(module, split(examples, 100), Logistic(), weight_decay=4.56 / 456)
    _, scores = fitted.matrix(queries)
    summed, true_sum = scores.sum(dim=0), truth.sum(dim=0)
    assert float(correlation(summed, true_sum)) > 0.95
    assert float(correlation(rank(summed), rank(true_sum))) > 0.98
    assert float(correlation(rank(scores), rank(truth)).mean()) > 0.97
    assert fitted.approximation.damping == 0.0  # the objective's own regulariser is there already
    corrected = ExactInfluence(leverage_correction=True).fit(
        module, split(examples, 100), Logistic(), weight_decay=4.56 / 456
    )
    _, better = corrected.matrix(queries)
    assert float(correlation(better, truth).mean()) > float(correlation(scores, truth).mean())
    assert float((better - truth).abs().mean()) < 0.5 * float((scores - truth).abs().mean())


def test_a9_wrong_labels_have_the_highest_influence_on_themselves():
    batch = dict(digits()[0])
    flipped = torch.randperm(1000, generator=torch.Generator().manual_seed(1))[:100]
    wrong = torch.zeros(1000, dtype=torch.bool).index_fill(0, flipped, True)
    other = torch.randint(1, 10, (1000,), generator=torch.Generator().manual_seed(2))
    batch["labels"] = torch.where(wrong, (batch["labels"] + other) % 10, batch["labels"])
    module = train(batch, epochs=20)
    losses = DigitsTask().losses(module, batch).detach()
    for layers in ("last", "all"):
        fitted = ExactInfluence(layers=layers, damping=1e-3).fit(
            module, split(batch, 250), DigitsTask(), weight_decay=WEIGHT_DECAY
        )
        _, own = fitted.self_influence()
        auc = roc_auc_score(wrong, own)
        assert auc > 0.97
        assert auc >= roc_auc_score(wrong, losses) - 0.02
        assert float(wrong[own.topk(200).indices].sum()) > 95
