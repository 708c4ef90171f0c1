"""Concept vectors and their tests, beside slow references in double precision and scipy."""

import math
import sys
from itertools import combinations

import pytest
import torch
from scipy import stats

from lightning_interpret.functional.concept_tests import against_random, corrected, interval, welch
from lightning_interpret.functional.concept_vectors import (
    concept_vector,
    directional_derivatives,
    stability,
    tcav_score,
)
from lightning_interpret.functional.pooling import moved, pooled


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def shifted(count=60, size=12, by=6.0, seed=0):
    """Two sets, the first moved along one direction, of features whose spreads differ."""
    spread, direction = torch.linspace(0.2, 3, size).double(), torch.eye(size).double()[size // 2]
    return draw(count, size, seed=seed) * spread + by * direction, draw(count, size, seed=seed + 1) * spread, direction


def test_the_vector_is_the_minimum_of_the_penalised_loss():
    positive, negative, _ = shifted(30, 6)
    found, _, _ = concept_vector(positive, negative, penalty=0.1, seed=3)
    generator = torch.Generator().manual_seed(3)
    kept = [each[torch.randperm(30, generator=generator)][10:] for each in (positive, negative)]
    features, labels = torch.cat(kept), torch.tensor([1.0] * 20 + [0.0] * 20, dtype=torch.float64)
    features = features - features.mean(dim=0)
    features = features / features.square().sum(dim=1).mean().sqrt()
    weight = torch.zeros(7, dtype=torch.float64, requires_grad=True)
    steps = torch.optim.LBFGS([weight], max_iter=500, tolerance_grad=1e-12, line_search_fn="strong_wolfe")

    def loss():
        steps.zero_grad()
        scores = features @ weight[:6] + weight[6]
        found = torch.nn.functional.binary_cross_entropy_with_logits(scores, labels)
        found = found + 0.1 / 2 * weight[:6].square().sum()
        found.backward()
        return found

    steps.step(loss)
    oracle = torch.nn.functional.normalize(weight[:6].detach(), dim=0)
    assert float(oracle @ found) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("solver", ["logistic", "svm"])
def test_the_vector_points_to_the_concept_whatever_the_scale_and_the_accuracy_is_held_out(solver):
    positive, negative, direction = shifted()
    found, accuracy, gap = concept_vector(positive, negative, solver=solver)
    assert float(found.norm()) == pytest.approx(1)
    assert float(found @ direction) > 0.5
    assert accuracy > 0.75
    assert 2 < gap < 7
    scaled, same, wide = concept_vector(1000 * positive + 7, 1000 * negative + 7, solver=solver)
    assert wide == pytest.approx(1000 * gap, rel=1e-3)
    assert float(scaled @ found) == pytest.approx(1, abs=1e-4)
    assert same == accuracy
    away, _, _ = concept_vector(negative, positive, solver=solver)
    assert float(away @ direction) < -0.5
    by_chance = [concept_vector(draw(30, 40, seed=k), draw(30, 40, seed=100 + k), solver=solver)[1] for k in range(20)]
    assert sum(by_chance) / 20 == pytest.approx(0.5, abs=0.08)  # of what it was fitted to it is 1


def test_features_that_are_all_the_same_have_no_direction():
    found, accuracy, gap = concept_vector(torch.ones(9, 3), torch.ones(9, 3))
    assert not found.any()
    assert (accuracy, gap) == (0.5, 0.0)


def test_too_few_examples_and_features_that_are_not_finite_are_refused_by_name():
    lost = draw(9, 3)
    lost[2, 1] = math.nan
    with pytest.raises(
        ValueError, match=r"`negative` \(9, 3\) must have at least 3 examples, and numbers that are fin"
    ):
        concept_vector(draw(9, 3), lost)
    with pytest.raises(ValueError, match=r"`positive` \(2, 3\) must have at least 3 examples"):
        concept_vector(draw(2, 3), draw(9, 3))


def test_a_solver_that_does_not_exist_and_a_missing_extra_are_said(monkeypatch):
    with pytest.raises(ValueError, match=r"`solver='logistc'` does not exist.*logistic"):
        concept_vector(draw(6, 2), draw(6, 2), solver="logistc")
    monkeypatch.setitem(sys.modules, "sklearn.linear_model", None)
    with pytest.raises(ImportError, match=r"scikit-learn, which is not installed: .*lightning-interpret\[concepts\]"):
        concept_vector(draw(6, 2), draw(6, 2))


def test_stability_is_the_mean_cosine_of_the_pairs():
    vectors = torch.nn.functional.normalize(draw(7, 5), dim=1)
    assert stability(vectors) == pytest.approx(sum(float(a @ b) for a, b in combinations(vectors, 2)) / 21)
    assert math.isnan(stability(vectors[:1]))


def test_the_score_is_the_share_of_positive_derivatives_and_none_of_nothing():
    gradients, vectors = draw(5, 3), draw(4, 3, seed=1)
    slopes = directional_derivatives(gradients, vectors)
    assert slopes[2, 3] == pytest.approx(sum(float(a * b) for a, b in zip(gradients[2], vectors[3], strict=True)))
    assert tcav_score(slopes).tolist() == [sum(bool(s > 0) for s in column) / 5 for column in slopes.T]
    assert tcav_score(torch.tensor([[0.0, 0.0], [0.0, 1.0]])).nan_to_num(-1).tolist() == [-1, 0.5]
    assert tcav_score(torch.zeros(0, 2)).isnan().all()


@pytest.mark.parametrize("pooling", ["mean", "first", "last"])
def test_the_pooled_gradient_is_the_rate_as_the_pooled_vector_moves(pooling):
    values, there = draw(3, 5, 4), torch.tensor([[1, 1, 1, 1, 1], [0, 0, 1, 1, 1], [1, 1, 0, 0, 0]]).bool()
    weights, direction, step = draw(3, 5, 4, seed=1), draw(4, seed=2), 1e-4
    moves = there.clone()  # which places move along the direction
    if pooling == "first":
        moves = torch.zeros_like(there).scatter(1, torch.tensor([[0], [2], [0]]), True)
    if pooling == "last":
        moves = torch.zeros_like(there).scatter(1, torch.tensor([[4], [4], [1]]), True)

    def score(along):
        return torch.sin(weights * (values + along * moves[:, :, None] * direction)).sum(dim=(1, 2))

    gradients = weights * torch.cos(weights * values)
    rate = moved(gradients, there, pooling) @ direction
    assert torch.allclose(rate, (score(step) - score(-step)) / (2 * step), atol=1e-6)
    shift = pooled(values + moves[:, :, None] * direction, there, pooling) - pooled(values, there, pooling)
    assert torch.allclose(shift, direction.expand(3, 4))


def test_one_value_beside_a_sample_is_tested_at_its_level():
    sample = draw(1000, 11)
    p = torch.tensor([against_random(float(row[0]), row[1:]) for row in sample])
    assert stats.kstest(p.numpy(), "uniform").pvalue > 0.01
    one, random = 2.5, sample[0, 1:]
    t = (one - float(random.mean())) / float(random.std()) / math.sqrt(1 + 1 / 10)
    assert against_random(one, random) == pytest.approx(2 * (1 - stats.t.cdf(abs(t), 9)))


def test_values_without_a_spread_have_no_p_but_where_they_are_the_same():
    alike = torch.full((5,), 0.5)
    assert against_random(0.5, alike) == welch(alike, alike) == 1.0
    for p in (
        against_random(0.7, alike),
        against_random(math.nan, draw(5)),
        against_random(0.1, draw(1)),
        against_random(0.1, torch.tensor([0.1, math.nan])),
        welch(alike, alike + 0.1),
        welch(alike[:1], draw(4)),
    ):
        assert math.isnan(p)


@pytest.mark.parametrize("scale", [1, 1e-16, 1e9])
def test_a_test_is_the_same_in_any_unit(scale):
    first, second = scale * draw(9), scale * (draw(14, seed=1) + 2)
    assert welch(first, second) == pytest.approx(stats.ttest_ind(first, second, equal_var=False).pvalue)
    assert against_random(float(second[0]), first) == pytest.approx(against_random(float(second[0]) / scale, draw(9)))
    rounded = torch.full((5,), 0.1 * scale, dtype=torch.float64) * torch.tensor([1, 1, 1, 1, 1 + 2e-16]).double()
    assert against_random(0.1 * scale, rounded) == welch(rounded, rounded) == 1.0
    assert math.isnan(against_random(0.2 * scale, rounded))


def test_welch_and_the_interval_are_scipys():
    first, second = draw(9), 2 * draw(14, seed=1) + 0.7
    assert welch(first, second) == pytest.approx(stats.ttest_ind(first, second, equal_var=False).pvalue)
    known = stats.t.interval(0.9, 8, loc=float(first.mean()), scale=stats.sem(first))
    assert interval(first, 0.1) == pytest.approx(known)
    assert math.isnan(interval(first[:1])[0])


def test_corrections_are_those_of_their_definitions():
    p = torch.tensor([0.04, 0.001, math.nan, 0.03, 0.2, 0.001], dtype=torch.float64)
    known = sorted(p[~p.isnan()].tolist())
    holm = [max(min(1, (5 - j) * known[j]) for j in range(i + 1)) for i in range(5)]
    found = corrected(p, "holm")
    assert sorted(found[~p.isnan()].tolist()) == pytest.approx(holm)
    assert found[0] == pytest.approx(holm[known.index(0.04)])
    assert bool(found.isnan()[2])
    found = corrected(p, "benjamini_hochberg")
    assert found[~p.isnan()].tolist() == pytest.approx(stats.false_discovery_control(p[~p.isnan()].numpy()).tolist())
    assert torch.equal(corrected(p, "none").nan_to_num(9), p.nan_to_num(9))
    assert corrected(torch.zeros(0)).tolist() == []
    with pytest.raises(ValueError, match=r"`correction='bonferoni'` does not exist"):
        corrected(p, "bonferoni")
