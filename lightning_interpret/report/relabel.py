"""`relabel.tsv`: the rows that a report asks to change or to add, for a person to answer, and the answers read back."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lightning_interpret.bad_cases import BadCaseGroupRow, RowEdit
from lightning_interpret.data.files import lines_of, reader_of, suffix_of
from lightning_interpret.data.rows import Columns
from lightning_interpret.files import replacing
from lightning_interpret.names import unknown
from lightning_interpret.report.bad_case_files import FILES
from lightning_interpret.texts import shortened

#: The columns of `relabel.tsv`; a row without a ``line`` is one to add.
COLUMNS = ("accept", "file", "example_id", "line", "label", "proposed", "confidence", "cause", "why", "text")

#: What may stand under ``accept``; nothing means that nobody has answered.
ANSWERS = ("yes", "no", "drop", "")

_SHOWN = 2000  # characters of a text that `relabel.tsv` shows: who reads more opens the file
_SUSPECTS = "training_label_error"  # the cause that suspects would be one of
# how a cell begins that a spreadsheet would run, or read on to the next quote mark, over the ends of lines
_TAKEN = re.compile(r"""'*[=+@"-]""")


@dataclass(frozen=True)
class Proposal:
    """An edit that a report asks for.

    Attributes:
        edit: The row.
        cause: Cause of the group that asks for it.
        what: What the group's action is.
        group: Name of the group.
    """

    edit: RowEdit
    cause: str
    what: str
    group: str

    @property
    def key(self) -> tuple[Any, ...]:
        """What two proposals share that are about one row: of a new one, its text too."""
        edit = self.edit
        return (edit.file, edit.example_id, one_line(edit.text or "")) if edit.new else (edit.file, edit.example_id)


@dataclass(frozen=True)
class Answer:
    """What a person says of a proposal.

    Attributes:
        accept: One of :data:`ANSWERS`.
        edit: The row, with the label, and of a new row the text, that the person left or wrote.
        of: The proposal's :attr:`Proposal.key`.
        line: On which line of `relabel.tsv`.
    """

    accept: str
    edit: RowEdit
    of: tuple[Any, ...]
    line: int


def proposals(groups: Iterable[BadCaseGroupRow], suspects: Iterable[RowEdit] = ()) -> list[Proposal]:
    """Return the edits that the actions of groups ask for, in their order, then suspects that none asks for.

    Raises:
        ValueError: If one is of a file that is neither ``train`` nor ``val``.
    """
    found = [
        Proposal(edit, group.cause, group.action.what, group.name)
        for group in groups
        if group.action is not None
        for edit in group.action.edits
    ]
    known = {each.key for each in found}
    rest = (Proposal(edit, _SUSPECTS, "relabel", _SUSPECTS) for edit in suspects)
    found += [each for each in rest if each.key not in known]
    for each in found:
        if each.edit.file not in FILES:
            raise ValueError(f"The group {each.group!r} has an edit of `file={each.edit.file!r}`: it is train or val.")
    return found


def write_relabel(
    path: str | Path,
    groups: Iterable[BadCaseGroupRow],
    lines: Mapping[str, Mapping[int, int]],
    texts: Mapping[str, Mapping[int, str]] | None = None,
    suspects: Iterable[RowEdit] = (),
) -> int:
    """Write `relabel.tsv`, whole or not at all: a line for each edit, the surest first; return how many there are.

    Edits of several groups that ask the same of one row are one line.

    Args:
        path: The file.
        groups: The groups whose actions ask for edits.
        lines: Of ``train`` and ``val``, the line of each row by its id.
        texts: Of each file, texts by id that are written in the place of the edits' own, which may be what a tokenizer
            makes of them; those of new rows are as the edits have them.
        suspects: Training rows whose labels are suspected, of which those are written that no group asks for.

    Raises:
        ValueError: If an edit is of neither file.
        OSError: If the file cannot be written.
    """
    merged: dict[tuple[Any, ...], tuple[Proposal, list[str]]] = {}
    listed = sorted(proposals(groups, suspects), key=lambda each: -_sure(each.edit))
    for each in sorted(listed, key=lambda each: FILES.index(each.edit.file)):
        kept = merged.setdefault((*each.key, each.edit.proposed, each.edit.new), (each, []))
        if each.edit.why and each.edit.why not in kept[1]:
            kept[1].append(each.edit.why)
    with replacing(path) as file:
        file.write(("\t".join(COLUMNS) + "\n").encode())
        for each, why in merged.values():
            edit = each.edit
            text = edit.text or ""
            if not edit.new:
                text = shortened((texts or {}).get(edit.file, {}).get(edit.example_id, text), _SHOWN)
            cells = {
                "accept": "",
                "file": edit.file,
                "example_id": edit.example_id,
                "line": "" if edit.new else lines.get(edit.file, {}).get(edit.example_id, "?"),
                "label": edit.label or "",
                "proposed": edit.proposed or "",
                "confidence": "" if edit.confidence is None else f"{edit.confidence:.2f}",
                "cause": each.cause,
                "why": _guarded("; ".join(why)),
                "text": _guarded(one_line(text)),
            }
            line = "\t".join(one_line(str(cells[name])) for name in COLUMNS)
            file.write((line + "\n").encode(errors="replace"))
    return len(merged)


