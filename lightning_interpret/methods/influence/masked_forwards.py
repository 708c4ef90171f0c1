"""What is measured at the examples of one batch under the masks of many training examples, in few forwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from lightning_interpret.functional.features import find_layer
from lightning_interpret.functional.masked import Factors, looped, mapped, multiplied, repeated
from lightning_interpret.functional.prefix import Point, prefix_of
from lightning_interpret.layers.sites import INPUT, units_dim
from lightning_interpret.layers.turn_over_dropout import TurnOverDropout
from lightning_interpret.methods.influence.measures import LossOfPrediction
from lightning_interpret.tasks import Task, batches

ELEMENTS = 2**22  # of the largest tensor of a forward
_PRODUCTS = 2**24  # of what a head returns for all masks at once


class MaskedForwards:
    """Runs the examples of one batch under masks, by the fastest way that is exact for two of them and two masks.

    Masks of the input of the head alone: one forward up to it, and a matrix product. Else ``torch.func.vmap`` over the
    masks, which computes what comes before the first of them once; where the model does not let itself be mapped, the
    examples repeated in one batch; and at last one forward a mask. Made and called inside the explaining scope.

    Args:
        module: The module.
        dropout: Its turn-over dropout.
        task: How module and batch are read.
        batch: The examples.
        measure: What is measured, (module, batch) → ``(M,)``.

    Attributes:
        values: What is measured with the module as it is, ``(M,)``.
        units: How many units each site has that the forward comes to.
        way: How it is run: ``multiplied``, ``mapped``, ``repeated`` or ``looped``.
        rows: How many masks are run at once.
    """

    def __init__(
        self,
        module: nn.Module,
        dropout: TurnOverDropout,
        task: Task,
        batch: Any,
        measure: Callable[[nn.Module, Any], Tensor],
    ) -> None:
        found = _Forwards(module, dropout, task, batch, measure)
        self.values, self.units, size = found.values, found.units, batches.batch_size(batch)
        few = found
        if size > 2:
            some = task.take(batch, torch.tensor([0, size - 1]))
            with suppress(Exception):  # of a measure that takes this batch alone
                few = _Forwards(module, dropout, task, some, measure)
        self.way = few.exact(list(found.ways))
        self._run, self.rows = found.ways[self.way]

    @torch.no_grad()
    def __call__(self, factors: Factors) -> Tensor:
        """Return what is measured under each mask, ``(K, M)``, for the factors of each site, ``(K, units)``."""
        parts = zip(*(each.split(self.rows) for each in factors.values()), strict=True)
        return torch.cat([self._run(dict(zip(factors, part, strict=True))) for part in parts])


class _Forwards:
    """The ways to run a batch under masks, the fastest first: what runs it, and how many masks at once."""

    def __init__(
        self,
        module: nn.Module,
        dropout: TurnOverDropout,
        task: Task,
        batch: Any,
        measure: Callable[[nn.Module, Any], Tensor],
    ) -> None:
        self._module, self._dropout, self._task, self._batch = module, dropout, task, batch
        # what is predicted is predicted by the whole network: under a mask it may be another class
        self._measure = measure.settled(module, batch) if isinstance(measure, LossOfPrediction) else measure
        found, self._prefix = prefix_of(module, points(module, dropout), self._run)
        self.values: Tensor = found.detach()
        reached = self._prefix.values
        layers = {site: layer_of(module, dropout, site) for site in reached}
        self.units = {site: value.shape[units_dim(layers[site], value)] for site, value in reached.items()}
        self.ways = dict(self._ways())

    @torch.no_grad()
    def exact(self, names: Sequence[str]) -> str:
        """Return the first of these ways that agrees with the plain loop, for two masks."""
        ids = torch.arange(2, device=self.values.device)
        factors = {site: self._dropout.factors(site, ids, size) for site, size in self.units.items()}
        true = self.ways["looped"][0](factors)
        for name in names:
            with suppress(Exception):  # whatever it is that a model has against it
                if name == "looped" or _close(self.ways[name][0](factors), true):
                    return name
        return "looped"

    def _ways(self) -> Iterator[tuple[str, tuple[Callable[[Factors], Tensor], int]]]:
        reached, masked = self._prefix.values, self._dropout.masked
        if (head := only_head(self._module, self._dropout, reached)) is not None:
            ((site, read),) = reached.items()
            outputs = max(1, read.numel() // read.shape[-1] * head.out_features)
            if outputs * read.shape[-1] <= _PRODUCTS:
                yield "multiplied", (partial(self._multiplied, head, site, read), max(1, _PRODUCTS // outputs))
        rows = max(1, ELEMENTS // max(1, self._prefix.largest))
        yield "mapped", (self._mapped, rows)
        size = batches.batch_size(self._batch)
        if len(self.values) == size:
            yield "repeated", (partial(repeated, self._run, masked, size=size), rows)
        yield "looped", (partial(looped, self._run, masked), 1)

    def _run(self, index: Tensor | None = None) -> Tensor:
        batch = self._batch if index is None else self._task.take(self._batch, index)
        return self._measure(self._module, batch)

    def _multiplied(self, head: nn.Linear, site: str, read: Tensor, factors: Factors) -> Tensor:
        with self._prefix.replayed():
            return multiplied(self._run, head, read, factors[site])

    def _mapped(self, factors: Factors) -> Tensor:
        with self._prefix.replayed():
            return mapped(self._run, self._dropout.masked, factors)


def points(module: nn.Module, dropout: TurnOverDropout) -> dict[str, Point]:
    """Return where each mask is, as :func:`prefix_of` takes it."""
    return {site: (layer_of(module, dropout, site), site.startswith(INPUT)) for site in dropout.sites}


def layer_of(module: nn.Module, dropout: TurnOverDropout, site: str) -> nn.Module:
    """Return the layer of a site: its name is that in the module which the dropout is a child of."""
    owner = next((part for part in module.modules() if dropout in part._modules.values()), module)
    return find_layer(owner, site.removeprefix(INPUT))


def only_head(module: nn.Module, dropout: TurnOverDropout, reached: dict[str, Tensor]) -> nn.Linear | None:
    """Return the linear layer whose input is all that is masked, or None."""
    site = next(iter(reached), "")
    if len(reached) != 1 or not site.startswith(INPUT):
        return None
    part = layer_of(module, dropout, site)
    return part if isinstance(part, nn.Linear) else None


def _close(found: Tensor, true: Tensor) -> bool:
    finite = true[true.isfinite()]
    scale = max(1.0, float(finite.abs().max())) if finite.numel() else 1.0
    atol = 200 * torch.finfo(true.dtype).eps * scale
    return found.shape == true.shape and torch.allclose(found, true, rtol=0, atol=atol, equal_nan=True)
