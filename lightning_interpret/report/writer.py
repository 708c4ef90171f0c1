"""Rows into TensorBoard, through a logger's own writer: a picture, Markdown, and what the Interpret tab reads.

The logger is taken by what it can do, not by its class, so that any Lightning and any look-alike serves.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lightning_interpret.explanations import AttributionRow
from lightning_interpret.report import image, interpret_summary, layers, stages, suspects
from lightning_interpret.report.presenters import Row, presenter_of
from lightning_interpret.report.suspects import Ranked

if TYPE_CHECKING:
    from torch import Tensor

POINT = 100  # characters of a text beside a point of the projector


def can_show(logger: Any) -> bool:
    """Return whether a logger writes TensorBoard events in this process.

    On other ranks and in ``fast_dev_run`` Lightning's ``experiment`` is a dummy that has every method and returns
    ``None``; it is told apart by its file writer.
    """
    experiment: Any = getattr(logger, "experiment", None)
    if not all(hasattr(experiment, name) for name in ("add_text", "_get_file_writer")):
        return False
    return hasattr(experiment._get_file_writer(), "add_summary")


def write(logger: Any, row: Row, *, name: str, probe: int, step: int) -> None:
    """Write a row under ``interpret/<name>/probe_<k>``, with ``/image`` and ``/text`` beside it.

    Args:
        logger: A logger that :func:`can_show`.
        row: The row to write, of any kind.
        name: Name of the monitor.
        probe: Number of the probe.
        step: Step of the training run.

    Raises:
        ValueError: If the row does not fit into pages; nothing is written then.
    """
    experiment, tag, shown = logger.experiment, interpret_summary.tag(name, probe), presenter_of(row.kind)
    picture = image.summary(shown.picture(row), f"{tag}/image")
    text = shown.markdown(row)
    pages = interpret_summary.payloads(row, monitor=name, step=step, probe=probe)
    experiment.add_text(f"{tag}/text", text, step)
    experiment._get_file_writer().add_summary(picture, step)  # torch has no public call for a ready summary
    for number, page in enumerate(pages, 1):
        place = interpret_summary.tag(name, probe, number)
        summary = interpret_summary.summary(place, page, shown.description, row.kind)
        experiment._get_file_writer().add_summary(summary, step)


def write_layers(logger: Any, rows: Sequence[AttributionRow], *, name: str, probe: int, step: int) -> None:
    """Write a sweep over layers as a picture and a table, under ``interpret/<name>/probe_<k>/layers``.

    Args:
        logger: A logger that :func:`can_show`.
        rows: The rows of one example, one for each layer, in the order of the layers.
        name: Name of the monitor.
        probe: Number of the probe.
        step: Step of the training run.
    """
    tag = f"{interpret_summary.tag(name, probe)}/layers"
    picture = image.summary(layers.render(rows), tag)
    logger.experiment.add_text(tag, stages.as_markdown(rows), step)
    logger.experiment._get_file_writer().add_summary(picture, step)


def write_suspects(logger: Any, found: Sequence[Ranked], *, name: str, step: int, by: str = "self_influence") -> None:
    """Write suspected label errors as a table, under ``interpret/<name>/suspects``.

    Args:
        logger: A logger that :func:`can_show`.
        found: What :func:`.suspects.ranked` returned.
        name: Name of the monitor.
        step: Step of the training run.
        by: The score that they are sorted by.
    """
    logger.experiment.add_text(f"interpret/{name}/suspects", suspects.render(found, by=by), step)


def write_projector(
    logger: Any, features: Tensor, rows: Sequence[tuple[str, str, str]], *, name: str, step: int
) -> None:
    """Write features as points of the projector, under ``interpret/<name>``: files of their own, so once a run.

    Args:
        logger: A logger that :func:`can_show`.
        features: ``(n, d)``.
        rows: The id, label and text of each.
        name: Name of the monitor.
        step: Step of the training run.
    """
    told = [[" ".join(cell.split())[:POINT] or "–" for cell in row] for row in rows]  # one line, no tab: it is a TSV
    header = ["id", "label", "text"]
    logger.experiment.add_embedding(features, told, metadata_header=header, global_step=step, tag=f"interpret/{name}")


def flush(logger: Any) -> None:
    """Make what was written visible to TensorBoard: torch's writer flushes only each 10 events or 120 s."""
    logger.experiment.flush()
