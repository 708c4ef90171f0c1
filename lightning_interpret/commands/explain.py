"""`lightning-interpret explain`: one JSON object a row of a file, streaming, resumable."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from hashlib import blake2b
from itertools import chain, islice
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import torch

from lightning_interpret.commands.load import fingerprint, load_classifier
from lightning_interpret.data import TextRow, class_of, read_rows
from lightning_interpret.explanations import AttributionRow
from lightning_interpret.functional.features import find_layer
from lightning_interpret.methods import METHODS, Method
from lightning_interpret.names import choose, unknown
from lightning_interpret.report import jsonl
from lightning_interpret.tasks import OUTPUTS
from lightning_interpret.tasks.encode import encode, max_tokens

_REFERENCES = 256  # most rows of a file of references: they are one batch, read for every batch that is explained


def run(options: argparse.Namespace) -> int:
    """Explain each row of the input and append it to the output; go on after the rows that are there.

    Returns:
        0, or 1 if no row could be explained.
    """
    method = method_from(options.method, options.set)
    choose("--score", options.score, OUTPUTS)
    rows = _rows(options)
    output = _ready(Path(options.output), Path(options.input))
    explainer = _Explainer(options, method)
    if options.overwrite:
        output.unlink(missing_ok=True)
    written = jsonl.read(output) if output.exists() else iter(())
    there = total = failed = 0
    # An interrupted run goes on with whole batches: each row is padded, and rounded, as if nothing had happened.
    try:
        for chunk in iter(lambda: list(islice(rows, options.batch_size)), []):
            old = list(islice(written, len(chunk)))
            for row, line in zip(chunk, old, strict=False):
                _same_run(explainer.made_by, row, line, output)
            lines = explainer.lines(chunk, there + total)[len(old) :] if len(old) < len(chunk) else []
            jsonl.append(output, lines)
            there, total = there + len(old), total + len(lines)
            failed += sum(line["target"] is None for line in lines)
            print(f"\rexplained {there + total} rows", end="", file=sys.stderr, flush=True)
    finally:
        print(file=sys.stderr)  # what is said next, an error too, has a line of its own
    if next(written, None) is not None:
        raise ValueError(f"`--output {output}` holds more rows than the input: give another file, or --overwrite.")
    before = f", {there} were there" if there else ""
    print(f"{total} rows written to {output}{before}, {failed} without an explanation", file=sys.stderr)
    return 1 if total and failed == total else 0


def method_from(name: str, settings: list[str]) -> Method:
    """Return a method with options given as ``OPTION=VALUE``; values are JSON, or else text.

    Raises:
        ValueError: If the method or an option does not exist, or a value is refused by it.
    """
    cls = METHODS[choose("--method", name, METHODS)]
    return cls(**options_from(cls, settings))


def options_from(cls: type[Any], settings: Sequence[str], flag: str = "--set") -> dict[str, Any]:
    """Return options of a method that are given as ``OPTION=VALUE``; values are JSON, or else text.

    Raises:
        ValueError: If an option does not exist, or a value is not of its type.
    """
    known = {f.name: get_type_hints(cls)[f.name] for f in fields(cls)}
    given = {}
    for setting in settings:
        option, equals, text = setting.partition("=")
        if not equals or option not in known:
            raise ValueError(unknown(flag, setting, [f"{option}=..." for option in known]))
        try:
            read = json.loads(text)
        except json.JSONDecodeError:
            read = text
        value = tuple(read) if isinstance(read, list) else read  # JSON has no tuples, and options are no lists
        if not _fits(value, known[option]):
            expected = getattr(known[option], "__name__", known[option])
            raise ValueError(f"`{flag} {setting}`: expected {expected}, but got {type(read).__name__}.")
        given[option] = value
    return given


def _fits(value: object, hint: Any) -> bool:
    """Whether a JSON value is of an option's type; which texts a ``Literal`` takes, the method itself says."""
    kind, parts = get_origin(hint), get_args(hint)
    if kind is Literal:
        return type(value) is str
    if kind is tuple:
        return isinstance(value, tuple) and len(value) == len(parts) and all(map(_fits, value, parts))
    if parts:
        return any(_fits(value, part) for part in parts)
    return type(value) is hint or (type(value) is int and hint is float)


