"""`lightning-interpret compare --what runs`: what was fixed and what broke from one run to the next."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lightning_interpret.commands.runs import Change, Pair, Runs, compared
from lightning_interpret.files import replacing
from lightning_interpret.report import markdown
from lightning_interpret.report.bad_case_files import Prediction, Report, read_report, write_json
from lightning_interpret.report.terminal import table
from lightning_interpret.texts import shortened

_LISTED = 10  # rows that the page and the terminal show of each kind; runs.json has all
_TEXT = 80  # characters of a text in a table
_KINDS = {"fixed": "Fixed", "broken": "Broke", "wrong": "Stayed wrong"}
_GROUPS = ("cause", "cue", "before", "after", "", "fixed", "still wrong", "broke", "slice before", "slice after")
_ROWS = ("line", "label", "before", "after", "cause", "text")


def run(options: argparse.Namespace) -> int:
    """Compare and write ``runs.md`` and ``runs.json``.

    Returns:
        0.

    Raises:
        ValueError: If a report cannot be read, or the two have no row in common.
        OSError: If there is no report, or the folder cannot be written.
    """
    if options.before is None or options.after is None:
        raise ValueError(
            "`compare --what runs` needs `--before` and `--after`, the reports of two runs of `lightning-interpret "
            "badcases` on one validation file."
        )
    before, after = read_report(options.before), read_report(options.after)
    found = compared(before, after)
    folder = Path(options.output_dir)
    figures, notes = _figures(before, after, found), _notes(before, after, found)
    groups = [_group(change) for change in found.changes]
    print(f"\n{table(['', 'before', 'after'], figures)}\n\n" + "\n".join(notes))
    if groups:
        print(f"\n{table(_GROUPS, groups)}")
    for what, title in _KINDS.items():
        listed = found.of(what)
        if listed:
            print(f"\n{title}: {_counted(listed)}\n\n{table(_ROWS, [_row(pair) for pair in listed[:_LISTED]])}")
    _write_page(folder / "runs.md", before, after, found, figures, notes, groups)
    write_json(folder / "runs.json", _json(before, after, found))
    print(f"\nThe page is {folder / 'runs.md'}; every row is in runs.json.")
    return 0


def _figures(before: Report, after: Report, found: Runs) -> list[list[Any]]:
    """Return the figures of both runs over the rows that they share."""
    sides = [[pair.before for pair in found.pairs], [pair.after for pair in found.pairs]]
    confident = [
        sum(not each.right and each.confidence >= report.overview.confident_from for each in side)
        for side, report in zip(sides, (before, after), strict=True)
    ]
    right = [sum(each.right for each in side) for side in sides]
    return [
        ["accuracy", *(_accuracy(count, len(found.pairs)) for count in right)],
        ["right", *right],
        ["wrong", *(len(found.pairs) - count for count in right)],
        ["confidently wrong", *confident],
        ["groups of causes", *(sum(group.size > 0 for group in report.groups) for report in (before, after))],
        ["bad cases explained", *(_explained(report) for report in (before, after))],
    ]


def _accuracy(right: int, rows: int) -> str | None:
    return f"{right / rows:.3f}" if rows else None


def _explained(report: Report) -> str:
    overview = report.overview
    return f"{overview.explained} of {overview.wrong_cases + overview.unsure}"


def _notes(before: Report, after: Report, found: Runs) -> list[str]:
    counts = {what: len(found.of(what)) for what in ("fixed", "broken", "wrong", "right")}
    notes = [
        f"{len(found.pairs)} rows compared, matched by {found.by}: {counts['fixed']} were fixed, {counts['broken']} "
        f"broke, {counts['wrong']} stayed wrong, {counts['right']} stayed right; exact McNemar p = {found.p_value:.2g}."
    ]
    if found.by == "text":
        notes.append("Ids are not those of the same texts in both, so that rows were matched by their text.")
    if found.relabelled:
        right = [sum(getattr(pair, side).right for pair in found.relabelled) for side in ("before", "after")]
        notes.append(
            f"{len(found.relabelled)} more rows have another label now and are counted nowhere above: by the old label "
            f"{right[0]} were right before, by the new one {right[1]} are right after."
        )
    if found.unlabelled:
        notes.append(f"{found.unlabelled} rows without a label are left out.")
    if found.only_before or found.only_after:
        notes.append(
            f"{found.only_before} rows are in the run before alone, {found.only_after} in the run after alone."
        )
    overviews = (before.overview, after.overview)
    if any(each.explained < each.wrong_cases + each.unsure for each in overviews):
        notes.append("Not every bad case was explained, so that groups may be larger than their sizes say.")
    return notes


def _counted(listed: Sequence[Pair]) -> str:
    return f"{len(listed)}" + (f", of which {_LISTED}:" if len(listed) > _LISTED else "")


def _group(change: Change) -> list[Any]:
    return [
        *(change.cause, change.cue or None, change.before, change.after, change.status),
        *(change.fixed, change.wrong, change.broken),
        *(None if share is None else f"{share:.3f}" for share in (change.slice_before, change.slice_after)),
    ]


def _row(pair: Pair) -> list[Any]:
    """Return a line of a table: the cause is that of the run that errs, of both the later one."""
    erring = pair.before if pair.what == "fixed" else pair.after
    cause = f"{erring.cause}: {erring.cue}" if erring.cue else erring.cause
    text = shortened(pair.after.text or pair.before.text or "", _TEXT)
    return [pair.after.line, pair.after.gold, _said(pair.before), _said(pair.after), cause, text]


def _said(of: Prediction) -> str:
    return f"{of.prediction} {of.confidence:.2f}"


def _write_page(
    path: Path,
    before: Report,
    after: Report,
    found: Runs,
    figures: Sequence[Sequence[Any]],
    notes: Sequence[str],
    groups: Sequence[Sequence[Any]],
) -> None:
    page = [
        "# Two runs: what was fixed, what broke",
        _markdown(["", "before", "after"], [["model", before.model, after.model], *figures]),
        *(markdown.escape(note, 1000) for note in notes),
    ]
    if groups:
        page += ["## Groups", _markdown(_GROUPS, groups)]
    for what, title in _KINDS.items():
        listed = found.of(what)
        if listed:
            page += [f"## {title}: {_counted(listed)}", _markdown(_ROWS, [_row(pair) for pair in listed[:_LISTED]])]
    if found.relabelled:
        headers = ("line", "label before", "label after", "before", "after", "text")
        rows = [
            [p.after.line, p.before.gold, p.after.gold, _said(p.before), _said(p.after), p.after.text or ""]
            for p in found.relabelled[:_LISTED]
        ]
        page += [f"## Labelled anew: {_counted(found.relabelled)}", _markdown(headers, rows)]
    with replacing(path) as file:
        file.write(("\n\n".join(page) + "\n").encode(errors="replace"))


def _markdown(headers: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    cells = [["–" if value is None else markdown.cell(str(value), _TEXT) for value in row] for row in rows]
    return markdown.table(list(headers), cells)


def _json(before: Report, after: Report, found: Runs) -> dict[str, Any]:
    def listed(pairs: Iterable[Pair]) -> list[dict[str, Any]]:
        return [{"before": asdict(pair.before), "after": asdict(pair.after)} for pair in pairs]

    sides = [[pair.before for pair in found.pairs], [pair.after for pair in found.pairs]]
    right = [sum(each.right for each in side) for side in sides]
    return {
        "schema": 1,
        "kind": "bad_case_comparison",
        "before": {"report": str(before.path), "model": before.model, "right": right[0]},
        "after": {"report": str(after.path), "model": after.model, "right": right[1]},
        "rows": len(found.pairs),
        "matched_by": found.by,
        "only_before": found.only_before,
        "only_after": found.only_after,
        "unlabelled": found.unlabelled,
        "p_value": found.p_value,
        "groups": [asdict(change) | {"status": change.status} for change in found.changes],
        **{what: listed(found.of(what)) for what in _KINDS},
        "relabelled": listed(found.relabelled),
    }
