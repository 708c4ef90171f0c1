"""Agreement, drift, randomisation and complexity as torchmetrics: means of their twins, with reasons."""

import math

import pytest
import torch
from scipy.stats import spearmanr
from torchmetrics import MetricCollection

from lightning_interpret.functional.agreement import CORRELATIONS, TOP, method_agreement
from lightning_interpret.metrics import AttributionError, Complexity, ExplanationDrift, MethodAgreement, Randomisation

FIRST, SECOND = torch.randn(2, 8, 6, generator=torch.Generator().manual_seed(0)).double()
COUNTS = torch.rand(8, 6, generator=torch.Generator().manual_seed(1)) < 0.8
SURE = torch.tensor([0.5, 0.95, 0.6, 0.59, 0.9, 0.91, 0.7, 0.99])


@pytest.mark.parametrize("measure", [*TOP, *CORRELATIONS])
def test_agreement_is_the_mean_of_its_twin(measure):
    metric = MethodAgreement(measure, k=3)
    for rows in (slice(0, 3), slice(3, 8)):
        metric.update(FIRST[rows], SECOND[rows], COUNTS[rows])
    wanted = method_agreement(FIRST, SECOND, COUNTS, measure, k=3).nanmean()
    assert float(metric.compute()) == pytest.approx(float(wanted), abs=1e-12)


def test_t14_of_one_pair():
    pair = torch.tensor([[0.5, -0.4, 0.3, 0.2, 0.1]]), torch.tensor([[0.4, 0.5, -0.3, 0.1, 0.2]]), torch.ones(1, 5) > 0
    wanted = {"feature": 1, "rank": 1 / 3, "sign": 1 / 3, "signed_rank": 0, "kendall": -0.4, "spearman": -0.4}
    for measure, value in wanted.items():
        metric = MethodAgreement(measure, k=3)
        metric.update(*pair)
        assert float(metric.compute()) == pytest.approx(value, abs=1e-12)


def test_agreement_is_told_apart_by_how_sure_the_model_is():
    metric = MethodAgreement("spearman", edges=(0.6, 0.9))
    for rows in (slice(0, 3), slice(3, 8)):
        metric.update(FIRST[rows], SECOND[rows], COUNTS[rows], SURE[rows])
    each = method_agreement(FIRST, SECOND, COUNTS, "spearman")
    bins = [[0, 3], [2, 6], [1, 4, 5, 7]]
    assert metric.curve().tolist() == pytest.approx([float(each[of].mean()) for of in bins], abs=1e-12)
    assert float(metric.compute()) == pytest.approx(float(each.mean()), abs=1e-12)
    with pytest.raises(ValueError, match=r"`edges=\(0.6, 0.9\)` tell examples apart by `confidence`"):
        metric.update(FIRST, SECOND, COUNTS)
    for wrong in (SURE[1:], SURE[:, None]):
        with pytest.raises(ValueError, match=r"`confidence` must be \(8,\), but is"):
            metric.update(FIRST, SECOND, COUNTS, wrong)
    metric = MethodAgreement("spearman", edges=(0.2,))
    metric.update(FIRST, SECOND, COUNTS, torch.cat([torch.tensor([torch.nan]), SURE[1:]]))
    assert metric.curve().isnan().tolist() == [True, False]
    assert metric.numbers.tolist() == [0, 7]


def test_randomisation_is_the_rank_correlation_at_each_stage():
    stages = torch.stack([FIRST + 0.1 * SECOND, -FIRST, SECOND])
    metric = Randomisation(stages=3)
    for rows in (slice(0, 3), slice(3, 8)):
        metric.update(FIRST[rows], stages[:, rows], COUNTS[rows])
    wanted = [
        sum(spearmanr(a[c], b[c]).statistic for a, b, c in zip(FIRST, other, COUNTS, strict=True)) / 8
        for other in stages
    ]
    assert metric.curve().tolist() == pytest.approx(wanted, abs=1e-12)
    assert float(metric.compute()) == pytest.approx(sum(wanted) / 3, abs=1e-12)
    turned, sizes = Randomisation(), Randomisation(absolute=True)
    for metric in (turned, sizes):
        metric.update(FIRST, -FIRST, COUNTS)
    assert (float(turned.compute()), float(sizes.compute())) == pytest.approx((-1, 1))
    with pytest.raises(ValueError, match="has 2 stages, but the metric was made for 1"):
        turned.update(FIRST, stages[:2], COUNTS)


