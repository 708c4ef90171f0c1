"""Metrics of rationales: however examples come, they are ERASER's numbers."""

import math
import warnings

import pytest
import torch
from sklearn.metrics import f1_score
from torchmetrics import MetricCollection

from lightning_interpret.functional.plausibility import auprc, span_matches, token_f1
from lightning_interpret.metrics import (
    IOUF1,
    Comprehensiveness,
    RationaleAUPRC,
    SelectionRate,
    Sufficiency,
    TokenF1,
)


def flags(*rows, size=30):
    found = torch.zeros(len(rows), size, dtype=torch.bool)
    for i, places in enumerate(rows):
        found[i, list(places)] = True
    return found


def of(metric, selected, gold, parts=(slice(None),)):
    for part in parts:
        metric.update(selected[part], gold[part], torch.ones_like(selected)[part])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return float(metric.compute())


OURS = flags([*range(1, 5), 10, *range(20, 25)], range(3, 6))
THEIRS = flags([*range(4), 10, 11], range(3, 6))


def test_t11_macro_token_f1_is_the_mean_of_f1_and_micro_is_that_of_all_tokens():
    gold, ours = flags({1, 2, 3}, {0}, {4, 5}), flags({2, 3, 4, 5}, {0}, {7})
    assert of(TokenF1(), ours, gold) == pytest.approx(0.52381, abs=1e-5)
    assert of(TokenF1(average="micro"), ours, gold) == pytest.approx(0.5)
    assert of(TokenF1(average="micro"), ours, gold) == pytest.approx(f1_score(gold.flatten(), ours.flatten()))


def test_t11_macro_iou_f1_is_that_of_the_mean_precision_and_recall():
    assert of(IOUF1(), OURS, THEIRS) == pytest.approx(0.909091, abs=1e-6)
    assert of(IOUF1(average="micro"), OURS, THEIRS) == pytest.approx(0.857143, abs=1e-6)
    assert of(IOUF1(average="example"), OURS, THEIRS) == pytest.approx((0.8 + 1) / 2)
    assert of(IOUF1(strict=True), OURS, THEIRS) == pytest.approx(2 * (2 / 3) * 0.75 / (2 / 3 + 0.75))
    assert of(IOUF1(threshold=1.0, average="micro"), OURS, THEIRS) == pytest.approx(2 / 7)


def test_macro_means_are_over_the_examples_that_have_spans_on_that_side():
    selected, gold = flags({1}, {4}, {}), flags({1}, {}, {7})
    assert of(IOUF1(), selected, gold) == pytest.approx(0.5)  # precision of the first two, recall of the outer ones
    assert of(TokenF1(), selected, gold) == pytest.approx(1 / 3)
    assert of(TokenF1(empty="skip"), selected, gold) == pytest.approx(1 / 2)
    assert of(TokenF1(average="micro"), selected, gold) == pytest.approx(2 / 4)
    assert of(TokenF1(average="micro", empty="skip"), selected, gold) == pytest.approx(2 / 3)


METRICS = {
    "token": lambda: TokenF1(),
    "token_micro": lambda: TokenF1(average="micro", empty="skip"),
    "iou": lambda: IOUF1(),
    "iou_micro": lambda: IOUF1(average="micro"),
    "iou_example": lambda: IOUF1(average="example"),
    "auprc": lambda: RationaleAUPRC(),
}


@pytest.mark.parametrize("name", METRICS)
def test_a_number_is_the_same_however_the_examples_come(name):
    first, gold = first_of(name)
    whole = of(METRICS[name](), first, gold)
    assert of(METRICS[name](), first, gold, (slice(0, 2), slice(2, 3), slice(3, 9))) == pytest.approx(whole)


def some():
    generator = torch.Generator().manual_seed(0)
    selected, gold = torch.rand(2, 9, 12, generator=generator) < 0.4
    return selected, gold, torch.rand(9, 12, generator=generator)


def first_of(name):
    selected, gold, scores = some()
    return scores if name == "auprc" else selected, gold


