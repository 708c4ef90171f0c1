"""A card as Markdown for the Text tab: the query, what the prediction was made from, how that was found."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

from lightning_interpret.cards import (
    EXAMPLE,
    QUERY,
    Aim,
    Bar,
    Bars,
    Branch,
    Card,
    Coloured,
    Cross,
    Label,
    Line,
    Mark,
    Passage,
    Piece,
    Strip,
    Table,
    Tree,
    card_of,
    number_of,
    percent,
)
from lightning_interpret.records import Row
from lightning_interpret.report.markdown import cell, escape, squares, table
from lightning_interpret.texts import signed

_MATTERS = 0.2  # share of the largest score from which a token is marked
_COLUMNS = 12  # words of a table that targets are read from


def render(row: Row) -> str:
    """Return a row as Markdown: every text of it literal, at most some hundred characters of each."""
    return "\n\n".join(_parts(card_of(row)))


def _parts(card: Card) -> Iterator[str]:
    # what is read first comes first: the tab shows some ten lines of a card before it scrolls
    if card.sentence:
        yield escape("".join(card.sentence), 2 * QUERY)
    yield " · ".join(
        [f"**{escape(card.title, QUERY)}**", *(f"{name} {escape(value, QUERY)}" for name, value in card.facts)]
    )
    for quote in card.quotes:
        yield f"**{quote.name}**"
        yield "> " + escape(quote.text, QUERY)
    yield from ["**Query**"] if card.quotes else []
    if not card.texts:
        yield from [f"> {escape(card.text, QUERY)}"] if card.passage is None else _passage(card.passage)
    for text in card.texts:
        yield from _coloured(text)
    if card.cross is not None:
        yield from _cross(card.cross)
    if card.tree is not None:
        yield f"**Spans**: {escape(card.tree.meaning, QUERY)}"
        yield _tree(card.tree)
        yield from filter(None, [escape(card.tree.rest, QUERY)])
    for bars in card.bars:
        yield f"**{escape(bars.title, QUERY)}**: {escape(bars.meaning, QUERY)}"
        yield _bars(bars) if bars.bars else bars.none
        yield from filter(None, [escape(bars.rest, QUERY)])
    for each in card.tables:
        yield f"**{each.title}**: {escape(each.meaning, QUERY)}"
        yield _examples(each) if each.lines else each.none
    if card.total:
        yield escape("".join(card.total), QUERY)
    if card.labels:
        yield table(["label", "among neighbours", "", "p of kNN", "p of model"], map(_label, card.labels))
    if card.strip is not None:
        yield f"Tokens{card.strip.legend(', 🟦 ', ', 🟧 ')}: {_strip(card.strip)}"
    yield from (escape(line, 2 * QUERY) for line in card.stated)
    if card.notes:
        yield "\n".join(f"- {escape(note, QUERY)}" for note in card.notes)


def _passage(passage: Passage) -> Iterator[str]:
    pieces = (" " * (mark.space and i > 0) + _run(mark, text) for i, (mark, text) in enumerate(passage.runs()))
    yield "> " + "".join(pieces)
    known = passage.agreement is not None
    yield "**Bold**: selected" + ("; *slanted*: selected by people" if known else "") + "."
    if known:
        yield "People selected: " + (escape(" · ".join(passage.marked("gold")), QUERY) or "nothing.")


def _run(mark: Mark, text: str) -> str:
    marks = "**" * mark.selected + "*" * mark.gold
    return f"{marks}{escape(text, len(text))}{marks}"


def _coloured(text: Coloured) -> Iterator[str]:
    """Yield a text with its strongest words marked by squares, and what is outlined in brackets with its name."""
    yield " · ".join([f"**{escape(text.heading, QUERY)}**", *(escape(fact, QUERY) for fact in text.facts)])
    for section in text.sections:
        found: list[str] = []
        for number, run in section.runs():
            words = "".join(" " * (piece.space and i > 0) + _piece(piece) for i, piece in enumerate(run))
            if number is not None:
                outline = text.outlines[number]
                name = escape(outline.name, QUERY)
                words = f"{escape('[')}{words}{escape(']')} " + (f"**{name}**" if outline.wrong else f"*{name}*")
            found.append(" " * (run[0].space and bool(found)) + words)
        name = f"*{escape(section.name)}*: " if section.name else ""
        yield f"> {name}{''.join(found)}"


def _piece(piece: Piece) -> str:
    score = piece.score
    if score is None or piece.special or abs(piece.strength) < _MATTERS:
        return escape(piece.text)
    return f"**{escape(piece.text)}** {squares(piece.strength)} {escape(signed(score))}"


def _cross(cross: Cross) -> Iterator[str]:
    """Yield a table of targets: the sums of the parts, then the strongest words in the order of the text."""
    yield f"**From what each token was made**: 🟦 for it, 🟧 against it, up to {escape(signed(cross.largest))}"
    cells = [[cell for aim in cross.aims if (cell := aim.cells[i])] for i in _words(cross)]
    size = [max((abs(cell.strength) for cell in column), default=0.0) for column in cells]
    strongest = sorted(zip(size, _words(cross), strict=True), key=lambda pair: -pair[0])[:_COLUMNS]
    places = sorted(i for _, i in strongest)
    parts = [escape(f"Σ {name}".strip()) for name in cross.parts]
    words = [_head(cross, i, places[at - 1] if at else None) for at, i in enumerate(places)]
    yield table(["token", "value", *parts, "error", *words], (_aim(aim, len(parts), places) for aim in cross.aims))
    left_out = len(_words(cross)) - len(places)
    said = [f"{left_out} more words are weaker."] if left_out else []
    yield from filter(None, [" ".join([*said, escape(cross.rest)]).strip()])


def _words(cross: Cross) -> list[int]:
    return [i for i, column in enumerate(cross.columns) if not column.special]


def _head(cross: Cross, i: int, before: int | None) -> str:
    """Return the heading of a column; where a part begins its name stands first."""
    column = cross.columns[i]
    begins = len(cross.parts) > 1 and (before is None or cross.columns[before].segment != column.segment)
    return (f"*{escape(cross.part(column.segment))}*: " if begins else "") + escape(column.text)


def _aim(aim: Aim, parts: int, places: Iterable[int]) -> list[str]:
    sums = [*aim.sums, *["–"] * (parts - len(aim.sums))]
    cells = (aim.cells[i] for i in places)
    scores = [
        "" if cell is None else f"{escape(number_of(cell.score))} {squares(cell.strength)}".strip() for cell in cells
    ]
    name = f"**{escape(aim.label)}**" if aim.wrong else escape(aim.label)
    error = f"**{escape(aim.error)}, not converged**" if aim.failed else escape(aim.error)
    return [name, escape(aim.value), *map(escape, sums), error, *scores]


def _bars(found: Bars) -> str:
    heads = [found.what, found.column, "", *found.beside]
    return table(heads, (_bar(bar, found.beside) for bar in found.bars))


def _bar(bar: Bar, names: Iterable[str]) -> list[str]:
    known = dict(bar.beside)
    beside = [escape(known.get(name, "–")) for name in names]
    return [cell(bar.name, EXAMPLE), escape(bar.number), squares(bar.strength) if bar.strength else "", *beside]


def _tree(found: Tree) -> str:
    joined = any(branch.joined for branch in found.branches)
    return table(
        ["span", "score", "", *(["interaction"] if joined else [])],
        (_branch(branch, joined) for branch in found.branches),
    )


def _branch(branch: Branch, joined: bool) -> list[str]:
    beside = [escape(branch.joined or "–")] if joined else []
    bar = squares(branch.strength) if branch.strength else ""
    return [cell(branch.lead + branch.text, EXAMPLE), escape(branch.number), bar, *beside]


def _examples(found: Table) -> str:
    heads = [found.column, "id", "label", "text", *found.beside]
    return table(heads, (_line(line, found.beside) for line in found.lines))


def _line(line: Line, names: Iterable[str]) -> list[str]:
    text = "–" if line.text is None else cell(line.text, EXAMPLE)
    numbers = [escape(line.beside.get(name, "–")) for name in names]
    label = escape(line.label, EXAMPLE)
    marked = label if line.prediction is None else f"**{label}**"
    number = f"{escape(line.number)} {squares(line.strength)}".rstrip()
    return [number, str(line.example_id), marked, text, *numbers]


def _label(label: Label) -> list[str]:
    bar = "▇" * math.ceil(10 * (label.share or 0.0))
    return [escape(label.name), percent(label.share), bar, percent(label.neighbors), percent(label.model)]


def _strip(strip: Strip) -> str:
    scale = strip.strength or 1.0

    def shown(token: str, score: float) -> str:
        if not math.isfinite(score) or abs(score) < _MATTERS * scale or not score:
            return escape(token)
        return f"**{escape(token)}** {squares(score / scale)} {escape(signed(score))}"

    return " ".join(shown(token, score) for token, score in strip.tokens)
