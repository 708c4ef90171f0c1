"""The card of several targets of one example: tokens that were written, entities, an answer, several labels."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from lightning_interpret.cards.card import NAME, QUERY
from lightning_interpret.cards.coloured import Aim, Cell, Coloured, Column, Cross, Outline, Piece, Section, number_of
from lightning_interpret.palette import scale_of
from lightning_interpret.records.targets import Target, TargetsRow
from lightning_interpret.records.units import Unit, units_of
from lightning_interpret.texts import direction, readable, segment_name, shortened

_COLUMNS, _ROWS = 30, 40  # words and targets of a grid
_WORDS, _OVER, _AROUND, _TEXTS = 70, 120, 4, 12  # words of a text, of one with all targets, around what matters, texts
_WORD = 40  # characters of a word


def parts(row: TargetsRow) -> dict[str, Any]:
    """Return what the card of several targets has of its own."""
    of_grid = row.view == "grid"
    wrong = row.wrong or any(target.wrong for target in row.targets)
    left_out = 0 if of_grid else max(0, len(row.targets) - _TEXTS)
    return {
        "origin": " · ".join(name for name in ("targets" if not row.method else row.method, row.layer) if name),
        "title": _title(row, wrong),
        "wrong": wrong,
        "text": _read(row) if of_grid else "",
        "facts": tuple(_facts(row)),
        "cross": _cross(row) if of_grid and row.targets else None,
        "texts": () if of_grid else tuple(_texts(row)),
        "notes": (f"{left_out} more targets are not shown here.",) if left_out else (),
    }


def _title(row: TargetsRow, wrong: bool) -> str:
    said = "Wrong: " if wrong else ""
    if row.view == "grid":
        given = row.prediction if row.prediction is not None else _written(row)
        return f"{said}{'wrote' if said else 'Wrote'} {shortened(given, QUERY // 4)}"
    if row.view == "answer":
        answer = row.prediction if row.prediction is not None else _answer(row)
        gold = f", gold {shortened(row.gold, NAME)}" if row.gold is not None and wrong else ""
        return f"{said}{'answered' if said else 'Answered'} {shortened(answer, NAME)}{gold}"
    noun = ("entity", "entities") if row.view == "entities" else ("label", "labels")
    count = f"{len(row.targets)} {noun[len(row.targets) != 1]}"
    bad = sum(target.wrong for target in row.targets)
    return f"{count}, {bad} of them wrong" if bad else f"{said}{count}"


def _answer(row: TargetsRow) -> str:
    if not any(target.span for target in row.targets):
        return "that there is no answer"
    names = [target.prediction or target.name for target in row.targets]
    return names[-1] if names else "nothing"


def _written(row: TargetsRow) -> str:
    texts = [(target.name[:1] in "Ġ▁ ", readable(target.name)) for target in row.targets]
    return "".join(" " * (gap and i > 0) + text for i, (gap, text) in enumerate(texts)) or "nothing"


def _read(row: TargetsRow) -> str:
    if row.text:
        return shortened(row.text, QUERY)
    units = units_of(row)
    first = [unit for unit in units if unit.segment == units[0].segment and not unit.special]
    return shortened("".join(" " * (unit.space and i > 0) + unit.text for i, unit in enumerate(first)), QUERY)


def _facts(row: TargetsRow) -> Iterator[tuple[str, str]]:
    yield "explained", f"{row.output} of {len(row.targets)} target" + "s" * (len(row.targets) != 1)
    if row.baseline is not None:
        yield "baseline", row.baseline
    if row.gold is not None and row.gold != row.prediction:
        yield "gold", row.gold
    errors = [target.relative_error for target in row.targets if target.relative_error is not None]
    if errors:
        yield "largest error", f"{max(errors, key=lambda error: math.inf if math.isnan(error) else error):.2%}"
    failed = sum(target.converged is False for target in row.targets)
    if failed:
        yield "NOT converged", str(failed)


def _error(target: Target) -> str:
    return "–" if target.relative_error is None else f"{target.relative_error:.2%}"


def _named(text: str) -> str:
    """Return a word as it is shown, on one line and never empty."""
    return shortened(text, _WORD) if text.strip() else "␣"


def _score(target: Target, unit: Unit) -> float | None:
    read = target.scores[unit.start : unit.end]
    return sum(read) if read else None


def _names(row: TargetsRow, units: Sequence[Unit]) -> tuple[str, ...]:
    """Return the name of each part of the text; one without a name where it has no parts."""
    last = max((unit.segment for unit in units), default=0)
    known = len({unit.segment for unit in units}) > 1 or row.segment_names
    return (
        tuple(shortened(segment_name(row.segment_names, number), _WORD) for number in range(last + 1))
        if known
        else ("",)
    )


def _share(score: float | None, scale: float) -> float:
    return max(-1.0, min(1.0, score / scale)) if score is not None and math.isfinite(score) else 0.0


def _scale(targets: Sequence[Target], units: Sequence[Unit]) -> float:
    """Return the largest score of a word: special tokens would pale every word, unless these are all 0."""
    for special in (False, True):
        found = (_score(target, unit) for target in targets for unit in units if unit.special == special)
        sizes = [score for score in found if score is not None and math.isfinite(score)]
        if any(sizes):
            break
    return scale_of(sizes)


def _cross(row: TargetsRow) -> Cross:
    rows = row.targets[:_ROWS]
    some = row.narrowed(_COLUMNS)
    units = units_of(some)
    names, scale = _names(row, units), _scale(some.targets, units)
    sums = row.by_segment()
    aims = []
    for target, short, total in zip(rows, some.targets, sums, strict=False):
        scores = [_score(short, unit) for unit in units]
        aims.append(
            Aim(
                name=_named(readable(target.name)),
                cells=tuple(None if score is None else Cell(score, _share(score, scale)) for score in scores),
                sums=tuple(map(number_of, total[: len(names)])),
                value=number_of(target.value),
                error=_error(target),
                failed=target.converged is False,
                wrong=target.wrong,
                gold=shortened(readable(target.gold), _WORD) if target.wrong and target.gold is not None else None,
            )
        )
    left_out = len(row.targets) - len(rows)
    return Cross(
        meaning=f"each row: from what the {row.output} of a token was made",
        columns=tuple(Column(_named(unit.text), unit.segment, unit.special) for unit in units),
        aims=tuple(aims),
        parts=names,
        largest=scale,
        rest=f"… {left_out} more tokens." if left_out else "",
        right_to_left=direction(unit.text for unit in units if not unit.special) == "rtl",
    )


def _texts(row: TargetsRow) -> Iterator[Coloured]:
    if row.view == "entities":
        some = row.narrowed(_OVER, _AROUND)
        yield _overview(row, some, units_of(some))
    for whole in row.targets[:_TEXTS]:
        some = replace(row, targets=(whole,)).narrowed(_WORDS, _AROUND)
        units, target = units_of(some), some.targets[0]
        scale = _scale(some.targets, units)
        scores = [_score(target, unit) for unit in units]
        outline = _outline(target, row)
        facts = [f"error {_error(target)}"] if target.relative_error is not None else []
        facts += ["NOT converged"] if target.converged is False else []
        facts += [f"gold {shortened(target.gold, NAME)}"] if target.wrong and target.gold is not None else []
        facts += ["the answer is that there is none"] if row.view == "answer" and target.span is None else []
        yield Coloured(
            title=f"{row.output} of {shortened(readable(target.name), NAME)}",
            number=number_of(target.value),
            facts=tuple(facts),
            sections=_sections(row, units, scores, scale, [0 if _within(target, unit) else None for unit in units]),
            outlines=() if outline is None else (outline,),
            largest=scale,
            right_to_left=_from_right(units),
            wrong=target.wrong,
        )


def _outline(target: Target, row: TargetsRow) -> Outline | None:
    if target.span is None:
        return None
    name = "answer" if row.view == "answer" else target.prediction or target.name
    gold = (
        f", gold {shortened(target.gold, _WORD)}"
        if target.wrong and target.gold is not None and row.view != "answer"
        else ""
    )
    return Outline(f"{shortened(name, _WORD)}{gold}", target.wrong)


def _overview(row: TargetsRow, some: TargetsRow, units: Sequence[Unit]) -> Coloured:
    """Return the text once with its entities; of those that overlap the first is marked."""
    outlines = tuple(_outline(target, row) or Outline("") for target in some.targets)
    where = [next((i for i, target in enumerate(some.targets) if _within(target, unit)), None) for unit in units]
    return Coloured(
        title="The text with its entities",
        number="",
        facts=(),
        sections=_sections(row, units, [None] * len(units), 1.0, where),
        outlines=outlines,
        largest=0.0,
        right_to_left=_from_right(units),
    )


def _within(target: Target, unit: Unit) -> bool:
    return target.span is not None and target.span[0] < unit.end and unit.start < target.span[1]


def _from_right(units: Sequence[Unit]) -> bool:
    return direction(unit.text for unit in units if not unit.special) == "rtl"


def _sections(
    row: TargetsRow, units: Sequence[Unit], scores: Sequence[float | None], scale: float, where: Sequence[int | None]
) -> tuple[Section, ...]:
    names = _names(row, units)
    found: dict[int, list[Piece]] = {}
    for unit, score, place in zip(units, scores, where, strict=True):
        piece = Piece(_named(unit.text), score, _share(score, scale), unit.space, unit.special, place)
        found.setdefault(unit.segment, []).append(piece)
    single = len(found) == 1
    return tuple(Section("" if single else names[number], tuple(pieces)) for number, pieces in found.items())
