"""What layers return during a forward, and which of them everything goes through."""

import threading

import pytest
import torch
from torch import nn

from lightning_interpret.functional.trace import is_cut, trace


class Block(nn.Module):
    """x ↦ head(x + relu(Ax)): the relu in place, one layer run twice, one that nothing follows, one of a tuple."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.linear, self.relu, self.sum = nn.Linear(3, 3), nn.ReLU(inplace=True), nn.Identity()
        self.twice, self.side, self.pair, self.head = nn.Tanh(), nn.Linear(3, 3), Pair(), nn.Linear(3, 2)
        self.place = nn.Parameter(torch.randn(3))

    def forward(self, x):
        branch = self.relu(self.linear(x))
        hidden = self.sum(x + branch + self.place)
        self.side(hidden)
        return self.head(self.pair(self.twice(self.twice(hidden)))[0])


class Pair(nn.Module):
    def forward(self, x):
        return 2 * x, None


@pytest.fixture
def traced():
    model, x = Block(), torch.randn(4, 3, generator=torch.Generator().manual_seed(1)).requires_grad_()
    result, outputs = trace(model, lambda: model(x))
    return model, x, result, outputs


def test_outputs_are_those_of_layers_that_run_once_in_order(traced):
    model, x, result, outputs = traced
    assert list(outputs) == ["linear", "relu", "sum", "side", "pair", "head"]
    torch.testing.assert_close(result, model(x))
    torch.testing.assert_close(outputs["linear"], model.linear(x))  # not what the relu wrote in its place
    torch.testing.assert_close(outputs["pair"] @ model.head.weight.T + model.head.bias, result)
    assert not any(part._forward_hooks for part in model.modules())


def test_a_cut_is_a_layer_that_nothing_passes_by(traced):
    _, x, result, outputs = traced
    cut = {name: is_cut(result, x, output) for name, output in outputs.items()}
    assert cut == {"linear": False, "relu": False, "sum": True, "side": False, "pair": True, "head": True}
    grads = torch.autograd.grad(result.sum(), list(outputs.values()), allow_unused=True)
    assert [grad is None for grad in grads] == [name == "side" for name in outputs]


def test_another_thread_is_not_traced_and_a_failure_leaves_no_hook():
    model, seen = Block(), []

    def forward():
        thread = threading.Thread(target=lambda: seen.append(model(torch.zeros(1, 3))))
        thread.start()
        thread.join()
        return model(torch.ones(2, 3))

    _, outputs = trace(model, forward)
    assert len(seen) == 1
    assert {len(output) for output in outputs.values()} == {2}
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        trace(model, lambda: model(torch.zeros(1, 4)))
    assert not any(part._forward_hooks for part in model.modules())
