"""The measures of concepts: closed forms, slow loops, and scikit-learn's logistic regression."""

import math

import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch.nn import functional as F

from lightning_interpret.functional.concepts import (
    concept_accuracy,
    concept_loss,
    curve_counts,
    decorrelation,
    intervention_curve,
    residual_share,
    with_concepts,
)
from lightning_interpret.functional.probe import leakage, probe_accuracy

NAN = float("nan")


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_loss_is_the_mean_over_the_labels_that_are_there():
    scores = drawn(4, 3).requires_grad_()
    labels = torch.tensor([[1, 0, NAN], [NAN, NAN, NAN], [-1, 1, 0.25], [0, -1, 1]])
    slow = [
        F.binary_cross_entropy(scores[i, k].sigmoid(), labels[i, k].double())
        for i in range(4)
        for k in range(3)
        if labels[i, k] >= 0
    ]
    found = concept_loss(scores, labels)
    assert found.item() == pytest.approx(sum(slow).item() / len(slow), rel=1e-12)
    found.backward()
    assert (scores.grad != 0).tolist() == (labels >= 0).tolist()


def test_without_labels_the_loss_is_zero_and_so_is_its_gradient():
    scores = drawn(2, 3).requires_grad_()
    found = concept_loss(scores, torch.full((2, 3), NAN))
    found.backward()
    assert found.item() == 0.0
    assert torch.equal(scores.grad, torch.zeros(2, 3, dtype=torch.float64))


def test_a_label_that_is_none_makes_the_loss_nan():
    assert concept_loss(drawn(1, 2), torch.tensor([[2.0, 1.0]])).isnan()
    assert concept_loss(drawn(1, 2), torch.tensor([[-2, 1]])).isnan()


def test_correlations_are_those_of_numpy_and_move_free_concepts_alone():
    logits = (3 * drawn(50, 5)).requires_grad_()
    found = logits.sigmoid()
    squares = torch.corrcoef(found.T).square()
    pairs = [squares[j, k].item() for j in (3, 4) for k in range(5) if k != j]
    term = decorrelation(found, free=2)
    assert term.item() == pytest.approx(sum(pairs) / len(pairs), rel=2e-2)  # what hardly varies has less of it
    assert decorrelation(found[:1], free=2) == 0.0
    term.backward()
    assert (logits.grad.abs().sum(dim=0) > 0).tolist() == [False, False, False, True, True]


def test_equal_concepts_correlate_and_constant_ones_do_not():
    column = torch.tensor([0.0, 1.0] * 10)[:, None]
    assert decorrelation(torch.cat([column, 1 - column], dim=1), free=1) == pytest.approx(1, abs=1e-3)
    assert decorrelation(torch.cat([column, torch.full_like(column, 0.7)], dim=1), free=1) == pytest.approx(0, abs=1e-6)


def test_accuracy_leaves_missing_labels_out():
    labels = torch.tensor([[1, 0, NAN], [0, 0, NAN], [NAN, -1, NAN]])
    probabilities = torch.tensor([[0.9, 0.8, 0.1], [0.6, 0.2, 0.9], [0.1, 0.1, 0.1]])
    found = concept_accuracy(probabilities, labels)
    assert found[:2].tolist() == [0.5, 0.5]
    assert found[2].isnan()


def test_the_curve_sets_so_many_concepts_in_another_order_for_each_row():
    values, truth = torch.zeros(40, 6), torch.ones(40, 6)
    found = curve_counts(values, truth, torch.arange(7))
    assert torch.equal(found.sum(dim=2), torch.arange(7.0)[:, None].expand(7, 40))
    assert bool((found[1:] >= found[:-1]).all())  # what is set stays set
    assert len({tuple(row) for row in found[1].tolist()}) > 3
    truth[:, 2] = NAN
    assert torch.equal(
        curve_counts(values, truth, torch.tensor([6]))[0], torch.tensor([1.0, 1, 0, 1, 1, 1]).expand(40, 6)
    )


