"""The numbers that are logged, against their definitions (golden case T15 for drift)."""

import pytest
import torch

from lightning_interpret.functional.agreement import drift
from lightning_interpret.metrics import AttributionError, ExplanationDrift

BEFORE = torch.tensor([0.5, 0.3, 0.1, -0.2])


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        (BEFORE, 0.0),
        (3 * BEFORE, 0.0),
        (-BEFORE, 2.0),
        (torch.tensor([0.4, 0.35, 0.05, -0.3]), 0.032494),
        (torch.zeros(4), 1.0),
    ],
)
def test_t15_drift_knows_signs_and_no_scale(scores, expected):
    assert float(drift(scores, BEFORE)) == pytest.approx(expected, abs=1e-6)


def test_two_explanations_of_nothing_are_the_same():
    assert float(drift(torch.zeros(3), torch.zeros(3))) == 0


def test_drift_is_the_mean_over_examples_however_they_come():
    metric, rows = ExplanationDrift(), torch.randn(5, 7)
    before = torch.randn(5, 7)
    metric.update(rows[:2], before[:2])
    metric.update(rows[2:], before[2:])
    expected = sum(1 - torch.cosine_similarity(a, b, dim=0) for a, b in zip(rows, before, strict=True)) / 5
    assert float(metric.compute()) == pytest.approx(float(expected), abs=1e-6)


@pytest.mark.parametrize("relative", [False, True])
def test_the_error_is_the_mean_over_examples(relative):
    scores = torch.tensor([[1.0, 2.0], [3.0, -1.0], [0.0, 0.0]])
    target, baseline = torch.tensor([4.0, 2.0, 0.001]), torch.tensor([0.5, 0.0, 0.0])
    metric = AttributionError(relative=relative, floor=0.01)
    metric.update(scores[:1], target[:1], baseline[:1])
    metric.update(scores[1:], target[1:], baseline[1:])
    absolute = [0.5, 0.0, 0.001]
    expected = [0.5 / 3.5, 0.0, 0.001 / 0.01] if relative else absolute
    assert float(metric.compute()) == pytest.approx(sum(expected) / 3, rel=1e-5)


@pytest.mark.parametrize("metric", [AttributionError(), ExplanationDrift()])
def test_without_examples_there_is_no_number(metric):
    with pytest.warns(UserWarning, match="before the ``update`` method"):
        assert metric.compute().isnan()


def test_processes_are_reduced_by_sums():
    """What torchmetrics does over processes, by hand: the mean is over all examples and not over processes."""
    parts = []
    for rows in (1, 3):
        part = AttributionError()
        part.update(torch.full((rows, 2), float(rows)), torch.zeros(rows), torch.zeros(rows))
        parts.append(part)
    total, count = sum(p.total for p in parts), sum(p.count for p in parts)
    assert all(reduction is torch.sum or "sum" in str(reduction) for reduction in parts[0]._reductions.values())
    assert float(total / count) == pytest.approx((2 + 3 * 6) / 4)
