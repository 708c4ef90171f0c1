"""How each kind of record is shown: one line of a table a kind, which the writer and the files go by."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from PIL import Image

from lightning_interpret.bad_cases import BadCaseGroupRow, BadCaseRow, BadCasesRow
from lightning_interpret.evidence import InfluenceRow, LandmarksRow, NeighborsRow
from lightning_interpret.explanations import AttributionRow
from lightning_interpret.rationales import ConceptsRow, GeneratedRow, RationaleRow, SpansRow
from lightning_interpret.records import Row as QueryRow
from lightning_interpret.records.attention import AttentionMapRow
from lightning_interpret.records.concept_test import ConceptTestRow
from lightning_interpret.records.span_tree import SpanTreeRow
from lightning_interpret.records.targets import TargetsRow
from lightning_interpret.records.trust import TrustRow
from lightning_interpret.report import (
    attention_pages,
    bad_case_pages,
    evidence_markdown,
    evidence_pages,
    evidence_picture,
    image,
    markdown,
    pages,
    rationale_pages,
    target_pages,
    tree_pages,
)
from lightning_interpret.report.pages import Fits, Record

Row = AttributionRow | QueryRow


@dataclass(frozen=True)
class Presenter:
    """How the rows of one kind are shown; the Interpret tab draws them by ``static/kinds/<kind>.js``.

    Attributes:
        record: The class of the rows, with ``to_dict`` and ``from_dict``.
        picture: A row as a picture, for the Images tab.
        markdown: A row as Markdown, for the Text tab.
        records: A row as JSON records that each fit on a page of the Interpret tab.
        description: Markdown that TensorBoard shows beside the tag.
    """

    record: type[Any]
    picture: Callable[[Any], Image.Image]
    markdown: Callable[[Any], str]
    records: Callable[[Any, Fits], list[Record]]
    description: str = ""


PRESENTERS: dict[str, Presenter] = {
    AttributionRow.kind: Presenter(AttributionRow, image.render, markdown.render, pages.records),
    **{
        row.kind: Presenter(row, evidence_picture.render, evidence_markdown.render, evidence_pages.records, said)
        for row, said in (
            (
                InfluenceRow,
                "Training examples that made the model say this. Positive: removing it would raise what is measured.",
            ),
            (NeighborsRow, "The training examples nearest in feature space."),
            (LandmarksRow, "The landmarks, training examples, that the prediction is like and unlike."),
        )
    },
    **{
        row.kind: Presenter(row, evidence_picture.render, evidence_markdown.render, rationale_pages.records, said)
        for row, said in (
            (RationaleRow, "What the model selected of the text, and made its prediction from alone."),
            (SpansRow, "The spans that the model weighed to make its prediction."),
            (ConceptsRow, "The concepts that the prediction was made from."),
            (GeneratedRow, "What the model wrote to explain its prediction."),
            (TrustRow, "How far each of several methods can be trusted on this model, beside a random order."),
            (ConceptTestRow, "What more of each concept would do to the score, beside what random concepts would."),
        )
    },
    AttentionMapRow.kind: Presenter(
        AttentionMapRow,
        evidence_picture.render,
        evidence_markdown.render,
        attention_pages.records,
        "What each token is weighed with by attention, layer by layer and head by head.",
    ),
    SpanTreeRow.kind: Presenter(
        SpanTreeRow,
        evidence_picture.render,
        evidence_markdown.render,
        tree_pages.records,
        "What spans of the text, from the whole down to its words, contribute to the prediction.",
    ),
    TargetsRow.kind: Presenter(
        TargetsRow,
        evidence_picture.render,
        evidence_markdown.render,
        target_pages.records,
        "What each of several targets of one example comes from: tokens, entities, an answer, labels.",
    ),
    **{
        row.kind: Presenter(row, evidence_picture.render, evidence_markdown.render, bad_case_pages.records, said)
        for row, said in (
            (BadCasesRow, "The bad cases of a validation run: how many, and the groups of their causes."),
            (BadCaseGroupRow, "The bad cases of one cause, what speaks for it and against it, and what to do."),
            (BadCaseRow, "A bad case with its explanations side by side, and why it went wrong."),
        )
    },
}


def presenter_of(kind: Any) -> Presenter:
    """Return how rows of a kind are shown.

    Raises:
        ValueError: If there is no such kind.
    """
    if kind not in PRESENTERS:
        raise ValueError(f"No record is of kind {kind!r}; there are {', '.join(map(repr, sorted(PRESENTERS)))}.")
    return PRESENTERS[kind]


def row_of(record: Mapping[str, Any]) -> Row:
    """Return the row that a record holds, as ``to_dict`` of any kind wrote it: a line of a file, or a payload's record.

    Raises:
        ValueError: If there is no such kind, or the record is of a later schema.
    """
    row: Row = presenter_of(record.get("kind")).record.from_dict(record)
    return row
