"""What the parts of a review share: the report as records, names of labels, places and causes, tables."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from html import escape
from pathlib import PureWindowsPath
from typing import Any, TypeGuard

from lightning_interpret.bad_cases import CAUSES, BadCaseGroupRow, BadCaseRow, BadCasesRow, RowEdit
from lightning_interpret.report.catalogue import Html, Said, Voices, said
from lightning_interpret.report.excerpt import plain
from lightning_interpret.texts import printable

HIGH, MIDDLE = 0.8, 0.5  # from which confidence a cause is said to be very probable, or probable
NAME, TEXT = 80, 240  # characters of a label or a cue, and of a text in a table
_PAIR = " / "  # how a cue names two labels


@dataclass(frozen=True)
class Report:
    """A report of bad cases, read.

    Attributes:
        overview: How many of each kind.
        groups: The groups.
        cases: The cases.
        predictions: Every validation row.
        names: Of the ``model`` and the files ``train`` and ``val``, without their folders.
        lines: The line of each validation row, by its id.
        suspects: Training rows whose labels are suspected, whether or not a group asks for them.
    """

    overview: BadCasesRow
    groups: tuple[BadCaseGroupRow, ...]
    cases: tuple[BadCaseRow, ...]
    predictions: tuple[Mapping[str, Any], ...]
    names: Mapping[str, str]
    lines: Mapping[Any, int]
    suspects: tuple[RowEdit, ...] = ()

    @classmethod
    def of(cls, report: Mapping[str, Any]) -> Report:
        """Return a report that was written as JSON.

        Raises:
            ValueError: If it is none, or of a later schema.
        """
        kind, schema = report.get("kind"), report.get("schema")
        if kind != "bad_case_report" or not isinstance(schema, int) or schema > 1:
            raise ValueError(
                f"Expected a report of kind 'bad_case_report' and schema 1, but got kind={kind!r}, schema={schema!r}: "
                "give what `lightning-interpret badcases` wrote as report.json, and read it with that version."
            )
        predictions = tuple(report.get("predictions", ()))
        return cls(
            overview=BadCasesRow.from_dict(report.get("overview") or {}),
            groups=tuple(map(BadCaseGroupRow.from_dict, report.get("groups", ()))),
            cases=tuple(map(BadCaseRow.from_dict, report.get("cases", ()))),
            predictions=predictions,
            names={name: _file_name(report.get(name)) for name in ("model", "train", "val")},
            lines={row.get("example_id"): row["line"] for row in predictions if row.get("line") is not None},
            suspects=tuple(_edit(each) for each in report.get("suspects") or ()),
        )

    def where(self, file: str, example_id: int | None, index: int | None = None) -> Said:
        """Return where a row stands: its line if that is known, and else its id, or its place among the others."""
        name = isolated(self.names.get(file) or plain(file, NAME))
        line = self.lines.get(example_id) if file == "val" and example_id is not None else None
        if line is not None:
            return said("where.line", file=name, line=Html(str(int(line))))
        number = index if example_id is None else example_id
        return said("where.id", file=name, id=Html("–" if number is None else str(int(number))))


def _edit(values: Mapping[str, Any]) -> RowEdit:
    """Return a row as it was written: a later version may have written more of it."""
    return RowEdit(**{each.name: values[each.name] for each in fields(RowEdit) if each.name in values})


def _file_name(path: Any) -> str:
    return plain(PureWindowsPath(str(path or "")).name, NAME) or "–"  # which knows the slash of every system


def isolated(text: str) -> Html:
    """Return a text of the data: escaped, with its own direction."""
    return Html(f'<bdi dir="auto">{escape(printable(text))}</bdi>')


def label(text: str | None) -> Said:
    """Return the name of a label as it stands in a sentence."""
    return said("row.no_label") if text is None else said("label.name", text=bare_label(text))


def bare_label(text: str) -> Html:
    """Return the name of a label as it stands in a table."""
    return Html(f'<b class="label">{isolated(plain(text, NAME) or "␣")}</b>')


def quoted(text: str) -> Said:
    """Return words of a text as they stand in a sentence."""
    return said("word.quoted", text=Html(f'<span class="words">{isolated(plain(text, NAME) or "␣")}</span>'))


def title_of(cause: str, cue: str) -> Said:
    """Return the title of a cause in plain words."""
    return _of_cause(cause, cue, "title", {})


def meaning_of(cause: str, cue: str, sure: float | None) -> Said:
    """Return what a cause means, as surely as its rule is."""
    return _of_cause(cause, cue, "meaning", {"hedge": hedge(sure)})


def names_cue(cause: str, cue: str) -> bool:
    """Return whether the title of a cause says its cue, or there is none to say."""
    return not cue or cause in ("shortcut", "composition") or (cause == "confusion" and _pair(cue) is not None)


def hedge(sure: float | None) -> Said:
    """Return the word for how sure something is."""
    known = sure if finite(sure) else 0.0
    return said("hedge.high" if known >= HIGH else "hedge.middle" if known >= MIDDLE else "hedge.low")


def _of_cause(cause: str, cue: str, what: str, values: dict[str, Any]) -> Said:
    if cause not in CAUSES:
        return said(f"cause.other.{what}", cause=isolated(plain(cause, NAME)), **values)
    pair = _pair(cue) if cause == "confusion" else None
    if pair is not None:
        first, second = map(label, pair)
        return said(f"cause.confusion.{what}", first=first, second=second, **values)
    if cause in ("shortcut", "composition", "confusion") and (not cue or cause == "confusion"):
        return said(f"cause.{cause}.bare.{what}", **values)
    return said(f"cause.{cause}.{what}", cue=quoted(cue), **values)


def _pair(cue: str) -> tuple[str, str] | None:
    """Return the two labels of a cue that names two; ``None`` where it is not clear which."""
    first, *others = cue.split(_PAIR)
    return (first, others[0]) if len(others) == 1 and first and others[0] else None


def table(
    say: Voices, caption: Said, heads: Sequence[Said], rows: Iterable[Sequence[str]], hidden: bool = False
) -> str:
    """Return a table; the first cell of a row names it. A caption that a heading said already is for the ear alone."""
    head = "".join(f'<th scope="col">{say.of(each)}</th>' for each in heads)
    body = "".join(
        f'<tr><th scope="row">{row[0]}</th>' + "".join(f"<td>{cell}</td>" for cell in row[1:]) + "</tr>" for row in rows
    )
    heard = ' class="hidden"' if hidden else ""
    return (
        f'<div class="wide"><table><caption{heard}>{say.of(caption)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def text_cell(say: Voices, text: str | None, longest: int = TEXT) -> str:
    """Return the beginning of a text for a table."""
    shown = plain(text, longest)
    return str(isolated(shown)) if shown else say("row.no_text")


def label_cell(say: Voices, name: str | None) -> str:
    """Return a label for a table."""
    return say("row.no_label") if name is None else bare_label(name)


def finite(number: float | None) -> TypeGuard[float]:
    """Return whether there is a number to go by."""
    return number is not None and math.isfinite(number)
