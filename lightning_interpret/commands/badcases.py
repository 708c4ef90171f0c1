"""`lightning-interpret badcases`: what a saved model gets wrong, why as far as it can be measured, and what to do."""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from itertools import chain, count
from math import inf, isfinite
from pathlib import Path
from typing import Any

import torch

from lightning_interpret.bad_cases import CAUSES, BadCasesRow
from lightning_interpret.callbacks.shortfall import Shortfall, UntilLate, said
from lightning_interpret.causes import CauseFinder, EncodedTexts, Found, Setting
from lightning_interpret.commands.explain import options_from
from lightning_interpret.commands.load import load_classifier
from lightning_interpret.data import TextRow, TrainingExamples, class_of, read_rows
from lightning_interpret.files import file_digest
from lightning_interpret.report.bad_case_files import FILES, Prediction, report_dict, write_json
from lightning_interpret.report.catalogue import catalogues_of
from lightning_interpret.report.relabel import write_relabel
from lightning_interpret.report.review import write_review
from lightning_interpret.tasks.encode import encode, max_tokens
from lightning_interpret.texts import printable, shortened

_TEXT = 200  # characters of a text beside its prediction
_WHOLE = 20_000  # characters from which a text is not written out again in a suggestion


@dataclass(frozen=True)
class Source:
    """The rows of one file.

    Attributes:
        path: The file, as it was named.
        digest: Digest of the file.
        rows: Its rows of some text.
        labels: The class of each.
    """

    path: str
    digest: str
    rows: list[TextRow]
    labels: list[int]


def run(options: argparse.Namespace) -> int:
    """Find the bad cases and write ``report.json``, ``relabel.tsv`` and ``review.html``.

    Returns:
        0.

    Raises:
        ValueError: If an option does not exist, a file cannot be read, or a label is none of the model's.
        OSError: If there is no such file or model, or the folder cannot be written.
    """
    finder = CauseFinder(_setting(options), max_seconds=options.max_seconds)
    catalogues_of(options.language)  # what is wrong with it is said before work begins
    folder = _folder(options.output)
    module = load_classifier(options.model).to("cuda" if torch.cuda.is_available() else "cpu").eval()
    sources = {name: _source(name, options, module.labels or []) for name in FILES}
    for name, source in sources.items():
        if len(set(source.labels)) == 1:
            label = (module.labels or [])[source.labels[0]]
            _tell(f"`--{name} {source.path}`: every row has the label {label!r}, so that little can be said of causes.")
    found = _find(finder, module, sources, options.batch_size)
    why = "The words of other rows and its neighbours speak against its label, though no bad case leads to it."
    suspects = [replace(edit, why=edit.why or why) for edit in found.suspects[: finder.setting.edits]]
    report = report_dict(
        model=options.model,
        files={name: source.path for name, source in sources.items()},
        digests={name: source.digest for name, source in sources.items()},
        columns={"text": options.text_column, "label": options.label_column or "label", "id": options.id_column},
        labels=module.labels or [],
        overview=found.overview,
        groups=found.groups,
        cases=found.cases,
        predictions=_predictions(found, sources["val"].rows, options.model),
        suspects=suspects,
    )
    kept = _keep_answers(folder / "relabel.tsv")
    edits = write_relabel(
        folder / "relabel.tsv",
        found.groups,
        {name: {row.example_id: row.line for row in source.rows} for name, source in sources.items()},
        {name: {row.example_id: row.text for row in source.rows} for name, source in sources.items()},
        suspects,
    )
    write_review(folder / "review.html", report, options.language)
    write_json(folder / "report.json", report)  # last: whoever finds it finds what belongs to it
    _say(found, folder, edits, kept, sources["train"].path)
    return 0


def _setting(options: argparse.Namespace) -> Setting:
    given = options_from(Setting, options.set)
    if options.cases is not None:
        if "cases" in given:
            raise ValueError(f"`--set cases={given['cases']}` and `--cases {options.cases}`: give one of them.")
        given["cases"] = options.cases
    return Setting(**given)


def _folder(name: str) -> Path:
    folder = Path(name).expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(f"`--output {folder}` cannot be written ({error.strerror}): give another folder.") from error
    return folder


def _source(name: str, options: argparse.Namespace, labels: Sequence[str]) -> Source:
    """Return the rows of a file, those of no text left out."""
    path = getattr(options, name)
    columns = {"label_column": options.label_column or "label", "id_column": options.id_column}
    try:
        read = list(read_rows(path, text_column=options.text_column, **columns))
    except FileNotFoundError as error:
        raise FileNotFoundError(f"`--{name} {path}`: {error}") from error
    rows = [row for row in read if row.text.strip()]
    empty = [row.line for row in read if not row.text.strip()]
    if not rows:
        raise ValueError(f"`--{name} {path}`: every text in column {options.text_column!r} is empty.")
    if empty:
        lines = ", ".join(map(str, empty[:5])) + (", ..." if len(empty) > 5 else "")
        _tell(f"`--{name} {path}`: {len(empty)} rows have an empty text and are left out (lines {lines}).")
    classes = []
    for row in rows:
        if row.label is None:
            raise ValueError(f"`--{name} {path}` has no labels: give a file that has (.tsv, .csv or .jsonl).")
        try:
            classes.append(class_of(row.label, labels))
        except ValueError as error:
            raise ValueError(f"{path}, line {row.line}: {error} These are the labels of `--model`.") from error
    return Source(path, file_digest(Path(path).expanduser()), rows, classes)


