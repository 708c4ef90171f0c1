"""A task of one's own writes what it is asked for: influence and neighbours ask for logits, losses and names alone."""

import pytest
import torch
from torch import nn

from lightning_interpret import Classification, ExactInfluence, IntegratedGradients, NearestNeighbors, Task
from lightning_interpret.tasks import find_task


class Prices(Task):
    """Regression on the part ``price`` with the squared error, whose Hessian is 2."""

    def logits(self, module, batch):
        return module(batch["x"])

    def labels(self, batch):
        return batch["price"]

    def losses(self, module, batch):
        return (self.logits(module, batch).squeeze(1) - batch["price"]) ** 2

    def loss_roots(self, logits, samples=None, generator=None):
        return torch.full_like(logits, 2**0.5)[None]

    def names(self, logits):
        return tuple(f"{price:.2f}" for price in logits.squeeze(1).tolist())

    def gold_names(self, batch):
        return tuple(f"{price:.2f}" for price in batch["price"].tolist())


class Points(Classification):
    """Reads points in a tuple."""

    def logits(self, module, batch):
        return module(batch["x"])


def data(count, seed=0):
    x = torch.randn(count, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return {
        "x": x,
        "price": x[:, 0] * 2 + x[:, 1].sin(),
        "labels": (x[:, 2] > 0).long(),
        "example_id": torch.arange(count),
    }


def test_a_regression_is_scored_as_leaving_out_and_solving_again_says():
    batch, queries, decay, model = data(40), data(5, seed=1), 0.1, nn.Sequential(nn.Linear(4, 1)).double()

    def solved(rows):
        inputs = torch.cat([batch["x"], torch.ones(40, 1, dtype=torch.float64)], dim=1)[rows]
        weights = torch.linalg.solve(
            2 * inputs.T @ inputs / 40 + decay * torch.eye(5), 2 * inputs.T @ batch["price"][rows] / 40
        )
        with torch.no_grad():
            model[0].weight.copy_(weights[None, :4])
            model[0].bias.copy_(weights[4:])
        return Prices().losses(model, queries).detach()

    without = torch.stack([solved([i for i in range(40) if i != left]) for left in range(40)], dim=1)
    whole = solved(list(range(40)))
    found = ExactInfluence(leverage_correction=True).fit(model, [batch], Prices(), weight_decay=decay)
    scores = found.matrix(queries)[1]
    changes = without - whole[:, None]
    assert float(torch.corrcoef(torch.stack([scores.flatten(), changes.flatten()]))[0, 1]) > 0.95
    row = found.scores(queries, 2)[0]
    assert row.gold == f"{float(queries['price'][0]):.2f}"
    assert row.helpful[0].gold == f"{float(batch['price'][row.helpful[0].example_id]):.2f}"
    near = NearestNeighbors(k=3).fit(model, [batch], Prices()).find(queries)[0]
    assert len(near.neighbors) == 3
    assert near.conformity is None


@pytest.mark.parametrize(("task", "outputs"), [(Prices(), 1), (Points(), 2)])
def test_attributions_say_what_the_task_has_to_override(task, outputs):
    model = nn.Sequential(nn.Linear(4, outputs)).double()
    with pytest.raises(ValueError, match=f"{type(task).__name__} does not say which layer .*: override `layer`"):
        find_task(model, task=task).check(model, "predicted", None)
    with pytest.raises(ValueError, match=rf"{type(task).__name__} does not say .*: override `\w+`"):
        IntegratedGradients()(model, data(3), task, layer="0")
    assert len(ExactInfluence(damping=0.1).fit(model, [data(9)], task).scores(data(3), 2)) == 3
