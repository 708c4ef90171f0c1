"""What is kept of the bad cases of a run: `report.json`, written and read back."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from lightning_interpret.bad_cases import BadCaseGroupRow, BadCaseRow, BadCasesRow, RowEdit
from lightning_interpret.files import replacing

SCHEMA, KIND = 1, "bad_case_report"

#: The files that a report is about.
FILES = ("train", "val")

_FIELDS: dict[str, type] = {
    **{"model": str, "train": str, "val": str, "columns": dict, "labels": list, "digests": dict},
    **{"overview": dict, "groups": list, "cases": list, "predictions": list},
}


@dataclass(frozen=True)
class Prediction:
    """What the model says of one validation row.

    Attributes:
        example_id: Its id.
        line: On which line of the file it starts.
        gold: Its label, as the model calls it.
        prediction: What the model says.
        confidence: Probability of that.
        cause: Cause of the group that it is in; ``None`` where it is in none.
        cue: Cue of that group.
        text: The beginning of its text.
        text_digest: Digest of its text, by which it is found again where ids differ.
    """

    example_id: int
    line: int
    gold: str | None
    prediction: str
    confidence: float
    cause: str | None = None
    cue: str | None = None
    text: str | None = None
    text_digest: str | None = None

    @property
    def right(self) -> bool:
        """Whether the model says the label."""
        return self.prediction == self.gold

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Prediction:
        """Return the prediction in a report.

        Raises:
            ValueError: If something is missing or of a wrong type.
        """
        known = {each.name: data[each.name] for each in fields(cls) if each.name in data}
        kinds = {"example_id": int, "line": int, "prediction": str, "confidence": int | float}
        for name, kind in kinds.items():
            if not isinstance(known.get(name), kind):
                raise ValueError(f"`{name}` is {_said(known.get(name))}")
        return cls(**{"gold": None, **known})


@dataclass(frozen=True)
class Report:
    """A report that was read.

    Attributes:
        path: The file.
        model: The model's name.
        files: The files ``train`` and ``val``.
        digests: Their digests; one that is not known is missing.
        columns: Their columns ``text``, ``label`` and ``id``.
        labels: The model's labels, in order.
        overview: The bad cases in numbers.
        groups: The groups.
        predictions: What the model says of each validation row.
        suspects: Training rows whose labels are suspected, whether or not a group asks for them.
    """

    path: Path
    model: str
    files: Mapping[str, str]
    digests: Mapping[str, str]
    columns: Mapping[str, str | None]
    labels: list[str]
    overview: BadCasesRow
    groups: list[BadCaseGroupRow]
    predictions: list[Prediction]
    suspects: list[RowEdit]


def report_dict(
    *,
    model: str,
    files: Mapping[str, str],
    digests: Mapping[str, str],
    columns: Mapping[str, str | None],
    labels: Sequence[str],
    overview: BadCasesRow,
    groups: Iterable[BadCaseGroupRow],
    cases: Iterable[BadCaseRow],
    predictions: Iterable[Prediction],
    suspects: Iterable[RowEdit] = (),
) -> dict[str, Any]:
    """Return a report as JSON values.

    Args:
        model: The model's name.
        files: The file ``train`` and the file ``val``.
        digests: The :func:`~lightning_interpret.files.file_digest` of each.
        columns: The columns ``text``, ``label`` and ``id`` of both.
        labels: The model's labels, in order.
        overview: The bad cases in numbers.
        groups: The groups.
        cases: The cases that were explained.
        predictions: What the model says of each validation row.
        suspects: Training rows whose labels are suspected, whether or not a group asks for them.
    """
    return {
        "schema": SCHEMA,
        "kind": KIND,
        "model": model,
        **{name: files[name] for name in FILES},
        "digests": dict(digests),
        "columns": dict(columns),
        "labels": list(labels),
        "overview": overview.to_dict(),
        "groups": [group.to_dict() for group in groups],
        "cases": [case.to_dict() for case in cases],
        "predictions": [asdict(each) for each in predictions],
        "suspects": [asdict(each) for each in suspects],
    }


def write_json(path: str | Path, value: Any) -> None:
    """Write JSON to a file, whole or not at all.

    Raises:
        ValueError: If it is not JSON, e.g. holds a number that is not finite.
        OSError: If the file cannot be written.
    """
    data = json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n"
    with replacing(path) as file:
        file.write(data.encode(errors="backslashreplace"))  # a lone surrogate becomes JSON's escape


def read_report(path: str | Path) -> Report:
    """Return the report in a file, or in the folder that holds it as `report.json`.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If the file is not JSON, is no report, was written by a later version, or lacks something.
    """
    path = Path(path).expanduser()
    path = path / "report.json" if path.is_dir() else path
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist: `lightning-interpret badcases` writes it.")
    try:
        report = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON ({error}): run `lightning-interpret badcases` again.") from error
    if not isinstance(report, dict) or report.get("kind") != KIND:
        found = f"kind {report['kind']!r}" if isinstance(report, dict) and "kind" in report else "no kind"
        raise ValueError(f"{path} is no report of bad cases ({found}): name the report.json of `badcases`.")
    schema = report.get("schema")
    if not isinstance(schema, int) or schema > SCHEMA:
        raise ValueError(
            f"{path} has schema {schema!r}, and this version reads up to {SCHEMA}: read it with the version that wrote "
            "it, or a later one."
        )
    for name, kind in _FIELDS.items():
        if not isinstance(report.get(name), kind):
            raise ValueError(
                f"{path}: `{name}` is {_said(report.get(name))} where {_said(kind())} belongs: run "
                "`lightning-interpret badcases` again."
            )
    columns = report["columns"]
    if not all(isinstance(columns.get(name), str) for name in ("text", "label")):
        raise ValueError(f"{path}: `columns` names no `text` or no `label`.")
    return Report(
        path,
        report["model"],
        {name: report[name] for name in FILES},
        report["digests"],
        columns,
        [str(label) for label in report["labels"]],
        next(_records(path, "overview", [report["overview"]], BadCasesRow.from_dict)),
        list(_records(path, "groups", report["groups"], BadCaseGroupRow.from_dict)),
        list(_records(path, "predictions", report["predictions"], Prediction.from_dict)),
        list(_records(path, "suspects", report.get("suspects", []), lambda data: RowEdit(**data))),
    )


def _records(path: Path, name: str, values: Iterable[Any], read: Callable[[Any], Any]) -> Iterator[Any]:
    for number, data in enumerate(values):
        try:
            yield read(data)
        except (TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"{path}: `{name}`, number {number}, cannot be read ({error}).") from error


def _said(value: Any) -> str:
    names: dict[type, str] = {str: "a text", dict: "an object", list: "a list", type(None): "nothing"}
    return names.get(type(value), f"a {type(value).__name__}")