def read_relabel(path: str | Path, asked: Collection[Proposal], labels: Sequence[str]) -> list[Answer]:
    """Return what a person answered, a line each; `.csv`, as a spreadsheet may have written it, will do.

    Args:
        path: The file.
        asked: The proposals of its report.
        labels: The labels there are.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If a column is missing, an answer is none, a label is none, or a line is not of this report; the
            message names the line.
    """
    path = Path(path).expanduser()
    of: dict[tuple[str, str, bool], list[Proposal]] = {}
    for each in asked:
        of.setdefault((each.edit.file, str(each.edit.example_id), each.edit.new), []).append(each)
    quotes = suffix_of(path) == ".tsv"  # the reader of a `.csv` has taken them off
    if suffix_of(path) == ".txt":
        raise ValueError(f"{path} says no columns by its name: save it as .tsv (tabs) or .csv (commas), in UTF-8.")
    answers = []
    for line, record in reader_of(path)(lines_of(path), _Form("text", None, None), str(path)):
        where = f"{path}, line {line}"
        cell = {name: str(record[name] if record[name] is not None else "").strip() for name in COLUMNS}
        if not any(cell.values()):  # a spreadsheet may write rows of nothing
            continue
        accept = cell["accept"].lower()
        if accept not in ANSWERS:
            raise ValueError(f"{where}: {unknown('accept', cell['accept'], ANSWERS[:3])} Or leave it empty.")
        cell |= {name: _label(cell[name], labels) for name in ("label", "proposed")}
        found = _asked(cell, of.get((cell["file"], cell["example_id"], not cell["line"]), ()), where)
        proposed = cell["proposed"] or None
        if accept == "yes" and proposed is None:
            raise ValueError(f"{where}: accepted, but no label is proposed: write one ({', '.join(labels)}), or drop.")
        if proposed is not None and proposed not in labels:
            raise ValueError(f"{where}: {unknown('proposed', proposed, labels)}")
        edit = replace(found.edit, proposed=proposed)
        if edit.new and found.key[2] not in _meant(cell["text"]):
            if not cell["text"]:
                raise ValueError(f"{where}: a row to add has no text: write one, or answer no.")
            edit = replace(edit, text=_anew(cell["text"], quotes))
        answers.append(Answer(accept, edit, found.key, line))
    return answers


def one_line(text: str) -> str:
    """Return a text with spaces in the place of tabs and line breaks."""
    return text.translate(dict.fromkeys(map(ord, "\t\r\n"), " ")).strip()


class _Form(Columns):
    """The columns of `relabel.tsv`."""

    def check(self, present: Collection[str], where: str) -> None:
        """Raise a ValueError that names a column that is missing."""
        missing = [name for name in COLUMNS if name not in present]
        if missing:
            way = " Save it with commas, or as .tsv with tabs." if any(";" in name for name in present) else ""
            raise ValueError(
                f"{where}: there is no column {', '.join(map(repr, missing))}: it is no relabel.tsv, whose columns are "
                f"{', '.join(COLUMNS)}.{way}"
            )


def _asked(cell: Mapping[str, str], near: Iterable[Proposal], where: str) -> Proposal:
    """Return the proposal that a line is about: of several new rows of one source, that of its text or else the first.

    Raises:
        ValueError: If there is none, so that the line is of another report.
    """
    same = [each for each in near if (each.edit.label or "") == cell["label"]]
    if not same:
        row = f"file {cell['file']!r}, example_id {cell['example_id']!r}, label {cell['label']!r}"
        kind = (
            "changes no such row" if cell["line"] else "adds no row (no `line` is given) that is made from such a row"
        )
        raise ValueError(
            f"{where}: the report {kind}: {row}. Is it of another report? Under `label` stands what the row has now; a "
            "new label goes under `proposed`."
        )
    texts = _meant(cell["text"])
    return next((each for each in same if each.edit.new and each.key[2] in texts), same[0])


def _guarded(text: str) -> str:
    """Return a text that a spreadsheet takes for a text: with an apostrophe where it looks like something else."""
    return f"'{text}" if _TAKEN.match(text) else text


def _unguarded(cell: str) -> str:
    return cell[1:] if cell.startswith("'") and _TAKEN.match(cell[1:]) else cell


def _unquoted(cell: str) -> str:
    """Return a cell without the quote marks that a spreadsheet puts around it, doubling those that it has."""
    return cell[1:-1].replace('""', '"') if len(cell) > 1 and cell[0] == cell[-1] == '"' else cell


def _meant(cell: str) -> tuple[str, str]:
    """Return the text of a cell without our apostrophe, and without a spreadsheet's quote marks."""
    return _unguarded(cell), _unguarded(_unquoted(cell))


def _anew(cell: str, quotes: bool) -> str:
    """Return a text that a person has written: what needs no quote marks around it has them of that person."""
    inner = cell[1:-1].replace('""', "")
    plain, unquoted = _meant(cell)
    return unquoted if quotes and '"' not in inner and (inner != cell[1:-1] or re.search("[,;]", inner)) else plain


def _label(cell: str, labels: Sequence[str]) -> str:
    """Return the label that a cell names: a spreadsheet may put quote marks around it, or write True as TRUE."""
    forms = (cell, _unquoted(cell))
    alike = [label for label in labels if label.casefold() == forms[1].casefold()]
    return next((form for form in forms if form in labels), alike[0] if len(alike) == 1 else cell)


def _sure(edit: RowEdit) -> float:
    return -1.0 if edit.confidence is None else edit.confidence
