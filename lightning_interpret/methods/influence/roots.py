"""The training data as curvature reads them: root-gradients of each example, once, and kept while memory allows."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from lightning_interpret.functional.influence.blocks import Block, Table
from lightning_interpret.functional.influence.gradients import Recording, Uses, recording
from lightning_interpret.methods.examples import Examples
from lightning_interpret.tasks import Task, batches

KEPT_BYTES = 256 * 2**20
"""What is kept of the training data at most, so that a further pass need not call the module again."""

_TRIED = 8


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


def loss_and_root_gradients(module: nn.Module, batch: Any, task: Task, blocks: Sequence[Block]) -> Known:
    """Return the gradients of a batch's losses and of its roots, from one forward pass where the losses read logits."""
    listening, heard, batch = copy(task), [], batches.to_full_precision(batches.clone(batch))

    def logits(module: nn.Module, batch: Any) -> Tensor:
        heard.append(task.logits(module, batch))
        return heard[-1]

    listening.logits = logits  # type: ignore[method-assign]
    with recording(blocks, batches.batch_size(batch)) as record:
        losses = record.gradients(listening.losses(module, batch).sum(), retain_graph=True)
        roots = _roots(record, heard[-1], task) if heard else root_gradients(module, batch, task, blocks)
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
        return _roots(record, task.logits(module, batch), task, samples, generator)


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
    losses = listening.losses(module, batches.to_full_precision(task.take(batches.clone(batch), few)))
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
    roots = task.loss_roots(at.detach())
    along = (roots * vector).flatten(2).sum(dim=2)
    said = (roots * along.reshape(*along.shape, *[1] * (roots.dim() - 2))).sum(dim=0)
    error = float((product - said).norm() / torch.maximum(product.norm(), said.norm()).clamp(min=1e-12))
    if error < 1e-3:
        return ()
    note = (
        f"{type(task).__name__}.losses curves in the logits otherwise than its `loss_roots` says (by {error:.0%}): "
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
        self.examples = self.skipped = 0

    def __iter__(self) -> Iterator[list[list[Uses]]]:
        if self._kept is not None:
            yield from self._kept
            return
        kept: list[list[list[Uses]]] = []
        size = 0
        self.examples = self.skipped = 0
        drawn = self._samples, torch.Generator().manual_seed(self._seed)
        for ids, batch in distinct(self.source, self._task):
            roots, without = finite_only(root_gradients(self._module, batch, self._task, self._blocks, *drawn))
            self.examples, self.skipped = self.examples + len(ids) - without, self.skipped + without
            size += Known(roots=roots).nbytes()
            kept = [*kept, roots] if size <= KEPT_BYTES else []
            yield roots
        if size <= KEPT_BYTES:
            self._kept = kept


def _roots(
    record: Recording,
    logits: Tensor,
    task: Task,
    samples: int | None = None,
    generator: torch.Generator | None = None,
) -> list[list[Uses]]:
    known = logits.detach()
    if samples is not None:  # nothing can be drawn of what is no number; its gradients are none all the same
        known = known.nan_to_num()
    roots = task.loss_roots(known, samples, generator)
    found = [record.gradients((logits * root).sum(), retain_graph=True) for root in roots]
    return [
        [
            each if isinstance(each.block, Table) else Uses(each.block, first.inputs, each.outputs)
            for each, first in zip(uses, found[0], strict=True)
        ]
        for uses in found  # what was read is the same for every root, and held once; a table's inputs are gradients too
    ]
