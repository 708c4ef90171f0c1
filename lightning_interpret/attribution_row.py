"""One explained prediction in plain Python: what is written to disk, shown in a terminal, and read back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from itertools import groupby
from typing import Any, ClassVar

from lightning_interpret.locations import Grid, box_text
from lightning_interpret.texts import segment_name, shown_segments

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


def _line(part: tuple[str, list[Word]]) -> str:
    name, words = part
    return (f"{name}: " if name else "") + "  ".join(f"{word.text} {word.score:+.3g}" for word in words)


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
