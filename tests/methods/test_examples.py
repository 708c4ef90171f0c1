"""Training data as influence methods are given them: what cannot serve is refused with what to give instead."""

import pytest
import torch
from digits import DigitsTask, digits, split, trained
from torch.utils.data import DataLoader, TensorDataset

from lightning_interpret import (
    ConjugateGradientInfluence,
    EkfacInfluence,
    ExactInfluence,
    GradientSimilarity,
    NearestNeighbors,
    ProjectedGradients,
    WithIds,
)
from lightning_interpret.data import TrainingExamples
from lightning_interpret.methods.examples import Loaded


class PairsTask(DigitsTask):
    """Reads pixels and labels in a tuple."""

    def logits(self, module, batch):
        return module(batch[0])


def pairs():
    return TensorDataset(digits()[0]["pixels"][:40], digits()[0]["labels"][:40])


@pytest.mark.parametrize("method", [ExactInfluence(), GradientSimilarity(), NearestNeighbors()])
@pytest.mark.parametrize(
    ("given", "says"),
    [
        (
            lambda: iter(split(digits()[0], 100)),
            r"an iterator \(list_iterator\), which can be gone through once.*give a",
        ),
        (pairs, r"a data set \(TensorDataset\): give `lightning_interpret.data.TrainingExamples"),
        (lambda: WithIds(pairs()), r"a data set \(WithIds\)"),
        (lambda: digits()[0], r"one batch \(dict\): give a loader, or a list of batches"),
        (lambda: list(pairs().tensors), r"one batch \(list\)"),
        (lambda: DataLoader(pairs()), r"\(list\) carry no `example_id`: give .*in_batch='always'"),
        (list, "no examples"),
    ],
)
def test_training_data_that_cannot_serve_are_refused_with_what_to_give(method, given, says):
    with pytest.raises(ValueError, match=says):
        method.fit(trained(), given(), PairsTask())


def test_what_the_refusals_name_serves():
    data = WithIds(pairs(), in_batch="always")
    loader = DataLoader(data, batch_size=8, shuffle=True, collate_fn=data.collate)
    queries = [digits()[1]["pixels"][:3], digits()[1]["labels"][:3]]
    found = [
        ExactInfluence(damping=0.1).fit(trained(), source, PairsTask()).matrix(queries)
        for source in (loader, TrainingExamples(pairs(), ids=range(40)))
    ]
    ordered = [scores[:, ids.argsort()] for ids, scores in found]
    torch.testing.assert_close(*ordered)


def test_batches_of_a_loader_come_on_the_device_asked_for():
    parts = split(digits()[0], 600)
    ids, batch = next(Loaded(parts, DigitsTask(), torch.device("meta")).batches())
    assert ids.tolist() == list(range(600))
    assert {value.device.type for value in batch.values()} == {"meta"}


@pytest.mark.parametrize("decay", [-1e-3, float("nan"), float("inf")])
def test_a_weight_decay_that_cannot_be_is_refused(decay):
    with pytest.raises(ValueError, match=r"`weight_decay=.*` must be a number of at least 0"):
        ExactInfluence().fit(trained(), split(digits()[0], 100), DigitsTask(), weight_decay=decay)


@pytest.mark.parametrize("aggregate", [False, True, "also"])
def test_no_query_is_an_error_that_says_so(aggregate):
    found = GradientSimilarity().fit(trained(), split(digits()[0], 500), DigitsTask())
    with pytest.raises(ValueError, match="There are no `queries`"):
        found.scores(iter([]), aggregate=aggregate)
    with pytest.raises(ValueError, match=r"A batch \(dict\) holds no examples"):
        found.scores({name: values[:0] for name, values in digits()[1].items()}, aggregate=aggregate)


@pytest.mark.parametrize(
    "method",
    [
        ExactInfluence(damping=0.1),
        EkfacInfluence(damping=0.1, label_samples="all"),
        ConjugateGradientInfluence(damping=0.1),
        ProjectedGradients(damping=0.1),
    ],
)
def test_an_example_without_finite_gradients_counts_nowhere(method):
    parts = split({name: values[:40] for name, values in digits()[0].items()}, 8)
    without = [{name: values.clone() for name, values in part.items()} for part in parts]
    without[0]["pixels"][3] = float("nan")
    without[2]["pixels"].fill_(float("nan"))
    some = [0, 1, 2, 4, 5, 6, 7]
    rest = [{name: values[some] for name, values in parts[0].items()}, parts[1], *parts[3:]]
    found = [method.fit(trained(), source, DigitsTask()).scores(digits()[1], 40)[0] for source in (without, rest)]
    values = [[each.score for each in row.helpful] for row in found]
    torch.testing.assert_close(*map(torch.tensor, values), rtol=1e-3, atol=1e-6)
    none = [{name: values.clone() for name, values in part.items()} for part in parts]
    for part in none:
        part["pixels"].fill_(float("nan"))
    with pytest.raises(ValueError, match=r"0.* finite gradients"):
        method.fit(trained(), none, DigitsTask())
