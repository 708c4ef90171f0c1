"""Blocks that multiply and add element by element: normalisations."""

from __future__ import annotations

from collections.abc import Collection
from copy import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from lightning_interpret.functional.influence.block import KEYS, Block


class Scale(Block):
    """A normalisation: a weight that multiplies, and a bias, element by element; shape ``(2, d)``."""

    def __init__(self, name: str, module: nn.Module, keys: Collection[str] = KEYS) -> None:
        super().__init__(name, module, keys)
        values = next(value for value in module._parameters.values() if value is not None)
        self.shape = (self.weight + self.bias, values.numel())
        self._channels = isinstance(module, nn.GroupNorm | _BatchNorm)

    def inputs(self, read: Tensor) -> Tensor:
        """Return what the weight multiplies, ``(B, S, d)``."""
        return self.outputs(normed(self.module, read))

    def outputs(self, returned: Tensor) -> Tensor:
        """Return ``(B, S, d)``."""
        last = returned.movedim(1, -1) if self._channels else returned
        return last.reshape(len(returned), -1, self.shape[1])

    def gradient(self, inputs: Tensor, outputs: Tensor) -> Tensor:
        """Return ``(B, 2, d)``, or one row where only one of the two trains."""
        parts = [(outputs * inputs).sum(dim=1)] if self.weight else []
        return torch.stack([*parts, *([outputs.sum(dim=1)] if self.bias else [])], dim=1)

    def stacked(self, parameters: dict[str, Tensor]) -> Tensor:
        """Return ``(2, d)``."""
        return torch.stack([value.flatten() for value in parameters.values()])


def normalises(module: nn.Module) -> bool:
    """Return whether a module is a normalisation whose weight and bias are element-wise, and examples stay apart."""
    if isinstance(module, _BatchNorm):
        return module.running_mean is not None  # else it takes the batch's own statistics
    if isinstance(module, nn.LayerNorm | nn.RMSNorm | nn.GroupNorm):
        return True
    named = type(module).__name__.endswith("RMSNorm") or hasattr(module, "variance_epsilon")
    return named and list(module._parameters) == ["weight"] and module._parameters["weight"].dim() == 1  # type: ignore[union-attr]


def normed(module: nn.Module, read: Tensor) -> Tensor:
    """Return what a normalisation multiplies by its weight."""
    if isinstance(module, nn.LayerNorm):
        return F.layer_norm(read, module.normalized_shape, None, None, module.eps)
    if isinstance(module, nn.RMSNorm):
        return F.rms_norm(read, module.normalized_shape, None, module.eps)
    if isinstance(module, nn.GroupNorm):
        return F.group_norm(read, module.num_groups, None, None, module.eps)
    if isinstance(module, _BatchNorm):
        return F.batch_norm(read, module.running_mean, module.running_var, None, None, False, 0.0, module.eps)
    # one of `transformers`, in a precision of its own, some with a weight of 1 + w: the difference that a weight makes
    weight = module._parameters["weight"]
    assert weight is not None
    probe = copy(module)
    found = []
    for value in (torch.ones_like(weight), torch.zeros_like(weight)):
        vars(probe)["_parameters"] = {"weight": value}
        found.append(probe.forward(read))
    return found[0] - found[1]
