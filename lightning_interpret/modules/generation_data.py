"""GenerationDataModule: texts to write, after a source, after a prompt or alone, from files or Hugging Face data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from lightning_interpret.data import WrittenColumns, WrittenRow, written_rows
from lightning_interpret.modules.encoding import cut_note, need_places, padded, split_rows, whole
from lightning_interpret.modules.rows_data import RowsDataModule
from lightning_interpret.tasks.encode import encode

NONE = -100


class GenerationDataModule(RowsDataModule[WrittenRow]):
    """Read texts that a `transformers` model learns to write, and batch them for it.

    An **encoder-decoder** reads the source and writes the target: batches hold ``input_ids`` and ``attention_mask`` of
    the source, and ``labels`` ``(B, T)``, the target up to its end, −100 as padding. A **decoder** goes on with a text:
    ``input_ids`` are source (the prompt) and target in one text, with a space between them where neither has one, and
    its end; ``labels`` ``(B, S)`` are the same ids, −100 at the prompt and at padding, which stands on the tokenizer's
    side. Without a source the whole text is learnt. Batches also hold ``offset_mapping`` in the text that is read,
    ``example_id`` (the id column, or the row number) and ``note``.

    A text that is too long is cut at its end, and it is said; of a prompt and its completion the prompt loses its
    first tokens, and the completion is cut only where it is too long by itself. Rows to predict have a source alone,
    or, without a source column, the beginning of a text.

    Args:
        source_column: Column of the source or the prompt; none for language modelling.
        target_column: Column of what is to be written. Rows to predict need none.
        max_target_length: Tokens a target of an encoder-decoder may have; by default as many as a source.
        encoder_decoder: Whether the model has an encoder; by default as the module's model has.
        options: Those of :class:`~lightning_interpret.modules.rows_data.RowsDataModule`: ``train_file``, ``val_file``,
            ``test_file``, ``predict_file``, ``dataset``, ``subset``, ``train_split``, ``val_split``, ``test_split``,
            ``id_column``, ``tokenizer``, ``max_length``, ``batch_size``, ``val_fraction``, ``num_workers``, ``seed``.

    Raises:
        ValueError: In ``setup``, for what cannot be read; the message names file, line and remedy.
        FileNotFoundError: In ``setup``, for a file that does not exist.
    """

    def __init__(
        self,
        source_column: str | None = None,
        target_column: str = "text",
        max_target_length: int | None = None,
        encoder_decoder: bool | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if source_column is not None and source_column == target_column:
            raise ValueError(
                f"`source_column` and `target_column` are both {source_column!r}: leave `source_column` out to learn "
                "the whole text."
            )
        self.source_column, self.target_column = source_column, target_column
        self.max_target_length, self._encoder_decoder = max_target_length, encoder_decoder

    @property
    def encoder_decoder(self) -> bool:
        """Whether the model has an encoder: as given, or as the module says.

        Raises:
            ValueError: If neither does, or the two differ.
        """
        own, theirs = self._encoder_decoder, getattr(self._module, "encoder_decoder", None)
        if own is None and theirs is None:
            raise ValueError("`encoder_decoder=None`, and the module does not say whether it is one: give it.")
        if own is not None and theirs is not None and own != theirs:
            raise ValueError(
                f"The data has `encoder_decoder={own}`, but the module's model is the other: leave it out."
            )
        return bool(theirs if own is None else own)

    @property
    def _main_column(self) -> str:
        return self.target_column

    def _settle(self, stage: str, wanted: Sequence[str]) -> None:
        if self.encoder_decoder and self.source_column is None:
            raise ValueError(
                "`source_column=None`, but an encoder-decoder reads a source: name its column, and that of the target "
                "with `target_column`."
            )

    def _read(self, split: str) -> Iterable[WrittenRow]:
        source, target = self.source_column, self.target_column
        if split == "predict":
            alone = ("source_column" if source else "target_column", "")
            columns = WrittenColumns(source or target, None, self.id_column, alone)
        else:
            columns = WrittenColumns(source, target, self.id_column)
        found = self._found(split, columns)
        return written_rows(found.records, columns, found.source, found.unit)

    def _dataset(self, split: str) -> Dataset:
        rows = self.rows[split]
        if self.encoder_decoder:
            self._say_cut(split, [(row.line, row.source) for row in rows], self._length)
            self._say_cut(split, [(row.line, row.target) for row in rows if row.target], self._target_length)
        else:
            need_places(self.tokenizer, "Prompt and completion are told apart")
            self._say_cut(split, [(row.line, joined(row)[0]) for row in rows], self._length)
        return _Written(rows)

    @property
    def _target_length(self) -> int | None:
        lengths = [length for length in (self._length, self.max_target_length) if length is not None]
        return min(lengths, default=None)

    def _collate(self, split: str) -> Callable[[Sequence[Any]], Any]:
        if self.encoder_decoder:
            return _CollateSources(self.tokenizer, self._length, self._target_length)
        return _CollatePrompts(self.tokenizer, self._length)


@dataclass(frozen=True)
class _Written(Dataset):
    """Rows as they are."""

    rows: Sequence[WrittenRow]

    @property
    def example_ids(self) -> torch.Tensor:
        """The id of each row, ``(n,)``."""
        return torch.tensor([row.example_id for row in self.rows], dtype=torch.long)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> WrittenRow:
        return self.rows[index]


@dataclass(frozen=True)
class _CollateSources:
    """Rows to a batch of an encoder-decoder; an object and no closure, so that workers can be given it."""

    tokenizer: Any
    max_length: int | None
    max_target_length: int | None

    def __call__(self, rows: Sequence[WrittenRow]) -> Any:
        batch = encode(
            self.tokenizer,
            [row.source for row in rows],
            max_length=self.max_length,
            example_ids=[row.example_id for row in rows],
        )
        if rows[0].target is not None:
            targets = self.tokenizer(text_target=[whole(row.target or "") for row in rows], verbose=False)["input_ids"]
            ids = [_ended(list(target), self.tokenizer, self.max_target_length) for target in targets]
            tensors = [torch.tensor(each, dtype=torch.long) for each in ids]
            batch["labels"] = pad_sequence(tensors, batch_first=True, padding_value=NONE)
        return batch


@dataclass(frozen=True)
class _CollatePrompts:
    """Rows to a batch of a decoder; an object and no closure, so that workers can be given it."""

    tokenizer: Any
    max_length: int | None

    def __call__(self, rows: Sequence[WrittenRow]) -> Any:
        texts, prompts = zip(*(joined(row) for row in rows), strict=True)
        options = {"return_attention_mask": True, "return_offsets_mapping": True, "verbose": False}
        found = split_rows(self.tokenizer([whole(text) for text in texts], **options), len(rows))
        made, notes = [], []
        for row, each, text, length in zip(rows, found, texts, prompts, strict=True):
            _finish(each, len(text), None if row.target is None else self.tokenizer.eos_token_id, self.tokenizer)
            if row.target is not None:
                each["labels"] = [
                    token if end > length or begin >= length else NONE
                    for token, (begin, end) in zip(each["input_ids"], each["offset_mapping"], strict=True)
                ]
            before = len(each["input_ids"])
            made.append(_shortened(each, self.max_length))
            notes.append(cut_note(len(made[-1]["input_ids"]), before))
        batch = padded(self.tokenizer, made)
        batch["example_id"] = torch.tensor([row.example_id for row in rows], dtype=torch.long)
        batch["note"] = notes
        return batch


def joined(row: WrittenRow) -> tuple[str, int]:
    """Return source and target in one text, and how many characters of it are the source."""
    if not row.source or not row.target:
        return row.source + (row.target or ""), len(row.source)
    spaced = row.source[-1:].isspace() or row.target[:1].isspace()
    return row.source + ("" if spaced else " ") + row.target, len(row.source)


def _ended(ids: list[int], tokenizer: Any, limit: int | None) -> list[int]:
    """Return the ids of a target, cut where they are too many, with the mark that ends it."""
    end = tokenizer.eos_token_id
    marked = end is None or end in ids[-2:]  # Marian and mBART may have a language behind it
    ids = ids if marked else [*ids, end]
    return ids if limit is None or len(ids) <= limit else [*ids[: limit - 1], ids[-1]]


def _finish(each: dict[str, list[Any]], length: int, end: int | None, tokenizer: Any) -> None:
    """Put the mark ``end`` behind a text of so many characters, in place of the one that the tokenizer may have put."""
    last = each["input_ids"][-1:]
    if last == [tokenizer.eos_token_id] and each["offset_mapping"][-1] == (0, 0):
        for values in each.values():
            values.pop()
    if end is not None:
        more = {"input_ids": end, "attention_mask": 1, "offset_mapping": (length, length)}
        for name, values in each.items():
            values.append(more.get(name, 0))


def _shortened(each: dict[str, list[Any]], limit: int | None) -> dict[str, list[Any]]:
    """Return a prompt and its completion with at most so many tokens: the prompt without its first ones, if any."""
    length = len(each["input_ids"])
    if limit is None or length <= limit:
        return each
    labels = each.get("labels", [NONE] * length)
    prompt = next((i for i, label in enumerate(labels) if label != NONE), length)
    first = int(prompt > 0 and each["offset_mapping"][0] == (0, 0))  # the mark that begins a text stays
    lost = min(length - limit, max(0, prompt - 1 - first))
    return {name: [*values[:first], *values[first + lost :]][:limit] for name, values in each.items()}
