"""Reading and replacing the output of layers of many kinds."""

from collections import namedtuple
from dataclasses import dataclass

import pytest
import torch
from tiny import Bag, classifier
from torch import nn
from transformers.modeling_outputs import BaseModelOutput
from transformers.utils import ModelOutput

from lightning_interpret.functional.features import Features, LayerError, features, find_layer

Pair = namedtuple("Pair", ["label", "hidden"])


@dataclass
class Own(ModelOutput):
    hidden: torch.FloatTensor | None = None
    rest: tuple | None = None


CONTAINERS = {
    "tensor": (lambda h: h, lambda out: out),
    "tuple": (lambda h: (None, h, "x"), lambda out: out[1]),
    "namedtuple": (lambda h: Pair("x", h), lambda out: out.hidden),
    "dict": (lambda h: {"name": "x", "hidden": h}, lambda out: out["hidden"]),
    "model_output": (lambda h: BaseModelOutput(last_hidden_state=h), lambda out: out.last_hidden_state),
    "own_model_output": (lambda h: Own(hidden=h, rest=(h,)), lambda out: out.hidden),
}


class Wraps(nn.Module):
    def __init__(self, container):
        super().__init__()
        self.linear = nn.Linear(3, 4)
        self.wrap, self.kind = CONTAINERS[container][0], None

    def forward(self, x):
        out = self.wrap(self.linear(x))
        self.kind = type(out)
        return out


class Net(nn.Module):
    """A layer that returns a container, what reads it, and a head."""

    def __init__(self, container="tensor"):
        super().__init__()
        torch.manual_seed(0)
        self.layer, self.head = Wraps(container), nn.Linear(4, 2)
        self.unwrap, self.seen = CONTAINERS[container][1], None

    def forward(self, x):
        out = self.layer(x)
        self.seen = type(out)
        return self.head(self.unwrap(out))


