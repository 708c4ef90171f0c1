"""What to check: the groups of causes by importance, each with what to do, the rows, and examples."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from html import escape

from lightning_interpret.bad_cases import Action, BadCaseGroupRow, BadCaseRow, RowEdit
from lightning_interpret.report.catalogue import Html, Said, Share, Voices, said
from lightning_interpret.report.excerpt import plain
from lightning_interpret.report.review_cases import article
from lightning_interpret.report.review_parts import (
    NAME,
    TEXT,
    Report,
    finite,
    hedge,
    label_cell,
    meaning_of,
    names_cue,
    quoted,
    table,
    text_cell,
    title_of,
)
from lightning_interpret.texts import printable

GROUPS, EXAMPLES, ROWS = 40, 3, 50  # that are shown: groups, examples of a group, rows of a group
_AT_ONCE = 6  # rows that are shown without a click
_TEMPLATES, _MEASURES, _ARGUMENTS = 5, 20, 10
_STATUSES = ("new", "growing", "steady", "shrinking")


def ranked(groups: Iterable[BadCaseGroupRow]) -> list[BadCaseGroupRow]:
    """Return the groups that have cases, the most important first: by size times how sure; without a cause last."""

    def importance(group: BadCaseGroupRow) -> tuple[bool, float]:
        sure = group.sure if finite(group.sure) else 0.0
        return group.cause == "unexplained", -group.size * max(sure, 0.1)

    return sorted((group for group in groups if group.size > 0), key=importance)


def solved(groups: Iterable[BadCaseGroupRow]) -> list[BadCaseGroupRow]:
    """Return the groups that have no case any more."""
    return [group for group in groups if group.size <= 0]


def contents(say: Voices, groups: Sequence[BadCaseGroupRow], suspected: int) -> str:
    """Return the titles of the groups, and of the rows that are suspected beside them, with a link to each."""
    lines = [
        (f"group-{number}", say.of(title_of(group.cause, group.cue)), say.of(_size(group)))
        for number, group in enumerate(groups[:GROUPS], 1)
    ]
    lines += [("suspects", say("suspects.title"), say("todo.size", count=suspected))] if suspected else []
    shown = "".join(f'<li><a href="#{name}">{title}</a> <small>{size}</small></li>' for name, title, size in lines)
    return f'<ol class="contents">{shown}</ol>' + _more(say, "todo.more", len(groups) - GROUPS)


def _size(group: BadCaseGroupRow) -> Said:
    sure = {} if group.cause == "unexplained" else {"hedge": hedge(group.sure)}
    return said("todo.sure" if sure else "todo.size", count=group.size, **sure)


def section(say: Voices, report: Report, number: int, group: BadCaseGroupRow) -> str:
    """Return one group as HTML."""
    name = f"group-{number}"
    facts = "".join(f"<li>{say.of(each)}</li>" for each in _facts(group))
    parts = [
        f'<h3 id="{name}"><span class="place">{number}</span> {say.of(title_of(group.cause, group.cue))}</h3>',
        f"<p>{say.of(meaning_of(group.cause, group.cue, group.sure))}</p>",
        "" if names_cue(group.cause, group.cue) else f"<p>{say('group.about', cue=quoted(group.cue))}</p>",
        f'<ul class="facts">{facts}</ul>',
        f"<h4>{say('group.do')}</h4>",
        f"<p>{say.of(_to_do(group))}</p>",
        *(_rows(say, report, group.action) if group.action is not None else ()),
        *_examples(say, report, group),
        _measured(say, group),
    ]
    return f'<section class="group" aria-labelledby="{name}">{"".join(parts)}</section>'


def _facts(group: BadCaseGroupRow) -> Iterator[Said]:
    yield said("group.size", count=group.size)
    if finite(group.sure) and group.cause != "unexplained":
        yield said("group.sure", hedge=hedge(group.sure), share=Share(group.sure))
    if finite(group.accuracy) and group.slice_size > group.size:  # a slice of the cases alone says nothing
        yield said("group.slice", count=group.slice_size, share=Share(group.accuracy))
    if len(group.sizes) > 1 and group.status in _STATUSES:
        yield said(f"group.status.{group.status}")


def _to_do(group: BadCaseGroupRow) -> Said:
    action = group.action
    if action is None or action.what not in ("relabel", "add", "balance", "deduplicate", "lengthen"):
        return said("action.confusion" if group.cause == "confusion" else "action.look")
    if action.what == "lengthen":
        return said("action.lengthen")
    adds = action.what in ("add", "balance")
    count = sum(each.new is adds for each in action.edits)
    if count and not (action.what == "balance" and not group.cue):
        return said(f"action.{action.what}", count=count, cue=quoted(group.cue))
    if action.what == "relabel":
        return said("action.look")
    return said("action.add" if count else f"action.{action.what}.bare", count=count)


def suspects(report: Report) -> list[RowEdit]:
    """Return the training rows whose labels are suspected though no group asks for them."""
    asked = {
        (each.file, each.example_id)
        for group in report.groups
        if group.action is not None
        for each in group.action.edits
        if not each.new
    }
    return [each for each in report.suspects if (each.file, each.example_id) not in asked]


def suspects_section(say: Voices, report: Report, rest: Sequence[RowEdit]) -> str:
    """Return these rows as HTML."""
    parts = [
        f'<h3 id="suspects">{say("suspects.title")}</h3><p>{say("suspects.meaning", count=len(rest))}</p>',
        *_changes(say, report, rest),
    ]
    return f'<section class="group" aria-labelledby="suspects">{"".join(parts)}</section>'


def _rows(say: Voices, report: Report, action: Action) -> Iterator[str]:
    changed, added = ([each for each in action.edits if each.new is new] for new in (False, True))
    if changed:
        yield from _changes(say, report, changed)
    if added:
        rows = [(text_cell(say, each.text), _proposed(say, each)) for each in added[:ROWS]]
        yield from _tables(say, "rows.add", ("text", "label"), rows, len(added))
        yield f"<p>{say('rows.accept.new')}</p>"
    if action.templates:
        near = [
            (say.of(report.where("train", each.example_id)), text_cell(say, each.text), label_cell(say, each.gold))
            for each in action.templates[:_TEMPLATES]
        ]
        shown = table(say, said("rows.templates"), _heads("where", "text", "label"), near, hidden=True)
        yield f"<details><summary>{say('rows.templates')}</summary>{shown}</details>"


def _changes(say: Voices, report: Report, edits: Sequence[RowEdit]) -> Iterator[str]:
    rows = [_change(say, report, each) for each in edits[:ROWS]]
    yield from _tables(say, "rows.change", ("where", "text", "label_now", "proposed", "sure"), rows, len(edits))
    yield f"<p>{say('rows.accept')}</p>"


def _tables(say: Voices, key: str, names: Sequence[str], rows: Sequence[Sequence[str]], count: int) -> Iterator[str]:
    """Yield a table of the first rows, and one of the others that opens; ``count`` is how many there are in all."""
    first, rest = rows[:_AT_ONCE], rows[_AT_ONCE:]
    yield table(say, said(key), _heads(*names), first)
    if rest:
        shown = table(say, said(key), _heads(*names), rest, hidden=True)
        yield f"<details><summary>{say('rows.show', count=len(rest))}</summary>{shown}</details>"
    yield _more(say, "rows.more", count - len(rows))


def _heads(*names: str) -> list[Said]:
    return [said(f"column.{name}") for name in names]


def _change(say: Voices, report: Report, edit: RowEdit) -> Sequence[str]:
    return (
        say.of(report.where(edit.file, edit.example_id)),
        text_cell(say, edit.text),
        label_cell(say, edit.label),
        _proposed(say, edit),
        say("value.share", share=Share(edit.confidence)) if finite(edit.confidence) else "–",
    )


def _proposed(say: Voices, edit: RowEdit) -> str:
    return say("row.decide") if edit.proposed is None else label_cell(say, edit.proposed)


def _examples(say: Voices, report: Report, group: BadCaseGroupRow) -> Iterator[str]:
    found = _cases(report, group)
    if found:
        yield f"<h4>{say('group.examples')}</h4>"
        yield from (article(say, report, case) for case in found)
        yield _more(say, "group.more", group.size - len(found))


def _cases(report: Report, group: BadCaseGroupRow) -> list[BadCaseRow]:
    """Return the first cases of a group, in the order of its members."""
    order = {member.index: place for place, member in enumerate(group.members)}
    own = [case for case in report.cases if (case.cause, case.cue) == (group.cause, group.cue)]
    return sorted(own, key=lambda case: order.get(case.index, len(order)))[:EXAMPLES]


def _measured(say: Voices, group: BadCaseGroupRow) -> str:
    """Return the measures of the rule and its arguments, which it wrote in English."""
    if not (group.measured or group.evidence or group.against):
        return ""
    parts = []
    if group.measured:
        heads = [said(f"group.measured.{name}") for name in ("name", "value", "needed")]
        rows = (
            (
                _english(name, NAME),
                f"{value:.3g}" if finite(value) else "–",
                _english(group.thresholds.get(name, "–"), NAME),
            )
            for name, value in list(group.measured.items())[:_MEASURES]
        )
        parts.append(table(say, said("group.measured"), heads, rows, hidden=True))
    for key, arguments in (("group.for", group.evidence), ("group.against", group.against)):
        if arguments:
            lines = "".join(f"<li>{_english(each, TEXT)}</li>" for each in arguments[:_ARGUMENTS])
            parts.append(f"<p>{say(key)}</p><ul>{lines}</ul>")
    return f"<details><summary>{say('group.measured')}</summary>{''.join(parts)}</details>"


def _english(text: str, longest: int) -> Html:
    return Html(f'<span lang="en" dir="ltr">{escape(printable(plain(text, longest)))}</span>')


def solved_list(say: Voices, groups: Sequence[BadCaseGroupRow]) -> str:
    """Return the groups that are no longer seen, or nothing."""
    if not groups:
        return ""
    names = "".join(f"<li>{say.of(title_of(group.cause, group.cue))}</li>" for group in groups[:GROUPS])
    return f"<p>{say('group.solved', count=len(groups))}</p><ul>{names}</ul>"


def _more(say: Voices, key: str, count: int) -> str:
    return f"<p>{say(key, count=count)}</p>" if count > 0 else ""