class _Explainer:
    """Rows to lines of JSON, by one method and one model."""

    def __init__(self, options: argparse.Namespace, method: Method) -> None:
        self.module = load_classifier(options.model).to("cuda" if torch.cuda.is_available() else "cpu")
        self.task, self.method = self.module.interpret_task(), method
        self.limit = max_tokens(self.module.tokenizer, self.module.model)
        self.made_by: dict[str, Any] = {}
        if options.references is not None:
            self.task = self.task.with_references(self._references(options))
        self.task.check(self.module, options.which, method.baseline_used)
        self.layer, self.which, self.score = options.layer or self.task.layer(self.module), options.which, options.score
        if self.layer == "all":
            raise ValueError(
                "`--layer all`: a file holds one line a row, of one layer. Name a layer, or sweep over them by "
                "`lightning_interpret.explain(..., layer='all')` or a SaliencyMonitor with `layer: all`."
            )
        find_layer(self.module, self.layer)
        method.check(self.module, self.task, [self.layer], self.score)
        self.made_by |= {
            "model": options.model,
            "weights": fingerprint(self.module),
            "method": method.name,
            "options": json.loads(json.dumps(asdict(method))),
            "layer": self.layer,
            "which": self.which,
            "output": self.score,
        }

    def _references(self, options: argparse.Namespace) -> Any:
        """Return the batch of the references' file; what they are is part of what each line was made by."""
        columns = {"label_column": options.label_column, "id_column": options.id_column}
        rows = list(islice(read_rows(options.references, text_column=options.text_column, **columns), _REFERENCES + 1))
        self.method.check_references(rows)
        if len(rows) > _REFERENCES:
            raise ValueError(f"`--references {options.references}` has more than {_REFERENCES} rows: give fewer.")
        said = "\n".join(f"{row.label}\t{row.text}" for row in rows)
        self.made_by["references"] = blake2b(said.encode(), digest_size=8).hexdigest()
        labelled = options.label_column is not None
        return encode(
            self.module.tokenizer,
            [row.text for row in rows],
            max_length=self.limit,
            labels=[class_of(row.label, self.module.labels or []) for row in rows] if labelled else None,
            example_ids=[row.example_id for row in rows],
        ).to(self.module.device)

    def lines(self, rows: list[TextRow], first: int) -> list[dict[str, Any]]:
        """Return one line a row; where the rows fail together, each is tried alone and says why it failed."""
        try:
            labels = [class_of(r.label, self.module.labels or []) for r in rows] if rows[0].label is not None else None
            batch = encode(
                self.module.tokenizer,
                [row.text for row in rows],
                max_length=self.limit,
                labels=labels,
                example_ids=[row.example_id for row in rows],
            ).to(self.module.device)
            records = self.method(self.module, batch, self.task, layer=self.layer, which=self.which, output=self.score)
        except Exception as error:
            if len(rows) > 1:
                return [line for i, row in enumerate(rows) for line in self.lines([row], first + i)]
            return [self._line(rows[0], first, self._failure(rows[0], error))]
        pairs = zip(rows, records, strict=True)
        return [self._line(row, first + i, record.to_dict()) for i, (row, record) in enumerate(pairs)]

    def _line(self, row: TextRow, number: int, record: dict[str, Any]) -> dict[str, Any]:
        return {"row": number, "line": row.line, "text": row.text, **record, **self.made_by}

    def _failure(self, row: TextRow, error: Exception) -> dict[str, Any]:
        why = "the text has no tokens" if not row.text.strip() else f"{type(error).__name__}: {error}"
        record = AttributionRow(
            tokens=(),
            scores=(),
            target=float("nan"),
            target_name="",
            output=self.score,
            method=self.method.name,
            layer=self.layer,
            gold=row.label,
            example_id=row.example_id,
        ).to_dict() | {"target_name": None}
        unknown_fields = [name for name, value in record.items() if value is None]
        return record | {"reasons": dict.fromkeys(("scores", *unknown_fields), why)}


def _rows(options: argparse.Namespace) -> Iterable[TextRow]:
    """Return the rows of the input, the first of them read: what is wrong with the file is said before work begins."""
    label_column = options.label_column or ("label" if options.which == "gold" else None)
    columns = {"text_column": options.text_column, "label_column": label_column, "id_column": options.id_column}
    rows = read_rows(options.input, **columns)
    first = next(rows)
    if options.which == "gold" and first.label is None:
        raise ValueError(f"`--which gold`, but {options.input} has no labels: explain 'predicted' or a named class.")
    return chain([first], rows)


def _ready(output: Path, source: Path) -> Path:
    """Return the output, its folder made.

    Raises:
        OSError: If it cannot be.
        ValueError: If it is the input.
    """
    if output.exists() and output.samefile(source):
        raise ValueError(f"`--output {output}` is the input: give another file.")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(f"`--output {output}` cannot be written ({error.strerror}): give another file.") from error
    if output.is_dir() or not os.access(output if output.exists() else output.parent, os.W_OK):
        raise OSError(f"`--output {output}` cannot be written: give another file.")
    return output


def _same_run(made_by: Mapping[str, Any], row: TextRow, line: Mapping[str, Any], output: Path) -> None:
    """Raise a ``ValueError`` if a line of the output is not what this run would write for the row."""
    wanted = {"text": row.text, "example_id": row.example_id, **made_by}
    differs = [name for name, value in wanted.items() if line.get(name) != value]
    if differs:
        raise ValueError(
            f"`--output {output}` holds the rows of another run (line {row.line} of the input differs in "
            f"{', '.join(differs)}): give another file, or --overwrite."
        )
