"""The training data as curvature reads them: root-gradients of each example, once, and kept while memory allows."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Literal

import torch
from torch import Tensor, nn

from lightning_interpret.functional.influence.blocks import Block, Table
from lightning_interpret.functional.influence.gradients import Recording, Uses, recording
from lightning_interpret.methods.examples import Examples
from lightning_interpret.names import check_whole, choose
from lightning_interpret.tasks import Task, batches

KEPT_BYTES = 256 * 2**20
"""What is kept of the training data at most, so that a further pass need not call the module again."""

_TRIED = 8
_AT_ONCE = 2**26  # numbers at the logits, of all roots, that are held at once

DRAWN = 4
"""Labels drawn for each example where there are too many roots for all of them, and the user does not say how many."""

EXACT = 64
"""Backward passes a batch up to which the curvature of what has a loss at several places is exact by default."""


@dataclass(frozen=True)
class Known:
    """What one batch was found to give.

    Attributes:
        losses: What each block read, and the gradients of the losses at what it returned.
        roots: The same for each root of the loss's Hessian in the logits.
    """

    losses: list[Uses] = field(default_factory=list)
    roots: list[list[Uses]] = field(default_factory=list)

    def nbytes(self) -> int:
        """Return the bytes of all tensors, each counted once."""
        uses = [*self.losses, *(each for several in self.roots for each in several)]
        tensors = {id(tensor): tensor for each in uses for tensor in (each.inputs, each.outputs)}
        return sum(tensor.nbytes for tensor in tensors.values())


def check_samples(samples: int | str | None) -> None:
    """Raise a ``ValueError`` for labels to draw that are no number, and not ``"all"``."""
    if isinstance(samples, str):
        choose("label_samples", samples, ["all"])
    elif samples is not None:
        check_whole(label_samples=samples)


def chosen_samples(
    samples: int | Literal["all"] | None, module: nn.Module, examples: Examples, task: Task, most: int | None = None
) -> int | None:
    """Return how many labels to draw for each example, None for none, as the roots are all taken.

    Args:
        samples: What the user says: a number, ``"all"``, or None to choose.
        module: The module.
        examples: The training data, of which one batch is tried.
        task: How module and batches are read.
        most: Roots up to which all are taken; by default all of one class an example, and :data:`EXACT` of what has a
            loss at several places.
    """
    if samples is not None:
        return None if isinstance(samples, str) else samples
    if most is None and type(task).roots is Task.roots:
        return None
    _, batch = next(iter(examples.batches()))
    batch = batches.to_full_precision(batches.clone(batch))
    with torch.no_grad():
        logits = task.logits(module, batch)
    if most is not None and logits[0].numel() > 64:  # not asked of a whole vocabulary
        return DRAWN
    most = EXACT if most is None else most
    return None if len(list(islice(task.roots(logits, batch), most + 1))) <= most else DRAWN


def loss_and_root_gradients(
    module: nn.Module,
    batch: Any,
    task: Task,
    blocks: Sequence[Block],
    samples: int | None = None,
    generator: torch.Generator | None = None,
) -> Known:
    """Return the gradients of a batch's losses and of its roots, from one forward pass where the losses read logits."""
    listening, heard, batch = copy(task), [], batches.to_full_precision(batches.clone(batch))

    def logits(module: nn.Module, batch: Any) -> Tensor:
        heard.append(task.logits(module, batch))
        return heard[-1]

    listening.logits = logits  # type: ignore[method-assign]
    with recording(blocks, batches.batch_size(batch)) as record:
        losses = record.gradients(listening.losses(module, batch).sum(), retain_graph=True)
        drawn = samples, generator
        roots = (
            _roots(record, heard[-1], batch, task, *drawn)
            if heard
            else root_gradients(module, batch, task, blocks, *drawn)
        )
    return Known(losses, roots)


