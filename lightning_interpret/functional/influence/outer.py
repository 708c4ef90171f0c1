"""Blocks whose gradient is a sum of outer products: linear maps and convolutions."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import torch
from torch import Tensor, nn

from lightning_interpret.functional.influence.block import KEYS, Block, Gradient

_MOVED = 2**20  # numbers that products of queries and places take at a time: what stays in a cache is fastest
_WRITING = 32  # what writing a gradient costs, in products of its own size


class Outer(Block):
    """A linear map of the last dimension: its gradient is a sum of outer products, out × (in, 1)."""

    def __init__(self, name: str, module: nn.Module, features: int, out: int, keys: Collection[str] = KEYS) -> None:
        super().__init__(name, module, keys)
        self.shape = (out, features * self.weight + self.bias)

    def inputs(self, read: Tensor) -> Tensor:
        """Return ``(B, S, in + 1)``: a 1 at the end stands for the bias."""
        return self._with_one(read.reshape(len(read), -1, read.shape[-1]))

    def outputs(self, returned: Tensor) -> Tensor:
        """Return ``(B, S, out)``."""
        return returned.reshape(len(returned), -1, returned.shape[-1])

    def gradient(self, inputs: Tensor, outputs: Tensor) -> Tensor:
        """Return ``(B, out, in + 1)``."""
        return outputs.transpose(1, 2) @ inputs

    def scores(self, queries: Gradient, inputs: Tensor, outputs: Tensor) -> Tensor:
        """Return ``(M, B)``: over places or over whole gradients, whichever is less work."""
        assert isinstance(queries, Tensor)
        return outer_scores(queries, inputs, outputs)

    def squares(self, inputs: Tensor, outputs: Tensor) -> Tensor:
        """Return ``(B,)``: of few places by their products with one another, Σ (δₛ·δᵤ)(aₛ·aᵤ)."""
        if inputs.shape[1] * sum(self.shape) > self.numel:
            return super().squares(inputs, outputs)
        return ((inputs @ inputs.mT) * (outputs @ outputs.mT)).sum(dim=(1, 2)).clamp(min=0)

    def stacked(self, parameters: dict[str, Tensor]) -> Tensor:
        """Return ``(out, in + 1)``."""
        parts = [self._rows(parameters["weight"])] if self.weight else []
        return torch.cat([*parts, *([parameters["bias"][:, None]] if self.bias else [])], dim=1)

    def _rows(self, weight: Tensor) -> Tensor:
        return weight if isinstance(self.module, nn.Linear) else weight.T  # `transformers`' Conv1D is transposed

    def _with_one(self, values: Tensor) -> Tensor:
        if not self.bias:
            return values
        ones = values.new_ones(*values.shape[:-1], 1)
        return torch.cat([values, ones], dim=-1) if self.weight else ones


class Convolution(Outer):
    """A convolution of one group: a linear map of the patches it reads, of shape (out, in × kernel, 1)."""

    module: nn.modules.conv._ConvNd

    def __init__(self, name: str, module: nn.modules.conv._ConvNd, keys: Collection[str] = KEYS) -> None:
        features = module.in_channels * torch.Size(module.kernel_size).numel()
        super().__init__(name, module, features, module.out_channels, keys)

    def inputs(self, read: Tensor) -> Tensor:
        """Return the patches ``(B, S, in × kernel + 1)``, S the places of the output."""
        return self._with_one(patches(self.module, read))

    def outputs(self, returned: Tensor) -> Tensor:
        """Return ``(B, S, out)``."""
        return returned.flatten(2).transpose(1, 2)

    def _rows(self, weight: Tensor) -> Tensor:
        return weight.flatten(1)


class Grouped(Block):
    """A convolution of G groups: each output reads the channels of its group alone; ``(out, in/G × kernel + 1)``."""

    module: nn.modules.conv._ConvNd

    def __init__(self, name: str, module: nn.modules.conv._ConvNd, keys: Collection[str] = KEYS) -> None:
        super().__init__(name, module, keys)
        features = module.in_channels // module.groups * torch.Size(module.kernel_size).numel()
        self.shape = (module.out_channels, features * self.weight + self.bias)

    def inputs(self, read: Tensor) -> Tensor:
        """Return the patches by group, ``(B, S, G, in/G × kernel + 1)``."""
        values = patches(self.module, read).unflatten(2, (self.module.groups, -1))
        parts = [values] if self.weight else []
        return torch.cat([*parts, *([values.new_ones(*values.shape[:-1], 1)] if self.bias else [])], dim=3)

    def outputs(self, returned: Tensor) -> Tensor:
        """Return ``(B, S, G, out/G)``."""
        return returned.flatten(2).transpose(1, 2).unflatten(2, (self.module.groups, -1))

    def gradient(self, inputs: Tensor, outputs: Tensor) -> Tensor:
        """Return ``(B, out, in/G × kernel + 1)``."""
        return torch.einsum("bsgo,bsgi->bgoi", outputs, inputs).flatten(1, 2)

    def stacked(self, parameters: dict[str, Tensor]) -> Tensor:
        """Return ``(out, in/G × kernel + 1)``."""
        parts = [parameters["weight"].flatten(1)] if self.weight else []
        return torch.cat([*parts, *([parameters["bias"][:, None]] if self.bias else [])], dim=1)


def patches(module: nn.modules.conv._ConvNd, read: Tensor) -> Tensor:
    """Return what a convolution reads at each place of its output, ``(B, S, in × kernel)``."""
    mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
    values = nn.functional.pad(read, module._reversed_padding_repeated_twice, mode=mode)
    count = len(module.kernel_size)
    for dim, (size, step, apart) in enumerate(zip(module.kernel_size, module.stride, module.dilation, strict=True)):
        values = values.unfold(2 + dim, apart * (size - 1) + 1, step)[..., ::apart]
    places, kernel = range(2, 2 + count), range(2 + count, 2 + 2 * count)
    return values.permute(0, *places, 1, *kernel).flatten(1 + count).flatten(1, count)


def outer_scores(queries: Tensor, inputs: Tensor, outputs: Tensor) -> Tensor:
    """Return ⟨Q_m, Σ_s outputs_bs ⊗ inputs_bs⟩, ``(M, B)``: over places or over whole gradients, as costs less.

    Over places it is M S products where the other way has M + S and the writing of each example's gradient.
    """
    (examples, places, out), features = outputs.shape, inputs.shape[2]
    if len(queries) * places > len(queries) + places + _WRITING:
        total = outputs.new_zeros(len(queries), examples)
        for rows, part in outer_parts(inputs, outputs):
            total.addmm_(queries[:, rows].flatten(1), part.flatten(1).T)
        return total
    first, second = (outputs, inputs) if features <= out else (inputs, outputs)
    found = []
    for some in queries.split(max(1, _MOVED // (examples * places * second.shape[2]))):
        moved = first.flatten(0, 1) @ (some if features <= out else some.mT)
        found.append((moved * second.flatten(0, 1)).reshape(len(some), examples, -1).sum(dim=2))
    return torch.cat(found)


def outer_parts(inputs: Tensor, outputs: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Yield Σ_s outputs_bs ⊗ inputs_bs by rows of ``out``, ``(B, rows, in)``, so few that they stay in a cache."""
    held = 2**20 if inputs.device.type == "cpu" else 2**26  # numbers; on the CPU four times as quick as all at once
    step, out = max(1, held // max(1, len(inputs) * inputs.shape[2])), outputs.shape[2]
    for start in range(0, out, step):
        rows = slice(start, min(start + step, out))
        yield rows, outputs[:, :, rows].transpose(1, 2) @ inputs
