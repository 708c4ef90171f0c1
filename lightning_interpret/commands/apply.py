"""`lightning-interpret apply`: a new training file from what was accepted of a report of bad cases."""

from __future__ import annotations

import argparse
import gzip
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, cast

from lightning_interpret.bad_cases import RowEdit
from lightning_interpret.data.edited import Edits, NewRow, write_edited
from lightning_interpret.data.files import suffix_of
from lightning_interpret.data.rows import Columns
from lightning_interpret.files import file_digest, replacing
from lightning_interpret.names import choose, unknown
from lightning_interpret.report.bad_case_files import FILES, Report, read_report
from lightning_interpret.report.relabel import Answer, Proposal, proposals, read_relabel
from lightning_interpret.report.terminal import table

ACCEPTED = ("relabel", "add", "balance", "deduplicate")
"""The actions that can be accepted as a whole."""

_DROP = object()


@dataclass
class Accepted:
    """What was accepted of the rows of one file.

    Attributes:
        labels: New labels by id.
        dropped: Ids of rows to leave out.
        added: Rows to add.
        said_by: Where a row, by its id or, of a new one, by its source and text, was accepted.
        unchanged: Rows that have the label already that they were to be given.
    """

    labels: dict[int, str] = field(default_factory=dict)
    dropped: set[int] = field(default_factory=set)
    added: list[NewRow] = field(default_factory=list)
    said_by: dict[Any, tuple[Any, str]] = field(default_factory=dict)
    unchanged: int = 0

    def __len__(self) -> int:
        return len(self.labels) + len(self.dropped) + len(self.added)

    @property
    def edits(self) -> Edits:
        """What to change in the file."""
        return Edits(self.labels, self.dropped, self.added)

    def take(self, edit: RowEdit, drop: bool, where: str) -> None:
        """Accept an edit.

        Raises:
            ValueError: If something else was accepted of the same row.
        """
        key = (edit.example_id, edit.text) if edit.new else edit.example_id
        wanted = _DROP if drop else edit.proposed
        if key in self.said_by:
            before, first = self.said_by[key]
            if before != wanted:
                row = f"a row to add ({edit.text!r})" if edit.new else f"row {edit.example_id}"
                raise ValueError(
                    f"{where}: {row} of {edit.file} is {_verdict(wanted)}, but by {first} it is {_verdict(before)}: "
                    "accept one of them in relabel.tsv."
                )
            return
        if edit.new and not (edit.text or "").strip():
            raise ValueError(f"{where}: a row to add, made from row {edit.example_id} of {edit.file}, has no text.")
        self.said_by[key] = wanted, where
        if drop:
            self.dropped.add(edit.example_id)
        elif edit.new:
            self.added.append(NewRow(edit.example_id, str(edit.proposed), edit.text or ""))
        elif edit.proposed == edit.label:
            self.unchanged += 1
        else:
            self.labels[edit.example_id] = str(edit.proposed)


def _verdict(wanted: Any) -> str:
    return "dropped" if wanted is _DROP else f"labelled {wanted!r}"


def run(options: argparse.Namespace) -> int:
    """Write the new files and say what was done.

    Returns:
        0.

    Raises:
        ValueError: If nothing is accepted, or something that is cannot be done; nothing is written then.
        OSError: If a file is missing or cannot be written.
    """
    kinds = _kinds(options.accept)
    above = options.accept_all_above
    if above is not None and not 0 <= above <= 1:
        raise ValueError(f"`--accept-all-above {above}` must lie between 0 and 1: it is a confidence.")
    report = read_report(options.report)
    asked = proposals(report.groups, report.suspects)
    relabel = Path(options.relabel).expanduser() if options.relabel else report.path.with_name("relabel.tsv")
    answers = read_relabel(relabel, asked, report.labels) if options.relabel or relabel.is_file() else []
    accepted = decide(asked, answers, kinds, above, report, relabel)
    outputs = {"train": options.output, "val": options.val_output}
    sources = {name: Path(getattr(options, name) or report.files[name]).expanduser() for name in FILES}
    wanted = [name for name in FILES if outputs[name] is not None]
    if not any(len(accepted[name]) for name in wanted):
        raise ValueError(_nothing(accepted, answers, relabel, kinds, above))
    _check_paths({name: Path(outputs[name]).expanduser() for name in wanted}, sources, report, relabel)
    written = {name: Path(outputs[name]).expanduser() for name in wanted}
    _write(report, accepted, sources, written)
    _say(report, accepted, answers, asked, sources, written)
    return 0


