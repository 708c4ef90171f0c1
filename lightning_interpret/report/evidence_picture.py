"""A card as a picture: the query, what the prediction was made from with bars for numbers, how that was found."""

from __future__ import annotations

import math
from collections.abc import Iterator

from PIL import Image

from lightning_interpret.cards import Card, Label, Line, Strip, card_of, percent
from lightning_interpret.palette import AGAINST, FOR
from lightning_interpret.records import Row
from lightning_interpret.report import explained_picture, image, map_picture, targets_picture, tree_picture
from lightning_interpret.report.canvas import Canvas, Colour, Pen
from lightning_interpret.report.fonts import ranked
from lightning_interpret.report.frame import (
    ALARM,
    BODY,
    FACT,
    GREY,
    INK,
    MARGIN,
    NARROWEST,
    RULE,
    SMALL,
    TINY,
    TITLE,
    flowed,
    write,
)
from lightning_interpret.report.parts import GAP, LEADING, Part, heading, text_of, wrapped, written
from lightning_interpret.report.words import Shade
from lightning_interpret.texts import printable

_EXAMPLES, _NOTES, _TEXTS = 5, 3, 6  # that are shown of each list
_SENTENCE_LINES, _QUERY_LINES, _EXAMPLE_LINES, _TOKEN_LINES = 12, 4, 2, 6  # of text
_NUMBER = 64  # width of the column of scores
_COLOURS: dict[int, Colour] = {1: FOR, -1: AGAINST}  # by the sign of a table's numbers
_ALARMS = ("NOT CONVERGED", "NOT ADD UP")


def render(row: Row, *, width: int = 440) -> Image.Image:
    """Return a picture of a row: of each list five examples; those left out are counted.

    Args:
        row: The row to show.
        width: Width in points, of two pixels each; at least 240. The default is legible in a card of the Images tab.
    """
    card, width = card_of(row), max(width, NARROWEST)
    pen = Pen(ranked(printable(" ".join(_texts(card)))))
    parts = list(_parts(card, pen, width - 2 * MARGIN))
    canvas = Canvas(width, sum(part.height for part in parts) + MARGIN, pen)
    top = 0.0
    for part in parts:
        part.draw(canvas, top)
        top += part.height
    return canvas.image


def _texts(card: Card) -> Iterator[str]:
    yield from (
        card.origin,
        card.title,
        card.text,
        *card.sentence,
        *card.total,
        *card.stated,
        *card.notes,
        *(value for _, value in card.facts),
    )
    yield from (f"{line.label} {line.text or ''}" for table in card.tables for line in table.lines)
    yield from (
        *(label.name for label in card.labels),
        *(token for token, _ in (card.strip.tokens if card.strip else ())),
        *(mark.text for mark in (card.passage.marks if card.passage else ())),
        *(f"{quote.name} {quote.text}" for quote in card.quotes),
        *(card.tree.words if card.tree else ()),
    )
    for text in card.texts:
        yield f"{text.heading} {' '.join(text.facts)} {' '.join(outline.name for outline in text.outlines)} …–"
        yield from (f"{part.name} {' '.join(piece.text for piece in part.pieces)}" for part in text.sections)
    if card.cross is not None:
        yield from (*card.cross.parts, *(column.text for column in card.cross.columns), "Σ–…")
        yield from (aim.label for aim in card.cross.aims)
    for bars in card.bars:
        yield f"{bars.title} {bars.meaning} {bars.rest}"
        yield from (" · ".join([bar.name, bar.number, *map(" ".join, bar.beside)]) for bar in bars.bars)


def _parts(card: Card, pen: Pen, room: float) -> Iterator[Part]:
    if card.sentence:
        yield text_of("".join(card.sentence), pen, BODY, INK, room, _SENTENCE_LINES, above=10)
    yield _header(card, pen, room)
    for quote in card.quotes:
        yield from explained_picture.quote(quote.name, quote.text, pen, room)
    if card.quotes:
        yield heading("Query", "", pen, room)
    for text in card.texts[:_TEXTS]:
        yield from targets_picture.coloured(text, pen, room)
    if card.texts:
        more = len(card.texts) - _TEXTS
        yield from [text_of(f"… {more} more texts", pen, SMALL, GREY, room, 1, above=4)] if more > 0 else []
    elif card.passage is None:
        yield text_of(card.text, pen, BODY, INK, room, _QUERY_LINES, below=8)
    else:
        yield from explained_picture.passage(card.passage, pen, room)
    if card.cross is not None:
        yield from targets_picture.cross(card.cross, pen, room)
    if card.tree is not None:
        yield from tree_picture.tree(card.tree, pen, room)
    for maps in card.maps:
        yield from map_picture.maps(maps, pen, room)
    for bars in card.bars:
        yield from explained_picture.bars(bars, pen, room)
    for table in card.tables:
        colour = _COLOURS.get(table.sign)
        yield heading(table.title, table.meaning, pen, room, colour or INK)
        yield from (_example(line, pen, room, colour) for line in table.lines[:_EXAMPLES])
        left_out = len(table.lines) - _EXAMPLES
        if left_out > 0 or not table.lines:
            yield text_of(f"… {left_out} more" if table.lines else table.none, pen, SMALL, GREY, room, 1)
    if card.total:
        yield _stated("".join(card.total), pen, room, SMALL, INK, above=10)
    if card.labels:
        yield heading("Labels", "share among the neighbours, with p of kNN and of the model", pen, room)
        yield from (_label(label, pen, room) for label in card.labels)
    if card.strip is not None:
        yield heading("Tokens", card.strip.legend("blue: ", "; orange: "), pen, room)
        yield _strip(card.strip, pen, room)
    yield Part(10, lambda canvas, top: canvas.box(MARGIN, top + 6, room, 1, RULE))
    for line in (*card.stated, *card.notes[:_NOTES]):
        yield _stated(line, pen, room, TINY, GREY, below=2)


