"""QuestionDataModule: questions with the context that answers them, from files or from a Hugging Face data set."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, NamedTuple

import torch
from torch.utils.data import Dataset
from transformers import BatchEncoding

from lightning_interpret.data import QuestionColumns, QuestionRow, question_rows
from lightning_interpret.functional.answers import null_places
from lightning_interpret.modules.rows_data import RowsDataModule
from lightning_interpret.names import check_whole
from lightning_interpret.tasks.encoding import need_places, padded, whole

_COUNTED = 1000  # rows that are cut in windows at once, to count these


class QuestionDataModule(RowsDataModule[QuestionRow]):
    """Read questions with a context and the answers that stand in it, and batch them for a `transformers` model.

    Files are JSONL, or TSV and CSV with answers as JSON: a list of ``{"text": ..., "start": ...}`` as in XQuAD, or of
    two lists as Hugging Face has SQuAD; an empty list where the context does not answer.

    A context that is too long is cut in windows that overlap, and **each window is an example**: the answer of one that
    does not hold the whole of it is that there is none. The first window of a row has the row's id, and the k-th after
    it that id + k · n, where n is one more than the highest id less the lowest; ``row_id`` in batches is that of the
    row, by which :class:`~lightning_interpret.QuestionAnswerer` puts windows together again. Rows to predict come with
    all their windows in one batch.

    Batches hold ``input_ids``, ``attention_mask``, ``token_type_ids`` where the tokenizer makes them,
    ``start_positions`` and ``end_positions`` (the first answer's tokens; both at the first token where there is none),
    ``context_mask`` (1 at tokens of the context), ``offset_mapping`` (in the question, or in the context),
    ``example_id``, ``row_id``, ``context`` and ``answers`` (lists of texts), ``note``.

    Args:
        context_column: Column of the context.
        question_column: Column of the question.
        answers_column: Column of the answers. Rows to predict need none.
        stride: Tokens that two windows of a context share; by default a quarter of ``max_length``.
        options: Those of :class:`~lightning_interpret.modules.rows_data.RowsDataModule`: ``train_file``, ``val_file``,
            ``test_file``, ``predict_file``, ``dataset``, ``subset``, ``train_split``, ``val_split``, ``test_split``,
            ``id_column``, ``tokenizer``, ``max_length``, ``batch_size``, ``val_fraction``, ``num_workers``, ``seed``.

    Raises:
        ValueError: In ``setup``, for what cannot be read; the message names file, line and remedy. With the loaders,
            for a question that leaves no room for its context.
        FileNotFoundError: In ``setup``, for a file that does not exist.
    """

    def __init__(
        self,
        context_column: str = "context",
        question_column: str = "question",
        answers_column: str = "answers",
        stride: int | None = None,
        **options: Any,
    ) -> None:
        if stride is not None:
            check_whole(0, stride=stride)
        super().__init__(**options)
        self.context_column, self.question_column, self.answers_column = context_column, question_column, answers_column
        self.stride = stride

    @property
    def _main_column(self) -> str:
        return self.context_column

    def _read(self, split: str) -> Iterable[QuestionRow]:
        answers = None if split == "predict" else self.answers_column
        columns = QuestionColumns(self.context_column, self.question_column, answers, self.id_column)
        found = self._found(split, columns)
        return question_rows(found.records, columns, found.source, found.unit)

    @property
    def _cutter(self) -> _Cutter:
        length = self._length
        stride = self.stride if self.stride is not None else 0 if length is None else length // 4
        left = self.tokenizer.padding_side == "left"
        return _Cutter(self.tokenizer, length, stride, left)

    def _dataset(self, split: str) -> Dataset:
        need_places(self.tokenizer, "Answers are found")
        rows = self.rows[split]
        self._check_room(rows, split)
        found = windows_of(rows, self._cutter.counts(rows))
        return _Windows(found if split == "predict" else [[window] for window in chain.from_iterable(found)])

    def _collate(self, split: str) -> Callable[[Sequence[Any]], Any]:
        return _Collate(self._cutter)

    def _check_room(self, rows: Sequence[QuestionRow], split: str) -> None:
        """Raise where a question and the overlap of two windows leave no room for more of the context."""
        cutter = self._cutter
        if cutter.length is None:
            return
        room = cutter.length - cutter.stride - self.tokenizer.num_special_tokens_to_add(pair=True)
        options = {"add_special_tokens": False, "verbose": False}
        for row in rows:
            if len(row.question) < room // 4:  # no tokenizer makes more than four tokens of a character
                continue
            count = len(self.tokenizer(whole(row.question), **options)["input_ids"])
            if count >= room:
                raise ValueError(
                    f"{self._named(split)}, line {row.line}: the question has {count} tokens; with a window of "
                    f"{cutter.length} tokens and `stride={cutter.stride}` it leaves no room for the context. Shorten "
                    "it, lower `stride`, or give a larger `max_length`."
                )


class Window(NamedTuple):
    """A part of a context with its question.

    Attributes:
        row: The row.
        number: Which window of the row it is, from 0.
        of: How many the row has.
        example_id: Its own id.
    """

    row: QuestionRow
    number: int
    of: int
    example_id: int


def windows_of(rows: Sequence[QuestionRow], counts: Sequence[int]) -> list[list[Window]]:
    """Return the windows of each row, given how many it has.

    Raises:
        ValueError: If the ids of rows leave no numbers for those of windows.
    """
    ids = [row.example_id for row in rows]
    step = max(ids) - min(ids) + 1
    if max(ids) + step * (max(counts) - 1) >= 2**63:
        raise ValueError(
            f"The ids lie between {min(ids)} and {max(ids)}, which leaves no numbers for the windows of long contexts: "
            "leave out `id_column` to number the rows."
        )
    return [
        [Window(row, number, count, row.example_id + number * step) for number in range(count)]
        for row, count in zip(rows, counts, strict=True)
    ]


@dataclass(frozen=True)
class _Windows(Dataset):
    """Examples, each of one window or of several."""

    windows: Sequence[Sequence[Window]]

    @property
    def example_ids(self) -> torch.Tensor:
        """The id of each example, ``(n,)``."""
        return torch.tensor([windows[0].example_id for windows in self.windows], dtype=torch.long)

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, index: int) -> Sequence[Window]:
        return self.windows[index]


@dataclass(frozen=True)
class _Cutter:
    """Cuts the contexts of questions in windows."""

    tokenizer: Any
    length: int | None
    stride: int
    left: bool

    def __call__(self, rows: Sequence[QuestionRow]) -> BatchEncoding:
        """Return all windows of some rows, one after the other."""
        return self.tokenizer(
            [whole(row.question) for row in rows],
            [whole(row.context) for row in rows],
            truncation=False if self.length is None else "only_second",
            max_length=self.length,
            stride=self.stride if self.length is not None else 0,
            return_overflowing_tokens=self.length is not None,
            return_attention_mask=True,
            return_offsets_mapping=True,
            verbose=False,
        )

    def counts(self, rows: Sequence[QuestionRow]) -> list[int]:
        """Return how many windows each row has."""
        counts = [1] * len(rows)
        if self.length is None:
            return counts
        for begin in range(0, len(rows), _COUNTED):
            of = self(rows[begin : begin + _COUNTED])["overflow_to_sample_mapping"]
            for i in set(of):
                counts[begin + i] = of.count(i)
        return counts


@dataclass(frozen=True)
class _Collate:
    """Windows to a batch; an object and no closure, so that worker processes can be given it."""

    cutter: _Cutter

    def __call__(self, examples: Sequence[Sequence[Window]]) -> Any:
        windows = [window for example in examples for window in example]
        rows = list({id(window.row): window.row for window in windows}.values())
        found = self.cutter(rows)
        mapping = found.pop("overflow_to_sample_mapping", list(range(len(rows))))
        first = {id(row): mapping.index(i) for i, row in enumerate(rows)}
        made, ends = [], []
        for window in windows:
            at = first[id(window.row)] + window.number
            each = {name: list(values[at]) for name, values in found.items()}
            each["context_mask"] = [int(part == 1) for part in found.sequence_ids(at)]
            made.append(each)
            ends.append(_ends(window.row, each))
        batch = padded(self.cutter.tokenizer, made)
        if windows[0].row.answers is not None:
            shift = batch["input_ids"].shape[1] - batch["attention_mask"].sum(dim=1) if self.cutter.left else 0
            none = null_places(batch["attention_mask"])
            for name, values in zip(("start_positions", "end_positions"), zip(*ends, strict=True), strict=True):
                places = torch.tensor(values, dtype=torch.long)
                batch[name] = torch.where(places < 0, none, places + shift)
            batch["answers"] = [[answer.text for answer in window.row.answers or ()] for window in windows]
        batch["example_id"] = torch.tensor([window.example_id for window in windows], dtype=torch.long)
        batch["row_id"] = torch.tensor([window.row.example_id for window in windows], dtype=torch.long)
        batch["context"] = [window.row.context for window in windows]
        batch["note"] = [
            None if window.of == 1 else f"window {window.number + 1} of {window.of} of a long context"
            for window in windows
        ]
        return batch


def _ends(row: QuestionRow, each: dict[str, list[Any]]) -> tuple[int, int]:
    """Return first and last token of the first answer of a row in a window; −1 where it is not whole in there."""
    if not row.answers:
        return -1, -1
    answer = row.answers[0]
    inside = [
        token
        for token, ((start, end), own) in enumerate(zip(each["offset_mapping"], each["context_mask"], strict=True))
        if own and start < answer.end and end > answer.start
    ]
    own = [place for place, mine in zip(each["offset_mapping"], each["context_mask"], strict=True) if mine]
    held = bool(inside) and own[0][0] <= answer.start and answer.end <= own[-1][1]
    return (inside[0], inside[-1]) if held else (-1, -1)
