"""Queries and training examples meet in products of whole gradients, whatever the layers, however they are batched."""

import pytest
import torch
from per_example import Tied, by_autograd
from purity import assert_same, state_of
from torch import nn
from torch.nn import functional as F

from lightning_interpret.functional.influence.blocks import find_blocks, uncovered
from lightning_interpret.methods.influence import GradientSimilarity
from lightning_interpret.tasks.classification import Classification


class IdsTask(Classification):
    """Reads a module that takes ids."""

    def logits(self, module, batch):
        return module(batch["ids"])


def data(count, first=0, seed=0, words=9):
    ids = torch.randint(0, words, (count, 7), generator=torch.Generator().manual_seed(seed))
    return {"ids": ids, "labels": ids[:, 0] % 3, "example_id": torch.arange(first, first + count)}


def parts(batch, *sizes):
    columns = {name: values.split(sizes) for name, values in batch.items()}
    return [{name: each[i] for name, each in columns.items()} for i in range(len(sizes))]


def whole(model, batch, blocks):
    def losses(n):
        return F.cross_entropy(model(batch["ids"][:n]), batch["labels"][:n], reduction="none")

    return torch.cat(list(by_autograd(model, losses, len(batch["ids"]), blocks).values()), dim=1)


class Sometimes(nn.Module):
    """Has a layer that only texts with the word 1 pass."""

    def __init__(self):
        super().__init__()
        self.embedding, self.other, self.head = nn.Embedding(9, 6), nn.Embedding(9, 6), nn.Linear(6, 3)

    def forward(self, ids):
        hidden = self.embedding(ids).mean(dim=1)
        if (ids == 1).any():
            hidden = hidden + self.other(ids).mean(dim=1) * (ids == 1).any(dim=1)[:, None]
        return self.head(torch.tanh(hidden))


@pytest.mark.parametrize("make", [Tied, lambda: Tied(both=False), lambda: Tied(padding=2), Sometimes])
def test_scores_are_products_of_whole_gradients_also_of_queries_in_several_batches(make):
    model = make().double()
    train, queries = data(12), data(6, 100, seed=1)
    queries["ids"][:3] = queries["ids"][:3].masked_fill(queries["ids"][:3] == 1, 3)  # three that pass no `other`
    fitted = GradientSimilarity("dot").fit(model, parts(train, 5, 4, 3), IdsTask())
    blocks = find_blocks(model)
    true = whole(model, queries, blocks) @ whole(model, train, blocks).T
    assert torch.allclose(fitted.matrix(queries)[1], true, rtol=1e-10, atol=1e-12)

    found = fitted.scores(iter(parts(queries, 3, 2, 1)), k=12)
    for row, wanted in zip(found, true, strict=True):
        assert {each.example_id: each.score for each in row.helpful + row.harmful} == pytest.approx(
            dict(enumerate(wanted.tolist())), rel=1e-9, abs=1e-12
        )
    (row,) = fitted.scores(iter(parts(queries, 3, 2, 1)), k=12, aggregate=True)
    assert {each.example_id: each.score for each in row.helpful + row.harmful} == pytest.approx(
        dict(enumerate(true.sum(dim=0).tolist())), rel=1e-9, abs=1e-12
    )
    _, own = fitted.self_influence()
    assert torch.allclose(own, whole(model, train, blocks).square().sum(dim=1), rtol=1e-10)


class Partly(nn.Module):
    """Uses the weight of its embedding once more, and has a bare parameter."""

    def __init__(self):
        super().__init__()
        self.embedding, self.head, self.bare = nn.Embedding(9, 6), nn.Linear(6, 6), nn.Parameter(torch.ones(6))

    def forward(self, ids):
        return F.linear(self.head(self.embedding(ids).mean(dim=1)) * self.bare, self.embedding.weight)


def test_what_is_not_covered_is_said_and_an_error_where_it_was_asked_for():
    model = Partly()
    before = state_of(model)
    with pytest.warns(UserWarning, match="leaves out 'embedding': .*its weight is used elsewhere"):
        fitted = GradientSimilarity("dot").fit(model, [data(6)], IdsTask())
    assert fitted.approximation.layers == ("head",)
    assert fitted.approximation.notes == ("not covered: bare, embedding.weight",)
    assert fitted.approximation.coverage == 42 / (42 + 54 + 6)
    assert uncovered(model, find_blocks(model, "head")) == ["bare", "embedding.weight"]
    with pytest.raises(ValueError, match=r"cannot cover 'embedding': .* Name other layers"):
        GradientSimilarity("dot", layers="embedding").fit(model, [data(6)], IdsTask())
    assert GradientSimilarity("dot", layers="last").fit(model, [data(6)], IdsTask()).approximation.layers == ("head",)
    assert_same(before, state_of(model))


def test_the_last_layer_is_all_parameters_of_it_also_those_that_it_shares():
    fitted = GradientSimilarity("dot", layers="last").fit(Tied(), [data(6)], IdsTask())
    assert fitted.approximation.layers == ("embedding", "decoder.bias")


def test_a_model_in_half_precision_is_scored_in_single():
    model = Tied().bfloat16()
    train, queries = data(12), data(3, 100, seed=1)
    _, found = GradientSimilarity("dot").fit(model, parts(train, 6, 6), IdsTask()).matrix(queries)
    _, single = GradientSimilarity("dot").fit(model.float(), parts(train, 6, 6), IdsTask()).matrix(queries)
    assert found.dtype == torch.float32
    assert torch.equal(found, single)


def test_gradients_of_a_large_table_hold_only_the_rows_that_were_read():
    model = nn.Sequential(nn.Embedding(30_522, 4), nn.Flatten(), nn.Linear(28, 3))
    queries = data(64, seed=1, words=30_522)
    fitted = GradientSimilarity("dot").fit(model, [data(6)], IdsTask())
    each, summed = (fitted.gradients(queries, summed=summed)[0] for summed in (False, True))
    read = len(queries["ids"].unique())
    assert each.values.shape == (64, read, 4)
    assert summed.values.shape == (1, read, 4)
    assert torch.allclose(summed.values[0], each.values.sum(dim=0), atol=1e-6)
