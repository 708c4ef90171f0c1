"""Which layers there are, and in which order they run."""

from contextlib import suppress

import pytest
import torch
from torch import nn

from lightning_interpret.functional.features import LayerError
from lightning_interpret.functional.layers import levels, outputs


class Odd(nn.Module):
    """Runs its parts out of order, one of them twice, one never, one that returns no tensor."""

    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList([nn.Sequential(nn.Linear(2, 2), nn.Tanh()), nn.Linear(2, 2)])
        self.twice, self.never, self.last = nn.Tanh(), nn.Linear(2, 2), nn.Linear(2, 2)
        self.silent = Silent()

    def forward(self, x):
        x = self.twice(self.blocks[1](x))
        self.silent(x)
        return self.last(self.twice(self.blocks[0](x)))


class Silent(nn.Module):
    def forward(self, x):
        return None


ALL = ["last", "blocks.0.0", "blocks.0", "blocks.1", "twice", "never", "silent"]


def test_levels_go_from_blocks_to_leaves():
    assert levels(Odd()) == [
        ["blocks.0", "blocks.1"],
        ["blocks.0.0", "blocks.0.1"],
        ["blocks.0.0", "blocks.0.1", "blocks.1", "twice", "never", "last", "silent"],
    ]
    assert levels(nn.Sequential(nn.Tanh(), nn.ReLU())) == [["0", "1"], ["0", "1"]]
    assert levels(nn.Linear(1, 1)) == [[]]


def test_the_names_of_compiled_modules_are_those_of_what_was_compiled():
    module = Odd()
    expected = levels(module)
    module.blocks[1] = torch.compile(module.blocks[1], backend="eager")
    module.never = torch.compile(module.never, backend="eager")
    assert levels(module) == expected


def test_outputs_come_in_the_order_of_execution_without_what_cannot_be_attributed_to():
    module, x = Odd(), torch.ones(1, 2)
    found = outputs(module, ALL, lambda: module(x))
    assert list(found) == ["blocks.1", "blocks.0.0", "blocks.0", "last"]
    assert torch.equal(found["last"], module(x))
    assert not found["last"].requires_grad


def test_no_hook_stays_also_after_an_error():
    module = Odd()
    for forward in (lambda: module(torch.ones(1, 2)), lambda: 1 / 0):
        with suppress(ZeroDivisionError):
            outputs(module, ALL, forward)
        assert not any(part._forward_hooks for part in module.modules())
    with pytest.raises(LayerError, match=r"`layer='blocks.7'` does not exist. Did you mean 'blocks\.1'"):
        outputs(module, ["last", "blocks.7"], lambda: module(torch.ones(1, 2)))
    assert not any(part._forward_hooks for part in module.modules())
