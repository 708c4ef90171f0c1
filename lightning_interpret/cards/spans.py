"""The card of spans: the foremost ones with their weights, what erasing each costs, and the weights of the tokens."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lightning_interpret.cards.card import Strip, percent
from lightning_interpret.cards.parts import Bar, Bars
from lightning_interpret.cards.said import subject, turns
from lightning_interpret.rationales import Span, SpansRow
from lightning_interpret.texts import shortened, signed

_TEXT, _MOST = 70, 20  # characters of a span in the sentence, and spans on the card


def parts(row: SpansRow) -> dict[str, Any]:
    """Return what the card of spans has of its own."""
    return {
        "origin": "spans" if row.width is None else f"spans · up to {row.width} tokens",
        "facts": tuple(_facts(row)),
        "bars": (_bars(row),),
        "strip": Strip.of("weight of the tokens", "weight of the spans it is in", "", row.tokens, row.token_weights),
        "sentence": sentence(row),
        "stated": tuple(_stated(row)),
    }


def sentence(row: SpansRow) -> tuple[str, ...]:
    """Return what the model said, and by which span most: our words and logged texts in turn."""
    if not row.spans:
        return ()
    (said, texts), foremost = subject(row), row.spans[0]
    words = f"{said}, {percent(foremost.weight)} of it by '{{}}'."
    return turns(words, [*texts, shortened(text_of(row, foremost), _TEXT)])


def text_of(row: SpansRow, span: Span) -> str:
    """Return the words of a span: its own, or its tokens."""
    return span.text or " ".join(row.tokens[max(0, span.start) : span.end]) or f"tokens {span.start} to {span.end - 1}"


def _facts(row: SpansRow) -> Iterator[tuple[str, str]]:
    if row.target is not None:
        name = "" if row.target_name is None else f" ({row.target_name})"
        yield "score", f"{row.target:+.4g}{name}"
    if row.sharpness is not None:
        yield "sharpness", f"{row.sharpness:.2g}"
    erased = row.spans[0].erased if row.spans else None
    if erased is not None:
        yield "foremost erased", f"falls by {erased:.3g}"
    if row.control is not None:
        yield "random span erased", f"falls by {row.control:.3g}"


def _bars(row: SpansRow) -> Bars:
    largest = max((span.weight for span in row.spans), default=0.0) or 1.0
    bars = tuple(
        Bar.of(
            text_of(row, span),
            percent(span.weight),
            span.weight / largest,
            tokens=f"{span.start}–{span.end - 1}",
            erased=None if span.erased is None else signed(span.erased),
        )
        for span in row.spans[:_MOST]
    )
    shown = sum(span.weight for span in row.spans[:_MOST])
    left_out = max(row.considered, len(row.spans)) - len(bars)
    rest = f"{left_out:,} more spans share {percent(max(0.0, 1 - shown))}." if left_out > 0 else ""
    meaning = "their weights are the prediction's parts, the largest first"
    return Bars("Spans", meaning, "span", "weight", bars, "No span has a weight.", rest)


def _stated(row: SpansRow) -> Iterator[str]:
    if row.sharpness is not None:
        least = f" from {1 / row.considered:.2g}" if row.considered else ""
        yield f"Sharpness: Σ weight² over all spans{least} to 1, where one span has it all."
    if any(span.erased is not None for span in row.spans):
        beside = "" if row.control is None else f" A random span as long as the foremost one: {signed(row.control)}."
        yield f"Erased: by how much the score falls without the span.{beside}"