def _find(finder: CauseFinder, module: Any, sources: Mapping[str, Source], batch_size: int) -> Found:
    train, val = sources["train"], sources["val"]
    begin, seconds = time.perf_counter(), inf if finder.max_seconds is None else finder.max_seconds
    late: list[bool] = []
    limit = max_tokens(module.tokenizer, module.model)

    def collated(numbers: list[int]) -> Any:
        return encode(
            module.tokenizer,
            [train.rows[number].text for number in numbers],
            max_length=limit,
            labels=[train.labels[number] for number in numbers],
            example_ids=[train.rows[number].example_id for number in numbers],
        ).to(module.device)

    examples = TrainingExamples(
        range(len(train.rows)),
        collated,
        [row.example_id for row in train.rows],
        batch_size=batch_size,
        length=lambda number: len(train.rows[number].text),
    )
    validation = EncodedTexts(
        module.tokenizer,
        [row.text for row in val.rows],
        val.labels,
        [row.example_id for row in val.rows],
        max_length=limit,
        device=module.device,
    )
    texts = {row.example_id: row.text for row in train.rows if len(row.text) <= _WHOLE}
    _tell(f"Looking through {len(val.rows)} validation and {len(train.rows)} training rows ...")
    timed = UntilLate(examples, begin + 0.5 * seconds, lambda: late.append(True), begin + seconds)
    found = finder.find(module, module.interpret_task(), validation, timed, training_text=texts.get)
    left = said([Shortfall(late=bool(late))], len(train.rows), found.overview.training, finder.max_seconds)
    return replace(found, overview=replace(found.overview, notes=(*found.overview.notes, *left)))


def _predictions(found: Found, rows: Sequence[TextRow], model: str) -> list[Prediction]:
    predictions = []
    for each in found.predictions:
        row = rows[each["index"]]
        if not isfinite(each["confidence"]):
            raise ValueError(f"`--model {model}`: its probabilities are not finite (validation line {row.line}).")
        told = {name: each[name] for name in ("gold", "prediction", "confidence", "cause", "cue")}
        digest = blake2b(row.text.encode(errors="surrogatepass"), digest_size=8).hexdigest()
        text = shortened(row.text, _TEXT)
        predictions.append(Prediction(row.example_id, row.line, text=text, text_digest=digest, **told))
    return predictions


def _keep_answers(path: Path) -> Path | None:
    """Move what a person answered to an older report out of the way, and return where it is now."""
    if not path.is_file():
        return None
    with path.open(encoding="utf8", errors="replace") as lines:
        next(lines, None)
        answered = any(line.split("\t")[0].strip() for line in lines)
    if not answered:
        return None
    numbered = (path.with_name(f"relabel.answered.{number}.tsv") for number in count(2))
    names = chain([path.with_name("relabel.answered.tsv")], numbered)
    return path.replace(next(name for name in names if not name.exists()))


def _say(found: Found, folder: Path, edits: int, kept: Path | None, train: str) -> None:
    print(f"\n{_overview(found.overview)}\n")
    for group in found.groups:
        print(printable(f"{group.size:>5}  {group.name} ({group.sure:.0%} sure)"))
        print(f"       {CAUSES[group.cause]}")
        if group.action is not None:
            print(f"       → {printable(group.action.sentence)}")
    if not found.groups:
        print("There is no bad case: nothing to group, and nothing to do.")
    for note in found.overview.notes:
        print(printable(note))
    suffix = "".join(Path(train).suffixes)
    print(f"\nIn {folder}: review.html to read, relabel.tsv with {edits} rows to answer, report.json with all of it.")
    if kept is not None:
        print(f"The answers to the report before are in {kept} now.")
    if not edits:
        print(f"Next: open {folder / 'review.html'}. No row is proposed to be changed or added, so `apply` has no use.")
        return
    print(
        f"Next: open {folder / 'review.html'}; write yes, no or drop under `accept` in {folder / 'relabel.tsv'}; then\n"
        f"  lightning-interpret apply --report {shlex.quote(str(folder))} --output NEW{suffix}"
    )


def _overview(row: BadCasesRow) -> str:
    share = "" if row.accuracy is None else f", accuracy {row.accuracy:.3f}"
    return (
        f"Of {row.validated} validation rows {row.wrong_cases} are wrong, {row.confident} of them with a probability "
        f"of {row.confident_from:g} or more, and {row.unsure} are right with one below {row.unsure_below:g}{share}; "
        f"{row.explained} were explained."
    )


def _tell(line: str) -> None:
    print(printable(line), file=sys.stderr, flush=True)
