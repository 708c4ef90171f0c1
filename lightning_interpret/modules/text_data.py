"""TextDataModule: labelled text from files or from a Hugging Face data set, with stable ids."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from lightning_interpret.data import TextRow, hub_rows, read_rows
from lightning_interpret.data.rows import PROBLEMS
from lightning_interpret.modules.rows_data import LabelledRows
from lightning_interpret.names import choose
from lightning_interpret.tasks.encode import encode, following
from lightning_interpret.tasks.encoding import encode_pairs


class TextDataModule(LabelledRows[TextRow]):
    """Read labelled text, a text a row, and batch it for a `transformers` model.

    Files are TSV, CSV, JSONL or TXT, also compressed as ``.gz``. Batches hold ``input_ids``, ``attention_mask``,
    ``labels`` (the class, or as ``problem`` says), ``example_id`` (the id column, or the row number), ``concepts``
    where there are columns of them, ``explanation_ids`` (−100 is padding) where there is one of explanations,
    ``rationale`` where there is one of what people selected (1 or 0 a token, −100 where it is not known), and what else
    the tokenizer returns, such as ``token_type_ids`` of pairs.

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
        max_length: Tokens a text may have; by default what the model takes. Longer texts are cut, and it is said; of a
            pair the longer one first.
        batch_size: Texts in a batch.
        val_fraction: Share of the training rows held out where there are no validation rows.
        num_workers: Worker processes of each loader.
        seed: Seed of that choice.
        pair_column: Column of a second text: both are given to the model, as a premise and its hypothesis.
        label_columns: Columns of several labels (0 or 1) or numbers, in place of ``label_column``.
        problem: What the labels are: ``single_label``; ``multi_label``, a list in ``label_column`` or one of
            ``label_columns`` each, in batches floats 0 or 1, ``(B, C)``; ``regression``, in batches floats ``(B,)``, or
            ``(B, K)`` of several columns. By default the module's.

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
        pair_column: str | None = None,
        label_columns: list[str] | None = None,
        problem: str | None = None,
    ) -> None:
        for name, columns in (("concept_columns", concept_columns), ("label_columns", label_columns)):
            if isinstance(columns, str):
                raise ValueError(f"`{name}={columns!r}` must be a list of columns: [{columns!r}].")
        if problem is not None:
            choose("problem", problem, PROBLEMS)
        if pair_column is not None and rationale_column is not None:
            raise ValueError(
                f"`rationale_column={rationale_column!r}` says what people selected of one text, but there are two by "
                f"`pair_column={pair_column!r}`: leave one of the two out."
            )
        super().__init__(
            train_file=train_file,
            val_file=val_file,
            test_file=test_file,
            predict_file=predict_file,
            dataset=dataset,
            subset=subset,
            train_split=train_split,
            val_split=val_split,
            test_split=test_split,
            id_column=id_column,
            labels=labels,
            tokenizer=tokenizer,
            max_length=max_length,
            batch_size=batch_size,
            val_fraction=val_fraction,
            num_workers=num_workers,
            seed=seed,
        )
        self.text_column, self.label_column, self.pair_column = text_column, label_column, pair_column
        self.concept_columns, self.explanation_column = concept_columns, explanation_column
        self.rationale_column, self.label_columns, self._problem = rationale_column, label_columns, problem

    @property
    def problem(self) -> str:
        """What the labels are: as given, or as the module says.

        Raises:
            ValueError: If the two differ, or several columns hold one label.
        """
        own, theirs = self._problem, getattr(self._module, "problem", None)
        if own is not None and theirs is not None and own != theirs:
            raise ValueError(f"The data has `problem={own!r}`, but the module has `problem={theirs!r}`: give the same.")
        found = own or theirs or "single_label"
        if found == "single_label" and self.label_columns:
            raise ValueError(
                f"`label_columns={self.label_columns}` are of several labels or numbers: give "
                "`problem='multi_label'` or `problem='regression'`, here or to the module."
            )
        return found

    @property
    def _main_column(self) -> str:
        return self.text_column

    def _read(self, split: str) -> Iterable[TextRow]:
        source = self._sources[split]
        assert source is not None
        columns: dict[str, Any] = {
            "text_column": self.text_column,
            "pair_column": self.pair_column,
            "id_column": self.id_column,
            "label_column": None,
        }
        if split != "predict":
            columns |= {
                "label_column": self.label_column,
                "label_columns": self.label_columns or (),
                "problem": self.problem,
                "concept_columns": self._concepts,
                "explanation_column": self.explanation_column,
                "rationale_column": self.rationale_column,
            }
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

    def _check_explanations(self, wanted: Sequence[str]) -> None:
        """Raise where explanations are to be learnt, and no row has one."""
        if self.explanation_column is None or "train" not in wanted:
            return
        if not any((row.explanation or "").strip() for row in self.rows["train"]):
            raise ValueError(
                f"{self._named('train')}: no row has an explanation in column {self.explanation_column!r}: name the "
                "column that has them, or leave out `explanation_column`."
            )

    def _settle(self, stage: str, wanted: Sequence[str]) -> None:
        self._check_explanations(wanted)
        columns = self.label_columns or [self.label_column]
        if self.problem == "regression":  # labels are the names of the numbers, which the module may call otherwise
            self.labels = self.labels or getattr(self._module, "labels", None) or columns
            if len(self.labels) != len(columns):
                raise ValueError(
                    f"`labels={self.labels}` name {len(self.labels)} numbers, but the rows have {columns}."
                )
            return
        if self.label_columns and self.labels is None and getattr(self._module, "labels", None) is None:
            self.labels = columns
        super()._settle(stage, wanted)

    def _labels_of(self, row: TextRow) -> Sequence[str]:
        return row.several if row.label is None else (row.label,)

    def _labelled(self, row: TextRow, labels: Sequence[str]) -> TextRow:
        return replace(row, several=tuple(labels)) if row.label is None else replace(row, label=labels[0])

    def _dataset(self, split: str) -> Dataset:
        rows = self.rows[split]
        texts = [(row.line, row.text if row.pair is None else (row.text, row.pair)) for row in rows]
        self._say_cut(split, texts, self._length)
        return _Rows(rows, None if split == "predict" else [self._target(row) for row in rows])

    def _target(self, row: TextRow) -> Any:
        """Return what is to be predicted of a row: a class, a flag for each class, or numbers."""
        labels = self.labels or []
        if row.label is not None:
            return labels.index(row.label)
        if self.problem == "multi_label":
            return [float(label in row.several) for label in labels]
        return row.values if len(row.values) > 1 else row.values[0]

    def _collate(self, split: str) -> Callable[[Sequence[Any]], Any]:
        given = split != "predict"
        return _Collate(
            self.tokenizer,
            self._length,
            self.explanation_column is not None and given,
            self.rationale_column is not None and given,
        )


