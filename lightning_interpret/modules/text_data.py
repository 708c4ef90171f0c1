"""TextDataModule: labelled text from files or from a Hugging Face data set, with stable ids."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset

from lightning_interpret.data import TextRow, class_of, hub_rows, read_rows
from lightning_interpret.tasks.encode import encode, following, max_tokens, named_tokenizer

_SPLITS = ("train", "val", "test", "predict")
_LENGTHS_CHECKED = 2000


class TextDataModule(LightningDataModule):
    """Read labelled text, a text a row, and batch it for a `transformers` model.

    Files are TSV, CSV, JSONL or TXT, also compressed as ``.gz``. Batches hold ``input_ids``, ``attention_mask``,
    ``labels``, ``example_id`` (the id column, or the row number), ``concepts`` where there are columns of them,
    ``explanation_ids`` (−100 is padding) where there is one of explanations, ``rationale`` where there is one of what
    people selected (1 or 0 a token, −100 where it is not known), and what else the tokenizer returns.

    Args:
        train_file: Training rows.
        val_file: Validation rows; without them ``val_fraction`` of the training rows is held out.
        test_file: Test rows.
        predict_file: Rows to predict, with or without labels.
        dataset: Name or folder of a Hugging Face data set, in place of files (extra ``data``).
        subset: Its configuration.
        train_split: Its split for training.
        val_split: Its split for validation.
        test_split: Its split for tests, and for predictions.
        text_column: Column of the text.
        label_column: Column of the label.
        id_column: Column of an integer id; by default rows are numbered from 0.
        concept_columns: Columns of concepts, 0 or 1, or nothing where nobody has said; by default the concepts that the
            module has names for (``ConceptBottleneckMixin``). Rows to predict need none.
        explanation_column: Column of explanations of the label, for a module that learns to write them; rows may have
            none. Rows to predict need no such column.
        rationale_column: Column of what people selected of the text, which ``RationaleMixin`` learns from and is
            measured by: a list of ``[start, end]`` in characters, or of 0 or 1 for each word between spaces, also as
            JSON; empty where nobody was asked. Rows to predict need none.
        labels: Labels in order; by default the module's, or those of the training rows in order (of the rows at hand
            where there are none). A whole number that is no label itself stands for the label at its place.
        tokenizer: Name, directory or object; by default the module's ``tokenizer``.
        max_length: Tokens a text may have; by default what the model takes. Longer texts are cut, and it is said.
        batch_size: Texts in a batch.
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
        text_column: str = "text",
        label_column: str = "label",
        id_column: str | None = None,
        concept_columns: list[str] | None = None,
        explanation_column: str | None = None,
        rationale_column: str | None = None,
        labels: list[str] | None = None,
        tokenizer: Any = None,
        max_length: int | None = None,
        batch_size: int = 32,
        val_fraction: float = 0.1,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if isinstance(concept_columns, str):
            raise ValueError(f"`concept_columns={concept_columns!r}` must be a list of columns: [{concept_columns!r}].")
        files = {"train": train_file, "val": val_file, "test": test_file, "predict": predict_file}
        if dataset is not None and any(files.values()):
            raise ValueError(f"Give either `dataset` or files, but got dataset={dataset!r} and {files}.")
        if not 0 < val_fraction < 1:
            raise ValueError(f"`val_fraction={val_fraction}` must lie between 0 and 1.")
        splits = {"train": train_split, "val": val_split, "test": test_split, "predict": test_split}
        self._sources = splits if dataset is not None else files
        self.dataset, self.subset = dataset, subset
        self.text_column, self.label_column, self.id_column = text_column, label_column, id_column
        self.concept_columns, self.explanation_column = concept_columns, explanation_column
        self.rationale_column = rationale_column
        self.labels = None if labels is None else [str(label) for label in labels]
        self._tokenizer, self.max_length = tokenizer, max_length
        self.batch_size, self.val_fraction, self.num_workers, self.seed = batch_size, val_fraction, num_workers, seed
        self.rows: dict[str, list[TextRow]] = {}

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
        self._check_explanations(wanted)
        self._settle_labels(stage)
        for split in wanted if stage != "predict" else ():
            self.rows[split] = [replace(row, label=self._label(row, split)) for row in self.rows[split]]

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
    def _module(self) -> Any:
        return getattr(self.trainer, "lightning_module", None)

    def _read(self, split: str) -> Iterable[TextRow]:
        source = self._sources[split]
        assert source is not None
        columns: dict[str, Any] = {"text_column": self.text_column, "id_column": self.id_column}
        columns["label_column"] = None if split == "predict" else self.label_column
        columns["concept_columns"] = () if split == "predict" else self._concepts
        columns["explanation_column"] = None if split == "predict" else self.explanation_column
        columns["rationale_column"] = None if split == "predict" else self.rationale_column
        if self.dataset is not None:
            return hub_rows(self.dataset, subset=self.subset, split=source, **columns)
        return read_rows(source, **columns)

    @property
    def _concepts(self) -> list[str]:
        """The columns of concepts, in the order of the module's."""
        named = list(getattr(self._module, "concept_names", None) or ())
        if self.concept_columns is None:
            return named
        columns = list(self.concept_columns)
        pairs = zip(columns, named, strict=False)
        swapped = any(column in named and column != name for column, name in pairs)
        if named and (swapped or len(named) != len(columns)):
            raise ValueError(
                f"The data has `concept_columns={columns}`, but the module has `concept_names={named}`: give a column "
                "for each of them, in the same order."
            )
        return columns

    def _usable(self, rows: Iterable[TextRow], split: str) -> list[TextRow]:
        """Return the rows, without those of no text, which say nothing; predictions keep them, to keep their order."""
        read = list(rows)
        empty = [row.line for row in read if not row.text.strip()]
        if not empty or split == "predict":
            return read
        lines = ", ".join(map(str, empty[:5])) + (", ..." if len(empty) > 5 else "")
        rank_zero_warn(f"{self._named(split)}: {len(empty)} rows have an empty text and are left out (lines {lines}).")
        if len(empty) == len(read):
            raise ValueError(f"{self._named(split)}: every text in column {self.text_column!r} is empty.")
        return [row for row in read if row.text.strip()]

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

    def _check_explanations(self, wanted: Sequence[str]) -> None:
        """Raise where explanations are to be learnt, and no row has one."""
        if self.explanation_column is None or "train" not in wanted:
            return
        if not any((row.explanation or "").strip() for row in self.rows["train"]):
            raise ValueError(
                f"{self._named('train')}: no row has an explanation in column {self.explanation_column!r}: name the "
                "column that has them, or leave out `explanation_column`."
            )

    def _settle_labels(self, stage: str) -> None:
        """Take the labels of the module, or else those of the rows, where none were given."""
        named = getattr(self._module, "labels", None)
        if self.labels is None:
            self.labels = named
        elif named is not None and list(named) != self.labels:
            raise ValueError(
                f"The data has `labels={self.labels}`, but the module has `labels={list(named)}`: give them to one of "
                "the two, or the same ones in the same order."
            )
        if self.labels is None and stage != "predict":
            held_out = self._sources["val"] is None  # then the validation rows are training rows
            splits = [split for split in ("train", "val") if split in self.rows and (split == "train" or held_out)]
            rows = [row for split in splits or self.rows for row in self.rows[split]]
            self.labels = in_order(row.label for row in rows if row.label is not None)

    def _label(self, row: TextRow, split: str) -> str:
        labels = self.labels or []
        try:
            return labels[class_of(row.label, labels)]
        except ValueError as error:
            raise ValueError(f"{self._named(split)}, line {row.line}: {error}") from error

    def _named(self, split: str) -> str:
        return f"{self.dataset}, split {self._sources[split]}" if self.dataset else str(self._sources[split])

    def _loader(self, split: str, *, shuffle: bool = False) -> DataLoader:
        limit = max_tokens(self.tokenizer, self._module)
        limits = [length for length in (limit, self.max_length) if length is not None]
        length = min(limits, default=None)
        rows = self.rows[split]
        self._say_cut(rows, split, length)
        classes = None
        if split != "predict":
            number = {label: i for i, label in enumerate(self.labels or [])}
            classes = [number[row.label] for row in rows if row.label is not None]
        return DataLoader(
            _Rows(rows, classes),
            batch_size=self.batch_size,
            shuffle=shuffle,
            num_workers=self.num_workers,
            collate_fn=_Collate(
                self.tokenizer,
                length,
                self.explanation_column is not None and split != "predict",
                self.rationale_column is not None and split != "predict",
            ),
            persistent_workers=self.num_workers > 0,
        )

    def _say_cut(self, rows: Sequence[TextRow], split: str, length: int | None) -> None:
        """Warn of texts that are longer than the model takes, found among those with more bytes than that."""
        if length is None:
            return
        spare = length - self.tokenizer.num_special_tokens_to_add() - 1  # one for the mark that begins a text
        long = [row for row in rows if len(row.text.encode(errors="replace")) > spare][:_LENGTHS_CHECKED]
        ids = self.tokenizer([row.text for row in long], verbose=False)["input_ids"] if long else []
        cut = [row.line for row, tokens in zip(long, ids, strict=True) if len(tokens) > length]
        if cut:
            least = "at least " if len(long) == _LENGTHS_CHECKED else ""
            rank_zero_warn(
                f"{self._named(split)}: {least}{len(cut)} of {len(rows)} texts have more than {length} tokens and are "
                f"cut (the first on line {cut[0]}). Split them, or use a model that takes more."
            )


