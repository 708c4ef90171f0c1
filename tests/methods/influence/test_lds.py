"""Influence beside retraining and wrong labels: cases A3', A8 and A9 on data that scikit-learn holds."""

from functools import cache, partial

import pytest
import torch
from digits import WEIGHT_DECAY, DigitsTask, digits, network, split, train, trained
from sklearn.datasets import load_breast_cancer
from torch import nn

from lightning_interpret.functional.influence.datamodels import (
    leave_one_out,
    linear_datamodeling_score,
    removal_effects,
    subsets,
)
from lightning_interpret.functional.influence.ensembles import MinusLoss, SubsetTrainer
from lightning_interpret.functional.influence.retraining import retrain
from lightning_interpret.functional.ranks import area_under_curve, recall_at, spearman
from lightning_interpret.methods.influence import influence_named

EXACT = {"method": "exact", "layers": "all"}


@cache
def retrained(count, seeds):
    """Random halves of the 1,000 images, and the outcomes at the 200 queries."""
    (batch, queries), masks = digits(), subsets(1000, 0.5, count, seed=0)
    trainer = SubsetTrainer(partial(network, 32), batch["pixels"], batch["labels"])
    outcome = MinusLoss(queries["pixels"], queries["labels"])
    return masks, retrain(trainer, masks, outcome, seeds=range(seeds)).outcomes


def lds(count, seeds, **options):
    batch, queries = digits()
    fitted = influence_named(**options).fit(trained(), split(batch, 250), DigitsTask(), weight_decay=WEIGHT_DECAY)
    ids, scores = fitted.matrix(queries)
    return float(linear_datamodeling_score(scores[:, ids.argsort()], *retrained(count, seeds)).mean())


@pytest.mark.parametrize(
    ("halves", "seeds", "exact", "ekfac"),
    [(40, 1, 0.58, 0.50), pytest.param(100, 3, 0.65, 0.55, marks=pytest.mark.slow)],
)
def test_a8_curvature_foresees_what_training_on_halves_leaves(halves, seeds, exact, ekfac):
    found = {
        "exact": lds(halves, seeds, **EXACT),
        "ekfac": lds(halves, seeds, method="ekfac"),
        "dot": lds(halves, seeds, method="gradient_similarity", similarity="dot"),
    }
    assert found["exact"] > exact, found
    assert found["ekfac"] > ekfac, found
    assert found["dot"] < 0.45, found
    assert found["exact"] > found["ekfac"] > found["dot"] > 0.1, found


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2))])
def test_a9_self_influence_finds_wrong_labels_as_the_loss_does(seed):
    batch, _ = digits()
    generator = torch.Generator().manual_seed(seed)
    wrong = torch.rand(1000, generator=generator) < 0.1
    moved = (batch["labels"] + torch.randint(1, 10, (1000,), generator=generator)) % 10
    noisy = {**batch, "labels": moved.where(wrong, batch["labels"])}
    model = train(noisy, seed=seed)
    loss = -MinusLoss(noisy["pixels"], noisy["labels"])(model).detach()
    baseline = area_under_curve(loss, wrong)
    assert baseline > 0.97
    for options in (EXACT, {"method": "ekfac"}):
        fitted = influence_named(**options).fit(model, split(noisy, 250), DigitsTask(), weight_decay=WEIGHT_DECAY)
        ids, own = fitted.self_influence()
        own = own[ids.argsort()]
        assert area_under_curve(own, wrong) > max(0.97, baseline - 0.02), options
        assert recall_at(own, wrong, 0.2) > 0.95, options


def regression(inputs, labels, masks, penalty):
    """Weights of logistic regression on each subset, by Newton's method: the penalty on the summed loss is λ/2 ‖w‖²."""
    weights = inputs.new_zeros(len(masks), inputs.shape[1])
    eye = penalty * torch.eye(inputs.shape[1], dtype=inputs.dtype)
    for _ in range(12):
        said = (weights @ inputs.T).sigmoid()
        slope = (masks * (said - labels)) @ inputs + penalty * weights
        curve = torch.einsum("kn,ni,nj->kij", masks * said * (1 - said), inputs, inputs) + eye
        weights = weights - torch.linalg.solve(curve, slope)
    assert slope.abs().max() < 1e-8
    return weights


def test_a3_influence_orders_what_leaving_each_example_out_does():
    """456 refits; the two rows of a softmax's weights are ∓w/2, of which a weight decay of 2λ is w's of λ."""
    data = load_breast_cancer()
    order = torch.randperm(569, generator=torch.Generator().manual_seed(0))
    inputs, labels = torch.tensor(data.data)[order], torch.tensor(data.target)[order]
    inputs = (inputs - inputs[:456].mean(dim=0)) / inputs[:456].std(dim=0)
    batch = {"pixels": inputs[:456], "labels": labels[:456], "example_id": torch.arange(456)}
    queries = {"pixels": inputs[456:], "labels": labels[456:], "example_id": torch.arange(456, 569)}
    padded = torch.cat([inputs[:456], torch.ones(456, 1, dtype=torch.float64)], dim=1)
    masks = torch.cat([torch.ones(1, 456, dtype=torch.bool), leave_one_out(456)])
    weights = regression(padded, labels[:456], masks.double(), penalty=4.56)

    def model(w):
        layer = nn.Linear(30, 2, dtype=torch.float64)
        layer.load_state_dict({"weight": torch.stack([-w[:-1], w[:-1]]) / 2, "bias": torch.stack([-w[-1], w[-1]]) / 2})
        return layer

    outcomes = torch.stack([MinusLoss(queries["pixels"], queries["labels"])(model(w)).detach() for w in weights])
    actual = removal_effects(outcomes[0], outcomes[1:])
    fitted = influence_named(**EXACT).fit(model(weights[0]), [batch], DigitsTask(), weight_decay=2 * 4.56 / 456)
    _, scores = fitted.matrix(queries)
    assert float(spearman(scores.T, actual.T).mean()) > 0.97  # never the least of them
    summed = torch.stack([scores.sum(dim=0), actual.sum(dim=0)])
    assert float(torch.corrcoef(summed)[0, 1]) > 0.95
    assert float(spearman(summed[0, :, None], summed[1, :, None])) > 0.98
