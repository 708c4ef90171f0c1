"""What hierarchical methods ask of a model: its score with some units of a text absent, or in other contexts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from lightning_interpret.explanations import Units
from lightning_interpret.functional.baselines import Baseline
from lightning_interpret.functional.features import find_layer
from lightning_interpret.methods.case import Case, open_case
from lightning_interpret.methods.occlusion import DELETE
from lightning_interpret.tasks import Task, batches

UNITS = ("word", "token")


@dataclass
class Reading:
    """N texts as they were read, cut into units.

    Attributes:
        case: The features at x and x' and the function between them.
        module: The module.
        batch: The batch.
        task: How both are read.
        owner: Long ``(N, T)``, the unit of each token; −1 for special tokens and padding.
        lengths: Long ``(N,)``, the units of each text.
        deleted: Whether absent tokens are taken out of the text, and not replaced.
        forwards: Long ``(N,)``, forward passes that each text took.
    """

    case: Case
    module: nn.Module
    batch: Any
    task: Task
    owner: Tensor
    lengths: Tensor
    deleted: bool
    forwards: Tensor

    @cached_property
    def nothing(self) -> Tensor:
        """F with no unit there, float64 ``(N,)``."""
        every = torch.arange(len(self.lengths))
        return self.only(every, torch.zeros(len(every), int(self.lengths.max()), dtype=torch.bool))

    @property
    def target(self) -> Tensor:
        """F(x), float64 ``(N,)``."""
        return self.case.target.double().cpu()

    def spans(self, starts: Tensor, ends: Tensor) -> Tensor:
        """Return the units of spans, bool ``(M, L)``."""
        places = torch.arange(int(self.lengths.max()))
        return (places >= starts[:, None]) & (places < ends[:, None])

    def tokens(self, rows: Tensor, units: Tensor) -> Tensor:
        """Return the tokens of units ``(M, L)`` of given rows ``(M,)``, bool ``(M, T)``."""
        owner = self.owner[rows]
        if not units.shape[1]:
            return torch.zeros_like(owner, dtype=torch.bool)
        return units.gather(1, owner.clamp(min=0)) & (owner >= 0)

    def only(self, rows: Tensor, units: Tensor) -> Tensor:
        """Return F with only these units there, and special tokens; float64 ``(M,)``."""
        return self.scores(rows, ~self.tokens(rows, units) & (self.owner[rows] >= 0))

    def without(self, rows: Tensor, units: Tensor) -> Tensor:
        """Return F without these units, float64 ``(M,)``."""
        return self.scores(rows, self.tokens(rows, units))

    def scores(self, rows: Tensor, absent: Tensor, ids: Tensor | None = None) -> Tensor:
        """Return F without some tokens ``(M, T)`` of given rows, where ``ids`` ``(M, T)`` stand if given; ``(M,)``."""
        found = torch.zeros(len(rows), dtype=torch.float64)
        for some in self.passes(rows, self.case.chunk):
            texts = None if ids is None else ids[some]
            found[some] = self._pass(rows[some], absent[some], texts).double().cpu()
        self.forwards += torch.bincount(rows, minlength=len(self.forwards))
        return found

    def passes(self, rows: Tensor, size: int) -> Iterator[Tensor]:
        """Yield places in ``rows``, ``size`` at a time: texts of one pass have as little padding as can be."""
        rank = torch.empty_like(self.case.order)
        rank[self.case.order] = torch.arange(len(rank))
        yield from (some for some in rank[rows].argsort(stable=True).split(max(1, size)) if len(some))

    def ids(self, rows: Tensor) -> Tensor:
        """Return the token ids of given rows, ``(M, T)``.

        Raises:
            ValueError: If the task does not say which they are.
        """
        if not hasattr(self.task, "input_ids"):
            raise ValueError(
                f"`n_samples` replaces tokens by others, but {type(self.task).__name__} has no `input_ids(parts)`: "
                "define it, or leave `sampler` out."
            )
        ids: Tensor = self.task.input_ids(batches.as_mapping(self.batch))
        return ids[self.case.targets.example[rows.to(ids.device)]]

    def _pass(self, rows: Tensor, absent: Tensor, ids: Tensor | None) -> Tensor:
        case, device = self.case, self.case.target.device
        rows, absent = rows.to(device), absent.to(device)
        with torch.no_grad():
            if self.deleted:
                some = self.task.take(self.batch, case.targets.example[rows])
                if ids is not None:
                    own = self.task.input_ids(batches.as_mapping(some))  # type: ignore[attr-defined]
                    some = batches.map_leaves(lambda leaf: ids if leaf is own else leaf, some)
                shorter = self.task.delete(self.module, some, absent)
                return self.task.score(self.task.logits(self.module, shorter), case.targets.at(rows), case.output)
            assert case.baselines is not None
            points = case.inputs[rows] if ids is None else self._embedded(ids)
            return case.score(torch.where(absent[..., None], case.baselines[rows], points), rows)

    def _embedded(self, ids: Tensor) -> Tensor:
        embed = find_layer(self.module, self.case.layer).forward  # past its hooks, as a task's baselines are made
        return embed(ids.to(self.case.inputs.device)).to(self.case.inputs)


@contextmanager
def reading(
    module: nn.Module,
    batch: Any,
    task: Task,
    *,
    which: str,
    output: str,
    baseline: str | Baseline,
    unit: str,
    chunk: int | None,
) -> Iterator[Reading]:
    """Read module, batch and task, and keep the word embeddings open for other values while the block lasts.

    Raises:
        ValueError: If the units are no tokens of a text.
    """
    deleted = baseline == DELETE
    used = None if deleted else Baseline.ensure(baseline)
    with (
        torch.no_grad(),
        open_case(module, batch, task, layer=None, which=which, output=output, baseline=used, chunk=chunk) as case,
    ):
        if case.units.kind != "token":
            raise ValueError(f"Spans are of the tokens of a text, but the units are of kind {case.units.kind!r}.")
        owner = _owner(case.units, unit)
        lengths = owner.amax(dim=1) + 1
        yield Reading(case, module, batch, task, owner, lengths, deleted, case.forwards.clone())


def _owner(units: Units, unit: str) -> Tensor:
    """Return the unit of each token, long ``(N, T)``, counted from 0 in reading order; −1 where it is of none."""
    content = ~(units.special | units.padding)
    if unit == "token":
        return (content.long().cumsum(dim=1) - 1).masked_fill(~content, -1)
    words = torch.tensor([[-1 if word is None else word for word in row] for row in units.word_ids])
    return words.masked_fill(~content, -1)  # of a token that is written what comes after it is none of its words