@dataclass(frozen=True)
class _Rows(Dataset):
    """Rows with the number of their class."""

    rows: Sequence[TextRow]
    classes: Sequence[int] | None

    @property
    def example_ids(self) -> torch.Tensor:
        """The id of each row, ``(n,)``."""
        return torch.tensor([row.example_id for row in self.rows], dtype=torch.long)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[TextRow, int | None]:
        return self.rows[index], None if self.classes is None else self.classes[index]


@dataclass(frozen=True)
class _Collate:
    """Rows to a batch; an object and no closure, so that worker processes can be given it."""

    tokenizer: Any
    max_length: int | None
    explained: bool = False
    rationales: bool = False

    def __call__(self, examples: Sequence[tuple[TextRow, int | None]]) -> Any:
        rows, classes = zip(*examples, strict=True)
        batch = encode(
            self.tokenizer,
            [row.text for row in rows],
            max_length=self.max_length,
            labels=None if None in classes else classes,
            example_ids=[row.example_id for row in rows],
            concepts=[row.concepts for row in rows] if rows[0].concepts else None,
            rationales=[row.rationale for row in rows] if self.rationales else None,
        )
        if self.explained:
            ids = following(self.tokenizer, [row.explanation or "" for row in rows])
            tensors = [torch.tensor(each, dtype=torch.long) for each in ids]
            batch["explanation_ids"] = pad_sequence(tensors, batch_first=True, padding_value=-100)
        return batch


def in_order(labels: Iterable[str]) -> list[str]:
    """Return the different labels, numbers by value and others by name."""
    found = set(labels)
    if all(label.isdecimal() for label in found):
        return sorted(found, key=int)
    return sorted(found)