def decide(
    asked: Iterable[Proposal],
    answers: Iterable[Answer],
    kinds: Iterable[str],
    above: float | None,
    report: Report,
    relabel: Path,
) -> dict[str, Accepted]:
    """Return what is accepted of each file: what a person says of a row goes before what is accepted as a whole.

    Args:
        asked: The report's proposals.
        answers: What a person says.
        kinds: Actions that are accepted as a whole.
        above: Confidence from which any is accepted.
        report: The report, for its labels and its name.
        relabel: The file of the answers, for messages.

    Raises:
        ValueError: If a row is accepted twice in conflict, or with a label that is none.
    """
    accepted = {name: Accepted() for name in FILES}
    spoken = set()
    for answer in answers:
        if answer.accept:
            spoken.add(answer.of)
        if answer.accept == "yes" or (answer.accept == "drop" and not answer.edit.new):
            where = f"{relabel}, line {answer.line}"
            accepted[answer.edit.file].take(answer.edit, answer.accept == "drop", where)
    kinds = set(kinds)
    for each in asked:
        edit = each.edit
        sure = above is not None and edit.confidence is not None and edit.confidence >= above
        if each.key in spoken or edit.proposed is None or not (each.what in kinds or sure):
            continue
        where = f"{report.path}, group {each.group!r}"
        if edit.proposed not in report.labels:
            raise ValueError(f"{where}: {unknown('proposed', edit.proposed, report.labels)}")
        accepted[edit.file].take(edit, False, where)
    return accepted


def _kinds(given: str | None) -> list[str]:
    kinds = [kind.strip() for kind in (given or "").split(",") if kind.strip()]
    return [choose("--accept", kind, ACCEPTED) for kind in kinds]


def _nothing(
    accepted: Mapping[str, Accepted], answers: list[Answer], relabel: Path, kinds: list[str], above: float | None
) -> str:
    if len(accepted["val"]):
        return (
            f"Nothing is accepted of the training file, and {len(accepted['val'])} rows of the validation file are: "
            "give `--val-output` to write them."
        )
    tried = [f"{relabel} has no `yes` and no `drop`" if answers else f"{relabel} is not there, or has no rows"]
    tried += [f"no proposal is of the kinds {', '.join(kinds)}"] if kinds else []
    tried += [f"none has a confidence of {above} or more"] if above is not None else []
    return (
        f"Nothing is accepted: {'; '.join(tried)}. Write `yes` under `accept`, or give `--accept "
        f"{','.join(ACCEPTED)}` or `--accept-all-above 0.8`."
    )


def _check_paths(written: Mapping[str, Path], sources: Mapping[str, Path], report: Report, relabel: Path) -> None:
    """Raise a ValueError if a file would be written in the place of one that is read, or in another format."""
    flags = {"train": "--output", "val": "--val-output"}
    read = {"the training file": sources["train"], "the validation file": sources["val"]}
    read |= {"the report": report.path, "the file of answers": relabel}
    for name, path in written.items():
        for what, other in read.items():
            if path.resolve() == other.resolve():
                raise ValueError(f"`{flags[name]} {path}` is {what}: give another file.")
        if suffix_of(path) != suffix_of(sources[name]):
            raise ValueError(
                f"`{flags[name]} {path}`: the format stays that of {sources[name]}, {suffix_of(sources[name])}."
            )
    if len({path.resolve() for path in written.values()}) < len(written):
        raise ValueError(f"`--output` and `--val-output` are both {written['train']}: give two files.")


