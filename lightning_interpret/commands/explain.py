"""`lightning-interpret explain`: one JSON object a row of a file, streaming, resumable."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, fields
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from lightning_interpret.commands.load import load_classifier
from lightning_interpret.data import TextRow, read_rows
from lightning_interpret.methods import METHODS, Method
from lightning_interpret.names import choose, unknown
from lightning_interpret.report import jsonl
from lightning_interpret.tasks import OUTPUTS
from lightning_interpret.tasks.encode import encode, max_tokens


def run(options: argparse.Namespace) -> int:
    """Explain each row of the input and append it to the output; go on after the rows that are there.

    Returns:
        0, or 1 if no row could be explained.
    """
    method = method_from(options.method, options.set)
    choose("--score", options.score, OUTPUTS)
    label_column = options.label_column or ("label" if options.which == "gold" else None)
    columns = {"text_column": options.text_column, "label_column": label_column, "id_column": options.id_column}
    rows = read_rows(options.input, **columns)
    made_by = {
        "model": options.model,
        "method": method.name,
        "options": json.loads(json.dumps(asdict(method))),
        "which": options.which,
        "output": options.score,
    }
    output = Path(options.output)
    if options.overwrite:
        output.unlink(missing_ok=True)
    done = _skip_written(rows, output, made_by)
    explainer = _Explainer(options, method, made_by)
    failed = total = 0
    for chunk in iter(lambda: list(islice(rows, options.batch_size)), []):
        lines = explainer.lines(chunk, done + total)
        jsonl.append(output, lines)
        total += len(lines)
        failed += sum(line["target"] is None for line in lines)
        print(f"\rexplained {done + total} rows", end="", file=sys.stderr, flush=True)
    there = f", {done} were there" if done else ""
    print(f"\n{total} rows written to {output}{there}, {failed} without an explanation", file=sys.stderr)
    return 1 if total and failed == total else 0


def method_from(name: str, settings: list[str]) -> Method:
    """Return a method with options given as ``OPTION=VALUE``; values are JSON, or else text.

    Raises:
        ValueError: If the method or an option does not exist, or a value is refused by it.
    """
    cls = METHODS[choose("--method", name, METHODS)]
    known, given = [f.name for f in fields(cls)], {}
    for setting in settings:
        option, equals, value = setting.partition("=")
        if not equals or option not in known:
            raise ValueError(unknown("--set", setting, [f"{option}=..." for option in known]))
        try:
            given[option] = json.loads(value)
        except json.JSONDecodeError:
            given[option] = value
    try:
        return cls(**given)
    except TypeError as error:
        raise ValueError(f"`--set {' '.join(settings)}`: {error}") from error


class _Explainer:
    """Rows to lines of JSON, with the model loaded on the first of them."""

    def __init__(self, options: argparse.Namespace, method: Method, made_by: dict[str, Any]) -> None:
        self.module = load_classifier(options.model).to("cuda" if torch.cuda.is_available() else "cpu")
        self.task, self.method, self.made_by = self.module.interpret_task(), method, made_by
        self.layer, self.which, self.score = options.layer, options.which, options.score
        self.limit = max_tokens(self.module.tokenizer, self.module.model)
        self.task.check(self.module, self.which, method.baseline_used)

    def lines(self, rows: list[TextRow], first: int) -> list[dict[str, Any]]:
        """Return one line a row; where the rows fail together, each is tried alone and says why it failed."""
        try:
            labels = [self._class(row) for row in rows] if rows[0].label is not None else None
            batch = encode(
                self.module.tokenizer,
                [row.text for row in rows],
                max_length=self.limit,
                labels=labels,
                example_ids=[row.example_id for row in rows],
            ).to(self.module.device)
            records = self.method(
                self.module, batch, self.task, layer=self.layer, which=self.which, output=self.score
            )
        except Exception as error:
            if len(rows) > 1:
                return [line for i, row in enumerate(rows) for line in self.lines([row], first + i)]
            return [self._line(rows[0], first, self._failure(rows[0], error))]
        return [
            self._line(row, first + i, record.to_dict()) for i, (row, record) in enumerate(zip(rows, records, strict=True))
        ]

    def _class(self, row: TextRow) -> int:
        labels = self.module.labels or []
        if row.label in labels:
            return labels.index(row.label)
        if row.label is not None and row.label.isdecimal() and int(row.label) < len(labels):
            return int(row.label)
        raise ValueError(f"line {row.line}: {unknown('label', row.label, labels)}")

    def _line(self, row: TextRow, number: int, record: dict[str, Any]) -> dict[str, Any]:
        return {"row": number, "line": row.line, "text": row.text, **record, **self.made_by}

    def _failure(self, row: TextRow, error: Exception) -> dict[str, Any]:
        why = "the text has no tokens" if not row.text.strip() else f"{type(error).__name__}: {error}"
        names = ("target", "baseline_target", "error", "relative_error", "prediction", "converged")
        return {
            "schema": 1,
            "kind": "attribution",
            "tokens": [],
            "scores": [],
            "example_id": row.example_id,
            **dict.fromkeys(names),
            "reasons": dict.fromkeys(("scores", *names), why),
        }


def _skip_written(rows: Iterator[TextRow], output: Path, made_by: dict[str, Any]) -> int:
    """Read past the rows that the output holds already and return their number.

    Raises:
        ValueError: If the output holds the explanations of another run.
    """
    if not output.exists():
        return 0
    done = 0
    for done, line in enumerate(jsonl.read(output), 1):
        row = next(rows, None)
        differs = [name for name, value in made_by.items() if line.get(name) != value]
        if row is None or row.text != line.get("text"):
            differs.append("text")
        if differs:
            raise ValueError(
                f"`--output {output}` holds the rows of another run (row {done} differs in {', '.join(differs)}): give "
                "another file, or --overwrite."
            )
    return done
