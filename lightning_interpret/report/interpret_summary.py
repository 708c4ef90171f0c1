"""What the Interpret tab of TensorBoard reads: one JSON string a probe and step, in pages of bounded size."""

from __future__ import annotations

import json
from collections.abc import Iterable

from tensorboard.compat.proto import summary_pb2, tensor_pb2, tensor_shape_pb2, types_pb2

from lightning_interpret.explanations import AttributionRow
from lightning_interpret.report.pages import Record
from lightning_interpret.report.presenters import Row, presenter_of, row_of
from lightning_interpret.tensorboard.payload import PLUGIN, SCHEMA
from lightning_interpret.tensorboard.payload import join as join_pages


def tag(name: str, probe: int, page: int = 1) -> str:
    """Return the tag of one page of a probe."""
    return f"interpret/{name}/probe_{probe}" + ("" if page == 1 else f"/page_{page}")


def payloads(row: Row, *, monitor: str, step: int, probe: int, limit: int = 65536) -> list[str]:
    """Return the pages of a row as JSON in ASCII, each at most ``limit`` bytes.

    What does not fit on one page is cut as its kind is cut (:mod:`.presenters`), and :func:`join` puts it together
    again: an attribution's tokens are all there, an image's picture and the texts of evidence are shortened instead.

    Args:
        row: The row to write.
        monitor: Name of the monitor that made it.
        step: Step of the training run.
        probe: Number of the probe.
        limit: Most bytes of a page.

    Raises:
        ValueError: If the row cannot be cut into pages of this size.
    """

    def page(record: Record, number: int, pages: int) -> str:
        head = {"schema": SCHEMA, "kind": row.kind, "monitor": monitor, "step": step, "probe": probe}
        return json.dumps(head | {"page": number, "pages": pages, "records": [record]}, allow_nan=False)

    def fits(record: Record, pages: int) -> bool:
        return len(page(record, pages, pages)) <= limit

    records = presenter_of(row.kind).records(row, fits)
    return [page(record, number, len(records)) for number, record in enumerate(records, 1)]


def join(payloads: Iterable[str]) -> Row:
    """Return the row whose pages are given, in any order.

    Raises:
        ValueError: If a page is missing, or the pages are not all of one row.
    """
    (record,) = join_pages(json.loads(page) for page in payloads)["records"]
    return row_of(record)


def summary(tag: str, payload: str, description: str = "", kind: str = AttributionRow.kind) -> summary_pb2.Summary:
    """Return the summary of one page, for ``add_summary`` of an event file writer.

    Args:
        tag: Tag of the page.
        payload: JSON of the page.
        description: Markdown that says what is shown.
        kind: Kind of the record; a tag has one for ever.
    """
    metadata = summary_pb2.SummaryMetadata(
        plugin_data=summary_pb2.SummaryMetadata.PluginData(
            plugin_name=PLUGIN, content=json.dumps({"version": SCHEMA, "kind": kind}).encode()
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
