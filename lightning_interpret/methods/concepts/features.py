"""What several layers return for a batch, one vector an example, and the gradient of a class score in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from lightning_interpret.functional.features import PIXELS, LayerError, find_layer
from lightning_interpret.functional.pooling import moved, pooled
from lightning_interpret.functional.trace import trace
from lightning_interpret.tasks import Targets, Task, TokenClassification, batches
from lightning_interpret.tasks.grids import channels_of
from lightning_interpret.tasks.images import ImageTask
from lightning_interpret.tasks.tags import OUTSIDE
from lightning_interpret.tasks.text import TextTask


class LayerReader:
    """Reads layers of a module, all in one forward pass; called inside the explaining scope.

    Of a text ``(B, T, d)`` or ``(B, d, T)`` (a convolution's) a vector is the mean, the first or the last of the places
    that are no padding; of feature maps ``(B, C, H, W)`` or ``(B, H, W, C)`` the mean over places; of a vector
    ``(B, d)`` itself.

    Args:
        module: The module.
        task: How it is called, and which places of a text are no padding.
        layers: Names of layers, each of which runs once in a forward pass.
        pooling: ``mean``, ``first`` or ``last``; of feature maps ``mean`` alone.
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
        return {layer: self._vectors(batch, layer, values, pooled, torch.mean) for layer, values in there.items()}

    def gradients(
        self, batch: Any, which: str, *, told: bool = False
    ) -> tuple[dict[str, Tensor], Targets, Tensor] | None:
        """Return by layer the gradient of the score in its features, ``(N, d)``, the N targets, and their scores.

        All are of one backward pass; where a text has several targets (labels, entities) of a forward pass of its own
        for each.

        Args:
            batch: The examples.
            which: ``predicted``, ``gold``, or what else the task explains.
            told: Whether, of texts with several targets, those alone are meant that are what ``which`` says they are:
                not the likeliest of a text in which nothing was found. ``None`` is returned where there are none.

        Raises:
            ValueError: If an image has not one target.
        """
        batch = self._task.prepared(self._module, batch)
        logits, found = trace(self._module, lambda: self._task.logits(self._module, batch), self.layers)
        targets = self._task.resolve(logits, batch, which)
        if self._one_each(batch, targets):
            scores = self._task.score(logits, targets, self._output)
        elif isinstance(self._task, TextTask):
            rows = self._told(logits, batch, targets, which) if told else torch.arange(len(targets.index))
            if not len(rows):
                return None
            rows = rows.to(targets.index.device)
            example, own = targets.example[rows], targets.at(rows)
            batch, targets = self._task.take(batch, example), replace(own, example=example)
            scores, found = trace(
                self._module, lambda: self._task.scores(self._module, batch, own, self._output), self.layers
            )
        else:
            raise ValueError(
                f"`which={which!r}` has {len(targets.index)} targets in {batches.batch_size(batch)} examples, and "
                "concepts are tested with one class an example."
            )
        values = [self._values(found, layer, batch) for layer in self.layers]
        if scores.requires_grad:
            slopes = torch.autograd.grad(scores.sum(), values, allow_unused=True, materialize_grads=True)
        else:
            slopes = tuple(map(torch.zeros_like, values))
        rates = {
            layer: self._vectors(batch, layer, slope, moved, torch.sum)
            for layer, slope in zip(self.layers, slopes, strict=True)
        }
        return rates, targets, scores.detach().cpu()

    def _one_each(self, batch: Any, targets: Targets) -> bool:
        several = self._task.view is not None  # then a text with one target has it by chance
        return not several and targets.example.tolist() == list(range(batches.batch_size(batch)))

    def _told(self, logits: Tensor, batch: Any, targets: Targets, which: str) -> Tensor:
        """Return which targets are what they are explained as: an entity that is there, a label that holds."""
        if self._task.view is None:
            return torch.arange(len(targets.index))
        predicted, gold = self._task.compared(logits.detach(), batch, targets)
        said = gold if which == "gold" and gold is not None else predicted
        nothing = OUTSIDE if isinstance(self._task, TokenClassification) else None  # a word of no entity is no type
        right = [a == b != nothing for a, b in zip(said, targets.name, strict=True)]
        return torch.tensor(right).nonzero().flatten()

    def joined(self, layer: str, parts: Sequence[Tensor]) -> Tensor:
        """Return the features of all batches at a layer, ``(n, d)``.

        Raises:
            LayerError: If batches give vectors of several lengths, or numbers that are not finite.
        """
        widths = sorted({part.shape[1] for part in parts})
        if len(widths) > 1:
            raise LayerError(
                f"`layer={layer!r}` gives vectors of {', '.join(map(str, widths))} numbers, by the length of the text, "
                "which are no features of one layer: name another."
            )
        features = torch.cat(list(parts))
        lost = int((~features.isfinite().all(dim=1)).sum())
        if lost:
            raise LayerError(
                f"`layer={layer!r}` gives NaN or infinite features of {lost} of {len(features)} examples, to which no "
                "vector can be fitted: the training has diverged, or texts are all padding."
            )
        return features

    def _values(self, found: dict[str, Tensor], layer: str, batch: Any) -> Tensor:
        if layer not in found:
            raise LayerError(
                f"`layer={layer!r}` does not run once in the forward pass, or returns no tensor: name one that does."
            )
        values, size = found[layer], batches.batch_size(batch)
        part = find_layer(self._module, layer)
        if not all(getattr(each, "batch_first", True) for each in (part, getattr(part, "self_attn", None))):
            raise LayerError(
                f"`layer={layer!r}` gives {tuple(values.shape)}, the places before the examples: make it with "
                "`batch_first=True`, or name another."
            )
        if not values.is_floating_point() or values.dim() < 2 or len(values) != size:
            raise LayerError(
                f"`layer={layer!r}` gives {tuple(values.shape)} ({values.dtype}) of {size} examples, which is no "
                "vector an example: name another."
            )
        if values.dim() > 3 and self._pooling != "mean":
            raise LayerError(
                f"`pooling={self._pooling!r}` is of sequences, and `layer={layer!r}` gives feature maps "
                f"{tuple(values.shape)}: use 'mean', or name another layer."
            )
        return values

    def _vectors(self, batch: Any, layer: str, values: Tensor, of_text: Any, of_places: Any) -> Tensor:
        values = values.detach()
        values = values if values.dtype == torch.float64 else values.float()
        if values.dim() == 3:
            there = self._task.content(batch, values, keep_special=False)
            if self._channels_first(layer, values, there):
                values = values.transpose(1, 2)
            if there.shape != values.shape[:2]:
                there = torch.ones_like(values[:, :, 0], dtype=torch.bool)
            values = of_text(values, there, self._pooling)
        elif values.dim() > 3:
            if self._channels_last(batch, values):
                values = values.movedim(-1, 1)
            values = of_places(values.flatten(2), dim=2)
        return values.cpu()

    def _channels_first(self, layer: str, values: Tensor, there: Tensor) -> bool:
        """Return whether a sequence is ``(B, d, T)``: of a convolution, or of what follows it and has its shape."""
        length = there.shape[1] if there.dim() == 2 else None
        return isinstance(find_layer(self._module, layer), nn.Conv1d) or values.shape[1] != length == values.shape[2]

    def _channels_last(self, batch: Any, values: Tensor) -> bool:
        if not isinstance(self._task, ImageTask):
            return False
        height, width = self._task.pixels(batch).shape[2:]
        return channels_of(values.shape[1:], (height, width)) == 2


def check_layer(module: nn.Module, layer: str) -> None:
    """Raise a ``LayerError`` for a layer that does not exist, and for the pixels, which are no layer's output."""
    find_layer(module, layer)
    if layer == PIXELS:
        raise LayerError(f"`layer={PIXELS!r}` is what the module is given; concepts are of what a layer makes of it.")


def sweep(module: nn.Module, batch: Any, task: Task) -> list[str]:
    """Return the layers of :meth:`.Task.layers`, without the pixels.

    Raises:
        LayerError: If there is no other.
    """
    return _without_pixels(task.layers(module, batch), module)


def default_layer(module: nn.Module, batch: Any, task: Task) -> str:
    """Return the last block but one of :meth:`.Task.layers`, or the only one there is.

    Of the last block's output a head that reads one token hears of that token alone.

    Raises:
        LayerError: If there are the pixels alone.
    """
    found = task.layers(module, batch)
    return _without_pixels([found[-2] if len(found) > 2 else found[-1]], module)[0]


def _without_pixels(layers: Sequence[str], module: nn.Module) -> list[str]:
    found = [layer for layer in layers if layer != PIXELS]
    if not found:
        raise LayerError(f"No layer of {type(module).__name__} is known for a block: name one with `layer=`.")
    return found
