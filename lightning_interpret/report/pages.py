"""An attribution in records that each fit on a page: windows of its tokens, or an image with a smaller picture."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from lightning_interpret.explanations import AttributionRow
from lightning_interpret.locations import Grid
from lightning_interpret.report.uri import decoded, encoded
from lightning_interpret.tensorboard.payload import PER_TOKEN, shifted

Record = Mapping[str, Any]
Fits = Callable[[Record, int], bool]
"""Whether a record fits on one page of so many."""

_SIDES = (112, 80, 48, 0)  # pixels of a thumbnail's longer side, the first that fits; 0 for none


def records(row: AttributionRow, fits: Fits) -> list[Record]:
    """Return the record of each page of a row.

    A row that is too large for one page is cut into consecutive windows of its tokens. The record of a window is a
    readable record of its own; its ``offset`` and ``word_offset`` say where its tokens and words start in the row, and
    a word that a cut divides is in both windows.

    Of an image neighbouring scores are summed until the grid has at most 28 rows and columns, and the picture is a
    thumbnail: a reader sees no more, and the file of records keeps all. Its record says in ``full_grid`` the grid that
    was, and in ``pooled`` how many of its rows and columns are one here; sums are what they were.

    Args:
        row: The row to write.
        fits: Whether a record fits on one page of so many.

    Raises:
        ValueError: If not even one token with its word fits on a page, or an image's record does not fit without its
            picture.
    """
    if row.units == "location":
        for image in _of_image(row):
            if fits(image, 1):
                return [image]
        raise ValueError("The record of an image does not fit on a page: raise limit, or shorten its texts.")
    record = row.to_dict()
    return [record] if fits(record, 1) else windows(record, fits)


def windows(record: Record, fits: Fits) -> list[Record]:
    """Return a record of tokens in consecutive windows of them.

    Raises:
        ValueError: If not even one token with its word fits on a page.
    """
    size = len(record["tokens"])
    return _split(record, 0, size, lambda window: fits(window, size))


def _of_image(row: AttributionRow) -> Iterator[dict[str, Any]]:
    """Yield the record of an image, its picture ever smaller and at last left out."""
    grid, picture, first = row.locations().pool(), decoded(row.image), (*row.special, False).index(False)

    def pooled(scores: tuple[float, ...]) -> tuple[float, ...]:
        found = Grid.of(scores, row.special, row.grid).pool()
        return found.outside[:first] + found.scores + found.outside[first:]

    small = replace(
        row,
        scores=pooled(row.scores),
        unit_errors=None if row.unit_errors is None else pooled(row.unit_errors),
        special=tuple(not 0 <= i - first < len(grid.scores) for i in range(len(grid.scores) + len(grid.outside))),
        grid=grid.shape,
    )
    for side in _SIDES if picture else (0,):
        image = encoded(picture, side) if picture and side else None
        yield replace(small, image=image).to_dict() | {"full_grid": list(grid.full), "pooled": list(grid.pooled)}


def _split(record: Record, start: int, end: int, fits: Callable[[Record], bool]) -> list[Record]:
    window = _window(record, start, end)
    if fits(window):
        return [window]
    if end - start <= 1:
        raise ValueError(f"Token {start} does not fit on a page with its word: raise limit, or shorten its text.")
    middle = (start + end) // 2
    return _split(record, start, middle, fits) + _split(record, middle, end, fits)


def _window(record: Record, start: int, end: int) -> dict[str, Any]:
    ids = record["word_ids"]
    of_tokens = (name for name in PER_TOKEN if name in record)
    cut = {name: None if record[name] is None else record[name][start:end] for name in of_tokens}
    # Words that no token stands for go with the token after them, so that the windows hold every word.
    first = min([_words_before(ids, start), *(i for i in ids[start:end] if i is not None)])
    last = len(record["words"]) if end == len(record["tokens"]) else _words_before(ids, end)
    cut |= {"word_ids": shifted(ids[start:end], -first), "words": record["words"][first:last]}
    return {**record, **cut, "offset": start, "word_offset": first}


def _words_before(ids: Sequence[int | None], token: int) -> int:
    return 1 + max((i for i in ids[:token] if i is not None), default=-1)
