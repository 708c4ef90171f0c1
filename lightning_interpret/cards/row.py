"""From a record to its card: what is said of the query of every kind, then what each kind has of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from lightning_interpret.bad_cases import BadCaseGroupRow, BadCaseRow, BadCasesRow
from lightning_interpret.cards import (
    attention,
    bad_cases,
    concept_test,
    concepts,
    generated,
    influence,
    landmarks,
    neighbors,
    rationale,
    span_tree,
    spans,
    targets,
    trust,
)
from lightning_interpret.cards.card import NAME, QUERY, Card, Line, Table, percent
from lightning_interpret.evidence import EvidenceRow, InfluenceRow, LandmarksRow, NeighborsRow
from lightning_interpret.rationales import ConceptsRow, GeneratedRow, RationaleRow, SpansRow
from lightning_interpret.records import Row
from lightning_interpret.records.attention import AttentionMapRow
from lightning_interpret.records.concept_test import ConceptTestRow
from lightning_interpret.records.span_tree import SpanTreeRow
from lightning_interpret.records.targets import TargetsRow
from lightning_interpret.records.trust import TrustRow
from lightning_interpret.texts import shortened

_OWN: dict[str, Callable[[Any], dict[str, Any]]] = {
    RationaleRow.kind: rationale.parts,
    SpansRow.kind: spans.parts,
    ConceptsRow.kind: concepts.parts,
    GeneratedRow.kind: generated.parts,
    SpanTreeRow.kind: span_tree.parts,
    TrustRow.kind: trust.parts,
    AttentionMapRow.kind: attention.parts,
    ConceptTestRow.kind: concept_test.parts,
    TargetsRow.kind: targets.parts,
    BadCaseRow.kind: bad_cases.case,
    BadCaseGroupRow.kind: bad_cases.group,
    BadCasesRow.kind: bad_cases.overview,
}


def card_of(row: Row) -> Card:
    """Return the card of a record of one query."""
    return _evidence(row) if isinstance(row, EvidenceRow) else _explained(row)


def _explained(row: Row) -> Card:
    own = _OWN[row.kind](row)
    reasons = (f"{name} is not given: {why}" for name, why in row.reasons.items())
    of_query: dict[str, Any] = {
        "title": _title(row),
        "wrong": row.wrong,
        "text": shortened(row.text, QUERY) if row.text else _instead(row),
    }
    return Card(
        **of_query
        | own
        | {
            "facts": tuple((name, shortened(value, NAME)) for name, value in (*_facts(row), *own["facts"])),
            "notes": tuple(shortened(note, QUERY) for note in (*row.notes, *own.get("notes", ()), *reasons)),
        }
    )


def _evidence(row: EvidenceRow) -> Card:
    facts, stated = list(_facts(row)), list[str]()
    tables, notes = list[Table](), list[str]()
    near = row if isinstance(row, NeighborsRow) else row.neighbors if isinstance(row, InfluenceRow) else None
    reasons = dict(row.reasons)
    if isinstance(row, LandmarksRow):
        facts += landmarks.facts(row)
        tables += landmarks.tables(row)
        stated += landmarks.stated(row)
    if isinstance(row, InfluenceRow):
        tables += influence.tables(row)
        stated += influence.stated(row)
        notes += row.approximation.notes
    notes += row.notes
    if near is not None:
        facts += neighbors.facts(near)
        tables.append(neighbors.table(near))
        stated.append(neighbors.searched(near))
        notes += () if near is row else near.notes
        reasons = {**near.reasons, **reasons}
    notes += [f"{name} is not given: {why}" for name, why in reasons.items()]
    stated += _baselines([line for table in tables for line in table.lines], isinstance(row, LandmarksRow))
    return Card(
        origin=_origin(row),
        title=_title(row),
        wrong=row.wrong,
        facts=tuple((name, shortened(value, NAME)) for name, value in facts),
        text=shortened(row.text, QUERY) if row.text else _instead(row),
        tables=tuple(tables),
        bars=influence.tokens(row) if isinstance(row, InfluenceRow) else (),
        labels=() if near is None else neighbors.labels(near),
        strip=landmarks.strip(row)
        if isinstance(row, LandmarksRow)
        else None
        if near is None
        else neighbors.strip(near),
        stated=tuple(stated),
        notes=tuple(shortened(note, QUERY) for note in notes),
        sentence=landmarks.sentence(row) if isinstance(row, LandmarksRow) else (),
        total=landmarks.total(row) if isinstance(row, LandmarksRow) else (),
    )


def _origin(row: EvidenceRow) -> str:
    if isinstance(row, InfluenceRow):
        return f"influence · {shortened(row.approximation.method, NAME)}"
    if isinstance(row, LandmarksRow):
        return "landmarks" if row.kernel is None else f"landmarks · {shortened(row.kernel, NAME)} kernel"
    return "neighbours" if row.layer is None else f"neighbours · {shortened(row.layer, NAME)}"


def _title(row: Row) -> str:
    queries = getattr(row, "queries", 1)
    if queries > 1:
        return f"Sum over {queries:,} queries"
    if row.prediction is None:
        return "Nothing predicted" if row.gold is None else f"Gold {shortened(row.gold, NAME)}"
    said = shortened(row.prediction, NAME)
    if row.gold is None:
        return f"Predicted {said}"
    return f"Wrong: predicted {said}, gold {shortened(row.gold, NAME)}" if row.wrong else f"Right: predicted {said}"


def _instead(row: Row) -> str:
    if getattr(row, "queries", 1) > 1:
        return "no single query: the measures of all were summed"
    return "a query without a text" if row.example_id is None else f"example {row.example_id}, which has no text"


def _facts(row: Row) -> Iterator[tuple[str, str]]:
    if row.confidence is not None:
        yield "confidence", percent(row.confidence)
    if row.loss is not None:
        yield "loss", f"{row.loss:.3g}"
    if row.example_id is not None:
        yield "example", str(row.example_id)
    if row.why:
        yield "picked as", row.why


def _baselines(lines: list[Line], of_landmarks: bool) -> Iterator[str]:
    known = ["the model's loss on it"] if any(line.loss is not None for line in lines) else []
    if any(line.disagreement is not None for line in lines):
        known.append("the share of its own nearest neighbours that have another label (kNN disagree)")
    if known:
        each = "each landmark" if of_landmarks else "each training example, as a baseline of its score"
        yield f"Beside {each}: {' and '.join(known)}."
