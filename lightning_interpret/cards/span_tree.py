"""The card of a tree of spans: what speaks most for the target and against it, and the spans level by level."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from lightning_interpret.cards.said import subject, turns
from lightning_interpret.cards.tree import Tree
from lightning_interpret.records.span_tree import SpanNode, SpanTreeRow
from lightning_interpret.texts import shortened, signed

_TEXT, _LABEL = 70, 40  # characters of a span and of a label in the sentence


def parts(row: SpanTreeRow) -> dict[str, Any]:
    """Return what the card of a tree of spans has of its own."""
    return {
        "origin": "span tree" if row.method is None else f"span tree · {row.method}",
        "facts": tuple(_facts(row)),
        "tree": Tree.of(row),
        "sentence": sentence(row),
        "stated": tuple(_stated(row)),
    }


def sentence(row: SpanTreeRow) -> tuple[str, ...]:
    """Return which span speaks most for the target, and which most against it: our words and logged texts in turn."""
    foremost = row.foremost
    if foremost is None or not foremost.score > 0:
        return ()
    (said, texts), target = subject(row), shortened(row.target_name or "the prediction", _LABEL)
    words = f"{said}. For {{}} speaks '{{}}' most ({signed(foremost.score)})"
    texts = [*texts, target, shortened(row.text_of(foremost), _TEXT)]
    against = min(filter(_finite, row.nodes), key=lambda node: (node.score, node.start - node.end))
    if against.score < 0:
        words += f", against it '{{}}' ({signed(against.score)})"
        texts.append(shortened(row.text_of(against), _TEXT))
    return turns(f"{words}.", texts)


def _finite(node: SpanNode) -> bool:
    return math.isfinite(node.score)


def _facts(row: SpanTreeRow) -> Iterator[tuple[str, str]]:
    if row.target is not None:
        of = f"{row.output or 'score'} of {row.target_name}" if row.target_name is not None else row.output
        yield "score", f"{row.target:+.4g}" + (f" ({of})" if of else "")
    if row.nodes:
        yield "spans", f"{len(row.nodes)} in {row.depth + 1} levels"
    if row.erased is not None:
        yield "foremost erased", f"falls by {row.erased:.3g}"
    if row.control is not None:
        yield "random span erased", f"falls by {row.control:.3g}"


def _stated(row: SpanTreeRow) -> Iterator[str]:
    if row.joins:
        yield f"Interaction: {row.joins}."
    if row.baseline is not None:
        at = "" if row.baseline_target is None else f", where the score is {row.baseline_target:+.4g}"
        yield f"Absent is: baseline {row.baseline}{at}."
    if row.erased is not None:
        beside = "" if row.control is None else f" Random spans as long: {signed(row.control)}."
        yield f"Erased: by how much the score falls without the foremost span of at most half the text.{beside}"
    if row.forwards is not None:
        yield f"Forward passes: {row.forwards:,}."
