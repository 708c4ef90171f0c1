"""RowsDataModule: rows from files or from a Hugging Face data set, with stable ids; what its siblings read differs."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Generic, Protocol, TypeVar

import torch
from lightning.pytorch import LightningDataModule
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from torch.utils.data import DataLoader, Dataset

from lightning_interpret.data import class_of, file_records, hub_records
from lightning_interpret.data.columns import ColumnNames, Found
from lightning_interpret.tasks.encode import max_tokens, named_tokenizer

_LENGTHS_CHECKED = 2000


class Row(Protocol):
    """What all rows have."""

    @property
    def line(self) -> int:
        """Where it starts in its file."""

    @property
    def example_id(self) -> int:
        """Its stable id."""

    @property
    def blank(self) -> bool:
        """Whether there is nothing to read in it."""


R = TypeVar("R", bound=Row)


class RowsDataModule(LightningDataModule, Generic[R]):
    """Read rows and batch them for a `transformers` model.

    Args:
        train_file: Training rows.
        val_file: Validation rows; without them ``val_fraction`` of the training rows is held out.
        test_file: Test rows.
        predict_file: Rows to predict.
        dataset: Name or folder of a Hugging Face data set, in place of files (extra ``data``).
        subset: Its configuration.
        train_split: Its split for training.
        val_split: Its split for validation.
        test_split: Its split for tests, and for predictions.
        id_column: Column of an integer id; by default rows are numbered from 0.
        tokenizer: Name, directory or object; by default the module's ``tokenizer``.
        max_length: Tokens a text may have; by default what the model takes.
        batch_size: Rows in a batch.
        val_fraction: Share of the training rows held out where there are no validation rows.
        num_workers: Worker processes of each loader.
        seed: Seed of that choice.

    Raises:
        ValueError: In ``setup``, for what cannot be read; the message names file, line and remedy.
        FileNotFoundError: In ``setup``, for a file that does not exist.
    """

    def __init__(
        self,
        train_file: str | None = None,
        val_file: str | None = None,
        test_file: str | None = None,
        predict_file: str | None = None,
        dataset: str | None = None,
        subset: str | None = None,
        train_split: str = "train",
        val_split: str | None = "validation",
        test_split: str = "test",
        id_column: str | None = None,
        tokenizer: Any = None,
        max_length: int | None = None,
        batch_size: int = 32,
        val_fraction: float = 0.1,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        files = {"train": train_file, "val": val_file, "test": test_file, "predict": predict_file}
        if dataset is not None and any(files.values()):
            raise ValueError(f"Give either `dataset` or files, but got dataset={dataset!r} and {files}.")
        if not 0 < val_fraction < 1:
            raise ValueError(f"`val_fraction={val_fraction}` must lie between 0 and 1.")
        splits = {"train": train_split, "val": val_split, "test": test_split, "predict": test_split}
        self._sources = splits if dataset is not None else files
        self.dataset, self.subset, self.id_column = dataset, subset, id_column
        self._tokenizer, self.max_length = tokenizer, max_length
        self.batch_size, self.val_fraction, self.num_workers, self.seed = batch_size, val_fraction, num_workers, seed
        self.rows: dict[str, list[R]] = {}

    @property
    def tokenizer(self) -> Any:
        """The tokenizer given, or the module's."""
        if isinstance(self._tokenizer, str):
            self._tokenizer = named_tokenizer(self._tokenizer)
        found = self._tokenizer if self._tokenizer is not None else getattr(self._module, "tokenizer", None)
        if found is None:
            raise ValueError("`tokenizer=None`, and the module has no `tokenizer`: give its name, directory or object.")
        return found

    def setup(self, stage: str) -> None:
        """Read and check the rows of a stage: ``fit``, ``validate``, ``test`` or ``predict``."""
        wanted = {"fit": ("train", "val"), "validate": ("val",), "test": ("test",), "predict": ("predict",)}[stage]
        for split in wanted:
            if split not in self.rows and self._sources[split] is not None:
                self.rows[split] = self._usable(self._read(split), split)
        if "val" in wanted and "val" not in self.rows:
            self._hold_out()
        missing = [split for split in wanted if split not in self.rows]
        if missing:
            raise ValueError(f"`{stage}` needs {missing[0]} rows: give `{missing[0]}_file`, or a `dataset`.")
        self._settle(stage, wanted)

    def train_dataloader(self) -> DataLoader:
        """Return the training rows, shuffled."""
        return self._loader("train", shuffle=True)

    def val_dataloader(self) -> DataLoader:
        """Return the validation rows in order."""
        return self._loader("val")

    def test_dataloader(self) -> DataLoader:
        """Return the test rows in order."""
        return self._loader("test")

    def predict_dataloader(self) -> DataLoader:
        """Return the rows to predict in order."""
        return self._loader("predict")

    @property
    @abstractmethod
    def _main_column(self) -> str:
        """The column whose text a row cannot do without."""

    @abstractmethod
    def _read(self, split: str) -> Iterable[R]:
        """Return the rows of a split; those to predict have no labels."""

    @abstractmethod
    def _dataset(self, split: str) -> Dataset:
        """Return the examples of a split, with their ``example_ids``."""

    @abstractmethod
    def _collate(self, split: str) -> Callable[[Sequence[Any]], Any]:
        """Return what makes a batch of examples; an object and no closure, so that worker processes can be given it."""

    def _settle(self, stage: str, wanted: Sequence[str]) -> None:
        """Check what rows say together, such as their labels."""

    @property
    def _module(self) -> Any:
        return getattr(self.trainer, "lightning_module", None)

    def _found(self, split: str, columns: ColumnNames) -> Found:
        """Return the records of a split."""
        source = self._sources[split]
        assert source is not None
        if self.dataset is not None:
            return hub_records(self.dataset, columns, subset=self.subset, split=source)
        return file_records(source, columns)

    def _usable(self, rows: Iterable[R], split: str) -> list[R]:
        """Return the rows, without those of no text, which say nothing; predictions keep them, to keep their order."""
        read = list(rows)
        empty = [row.line for row in read if row.blank]
        if not empty or split == "predict":
            return read
        lines = ", ".join(map(str, empty[:5])) + (", ..." if len(empty) > 5 else "")
        rank_zero_warn(f"{self._named(split)}: {len(empty)} rows have an empty text and are left out (lines {lines}).")
        if len(empty) == len(read):
            raise ValueError(f"{self._named(split)}: every text in column {self._main_column!r} is empty.")
        return [row for row in read if not row.blank]

    def _hold_out(self) -> None:
        """Split the validation rows off the training rows, the same ones each time."""
        rows = self.rows.get("train")
        if rows is None and self._sources["train"] is not None:
            rows = self._usable(self._read("train"), "train")
        if not rows:
            return
        if len(rows) < 2:
            raise ValueError(f"{self._named('train')} has one row: nothing can be held out. Give `val_file`.")
        order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(self.seed)).tolist()
        held = set(order[: max(1, round(self.val_fraction * len(rows)))])
        self.rows["val"] = [row for i, row in enumerate(rows) if i in held]
        self.rows["train"] = [row for i, row in enumerate(rows) if i not in held]

    def _named(self, split: str) -> str:
        return f"{self.dataset}, split {self._sources[split]}" if self.dataset else str(self._sources[split])

    @property
    def _length(self) -> int | None:
        """Tokens that a text may have; None where nothing bounds them."""
        limits = [limit for limit in (max_tokens(self.tokenizer, self._module), self.max_length) if limit is not None]
        return min(limits, default=None)

    def _loader(self, split: str, *, shuffle: bool = False) -> DataLoader:
        return DataLoader(
            self._dataset(split),
            batch_size=self.batch_size,
            shuffle=shuffle,
            num_workers=self.num_workers,
            collate_fn=self._collate(split),
            persistent_workers=self.num_workers > 0,
        )

    def _say_cut(self, split: str, texts: Sequence[tuple[int, Any]], length: int | None) -> None:
        """Warn of texts that are longer than the model takes, found among those with more bytes than that.

        Args:
            split: Where they are from.
            texts: The line of each, and the text or the pair of texts.
            length: Tokens a text may have.
        """
        if length is None:
            return
        special = self.tokenizer.num_special_tokens_to_add(isinstance(texts[0][1], tuple)) if texts else 0
        spare = length - special - 1  # one for the mark that begins a text
        long = [(line, text) for line, text in texts if _bytes(text) > spare][:_LENGTHS_CHECKED]
        ids = self.tokenizer([text for _, text in long], verbose=False)["input_ids"] if long else []
        cut = [line for (line, _), tokens in zip(long, ids, strict=True) if len(tokens) > length]
        if cut:
            least = "at least " if len(long) == _LENGTHS_CHECKED else ""
            rank_zero_warn(
                f"{self._named(split)}: {least}{len(cut)} of {len(texts)} texts have more than {length} tokens and are "
                f"cut (the first on line {cut[0]}). Split them, or use a model that takes more."
            )