def test_t19_complexity_is_a_mean():
    metric, nats = Complexity(), Complexity("entropy")
    rows = torch.tensor([[0.0, 0, 0, 1], [2, 2, 2, 2], [1, -2, 3, -4], [0, 0, 0, 0]])
    for each in (metric, nats):
        each.update(rows, torch.ones(4, 4))
        assert (each.count, each.left_out) == (3, 1)
    assert float(metric.compute()) == pytest.approx((0.75 + 0 + 0.25) / 3)
    assert float(nats.compute()) == pytest.approx((0 + math.log(4) + 1.279854) / 3, abs=1e-6)
    assert (metric.higher_is_better, nats.higher_is_better) == (True, False)


def test_t15_drift_and_error_leave_out_what_is_no_number():
    before = torch.tensor([[0.5, 0.3, 0.1, -0.2]]).repeat(3, 1)
    now = torch.tensor([[-0.5, -0.3, -0.1, 0.2], [torch.nan, 0, 0, 0], [torch.inf, 0, 0, 0]])
    drift, error = ExplanationDrift(), AttributionError()
    drift.update(now, before)
    error.update(now, torch.zeros(3))
    assert float(drift.compute()) == pytest.approx(2)
    assert float(error.compute()) == pytest.approx(0.7)
    for metric in (drift, error):
        assert (metric.count, metric.left_out, metric.reason) == (1, 2, None)
        metric.reset()
    drift.update(now[1:], before[1:])
    with pytest.warns(UserWarning, match="ExplanationDrift is NaN: a score is not finite, in all 2 examples"):
        assert drift.compute().isnan()
    assert drift.reason == "a score is not finite, in all 2 examples"


@pytest.mark.filterwarnings("ignore:.* is NaN")
@pytest.mark.parametrize("make", [MethodAgreement, Randomisation, Complexity])
def test_bad_rows_are_left_out_with_a_reason(make):
    bad = torch.tensor([[torch.nan, 1, 2], [0, 0, 0], [1, 2, 3]]).double()
    counts = torch.tensor([[True] * 3, [True] * 3, [False] * 3])
    metric = make()
    metric.update(*([bad] if make is Complexity else [bad, bad.nan_to_num(7)]), counts)
    assert metric.compute().isnan()
    assert metric.reason == f"{metric.nothing}, in all 3 examples"


def test_metrics_of_one_collection_keep_what_each_counts():
    made = {name: (lambda name=name: MethodAgreement(name, k=2)) for name in (*TOP, *CORRELATIONS)}
    together = MetricCollection({name: make() for name, make in made.items()})
    same = FIRST[:1], FIRST[:1], COUNTS[:1]  # all agree on the first batch
    for batch in (same, (FIRST[1:], SECOND[1:], COUNTS[1:])):
        together.update(*batch)
    found = together.compute()
    for name, make in made.items():
        alone = make()
        for batch in (same, (FIRST[1:], SECOND[1:], COUNTS[1:])):
            alone.update(*batch)
        assert float(found[name]) == pytest.approx(float(alone.compute()))


def test_options_are_refused_by_name():
    refused = {
        "`measure='jaccard'` does not exist": lambda: MethodAgreement("jaccard"),
        "`k=0`": lambda: MethodAgreement(k=0),
        r"`edges=\(0.9, 0.5\)` must rise": lambda: MethodAgreement(edges=(0.9, 0.5)),
        r"`edges=\(1,\)`": lambda: MethodAgreement(edges=(1,)),
        "`kind='tau'` does not exist": lambda: Randomisation("tau"),
        "`stages=0`": lambda: Randomisation(stages=0),
        "`kind='sparse'` does not exist": lambda: Complexity("sparse"),
    }
    rows = torch.rand(3, 5)
    refused |= {
        r"`target` must be \(3,\), as `scores`, but is \(3, 1\)": lambda: AttributionError().update(rows, rows[:, :1]),
        r"`baseline_target` must be": lambda: AttributionError().update(rows, rows[:, 0], rows[:1, 0]),
        r"`before` \(5,\) must both be": lambda: ExplanationDrift().update(rows, rows[0]),
    }
    for words, call in refused.items():
        with pytest.raises(ValueError, match=words):
            call()
