"""One vector an example: what a layer returns, or what the classification head reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lightning_interpret.functional.features import find_layer
from lightning_interpret.functional.layers import plain_name
from lightning_interpret.functional.pooling import pooled
from lightning_interpret.functional.trace import last_called
from lightning_interpret.names import choose
from lightning_interpret.tasks import Task, batches

POOLINGS = ("auto", "mean", "first", "last")


class Reader:
    """Reads the features of a batch beside its logits.

    Args:
        module: The module.
        task: How it is called, and which places of a text are no padding.
        layers: Names of layers, whose outputs are put one after the other; ``None`` for what the last linear layer that
            is used reads: a classification head's input.
        pooling: How a sequence becomes one vector, over what is no padding: ``mean``, ``first`` or ``last``; ``auto``
            is the last where a head reads every place (a decoder predicts at the last), else the mean. Of feature maps
            ``(B, C, H, W)`` the mean over places. Of tags and answers it is the mean over the text; of what is
            generated, that of the last hidden states over the prompt, or of the encoder's over the source.
        example: A batch to try the module on.

    Raises:
        ValueError: If a layer does not exist or is not used, or ``pooling`` is not known.
    """

    def __init__(self, module: nn.Module, task: Task, layers: Sequence[str] | None, pooling: str, example: Any) -> None:
        choose("pooling", pooling, POOLINGS)
        own = task.represented(module) if layers is None else None
        which, said = task.pooled if layers is None else ("mean", "")
        layers = [own] if own is not None else layers
        self._module, self._task, self._head = module, task, layers is None
        self.pooling = which if pooling == "auto" else pooling
        self._fixed = pooling != "auto"
        names = [self._last_linear(example)] if layers is None else list(layers)
        self._layers = {name: find_layer(module, name) for name in names}
        self.layer = f"input of {plain_name(names[0])}" if layers is None else " + ".join(names)
        self.layer += f", {self.pooling} over {said}" if said else ""

    @torch.no_grad()
    def read(self, batch: Any) -> tuple[Tensor, Tensor]:
        """Return the logits, and features ``(B, d)`` in single precision; called inside the explaining scope."""
        found: dict[str, Tensor] = {}
        handles = [self._listen(part, name, found) for name, part in self._layers.items()]
        try:
            logits = self._task.logits(self._module, batch)
        finally:
            for handle in handles:
                handle.remove()
        missing = [name for name in self._layers if name not in found]
        if missing:
            raise ValueError(f"`layer={missing[0]!r}` is not used when the model is called: name another.")
        return logits, torch.cat([self._pooled(batch, name, found[name]) for name in self._layers], dim=1)

    def _listen(self, part: nn.Module, name: str, found: dict[str, Tensor]) -> Any:
        def keep(value: Any) -> None:
            tensor = next((leaf for leaf in batches.leaves(value) if isinstance(leaf, Tensor)), None)
            if tensor is not None:
                found[name] = tensor.detach().clone()  # what follows may change it in place

        if self._head:
            return part.register_forward_pre_hook(lambda _, args, kwargs: keep((*args, kwargs)), with_kwargs=True)
        return part.register_forward_hook(lambda _, args, output: keep(output))

    def _pooled(self, batch: Any, name: str, values: Tensor) -> Tensor:
        size = batches.batch_size(batch)
        if not values.is_floating_point() or values.dim() < 2 or len(values) != size:
            raise ValueError(
                f"`layer={name!r}` gives {tuple(values.shape)} ({values.dtype}) of {size} examples, which is no vector "
                "an example: name another."
            )
        values = values.float()
        if values.dim() == 3:
            return pooled(values, self._places(batch, values), self.pooling)
        if values.dim() > 3:
            if self._fixed and self.pooling != "mean":
                raise ValueError(
                    f"`pooling={self.pooling!r}` is of sequences; {name!r} gives feature maps: use 'mean'."
                )
            return values.flatten(2).mean(dim=2)
        return values

    def _places(self, batch: Any, values: Tensor) -> Tensor:
        there = self._task.represented_at(batch, values)
        return there if there.shape == values.shape[:2] else torch.ones_like(values[:, :, 0], dtype=torch.bool)

    def _last_linear(self, example: Any) -> str:
        named = ((plain_name(name), part) for name, part in self._module.named_modules())
        linear = {name: part for name, part in named if isinstance(part, nn.Linear) and name}
        last = last_called(linear, lambda: self._task.logits(self._module, self._task.take(example, torch.tensor([0]))))
        if last is None:
            raise ValueError(
                f"{type(self._module).__name__} uses no linear layer, whose input the features would be: name a layer "
                "with `layer=`."
            )
        return last