X = torch.randn(5, 3, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("container", CONTAINERS)
def test_any_container_is_read_and_replaced(container):
    net = Net(container)
    expected, value = net(X), torch.randn(5, 4)
    with Features(net, "layer") as opened:
        logits, hidden = opened.read(lambda: net(X))
        replaced = opened.put(value, lambda: net(X))
        assert net.seen is net.layer.kind  # what reads the layer gets its own type
    assert torch.equal(logits, expected)
    assert torch.equal(hidden, net.layer.linear(X))
    assert torch.equal(replaced, net.head(value))
    assert torch.equal(net(X), expected)


def test_gradients_reach_the_values_that_are_put():
    net, value = Net("dict"), torch.randn(5, 4, requires_grad=True)
    with Features(net, "layer") as opened:
        (slope,) = torch.autograd.grad(opened.put(value, lambda: net(X))[:, 0].sum(), value)
    torch.testing.assert_close(slope, net.head.weight[0].expand(5, 4))


def test_hooks_do_nothing_outside_of_read_and_put_and_go_with_the_block():
    net = Net()
    expected = net(X)
    with Features(net, "layer") as opened:
        opened.put(torch.zeros(5, 4), lambda: net(X))
        assert torch.equal(net(X), expected)
        assert len(net.layer._forward_hooks) == 1
    assert len(net.layer._forward_hooks) == 0
    with pytest.raises(RuntimeError, match="stop"), Features(net, "layer") as opened:
        opened.put(torch.zeros(5, 4), lambda: (_ for _ in ()).throw(RuntimeError("stop")))
    assert len(net.layer._forward_hooks) == 0


def test_two_layers_at_once():
    net = Net()
    value = torch.randn(5, 4)
    with Features(net, "layer") as outer, Features(net, "head") as inner:
        replaced, logits = inner.read(lambda: outer.put(value, lambda: net(X)))
    assert torch.equal(logits, net.head(value))
    assert torch.equal(replaced, logits)


class InPlace(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embedding, self.head = nn.Linear(3, 4), nn.Linear(4, 2)

    def forward(self, x):
        hidden = self.embedding(x)
        hidden += 1
        hidden.relu_()
        return self.head(hidden)


def test_an_operation_in_place_after_the_layer_changes_neither_what_is_read_nor_what_is_put():
    net, value = InPlace(), torch.randn(5, 4)
    kept, leaf = value.clone(), value.clone().requires_grad_()
    with torch.no_grad(), features(net, "embedding", lambda: net(X)) as (opened, logits, hidden):
        assert torch.equal(hidden, net.embedding(X))
        assert torch.equal(logits, net(X))
        opened.put(value, lambda: net(X))
    assert torch.equal(value, kept)
    with Features(net, "embedding") as opened:
        (slope,) = torch.autograd.grad(opened.put(leaf, lambda: net(X))[:, 1].sum(), leaf)
    torch.testing.assert_close(slope, net.head.weight[1] * (value + 1 > 0))


def test_a_value_of_another_shape_is_refused():
    net = Net()
    with pytest.raises(LayerError, match=r"`layer='layer'` has shape \(5, 4\), but got \(5, 3\)"):  # noqa: SIM117
        with Features(net, "layer") as opened:
            opened.put(torch.zeros(5, 3), lambda: net(X))


def test_an_unknown_layer_names_the_near_ones():
    with pytest.raises(LayerError, match=r"`layer='embeding'` does not exist\. Did you mean 'embedding'.*There is: "):
        find_layer(Bag(), "embeding")


@pytest.mark.parametrize("name", ["", "embedding.weight", "hidden.0"])
def test_what_is_no_sub_module_is_no_layer(name):
    with pytest.raises(LayerError, match="does not exist"):
        find_layer(Bag(), name)


def test_names_of_a_compiled_module_are_those_of_what_was_compiled():
    net = Bag()
    compiled = torch.compile(net)
    assert find_layer(compiled, "hidden") is net.hidden


class Idle(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding, self.idle = nn.Embedding(9, 4), nn.Linear(4, 4)

    def forward(self, ids):
        return self.embedding(ids).mean(dim=1)


def test_a_layer_that_does_not_run_is_refused():
    net = Idle()
    ids = torch.tensor([[1, 2]])
    with pytest.raises(LayerError, match=r"`layer='idle'` does not run in the forward pass"):  # noqa: SIM117
        with features(net, "idle", lambda: net(ids)):
            pass


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embedding, self.shared, self.head = nn.Embedding(9, 4), nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, ids):
        return self.head(self.shared(torch.tanh(self.shared(self.embedding(ids)))).mean(dim=1))


def test_a_layer_that_runs_twice_is_refused():
    net = Twice()
    ids = torch.tensor([[1, 2]])
    with pytest.raises(LayerError, match=r"`layer='shared'` runs more than once in one forward pass"):  # noqa: SIM117
        with features(net, "shared", lambda: net(ids)):
            pass


class TwoReadings(nn.Module):
    """An embedding that runs twice: on the same ids, on the ids shifted right, or on others."""

    def __init__(self, second):
        super().__init__()
        torch.manual_seed(0)
        self.embedding, self.head, self.second = nn.Embedding(9, 4), nn.Linear(8, 2), second

    def forward(self, ids):
        first, second = self.embedding(ids), self.embedding(self.second(ids))
        return self.head(torch.cat([first, second], dim=-1).sum(dim=1))


IDS = torch.tensor([[1, 2, 3], [4, 5, 6]])


def test_an_embedding_that_runs_again_on_the_same_ids_gets_the_same_values():
    net, value = TwoReadings(lambda ids: ids.clone()), torch.randn(2, 3, 4)
    with Features(net, "embedding") as opened:
        replaced = opened.put(value, lambda: net(IDS))
    torch.testing.assert_close(replaced, net.head(torch.cat([value, value], dim=-1).sum(dim=1)))


def test_an_embedding_that_runs_again_on_shifted_ids_gets_shifted_values():
    def shifted(ids):
        return torch.cat([torch.full_like(ids[:, :1], 8), ids[:, :-1]], dim=1)

    net, value = TwoReadings(shifted), torch.randn(2, 3, 4)
    start = net.embedding(torch.tensor([[8], [8]]))
    second = torch.cat([start, value[:, :-1]], dim=1)
    with Features(net, "embedding") as opened:
        replaced = opened.put(value, lambda: net(IDS))
    torch.testing.assert_close(replaced, net.head(torch.cat([value, second], dim=-1).sum(dim=1)))


def test_an_embedding_that_runs_again_on_other_ids_keeps_its_own():
    net, value = TwoReadings(lambda ids: torch.full_like(ids, 7)), torch.randn(2, 3, 4)
    with Features(net, "embedding") as opened:
        replaced = opened.put(value, lambda: net(IDS))
    other = net.embedding(torch.full((2, 3), 7))
    torch.testing.assert_close(replaced, net.head(torch.cat([value, other], dim=-1).sum(dim=1)))


class NoTensor(Idle):
    def forward(self, ids):
        self.named = self.idle  # a layer whose output holds no tensor
        return super().forward(ids) + float(self.word(ids)[0])


def test_a_layer_that_returns_no_tensor_is_refused():
    class Word(nn.Module):
        def forward(self, ids):
            return ("1",)

    net = NoTensor()
    net.word = Word()
    with pytest.raises(LayerError, match=r"`layer='word'` returns tuple, which holds no tensor"):  # noqa: SIM117
        with features(net, "word", lambda: net(IDS)):
            pass


def test_features_of_another_shape_than_the_units_are_refused():
    net = Bag(nn.Linear(6, 6))
    ids = torch.tensor([[2, 5, 3]])
    with pytest.raises(LayerError, match=r"its output has shape \(1, 6\), but the units are \(1, 3\)"):  # noqa: SIM117
        with features(net, "hidden", lambda: net(ids, torch.ones_like(ids)), units=(1, 3)):
            pass


def test_the_error_of_the_model_itself_is_not_swallowed():
    net = Bag()
    with pytest.raises(IndexError):  # noqa: SIM117
        with features(net, "embedding", lambda: net(torch.tensor([[999]]), torch.ones(1, 1))):
            pass


@pytest.mark.parametrize("name", ["longformer", "xlnet"])
def test_models_that_embed_other_ids_are_read_through_inputs_embeds(name):
    model = classifier(name)
    ids = torch.tensor([[2, 5, 6, 7, 3, 0, 0], [2, 5, 6, 7, 8, 9, 3]])
    mask = (ids != 0).long()

    def forward():
        return model(input_ids=ids, attention_mask=mask).logits

    layer = {"longformer": "longformer.embeddings.word_embeddings", "xlnet": "transformer.word_embedding"}[name]
    with features(model, layer, forward, units=(2, 7)) as (opened, logits, hidden):
        torch.testing.assert_close(hidden, model.get_input_embeddings()(ids))
        torch.testing.assert_close(opened.put(hidden, forward), logits)
        replaced = opened.put(torch.zeros_like(hidden), forward).detach()
    assert float((replaced - logits).abs().max()) > 1e-3
    with torch.no_grad():  # the same words, all of them embedded by zeros
        model.get_input_embeddings().weight.zero_()
        torch.testing.assert_close(replaced, forward())
    assert not any(part._forward_pre_hooks for part in model.modules())


def test_the_route_is_found_again_for_a_batch_that_needs_another():
    """Longformer pads to a multiple of its window: a text of that length needs no second route."""
    model = classifier("longformer")
    layer = "longformer.embeddings.word_embeddings"
    for length in (8, 7, 8, 6):
        ids = torch.arange(5, 5 + length)[None]
        with features(model, layer, lambda ids=ids: model(input_ids=ids).logits, units=(1, length)) as (_, _, hidden):
            torch.testing.assert_close(hidden, model.get_input_embeddings()(ids))
