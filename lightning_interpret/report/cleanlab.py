"""A file for cleanlab: labels as numbers, predicted probabilities and features of the training data, streamed.

It is read without this package::

    data = numpy.load("interpret/influence_cleanlab.npz")
    wrong = cleanlab.filter.find_label_issues(data["labels"], data["pred_probs"])
    data["ids"][wrong]  # the examples to look at

``cleanlab.Datalab(data={"label": data["label_names"][data["labels"]]}, label_name="label")`` takes ``pred_probs`` and
``features`` in ``find_issues``. Predicted probabilities are best of examples that the model was not trained on: what it
has learnt by heart it no longer doubts.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any, Self
from zipfile import ZipFile

import numpy as np

from lightning_interpret.files import replacing

_COLUMNS = {"ids": np.int64, "labels": np.int64, "pred_probs": np.float32, "features": np.float32}


class CleanlabFile:
    """Writes ``ids`` (n,), ``labels`` (n,), ``pred_probs`` (n, C), ``features`` (n, d) and the C ``label_names``.

    Batches are kept on disk until the file is closed, so that memory does not grow with their number; after an error
    in the ``with`` block the path is what it was.

    Args:
        path: The file; it is replaced.
        label_names: Names of the C classes, in the order of the probabilities.

    Attributes:
        examples: Examples in the file so far.
        skipped: Examples left out: of no known label, or with a probability or feature that is not finite.
    """

    def __init__(self, path: str | Path, label_names: Sequence[str]) -> None:
        self.path, self.label_names = Path(path), list(label_names)
        self.examples = self.skipped = 0
        self._stack = ExitStack()
        self._columns: dict[str, IO[bytes]] = {}
        self._width: int | None = None

    def __enter__(self) -> Self:
        return self

    def add(self, ids: Any, labels: Any, probabilities: Any, features: Any | None = None) -> None:
        """Add a batch of training examples.

        Args:
            ids: Their ids, ``(B,)``, as an array or a tensor on the CPU.
            labels: Numbers of their labels, ``(B,)``; one outside the classes (-100, say) is skipped.
            probabilities: What the model says, ``(B, C)``.
            features: Their features, ``(B, d)``, or ``None`` in every batch.

        Raises:
            ValueError: If shapes do not fit.
            OSError: If the disk is full.
        """
        given = {"ids": ids, "labels": labels, "pred_probs": probabilities, "features": features}
        batch = {name: np.asarray(value, _COLUMNS[name]) for name, value in given.items() if value is not None}
        self._check(batch)
        kept = (batch["labels"] >= 0) & (batch["labels"] < len(self.label_names))
        for name in batch.keys() - {"ids", "labels"}:
            kept &= np.isfinite(batch[name]).all(axis=1)
        for name, values in batch.items():
            self._column(name).write(np.ascontiguousarray(values[kept]).tobytes())
        self.examples += int(kept.sum())
        self.skipped += int((~kept).sum())

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        with self._stack:
            if kind is None:
                self._close()

    def _check(self, batch: dict[str, Any]) -> None:
        size, classes = len(batch["ids"]), len(self.label_names)
        width = batch["features"].shape[-1] if "features" in batch else 0
        self._width = width if self._width is None else self._width
        wanted = {"ids": (size,), "labels": (size,), "pred_probs": (size, classes), "features": (size, self._width)}
        for name, values in batch.items():
            if values.shape != wanted[name]:
                raise ValueError(f"`{name}` of shape {values.shape} does not fit: expected {wanted[name]}.")
        if self._width and "features" not in batch:
            raise ValueError("`features=None` after a batch with features: give them for every batch or for none.")

    def _column(self, name: str) -> IO[bytes]:
        if name not in self._columns:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._columns[name] = self._stack.enter_context(TemporaryFile(dir=self.path.parent))  # noqa: SIM115
        return self._columns[name]

    def _close(self) -> None:
        shapes = {"ids": (), "labels": (), "pred_probs": (len(self.label_names),), "features": (self._width or 0,)}
        with replacing(self.path) as file, ZipFile(file, "w") as archive:
            for name in _COLUMNS:
                if name == "features" and not self._width:
                    continue
                column = self._column(name)
                column.seek(0)
                descr = np.lib.format.dtype_to_descr(np.dtype(_COLUMNS[name]))
                header = {"descr": descr, "fortran_order": False, "shape": (self.examples, *shapes[name])}
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array_header_1_0(member, header)
                    shutil.copyfileobj(column, member)
            with archive.open("label_names.npy", "w") as member:
                np.lib.format.write_array(member, np.array(self.label_names, dtype=np.str_), allow_pickle=False)
