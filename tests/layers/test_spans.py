"""The span layer: finite in every precision, and what it keeps of itself; the place that it is put in."""

import copy
import io

import pytest
import torch
from torch import nn

from lightning_interpret.functional.features import LayerError
from lightning_interpret.layers import SpanPool
from lightning_interpret.layers.spans import SpanSite

TOKENS = torch.tensor([[0, 1, 1, 1, 1, 1, 0], [0, 1, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0]]).bool()


def pool(hidden=6, width=3, dtype=torch.float32, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return SpanPool(hidden, width).to(dtype)


def states(*sizes, scale=1.0):
    return scale * torch.randn(*sizes, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_it_is_finite_in_every_precision_whatever_padding_holds(dtype):
    layer = pool(dtype=dtype)
    given = states(3, 7, 6, scale=20.0).to(dtype)
    given[~TOKENS] = float("nan")  # as attention returns where there is nothing to attend to
    given.requires_grad_()
    vectors, weights = layer(given, TOKENS)
    vectors.float().square().sum().backward()
    assert vectors.dtype == dtype
    assert weights.dtype == torch.promote_types(dtype, torch.float32)
    assert bool(vectors.isfinite().all())
    assert weights.flatten(1).sum(dim=1).tolist() == pytest.approx([1, 1, 0], abs=1e-5)
    assert (weights[:, ~TOKENS[0]][0] == 0).all()
    assert (vectors[2] == 0).all()  # nothing to read
    assert all(bool(each.grad.isfinite().all()) for each in (given, *layer.parameters()))
    assert all(bool(each.grad.abs().sum() > 0) for each in layer.parameters())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_says_what_single_precision_does(dtype):
    exact, weights = pool()(states(3, 7, 6), TOKENS)
    vectors, found = pool(dtype=dtype)(states(3, 7, 6).to(dtype), TOKENS)
    assert torch.allclose(vectors.float(), exact, atol=0.05)
    assert torch.allclose(found, weights, atol=0.02)
    with torch.autocast("cpu", dtype):
        vectors, found = pool()(states(3, 7, 6), TOKENS)
    assert found.dtype == torch.float32
    assert torch.allclose(vectors.float(), exact, atol=0.05)


def test_one_token_is_one_span_and_a_short_text_has_few():
    layer = pool(width=8)
    vectors, weights = layer(states(2, 1, 6), torch.ones(2, 1, dtype=torch.bool))
    assert weights.tolist() == [[[1.0]], [[1.0]]]
    assert torch.allclose(vectors[0], layer(states(2, 1, 6)[:1], torch.ones(1, 1, dtype=torch.bool))[0][0])


def test_what_is_held_for_the_backward_pass_grows_with_the_width_and_not_with_the_square_of_the_text():
    def held(length, width):
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()) or t, lambda t: t):
            pool(width=width)(states(1, length, 6).requires_grad_(), torch.ones(1, length, dtype=torch.bool))
        return sum(sizes)

    assert held(128, 8) < 2.1 * held(64, 8)
    assert held(64, 8) < 2.1 * held(64, 4)


def test_its_state_is_its_weights_and_its_width():
    layer, file, given = pool(width=3), io.BytesIO(), (states(3, 7, 6), TOKENS)
    torch.save(layer.state_dict(), file)
    file.seek(0)
    other = pool(width=5, seed=1)
    with pytest.warns(UserWarning, match="width is that of the checkpoint, 3, and not 5"):
        other.load_state_dict(torch.load(file, weights_only=True))
    assert all(torch.equal(a, b) for a, b in zip(layer(*given), other(*given), strict=True))


@pytest.mark.parametrize("options", [{"width": 0}, {"width": 2.5}, {"hidden": 0}, {"width": True}])
def test_what_makes_no_sense_is_refused(options):
    with pytest.raises(ValueError, match="must be a whole number of at least 1"):
        SpanPool(**{"hidden": 6} | options)


class Reader(nn.Module):
    """Embeds, returns its states and reads their mean."""

    def __init__(self):
        super().__init__()
        self.embedding, self.middle, self.head = nn.Embedding(9, 6), nn.LayerNorm(6), nn.Linear(6, 2)

    def forward(self, ids, given=None):
        states = self.middle(self.embedding(ids) if given is None else given)
        return self.head(input=states.mean(dim=1))


def reader():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Reader()


def placed(head=None, special=(0, 1)):
    module = reader()
    module.site = SpanSite(pool(), lambda: special, lambda weights: None)
    module.site.attach(module.middle, module.embedding, head=head and module.get_submodule(head))
    return module


IDS = torch.tensor([[1, 3, 4, 5, 1, 0], [1, 6, 1, 7, 8, 1]])


@pytest.mark.parametrize("head", [None, "head"])
def test_what_is_read_is_the_vector_alone(head):
    module = placed(head)
    module.site.seen = []
    scores = module(IDS)
    ((_, tokens, pooled),) = module.site.seen
    assert tokens.tolist() == [[False, True, True, True, False, False], [False, True, False, True, True, False]]
    module.site.fixed = pooled
    assert torch.equal(module(IDS.flip(0)), scores)  # whatever the text is
    module.site.fixed = None
    module.site.detach()
    assert torch.equal(module(IDS), reader()(IDS))
    assert not torch.equal(module(IDS), scores)


def test_a_copy_has_hooks_of_its_own():
    module = placed()
    other = copy.deepcopy(module)
    with torch.no_grad():
        other.site.pool.query.mul_(5)
    assert other.site.pool is not module.site.pool
    assert not torch.allclose(other(IDS), module(IDS))
    module.site.detach()
    assert not torch.allclose(other(IDS), module(IDS))


def test_ids_of_an_earlier_pass_are_not_taken():
    module = placed()
    module(IDS)
    with pytest.raises(ValueError, match=r"were called with have shape: none"):
        module(None, torch.randn(2, 6, 6))
    module.embedding(IDS[:, :4])
    with pytest.raises(ValueError, match=r"have shape: \(2, 4\)"):
        module(None, torch.randn(2, 6, 6))


def test_states_and_heads_of_other_shapes_are_refused():
    module = placed()
    module.middle = nn.Identity()
    module.site.detach()
    module.site.attach(module.middle, module.embedding)
    with pytest.raises(LayerError, match=r"returns \(2, 6, 4\), and not \(batch, tokens, 6\)"):
        module(None, torch.randn(2, 6, 4))
    module.site.put_into(module.middle)
    with pytest.raises(ValueError, match="before `span_layer` has been"):
        module(IDS)


def test_it_is_compiled_as_one_graph_with_the_module_around_it():
    torch._dynamo.reset()
    module = placed()
    module.site.know(torch.device("cpu"))  # what asks a tokenizer is no part of it
    compiled = torch.compile(module, backend="eager", fullgraph=True)
    for ids in (IDS, IDS.flip(0)):
        assert torch.allclose(compiled(ids), module(ids))
