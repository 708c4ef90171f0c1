"""The records that methods return: immutable, on the CPU, detached, JSON both ways.

An :class:`Attribution` holds the rows of one call as tensors; an :class:`AttributionRow` is one row in plain Python,
padding stripped: what is written to disk, shown in a terminal, and read back. Scores are signed and un-normalised:
normalising, taking absolute values and joining sub-words into words happen where a record is shown.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from torch import Tensor

from lightning_interpret.attribution_row import SCHEMA, AttributionRow, Word
from lightning_interpret.units import Units

__all__ = ["SCHEMA", "Attribution", "AttributionRow", "Units", "Word"]


@dataclass(frozen=True, eq=False)
class Attribution:
    """The attributions of N targets, one a row.

    Attributes:
        scores: ``(N, *unit shape)``, signed and un-normalised; exactly 0 on padding.
        target: ``(N,)``, the scalar explained, F(x).
        target_name: Name of each target: a label, or ``"A-B"`` for a contrast.
        output: What of the target was explained: ``logit``, ``log_prob``, ``prob`` or ``margin``.
        method: Name of the method.
        layer: Name of the layer attributed to.
        units: What the scores are shown for.
        gradients: ``(N,)``, gradients computed for each row.
        forwards: ``(N,)``, forward passes without a gradient computed for each row.
        prediction: Predicted label of each row, or ``None``.
        gold: Gold label of each row, or ``None``.
        example_id: Id of each row's example in its data set, or ``None``.
        baseline: Name of the baseline.
        baseline_target: ``(N,)``, F(x'). For a layer that is not a cut of the graph, F(x; h := h(x')).
        baseline_spread: ``(N,)``, standard deviation of F(x') over a distribution of baselines.
        baseline_entropy: ``(N,)``, entropy of the prediction at x', as a share of that of a uniform one.
        attribution_target: ``(N,)``, T, what the scores are to sum to: target − baseline_target unless the method says
            otherwise.
        error: ``(N,)``, Σ scores − T.
        relative_error: ``(N,)``, |error| / max(|T|, error_floor).
        partial_error: ``(N,)``, by how much the sums of the integrand up to a point of the path miss F there: the root
            mean square over its nodes, as a share of Σ|scores|. It tells wrong scores from a sum right by chance.
        sampling_error: ``(N,)``, Σ standard errors of the scores as a share of Σ|scores|, where samples are drawn.
        unit_errors: ``(N, T)``, score − target of each unit, where every unit has a target of its own.
        absorbed: For each row what of T did not reach the units, by where it went.
        error_floor: The floor τ of the relative error's denominator, in units of the output.
        steps: ``(N,)``, nodes of the path that the result stands on.
        converged: Whether each row met its tolerance.
        cut: Whether the layer is a cut of the graph.
        box: For each row the box that is explained, ``(x0, y0, x1, y1)`` as shares of the image's width and height.
        span: For each row the first unit that the target is at and one past the last, or ``None``.
        example: ``(N,)``, the row of the batch that each target is of.
        notes: What happened to each row that the reader should know.
        reasons: For each field that is ``None``, why.
    """

    scores: Tensor
    target: Tensor
    target_name: tuple[str, ...]
    output: str
    method: str
    layer: str
    units: Units
    gradients: Tensor
    forwards: Tensor
    prediction: tuple[str | None, ...] | None
    gold: tuple[str | None, ...] | None = None
    example_id: tuple[int | None, ...] | None = None
    baseline: str | None = None
    baseline_target: Tensor | None = None
    baseline_spread: Tensor | None = None
    baseline_entropy: Tensor | None = None
    attribution_target: Tensor | None = None
    error: Tensor | None = None
    relative_error: Tensor | None = None
    partial_error: Tensor | None = None
    sampling_error: Tensor | None = None
    unit_errors: Tensor | None = None
    absorbed: tuple[Mapping[str, float], ...] | None = None
    error_floor: float | None = None
    steps: Tensor | None = None
    converged: tuple[bool, ...] | None = None
    cut: bool | None = None
    box: tuple[tuple[float, float, float, float], ...] | None = None
    span: tuple[tuple[int, int] | None, ...] | None = None
    example: Tensor | None = None
    notes: tuple[tuple[str, ...], ...] | None = None
    reasons: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for f in fields(self):  # records never hold a graph, a device, or somebody's buffer
            value = getattr(self, f.name)
            if isinstance(value, Tensor):
                object.__setattr__(self, f.name, value.detach().cpu().clone())

    def __len__(self) -> int:
        return len(self.target)

    def __iter__(self) -> Iterator[AttributionRow]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, row: int) -> AttributionRow:
        """Return one row with its padding stripped."""
        row = range(len(self))[row]
        units = self.units
        kept = (~units.padding[row]).nonzero().flatten().tolist()

        def item(values: Any) -> Any:
            return None if values is None else values[row].item() if isinstance(values, Tensor) else values[row]

        def per_unit(values: Any) -> Any:
            if values is None:
                return None
            listed = values[row].tolist() if isinstance(values, Tensor) else values[row]
            return tuple(listed[i] for i in kept) if listed else ()

        return AttributionRow(
            tokens=per_unit(units.texts),
            scores=per_unit(self.scores),
            target=item(self.target),
            target_name=self.target_name[row],
            output=self.output,
            method=self.method,
            layer=self.layer,
            units=units.kind,
            prediction=item(self.prediction),
            gold=item(self.gold),
            example_id=item(self.example_id),
            baseline=self.baseline,
            baseline_target=item(self.baseline_target),
            baseline_spread=item(self.baseline_spread),
            baseline_entropy=item(self.baseline_entropy),
            attribution_target=item(self.attribution_target),
            error=item(self.error),
            relative_error=item(self.relative_error),
            partial_error=item(self.partial_error),
            sampling_error=item(self.sampling_error),
            unit_errors=per_unit(self.unit_errors),
            absorbed=item(self.absorbed),
            error_floor=self.error_floor,
            steps=item(self.steps),
            gradients=item(self.gradients),
            forwards=item(self.forwards),
            converged=item(self.converged),
            cut=self.cut,
            word_ids=per_unit(units.word_ids),
            words=units.words[row],
            special=per_unit(units.special) if units.grid is None or units.special[row].any() else (),
            offsets=per_unit(units.offsets),
            segment=per_unit(units.segment),
            segment_names=units.segment_names,
            span=_stripped(item(self.span), units.padding[row]),
            grid=units.grid,
            image=item(units.images),
            box=item(self.box),
            notes=item(self.notes) or (),
            reasons=self.reasons,
        )

    def contrast(self, other: Attribution) -> Attribution:
        """Return the attribution of each target less that of ``other``'s, to the input that both are made from.

        Of two continuations of one prompt, ``which="gold sequence"``: what of the prompt speaks for the one rather than
        the other. It is the attribution of the difference where both were made with one baseline along one path: with
        the output held, ``CausalGeneration(attribute="input")`` or ``Seq2SeqGeneration(attribute="input")``.

        Raises:
            ValueError: If the rows are not of the same inputs, method, layer, output and baseline, or earlier output
                has a part in them.
        """
        shared = ("method", "layer", "output", "baseline")
        if len(self) != len(other) or any(getattr(self, name) != getattr(other, name) for name in shared):
            both = [(len(each), *(getattr(each, name) for name in shared)) for each in (self, other)]
            raise ValueError(f"Only rows of one method, layer, output and baseline can be contrasted, but got {both}.")
        return Attribution.from_rows([_less(a, b) for a, b in zip(self, other, strict=True)])

    def to_dict(self) -> dict[str, Any]:
        """Return ``{"schema", "kind", "rows"}``, each row as :meth:`AttributionRow.to_dict` writes it."""
        return {"schema": SCHEMA, "kind": "attributions", "rows": [row.to_dict() for row in self]}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Attribution:
        """Return the record that :meth:`to_dict` wrote; rows are padded again on the right.

        Raises:
            ValueError: If ``data`` is of another kind or of a later schema, or holds no row.
        """
        if data.get("kind") != "attributions" or not data.get("rows"):
            raise ValueError(f"Expected a record of kind 'attributions' with rows, but got kind={data.get('kind')!r}.")
        return cls.from_rows([AttributionRow.from_dict(row) for row in data["rows"]])

    @classmethod
    def from_rows(cls, rows: Sequence[AttributionRow]) -> Attribution:
        """Return the record of rows of one method, layer and output; rows are padded on the right."""
        first, width = rows[0], max(len(row.scores) for row in rows)
        if any(row.grid != first.grid for row in rows):
            raise ValueError(f"Rows of one record share a grid, but got {sorted({str(row.grid) for row in rows})}.")

        def padded(name: str, fill: Any) -> list[Any]:
            given = [list(getattr(row, name) or ()) for row in rows]
            if first.units == "location" and not any(given):  # which has no texts
                return given
            return [values + [fill] * (width - len(values)) for values in given]

        def column(name: str) -> Any:
            values = tuple(getattr(row, name) for row in rows)
            return None if all(value is None for value in values) else values

        def numbers(name: str) -> Any:
            values = column(name)
            if values is None:
                return None
            values = [math.nan if value is None else value for value in values]
            whole = not any(isinstance(value, float) for value in values)
            return torch.tensor(values, dtype=torch.long if whole else torch.float64)

        def scores(name: str) -> Tensor:
            return torch.tensor(padded(name, 0.0), dtype=torch.float64).reshape(len(rows), width)

        units = Units(
            kind=first.units,
            shape=(width,),
            texts=tuple(tuple(texts) for texts in padded("tokens", "")),
            word_ids=tuple(tuple(ids) for ids in padded("word_ids", None)),
            words=tuple(row.words for row in rows),
            special=torch.tensor([[*r.special, *[False] * (width - len(r.special))] for r in rows], dtype=torch.bool),
            padding=torch.tensor([[i >= len(row.scores) for i in range(width)] for row in rows]).reshape(-1, width),
            offsets=None if column("offsets") is None else tuple(tuple(o) for o in padded("offsets", (0, 0))),
            segment=None if column("segment") is None else torch.tensor(padded("segment", 0)),
            segment_names=first.segment_names,
            grid=first.grid,
            images=column("image"),
        )
        errors = ("error", "relative_error", "partial_error", "sampling_error", "attribution_target")
        baselines = ("baseline_target", "baseline_spread", "baseline_entropy")
        numeric = ("target", "gradients", "forwards", "steps", *baselines, *errors)
        named = ("target_name", "prediction", "gold", "example_id", "converged", "absorbed", "box", "span", "notes")
        shared = ("output", "method", "layer", "baseline", "error_floor", "cut", "reasons")
        return cls(
            scores=scores("scores"),
            unit_errors=None if column("unit_errors") is None else scores("unit_errors"),
            units=units,
            **{name: numbers(name) for name in numeric},
            **{name: column(name) for name in named},
            **{name: getattr(first, name) for name in shared},
        )

    def __str__(self) -> str:
        return "\n\n".join(str(row) for row in self)

    def _repr_html_(self) -> str:
        return "".join(row._repr_html_() for row in self)


def _stripped(span: tuple[int, int] | None, padding: Tensor) -> tuple[int, int] | None:
    """Return a span among the units that are no padding; what is not read (a generated token) is behind them."""
    if span is None:
        return None
    before = int(padding[: span[0]].sum())
    return span[0] - before, span[1] - before


def _less(row: AttributionRow, other: AttributionRow) -> AttributionRow:
    """Return a row less another one, over the first segment: the prompt, or the source."""
    sizes = [sum(part == 0 for part in each.segment) if each.segment else len(each.tokens) for each in (row, other)]
    size = sizes[0]
    if sizes[1] != size or row.tokens[:size] != other.tokens[:size]:
        raise ValueError(
            f"Only rows of one input can be contrasted, but got {row.tokens[:5]}... and {other.tokens[:5]}...: give "
            "the same prompts in the same order."
        )
    if any(row.scores[size:]) or any(other.scores[size:]):
        raise ValueError(
            "Earlier output has a part in these scores, and the two outputs differ: hold it, `attribute='input'`."
        )

    def less(name: str) -> float | None:
        mine, its = getattr(row, name), getattr(other, name)
        return None if mine is None or its is None else mine - its

    error, wanted, floor = less("error"), less("attribution_target"), row.error_floor
    return replace(
        row,
        tokens=row.tokens[:size],
        scores=tuple(a - b for a, b in zip(row.scores[:size], other.scores[:size], strict=True)),
        word_ids=row.word_ids[:size],
        special=row.special[:size],
        offsets=row.offsets and row.offsets[:size],
        segment=None,
        segment_names=None,
        span=None,
        target=row.target - other.target,
        target_name=f"{row.target_name}-{other.target_name}",
        prediction=None,
        gold=None,
        baseline_target=less("baseline_target"),
        attribution_target=wanted,
        error=error,
        relative_error=None if error is None or wanted is None else abs(error) / max(abs(wanted), floor or 1e-9),
        gradients=row.gradients + other.gradients,
        forwards=row.forwards + other.forwards,
        baseline_spread=None,
        baseline_entropy=None,
        partial_error=None,
        sampling_error=None,
        unit_errors=None,
    )
