"""Labelled text from Hugging Face data sets: by name, from a local folder, or saved to disk."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning_interpret.data.columns import ColumnNames, Found
from lightning_interpret.data.rows import Columns, TextRow, text_rows
from lightning_interpret.names import choose


def hub_rows(
    name: str,
    *,
    subset: str | None = None,
    split: str = "train",
    text_column: str = "text",
    label_column: str | None = "label",
    id_column: str | None = None,
    concept_columns: Sequence[str] = (),
    explanation_column: str | None = None,
    rationale_column: str | None = None,
    pair_column: str | None = None,
    label_columns: Sequence[str] = (),
    problem: str = "single_label",
) -> Iterator[TextRow]:
    """Yield the rows of one split, one at a time; integers of a ``ClassLabel`` column become their names.

    Args:
        name: A data set's name on the hub, a local folder of data files, or a folder that ``save_to_disk`` wrote.
        subset: The configuration, for data sets that have several.
        split: Which split to read.
        text_column: The column of the text.
        label_column: The column of the label, or ``None`` to read without labels.
        id_column: The column of an integer id; without it, rows are numbered from 0.
        concept_columns: The columns of concepts, 0 or 1, or nothing where nobody has said.
        explanation_column: The column of explanations; a row may have none.
        rationale_column: The column of what people selected: ``[start, end]`` in characters, or a flag for each word.
        pair_column: The column of a second text.
        label_columns: The columns of several labels or numbers, in place of ``label_column``.
        problem: What the labels are, as :func:`~lightning_interpret.data.read_rows` says.

    Raises:
        ImportError: If ``datasets`` is not installed.
        ValueError: If there is no such split or column or, while rows are read, if one of them cannot be.
    """
    columns = Columns(
        text_column,
        None if label_columns else label_column,
        id_column,
        tuple(concept_columns),
        explanation_column,
        rationale_column,
        pair_column,
        tuple(label_columns),
        problem,
    )
    found = hub_records(name, columns, subset=subset, split=split)
    return text_rows(found.records, columns, found.source, found.unit)


def hub_records(name: str, columns: ColumnNames, *, subset: str | None = None, split: str = "train") -> Found:
    """Return the records of one split; integers of a ``ClassLabel`` column, or of lists of them, become their names.

    Raises:
        ImportError: If ``datasets`` is not installed.
        ValueError: If there is no such split or column.
    """
    splits = _load(name, subset)
    data = splits[choose("split", split, splits)]
    source = f"{name} [{split}]"
    columns.check(data.column_names, source)
    # Only these columns are decoded, and a format such as "torch" that was saved with the data is taken off.
    data = data.with_format(None).select_columns(list(dict.fromkeys(columns.names)))
    return Found(_records(data, columns.classes), source, "row")


def _load(name: str, subset: str | None) -> Mapping[str, Any]:
    """Return the splits of a data set by name."""
    try:
        from datasets import load_dataset, load_from_disk
    except ImportError as error:
        raise ImportError(
            f'Reading the data set {name!r} needs `datasets`: pip install "lightning-interpret[data]"'
        ) from error
    folder = Path(name).expanduser()
    if not any((folder / file).is_file() for file in ("dataset_dict.json", "state.json")):
        return load_dataset(str(folder) if folder.is_dir() else name, subset)
    if subset is not None:
        raise ValueError(f"`subset={subset!r}`: {name} was saved to disk and has splits only. Leave `subset` out.")
    saved = load_from_disk(str(folder))
    return saved if isinstance(saved, Mapping) else {str(saved.split or "train"): saved}


def _records(data: Any, columns: Sequence[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    known = {column: names for column in columns if (names := _class_names(data.features[column])) is not None}
    for number, record in enumerate(data, 1):
        for column, names in known.items():
            record[column] = _named(record[column], names)
        yield number, record


def _class_names(feature: Any) -> list[str] | None:
    """Return the names of a ``ClassLabel``, or of the ones in a list."""
    return getattr(feature, "names", None) or getattr(getattr(feature, "feature", None), "names", None)


def _named(value: Any, names: Sequence[str]) -> Any:
    if isinstance(value, list):
        return [_named(each, names) for each in value]
    return None if value is None or value < 0 else names[value]  # -1 stands for "not labelled"