@dataclass(frozen=True)
class _Rows(Dataset):
    """Rows with what is to be predicted of each."""

    rows: Sequence[TextRow]
    targets: Sequence[Any] | None

    @property
    def example_ids(self) -> torch.Tensor:
        """The id of each row, ``(n,)``."""
        return torch.tensor([row.example_id for row in self.rows], dtype=torch.long)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[TextRow, Any]:
        return self.rows[index], None if self.targets is None else self.targets[index]


@dataclass(frozen=True)
class _Collate:
    """Rows to a batch; an object and no closure, so that worker processes can be given it."""

    tokenizer: Any
    max_length: int | None
    explained: bool = False
    rationales: bool = False

    def __call__(self, examples: Sequence[tuple[TextRow, Any]]) -> Any:
        rows, targets = zip(*examples, strict=True)
        pairs = [(row.text, row.pair) for row in rows if row.pair is not None]
        if pairs:
            batch = encode_pairs(self.tokenizer, pairs, self.max_length)
        else:
            rationales = [row.rationale for row in rows] if self.rationales else None
            texts = [row.text for row in rows]
            batch = encode(self.tokenizer, texts, max_length=self.max_length, rationales=rationales)
        if None not in targets:
            whole = isinstance(targets[0], int)
            batch["labels"] = torch.tensor(targets, dtype=torch.long if whole else torch.float32)
        batch["example_id"] = torch.tensor([row.example_id for row in rows], dtype=torch.long)
        if rows[0].concepts:
            batch["concepts"] = torch.tensor([row.concepts for row in rows], dtype=torch.float32)
        if self.explained:
            ids = following(self.tokenizer, [row.explanation or "" for row in rows])
            tensors = [torch.tensor(each, dtype=torch.long) for each in ids]
            batch["explanation_ids"] = pad_sequence(tensors, batch_first=True, padding_value=-100)
        return batch
