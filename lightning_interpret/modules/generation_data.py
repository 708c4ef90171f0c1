"""GenerationDataModule: texts to write, after a source, after a prompt or alone, from files or Hugging Face data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import Dataset

from lightning_interpret.data import WrittenColumns, WrittenRow, written_rows
from lightning_interpret.modules.rows_data import RowsDataModule
from lightning_interpret.tasks.encode_written import encode_prompts, encode_sources, joined
from lightning_interpret.tasks.encoding import need_places


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
            self._say_cut(split, [(row.line, joined(row.source, row.target)[0]) for row in rows], self._length)
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
        sources, targets = [row.source for row in rows], [row.target for row in rows]
        batch = encode_sources(self.tokenizer, sources, targets, self.max_length, self.max_target_length)
        batch["example_id"] = torch.tensor([row.example_id for row in rows], dtype=torch.long)
        return batch


@dataclass(frozen=True)
class _CollatePrompts:
    """Rows to a batch of a decoder; an object and no closure, so that workers can be given it."""

    tokenizer: Any
    max_length: int | None

    def __call__(self, rows: Sequence[WrittenRow]) -> Any:
        batch = encode_prompts(self.tokenizer, [(row.source, row.target) for row in rows], self.max_length)
        batch["example_id"] = torch.tensor([row.example_id for row in rows], dtype=torch.long)
        return batch