class LabelledRows(RowsDataModule[R]):
    """A :class:`RowsDataModule` whose rows have labels with names.

    Args:
        labels: Labels in order; by default the module's, or those of the training rows in order (of the rows at hand
            where there are none). A whole number that is no label itself stands for the label at its place.
        options: Those of :class:`RowsDataModule`.
    """

    def __init__(self, labels: list[str] | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.labels = None if labels is None else [str(label) for label in labels]

    @abstractmethod
    def _labels_of(self, row: R) -> Sequence[str]:
        """Return the labels that a row has."""

    @abstractmethod
    def _labelled(self, row: R, labels: Sequence[str]) -> R:
        """Return a row with other labels, as many as it has."""

    def _settle(self, stage: str, wanted: Sequence[str]) -> None:
        """Take the labels of the module, or else those of the rows, where none were given; check those of the rows."""
        self.labels = self._known(self.labels, "labels")
        if stage == "predict":
            return
        if self.labels is None:
            held_out = self._sources["val"] is None  # then the validation rows are training rows
            splits = [split for split in ("train", "val") if split in self.rows and (split == "train" or held_out)]
            rows = [row for split in splits or self.rows for row in self.rows[split]]
            self.labels = in_order(label for row in rows for label in self._labels_of(row))
        for split in wanted:
            self.rows[split] = [
                self._labelled(row, [self._label(label, row.line, split) for label in self._labels_of(row)])
                for row in self.rows[split]
            ]

    def _known(self, given: list[str] | None, name: str) -> list[str] | None:
        """Return the labels given, or the module's.

        Raises:
            ValueError: If both are, and differ.
        """
        named = getattr(self._module, "labels", None)
        if given is None or named is None or list(named) == given:
            return named if given is None else given
        raise ValueError(
            f"The data has `{name}={given}`, but the module has `labels={list(named)}`: give them to one of the two, "
            "or the same ones in the same order."
        )

    def _label(self, label: str, line: int, split: str) -> str:
        labels = self.labels or []
        try:
            return labels[class_of(label, labels)]
        except ValueError as error:
            raise ValueError(f"{self._named(split)}, line {line}: {error}") from error


def in_order(labels: Iterable[str]) -> list[str]:
    """Return the different labels, numbers by value and others by name."""
    found = set(labels)
    if all(label.isdecimal() for label in found):
        return sorted(found, key=int)
    return sorted(found)


def _bytes(text: str | tuple[str, str]) -> int:
    return sum(len(part.encode(errors="replace")) for part in ((text,) if isinstance(text, str) else text))
