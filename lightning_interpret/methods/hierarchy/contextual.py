"""Contextual decomposition: of tokens, as an attribution, and of spans, as a tree from below."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from lightning_interpret.explanations import Attribution
from lightning_interpret.functional.baselines import Baseline
from lightning_interpret.functional.hierarchy.contextual import contextual_decomposition
from lightning_interpret.functional.hierarchy.tree import Span
from lightning_interpret.functional.occlusion import share
from lightning_interpret.methods.base import Method
from lightning_interpret.methods.case import Case, open_case
from lightning_interpret.methods.hierarchy.agglomerative import Agglomerative
from lightning_interpret.methods.hierarchy.reading import UNITS, Reading
from lightning_interpret.methods.occlusion import DELETE
from lightning_interpret.methods.unit_sets import UnitSets, unit_sets
from lightning_interpret.names import choose
from lightning_interpret.tasks import Task

CROSS = ("irrelevant", "shared")
_STATES = 4  # of a forward pass


@dataclass(frozen=True)
class AgglomerativeContextualDecomposition(Agglomerative):
    """ACD: spans scored by contextual decomposition, and joined from below (Singh, Murdoch and Yu, 2019).

    The score of a span is its β: what comes of it in its context, by one forward pass in four states, whatever the
    span (:mod:`~lightning_interpret.functional.hierarchy.contextual`). Neighbours whose β together differs most from
    the sum of theirs are joined first.

    Args:
        baseline: Name of the x' whose contribution counts as the constant; by default the zero embedding, so that only
            biases, positions and special tokens do, or a :class:`Baseline`.
        unit: ``word`` or ``token``, the smallest spans.
        internal_batch_size: Texts in one pass; by default as many as make 512 tokens (1,024 on a GPU).
        percentile: Pairs of neighbours above it are joined in one step, at least one; 100 for one at a time.
        cross: Where what a product makes of the span and the rest goes: ``irrelevant`` (Murdoch et al., 2018), or
            ``shared``, half to each, with which scores of a BiLSTM agreed more with people's ratings of SST's phrases
            (``benchmarks/hierarchy.py``).

    Raises:
        ValueError: If an option does not exist or is out of its range; on a call (a
            :class:`~lightning_interpret.functional.hierarchy.contextual.ContextualError`) if an operation has no rule.
    """

    name: ClassVar[str] = "acd"
    baseline: str | Baseline = "zero"
    unit: Literal["word", "token"] = "word"
    internal_batch_size: int | None = None
    percentile: float = 95.0
    cross: Literal["irrelevant", "shared"] = "irrelevant"

    def __post_init__(self) -> None:
        super().__post_init__()
        choose("cross", self.cross, CROSS)
        if self.baseline == DELETE:
            raise ValueError("`baseline='delete'`: a decomposition is of the text as it is; use 'zero' or 'pad'.")

    def scores(self, opened: Reading, rows: Tensor, starts: Tensor, ends: Tensor) -> Tensor:
        """Return β of each span."""
        inside, found = opened.tokens(rows, opened.spans(starts, ends)), torch.zeros(len(rows), dtype=torch.float64)
        for some in opened.passes(rows, _chunk(opened.case, self.internal_batch_size)):
            found[some] = _relevant(opened.case, rows[some], inside[some], self.cross)
        opened.forwards += _STATES * torch.bincount(rows, minlength=len(opened.forwards))
        return found

    @property
    def measure(self) -> str:
        """What a score is, in words."""
        return "what comes of the span in its context, by contextual decomposition"


@dataclass(frozen=True)
class ContextualDecomposition(Method):
    """β of each token or word: what of F(x) comes of it in its context (Murdoch, Liu and Yu, 2018).

    F(x) = κ + β + γ, with κ what constants make, β what the unit does with itself and with constants, and γ all that
    the rest has a part in. The scores are compared with β of the whole text, F(x) − κ: ``error`` is by how much units
    do something together that is in the β of none of them. It is a property of the model, and of no quadrature.
    Operations are met as the model calls them, recurrent cells gate by gate, and one without a rule is refused by name.

    Args:
        baseline: Name of the x' whose contribution counts as the constant; by default the zero embedding, or a
            :class:`Baseline`.
        unit: ``token`` or ``word``; what a word contributes is shared out to its tokens in equal parts.
        cross: Where what a product makes of the unit and the rest goes: ``irrelevant``, or ``shared``, half to each.
        error_floor: Floor τ of the relative error's denominator, in units of the output.
        internal_batch_size: Units in one pass; by default as many as make 512 tokens (1,024 on a GPU).

    Raises:
        ValueError: If an option does not exist; on a call (a
            :class:`~lightning_interpret.functional.hierarchy.contextual.ContextualError`) if an operation has no rule.
    """

    name: ClassVar[str] = "contextual_decomposition"
    baseline: str | Baseline = "zero"
    unit: Literal["token", "word"] = "token"
    cross: Literal["irrelevant", "shared"] = "irrelevant"
    error_floor: float = 0.01
    internal_batch_size: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        choose("unit", self.unit, UNITS)
        choose("cross", self.cross, CROSS)

    def attribute(
        self, module: nn.Module, batch: Any, task: Task, layer: str | None, which: str, output: str
    ) -> Attribution:
        """Return β of each unit of one layer."""
        baseline, chunk = Baseline.ensure(self.baseline), self.internal_batch_size
        with (
            torch.no_grad(),
            open_case(
                module, batch, task, layer=layer, which=which, output=output, baseline=baseline, chunk=chunk
            ) as case,
        ):
            moved = case.moved()
            sets, size = unit_sets(case.units, moved, self.unit, order=case.order), _chunk(case, chunk)
            every = self._of(case, sets, size)
            scores = share(every, sets.split(size), moved.shape)
            whole = torch.zeros(len(moved), dtype=torch.float64)
            for rows in case.order.split(size):
                whole[rows] = _relevant(case, rows, moved[rows], self.cross)
            why = "one forward pass in four states a unit: there is no path, and no step to refine"
            reasons = dict.fromkeys(("converged", "partial_error", "steps"), why)
            values = case.errors(scores, self.error_floor, attribution_target=whole)
            forwards = case.forwards + _STATES * (1 + torch.bincount(sets.row, minlength=len(scores)))
            return case.record(self, scores, forwards=forwards, reasons=reasons, **values)

    def score_spans(
        self,
        module: nn.Module,
        batch: Any,
        task: Task,
        spans: Sequence[Sequence[Span]],
        *,
        which: str = "predicted",
        output: str = "margin",
    ) -> tuple[tuple[float, ...], ...]:
        """Return β of given spans of each text, as :meth:`AgglomerativeContextualDecomposition.score_spans`."""
        tree = AgglomerativeContextualDecomposition(
            self.baseline, self.unit, self.internal_batch_size, cross=self.cross
        )
        return tree.score_spans(module, batch, task, spans, which=which, output=output)

    def _of(self, case: Case, sets: UnitSets, size: int) -> Tensor:
        found = [_relevant(case, rows, units, self.cross) for rows, units in sets.split(size)]
        return torch.cat(found) if found else torch.zeros(0, dtype=torch.float64)


def _chunk(case: Case, asked: int | None) -> int:
    return asked or max(1, case.chunk // _STATES)


def _relevant(case: Case, rows: Tensor, units: Tensor, cross: str) -> Tensor:
    """Return β of units ``(M, T)`` of given rows, float64 on the CPU."""
    assert case.baselines is not None
    inside = case.to_features(units)
    rows = rows.to(case.inputs.device)
    found = contextual_decomposition(case.score, case.inputs[rows], case.baselines[rows], inside, rows, cross=cross)
    return found.relevant.cpu()
