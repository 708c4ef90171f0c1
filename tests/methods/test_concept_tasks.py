"""Concepts of tasks with several targets a text: derivatives of each, counted where it is right, and refusals."""

import pytest
import torch
from every_task import made

from lightning_interpret import ConceptActivationVectors
from lightning_interpret.functional.scope import explaining
from lightning_interpret.methods.concepts.features import LayerReader
from lightning_interpret.methods.concepts.sets import ConceptSets
from lightning_interpret.tasks import Regression

LAYER = "bert.encoder.layer.0"
FEW = ConceptActivationVectors(LAYER, least=6, examples=6, vectors=2, random_concepts=4)
TASKS = ("TokenClassification", "MultiLabelClassification", "Regression")


def read(name, which, told=False):
    model, task, batch = made(name, dtype=torch.float64)
    with explaining(model):
        return model, task, batch, LayerReader(model, task, [LAYER], "mean", "logit").gradients(batch, which, told=told)


@pytest.mark.parametrize("name", TASKS)
def test_the_derivative_of_a_target_is_that_of_its_own_score(name):
    which = "predicted" if name == "Regression" else "gold"
    model, task, batch, (rates, targets, scores) = read(name, which)
    kept = []
    hook = model.get_submodule(LAYER).register_forward_hook(lambda *call: kept.append(call[-1]))
    logits = task.logits(model, batch)
    hook.remove()
    hidden = kept[0][0] if isinstance(kept[0], tuple) else kept[0]
    wanted = task.resolve(logits, batch, which)
    values = task.score(logits, wanted, "logit")
    assert targets.example.tolist() == wanted.example.tolist()
    torch.testing.assert_close(scores, values.detach())
    for row, (value, i) in enumerate(zip(values, wanted.example.tolist(), strict=True)):
        (slope,) = torch.autograd.grad(value, hidden, retain_graph=True)
        there = batch["attention_mask"][i] != 0
        torch.testing.assert_close(rates[LAYER][row], slope[i][there].sum(dim=0))


def test_what_is_not_there_is_no_example_of_its_class():
    *_, (_, targets, _) = read("MultiLabelClassification", "gold", told=True)
    assert (targets.example.tolist(), targets.name) == ([0, 0], ("bad", "good"))  # the second text has no label
    model, task, batch = made("TokenClassification")
    batch["labels"][1, 1:4] = 0  # and no entity
    with explaining(model):
        reader = LayerReader(model, task, [LAYER], "mean", "logit")
        _, every, _ = reader.gradients(batch, "gold")
        _, targets, _ = reader.gradients(batch, "gold", told=True)
        assert every.example.tolist() == [0, 0, 1]
        assert targets.example.tolist() == [0, 0]
        batch["labels"][0, 1:8] = 0
        assert reader.gradients(batch, "gold", told=True) is None


@pytest.mark.parametrize(
    ("name", "classes", "counted"),
    [
        ("TokenClassification", ("person", "film"), {"person": 1, "film": 2}),
        ("MultiLabelClassification", ("bad", "dull", "good"), {"bad": 1, "dull": 0, "good": 1}),
        ("Regression", ("value",), {"value": 2}),
    ],
)
def test_concepts_are_tested_for_each_type_label_or_number(name, classes, counted):
    model, task, batch = made(name)
    every = task.take(batch, torch.arange(48) % 2)
    sets = ConceptSets((every,), {"great": torch.arange(0, 24, 2)}, torch.arange(24, 48), {}, {})
    fitted = FEW.fit(model, sets, task)
    tested = fitted.scores([batch])
    assert {test.target_name for test in tested.tests} == set(classes)
    assert {test.target_name: test.examples for test in tested.tests} == counted
    found = fitted.find(batch, tested)
    assert all(found.by_example(2))
    assert {row.target_name for row in found} <= set(classes)


def test_what_has_no_classes_is_refused_by_name():
    for name, what in (("QuestionAnswering", "answers"), ("CausalGeneration", "written tokens")):
        model, task, _ = made(name)
        with pytest.raises(ValueError, match=rf"the {what} of {name} are no classes .*use SaliencyMonitor"):
            FEW.check(model, task)
    model, task, _ = made("Regression")
    with pytest.raises(ValueError, match=r"`output='prob'`: .* a number of Regression, which is no class"):
        ConceptActivationVectors(output="prob").check(model, Regression(task.tokenizer))
