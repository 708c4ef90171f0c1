"""Where records go: the loggers that can show them, and a file."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, TypeVar

import torch
from lightning.pytorch import Trainer

from lightning_interpret.evidence import Suspect
from lightning_interpret.explanations import AttributionRow
from lightning_interpret.report import jsonl, suspects, writer
from lightning_interpret.report.presenters import Row
from lightning_interpret.trainer._compat import fast_dev_run

Rows = list[tuple[int, Row]]
T = TypeVar("T")


def problems(trainer: Trainer, save_jsonl: bool | str) -> Iterator[str]:
    """Yield what cannot be shown with these loggers.

    Raises:
        OSError: If the directory of the records cannot be written.
    """
    if fast_dev_run(trainer):
        return
    if save_jsonl and trainer.is_global_zero:  # a logger's directory is tried by Lightning itself, before this
        _check_writable(jsonl_path(trainer, save_jsonl, "_").parent)
    if not trainer.loggers and not save_jsonl:
        yield "the trainer has no logger, so nothing is shown: use `TensorBoardLogger`, or `save_jsonl=True`."
    for logger in trainer.loggers:
        if trainer.is_global_zero and not writer.can_show(logger):
            yield (
                f"{type(logger).__name__} shows the scalars, but no pictures, texts and Interpret records: add a "
                "`TensorBoardLogger`, or `save_jsonl=True`."
            )


def jsonl_path(trainer: Trainer, save_jsonl: bool | str, name: str) -> Path:
    """Return the file that records are appended to: the one given, or one of the Monitor's own in the log directory."""
    if isinstance(save_jsonl, str):
        return Path(save_jsonl)
    # not `trainer.log_dir`, which is a collective call: this runs on one process alone
    directory = next(_log_dirs(trainer), trainer.default_root_dir)
    return Path(directory, "interpret", f"{name}.jsonl")


def gathered(rows: Rows, world: int) -> Rows:
    """Return the rows of all processes in the order of the probes; collective where there are several."""
    return sorted((row for part in from_all(rows, world) for row in part), key=lambda pair: pair[0])


def from_all(value: T, world: int) -> list[T]:
    """Return what each process has; collective where there are several."""
    parts: list[Any] = [value] * world
    if world > 1:
        torch.distributed.all_gather_object(parts, value)
    return parts


def write(trainer: Trainer, rows: Rows, *, name: str, step: int, save_jsonl: bool | str) -> None:
    """Write each probe's picture, text and Interpret summary to every logger that can show them, and the file.

    Of a probe with several rows the first is shown as such; those of a sweep over layers are then shown together too.
    """
    for logger in filter(writer.can_show, trainer.loggers):
        for probe, pairs in groupby(rows, key=itemgetter(0)):
            swept = [row for _, row in pairs]
            writer.write(logger, swept[0], name=name, probe=probe, step=step)
            layers = [row for row in swept if isinstance(row, AttributionRow)]
            if len(layers) > 1:
                writer.write_layers(logger, layers, name=name, probe=probe, step=step)
        writer.flush(logger)
    if save_jsonl and rows:
        lines = [{"monitor": name, "step": step, "probe": probe, **row.to_dict()} for probe, row in rows]
        jsonl.append(jsonl_path(trainer, save_jsonl, name), lines)


def write_suspects(trainer: Trainer, found: Sequence[Suspect], *, name: str, step: int, by: str) -> None:
    """Write suspected label errors to every logger that can show a text, and as a file beside the records."""
    ranked = suspects.ranked(found, by)
    for logger in filter(writer.can_show, trainer.loggers):
        writer.write_suspects(logger, ranked, name=name, step=step, by=by)
    suspects.write_tsv(beside(trainer, f"{name}_suspects.tsv"), ranked)


def beside(trainer: Trainer, file: str) -> Path:
    """Return the path of a file in the directory of the records, which is made if it is not there."""
    path = jsonl_path(trainer, True, "_").with_name(file)
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _log_dirs(trainer: Trainer) -> Iterator[str]:
    return (str(logger.log_dir) for logger in trainer.loggers if getattr(logger, "log_dir", None))


def _check_writable(directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as error:
        raise OSError(
            f"The records' directory {str(directory)!r} cannot be written ({error}): give `save_jsonl` another path, "
            "or another `default_root_dir` to the trainer."
        ) from error
