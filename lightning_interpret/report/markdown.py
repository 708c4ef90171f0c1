"""A row as Markdown for TensorBoard's Text tab, which shows no colour: squares stand for it."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from textwrap import TextWrapper

from lightning_interpret.explanations import AttributionRow
from lightning_interpret.locations import Grid, Location, box_text
from lightning_interpret.report.words import Shade, not_given, sections, shades
from lightning_interpret.texts import printable, shortened, signed

_MATTERS = 0.2  # share of the largest score from which a word is marked
_LISTED = 20  # locations of an image
_TEXT = 1000  # words of the running text: TensorBoard renders Markdown anew at every request
# Python-Markdown knows a backslash before 16 characters only and shows it before the others, `<` and `|` among them.
# A numeric reference is literal everywhere, in a table, at the start of a line and through the sanitiser. What means
# nothing where it stands is left, for who reads the source: prose, numbers (-0.5) and names (deep_lift).
_MARKUP = re.compile(
    r"[\\`*{}\[\]<>#&|~^$@]"
    r"|(?<![^\W_])_|_(?![^\W_])"  # emphasis at the edge of a word
    r"|[-+=](?![^\W_])"  # an item, a rule, an underline
    r"|(?<=\d)[.)](?!\S)"  # a number of a list
    r"|:(?=\S)"  # an address
)
_LINES = TextWrapper(32, drop_whitespace=False, replace_whitespace=False, expand_tabs=False, break_on_hyphens=False)
_COLLAPSING = re.compile(r"^ | $| (?= )")


def render(row: AttributionRow, *, limit: int = 60) -> str:
    """Return a row as Markdown: what was explained, the text with its strongest words marked, the words by weight.

    Args:
        row: The row to show.
        limit: Most words that the table lists; the rest are summed up below it. Of an image 20 locations are listed.
    """
    # what is read first comes first: the tab shows some ten lines of a card before it scrolls
    if row.units == "location":
        shown = [_literal("; ".join(row.locations().said())), _legend(row), _locations(row.locations())]
    else:
        words = shades(row)
        shown = [_running(row, words), _legend(row), _ranking(words, limit)]
    parts = [*_warnings(row), _headline(row), *shown, _facts(row)]
    return "\n\n".join(parts + [f"- {_literal(line)}" for line in not_given(row)])


def escape(token: str, longest: int = 80) -> str:
    """Return Markdown that shows a text literally, wherever it stands; at most so many characters of it."""
    shown = printable(token[: longest + 1])
    return _literal(shown if len(shown) <= longest else shown[: longest - 1] + "…")


def cell(text: str, longest: int) -> str:
    """Return a text literally for a cell of a table, in short lines: beside a long one ids and numbers are broken."""
    shown = shortened(printable(text[: longest + 1]), longest)
    return "<br>".join(_literal(line.strip(" ")) for line in _LINES.wrap(shown)) or _literal(shown)


def _literal(text: str) -> str:
    return _COLLAPSING.sub("&nbsp;", _MARKUP.sub(lambda found: f"&#{ord(found[0])};", printable(text)))


def _warnings(row: AttributionRow) -> list[str]:
    wrong = row.gold is not None and row.gold != row.prediction
    lines = [f"**Wrong: predicted {escape(str(row.prediction))}, gold {escape(str(row.gold))}**"] if wrong else []
    return lines + ["**Not converged: an error is above its tolerance**"] * (row.converged is False)


def _headline(row: AttributionRow) -> str:
    parts = [f"**{escape(row.target_name)}** {escape(f'{row.target:+.4g}')} ({row.output})"]
    if row.baseline_target is not None:
        parts.append(f"baseline {escape(str(row.baseline))} {escape(f'{row.baseline_target:+.4g}')}")
    if row.relative_error is not None:
        parts.append(f"error {row.relative_error:.2%}")
    return " · ".join(parts)


def _facts(row: AttributionRow) -> str:
    facts = {
        "target": f"{row.target:+.4g}, the {row.output} of {row.target_name}",
        "box": None if row.box is None else box_text(row.box),
        "prediction": row.prediction,
        "gold": row.gold,
        "baseline": row.baseline,
        "baseline target": row.baseline_target,
        "baseline entropy": None if row.baseline_entropy is None else f"{row.baseline_entropy:.0%} of the largest",
        "error": row.error,
        "relative error": None if row.relative_error is None else f"{row.relative_error:.2%}",
        "partial error": None if row.partial_error is None else f"{row.partial_error:.2%}",
        "sampling error": None if row.sampling_error is None else f"{row.sampling_error:.2%}",
        "absorbed": ", ".join(f"{name} {signed(amount)}" for name, amount in row.absorbed.items())
        if row.absorbed
        else None,
        "steps": row.steps,
        "converged": row.converged,
        "layer": row.layer,
        "method": row.method,
        "example": row.example_id,
    }
    of_few = ("box", "baseline entropy", "sampling error", "absorbed")
    left_out = [name for name in of_few if facts[name] is None]
    lines = ([name, escape(_text(value))] for name, value in facts.items() if name not in left_out)
    return table(["what", "value"], lines)


def _text(value: object) -> str:
    if isinstance(value, bool | None):
        return {True: "yes", False: "no", None: "–"}[value]
    return f"{value:+.4g}" if isinstance(value, float) else str(value)


def _running(row: AttributionRow, words: list[Shade]) -> str:
    """Return the text, each part of a pair on a line of its own under its name."""
    found = sections(row, words[:_TEXT])
    texts = (f"*{escape(name)}*: " * bool(name) + " ".join(map(_marked, run)) for name, run in found)
    shown = "\n\n".join(texts)
    return shown if len(words) <= _TEXT else f"{shown} … and {len(words) - _TEXT} more words"


def _marked(word: Shade) -> str:
    if not word.matters(_MATTERS):
        return escape(word.text)
    return f"**{escape(word.text)}** {squares(word.strength)}".rstrip()


def squares(strength: float) -> str:
    """Return one to three squares for a score divided by its scale, blue for and orange against; none for 0."""
    return ("🟦" if strength > 0 else "🟧") * math.ceil(abs(strength) * 3)


def _legend(row: AttributionRow) -> str:
    return f"🟦 for {escape(row.target_name)}, 🟧 against; three squares: more than two thirds of the largest score"


def _ranking(words: list[Shade], limit: int) -> str:
    size = sum(abs(word.score) for word in words)

    # What is not finite comes first: it is a fault to notice, and no number to sort by.
    ranked = sorted(enumerate(words, 1), key=lambda item: (math.isfinite(item[1].score), -abs(item[1].score)))
    rows = (
        [str(at), escape(w.text), signed(w.score), _share(w.score, size), squares(w.strength)]
        for at, w in ranked[:limit]
    )
    text = table(["place", "word", "score", "share", ""], rows)
    rest = [word.score for _, word in ranked[limit:]]
    if not rest:
        return text
    share = _share(sum(map(abs, rest)), size)
    return f"{text}\n\n{len(rest)} more words add up to {signed(sum(rest))}, {share} of the size."


def _locations(grid: Grid) -> str:
    scale = grid.scale or 1.0

    def line(at: Location) -> list[str]:
        strength = at.score / scale if math.isfinite(at.score) else 0.0
        return [str(at.row), str(at.column), signed(at.score), _share(at.score, grid.size), squares(strength)]

    strongest = grid.strongest(_LISTED)
    text = table(["row", "column", "score", "share", ""], map(line, strongest))
    rest = len(grid.scores) - len(strongest)
    if not rest:
        return text
    left = sum(grid.scores) - sum(at.score for at in strongest)
    return f"{text}\n\n{rest} more locations add up to {signed(left)}."


def _share(score: float, size: float) -> str:
    return f"{abs(score) / size:.1%}" if 0 < size < math.inf else "–"


def table(headers: list[str], rows: Iterable[list[str]]) -> str:
    """Return a table of cells that are Markdown already."""
    lines = [headers, ["---"] * len(headers), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
