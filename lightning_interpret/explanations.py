"""The records that methods return: immutable, on the CPU, detached, JSON both ways.

An :class:`Attribution` holds the rows of one call as tensors; an :class:`AttributionRow` is one row in plain Python,
padding stripped: what is written to disk, shown in a terminal, and read back. Scores are signed and un-normalised:
normalising, taking absolute values and joining sub-words into words happen where a record is shown.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import groupby
from typing import Any, ClassVar

import torch
from torch import Tensor

from lightning_interpret.locations import Grid, box_text
from lightning_interpret.texts import segment_name, shown_segments
from lightning_interpret.units import Units

SCHEMA = 1


@dataclass(frozen=True)
class Word:
    """A word as it is shown: its text, the sum of its tokens' scores, whether it is a special token, and of which part.

    ``segment`` is the number of the part of the text that it is shown in, 0 where the text has no parts.
    """

    text: str
    score: float
    special: bool = False
    segment: int = 0


@dataclass(frozen=True)
class AttributionRow:
    """One explained prediction as plain Python, without padding.

    ``error`` is Σ scores − ``attribution_target``; ``relative_error`` divides its size by
    max(|attribution_target|, error_floor); the other fields are those of :class:`Attribution`. A field that does not
    apply is ``None`` and ``reasons`` says why. Of an image ``tokens`` is empty, and ``scores`` are those of its
    ``grid`` row by row, with units of no location where ``special`` says so. ``span`` is the first token that the
    target is at and one past the last (an entity, an answer); a generated token is not read for its own prediction, and
    stands behind the tokens.
    """

    kind: ClassVar[str] = "attribution"

    tokens: tuple[str, ...]
    scores: tuple[float, ...]
    target: float
    target_name: str
    output: str
    method: str
    layer: str
    units: str = "token"
    prediction: str | None = None
    gold: str | None = None
    example_id: int | None = None
    baseline: str | None = None
    baseline_target: float | None = None
    baseline_spread: float | None = None
    baseline_entropy: float | None = None
    attribution_target: float | None = None
    error: float | None = None
    relative_error: float | None = None
    partial_error: float | None = None
    sampling_error: float | None = None
    unit_errors: tuple[float, ...] | None = None
    absorbed: Mapping[str, float] | None = None
    error_floor: float | None = None
    steps: int | None = None
    gradients: int = 0
    forwards: int = 0
    converged: bool | None = None
    cut: bool | None = None
    word_ids: tuple[int | None, ...] = ()
    words: tuple[str, ...] = ()
    special: tuple[bool, ...] = ()
    offsets: tuple[tuple[int, int], ...] | None = None
    segment: tuple[int, ...] | None = None
    segment_names: tuple[str, ...] | None = None
    span: tuple[int, int] | None = None
    grid: tuple[int, int] | None = None
    image: str | None = None
    box: tuple[float, float, float, float] | None = None
    notes: tuple[str, ...] = ()
    reasons: Mapping[str, str] = field(default_factory=dict)

    def merged(self) -> list[Word]:
        """Return the words in reading order, each with the sum of its tokens' scores; special tokens stand alone.

        The sum over the list is the sum of ``scores``: nothing is lost in joining. An image has no words.
        """
        if self.units == "location":
            return []
        merged: list[Word] = []
        before: int | None = None
        word_ids = self.word_ids or range(len(self.tokens))  # without words every token is one
        parts = shown_segments(self.segment, self.special, len(self.tokens))
        for token, score, word, part in zip(self.tokens, self.scores, word_ids, parts, strict=True):
            if word is None:
                merged.append(Word(token, score, special=True, segment=part))
            elif word == before:
                merged[-1] = replace(merged[-1], score=merged[-1].score + score)
            else:
                merged.append(Word(self.words[word] if self.words else token, score, segment=part))
            before = word
        return merged

    def parts(self) -> list[tuple[str, list[Word]]]:
        """Return the words of each part of the text under its name: of a pair, or of prompt and output.

        The name is empty where the text has one part only.
        """
        words = self.merged()
        runs = [(number, list(run)) for number, run in groupby(words, key=lambda word: word.segment)]
        named = len({number for number, _ in runs}) > 1
        return [(segment_name(self.segment_names, number) if named else "", run) for number, run in runs]

    def locations(self) -> Grid:
        """Return the scores of an image as they lie on it.

        Raises:
            ValueError: If the row is of no image.
        """
        if self.units != "location":
            raise ValueError(f"The scores are those of units of kind {self.units!r}: only an image has locations.")
        return Grid.of(self.scores, self.special, self.grid)

    def to_dict(self) -> dict[str, Any]:
        """Return the row as JSON values, with ``schema`` and ``kind``; numbers that are not finite become ``None``."""
        return {"schema": SCHEMA, "kind": self.kind} | {f.name: _json(getattr(self, f.name)) for f in fields(self)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> AttributionRow:
        """Return the row that :meth:`to_dict` wrote.

        Raises:
            ValueError: If ``data`` is of another kind or of a later schema.
        """
        if data.get("kind") != cls.kind or data.get("schema", SCHEMA + 1) > SCHEMA:
            raise ValueError(
                f"Expected a record of kind {cls.kind!r} and schema at most {SCHEMA}, but got "
                f"kind={data.get('kind')!r}, schema={data.get('schema')!r}: read it with the version that wrote it."
            )
        known = {f.name for f in fields(cls)}
        values = {name: _tuples(value) for name, value in data.items() if name in known and name != "reasons"}
        for name in ("scores", "target", "unit_errors"):  # never None within: a number that JSON could not hold
            if name != "unit_errors" or values.get(name) is not None:
                values[name] = _numbers(values[name])
        return cls(**values, reasons=dict(data.get("reasons", {})))

    def __str__(self) -> str:
        lines = [self.summary(), *(map(_line, self.parts()) if self.tokens else [""])]
        if self.units == "location":
            grid = self.locations()
            strongest = "  ".join(f"({at.row}, {at.column}) {at.score:+.3g}" for at in grid.strongest(10))
            lines[1:] = ["; ".join(grid.said()), f"strongest (row, column): {strongest}"]
        if self.absorbed:
            lines.append("absorbed: " + "  ".join(f"{name} {amount:+.3g}" for name, amount in self.absorbed.items()))
        lines += [f"{name} is not given: {why}" for name, why in self.reasons.items()] + list(self.notes)
        return "\n".join(lines)

    def summary(self) -> str:
        """Return one line: method, target, baseline, error, and what was predicted."""
        where = "" if self.box is None else " in the box " + box_text(self.box)
        parts = [f"{self.method} of {self.output} of {self.target_name!r}{where} = {self.target:+.4g}"]
        if self.baseline_target is not None:
            spread = "" if self.baseline_spread is None else f" ± {self.baseline_spread:.2g}"
            entropy = "" if self.baseline_entropy is None else f" (entropy {self.baseline_entropy:.0%})"
            parts.append(f"baseline {self.baseline} = {self.baseline_target:+.4g}{spread}{entropy}")
        if self.error is not None and self.relative_error is not None:
            said = "" if self.converged in (True, None) else ", NOT converged"
            partial = "" if self.partial_error is None else f", partial {self.partial_error:.2%}"
            parts.append(f"error {self.error:+.2g} ({self.relative_error:.2%}{partial}{said})")
        parts += [] if self.sampling_error is None else [f"sampling error {self.sampling_error:.2%}"]
        parts += [] if self.steps is None else [f"{self.steps} steps"]
        parts.append(f"predicted {self.prediction!r}" + ("" if self.gold is None else f", gold {self.gold!r}"))
        return " | ".join(parts)

    def _repr_html_(self) -> str:
        from lightning_interpret.notebook import html  # which reads the rows: the import runs the other way

        return html(self)


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
        prediction: Predicted label of each row.
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
    prediction: tuple[str | None, ...]
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
            prediction=self.prediction[row],
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


def _line(part: tuple[str, list[Word]]) -> str:
    name, words = part
    return (f"{name}: " if name else "") + "  ".join(f"{word.text} {word.score:+.3g}" for word in words)


def _stripped(span: tuple[int, int] | None, padding: Tensor) -> tuple[int, int] | None:
    """Return a span among the units that are no padding; what is not read (a generated token) is behind them."""
    if span is None:
        return None
    before = int(padding[: span[0]].sum())
    return span[0] - before, span[1] - before


def _json(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _json(item) for key, item in value.items()}
    return [_json(item) for item in value] if isinstance(value, tuple) else value


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value


def _numbers(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(_numbers(item) for item in value)
    return math.nan if value is None else float(value)
