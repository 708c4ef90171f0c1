"""A row as HTML, for notebooks: words in their colours, an image under those of its locations, or a card of evidence.

Every text is escaped and isolated (``bdi``): what was logged is never markup.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING

from lightning_interpret.cards import Card, Label, Line, Strip, card_of, percent
from lightning_interpret.palette import AGAINST, FOR, background, foreground, scale_of
from lightning_interpret.texts import printable

if TYPE_CHECKING:
    from lightning_interpret.evidence import EvidenceRow
    from lightning_interpret.explanations import AttributionRow

_SIDE = 224  # pixels of an image's longer side
_MOST = 0.75  # opacity of the strongest location: the image is still seen below it


def html(row: AttributionRow) -> str:
    """Return a paragraph that says what was explained, and what the scores are."""
    shown = _image(row) if row.units == "location" else f"<p>{_words(row)}</p>"
    return f"<p>{escape(row.summary())}</p>{shown}"


def card(row: EvidenceRow) -> str:
    """Return the card of a record of evidence: the query, its training examples, labels, and how they were found."""
    shown = card_of(row)
    parts = [
        f"<p>{_turns(shown.sentence)}</p>" if shown.sentence else "",
        f"<p><b>{_text(shown.title)}</b></p>",
        f"<p>{_facts(shown)}</p>",
        f"<blockquote>{_text(shown.text)}</blockquote>",
    ]
    for each in shown.tables:
        parts.append(f"<p><b>{each.title}</b>: {_text(each.meaning)}</p>")
        heads = (each.column, "", "id", "label", "text", *each.beside)
        lines = (_line(line, each.beside) for line in each.lines)
        parts.append(_table(heads, lines) if each.lines else f"<p>{each.none}</p>")
    if shown.total:
        parts.append(f"<p>{_turns(shown.total)}</p>")
    if shown.labels:
        columns = ("label", "among neighbours", "", "p of kNN", "p of model")
        parts.append(_table(columns, map(_label, shown.labels)))
    if shown.strip is not None:
        said = f"Tokens, blue: {shown.strip.positive}; orange: {shown.strip.negative}."
        parts.append(f"<p>{said} {_tokens(shown.strip)}</p>")
    parts += [f"<p><small>{_text(line)}</small></p>" for line in shown.stated]
    notes = "".join(f"<li>{_text(note)}</li>" for note in shown.notes)
    return "".join(parts) + (f"<ul>{notes}</ul>" if notes else "")


def _text(text: str) -> str:
    return f"<bdi>{escape(printable(text))}</bdi>"


def _turns(pieces: Sequence[str]) -> str:
    """Return our words and logged texts in turn, each text isolated from the words around it."""
    return "".join(_text(piece) if i % 2 else escape(piece) for i, piece in enumerate(pieces))


def _facts(shown: Card) -> str:
    return " · ".join(f"{name} <b>{_text(value)}</b>" for name, value in shown.facts)


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f"<th scope='col'>{name}</th>" for name in heads)
    body = "".join(
        "<tr>" + "".join(f"<td style='text-align:left'>{cell}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _line(line: Line, names: Iterable[str]) -> Sequence[str]:
    label = _text(line.label)
    marked = label if line.prediction is None else f"<b>{label}</b>"
    beside = (_text(value or "–") for value in (line.text, *map(line.beside.get, names)))
    return (_text(line.number), _bar(line.strength), str(line.example_id), marked, *beside)


def _label(label: Label) -> Sequence[str]:
    return (
        *(_text(label.name), percent(label.share), _bar(label.share or 0.0)),
        *(percent(label.neighbors), percent(label.model)),
    )


def _bar(strength: float) -> str:
    colour = FOR if strength >= 0 else AGAINST
    size = f"width:{6 * min(1.0, abs(strength)):.2f}em;height:.6em"
    return f'<span style="display:inline-block;{size};background:rgb{colour}"></span>'


def _tokens(strip: Strip) -> str:
    scale = strip.strength or 1.0
    return " ".join(_span(printable(token), score, score / scale) for token, score in strip.tokens)


def _span(text: str, score: float, share: float) -> str:
    share = share if math.isfinite(share) else 0.0
    return (
        f'<span title="{score:+.4g}" style="background:rgb{background(share)};'
        f'color:rgb{foreground(share)};padding:0 .2em">{escape(text)}</span>'
    )


def _words(row: AttributionRow) -> str:
    words = row.merged()
    # special tokens are left out, as in every picture: a large score on one would pale every word
    scale = scale_of([word.score for word in words if not word.special])
    return " ".join(_span(word.text, word.score, word.score / scale) for word in words)


def _image(row: AttributionRow) -> str:
    whole = row.locations()
    grid = whole.pool()
    shapes = []
    if row.image is not None and row.image.startswith("data:image/"):
        shapes.append(
            f'<image href="{escape(row.image)}" width="1" height="1" preserveAspectRatio="none" '
            'style="filter:grayscale(1)"/>'
        )
    for i, (score, strength) in enumerate(zip(grid.scores, grid.strengths, strict=True)):
        fill = f'fill="rgb{FOR if strength > 0 else AGAINST}" fill-opacity="{_MOST * abs(strength):.2f}"'
        title = f"<title>row {i // grid.shape[1] + 1}, column {i % grid.shape[1] + 1}: {score:+.3g}</title>"
        shapes.append(f"<rect {_at(*grid.edges(i))} {fill}>{title}</rect>")
    if row.box is not None:
        shapes.append(f'<rect {_at(*row.box)} fill="none" stroke="black" stroke-width="0.01"/>')
    high, wide = (round(_SIDE * side / max(whole.shape)) for side in whole.shape)
    size = f'width="{wide}" height="{high}" viewBox="0 0 1 1" preserveAspectRatio="none"'
    return f"<svg {size}>{''.join(shapes)}</svg><p>{escape('; '.join(grid.said()))}</p>"


def _at(x0: float, y0: float, x1: float, y1: float) -> str:
    return f'x="{x0:.4f}" y="{y0:.4f}" width="{x1 - x0:.4f}" height="{y1 - y0:.4f}"'
