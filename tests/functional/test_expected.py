"""Expected gradients: the plan of samples, closed forms, errors that fall, and the standard errors that say so."""

import pytest
import torch

from lightning_interpret.functional.expected import expected_gradients, plan
from lightning_interpret.functional.path import integrate

GENERATOR = torch.Generator().manual_seed(0)
MIX = torch.randn(6, 6, generator=GENERATOR, dtype=torch.float64)
X = torch.randn(3, 6, generator=GENERATOR, dtype=torch.float64)
BASELINES = torch.randn(3, 4, 6, generator=GENERATOR, dtype=torch.float64)


def curved(points, rows):
    return torch.tanh(points @ MIX).square().sum(dim=1)


def quadratic(points, rows):
    return ((points @ MIX) * points).sum(dim=1) / 2


def exact(score):
    """The mean of integrated gradients over the baselines, to 1e-10."""
    rows = torch.arange(3).repeat_interleave(4)
    found = integrate(
        lambda points, index: score(points, rows[index]),
        X[rows],
        BASELINES.flatten(0, 1),
        target=score(X[rows], rows),
        baseline_target=score(BASELINES.flatten(0, 1), rows),
        tolerance=1e-10,
        max_steps=4096,
    )
    return found.contributions.reshape(3, 4, 6).mean(dim=1)


@pytest.mark.parametrize(("samples", "baselines"), [(2, 1), (8, 4), (10, 4), (6, 32), (128, 32), (64, 1)])
def test_a_plan_is_stratified_and_weighs_every_baseline_alike(samples, baselines):
    found = plan(samples, baselines, seed=3)
    used = min(samples, baselines)
    counts = found.baseline.bincount(minlength=baselines)
    assert len(found.place) == samples
    assert int((counts > 0).sum()) == used
    assert int(counts.max()) - int(counts[counts > 0].min()) <= 1
    assert float(found.weight.sum()) == pytest.approx(1)
    share = torch.zeros(baselines, dtype=torch.float64).index_add_(0, found.baseline, found.weight)
    assert share[counts > 0].tolist() == pytest.approx([1 / used] * used)
    for baseline in found.baseline.unique():
        places = found.place[found.baseline == baseline]
        assert (places * len(places)).long().tolist() == list(range(len(places)))  # one in each part of the path
    if samples % used == 0:  # and over all baselines one in each part as fine as there are samples
        assert sorted((found.place * samples).long().tolist()) == list(range(samples))


def test_a_plan_is_its_seed_and_leaves_the_global_generator_alone():
    before = torch.get_rng_state()
    first, again, other = plan(12, 5, 0), plan(12, 5, 0), plan(12, 5, 1)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first.place, again.place)
    assert not torch.equal(first.place, other.place)


def test_over_seeds_the_places_and_the_baselines_are_uniform():
    plans = [plan(4, 6, seed) for seed in range(400)]
    places = torch.cat([each.place for each in plans])
    assert float(places.mean()) == pytest.approx(0.5, abs=0.01)
    assert float(places.var()) == pytest.approx(1 / 12, abs=0.005)
    counts = torch.cat([each.baseline for each in plans]).bincount()
    assert counts.tolist() == pytest.approx([400 * 4 / 6] * 6, rel=0.12)


def test_the_closed_form_of_a_quadratic():
    """∇F is linear, so that the mean gradient of a path is the one in its middle."""
    symmetric = (MIX + MIX.T) / 2
    middle = (X[:, None] + BASELINES) / 2
    expected = ((X[:, None] - BASELINES) * (middle @ symmetric)).mean(dim=1)
    torch.testing.assert_close(exact(quadratic), expected, rtol=1e-9, atol=1e-9)
    found, error = expected_gradients(quadratic, X, BASELINES, samples=4096)
    torch.testing.assert_close(found, expected, rtol=0, atol=5e-4)
    target = quadratic(X, None) - quadratic(BASELINES.flatten(0, 1), None).reshape(3, 4).mean(dim=1)
    torch.testing.assert_close(found.sum(dim=1), target, rtol=0, atol=1e-3)
    assert float(error.max()) < 0.05


def test_a_linear_score_needs_two_samples_of_each_baseline_at_most():
    weight = torch.arange(1.0, 7.0, dtype=torch.float64)
    found, error = expected_gradients(lambda points, rows: points @ weight, X, BASELINES, samples=8)
    torch.testing.assert_close(found, (X - BASELINES.mean(dim=1)) * weight)
    assert float(error.max()) < 1e-12  # there is nothing uncertain, and it says so


def test_the_error_falls_with_the_samples():
    """In strata faster than the root: at 64 times as many it is far below an eighth."""
    truth, errors = exact(curved), []
    for samples in (8, 512):
        missed = [expected_gradients(curved, X, BASELINES, samples=samples, seed=seed)[0] - truth for seed in range(8)]
        errors.append(float(torch.stack(missed).square().mean().sqrt()))
    assert errors[1] < errors[0] / 30


@pytest.mark.parametrize("samples", [16, 64])
def test_the_standard_error_is_of_the_size_of_the_error(samples):
    truth = exact(curved)
    runs = [expected_gradients(curved, X, BASELINES, samples=samples, seed=seed) for seed in range(40)]
    missed = torch.stack([found - truth for found, _ in runs]).square().mean(dim=0).sqrt()
    said = torch.stack([error for _, error in runs]).square().mean(dim=0).sqrt()
    ratio = said / missed
    assert float(ratio.min()) > 0.9  # it may say too much, as strata differ by more than chance: never too little
    assert float(ratio.median()) < 8


def test_fewer_samples_than_baselines_are_unbiased():
    truth = exact(curved)
    runs = [expected_gradients(curved, X, BASELINES, samples=2, seed=seed) for seed in range(600)]
    found = torch.stack([found for found, _ in runs])
    spread = found.std(dim=0) / len(runs) ** 0.5
    assert float(((found.mean(dim=0) - truth) / spread).abs().max()) < 4
    said = torch.stack([error for _, error in runs]).square().mean(dim=0).sqrt()
    assert float((said / found.std(dim=0)).min()) > 0.8


def test_with_one_baseline_it_tends_to_integrated_gradients():
    one = BASELINES[:, :1]
    found, _ = expected_gradients(curved, X, one, samples=2048)
    ends = {"target": curved(X, None), "baseline_target": curved(one[:, 0], None)}
    expected = integrate(curved, X, one[:, 0], **ends, tolerance=1e-10, max_steps=4096).contributions
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-4)


@pytest.mark.parametrize("chunk", [1, 5, 7, 64])
def test_passes_orders_and_rows_beside_it_change_nothing(chunk):
    expected = expected_gradients(curved, X, BASELINES, samples=10)
    order = torch.tensor([2, 0, 1])
    found = expected_gradients(curved, X, BASELINES, samples=10, chunk=chunk, order=order)
    alone = expected_gradients(curved, X[1:2], BASELINES[1:2], samples=10, chunk=chunk)
    for mine, whole, single in zip(found, expected, alone, strict=True):
        torch.testing.assert_close(mine, whole, rtol=0, atol=1e-12)
        torch.testing.assert_close(single[0], whole[1], rtol=0, atol=1e-12)


@pytest.mark.parametrize("samples", [0, 3, 2.0])
def test_samples_come_in_pairs(samples):
    with pytest.raises(ValueError, match=rf"`samples={samples}` must be an even whole number of at least 2"):
        expected_gradients(curved, X, BASELINES, samples=samples)
