"""A row as Markdown for TensorBoard's Text tab, which shows no colour: squares stand for it."""

from __future__ import annotations

import math
import re
import string
from collections.abc import Iterable

from lightning_interpret.explanations import AttributionRow
from lightning_interpret.report.words import Shade, not_given, printable, shades, signed

_MATTERS = 0.2  # share of the largest score from which a word is marked
_LONGEST = 80  # characters of one token
_TEXT = 1000  # words of the running text: TensorBoard renders Markdown anew at every request
# Python-Markdown knows a backslash before 16 characters only and shows it before the others, `<` and `|` among them.
# A numeric reference is literal everywhere, in a table, at the start of a line and through the sanitiser.
_REFERENCES = {ord(character): f"&#{ord(character)};" for character in string.punctuation}
_COLLAPSING = re.compile(r"^ | $| (?= )")


def render(row: AttributionRow, *, limit: int = 60) -> str:
    """Return a row as Markdown: what was explained, the text with its strongest words marked, the words by weight.

    Args:
        row: The row to show.
        limit: Most words that the table lists; the rest are summed up below it.
    """
    words = shades(row)
    # what is read first comes first: the tab shows some ten lines of a card before it scrolls
    parts = [*_warnings(row), _headline(row), _running(words), _legend(row), _ranking(words, limit), _facts(row)]
    return "\n\n".join(parts + [f"- {_literal(line)}" for line in not_given(row)])


def escape(token: str) -> str:
    """Return Markdown that shows a token literally, wherever it stands; at most 80 characters of it."""
    shown = printable(token)
    return _literal(shown if len(shown) <= _LONGEST else shown[: _LONGEST - 1] + "…")


def _literal(text: str) -> str:
    return _COLLAPSING.sub("&nbsp;", printable(text).translate(_REFERENCES))


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
        "prediction": row.prediction,
        "gold": row.gold,
        "baseline": row.baseline,
        "baseline target": row.baseline_target,
        "error": row.error,
        "relative error": None if row.relative_error is None else f"{row.relative_error:.2%}",
        "partial error": None if row.partial_error is None else f"{row.partial_error:.2%}",
        "steps": row.steps,
        "converged": row.converged,
        "layer": row.layer,
        "method": row.method,
        "example": row.example_id,
    }
    return _table(["what", "value"], ([name, escape(_text(value))] for name, value in facts.items()))


def _text(value: object) -> str:
    if isinstance(value, bool | None):
        return {True: "yes", False: "no", None: "–"}[value]
    return f"{value:+.4g}" if isinstance(value, float) else str(value)


def _running(words: list[Shade]) -> str:
    shown = " ".join(map(_marked, words[:_TEXT]))
    return shown if len(words) <= _TEXT else f"{shown} … and {len(words) - _TEXT} more words"


def _marked(word: Shade) -> str:
    if not word.matters(_MATTERS):
        return escape(word.text)
    return f"**{escape(word.text)}** {_squares(word)}".rstrip()


def _squares(word: Shade) -> str:
    return ("🟦" if word.score > 0 else "🟧") * math.ceil(abs(word.strength) * 3)


def _legend(row: AttributionRow) -> str:
    return f"🟦 for {escape(row.target_name)}, 🟧 against; three squares: more than two thirds of the largest score"


def _ranking(words: list[Shade], limit: int) -> str:
    size = sum(abs(word.score) for word in words)

    def share(score: float) -> str:
        return f"{abs(score) / size:.1%}" if 0 < size < math.inf else "–"

    # What is not finite comes first: it is a fault to notice, and no number to sort by.
    ranked = sorted(enumerate(words, 1), key=lambda item: (math.isfinite(item[1].score), -abs(item[1].score)))
    rows = ([str(at), escape(w.text), signed(w.score), share(w.score), _squares(w)] for at, w in ranked[:limit])
    text = _table(["place", "word", "score", "share", ""], rows)
    rest = [word.score for _, word in ranked[limit:]]
    if not rest:
        return text
    return f"{text}\n\n{len(rest)} more words add up to {signed(sum(rest))}, {share(sum(map(abs, rest)))} of the size."


def _table(headers: list[str], rows: Iterable[list[str]]) -> str:
    lines = [headers, ["---"] * len(headers), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