def root_gradients(
    module: nn.Module,
    batch: Any,
    task: Task,
    blocks: Sequence[Block],
    samples: int | None = None,
    generator: torch.Generator | None = None,
) -> list[list[Uses]]:
    """Return for each root of the loss's Hessian in the logits what each block read, and the gradients behind it.

    Args:
        module: The module.
        batch: A batch.
        task: How module and batch are read.
        blocks: The blocks that are covered.
        samples: Labels drawn for each example, of which each makes a root; ``None`` for the roots of all classes.
        generator: Where they are drawn from.
    """
    batch = batches.to_full_precision(batches.clone(batch))
    with recording(blocks, batches.batch_size(batch)) as record:
        return _roots(record, task.logits(module, batch), batch, task, samples, generator)


def curvature_notes(module: nn.Module, examples: Examples, task: Task) -> tuple[str, ...]:
    """Return a note, and warn, where a task's losses curve in the logits otherwise than its roots say.

    So it is where a subclass weighs classes in ``losses`` alone. The Hessian of a few examples' losses is multiplied
    with a random vector, and the roots with the same; logits of more than 64 numbers an example are not tried.
    """
    listening, heard = copy(task), []

    def logits(module: nn.Module, batch: Any) -> Tensor:
        heard.append(task.logits(module, batch).detach().requires_grad_())
        return heard[-1]

    listening.logits = logits  # type: ignore[method-assign]
    batch = next(batch for _, batch in examples.batches())
    few = torch.arange(min(_TRIED, batches.batch_size(batch)))
    some = batches.to_full_precision(task.take(batches.clone(batch), few))
    losses = listening.losses(module, some)
    if len(heard) != 1 or heard[0][0].numel() > 64 or not bool(losses.isfinite().all()):
        return ()
    (at,) = heard
    vector = torch.randn(at.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(at)
    try:
        (gradient,) = torch.autograd.grad(losses.sum(), at, create_graph=True)
        slope = (gradient * vector).sum()
        product = torch.autograd.grad(slope, at)[0] if slope.requires_grad else torch.zeros_like(at)
    except RuntimeError:  # a loss that has no second derivative, or none at its logits, as it takes others
        return ()
    roots = torch.stack(list(task.roots(at.detach(), some)))
    along = (roots * vector).flatten(2).sum(dim=2)
    said = (roots * along.reshape(*along.shape, *[1] * (roots.dim() - 2))).sum(dim=0)
    error = float((product - said).norm() / torch.maximum(product.norm(), said.norm()).clamp(min=1e-12))
    if error < 1e-3:
        return ()
    said_by = "loss_roots" if type(task).roots is Task.roots else "roots"
    note = (
        f"{type(task).__name__}.losses curves in the logits otherwise than its `{said_by}` says (by {error:.0%}): "
        "override both, else the curvature is that of another loss"
    )
    warnings.warn(f"{note}.", stacklevel=2)
    return (note,)


def finite_only(roots: list[list[Uses]]) -> tuple[list[list[Uses]], int]:
    """Return root-gradients with those of examples that have some that are not finite as zero, and how many have."""
    checked = {id(tensor): tensor for uses in roots for each in uses for tensor in (each.inputs, each.outputs)}
    sums = [each.flatten(1).sum(dim=1).isfinite() for each in checked.values()]  # a third of the cost of each number
    finite = torch.stack(sums).all(dim=0)
    if bool(finite.all()):
        return roots, 0

    def kept(values: Tensor) -> Tensor:
        return values.where(finite.reshape(-1, *[1] * (values.dim() - 1)), 0)

    cleaned = [[Uses(each.block, kept(each.inputs), kept(each.outputs)) for each in uses] for uses in roots]
    return cleaned, int((~finite).sum())


def distinct(examples: Examples, task: Task) -> Iterator[tuple[Tensor, Any]]:
    """Yield ids and batches in which each id comes once, as a sampler that pads repeats some."""
    seen: set[int] = set()
    for ids, batch in examples.batches():
        fresh = []
        for place, each in enumerate(ids.tolist()):
            if each not in seen:
                fresh.append(place)
                seen.add(each)
        if len(fresh) == len(ids):
            yield ids, batch
        elif fresh:
            rows = torch.tensor(fresh)
            yield ids[rows], task.take(batch, rows)


@dataclass(frozen=True)
class Spread:
    """Some examples of others, spread evenly over their ids."""

    examples: Examples
    ids: list[int]

    def batches(self) -> Iterator[tuple[Tensor, Any]]:
        """Yield ids and batches."""
        return self.examples.take(self.ids)

    def take(self, ids: Sequence[int]) -> Iterator[tuple[Tensor, Any]]:
        """Yield the batches of the examples with these ids."""
        return self.examples.take(ids)


class RootGradients:
    """The root-gradients of the training data, to be gone through again and again inside the explaining scope.

    They are kept if they fit into :data:`KEPT_BYTES`, and else computed anew by a forward pass and a backward pass of
    each root.

    Args:
        module: The module.
        examples: The training data.
        task: How module and batches are read.
        blocks: The blocks that are covered.
        limit: How many examples to go through at most, spread evenly over their ids.
        samples: Labels drawn for each example, the same in each pass; ``None`` for all classes.
        seed: Seed of those.

    Attributes:
        ids: The ids of all training examples.
        examples: Examples gone through that have finite gradients, known after the first pass.
        skipped: Those that have not.
    """

    def __init__(
        self,
        module: nn.Module,
        examples: Examples,
        task: Task,
        blocks: Sequence[Block],
        limit: int | None = None,
        samples: int | None = None,
        seed: int = 0,
    ) -> None:
        self._module, self._task, self._blocks, self._samples, self._seed = module, task, blocks, samples, seed
        self.ids = torch.cat([ids for ids, _ in examples.batches()]).unique()
        self.source = examples
        if limit is not None and limit < len(self.ids):
            places = torch.linspace(0, len(self.ids) - 1, limit, dtype=torch.float64).round().long()
            self.source = Spread(examples, self.ids[places].tolist())
        self._kept: list[list[list[Uses]]] | None = None
        self._rows: int | None = None  # of a batch at once
        self.examples = self.skipped = 0

    def __iter__(self) -> Iterator[list[list[Uses]]]:
        if self._kept is not None:
            yield from self._kept
            return
        kept: list[list[list[Uses]]] = []
        size = 0
        self.examples = self.skipped = 0
        drawn = self._samples, torch.Generator().manual_seed(self._seed)
        for ids, batch in self._parts():
            roots, without = finite_only(root_gradients(self._module, batch, self._task, self._blocks, *drawn))
            self.examples, self.skipped = self.examples + len(ids) - without, self.skipped + without
            size += Known(roots=roots).nbytes()
            kept = [*kept, roots] if size <= KEPT_BYTES else []
            yield roots
        if size <= KEPT_BYTES:
            self._kept = kept

    def _parts(self) -> Iterator[tuple[Tensor, Any]]:
        """Yield ids and batches, so many examples at once that the roots of all of them fit into memory."""
        for ids, batch in distinct(self.source, self._task):
            if self._samples is None:
                yield ids, batch
                continue
            if self._rows is None:
                with torch.no_grad():
                    whole = batches.to_full_precision(batches.clone(batch))
                    one = self._task.logits(self._module, self._task.take(whole, torch.tensor([0])))
                self._rows = max(1, _AT_ONCE // (self._samples * one.numel()))
            for rows in torch.arange(len(ids)).split(self._rows):
                yield ids[rows], batch if len(rows) == len(ids) else self._task.take(batch, rows)


def _roots(
    record: Recording,
    logits: Tensor,
    batch: Any,
    task: Task,
    samples: int | None = None,
    generator: torch.Generator | None = None,
) -> list[list[Uses]]:
    known = logits.detach()
    if samples is not None:  # nothing can be drawn of what is no number; its gradients are none all the same
        known = known.nan_to_num()
    roots = task.roots(known, batch, samples, generator)
    found = [record.gradients((logits * root).sum(), retain_graph=True) for root in roots]
    return [
        [
            each if isinstance(each.block, Table) else Uses(each.block, first.inputs, each.outputs)
            for each, first in zip(uses, found[0], strict=True)
        ]
        for uses in found  # what was read is the same for every root, and held once; a table's inputs are gradients too
    ]
