"""The metrics of concepts are their functional twins, whatever the batches and the processes."""

import pytest
import torch
from torchmetrics import Metric

from lightning_interpret.functional.concepts import concept_accuracy, intervention_curve, residual_share
from lightning_interpret.functional.probe import leakage
from lightning_interpret.metrics import ConceptAccuracy, ConceptLeakage, InterventionCurve, ResidualShare

GENERATOR = torch.Generator().manual_seed(0)
TRUTH = torch.randint(2, (90, 5), generator=GENERATOR).float()
VALUES = (TRUTH - 0.7 * torch.rand(90, 5, generator=GENERATOR)).abs()
MISSING = TRUTH.masked_fill(torch.rand(90, 5, generator=GENERATOR) < 0.2, torch.nan)
LABELS = (TRUTH.sum(dim=1) > 2).long()
PARTS = torch.randn(2, 90, 3, generator=GENERATOR) * torch.tensor([1.0, 3.0])[:, None, None]


def predict(values):
    votes = values.sum(dim=-1) - 2.5
    return torch.stack([-votes, votes], dim=-1)


CASES = {
    "accuracy": (
        lambda: ConceptAccuracy(5),
        lambda metric, rows: metric.update(VALUES[rows], MISSING[rows]),
        lambda: concept_accuracy(VALUES, MISSING).nanmean(),
    ),
    "leakage": (
        lambda: ConceptLeakage(),
        lambda metric, rows: metric.update(VALUES[rows], MISSING[rows], LABELS[rows]),
        lambda: torch.tensor(leakage(VALUES, MISSING, LABELS).gain),
    ),
    "residual": (
        lambda: ResidualShare(3),
        lambda metric, rows: metric.update(PARTS[0, rows], PARTS[1, rows]),
        lambda: residual_share(*PARTS),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_they_are_their_twins_over_batches_and_processes(name):
    make, update, twin = CASES[name]
    whole, parts, ranks = make(), make(), [make(), make()]
    update(whole, slice(None))
    for start in range(0, 90, 16):
        update(parts, slice(start, start + 16))
    update(ranks[0], slice(0, 50))
    update(ranks[1], slice(50, 90))
    ranks[1].merge_state(ranks[0])  # with what is before it
    wanted = twin().float()
    for metric in (whole, parts, ranks[1]):
        assert torch.allclose(metric.compute(), wanted, atol=1e-6)
    whole.reset()
    update(whole, slice(None))
    assert torch.allclose(whole.compute(), wanted, atol=1e-6)


def test_the_curve_is_its_twin_and_leaves_examples_without_a_label_out():
    whole, ranks = InterventionCurve(5), [InterventionCurve(5), InterventionCurve(5)]
    whole.update(VALUES, MISSING, LABELS, predict)
    assert torch.equal(whole.compute(), intervention_curve(VALUES, MISSING, LABELS, predict))
    for metric, rows in zip(ranks, (slice(0, 50), slice(50, 90)), strict=True):
        metric.update(VALUES[rows], MISSING[rows], LABELS[rows], predict)
    ranks[0].merge_state(ranks[1])
    # orders are drawn a batch at a time: the ends, and what is counted, are the same
    assert torch.equal(ranks[0].compute()[[0, -1]], whole.compute()[[0, -1]])
    whole.update(VALUES, MISSING, torch.full((90,), -1), predict)
    assert torch.equal(whole.compute(), intervention_curve(VALUES, MISSING, LABELS, predict))


def test_points_are_spread_from_none_to_all():
    assert InterventionCurve(5).counts.tolist() == [0, 1, 2, 3, 4, 5]
    assert InterventionCurve(100, points=5).counts.tolist() == [0, 25, 50, 75, 100]
    assert InterventionCurve(1, points=9).counts.tolist() == [0, 1]
    with pytest.raises(ValueError, match="points=1"):
        InterventionCurve(5, points=1)


def test_no_more_examples_are_kept_than_the_limit():
    metric = ConceptLeakage(limit=40)
    for start in range(0, 90, 16):
        metric.update(VALUES[start : start + 16], TRUTH[start : start + 16], LABELS[start : start + 16])
    assert sum(map(len, metric.values)) == 40
    assert metric.compute() == torch.tensor(leakage(VALUES[:40], TRUTH[:40], LABELS[:40]).gain)


@pytest.mark.filterwarnings("ignore:The ``compute`` method of metric")
@pytest.mark.parametrize("metric", [ConceptAccuracy(3), ConceptLeakage(), ResidualShare(2), InterventionCurve(3)])
def test_without_examples_there_is_no_number(metric):
    assert metric.reason == "no example was given"
    with pytest.warns(UserWarning, match=f"{type(metric).__name__} is NaN: no example was given"):
        assert bool(metric.compute().isnan().all())


@pytest.mark.parametrize(
    ("metric", "nothing", "something", "reason"),
    [
        (ConceptAccuracy(5), (VALUES, torch.full_like(TRUTH, torch.nan)), (VALUES, TRUTH), "no example has a label of"),
        (
            InterventionCurve(5),
            (VALUES, TRUTH, torch.full_like(LABELS, -100), lambda each: each),
            (VALUES, TRUTH, LABELS, lambda each: each),
            "no example has a class",
        ),
        (
            ConceptLeakage(),
            (VALUES[:3], TRUTH[:3], LABELS[:3]),
            (VALUES, TRUTH, LABELS),
            "3 examples have a class, and a probe needs 4",
        ),
        (ResidualShare(5), (torch.ones(3, 5), torch.ones(3, 5)), (VALUES, TRUTH), "no class score varies from one"),
    ],
    ids=lambda each: type(each).__name__ if isinstance(each, Metric) else "",
)
def test_what_is_no_number_says_why_and_what_is_one_does_not(metric, nothing, something, reason):
    metric.update(*nothing)
    with pytest.warns(UserWarning, match=f"{type(metric).__name__} is NaN: {reason}"):
        assert bool(metric.compute().isnan().all())
    assert metric.reason.startswith(reason)
    metric.update(*something)
    assert metric.reason is None
    assert not bool(metric.compute().isnan().any())


def test_labels_of_fewer_concepts_are_refused_and_not_repeated():
    with pytest.raises(ValueError, match=r"both \(B, K\), but got \(3, 2\) and \(3, 1\)"):
        ConceptAccuracy(2).update(torch.rand(3, 2), torch.ones(3, 1))


def test_examples_without_a_class_tell_nothing_of_leakage():
    generator = torch.Generator().manual_seed(0)
    values, truth = torch.rand(2, 40, 3, generator=generator)
    labels = torch.randint(2, (40,), generator=generator)
    labels[::4] = -100
    every, known = ConceptLeakage(limit=20), labels >= 0
    every.update(values, truth.round(), labels)
    found = leakage(values[known][:20], truth.round()[known][:20], labels[known][:20])
    assert float(every.compute()) == pytest.approx(found.gain)
    none = ConceptLeakage()
    none.update(values, truth, torch.full((40,), -100))
    assert none.compute().isnan()
