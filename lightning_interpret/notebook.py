"""A row as HTML, for notebooks: words in their colours, an image under those of its locations, or a card of evidence.

Every text is escaped and isolated (``bdi``): what was logged is never markup.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape
from itertools import accumulate
from typing import TYPE_CHECKING

from lightning_interpret.cards import (
    Aim,
    Bar,
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
    card_of,
    number_of,
    percent,
)
from lightning_interpret.palette import AGAINST, FOR, background, foreground, scale_of
from lightning_interpret.texts import printable

if TYPE_CHECKING:
    from lightning_interpret.explanations import AttributionRow
    from lightning_interpret.records import Row

_SIDE = 224  # pixels of an image's longer side
_MOST = 0.75  # opacity of the strongest location: the image is still seen below it


def html(row: AttributionRow) -> str:
    """Return a paragraph that says what was explained, and what the scores are."""
    shown = _image(row) if row.units == "location" else f"<p>{_words(row)}</p>"
    return f"<p>{escape(row.summary())}</p>{shown}"


def card(row: Row) -> str:
    """Return the card of a record: the query, what the prediction was made from, and how that was found."""
    shown = card_of(row)
    parts = [
        f"<p>{_turns(shown.sentence)}</p>" if shown.sentence else "",
        f"<p><b>{_text(shown.title)}</b></p>",
        f"<p>{_facts(shown)}</p>",
        *(f"<p><b>{quote.name}</b></p><blockquote>{_text(quote.text)}</blockquote>" for quote in shown.quotes),
        "<p><b>Query</b></p>" if shown.quotes else "",
    ]
    if not shown.texts:
        text = f"<blockquote>{_text(shown.text)}</blockquote>"
        parts.append(text if shown.passage is None else _passage(shown.passage))
    parts += map(_coloured, shown.texts)
    parts += [] if shown.cross is None else [_cross(shown.cross)]
    if shown.tree is not None:
        parts.append(f"<p><b>Spans</b>: {_text(shown.tree.meaning)}</p>")
        joined = any(branch.joined for branch in shown.tree.branches)
        heads = ("span", "", "score", *(["interaction"] if joined else []))
        parts.append(_table(heads, (_branch(branch, joined) for branch in shown.tree.branches)))
        parts.append(f"<p>{_text(shown.tree.rest)}</p>" if shown.tree.rest else "")
    for bars in shown.bars:
        parts.append(f"<p><b>{escape(printable(bars.title))}</b>: {_text(bars.meaning)}</p>")
        heads = (bars.what, "", bars.column, *bars.beside)
        parts.append(
            _table(heads, (_named(bar, bars.beside) for bar in bars.bars)) if bars.bars else f"<p>{bars.none}</p>"
        )
        parts.append(f"<p>{_text(bars.rest)}</p>" if bars.rest else "")
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
        said = f"Tokens{shown.strip.legend(', blue: ', '; orange: ')}."
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


def _passage(passage: Passage) -> str:
    """Return a text with what was selected of it in bold on a wash, what people selected underlined, the rest faint."""
    words = "".join(" " * (mark.space and i > 0) + _mark(mark) for i, mark in enumerate(passage.marks))
    said = "Bold: selected." + (" Underlined: selected by people." if passage.agreement is not None else "")
    side = "rtl" if passage.right_to_left else "ltr"
    return f'<blockquote dir="{side}" style="line-height:1.8">{words}</blockquote><p><small>{said}</small></p>'


def _mark(mark: Mark) -> str:
    text = f"<bdi>{escape(printable(mark.text))}</bdi>"
    title = "" if mark.probability is None else f' title="gate {mark.probability:.2f}"'
    line = "text-decoration:underline 2px;text-underline-offset:.25em;" if mark.gold else ""
    if mark.selected:
        wash = f"background:rgb{background(0.25)};color:black;padding:0 .15em"
        return f'<b{title} style="{line}{wash}">{text}</b>'
    return f'<span{title} style="{line}opacity:.65">{text}</span>'


def _coloured(text: Coloured) -> str:
    """Return a text in the colours of its scores, what is outlined in a frame with its name."""
    facts = "".join(f" · {_text(fact)}" for fact in text.facts)
    side = "rtl" if text.right_to_left else "ltr"
    parts = [f"<p><b>{_text(text.heading)}</b>{facts}</p>"]
    for section in text.sections:
        name = f"<small>{_text(section.name)}</small><br>" if section.name else ""
        words = ""
        for number, run in section.runs():
            inner = "".join(" " * (piece.space and i > 0) + _piece(piece) for i, piece in enumerate(run))
            if number is not None:
                outline = text.outlines[number]
                colour = "#b02025" if outline.wrong else "currentColor"
                inner = (
                    f'<span style="border:2px solid {colour};border-radius:4px;padding:0 .15em">{inner} '
                    f"<small><b>{_text(outline.name)}</b></small></span>"
                )
            words += " " * (run[0].space and bool(words)) + inner
        parts.append(f'<blockquote dir="{side}" style="line-height:1.9">{name}{words}</blockquote>')
    return "".join(parts)


def _piece(piece: Piece) -> str:
    text = f"<bdi>{escape(printable(piece.text))}</bdi>"
    if piece.score is None or piece.special:
        return f'<span style="opacity:.65">{text}</span>' if piece.special else text
    return (
        f'<span title="{number_of(piece.score)}" style="background:rgb{background(piece.strength)};'
        f'color:rgb{foreground(piece.strength)};padding:0 .15em">{text}</span>'
    )


def _cross(cross: Cross) -> str:
    """Return targets, a row each, by the words that they are read from; what is not read is empty."""
    side = "rtl" if cross.right_to_left else "ltr"
    over = "".join(f'<th scope="colgroup" colspan="{size}">{_text(name)}</th>' for name, size in cross.spans())
    upright = "writing-mode:vertical-rl;transform:rotate(180deg);max-height:9em;overflow:hidden"
    heads = (f'<th scope="col"><span style="{upright}">{_text(column.text)}</span></th>' for column in cross.columns)
    ends = [*(f"Σ {name}".strip() for name in cross.parts), "value", "error"]
    last = "".join(f'<th scope="col">{_text(name)}</th>' for name in ends)
    top = f'<tr><td></td>{over}<td colspan="{len(ends)}"></td></tr>' if len(cross.parts) > 1 else ""
    head = f'{top}<tr><th scope="col">token</th>{"".join(heads)}{last}</tr>'
    rest = f"<p>{_text(cross.rest)}</p>" if cross.rest else ""
    said = f"<p>{_text(cross.meaning)}; full colour at {_text(number_of(cross.largest))}</p>"
    grid = f"<table><thead>{head}</thead><tbody>{''.join(_aim(cross, aim) for aim in cross.aims)}</tbody></table>"
    return f'{said}<div style="overflow-x:auto" dir="{side}">{grid}</div>{rest}'


def _aim(cross: Cross, aim: Aim) -> str:
    starts = {0, *accumulate(size for _, size in cross.spans())}  # a part stands apart from the one before it
    cells = []
    for i, cell in enumerate(aim.cells):
        style = "border-inline-start:.6em solid transparent;background-clip:padding-box;" if i in starts and i else ""
        if cell is None:
            cells.append(f'<td style="{style}"></td>')
            continue
        style += (
            f"background-color:rgb{background(cell.strength)};color:rgb{foreground(cell.strength)};text-align:center"
        )
        cells.append(f'<td style="{style}"><small dir="ltr">{number_of(cell.score)}</small></td>')
    totals = [*aim.sums, *["–"] * (len(cross.parts) - len(aim.sums))]
    ends = "".join(f"<td>{_text(text)}</td>" for text in (*totals, aim.value))
    failed = " <b>not converged</b>" if aim.failed else ""
    colour = ' style="color:#b02025"' if aim.wrong else ""
    name = f'<th scope="row"{colour}>{_text(aim.label)}</th>'
    return f"<tr>{name}{''.join(cells)}{ends}<td>{_text(aim.error)}{failed}</td></tr>"


def _named(bar: Bar, names: Iterable[str]) -> Sequence[str]:
    known = dict(bar.beside)
    return (_text(bar.name), _bar(bar.strength), _text(bar.number), *(_text(known.get(name, "–")) for name in names))


def _branch(branch: Branch, joined: bool) -> Sequence[str]:
    name = f"{escape(branch.lead)}{_text(branch.text)}"
    beside = [_text(branch.joined or "–")] if joined else []
    return (name, _bar(branch.strength), _text(branch.number), *beside)


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
    parts = row.parts()
    # special tokens are left out, as in every picture: a large score on one would pale every word
    scale = scale_of([word.score for _, words in parts for word in words if not word.special])
    texts = (" ".join(_span(word.text, word.score, word.score / scale) for word in words) for _, words in parts)
    names = (f"<small>{_text(name)}</small> " if name else "" for name, _ in parts)
    return "<br>".join(name + text for name, text in zip(names, texts, strict=True))


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
