"""What several layers return for a batch, one vector an example, and the gradient of a class score in it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lightning_interpret.functional.features import PIXELS, LayerError, find_layer
from lightning_interpret.functional.pooling import moved, pooled
from lightning_interpret.functional.trace import trace
from lightning_interpret.tasks import Targets, Task, batches


class LayerReader:
    """Reads layers of a module, all in one forward pass; called inside the explaining scope.

    Of a text ``(B, T, d)`` a vector is the mean, the first or the last of the places that are no padding; of feature
    maps ``(B, C, H, W)`` the mean over places; of a vector ``(B, d)`` itself.

    Args:
        module: The module.
        task: How it is called, and which places of a text are no padding.
        layers: Names of layers, each of which runs once in a forward pass.
        pooling: ``mean``, ``first`` or ``last``.
        output: ``logit``, ``log_prob``, ``prob`` or ``margin``.

    Raises:
        LayerError: If a layer does not exist; when it is read, if it does not run once or gives no vector an example.
    """

    def __init__(self, module: nn.Module, task: Task, layers: Sequence[str], pooling: str, output: str) -> None:
        self._module, self._task, self._pooling, self._output = module, task, pooling, output
        self.layers = tuple(dict.fromkeys(layers))
        for layer in self.layers:
            check_layer(module, layer)

    @torch.no_grad()
    def features(self, batch: Any) -> dict[str, Tensor]:
        """Return the features of a batch by layer, ``(B, d)`` on the CPU, in single precision."""
        _, found = trace(self._module, lambda: self._task.logits(self._module, batch), self.layers)
        there = {layer: self._values(found, layer, batch) for layer in self.layers}
        return {layer: self._vectors(batch, values, pooled, torch.mean) for layer, values in there.items()}

    def gradients(self, batch: Any, which: str) -> tuple[dict[str, Tensor], Targets, Tensor]:
        """Return by layer the gradient of the score in its features, ``(B, d)``, the targets, and their scores.

        All are of one forward and one backward pass.

        Raises:
            ValueError: If there is not one target an example.
        """
        logits, found = trace(self._module, lambda: self._task.logits(self._module, batch), self.layers)
        targets = self._task.resolve(logits, batch, which)
        if targets.example.tolist() != list(range(batches.batch_size(batch))):
            raise ValueError(
                f"`which={which!r}` has {len(targets.index)} targets in {batches.batch_size(batch)} examples, and "
                "concepts are tested with one class an example."
            )
        scores = self._task.score(logits, targets, self._output)
        values = [self._values(found, layer, batch) for layer in self.layers]
        if scores.requires_grad:
            slopes = torch.autograd.grad(scores.sum(), values, allow_unused=True, materialize_grads=True)
        else:
            slopes = tuple(map(torch.zeros_like, values))
        rates = {
            layer: self._vectors(batch, slope, moved, torch.sum)
            for layer, slope in zip(self.layers, slopes, strict=True)
        }
        return rates, targets, scores.detach().cpu()

    def _values(self, found: dict[str, Tensor], layer: str, batch: Any) -> Tensor:
        if layer not in found:
            raise LayerError(
                f"`layer={layer!r}` does not run once in the forward pass, or returns no tensor: name one that does."
            )
        values, size = found[layer], batches.batch_size(batch)
        if not values.is_floating_point() or values.dim() < 2 or len(values) != size:
            raise LayerError(
                f"`layer={layer!r}` gives {tuple(values.shape)} ({values.dtype}) of {size} examples, which is no "
                "vector an example: name another."
            )
        return values

    def _vectors(self, batch: Any, values: Tensor, of_text: Any, of_places: Any) -> Tensor:
        values = values.detach()
        values = values if values.dtype == torch.float64 else values.float()
        if values.dim() == 3:
            there = self._task.content(batch, values, keep_special=False)
            if there.shape != values.shape[:2]:
                there = torch.ones_like(values[:, :, 0], dtype=torch.bool)
            values = of_text(values, there, self._pooling)
        elif values.dim() > 3:
            values = of_places(values.flatten(2), dim=2)
        return values.cpu()


def check_layer(module: nn.Module, layer: str) -> None:
    """Raise a ``LayerError`` for a layer that does not exist, and for the pixels, which are no layer's output."""
    find_layer(module, layer)
    if layer == PIXELS:
        raise LayerError(f"`layer={PIXELS!r}` is what the module is given; concepts are of what a layer makes of it.")


def default_layer(module: nn.Module, batch: Any, task: Task) -> str:
    """Return the last block but one of :meth:`.Task.layers`, or the only one there is.

    Of the last block's output a head that reads one token hears of that token alone.
    """
    found = task.layers(module, batch)
    return found[-2] if len(found) > 2 else found[-1]
