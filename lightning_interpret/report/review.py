"""A report of bad cases as one HTML file, in plain sentences, for a person who is no engineer.

The file asks for nothing from outside and runs no script: its security policy forbids both. It holds every language at
once, of which a choice at its top shows one. Every sentence is of a catalogue (:mod:`.catalogue`) and says no more than
the report measured. Its size is bounded: of each text, group and list a stated part is shown.
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

from lightning_interpret.bad_cases import BadCaseGroupRow
from lightning_interpret.files import replacing
from lightning_interpret.report.catalogue import Catalogue, Html, Share, Voices, catalogues_of, said
from lightning_interpret.report.review_groups import (
    EXAMPLES,
    GROUPS,
    contents,
    ranked,
    section,
    solved,
    solved_list,
    suspects,
    suspects_section,
)
from lightning_interpret.report.review_parts import (
    HIGH,
    MIDDLE,
    Report,
    finite,
    isolated,
    label,
    label_cell,
    table,
    text_cell,
    title_of,
)
from lightning_interpret.texts import printable

_LISTED, _LABELS = 1000, 50  # wrong answers, and labels, that are listed
_CHARACTERS = 120  # of a text in the list
_ENOUGH = 10  # texts of a label from which it is compared with others


def write_review(path: str | Path, report: Mapping[str, Any], language: str = "en") -> None:
    """Write a report of bad cases for a person who is no engineer; the file is there whole or not at all.

    Args:
        path: The HTML file.
        report: What ``report.json`` holds: ``{"schema": 1, "kind": "bad_case_report", "overview": ..., ...}``.
        language: The language that is shown at first: ``en``, ``zh``, or the path of a catalogue file of another one
            (:mod:`.catalogue`). The file has English and Chinese in any case.

    Raises:
        ValueError: If the report is none or of a later schema, or there is no such language, or its catalogue has
            other placeholders than English has; the message names the key.
        OSError: If a file cannot be read or written.
    """
    page = review(report, language)
    with replacing(path) as file:
        file.write(page.encode("utf8", errors="backslashreplace"))


def review(report: Mapping[str, Any], language: str = "en") -> str:
    """Return what :func:`write_review` writes."""
    catalogues = catalogues_of(language)
    say, read = Voices(catalogues), Report.of(report)
    groups = ranked(read.groups)
    sections = [
        ("summary", _summary(say, read, groups)),
        ("todo", _todo(say, read, groups)),
        ("sure", _sure(say, read)),
        ("list", _list(say, read)),
        ("read", _how_to_read(say)),
    ]
    shown = [(name, "".join(parts)) for name, parts in sections]
    links = "".join(f'<li><a href="#{name}">{say(f"{name}.title")}</a></li>' for name, body in shown if body)
    main = "".join(
        f'<section id="{name}" aria-labelledby="{name}-title">'
        f'<h2 id="{name}-title">{say(f"{name}.title")}</h2>{body}</section>'
        for name, body in shown
        if body
    )
    return (
        f"{_head(catalogues)}<body><header>{_switch(say)}<h1>{say('page.title')}</h1>"
        f"<p>{say('page.about', **{name: isolated(text) for name, text in read.names.items()})}</p>"
        f'<nav aria-labelledby="contents"><h2 id="contents" class="hidden">{say("contents.title")}</h2>'
        f"<ul>{links}</ul></nav></header><main>{main}</main></body></html>\n"
    )


def _head(catalogues: Sequence[Catalogue]) -> str:
    style = files("lightning_interpret.report").joinpath("review.css").read_text(encoding="utf8")
    for each in catalogues:  # where a browser does not know :has every language is shown
        style += f"body:has(#show-{each.code}:checked) .t:not(.t-{each.code}) {{ display: none; }}\n"
    known = b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{known}'; base-uri 'none'; form-action 'none'"
    first = catalogues[0]
    title = escape(printable(first.text("page.title")))
    return (
        f'<!DOCTYPE html><html lang="{first.code}" dir="{first.direction}"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta name="referrer" content="no-referrer"><meta name="color-scheme" content="light dark">'
        f"<title>{title}</title><style>{style}</style></head>"
    )


def _switch(say: Voices) -> str:
    """Return the choice of a language, which works without a script: the style shows what is chosen."""
    choices = "".join(
        f'<label lang="{each.code}" dir="{each.direction}"><input type="radio" name="language" id="show-{each.code}"'
        f"{' checked' if not number else ''}>{escape(printable(each.name))}</label>"
        for number, each in enumerate(say.catalogues)
    )
    return f'<fieldset class="switch"><legend>{say("switch.title")}</legend>{choices}</fieldset>'


def _summary(say: Voices, report: Report, groups: Sequence[BadCaseGroupRow]) -> Iterator[str]:
    overview = report.overview
    labelled = 0 if overview.accuracy is None else overview.validated
    if report.predictions:
        labelled = sum(row.get("gold") is not None for row in report.predictions)
    sentences = [said("summary.read", count=overview.validated)] if overview.validated else [said("summary.no_texts")]
    if overview.validated and not labelled:
        sentences.append(said("summary.no_labels"))
    elif overview.validated:
        wrong, right = overview.wrong_cases, labelled - overview.wrong_cases
        if labelled < overview.validated:
            sentences.append(said("summary.some_labels", count=labelled))
        if not wrong:
            sentences.append(said("summary.all_right"))
        elif right <= 0:
            sentences.append(said("summary.all_wrong"))
        else:
            sentences.append(said("summary.right", right=right, share=Share(right / labelled), count=wrong))
    if overview.confident:
        sentences.append(said("summary.sure", count=overview.confident, limit=Share(overview.confident_from)))
    if overview.unsure:
        sentences.append(said("summary.unsure", count=overview.unsure, limit=Share(overview.unsure_below)))
    found = Counter(row["gold"] for row in report.predictions if row.get("gold") is not None)
    if len(found) == 1 and labelled > 1:
        sentences.append(said("summary.one_label", label=label(next(iter(found)))))
    if overview.explained:
        sentences.append(said("summary.explained", count=overview.explained))
    if groups:
        sentences.append(said("summary.first", title=title_of(groups[0].cause, groups[0].cue)))
    elif overview.validated and not overview.wrong_cases + overview.unsure:
        sentences.append(said("summary.nothing"))
    yield f'<ul class="summary">{"".join(f"<li>{say.of(each)}</li>" for each in sentences)}</ul>'


def _todo(say: Voices, report: Report, groups: Sequence[BadCaseGroupRow]) -> Iterator[str]:
    rest = suspects(report)
    yield contents(say, groups, len(rest)) if groups or rest else f"<p>{say('todo.none')}</p>"
    yield solved_list(say, solved(report.groups))
    yield from (section(say, report, number, group) for number, group in enumerate(groups[:GROUPS], 1))
    yield suspects_section(say, report, rest) if rest else ""


def _sure(say: Voices, report: Report) -> Iterator[str]:
    """Yield how often the model is right where it is sure and where it is not, and label by label."""
    if not report.predictions:
        return
    known = [row for row in report.predictions if row.get("gold") is not None and finite(row.get("confidence"))]
    if not known:
        yield f"<p>{say('sure.unknown')}</p>"
        return
    high, low = report.overview.confident_from, report.overview.unsure_below
    sure = [row for row in known if row["confidence"] >= high]
    unsure = [row for row in known if row["confidence"] < low]
    sentences = [
        said("sure.high", limit=Share(high), **_right(sure)) if sure else said("sure.high.none", limit=Share(high))
    ]
    sentences += [said("sure.low", limit=Share(low), **_right(unsure))] if unsure else []
    by_label: dict[str, list[Mapping[str, Any]]] = {}
    for row in known:
        by_label.setdefault(row["gold"], []).append(row)
    ordered = sorted(by_label, key=lambda name: -len(by_label[name]))
    shares = {name: _right(rows)["right"] / len(rows) for name, rows in by_label.items() if len(rows) >= _ENOUGH}
    if len(set(shares.values())) > 1:
        order = sorted(shares, key=lambda name: shares[name])
        for key, name in (("sure.best", order[-1]), ("sure.worst", order[0])):
            sentences.append(said(key, label=label(name), **_right(by_label[name])))
    yield f"<ul>{''.join(f'<li>{say.of(each)}</li>' for each in sentences)}</ul>"
    heads = [said(f"column.{name}") for name in ("label", "texts", "right", "wrong", "sure_wrong")]
    rows = []
    for name in ordered[:_LABELS]:
        wrong = [row for row in by_label[name] if _wrong(row)]
        count, deceived = len(by_label[name]), sum(row["confidence"] >= high for row in wrong)
        numbers = (say("value.count", count=each) for each in (count, count - len(wrong), len(wrong), deceived))
        rows.append((label_cell(say, name), *numbers))
    yield table(say, said("sure.caption"), heads, rows)
    if len(ordered) > _LABELS:
        yield f"<p>{say('sure.more', count=len(ordered) - _LABELS)}</p>"


def _right(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    right = sum(row["gold"] == row["prediction"] for row in rows)
    return {"count": len(rows), "right": right, "share": Share(right / len(rows))}


def _list(say: Voices, report: Report) -> Iterator[str]:
    """Yield every answer that is wrong or a close call in a line, the surest of the wrong ones first."""
    low = report.overview.unsure_below
    found = [
        row for row in report.predictions if _wrong(row) or row.get("cause") or (row.get("confidence") or 0.0) < low
    ]
    if not found:
        return
    texts: dict[Any, str | None] = {case.example_id: case.text for case in report.cases}
    texts |= {row.get("example_id"): row["text"] for row in report.predictions if row.get("text")}
    ordered = sorted(found, key=lambda row: (not _wrong(row), -(row.get("confidence") or 0.0)))[:_LISTED]
    heads = [said(f"column.{name}") for name in ("where", "text", "label", "answer", "sure", "cause")]
    rows = (
        (
            say.of(report.where("val", row.get("example_id"))),
            text_cell(say, texts[row["example_id"]], _CHARACTERS) if row.get("example_id") in texts else "–",
            label_cell(say, row.get("gold")),
            label_cell(say, row.get("prediction")),
            say("value.share", share=Share(row.get("confidence"))),
            say.of(title_of(row["cause"], row.get("cue") or "")) if row.get("cause") else "–",
        )
        for row in ordered
    )
    shown = table(say, said("list.title"), heads, rows, hidden=True)
    yield f"<details><summary>{say('list.open', count=len(ordered))}</summary>{shown}</details>"
    if len(found) > _LISTED:
        yield f"<p>{say('list.more', count=len(found) - _LISTED)}</p>"


def _how_to_read(say: Voices) -> Iterator[str]:
    marks = {"pro": Html('<mark class="for">'), "contra": Html('<mark class="against">'), "end": Html("</mark>")}
    limits = {"high_from": Share(HIGH), "middle_from": Share(MIDDLE)}
    sentences = [
        said("read.sure"),
        said("read.hedge", **{name: said(f"hedge.{name}") for name in ("high", "middle", "low")}, **limits),
        said("read.marks", **marks),
        said("read.similar"),
        said("read.short", count=EXAMPLES),
        said("read.escaped"),
    ]
    yield f"<ul>{''.join(f'<li>{say.of(each)}</li>' for each in sentences)}</ul>"


def _wrong(row: Mapping[str, Any]) -> bool:
    return row.get("gold") is not None and row["gold"] != row.get("prediction")
