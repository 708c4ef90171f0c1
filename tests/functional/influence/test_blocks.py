import pytest
import torch
from per_example import Tied, assert_right, by_autograd, by_hooks, drawn, near, runs
from torch import nn

from lightning_interpret.functional.influence.blocks import (
    Grouped,
    Lookup,
    Outer,
    Rows,
    Scale,
    Table,
    coverage,
    find_blocks,
    uncovered,
)
from lightning_interpret.functional.influence.outer import outer_scores


def embeds(*shape, **options):
    model = nn.Sequential(nn.Embedding(9, 6, **options), nn.Tanh(), nn.Flatten(), nn.Linear(42, 3)).double()
    ids = torch.randint(0, 9, (4, 7), generator=torch.Generator().manual_seed(0))
    ids[0, :3] = ids[0, 3]  # an id that comes again
    return model, ids


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
@pytest.mark.parametrize("options", [{}, {"padding_idx": 2}, {"padding_idx": -1}, {"sparse": True}, {"max_norm": 0.7}])
def test_an_embeddings_gradients_are_autograds(options, dtype):
    model, ids = embeds(**options)
    before = model[0].weight.detach().clone()
    found, blocks, left = by_hooks(model, runs(model, ids.to(dtype)), 4)
    assert not left
    assert torch.equal(model[0].weight, before)  # `max_norm` rescales rows that are read
    near(found, by_autograd(model, runs(model, ids.to(dtype)), 4, blocks), 1e-10)


def test_an_embedding_whose_gradient_depends_on_the_other_examples_is_not_covered():
    model, ids = embeds(scale_grad_by_freq=True)
    blocks = assert_right(model, runs(model, ids), 4)
    assert [block.name for block in blocks] == ["3"]
    assert uncovered(model, blocks) == ["0.weight"]


def test_an_embedding_that_scales_what_it_returns_is_right():
    class Scaled(nn.Embedding):
        embed_scale = 3.0

        def forward(self, ids):
            return super().forward(ids) * self.embed_scale

    model, ids = embeds()
    model[0] = Scaled(9, 6).double()
    assert len(assert_right(model, runs(model, ids), 4)) == 2


def test_blocks_are_those_of_the_layers_named_each_once():
    model = nn.ModuleDict({"a": nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2)), "b": nn.Conv2d(2, 4, 1, groups=2)})
    names = {
        "all": ["a.0", "a.1", "b"],
        "a": ["a.0", "a.1"],
        ("b", "a.1", "b", "a"): ["b", "a.1", "a.0"],
    }
    for layers, found in names.items():
        assert [block.name for block in find_blocks(model, layers)] == found
    assert [type(block) for block in find_blocks(model)] == [Outer, Scale, Grouped]
    with pytest.raises(ValueError, match=r"`layers='a.2'` does not exist. Did you mean 'a.\d'"):
        find_blocks(model, "a.2")
    with pytest.raises(ValueError, match=r"`layers='c'`.*There is: a.0, a.1, b"):
        find_blocks(model.update({"c": nn.Tanh()}) or model, "c")
    for nothing in ([], "", 3):
        with pytest.raises(ValueError, match=r"`layers=.*` must be 'all', 'last', or names of modules"):
            find_blocks(model, nothing)
    with pytest.raises(ValueError, match="no layer with trainable parameters that influence can cover"):
        find_blocks(nn.GRU(2, 2))


def test_what_has_no_closed_form_is_uncovered_and_counts_against_the_coverage():
    model = nn.ModuleDict(
        {
            "attention": nn.MultiheadAttention(4, 2),
            "bag": nn.EmbeddingBag(9, 4),
            "batch": nn.BatchNorm1d(4, track_running_stats=False),  # examples meet in its statistics
            "up": nn.ConvTranspose1d(2, 2, 1, bias=False),
            "frozen": nn.Linear(4, 4).requires_grad_(False),
        }
    )
    blocks = find_blocks(model)
    assert [block.name for block in blocks] == ["attention.out_proj"]
    bare = [
        "attention.in_proj_weight",
        "attention.in_proj_bias",
        "bag.weight",
        "batch.weight",
        "batch.bias",
        "up.weight",
    ]
    assert uncovered(model, blocks) == bare
    assert coverage(model, blocks) == 20 / (20 + 48 + 12 + 36 + 8 + 4)


def test_a_tied_parameter_is_in_one_block_whoever_is_named():
    model = Tied()
    blocks = {block.name: block for block in find_blocks(model)}
    assert list(blocks) == ["embedding", "first", "first.bias", "second.bias", "norm", "decoder.bias"]
    assert [part.name for part in blocks["first"].parts] == ["first", "second"]
    assert isinstance(blocks["embedding"], Table)
    assert [block.name for block in find_blocks(model, "decoder")] == ["embedding", "decoder.bias"]
    assert [block.name for block in find_blocks(model, "again")] == ["norm"]
    model.decoder.weight = nn.Parameter(torch.ones(9, 6))
    assert isinstance(find_blocks(model, "embedding")[0], Lookup)


def test_a_parameter_that_a_layer_of_no_known_kind_shares_is_not_covered():
    model = nn.ModuleDict({"a": nn.Embedding(5, 4), "b": nn.EmbeddingBag(5, 4), "c": nn.Linear(4, 4)})
    model["b"].weight = model["a"].weight
    assert [block.name for block in find_blocks(model)] == ["c"]


@pytest.mark.parametrize(("queries", "places"), [(1, 1), (1, 40), (3, 2), (8, 9), (40, 1)])
@pytest.mark.parametrize(("features", "out"), [(3, 5), (5, 3)])
def test_products_with_outer_products_are_the_same_by_places_and_by_gradients(
    queries, places, features, out, monkeypatch
):
    q, inputs, outputs = drawn(queries, out, features), drawn(4, places, features), drawn(4, places, out)
    true = torch.einsum("moi,bsi,bso->mb", q, inputs, outputs)
    assert torch.allclose(outer_scores(q, inputs, outputs), true, rtol=1e-10, atol=1e-12)
    monkeypatch.setattr("lightning_interpret.functional.influence.outer._MOVED", 20)
    for writing in (-1000, 1000):  # by gradients, by places
        monkeypatch.setattr("lightning_interpret.functional.influence.outer._WRITING", writing)
        assert torch.allclose(outer_scores(q, inputs, outputs), true, rtol=1e-10, atol=1e-12)


def test_rows_that_no_query_has_read_give_nothing():
    block = find_blocks(nn.Embedding(9, 2))[0]
    queries = Rows(torch.tensor([1, 4]), torch.ones(3, 2, 2))
    ids, back = torch.tensor([[0, 1], [5, 8], [4, 4]]), torch.ones(3, 2, 2)
    for count in (1, 3):
        found = block.scores(Rows(queries.index, queries.values[:count]), ids, back)
        assert torch.equal(found, torch.tensor([2.0, 0, 4]).expand(count, 3))
