"""TracIn: what the steps of training on an example did to a query, summed over the run's checkpoints."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from lightning_interpret.functional.influence.block import scaled
from lightning_interpret.functional.influence.blocks import Block, Gradient
from lightning_interpret.functional.influence.checkpoints import (
    Checkpoint,
    Checkpoints,
    Rate,
    learning_rate,
    load,
    weights,
)
from lightning_interpret.functional.influence.gradients import by_block, products, squared_norms
from lightning_interpret.functional.influence.optimizers import Optimizers, as_list, group_names, rates_by_name
from lightning_interpret.functional.scope import explaining, frozen_weights, original
from lightning_interpret.methods.examples import Examples, examples_of
from lightning_interpret.methods.influence.base import Fitted, InfluenceMethod, Measure, stated
from lightning_interpret.names import check_whole
from lightning_interpret.tasks import Task, batches


@dataclass(frozen=True)
class TracIn(InfluenceMethod):
    """Σ over checkpoints k of η_k ∇ℓ(θ_k, query) · ∇ℓ(θ_k, example) (TracInCP; Pruthi et al., 2020, section 3.2).

    Each product is what a step of plain gradient descent on the example, at that checkpoint, takes from the query's
    loss. There is no curvature in it, and no momentum or Adam. The gradients of the queries are held at every
    checkpoint; the weights of one checkpoint at a time are in memory, and the live module's are left alone.

    Args:
        checkpoints: Files that hold weights of this module; by default those that ``fit`` is given, the run's own.
        learning_rates: η of each checkpoint, or one for all; by default what the optimizer's state in each file says,
            by group. The current weights take the live optimizer's, or the one for all.
        current: Whether the weights as they are count as the last checkpoint. They come twice where the run's last file
            holds the same. In a run that has written no file yet they stand for all, which the record says.
        window: Batches held while the checkpoints are gone through: each is read once a window.
        layers: ``"all"``, ``"last"``, or names of modules.
        seed: Not used: nothing is drawn.

    Raises:
        ValueError: In ``fit``, if there is no checkpoint, or one that cannot be read, holds another module's weights,
            or says no learning rate.
    """

    name: ClassVar[str] = "tracin"
    checkpoints: Sequence[str] | None = None
    learning_rates: Sequence[float] | float | None = None
    current: bool = False
    window: int = 32

    def __post_init__(self) -> None:
        """Refuse learning rates that are not one for all or one for each checkpoint, and an empty window."""
        super().__post_init__()
        if isinstance(self.learning_rates, Sequence) and len(self.learning_rates) != len(self.checkpoints or ()):
            raise ValueError(
                f"`learning_rates={self.learning_rates!r}` must be one number for each of the "
                f"{len(self.checkpoints or ())} `checkpoints`, or one for all of them."
            )
        check_whole(window=self.window)

    def fitted(
        self, module: nn.Module, examples: Examples, task: Task, blocks: list[Block], weight_decay: float
    ) -> Fitted:
        """Return what scores queries: there is nothing to measure first."""
        found = _Trace(module, examples, task, blocks)
        found.window = self.window
        found.approximation = stated(self, module, blocks, "sum over checkpoints of learning rate × gradient product")
        return found

    def take_from_run(
        self, fitted: Fitted, module: nn.Module, optimizer: Optimizers | None, checkpoints: Checkpoints
    ) -> None:
        """Take the learning rates, after a look into every checkpoint."""
        assert isinstance(fitted, _Trace)
        fitted.points, notes = self._points(module, optimizer, checkpoints)
        names = {id(original(parameter)): name for name, parameter in module.named_parameters()}
        fitted.diagonals = [[_diagonal(block, rate, names) for block in fitted.blocks] for _, rate in fitted.points]
        fitted.approximation = replace(fitted.approximation, notes=(*fitted.approximation.notes, *notes))

    def _points(
        self, module: nn.Module, optimizer: Optimizers | None, given: Checkpoints
    ) -> tuple[list[tuple[str | None, Rate]], tuple[str, ...]]:
        rates, live = self.learning_rates, group_names(module, optimizer)
        if self.checkpoints is not None:
            files = [Checkpoint(path) for path in self.checkpoints]
        else:
            files = list(given() if callable(given) else given)
        if isinstance(rates, Sequence):
            files = [Checkpoint(each.path, rate) for each, rate in zip(files, rates, strict=True)]
        elif rates is not None:
            files = [Checkpoint(each.path, rates) for each in files]
        early = not files and callable(given) and bool(as_list(optimizer))  # a run that goes on may write some
        if not files and not self.current and not early:
            raise ValueError(
                "`checkpoints=None`, and the run has written none: give files, keep some with "
                "`ModelCheckpoint(save_top_k=-1)`, or set `current=True` for the weights as they are."
            )
        points: list[tuple[str | None, Rate]] = []
        unlimited = []
        for each in files:
            found, full = load(each.path)
            weights(found, module, each.path)
            rate = each.learning_rate
            points.append((each.path, learning_rate(found, live, each.path) if rate is None else rate))
            unlimited += [each.path] if full else []
        if self.current or early:
            points.append((None, rates if isinstance(rates, int | float) else _live_rate(live, optimizer)))
        notes = [f"{len(points)} checkpoints" if len(points) > 1 else "1 checkpoint"]
        notes += ["the run has written none yet: these are the weights as they are"] if early else []
        notes += ["the last of them the weights as they are"] if self.current and not early else []
        notes += [f"{sum(_is_zero(rate) for _, rate in points)} of learning rate 0"] * any(
            _is_zero(r) for _, r in points
        )
        notes += [f"{len(unlimited)} read as full pickles, as they hold more than weights"] if unlimited else []
        return points, ("; ".join(notes),)


class _Trace(Fitted):
    points: list[tuple[str | None, Rate]]
    diagonals: list[list[Tensor | float]]
    window: int

    def gradients(self, batch: Any, measure: Measure | None = None, *, summed: bool = False) -> list[Gradient | None]:
        """Return the gradients at each checkpoint, one after the other, times its learning rates."""
        found: list[Gradient | None] = []
        for (path, _), diagonals in zip(self.points, self.diagonals, strict=True):
            with self._at(path):
                own = super().gradients(batch, measure, summed=summed)
            found += [None if each is None else scaled(each, d) for each, d in zip(own, diagonals, strict=True)]
        return found

    def stream(
        self, queries: list[Gradient | None], examples: Iterable[tuple[Tensor, Any]]
    ) -> Iterator[tuple[Tensor, Tensor]]:
        count, source = len(self.blocks), iter(examples)
        while window := [(ids, batches.clone(batch)) for ids, batch in islice(source, self.window)]:
            totals: list[Tensor] = []
            for number, (path, _) in enumerate(self.points):
                own: dict[int, Gradient] = by_block(self.blocks, queries[number * count : (number + 1) * count])
                with self._at(path):
                    found = [products(own, self.uses(batch)) for _, batch in window]
                totals = [a + b for a, b in zip(totals, found, strict=True)] if totals else found
            yield from ((ids, scores) for (ids, _), scores in zip(window, totals, strict=True))

    def self_influence(self, examples: Any = None) -> tuple[Tensor, Tensor]:
        """Return the ids ``(n,)`` and Σ η_k ‖∇ℓ(θ_k)‖² of each example ``(n,)``."""
        every: list[tuple[Tensor, Tensor]] = []
        with explaining(self.module):
            given = self.examples if examples is None else examples_of(examples, self.task, self.module)
            source = iter(given.batches())
            while window := [(ids, batches.clone(batch)) for ids, batch in islice(source, self.window)]:
                every += zip([ids for ids, _ in window], self._own([batch for _, batch in window]), strict=True)
        return torch.cat([ids for ids, _ in every]), torch.cat([scores for _, scores in every])

    def own(self, batch: Any) -> Tensor:
        return self._own([batch])[0]

    def _own(self, window: list[Any]) -> list[Tensor]:
        totals: list[Tensor] = []
        for (path, _), diagonals in zip(self.points, self.diagonals, strict=True):
            rates: dict[int, Tensor | float] = by_block(self.blocks, diagonals)
            with self._at(path):
                found = [squared_norms(self.uses(batch), rates) for batch in window]
            totals = [a + b for a, b in zip(totals, found, strict=True)] if totals else found
        return totals

    @contextmanager
    def _at(self, path: str | None) -> Iterator[None]:
        values = None if path is None else weights(load(path)[0], self.module, path)
        with frozen_weights(self.module, values=values):
            yield


def _diagonal(block: Block, rate: Rate, names: Mapping[int, str]) -> Tensor | float:
    if not isinstance(rate, Mapping):
        return float(rate)
    return block.laid(lambda parameter: torch.full_like(parameter, rate.get(names[id(original(parameter))], 0.0)))


def _live_rate(names: list[list[list[str]]], optimizer: Optimizers | None) -> Rate:
    rates = [[float(group["lr"]) for group in each.param_groups] for each in as_list(optimizer)]
    if not rates:
        raise ValueError(
            "`current=True` takes the learning rate of the live optimizer, and there is none: give "
            "`fit(..., optimizer=...)`, or one number as `learning_rates`."
        )
    distinct = {rate for each in rates for rate in each}
    return distinct.pop() if len(distinct) == 1 else rates_by_name(rates, names)


def _is_zero(rate: Rate) -> bool:
    return not any(rate.values()) if isinstance(rate, Mapping) else rate == 0
