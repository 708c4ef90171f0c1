"""What the Interpret tab of TensorBoard reads: one JSON string a probe and step, in pages of bounded size."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from tensorboard.compat.proto import summary_pb2, tensor_pb2, tensor_shape_pb2, types_pb2

from lightning_interpret.explanations import AttributionRow
from lightning_interpret.locations import Grid
from lightning_interpret.report.uri import decoded, encoded
from lightning_interpret.tensorboard.payload import PER_TOKEN, PLUGIN, SCHEMA, shifted
from lightning_interpret.tensorboard.payload import join as join_pages

_KIND = "attribution"
_SIDES = (112, 80, 48, 0)  # pixels of a thumbnail's longer side, the first that fits; 0 for none


def tag(name: str, probe: int, page: int = 1) -> str:
    """Return the tag of one page of a probe."""
    return f"interpret/{name}/probe_{probe}" + ("" if page == 1 else f"/page_{page}")


def payloads(row: AttributionRow, *, monitor: str, step: int, probe: int, limit: int = 65536) -> list[str]:
    """Return the pages of a row as JSON in ASCII, each at most ``limit`` bytes.

    A row that is too large for one page is cut into consecutive windows of its tokens. The record of a window is a
    readable record of its own; its ``offset`` and ``word_offset`` say where its tokens and words start in the row, and
    a word that a cut divides is in both windows. :func:`join` puts the row together again.

    Of an image neighbouring scores are summed until the grid has at most 28 rows and columns, and the picture is a
    thumbnail: a reader sees no more, and the file of records keeps all. Its record says in ``full_grid`` the grid that
    was, and in ``pooled`` how many of its rows and columns are one here; sums are what they were.

    Args:
        row: The row to write.
        monitor: Name of the monitor that made it.
        step: Step of the training run.
        probe: Number of the probe.
        limit: Most bytes of a page.

    Raises:
        ValueError: If not even one token with its word fits on a page, or an image's record does not fit without its
            picture.
    """

    def page(record: Mapping[str, Any], number: int, pages: int) -> str:
        head = {"schema": SCHEMA, "kind": _KIND, "monitor": monitor, "step": step, "probe": probe}
        return json.dumps(head | {"page": number, "pages": pages, "records": [record]}, allow_nan=False)

    if row.units == "location":
        pages = (page(record, 1, 1) for record in _of_image(row))
        return [_first(pages, lambda text: len(text) <= limit)]
    record, size = row.to_dict(), len(row.tokens)
    whole = page(record, 1, 1)
    if len(whole) <= limit:
        return [whole]
    windows = _split(record, 0, size, lambda window: len(page(window, size, size)) <= limit)
    return [page(window, number, len(windows)) for number, window in enumerate(windows, 1)]


def join(payloads: Iterable[str]) -> AttributionRow:
    """Return the row whose pages are given, in any order.

    Raises:
        ValueError: If a page is missing, or the pages are not all of one row.
    """
    (record,) = join_pages(json.loads(page) for page in payloads)["records"]
    return AttributionRow.from_dict(record)


def summary(tag: str, payload: str, description: str = "") -> summary_pb2.Summary:
    """Return the summary of one page, for ``add_summary`` of an event file writer.

    Args:
        tag: Tag of the page.
        payload: JSON of the page.
        description: Markdown that says what is shown.
    """
    metadata = summary_pb2.SummaryMetadata(
        plugin_data=summary_pb2.SummaryMetadata.PluginData(
            plugin_name=PLUGIN, content=json.dumps({"version": SCHEMA, "kind": _KIND}).encode()
        ),
        summary_description=description,
        data_class=summary_pb2.DATA_CLASS_TENSOR,  # without it TensorBoard lists no tag and the tab stays empty
    )
    tensor = tensor_pb2.TensorProto(
        dtype=types_pb2.DT_STRING,
        string_val=[payload.encode()],
        tensor_shape=tensor_shape_pb2.TensorShapeProto(),
    )
    return summary_pb2.Summary(value=[summary_pb2.Summary.Value(tag=tag, metadata=metadata, tensor=tensor)])


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


def _first(pages: Iterable[str], fits: Callable[[str], bool]) -> str:
    for page in pages:
        if fits(page):
            return page
    raise ValueError("The record of an image does not fit on a page: raise limit, or shorten its texts.")


def _split(
    record: Mapping[str, Any], start: int, end: int, fits: Callable[[Mapping[str, Any]], bool]
) -> list[Mapping[str, Any]]:
    window = _window(record, start, end)
    if fits(window):
        return [window]
    if end - start <= 1:
        raise ValueError(f"Token {start} does not fit on a page with its word: raise limit, or shorten its text.")
    middle = (start + end) // 2
    return _split(record, start, middle, fits) + _split(record, middle, end, fits)


def _window(record: Mapping[str, Any], start: int, end: int) -> dict[str, Any]:
    ids = record["word_ids"]
    cut = {name: None if record[name] is None else record[name][start:end] for name in PER_TOKEN}
    # Words that no token stands for go with the token after them, so that the windows hold every word.
    first = min([_words_before(ids, start), *(i for i in ids[start:end] if i is not None)])
    last = len(record["words"]) if end == len(record["tokens"]) else _words_before(ids, end)
    cut |= {"word_ids": shifted(ids[start:end], -first), "words": record["words"][first:last]}
    return {**record, **cut, "offset": start, "word_offset": first}


def _words_before(ids: Sequence[int | None], token: int) -> int:
    return 1 + max((i for i in ids[:token] if i is not None), default=-1)
