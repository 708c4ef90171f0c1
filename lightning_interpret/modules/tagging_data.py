"""TaggingDataModule: words with a tag each, from files or from a Hugging Face data set."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.utils.data import Dataset

from lightning_interpret.data import TaggedColumns, TaggedRow, tagged_rows
from lightning_interpret.modules.rows_data import LabelledRows
from lightning_interpret.tasks.encoding import cut_note, need_places, padded, whole

NONE = -100


class TaggingDataModule(LabelledRows[TaggedRow]):
    """Read words with a tag each (named entities, parts of speech), and batch them for a `transformers` model.

    Files are CONLL (a token and its tag a line, blank lines between sentences), JSONL with lists of both, or TSV and
    CSV with lists as JSON; TXT is a text a line, to predict. The model reads the words with a space between them, and
    ``offset_mapping`` holds in that text. Batches hold ``input_ids``, ``attention_mask``, ``labels`` (the class of a
    word at its first token, −100 at all other tokens), ``word_ids`` (the number of the word that a token is of, −1 of
    none), ``example_id`` (the id column, or the row number) and what else the tokenizer returns. A word of which no
    token is left, such as one that was cut, has no label.

    Args:
        tokens_column: Column of the words.
        tags_column: Column of their tags. Rows to predict need none.
        labels: Tags in order; by default the module's, or those of the training rows in order.
        options: Those of :class:`~lightning_interpret.modules.rows_data.RowsDataModule`: ``train_file``, ``val_file``,
            ``test_file``, ``predict_file``, ``dataset``, ``subset``, ``train_split``, ``val_split``, ``test_split``,
            ``id_column``, ``tokenizer``, ``max_length``, ``batch_size``, ``val_fraction``, ``num_workers``, ``seed``.

    Raises:
        ValueError: In ``setup``, for what cannot be read; the message names file, line and remedy.
        FileNotFoundError: In ``setup``, for a file that does not exist.
    """

    def __init__(
        self,
        tokens_column: str = "tokens",
        tags_column: str = "tags",
        labels: list[str] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(labels, **options)
        self.tokens_column, self.tags_column = tokens_column, tags_column

    @property
    def _main_column(self) -> str:
        return self.tokens_column

    def _read(self, split: str) -> Iterable[TaggedRow]:
        tags = None if split == "predict" else self.tags_column
        columns = TaggedColumns(self.tokens_column, tags, self.id_column)
        found = self._found(split, columns)
        return tagged_rows(found.records, columns, found.source, found.unit)

    def _labels_of(self, row: TaggedRow) -> Sequence[str]:
        return row.tags or ()

    def _labelled(self, row: TaggedRow, labels: Sequence[str]) -> TaggedRow:
        return replace(row, tags=tuple(labels))

    def _dataset(self, split: str) -> Dataset:
        need_places(self.tokenizer, "Tags are aligned")
        rows = self.rows[split]
        self._say_cut(split, [(row.line, row.text) for row in rows], self._length)
        return _Tagged(rows)

    def _collate(self, split: str) -> Callable[[Sequence[Any]], Any]:
        return _Collate(self.tokenizer, self._length, None if split == "predict" else tuple(self.labels or ()))


@dataclass(frozen=True)
class _Tagged(Dataset):
    """Rows as they are."""

    rows: Sequence[TaggedRow]

    @property
    def example_ids(self) -> torch.Tensor:
        """The id of each row, ``(n,)``."""
        return torch.tensor([row.example_id for row in self.rows], dtype=torch.long)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> TaggedRow:
        return self.rows[index]


@dataclass(frozen=True)
class _Collate:
    """Rows to a batch; an object and no closure, so that worker processes can be given it."""

    tokenizer: Any
    max_length: int | None
    labels: tuple[str, ...] | None

    def __call__(self, rows: Sequence[TaggedRow]) -> Any:
        found = self.tokenizer(
            [whole(row.text) for row in rows],
            return_attention_mask=True,
            return_offsets_mapping=True,
            truncation=self.max_length is not None,
            max_length=self.max_length,
        )
        number = {label: i for i, label in enumerate(self.labels or ())}
        made, notes = [], []
        for i, row in enumerate(rows):
            each = {name: list(values[i]) for name, values in found.items()}
            each["word_ids"] = words_of(row.spans, each["offset_mapping"])
            if self.labels is not None:
                first = firsts(each["word_ids"])
                classes = [number[tag] for tag in row.tags or ()]
                each["labels"] = [
                    classes[word] if begins else NONE for word, begins in zip(each["word_ids"], first, strict=True)
                ]
            more = sum(sum(mark == 0 for mark in part.special_tokens_mask) for part in found.encodings[i].overflowing)
            notes.append(cut_note(len(each["input_ids"]), len(each["input_ids"]) + more))
            made.append(each)
        batch = padded(self.tokenizer, made)
        batch["example_id"] = torch.tensor([row.example_id for row in rows], dtype=torch.long)
        batch["note"] = notes
        return batch


def words_of(spans: Sequence[tuple[int, int]], offsets: Sequence[tuple[int, int]]) -> list[int]:
    """Return the number of the word that each token is of, −1 of a token that has no character of one.

    Args:
        spans: Where the words stand, in order.
        offsets: Where the tokens stand, in order; those of special tokens are empty.
    """
    found, word = [], 0
    for start, end in offsets:
        if start == end:
            found.append(-1)
            continue
        while word < len(spans) and spans[word][1] <= start:
            word += 1
        found.append(word if word < len(spans) and spans[word][0] < end else -1)
    return found


def firsts(word_ids: Sequence[int]) -> list[bool]:
    """Return which tokens are the first one of a word."""
    return [word >= 0 and word != before for before, word in zip([-1, *word_ids], word_ids, strict=False)]
