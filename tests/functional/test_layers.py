"""Which layers there are, coarse to fine."""

import torch
from torch import nn

from lightning_interpret.functional.layers import levels


class Nested(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList([nn.Sequential(nn.Linear(2, 2), nn.Tanh()), nn.Linear(2, 2)])
        self.alone, self.last = nn.Tanh(), nn.Linear(2, 2)


def test_levels_go_from_blocks_to_leaves():
    assert levels(Nested()) == [
        ["blocks.0", "blocks.1"],
        ["blocks.0.0", "blocks.0.1"],
        ["blocks.0.0", "blocks.0.1", "blocks.1", "alone", "last"],
    ]
    assert levels(nn.Sequential(nn.Tanh(), nn.ReLU())) == [["0", "1"], ["0", "1"]]
    assert levels(nn.Linear(1, 1)) == [[]]


def test_the_names_of_compiled_modules_are_those_of_what_was_compiled():
    module = Nested()
    expected = levels(module)
    module.blocks[1] = torch.compile(module.blocks[1], backend="eager")
    module.alone = torch.compile(module.alone, backend="eager")
    assert levels(module) == expected
