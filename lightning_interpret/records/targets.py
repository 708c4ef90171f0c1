"""The record of one example with several things explained: generated tokens, entities, an answer, several labels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any, ClassVar

from lightning_interpret.names import choose
from lightning_interpret.records.tokens import TokensRow
from lightning_interpret.records.units import Unit, kept_of, units_of

#: How the targets of an example are shown: source × output, spans with types in the text, the passage with the answer,
#: a line a label.
VIEWS = ("grid", "entities", "answer", "labels")


@dataclass(frozen=True)
class Target:
    """One thing that is explained of an example; the fields are those of :class:`AttributionRow`.

    Attributes:
        name: What it is: a generated token, an entity's type, an answer, a label.
        scores: One for each of the first tokens of the record, as many as are read for this target.
        value: F(x).
        span: First token that the target is at and one past the last; a generated token is not read for its own
            prediction, and stands behind ``scores``. None where it is at no place.
        prediction: What the model says there.
        gold: What is right there.
        baseline_value: F(x').
        attribution_target: What the scores are to sum to.
        error: Σ scores − attribution_target.
        relative_error: Its size as a share of the attribution target's.
        steps: Nodes of the path.
        converged: Whether the error met its tolerance.
    """

    name: str
    scores: tuple[float, ...]
    value: float
    span: tuple[int, int] | None = None
    prediction: str | None = None
    gold: str | None = None
    baseline_value: float | None = None
    attribution_target: float | None = None
    error: float | None = None
    relative_error: float | None = None
    steps: int | None = None
    converged: bool | None = None

    def __post_init__(self) -> None:
        known = (math.nan if score is None else score for score in self.scores)
        object.__setattr__(self, "scores", tuple(known))  # what JSON could not hold was no number
        span = self.span
        whole = span is not None and len(span) == 2 and all(isinstance(at, int) for at in span) and span[0] < span[1]
        object.__setattr__(self, "span", span if whole else None)

    @property
    def wrong(self) -> bool:
        """Whether the prediction at this place is known to be wrong."""
        return self.gold is not None and self.prediction not in (None, self.gold)


@dataclass(frozen=True, kw_only=True)
class TargetsRow(TokensRow):
    """What each of several targets of one example comes from.

    Attributes:
        view: How they are shown, one of ``VIEWS``.
        targets: The targets, in the order of the text.
        output: What of each target was explained: ``logit``, ``log_prob``, ``prob`` or ``margin``.
        method: Name of the method.
        layer: Name of the layer attributed to.
        baseline: Name of the baseline.
        segment_names: Name of each ``segment``: ``("prompt", "output")``, ``("question", "context")``.
    """

    kind: ClassVar[str] = "targets"
    parts: ClassVar[Mapping[str, type]] = {"targets": Target}

    view: str = "labels"
    targets: tuple[Target, ...] = ()
    output: str = "logit"
    method: str = ""
    layer: str = ""
    baseline: str | None = None
    segment_names: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        choose("view", self.view, VIEWS)

    @classmethod
    def of(
        cls, rows: Sequence[Any], view: str, *, prediction: str | None = None, gold: str | None = None
    ) -> TargetsRow:
        """Return the record of the targets of one example.

        Args:
            rows: The :class:`AttributionRow` of each target; they are of one example, method and layer.
            view: How they are shown, one of ``VIEWS``.
            prediction: What the model says of the whole example.
            gold: What is right of it.

        Raises:
            ValueError: If there is no row.
        """
        if not rows:
            raise ValueError("`rows` is empty: an example without a target has no record.")
        longest = max(rows, key=lambda row: len(row.tokens))
        return cls(
            view=view,
            targets=tuple(_target(row) for row in rows),
            output=longest.output,
            method=longest.method,
            layer=longest.layer,
            baseline=longest.baseline,
            segment_names=longest.segment_names,
            tokens=longest.tokens,
            word_ids=longest.word_ids,
            words=longest.words,
            special=longest.special,
            offsets=longest.offsets,
            segment=longest.segment,
            example_id=longest.example_id,
            prediction=prediction,
            gold=gold,
            notes=tuple(dict.fromkeys(note for row in rows for note in row.notes)),
            reasons=longest.reasons,
        )

    def summed_scores(self) -> tuple[float, ...]:
        """Return the sum of the targets' scores at each token."""
        padded = [(*target.scores, *[0.0] * (len(self.tokens) - len(target.scores))) for target in self.targets]
        return tuple(map(sum, zip(*padded, strict=True)))

    def by_segment(self) -> tuple[tuple[float, ...], ...]:
        """Return for each target the sum of its scores over each segment: prompt and earlier output apart."""
        of = self.segment or (0,) * len(self.tokens)
        known = max(len(self.segment_names or ()), 1 + max((part or 0 for part in of), default=0))
        return tuple(
            tuple(
                sum(score for score, segment in zip(target.scores, of, strict=False) if segment == number)
                for number in range(known)
            )
            for target in self.targets
        )

    def narrowed(self, most: int, around: int = 1) -> TargetsRow:
        """Return the record with about so many words at most, a special token for each stretch that is left out.

        The words that targets are at are kept, then the strongest with those ``around`` them. The score of what stands
        for a stretch is the sum of its scores, so that all sums are what they were.
        """
        units = units_of(self)
        if len(units) <= most:
            return self
        of_spans = () if self.view == "grid" else (target.span for target in self.targets)
        spans = [span for span in of_spans if span is not None]
        always = [i for i, unit in enumerate(units) if any(a < unit.end and unit.start < b for a, b in spans)]
        weights = [self._weight(unit) for unit in units]
        alone: list[int] = []
        for part in {unit.segment for unit in units}:  # no part of the text goes unseen
            inside = sorted((i for i, unit in enumerate(units) if unit.segment == part), key=lambda i: -weights[i])
            alone += inside[: -(-most // 4)]
        kept = kept_of(weights, most, around, always, alone)
        stretches = [
            list(places) for _, places in groupby(range(len(units)), key=lambda i: (units[i].segment, i in kept))
        ]
        left_out = [found for found in stretches if found[0] not in kept]
        return self._without([(units[run[0]].start, units[run[-1]].end, units[run[0]].segment) for run in left_out])

    def _weight(self, unit: Unit) -> float:
        """Return the largest size of a word's score in any target; of a special token it does not count."""
        sums = (sum(of.scores[unit.start : unit.end]) for of in self.targets if of.scores[unit.start : unit.end])
        return -1.0 if unit.special else max((abs(score) for score in sums if math.isfinite(score)), default=0.0)

    def _without(self, stretches: Sequence[tuple[int, int, int]]) -> TargetsRow:
        """Return the record with one token in the place of each stretch of them."""
        ends = {start: (end, segment) for start, end, segment in stretches}
        runs: list[tuple[int, int, int | None]] = []  # first token, the one after the last, the segment left out
        while (place := runs[-1][1] if runs else 0) < len(self.tokens):
            end, segment = ends.get(place, (place + 1, None))
            runs.append((place, end, segment))
        number = {i: at for at, (start, end, _) in enumerate(runs) for i in range(start, end)}
        size = len(self.tokens)

        def placed(at: int) -> int:
            return number[at] if 0 <= at < size else len(runs) + at - size

        def each(values: Sequence[Any] | None, instead: Any) -> Any:
            if not values:
                return values
            filled = [*values[:size], *[instead] * (size - len(values))]
            return tuple(filled[start] if segment is None else instead for start, _, segment in runs)

        def narrow(target: Target) -> Target:
            read = [run for run in runs if run[0] < len(target.scores)]
            scores = tuple(
                target.scores[start] if segment is None else sum(target.scores[start:end])
                for start, end, segment in read
            )
            span = target.span and (placed(target.span[0]), placed(target.span[1] - 1) + 1)
            return replace(target, scores=scores, span=span)

        parts = self.segment or ()
        return replace(
            self,
            tokens=tuple(
                self.tokens[start] if segment is None else _left_out(end - start) for start, end, segment in runs
            ),
            word_ids=each(self.word_ids, None),
            special=each(self.special or (False,) * size, True),
            offsets=each(self.offsets, (0, 0)),
            segment=tuple(parts[a] if s is None and a < len(parts) else s or 0 for a, _, s in runs) if parts else None,
            targets=tuple(map(narrow, self.targets)),
        )


def _left_out(count: int) -> str:
    return f"… {count} token{'' if count == 1 else 's'} left out …"


def together(rows: Sequence[Any]) -> Any:
    """Return the :class:`AttributionRow` of several targets of one example together: what is a sum of them is summed.

    By the linearity of attributions this is the attribution of the targets' sum.
    """
    longest = max(rows, key=lambda row: len(row.tokens))

    def total(name: str) -> float | None:
        values = [getattr(row, name) for row in rows]
        return None if None in values else sum(values)

    padded = [(*row.scores, *[0.0] * (len(longest.scores) - len(row.scores))) for row in rows]
    error, wanted = total("error"), total("attribution_target")
    off = None
    if error is not None and wanted is not None:
        off = abs(error) / max(abs(wanted), longest.error_floor or 1e-9)
    return replace(
        longest,
        scores=tuple(map(sum, zip(*padded, strict=True))),
        target=total("target"),
        target_name=f"{len(rows)} targets" if len(rows) > 1 else longest.target_name,
        baseline_target=total("baseline_target"),
        attribution_target=wanted,
        error=error,
        relative_error=off,
        steps=max((row.steps for row in rows if row.steps is not None), default=None),
        gradients=total("gradients"),
        forwards=total("forwards"),
        span=None,
        **dict.fromkeys(("baseline_spread", "partial_error", "sampling_error", "unit_errors", "absorbed")),
    )


def _target(row: Any) -> Target:
    return Target(
        name=row.target_name,
        scores=row.scores,
        value=row.target,
        span=row.span,
        prediction=row.prediction,
        gold=row.gold,
        baseline_value=row.baseline_target,
        attribution_target=row.attribution_target,
        error=row.error,
        relative_error=row.relative_error,
        steps=row.steps,
        converged=row.converged,
    )
