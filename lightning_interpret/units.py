"""What scores are shown for: the tokens of a text, the locations of an image, the entries of a feature vector."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Units:
    """What the scores of N rows are shown for: tokens of a text, locations of an image, entries of a feature vector.

    Every sequence has one entry a row. ``shape`` is the shape of one row's scores, padding included.

    Attributes:
        kind: ``"token"``, ``"location"`` or ``"feature"``.
        shape: Shape of the scores of one row, ``(T,)``.
        texts: The tokenizer's own tokens, T a row; none of locations.
        word_ids: For each token the word it belongs to, ``None`` for special tokens and padding.
        words: The text of each word.
        special: Bool ``(N, T)``, true at special tokens (not at padding); of an image, at units that are no location.
        padding: Bool ``(N, T)``.
        offsets: For each token its ``(start, end)`` in the text, or ``None`` where the batch has none.
        segment: Long ``(N, T)``, which of a pair of texts, or of prompt and output, or ``None``.
        segment_names: Name of each segment, or ``None``.
        grid: Rows and columns of the locations of an image; those units that are not special, row by row.
        images: For each row a small picture of its image as a data URI, or ``None``.
    """

    kind: str
    shape: tuple[int, ...]
    texts: tuple[tuple[str, ...], ...]
    word_ids: tuple[tuple[int | None, ...], ...]
    words: tuple[tuple[str, ...], ...]
    special: Tensor
    padding: Tensor
    offsets: tuple[tuple[tuple[int, int], ...], ...] | None = None
    segment: Tensor | None = None
    segment_names: tuple[str, ...] | None = None
    grid: tuple[int, int] | None = None
    images: tuple[str | None, ...] | None = None

    @classmethod
    def locations(
        cls,
        rows: int,
        grid: tuple[int, int],
        *,
        before: int = 0,
        after: int = 0,
        images: tuple[str | None, ...] | None = None,
    ) -> Units:
        """Return the units of ``rows`` images, with units of no location (CLS, registers) before and after them."""
        size = before + grid[0] * grid[1] + after
        special = torch.ones(rows, size, dtype=torch.bool)
        special[:, before : size - after] = False
        return cls(
            kind="location",
            shape=(size,),
            texts=((),) * rows,
            word_ids=((),) * rows,
            words=((),) * rows,
            special=special,
            padding=torch.zeros(rows, size, dtype=torch.bool),
            grid=grid,
            images=images,
        )

    @classmethod
    def features(cls, rows: int, size: int) -> Units:
        """Return the units of ``rows`` feature vectors of ``size`` entries, named by their index."""
        names = tuple(str(i) for i in range(size))
        nothing = torch.zeros(rows, size, dtype=torch.bool)
        return cls(
            kind="feature",
            shape=(size,),
            texts=(names,) * rows,
            word_ids=(tuple(range(size)),) * rows,
            words=(names,) * rows,
            special=nothing,
            padding=nothing,
        )

    def without(self, unread: Tensor) -> Units:
        """Return the units with some, bool ``(N, *shape)``, as padding: what a row's target is not made from."""
        unread = unread.to(self.padding.device)
        return replace(self, special=self.special & ~unread, padding=self.padding | unread)

    def take(self, rows: Tensor) -> Units:
        """Return the units of the given rows, gathered or repeated."""
        picked = rows.tolist()
        return replace(
            self,
            texts=tuple(self.texts[i] for i in picked),
            word_ids=tuple(self.word_ids[i] for i in picked),
            words=tuple(self.words[i] for i in picked),
            special=self.special[rows],
            padding=self.padding[rows],
            offsets=None if self.offsets is None else tuple(self.offsets[i] for i in picked),
            segment=None if self.segment is None else self.segment[rows],
            images=None if self.images is None else tuple(self.images[i] for i in picked),
        )
