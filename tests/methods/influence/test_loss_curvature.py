"""A task whose losses curve otherwise than its roots say: found by trial, said by every method that has a curvature."""

import warnings

import pytest
import torch
from digits import DigitsTask, digits, split, trained
from torch.nn import functional as F

from lightning_interpret import ConjugateGradientInfluence, EkfacInfluence, ExactInfluence, LissaInfluence

WEIGHTS = torch.linspace(0.2, 2.0, 10)
METHODS = [
    ExactInfluence(damping=0.1),
    EkfacInfluence(damping=0.1),
    ConjugateGradientInfluence(damping=0.1, curvature_examples=20, max_steps=2),
    LissaInfluence(damping=0.1),
]


class Smoothed(DigitsTask):
    """Smooth labels: another gradient, the same curvature."""

    def losses(self, module, batch):
        return F.cross_entropy(self.logits(module, batch), batch["labels"], reduction="none", label_smoothing=0.1)


class Weighted(DigitsTask):
    """Classes of unequal weight, of which the roots know nothing."""

    def losses(self, module, batch):
        return F.cross_entropy(self.logits(module, batch), batch["labels"], WEIGHTS, reduction="none")


class Told(Weighted):
    """The same, and the roots of one batch know of it."""

    def loss_roots(self, logits, samples=None, generator=None):
        return (
            super().loss_roots(logits, samples, generator) * WEIGHTS[digits()[0]["labels"][: len(logits), None]].sqrt()
        )


class Unrelated(Weighted):
    """Calls the module by itself, so that nothing is known of the logits that the losses take."""

    def losses(self, module, batch):
        return F.cross_entropy(module(batch["pixels"]), batch["labels"], WEIGHTS, reduction="none")


def notes(method, task, count=20):
    batch = {name: values[:count] for name, values in digits()[0].items()}
    return " ".join(method.fit(trained(), split(batch, count), task).approximation.notes)


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_losses_that_curve_otherwise_than_the_roots_are_said(method):
    with pytest.warns(UserWarning, match=r"Weighted.losses curves .* `loss_roots` says \(by \d+%\): override both"):
        assert "Weighted.losses curves in the logits otherwise" in notes(method, Weighted())


@pytest.mark.parametrize("task", [DigitsTask(), Smoothed(), Told(), Unrelated()], ids=lambda task: type(task).__name__)
def test_nothing_is_said_where_they_agree_or_cannot_be_compared(task):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "curves" not in notes(METHODS[0], task)