def test_the_curve_of_a_vote_is_that_of_a_loop():
    truth = torch.randint(2, (60, 5), generator=torch.Generator().manual_seed(1)).float()
    wrong = torch.rand(60, 5, generator=torch.Generator().manual_seed(2)) < 0.4
    values, labels = torch.where(wrong, 1 - truth, truth), (truth.sum(dim=1) > 2).long()

    def predict(concepts):
        votes = concepts.sum(dim=-1) - 2.5
        return torch.stack([-votes, votes], dim=-1)

    found = intervention_curve(values, truth, labels, predict)
    steps = curve_counts(values, truth, torch.arange(6))
    slow = [
        sum(int((row.sum() > 2.5) == label) for row, label in zip(step, labels, strict=True)) / 60 for step in steps
    ]
    assert found.tolist() == pytest.approx(slow)
    assert found[-1] == 1.0
    assert found[0] < 0.9
    assert torch.equal(with_concepts(values, truth), truth)


def test_the_residual_share_is_that_of_the_variances():
    concepts, residual = drawn(500, 3), 2 * drawn(500, 3, seed=1)
    assert residual_share(concepts, residual).item() == pytest.approx(0.8, abs=0.03)
    assert residual_share(concepts, torch.ones(500, 3)) == 0.0  # the same for all examples
    assert residual_share(concepts, drawn(500, 1).expand(500, 3)) == pytest.approx(0, abs=1e-12)  # and for all classes
    assert residual_share(torch.zeros(500, 3), residual) == 1.0


@pytest.mark.parametrize("classes", [2, 4])
def test_the_probe_is_logistic_regression(classes):
    features = drawn(240, 5)
    labels = (features @ drawn(5, classes, seed=1) + drawn(240, classes, seed=2)).argmax(dim=1)
    order = torch.randperm(240, generator=torch.Generator().manual_seed(0))
    met = 0
    for fitted, held in ((order[:120], order[120:]), (order[120:], order[:120])):
        mean, scale = features[fitted].mean(dim=0), features[fitted].std(dim=0, correction=0)
        scaled = ((features - mean) / scale).numpy()
        peer = LogisticRegression(C=1.0, tol=1e-8, max_iter=1000)
        peer.fit(scaled[fitted.numpy()], labels[fitted].numpy())
        met += (peer.predict(scaled[held.numpy()]) == labels[held].numpy()).sum()
    # of two classes both columns of weights are punished here, which is twice the pull on their difference
    assert probe_accuracy(features, labels) == pytest.approx(met / 240, abs=0.0 if classes > 2 else 0.01)


def test_what_values_tell_beside_their_concept_is_leakage():
    generator = torch.Generator().manual_seed(0)
    truth = torch.randint(2, (800, 4), generator=generator).float()
    labels = torch.randint(2, (800,), generator=generator)
    clean = 0.1 + 0.7 * truth + 0.1 * torch.rand(800, 4, generator=generator)
    leaky = clean + 0.1 * labels[:, None]  # each stays on its concept's side
    assert abs(leakage(clean, truth, labels).gain) < 0.06
    found = leakage(leaky, truth, labels)
    assert found.true < 0.56
    assert found.soft > 0.8
    # a label that is made of the concepts is no leak
    vote = (truth.sum(dim=1) > 2).long()
    assert abs(leakage(clean, truth, vote).gain) < 0.03
    # nor are values that are often wrong of their concept, whatever they tell
    wrong = torch.where(torch.rand(800, 4, generator=generator) < 0.3, 1 - clean, clean)
    found = leakage(wrong, truth, vote)
    assert found.soft < found.true - 0.1
    assert abs(found.gain) < 0.03
    assert leakage(clean, truth, vote).true > 0.95


def test_leakage_where_concepts_are_not_known_is_told_against_the_values_decided():
    generator = torch.Generator().manual_seed(0)
    truth = torch.randint(2, (400, 3), generator=generator).float()
    labels = truth[:, 0].long()
    found = leakage(0.2 + 0.6 * truth, torch.full_like(truth, NAN), labels)
    assert (found.soft, found.true, found.both) == (1.0, 1.0, 1.0)


def test_few_examples_and_other_shapes():
    assert math.isnan(probe_accuracy(torch.zeros(3, 2), torch.tensor([0, 1, 0])))
    with pytest.raises(ValueError, match=r"true concepts \(N, K\) and labels \(N,\), but got \(4, 2\), \(4, 3\)"):
        leakage(torch.zeros(4, 2), torch.zeros(4, 3), torch.zeros(4))


def test_a_probe_can_be_fitted_in_inference_mode():
    with torch.inference_mode():
        features = drawn(40, 2)
        found = probe_accuracy(features, (features[:, 0] > 0).long())
    assert found > 0.9