def test_classes_are_the_means_of_their_twins():
    generator = torch.Generator().manual_seed(1)
    selected, gold, counts = torch.rand(3, 7, 11, generator=generator) < 0.5
    scores = torch.rand(7, 11, generator=generator)
    for metric, first, twin in ((TokenF1(), selected, token_f1), (RationaleAUPRC(), scores, auprc)):
        metric.update(first, gold, counts)
        assert float(metric.compute()) == pytest.approx(float(twin(first, gold, counts).nanmean()))
    metric = IOUF1(average="micro")
    metric.update(selected, gold, counts)
    matches, spans, true = (each.sum() for each in span_matches(selected, gold, counts))
    assert float(metric.compute()) == pytest.approx(
        2 * float(matches / spans) * float(matches / true) / float(matches / spans + matches / true)
    )


@pytest.mark.parametrize("make", [*METRICS.values(), Sufficiency, Comprehensiveness, SelectionRate])
def test_without_examples_there_is_no_number(make):
    with pytest.warns(UserWarning, match="before the ``update`` method"):
        assert math.isnan(make().compute())


@pytest.mark.parametrize("name", METRICS)
def test_examples_with_nothing_to_compare_are_left_out_and_alone_are_no_number(name):
    nothing, metric = flags({}, {}), METRICS[name]()
    assert metric.reason == "no example was given"
    metric.update(nothing.float() if name == "auprc" else nothing, nothing, torch.ones_like(nothing))
    with pytest.warns(UserWarning, match=f"{type(metric).__name__} is NaN: "):
        assert metric.compute().isnan()
    assert "no " in metric.reason
    selected, gold = flags({1, 2}, {}), flags({2, 3}, {})
    metric = METRICS[name]()
    assert of(metric, selected, gold) == pytest.approx(of(METRICS[name](), selected[:1], gold[:1]))
    assert metric.reason is None


def test_nothing_in_common_is_zero_and_no_division():
    for name in ("token", "iou", "iou_micro", "iou_example"):
        assert of(METRICS[name](), flags({1}), flags({5})) == 0
        assert of(METRICS[name](), flags({}), flags({5})) == 0
        assert of(METRICS[name](), flags({5}), flags({})) == 0


def test_rate_sufficiency_and_comprehensiveness_are_means_over_examples():
    rate = SelectionRate()
    rate.update(flags({1, 2}, {1}, size=4), torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]]).bool())
    rate.update(flags({}, size=4), torch.zeros(1, 4).bool())  # no token that counts
    assert float(rate.compute()) == pytest.approx(0.5)
    full, part = torch.tensor([[0.9, 0.1], [0.2, 0.8]]), torch.tensor([[0.7, 0.3], [0.6, 0.4]])
    for metric in (Sufficiency(), Comprehensiveness()):
        metric.update(full, part)
        assert float(metric.compute()) == pytest.approx((0.2 + 0.4) / 2, abs=1e-6)
        metric.update(full[:1], part[:1], torch.tensor([1]))
        assert float(metric.compute()) == pytest.approx((0.2 + 0.4 - 0.2) / 3, abs=1e-6)


def test_options_are_refused_by_name():
    for make in (lambda: TokenF1(average="mean"), lambda: IOUF1(average="mean"), lambda: TokenF1(empty="one")):
        with pytest.raises(ValueError, match="does not exist"):
            make()


def test_metrics_of_one_collection_keep_what_each_counts():
    first, later = (flags({1, 2}), flags({1, 2})), (flags({4}, {1, 2, 3}), flags({}, {1, 2, 9}))
    made = {
        "f1": lambda: TokenF1(), "micro": lambda: TokenF1(average="micro"), "skip": lambda: TokenF1(empty="skip"),
        "iou": lambda: IOUF1(), "strict": lambda: IOUF1(strict=True), "most": lambda: IOUF1(threshold=0.9),
        "spans": lambda: IOUF1(average="micro"), "each": lambda: IOUF1(average="example"),
    }  # fmt: skip
    together = MetricCollection({name: make() for name, make in made.items()})
    for selected, gold in (first, later):
        together.update(selected, gold, torch.ones_like(gold))
    selected, gold = (torch.cat(pair) for pair in zip(first, later, strict=True))
    for name, found in together.compute().items():  # after the first batch all of a class had counted the same
        assert float(found) == pytest.approx(of(made[name](), selected, gold)), name


def test_a_threshold_that_no_span_can_meet_is_refused_when_the_metric_is_made():
    with pytest.raises(ValueError, match=r"`threshold=1\.5` must lie in"):
        IOUF1(threshold=1.5)
