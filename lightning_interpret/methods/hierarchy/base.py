"""What every hierarchical method shares: options, two calls, and the rows of its record."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from operator import index
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from lightning_interpret.functional.baselines import Baseline
from lightning_interpret.functional.hierarchy.tree import Parts, Span, level_order
from lightning_interpret.functional.scope import explaining
from lightning_interpret.methods.case import Case
from lightning_interpret.methods.describe import described, text_fields
from lightning_interpret.methods.hierarchy.reading import UNITS, Reading, reading
from lightning_interpret.methods.occlusion import DELETE
from lightning_interpret.names import check_whole, choose
from lightning_interpret.records.span_tree import SpanNode, SpanTree, SpanTreeRow
from lightning_interpret.tasks import OUTPUTS, Regression, Task, batches
from lightning_interpret.tasks.placed import PlacedTask

HIERARCHICAL: dict[str, type[HierarchicalMethod]] = {}
_RANDOM = 8  # spans that the foremost one is compared with
_NO_NUMBER = "the model's score is not a finite number for some parts of the text"


@dataclass(frozen=True)
class Grown:
    """How one text was divided or put together, and the scores of spans that are known from that."""

    parts: Parts
    scores: Mapping[Span, float] = field(default_factory=dict)


@dataclass(frozen=True)
class HierarchicalMethod(ABC):
    """A way to make a tree of the spans of a text, with its options. Subclasses are registered under their ``name``."""

    name: ClassVar[str]
    baseline: str | Baseline = "default"
    unit: Literal["word", "token"] = "word"
    internal_batch_size: int | None = None

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "name" in vars(cls):
            HIERARCHICAL[cls.name] = cls

    def __post_init__(self) -> None:
        """Refuse options that are out of their range; the message names them."""
        choose("unit", self.unit, UNITS)
        if self.internal_batch_size is not None:
            check_whole(internal_batch_size=self.internal_batch_size)
        used = self.baseline_used
        if used is not None and used.kind == "distribution":
            raise ValueError(f"`baseline={used.name!r}`: {self.name} takes one baseline, and no distribution of them.")

    def __call__(
        self, module: nn.Module, batch: Any, task: Task, *, which: str = "predicted", output: str = "margin"
    ) -> SpanTree:
        """Return the tree of each target of a batch, such as the class of a text; the module is left as it was.

        Of a token that is written the tree is of what is read for it, and ``which="predicted sequence"`` has one tree
        of all that is written to a text.

        Args:
            module: The module to explain; it may be in training mode.
            batch: A batch of texts as the task reads it, on the module's device.
            task: How module and batch are read.
            which: ``predicted``, ``gold``, a label, or a contrast ``A-B``.
            output: ``margin`` (over the class that is second at x, and stays it), ``logit``, ``log_prob`` or ``prob``.

        Raises:
            ValueError: If the class or the output does not exist, or the baseline cannot be made.
        """
        with self._reading(module, batch, task, which, output) as opened:
            grown = self.grow(opened)
            wanted = [(i, span) for i, each in enumerate(grown) for span in _spans(each, int(opened.lengths[i]))]
            unknown = [(i, span) for i, span in wanted if span not in grown[i].scores]
            found = dict(zip(unknown, self._scored(opened, unknown), strict=True))
            scores = {(i, span): grown[i].scores.get(span, found.get((i, span), math.nan)) for i, span in wanted}
            rows = [self._row(opened, i, each.parts, scores) for i, each in enumerate(grown)]
            example = tuple(opened.case.targets.example.tolist())
            return SpanTree(tuple(self._erased(opened, rows)), example)

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
        """Return the score of given spans of each text, such as the phrases of a parse.

        Args:
            module: The module to explain; it may be in training mode.
            batch: A batch of texts as the task reads it, on the module's device.
            task: How module and batch are read.
            spans: For each text its spans ``(start, end)`` in units, words by default, the end not included.
            which: ``predicted``, ``gold``, a label, or a contrast ``A-B``.
            output: ``margin``, ``logit``, ``log_prob`` or ``prob``.

        Raises:
            ValueError: If there are not spans of every text, or one of them is no pair, empty, or outside of its text.
        """
        with self._reading(module, batch, task, which, output) as opened:
            if len(spans) != len(opened.lengths):
                raise ValueError(f"`spans` are of {len(spans)} texts, but the batch has {len(opened.lengths)}.")
            for i, (of, length) in enumerate(zip(spans, opened.lengths.tolist(), strict=True)):
                wrong = [span for span in of if not _is_span(span, length)]
                if wrong:
                    raise ValueError(
                        f"`spans`: {wrong[0]} is no span of text {i}, which has {length} {self.unit}s: give `(start, "
                        "end)` with 0 ≤ start < end, the end not included."
                    )
            found = iter(self._scored(opened, [(i, span) for i, of in enumerate(spans) for span in of]))
            return tuple(tuple(next(found) for _ in of) for of in spans)

    def check(self, module: nn.Module, task: Task, which: str, output: str) -> None:
        """Raise for what no call could serve, whatever the batch: so a Monitor says it before training starts."""
        choose("output", output, OUTPUTS)
        if self.baseline == DELETE and isinstance(task, PlacedTask):
            raise ValueError(
                f"`baseline='delete'`: {self.name} takes tokens out of the text, and what {type(task).__name__} "
                "explains stands at places of it, which would move: use another, such as 'pad', 'mask' or 'zero'."
            )
        if output != "logit" and isinstance(task, Regression):
            raise ValueError(
                f"`output={output!r}`: {self.name} of a {type(task).__name__} is of a number, which is no class: use "
                "`output='logit'`."
            )
        task.check(module, which, self.baseline_used)

    @abstractmethod
    def grow(self, opened: Reading) -> list[Grown]:
        """Return how each text is divided or put together."""

    @abstractmethod
    def scores(self, opened: Reading, rows: Tensor, starts: Tensor, ends: Tensor) -> Tensor:
        """Return the score of spans from units ``starts`` to ``ends`` of given rows, float64 ``(M,)``."""

    @property
    @abstractmethod
    def measure(self) -> str:
        """What a score is, in words."""

    @property
    @abstractmethod
    def joins(self) -> str:
        """What an interaction is, in words."""

    @property
    def baseline_used(self) -> Baseline | None:
        """What stands at absent tokens, or None where they are deleted."""
        return None if self.baseline == DELETE else Baseline.ensure(self.baseline)

    @contextmanager
    def _reading(self, module: nn.Module, batch: Any, task: Task, which: str, output: str) -> Iterator[Reading]:
        choose("output", output, OUTPUTS)
        with explaining(module):
            batch = task.prepared(module, batches.clone(batch))
            options: dict[str, Any] = {"which": which, "output": output, "baseline": self.baseline, "unit": self.unit}
            with reading(module, batch, task, chunk=self.internal_batch_size, **options) as opened:
                yield opened

    def _scored(self, opened: Reading, spans: Sequence[tuple[int, Span]]) -> list[float]:
        if not spans:
            return []
        rows, starts, ends = torch.tensor([(i, *span) for i, span in spans]).unbind(dim=1)
        return self.scores(opened, rows, starts, ends).tolist()

    def _row(self, opened: Reading, i: int, parts: Parts, scores: Mapping[tuple[int, Span], float]) -> dict[str, Any]:
        """Return the fields of a row, but for what erasing its foremost span does."""
        case = opened.case
        baseline = case.described["baseline"] or (DELETE if opened.deleted else None)
        nodes = tuple(
            SpanNode(n.start, n.end, scores[i, (n.start, n.end)], n.parent, n.children, n.interaction)
            for n in level_order(int(opened.lengths[i]), parts)
        )
        reasons = {name: why for name, why in case.described["reasons"].items() if name in ("gold", "example_id")}
        reasons |= _not_finite(score=[n.score for n in nodes], interaction=[n.interaction for n in nodes])
        target = {name: case.described[name] for name in ("prediction", "gold")}
        of_target = {name: known[i] for name, known in target.items() if known is not None}
        return (
            text_fields(case.units, i)
            | (of_target if opened.task.view else {})
            | {
                "nodes": nodes,
                "unit": self.unit,
                "method": self.name,
                "measure": self.measure,
                "joins": self.joins,
                "baseline": baseline,
                "output": case.output,
                "target_name": case.targets.name[i],
                "span": _among_kept(case, i),
                "target": float(opened.target[i]),
                "baseline_target": float(opened.nothing[i]) if len(nodes) else None,
                "notes": tuple(case.described["notes"][i]),
                "reasons": reasons,
            }
        )

    def _erased(self, opened: Reading, rows: Sequence[dict[str, Any]]) -> Iterator[SpanTreeRow]:
        """Yield the rows with what erasing the foremost span does, and what erasing random ones as long does."""
        trees = [SpanTreeRow(**fields) for fields in rows]
        tried = [(i, span) for i, tree in enumerate(trees) for span in _foremost_and_others(tree)]
        lost: list[float] = []
        if tried:
            of, starts, ends = torch.tensor([(i, *span) for i, span in tried]).unbind(dim=1)
            lost = (opened.target[of] - opened.without(of, opened.spans(starts, ends))).tolist()
        facts = described(opened.module, opened.batch, opened.task)
        for i, fields in enumerate(rows):
            falls = [fall for (of_row, _), fall in zip(tried, lost, strict=True) if of_row == i]
            reasons = fields["reasons"]
            if not falls:
                why = _NO_NUMBER if "score" in reasons else "no span has at most half of the text"
                reasons = (
                    reasons
                    | {"erased": why, "control": why}
                    | {"erased": why}
                    | {"erased": "no span has at most half of the text"}
                )
            elif len(falls) == 1:
                reasons = reasons | {"control": "there is no other span as long as the foremost one"}
            own: dict[str, Any] = {
                "erased": falls[0] if falls else None,
                "control": sum(falls[1:]) / len(falls[1:]) if len(falls) > 1 else None,
                "forwards": int(opened.forwards[i]),
            }
            own["reasons"] = reasons | _not_finite(erased=[own["erased"]], control=[own["control"]])
            yield SpanTreeRow(**facts[int(opened.case.targets.example[i])] | fields | own)


def hierarchical_named(method: str | HierarchicalMethod) -> HierarchicalMethod:
    """Return a method, by its name with default options, or as it is.

    Raises:
        ValueError: If there is no method of this name; the near ones are named.
    """
    if isinstance(method, HierarchicalMethod):
        return method
    return HIERARCHICAL[choose("method", method, HIERARCHICAL)]()


def _spans(grown: Grown, length: int) -> list[Span]:
    return [(node.start, node.end) for node in level_order(length, grown.parts)]


def _not_finite(**figures: Sequence[float | None]) -> dict[str, str]:
    """Return the reason of each figure that has a value which is no number."""
    known = {name: [value for value in values if value is not None] for name, values in figures.items()}
    return {name: _NO_NUMBER for name, values in known.items() if not all(map(math.isfinite, values))}


def _among_kept(case: Case, row: int) -> tuple[int, int] | None:
    """Return where the target of a row stands among its tokens that are no padding."""
    spans = case.described["span"]
    if spans is None or spans[row] is None:
        return None
    begin, end = spans[row]
    before = int(case.units.padding[row, :begin].sum())
    return begin - before, end - before


def _foremost_and_others(tree: SpanTreeRow) -> list[Span]:
    """Return the foremost span of a tree, then others as long that are drawn at random, the same for the same text."""
    foremost = tree.foremost
    if foremost is None:
        return []
    size, length = foremost.end - foremost.start, tree.nodes[0].end
    others = [start for start in range(length - size + 1) if start != foremost.start]
    order = torch.randperm(len(others), generator=torch.Generator().manual_seed(0)).tolist()
    return [(foremost.start, foremost.end), *((others[k], others[k] + size) for k in order[:_RANDOM])]


def _is_span(given: Any, length: int) -> bool:
    """Whether it is two whole numbers, the ends of a span of so many units."""
    try:
        start, end = map(index, given)
    except (TypeError, ValueError):
        return False
    return 0 <= start < end <= length
