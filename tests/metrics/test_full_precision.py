"""Metrics within a module that is converted to half precision: every example still counts."""

import copy

import pytest
import torch
from torch import nn

from lightning_interpret import metrics
from lightning_interpret.metrics.mean_of_examples import Mean

ONE, OTHER = torch.tensor([[True, False]]), torch.tensor([[False, True]])


def every(i):
    return torch.ones(len(i), 2).bool()


def one(i):
    return ONE.expand(len(i), 2)


def half(i):
    return torch.full((len(i), 2), 0.5)


def odd(i, yes=ONE, no=OTHER):
    return torch.where(i[:, None] % 2 == 1, yes, no)


def answer(i):
    return lambda masks, rows: masks.sum(dim=1).float() / (2 + i[rows] % 3)


# for each metric what it is given of some examples, by their numbers
METRICS = {
    "Mean": (Mean, lambda i: ((i % 2).float(),)),
    "TokenF1": (metrics.TokenF1, lambda i: (one(i), odd(i), every(i))),
    "IOUF1": (metrics.IOUF1, lambda i: (one(i), odd(i), every(i))),
    "RationaleAUPRC": (metrics.RationaleAUPRC, lambda i: (half(i), one(i), every(i))),
    "SelectionRate": (metrics.SelectionRate, lambda i: (odd(i, no=~ONE | ONE), every(i))),
    "Sufficiency": (metrics.Sufficiency, lambda i: (half(i), odd(i).float())),
    "ResidualShare": (
        lambda: metrics.ResidualShare(2),
        lambda i: (ONE * (i % 3).float()[:, None], OTHER * (i % 5).float()[:, None]),
    ),
    "AttributionError": (metrics.AttributionError, lambda i: ((i % 2).float()[:, None], torch.full((len(i),), 3.0))),
    "Comprehensiveness": (
        lambda: metrics.Comprehensiveness(bins=(50,), control_orders=1),
        lambda i: (half(i), every(i), answer(i)),
    ),
    "MethodAgreement": (metrics.MethodAgreement, lambda i: (one(i).float(), odd(i).float(), every(i))),
    "ExplanationDrift": (metrics.ExplanationDrift, lambda i: (one(i).float(), odd(i).float())),
}
MANY = torch.arange(1200)  # of which a sum in bfloat16 stays what it is when one more is added


@pytest.mark.parametrize("name", METRICS)
def test_sums_keep_their_precision(name):
    make, example = METRICS[name]
    plain, holder = make(), nn.ModuleDict({"metric": make(), "layer": nn.Linear(2, 2)})
    holder.to(torch.device("cpu"), torch.bfloat16)
    assert holder["layer"].weight.dtype == torch.bfloat16
    converted = copy.deepcopy(holder)["metric"]
    for some in (MANY, *torch.arange(40).split(1)):
        plain.update(*example(some))
        converted.update(*example(some))
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
