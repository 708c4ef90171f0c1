"""Validation texts as a list, encoded as they are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch

from lightning_interpret.tasks.encode import encode

_KEPT = 8


class EncodedTexts:
    """Texts with labels and ids as :class:`~lightning_interpret.causes.scan.Validation`.

    The last batches are kept, as each question about some examples asks for the same: a text of megabytes is encoded in
    seconds.

    Args:
        tokenizer: The model's tokenizer.
        texts: The texts, whole.
        labels: Class of each; below 0 for none.
        example_ids: Id of each.
        max_length: Tokens that the model reads.
        device: Where batches are wanted.
    """

    def __init__(
        self,
        tokenizer: Any,
        texts: Sequence[str],
        labels: Sequence[int],
        example_ids: Sequence[int],
        *,
        max_length: int | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self._tokenizer, self._texts, self._labels, self._ids = tokenizer, texts, labels, example_ids
        self._max_length, self._device = max_length, device
        self._kept = lru_cache(_KEPT)(self._batch)

    def __len__(self) -> int:
        return len(self._texts)

    def batch(self, numbers: Sequence[int]) -> Any:
        """Return the batch of some texts, which is to be left as it is."""
        return self._kept(tuple(numbers))

    def _batch(self, numbers: tuple[int, ...]) -> Any:
        return encode(
            self._tokenizer,
            [self._texts[number] for number in numbers],
            max_length=self._max_length,
            labels=[self._labels[number] for number in numbers],
            example_ids=[self._ids[number] for number in numbers],
        ).to(self._device)

    def index(self, number: int) -> int:
        """Return where a text stands: its number."""
        return number

    def text(self, number: int) -> str | None:
        """Return a text whole."""
        return self._texts[number]

    def encoded(self, texts: Sequence[str]) -> Any | None:
        """Return the batch of other texts, each cut to what the model reads."""
        return encode(self._tokenizer, texts, max_length=self._max_length).to(self._device)
