"""Exact neighbour search beside plain torch and FAISS: seconds, memory and agreement, in one run.

    python benchmarks/neighbors.py

Features are drawn around a thousand centres, as those of a trained model are; every row is the fastest of a few rounds,
which take turns. Neighbours are compared as sets with those of distances in double precision.

* build: seconds to make what is searched, of vectors in memory; "file" searches a memory-mapped file.
* CPU: processor seconds of the search, in all threads, which a busy machine changes less than those on the clock.
* memory: megabytes that the process had more than before, at most, in building and searching; pages of a mapped file,
  which the system may drop, are not counted.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faiss
import torch
from torch import Tensor

from lightning_interpret.functional.store import write
from lightning_interpret.methods.neighbors import Datastore
from lightning_interpret.methods.neighbors.index import index_of
from lightning_interpret.methods.neighbors.store import Header

HEADER = Header("benchmark", "mean", "none")


@dataclass
class Row:
    """The figures of one way to search."""

    build: float = float("inf")
    search: float = float("inf")
    processor: float = float("inf")
    memory: float = 0.0
    agreement: float = 0.0


class Memory:
    """The most memory that belongs to no file while a block runs, in megabytes over that before it; 0 off Linux."""

    def __enter__(self) -> Memory:
        """Begin to watch."""
        self.before, self.most, self._done = _anonymous(), 0.0, threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        """Stop."""
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(0.01):
            self.most = max(self.most, _anonymous() - self.before)


def _anonymous() -> float:
    status = Path("/proc/self/status")
    if not status.exists():
        return 0.0
    return next(int(line.split()[1]) / 1024 for line in status.read_text().splitlines() if line.startswith("RssAnon"))


def draw(count: int, width: int, seed: int, centres: Tensor) -> Tensor:
    """Return features around centres."""
    generator = torch.Generator().manual_seed(seed)
    picked = centres[torch.randint(len(centres), (count,), generator=generator)]
    return picked + torch.randn(count, width, generator=generator)


def store_of(features: Tensor) -> Datastore:
    """Return a datastore of features that are there already."""
    nothing = torch.full((len(features),), -1)
    return Datastore(features, torch.arange(len(features)), nothing, (), HEADER)


class Plain:
    """What one would write: all distances by one matrix product, and their k smallest."""

    def __init__(self, features: Tensor) -> None:
        self.features, self.squares = features, features.square().sum(dim=1)

    def search(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Return squared distances less the query's own square, and places."""
        found = torch.addmm(self.squares, queries, self.features.T, alpha=-2).topk(k, dim=1, largest=False)
        return found.values, found.indices


class Flat:
    """FAISS by itself."""

    def __init__(self, features: Tensor) -> None:
        self.index = faiss.IndexFlatL2(features.shape[1])
        self.index.add(features.numpy())

    def search(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Return squared distances and places."""
        distances, places = self.index.search(queries.numpy(), k)
        return torch.from_numpy(distances), torch.from_numpy(places)


def truth(queries: Tensor, features: Tensor, k: int) -> Tensor:
    """Return the places of the nearest in double precision."""
    parts = [torch.cdist(queries.double(), part.double()) for part in features.split(8192)]
    return torch.cat(parts, dim=1).topk(k, dim=1, largest=False).indices


def main() -> None:
    """Run all and print the table."""
    parser = argparse.ArgumentParser(description="Exact neighbour search beside plain torch and FAISS.")
    for name, default in (("examples", 100_000), ("width", 768), ("queries", 256), ("k", 10), ("rounds", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--index", default="IVF256,PQ64x4;nprobe=16", help="an approximate index of FAISS")
    args = parser.parse_args()
    faiss.omp_set_num_threads(torch.get_num_threads())
    centres = 0.6 * torch.randn(min(1000, args.examples), args.width, generator=torch.Generator().manual_seed(0))
    features, queries = draw(args.examples, args.width, 1, centres), draw(args.queries, args.width, 2, centres)
    expected = truth(queries, features, args.k)
    with tempfile.TemporaryDirectory() as folder:
        mapped = write(Path(folder, "features.bin"), [(features, torch.arange(len(features)))], {}).rows
        ways: dict[str, Callable[[], Any]] = {
            "exact, in memory": lambda: index_of(store_of(features), "euclidean", "exact"),
            "exact, file": lambda: index_of(store_of(mapped), "euclidean", "exact"),
            "torch: matmul, topk": lambda: Plain(features),
            "FAISS Flat, by itself": lambda: Flat(features),
            "index='Flat'": lambda: index_of(store_of(features), "euclidean", "Flat"),
            f"index={args.index!r}": lambda: index_of(store_of(features), "euclidean", args.index),
        }
        rows = {name: Row() for name in ways}
        for _ in range(args.rounds):
            for name, make in ways.items():
                measure(rows[name], make, queries, args.k, expected)
    threads = torch.get_num_threads()
    print(f"{args.examples} × {args.width}, {args.queries} queries, k = {args.k}, {threads} threads, on the CPU.\n")
    print("| | build, s | search, s | CPU, s | memory, MB | found, % |\n| --- |" + " ---: |" * 5)
    for name, row in rows.items():
        seconds = f"{row.build:.2f} | {row.search:.2f} | {row.processor:.2f}"
        print(f"| {name} | {seconds} | {row.memory:.0f} | {100 * row.agreement:.1f} |")


def measure(row: Row, make: Callable[[], Any], queries: Tensor, k: int, expected: Tensor) -> None:
    """Build and search once, and keep the better figures."""
    with Memory() as memory:
        begin = time.perf_counter()
        index = make()
        built, used = time.perf_counter(), time.process_time()
        places = index.search(queries, k)[1]
        done, used = time.perf_counter(), time.process_time() - used
    met = (places[:, :, None] == expected[:, None]).any(dim=2).double().mean()
    row.build, row.search = min(row.build, built - begin), min(row.search, done - built)
    row.processor = min(row.processor, used)
    row.memory, row.agreement = max(row.memory, memory.most), float(met)


if __name__ == "__main__":
    main()
