"""Metrics within a module that is converted to half precision: every example still counts."""

import copy

import pytest
import torch
from torch import nn

from lightning_interpret import metrics
from lightning_interpret.metrics.mean_of_examples import Mean

EVERY = torch.ones(1, 2).bool()
ONE, OTHER = torch.tensor([[True, False]]), torch.tensor([[False, True]])
HALF = torch.tensor([[0.5, 0.5]])


def answer(i):
    return lambda masks, rows: masks.sum(dim=1).float() / (2 + i % 3)


# for each metric what it is given of an example, by its number
METRICS = {
    "Mean": (Mean, lambda i: (torch.tensor([float(i % 2)]),)),
    "TokenF1": (metrics.TokenF1, lambda i: (ONE, ONE if i % 2 else OTHER, EVERY)),
    "IOUF1": (metrics.IOUF1, lambda i: (ONE, ONE if i % 2 else OTHER, EVERY)),
    "RationaleAUPRC": (metrics.RationaleAUPRC, lambda i: (HALF, ONE, EVERY)),
    "SelectionRate": (metrics.SelectionRate, lambda i: (ONE if i % 2 else EVERY, EVERY)),
    "Sufficiency": (metrics.Sufficiency, lambda i: (HALF, torch.tensor([[i % 2, 1 - i % 2]]).float())),
    "ResidualShare": (lambda: metrics.ResidualShare(2), lambda i: (ONE.float() * (i % 3), OTHER.float() * (i % 5))),
    "AttributionError": (metrics.AttributionError, lambda i: (torch.tensor([[float(i % 2)]]), torch.tensor([3.0]))),
    "Comprehensiveness": (
        lambda: metrics.Comprehensiveness(bins=(50,), control_orders=1),
        lambda i: (HALF, EVERY, answer(i)),
    ),
    "MethodAgreement": (
        metrics.MethodAgreement,
        lambda i: (ONE.float(), ONE.float() if i % 2 else OTHER.float(), EVERY),
    ),
    "ExplanationDrift": (metrics.ExplanationDrift, lambda i: (ONE.float(), ONE.float() if i % 2 else OTHER.float())),
}


@pytest.mark.parametrize("name", METRICS)
def test_sums_keep_their_precision(name):
    make, example = METRICS[name]
    plain, holder = make(), nn.ModuleDict({"metric": make(), "layer": nn.Linear(2, 2)})
    holder.to(torch.device("cpu"), torch.bfloat16)
    assert holder["layer"].weight.dtype == torch.bfloat16
    converted = copy.deepcopy(holder)["metric"]
    for i in range(700):
        plain.update(*example(i))
        converted.update(*example(i))
    assert float(converted.compute()) == pytest.approx(float(plain.compute()))
    if getattr(plain, "control", None) is not None:
        assert float(converted.control.compute()) == pytest.approx(float(plain.control.compute()))
    converted.reset()
    holder["metric"].reset()
    for metric in (converted, holder["metric"]):
        states = [state.dtype for state in metric.metric_state.values()]
        assert states == [state.dtype for state in plain.metric_state.values()]


def test_they_are_converted_where_that_is_asked_for():
    assert metrics.TokenF1().set_dtype(torch.float32).total.dtype == torch.float32