def _write(
    report: Report, accepted: Mapping[str, Accepted], sources: Mapping[str, Path], written: Mapping[str, Path]
) -> None:
    """Write all files or none."""
    columns = Columns(str(report.columns["text"]), str(report.columns["label"]), report.columns.get("id"))
    for name in written:
        _check_digest(name, sources[name], report)
    with ExitStack() as files:
        opened = {name: files.enter_context(replacing(path)) for name, path in written.items()}
        for name, file in opened.items():
            with _packed(file, written[name]) as target:
                missing = write_edited(sources[name], target, accepted[name].edits, columns, report.labels)
            if missing:
                raise ValueError(_unknown_ids(missing, accepted[name], sources[name]))
            file.flush()  # what does not fit on the disk is said before the first file takes its place


def _check_digest(name: str, path: Path, report: Report) -> None:
    flag = f"--{name}"
    if not path.is_file():
        raise FileNotFoundError(
            f"The {name} file of the report, {path}, is not there (relative paths start at {Path.cwd()}): say where it "
            f"is now, `{flag} FILE`."
        )
    if name not in report.digests:
        raise ValueError(
            f"{report.path} does not say what {path} held (no digest): run `lightning-interpret badcases` again."
        )
    if file_digest(path) != report.digests[name]:
        raise ValueError(
            f"{path} has changed since {report.path} was written, so its rows may be others: run `lightning-interpret "
            f"badcases` again, or name the file as it was, `{flag} FILE`."
        )


@contextmanager
def _packed(file: IO[bytes], path: Path) -> Iterator[IO[bytes]]:
    if path.suffix.lower() != ".gz":
        yield file
        return
    with gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0) as packed:  # the same rows are the same bytes
        yield cast("IO[bytes]", packed)


def _unknown_ids(missing: set[int], accepted: Accepted, path: Path) -> str:
    first = min(missing)
    ids = [key[0] if isinstance(key, tuple) else key for key in accepted.said_by]
    where = next(said for key, (_, said) in zip(ids, accepted.said_by.values(), strict=True) if key == first)
    more = f" ({len(missing)} ids in all are unknown)" if len(missing) > 1 else ""
    return f"{where}: {path} has no row with the id {first}{more}."


def _say(
    report: Report,
    accepted: Mapping[str, Accepted],
    answers: Sequence[Answer],
    asked: Sequence[Proposal],
    sources: Mapping[str, Path],
    written: Mapping[str, Path],
) -> None:
    rows = [
        [name, len(accepted[name].labels), len(accepted[name].dropped), len(accepted[name].added), str(path)]
        for name, path in written.items()
    ]
    print(table(["file", "relabelled", "dropped", "added", "written to"], rows) + "\n")
    keys = {each.key for each in asked}
    taken = sum(len(each.said_by) for each in accepted.values())
    refused = {answer.of for answer in answers if answer.accept == "no"}  # two groups may ask about one row
    refused -= {answer.of for answer in answers if answer.accept in ("yes", "drop")}
    print(f"Of {len(keys)} rows that the report asks about, {taken} were accepted, {len(refused)} refused.")
    told = {answer.of for answer in answers if answer.accept} | {each.key for each in asked if each.edit.proposed}
    if keys - told:
        print(
            f"{len(keys - told)} of them have no proposed label and no answer: a person has to write one under "
            "`proposed`, or `drop`."
        )
    for name in FILES:
        if accepted[name].unchanged:
            print(f"{accepted[name].unchanged} rows of {name} keep the label they have.")
    if "val" not in written and len(accepted["val"]):
        print(
            f"{len(accepted['val'])} accepted rows are of the validation file {sources['val']}, which is left as it "
            "is: give `--val-output FILE` to write it too."
        )
    if report.columns.get("id") is None and any(accepted[name].dropped for name in written):
        print("The rows have no ids of their own, so that those after a dropped one have other numbers now.")
    train, val = written["train"], written.get("val", sources["val"])
    usual = {"text": "text", "label": "label", "id": None}
    named = [f"--{key}-column={name}" for key, name in report.columns.items() if name != usual.get(key)]
    after = ["badcases", "--model", "NEW", "--train", train, "--val", val, *named, "--output", "AFTER"]
    compare = ["compare", "--what", "runs", "--before", report.path, "--after", "AFTER", "--output-dir", "COMPARED"]
    print(f"\nNext: train on {train} as before, and see what became of the bad cases:")
    for words in (after, compare):
        print(f"  {shlex.join(['lightning-interpret', *map(str, words)])}")