def _header(card: Card, pen: Pen, room: float) -> Part:
    facts = flowed(((f"{name} {value}", INK) for name, value in card.facts), pen, room)
    height = 68 + FACT * len(facts)

    def draw(canvas: Canvas, top: float) -> None:
        canvas.text(MARGIN, top + 30, pen.clipped(printable(card.origin), SMALL, room), SMALL, GREY)
        title = pen.clipped(printable(card.title), TITLE, room)
        canvas.text(MARGIN, top + 53, title, TITLE, ALARM if card.wrong else INK)
        write(canvas, facts, top + 75)
        canvas.box(MARGIN, top + height, room, 1, RULE)

    return Part(height + 6, draw)


def _stated(text: str, pen: Pen, room: float, size: int, colour: Colour, above: float = 0, below: float = 0) -> Part:
    alarming = any(alarm in text for alarm in _ALARMS)
    return text_of(text, pen, size, ALARM if alarming else colour, room, 4, above, below)


def _example(line: Line, pen: Pen, room: float, colour: Colour | None) -> Part:
    left = MARGIN + _NUMBER + GAP
    texts = wrapped(line.text or "(no text)", pen, SMALL, room - _NUMBER - GAP, _EXAMPLE_LINES)
    facts: list[tuple[str, Colour]] = [(f"id {line.example_id}", GREY)]
    if line.gold is not None:
        facts.append((line.label, GREY if line.prediction is None else ALARM))
    facts += [(f"{name} {value}", GREY) for name, value in line.beside.items()]
    below = flowed(facts, pen, room - _NUMBER - GAP)
    height = LEADING[SMALL] * (len(texts) + len(below))

    def draw(canvas: Canvas, top: float) -> None:
        number = pen.clipped(line.number, SMALL, _NUMBER)
        canvas.text(MARGIN + _NUMBER, top + LEADING[SMALL] - 4, number, SMALL, INK, align="r")
        if colour is not None:
            canvas.box(MARGIN, top + 18, _NUMBER, 6, RULE)
            canvas.box(MARGIN, top + 18, max(1.0, _NUMBER * abs(line.strength)), 6, colour)
        written(canvas, texts, top, SMALL, INK, left)
        for place, found in enumerate(below, len(texts) + 1):
            for fact in found:
                canvas.text(_NUMBER + GAP + fact.x, top + LEADING[SMALL] * place - 4, fact.text, SMALL, fact.colour)

    return Part(height + 6, draw)


def _label(label: Label, pen: Pen, room: float) -> Part:
    name, bar = 0.25 * room, 0.25 * room
    numbers = [percent(label.share)]
    numbers += [] if label.neighbors is None else [f"kNN {percent(label.neighbors)}"]
    numbers += [] if label.model is None else [f"model {percent(label.model)}"]

    def draw(canvas: Canvas, top: float) -> None:
        canvas.text(MARGIN, top + 14, pen.clipped(printable(label.name), SMALL, name - GAP), SMALL, INK)
        canvas.box(MARGIN + name, top + 5, bar, 10, RULE)
        canvas.box(MARGIN + name, top + 5, max(1.0, bar * min(1.0, label.share or 0.0)), 10, FOR)
        left = name + bar + GAP
        canvas.text(MARGIN + left, top + 14, pen.clipped(" · ".join(numbers), SMALL, room - left), SMALL, GREY)

    return Part(20, draw)


def _strip(strip: Strip, pen: Pen, room: float) -> Part:
    scale = strip.strength or 1.0
    shares = (score / scale if math.isfinite(score) else 0.0 for _, score in strip.tokens)
    words = [
        Shade(printable(token), score, share, False) for (token, score), share in zip(strip.tokens, shares, strict=True)
    ]
    lines, left_out = image.laid_out(words, pen, room, _TOKEN_LINES)

    def draw(canvas: Canvas, top: float) -> None:
        for number, line in enumerate(lines):
            for placed in line:
                image.draw_word(canvas, placed, top + image.PITCH * number)
        if left_out:
            canvas.text(MARGIN, top + height - 6, f"… {len(left_out)} more tokens", SMALL, GREY)

    height = image.PITCH * len(lines) + (FACT if left_out else 0)
    return Part(height, draw)
