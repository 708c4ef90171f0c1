"""What searches a datastore: torch, exactly, or an index of FAISS."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from lightning_interpret.functional.neighbors.search import CHUNK, MARGIN, check_search, nearest, rank
from lightning_interpret.methods.neighbors.store import Datastore

TRAINED_ON = 64  # vectors for each centroid, at most: FAISS warns below 39
RERANKED = 10  # times k: candidates of an approximate index that are measured


class ExactIndex:
    """Searches all features of a datastore in torch, on the device of the queries."""

    note: str | None = None

    def __init__(self, store: Datastore, metric: str) -> None:
        self._store, self._metric = store, metric

    def search(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Return distances and positions ``(N, k)``, the nearest first; of fewer features all."""
        return nearest(queries, self._store.features, self._store.ids, k, metric=self._metric)


class FaissIndex:
    """Searches an index of FAISS, and measures what it finds again, so that distances and order are exact.

    Args:
        store: The datastore; it is read a chunk at a time.
        metric: ``euclidean`` or ``cosine``.
        index: What ``faiss.index_factory`` takes (``Flat``, ``IVF256,PQ32``), and after a semicolon search parameters
            (``IVF256,PQ32;nprobe=16``).

    Raises:
        ImportError: If FAISS is not installed.
        ValueError: If FAISS does not know the index, or has too few features to train it on.
    """

    def __init__(self, store: Datastore, metric: str, index: str) -> None:
        faiss = import_faiss(index)
        self._store, self._metric = store, metric
        factory, _, parameters = index.partition(";")
        n, d = store.features.shape
        try:
            kind = faiss.METRIC_INNER_PRODUCT if metric == "cosine" else faiss.METRIC_L2
            self._index = faiss.index_factory(d, factory, kind)
            if not self._index.is_trained:
                lists = faiss.try_extract_index_ivf(self._index)
                wanted = TRAINED_ON * max(256, lists.nlist if lists is not None else 0)
                rows = torch.arange(0, n, max(1, n // wanted))
                self._index.train(self._direction(store.features[rows]).numpy())
            if parameters:
                faiss.ParameterSpace().set_index_parameters(self._index, parameters)
            for part in store.features.split(max(1, CHUNK // max(1, d))):
                self._index.add(self._direction(part).numpy())
        except RuntimeError as error:
            last = str(error).strip().splitlines()[-1]
            raise ValueError(
                f"`index={index!r}` cannot be made of {n} features of width {d} by FAISS: {last}"
            ) from error
        self._exact = factory.strip() == "Flat"
        self.note = None if self._exact else f"approximate index {index!r}: some of the nearest may be missed"

    def search(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Return distances and positions ``(N, k)``, the nearest first; −1 at an infinite distance where none came."""
        check_search(queries, self._store.features, k, self._metric)
        k = min(k, len(self._store))
        if not k or not len(queries):
            none = queries.new_zeros(len(queries), k)
            return none, none.long()
        asked = self._direction(queries.float().cpu()).numpy()
        count = min((1 if self._exact else RERANKED) * k + MARGIN, len(self._store))
        places = torch.from_numpy(self._index.search(asked, count)[1])
        return rank(queries, self._store.features, self._store.ids, places.to(queries.device), k, metric=self._metric)

    def _direction(self, features: Tensor) -> Tensor:
        """Return what FAISS is given: features as they are, under cosine scaled to norm 1."""
        return (F.normalize(features, dim=1) if self._metric == "cosine" else features).contiguous()


def import_faiss(index: str) -> Any:
    """Return FAISS.

    Raises:
        ImportError: If it is not installed.
    """
    try:
        import faiss
    except ImportError as error:
        raise ImportError(
            f"`index={index!r}` needs FAISS: `pip install lightning-interpret[faiss]`, or use `index='exact'`."
        ) from error
    return faiss


def index_of(store: Datastore, metric: str, index: str) -> ExactIndex | FaissIndex:
    """Return what searches a datastore."""
    return ExactIndex(store, metric) if index == "exact" else FaissIndex(store, metric, index)
