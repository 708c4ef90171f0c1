"""A concept bottleneck before heads that are not the last layer, give one score, or have read nothing yet."""

import pytest
import torch
from concept_toys import NAMES, BatchTask, Net, Plain, accuracy, batch_of, fit, loader, seeded
from torch import nn
from torch.nn import functional as F

from lightning_interpret import ConceptBottleneckMixin
from lightning_interpret.metrics import ConceptAccuracy

OF_CLASSES = {"concepts/task_accuracy", "concepts/intervened_accuracy", "concepts/ablated_accuracy"}


def test_a_layer_within_the_head_gives_no_class_scores(tmp_path):
    class Deep(Net):
        def __init__(self, **options):
            super().__init__(**options, concept_head="last.0", concept_residual=True)
            self.last = nn.Sequential(nn.Linear(24, 2), nn.Tanh(), nn.Linear(2, 2))  # as many as there are classes

    module = seeded(Deep)
    with torch.no_grad():
        module.last[2].weight.copy_(-torch.eye(2))  # what is highest before it is lowest after
    found = fit(module, tmp_path).callback_metrics
    assert {name for name in found if name.startswith("concepts/")} == {"concepts/accuracy", "concepts/leakage"}


def test_a_head_that_is_not_defined_last_is_one_all_the_same(tmp_path):
    class Two(Net):
        def __init__(self, **options):
            super().__init__(**options, concept_head="last")
            self.beside = nn.Linear(24, 2)

        def training_step(self, batch, batch_idx):
            return super().training_step(batch, batch_idx) + self.beside(self.encode(batch)).square().mean()

    module = seeded(Two)
    found = fit(module, tmp_path).callback_metrics
    assert found.keys() >= OF_CLASSES
    assert found["concepts/task_accuracy"].item() == pytest.approx(accuracy(module, batch_of(64, seed=1)))


class Score(ConceptBottleneckMixin, Plain):
    """One score, above 0 for the second class."""

    def __init__(self, **options):
        super().__init__(concept_names=list(NAMES), **options)
        self.last = nn.Linear(24, 1)

    def interpret_task(self):
        return BatchTask()

    def training_step(self, batch, batch_idx):
        return F.binary_cross_entropy_with_logits(self(batch)[:, 0], batch["labels"].float())

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", self.training_step(batch, batch_idx))


def test_one_score_has_no_accuracy(tmp_path):
    module = seeded(Score)
    found = fit(module, tmp_path).callback_metrics
    assert not OF_CLASSES & found.keys()
    with pytest.raises(ValueError, match="the head gives one score"):
        module.concept_curve(loader(32))


def test_a_head_that_has_read_nothing_is_told():
    class Lazy(Net):
        def __init__(self, **options):
            super().__init__(**options)
            self.last = nn.LazyLinear(2)

    module = seeded(Lazy)
    with pytest.raises(ValueError, match=r"The head 'last' \(LazyLinear\) has read nothing yet: run the module once"):
        module.configure_model()
    module(batch_of(2))
    module.configure_model()
    assert module.last.in_features == 5


@pytest.mark.parametrize("value", ["there", None, [[1.0]]])
def test_what_is_no_probability_is_refused(value):
    module = seeded()
    module.configure_model()
    with pytest.raises(ValueError, match="and must be a probability from 0 to 1"), module.intervene({"food": value}):
        pass


@pytest.mark.parametrize("kind", ["one score", "several labels", "no label"])
def test_labels_that_are_no_class_cost_no_explanation(kind):
    module, batch = seeded(Score if kind == "one score" else Net), batch_of(6)
    module.configure_model()
    if kind == "several labels":
        batch["labels"] = batch["concepts"][:, :2]
    elif kind == "no label":
        batch["labels"][2:] = torch.tensor([-1, -100, -1, -100])
    rows = module.explain(batch)
    known = [row.loss is not None for row in rows]
    assert known == ([True] * 2 + [False] * 4 if kind == "no label" else [False] * 6)
    assert not any(row.wrong for row in rows if row.loss is None)
    assert all(abs(row.error) < 1e-5 and str(row) for row in rows)
    assert all((row.prediction is None) == (kind == "one score") for row in rows)


def test_a_model_that_has_diverged_is_right_of_nothing():
    module, batch = seeded(), batch_of(20)
    module.configure_model()
    with torch.no_grad():
        module.concepts.weight.fill_(torch.nan)
    rows = module.explain(batch)
    assert all(concept.right is None and concept.contribution is None for row in rows for concept in row.concepts)
    assert all("diverged" in str(row) and "not linear" not in str(row) for row in rows)
    accuracy = ConceptAccuracy(len(NAMES))
    accuracy.update(torch.full_like(batch["concepts"], torch.nan), batch["concepts"])
    assert accuracy.compute() == 0
