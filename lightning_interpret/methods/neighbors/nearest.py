"""Nearest neighbours of a prediction among the training examples, and what they say of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torch import nn

from lightning_interpret.functional.neighbors.search import METRICS
from lightning_interpret.functional.scope import explaining
from lightning_interpret.methods.examples import examples_of
from lightning_interpret.methods.neighbors.build import build
from lightning_interpret.methods.neighbors.features import POOLINGS, Reader
from lightning_interpret.methods.neighbors.fitted import FittedNeighbors
from lightning_interpret.methods.neighbors.index import import_faiss, index_of
from lightning_interpret.names import check_positive, check_whole, choose
from lightning_interpret.tasks import Task, batches


@dataclass(frozen=True)
class NearestNeighbors:
    """The training examples nearest to a query in the features of a layer, and what their labels say of it.

    Features of the last layer serve best (Rajani et al., 2020; Yadav and Chaudhuri, 2021). Conformity and credibility
    are those of deep k-nearest neighbours (Papernot and McDaniel, 2018; for text Wallace et al., 2018).

    Args:
        layer: Name of a layer, or names of several whose outputs are put one after the other; by default what the last
            linear layer that is used reads, the input of a classification head.
        pooling: How a sequence becomes one vector, over what is no padding: ``mean``, ``first``, ``last``, or ``auto``:
            the last where a head reads every place, else the mean.
        metric: ``euclidean`` or ``cosine``.
        k: Neighbours of each query.
        index: ``exact`` to search in torch, or what ``faiss.index_factory`` takes (the extra ``faiss``): ``Flat``,
            ``IVF256,PQ32``, with search parameters ``IVF256,PQ32;nprobe=16``.
        temperature: T of p_kNN, in units of the squared distance (of the cosine distance); by default the mean distance
            of training examples to their neighbours, or what a calibration chooses.
        folder: Where features are kept, to be used again while weights, layer and training data are the same. Without
            one they are in memory.
        in_memory_bytes: Most bytes of features that are held in memory; more go to a file that is mapped into it.

    Raises:
        ValueError: If an option is out of its range.
        ImportError: If ``index`` needs FAISS, and it is not installed.
    """

    layer: str | Sequence[str] | None = None
    pooling: Literal["auto", "mean", "first", "last"] = "auto"
    metric: Literal["euclidean", "cosine"] = "euclidean"
    k: int = 10
    index: str = "exact"
    temperature: float | None = None
    folder: str | None = None
    in_memory_bytes: int = 2**28

    def __post_init__(self) -> None:
        """Refuse what is out of its range."""
        choose("pooling", self.pooling, POOLINGS)
        choose("metric", self.metric, METRICS)
        check_whole(k=self.k)
        check_whole(0, in_memory_bytes=self.in_memory_bytes)
        if self.temperature is not None:
            check_positive(temperature=self.temperature)
        if self.layer is not None and not self.layer:
            raise ValueError(f"`layer={self.layer!r}` names no layer: give a name, a list of names, or None.")
        if self.index != "exact":
            import_faiss(self.index)

    def fit(self, module: nn.Module, examples: Any, task: Task) -> FittedNeighbors:
        """Return a datastore of the training examples, ready to be searched: one pass, or what ``folder`` has.

        The module is left as it was.

        Args:
            module: The module, trained as far as it is.
            examples: The training data: :class:`Examples`, or a loader whose batches carry ``example_id``.
            task: How module and batches are read.

        Raises:
            ValueError: If a layer does not exist, the data carry no ids, or there are none.
            OSError: If ``folder`` cannot be written, or the disk is full.
        """
        with explaining(module):
            source = examples_of(examples, task, module)
            first = next((batch for _, batch in source.batches()), None)
            if first is None:
                raise ValueError("The training data have no examples.")
            layers = [self.layer] if isinstance(self.layer, str) else self.layer
            reader = Reader(module, task, layers, self.pooling, batches.clone(first))
            folder = None if self.folder is None else Path(self.folder)
            store, notes = build(module, source, task, reader, folder, self.in_memory_bytes)
            return FittedNeighbors(
                self, module, source, task, reader, store, index_of(store, self.metric, self.index), notes
            )
