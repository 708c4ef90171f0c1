"""Nothing of an explanation outlives it: flags, weights, buffers, random states."""

import contextlib
import random
import sys

import numpy
import pytest
import torch
from torch import nn

from lightning_interpret.functional import scope
from lightning_interpret.functional.scope import explaining, frozen_weights


class Recurrent(nn.Module):
    """Tied weights, an LSTM, a BatchNorm, dropout, and a buffer that the forward changes in place."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Embedding(9, 4)
        self.lstm = nn.LSTM(4, 4, batch_first=True)
        self.norm, self.dropout = nn.BatchNorm1d(4), nn.Dropout(0.5)
        self.head = nn.Linear(4, 9, bias=False)
        self.head.weight = self.embedding.weight
        self.register_buffer("count", torch.zeros(1))
        self.register_buffer("missing", None)

    def forward(self, ids):
        self.count += 1
        hidden = self.lstm(self.embedding(ids))[0].mean(dim=1)
        return self.head(self.dropout(self.norm(hidden)))


IDS = torch.tensor([[1, 2, 3], [4, 5, 6]])


def test_inside_the_module_is_in_evaluation_mode_and_asks_for_no_gradient():
    net = Recurrent().train()
    with explaining(net):
        assert not any(part.training for part in net.modules())
        assert not any(weight.requires_grad for weight in net.parameters())
        assert torch.is_grad_enabled()
        assert torch.equal(net(IDS), net(IDS))
        hidden = torch.randn(2, 4, requires_grad=True)
        torch.autograd.grad(net.head(net.norm(hidden)).sum(), hidden)


def test_training_flags_are_restored_one_by_one():
    net = Recurrent().train()
    net.norm.eval()
    with explaining(net):
        pass
    assert {name for name, part in net.named_modules() if not part.training} == {"norm"}


def test_weights_are_the_same_objects_and_stay_tied():
    net = Recurrent()
    weights, flat = dict(net.named_parameters()), list(net.lstm._flat_weights)
    with frozen_weights(net):
        assert net.head.weight is net.embedding.weight
        assert net.head.weight is not weights["embedding.weight"]
        assert net.head.weight.data_ptr() == weights["embedding.weight"].data_ptr()  # no copy
        assert net.lstm._flat_weights[0] is net.lstm.weight_ih_l0
    assert dict(net.named_parameters()).keys() == weights.keys()
    assert all(now is weights[name] for name, now in net.named_parameters())
    assert all(now is before for now, before in zip(net.lstm._flat_weights, flat, strict=True))
    assert all(isinstance(weight, nn.Parameter) for weight in net.lstm._flat_weights)


def test_a_buffer_that_the_forward_changes_in_place_is_what_it_was():
    net = Recurrent()
    before, versions = net.count, net.count._version
    with explaining(net):
        net(IDS)
        assert float(net.count) == 1
    assert net.count is before
    assert float(net.count) == 0
    assert net.count._version == versions


@pytest.mark.parametrize("raises", [False, True])
def test_random_states_are_what_they_were(raises):
    def draw():
        return torch.rand(3).tolist(), random.random(), float(numpy.random.rand())

    def seeded():
        torch.manual_seed(5)
        random.seed(5)
        numpy.random.seed(5)

    net = Recurrent()
    seeded()
    expected = draw()
    seeded()
    with contextlib.suppress(KeyError), explaining(net):
        draw()
        if raises:
            raise KeyError("in the middle")
    assert draw() == expected


def test_an_interrupt_while_things_are_put_back_leaves_none_behind():
    """Ctrl-C at each line of what puts back, in turn."""
    put_back, tracer = {"_restore_stores", "_restore_training", "<lambda>", "<listcomp>"}, sys.gettrace()

    def interrupted(net, at):
        lines = 0

        def count(frame, event, arg):
            nonlocal lines
            lines += event == "line"
            if lines == at and event == "line":
                raise KeyboardInterrupt
            return count

        def calls(frame, event, arg):
            code = frame.f_code
            return count if code.co_filename == scope.__file__ and code.co_name in put_back else None

        try:
            with explaining(net):
                sys.settrace(calls)
                random.random()
        finally:
            sys.settrace(tracer)

    at, interrupts = 0, 0
    while interrupts == at:
        at += 1
        net = Recurrent().half().train()
        net.norm.eval()
        weights, state = dict(net.named_parameters()), random.getstate()
        try:
            interrupted(net, at)
        except KeyboardInterrupt:
            interrupts += 1
        assert all(now is weights[name] for name, now in net.named_parameters())
        assert {name for name, part in net.named_modules() if not part.training} == {"norm"}
        assert random.getstate() == state
    assert interrupts > 50


def test_full_precision_inside_and_half_precision_outside():
    net = Recurrent().bfloat16()
    exact = Recurrent().eval()
    exact.load_state_dict(net.state_dict())  # the rounded weights, in float32
    weights = dict(net.named_parameters())
    with explaining(net, full_precision=True):
        logits = net(IDS)
        assert logits.dtype == torch.float32
        assert {tensor.dtype for tensor in net.buffers() if tensor.is_floating_point()} == {torch.float32}
        assert net.head.weight is net.embedding.weight
    torch.testing.assert_close(logits, exact(IDS))
    assert all(now is weights[name] and now.dtype == torch.bfloat16 for name, now in net.named_parameters())
    assert net.eval()(IDS).dtype == torch.bfloat16


def test_without_full_precision_half_precision_stays():
    net = Recurrent().bfloat16()
    with explaining(net):
        assert net(IDS).dtype == torch.bfloat16


def test_scopes_nest():
    net = Recurrent().bfloat16().train()
    weight = net.head.weight
    with explaining(net, full_precision=True):
        with explaining(net):
            inner = net(IDS)
        assert torch.equal(net(IDS), inner)
        assert inner.dtype == torch.float32
    assert net.head.weight is weight
    assert net.training


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_a_gradient_can_be_taken_whatever_is_around(mode):
    net = Recurrent()
    with mode():
        with explaining(net):
            hidden = torch.randn(2, 4, requires_grad=True)
            (slope,) = torch.autograd.grad(net.head(hidden).sum(), hidden)
            assert not slope.is_inference()
        assert not torch.is_grad_enabled()
    assert float(net.count) == 0


def test_other_values_stand_in_wherever_a_weight_is_kept_and_leave_nothing_behind():
    net, other = Recurrent().eval(), Recurrent().eval()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(1.5)
    other.norm.running_mean += 1
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with explaining(net), frozen_weights(net, values=other.state_dict()):
        assert net.head.weight is net.embedding.weight  # still tied
        assert scope.original(net.head.weight).requires_grad
        found = net(IDS)
    assert torch.equal(found, other(IDS))
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert net.lstm._flat_weights[0] is net.lstm.weight_ih_l0


def test_an_optimizers_own_parameter_is_known_inside_the_scope_however_deep():
    net = Recurrent()
    with explaining(net, full_precision=True), explaining(net):
        inside = [scope.original(each) for each in net.parameters()]
    assert all(a is b for a, b in zip(inside, net.parameters(), strict=True))
