"""Retraining as ground truth: the outcomes of training without some examples, in parallel, and kept as they come."""

from __future__ import annotations

import hashlib
import json
import math
import os
import pickle
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lightning_interpret.names import check_whole

Train = Callable[[Tensor, int], nn.Module]
Outcomes = Callable[[nn.Module], Tensor]
Jobs = list[tuple[Tensor, int]]

_FILE = "retraining.jsonl"


@dataclass(frozen=True)
class Retraining:
    """What came of training on subsets.

    Attributes:
        outcomes: Of S subsets and R seeds at M queries, ``(S, R, M)`` in double precision; NaN for what is not finite.
        trained: Trainings that were run.
        reused: Trainings that the folder held already.
    """

    outcomes: Tensor
    trained: int
    reused: int


def retrain(
    train: Train,
    masks: Tensor,
    outcomes: Outcomes,
    *,
    seeds: Sequence[int] = (0,),
    folder: str | Path | None = None,
    key: str = "",
    workers: int = 1,
    together: int = 32,
    progress: Callable[[int, int], None] | None = None,
) -> Retraining:
    """Train on each subset with each seed and return the outcomes; what is finished in ``folder`` is not run again.

    Args:
        train: Returns the model trained on the examples where a mask ``(n,)`` is true, with a seed. If it has
            ``many(masks, seeds)``, such as :class:`~lightning_interpret.functional.influence.ensembles.SubsetTrainer`,
            several are trained at once.
        masks: Bool ``(S, n)``, of :func:`~lightning_interpret.functional.influence.datamodels.subsets`.
        outcomes: Returns a model's outcome at each query, ``(M,)``, more is better: minus the loss, or a margin.
        seeds: Seeds of which each subset is trained with.
        folder: Where finished trainings are kept, a line each in ``retraining.jsonl``.
        key: Names what is trained and what is measured; only lines of the same key are used again.
        workers: Processes, each with one thread; they are started anew, so that ``train`` and ``outcomes`` must be
            functions of a module, or objects of its classes. 1 trains in this process.
        together: Trainings handed to ``many`` at once, and kept at once.
        progress: Called with the number of trainings that are finished and of all.

    Raises:
        ValueError: If ``masks`` are none, there are no seeds or workers, ``train`` cannot be sent to a worker, or the
            file is of something else.
        RuntimeError: If a training fails; those finished are kept.
        OSError: If the folder cannot be written.
    """
    if masks.dim() != 2 or masks.dtype != torch.bool:
        raise ValueError(f"`masks` must be bool (S, n), but are {masks.dtype} {tuple(masks.shape)}.")
    if not len(masks) or not len(seeds) or len(set(seeds)) < len(seeds):
        raise ValueError(f"There are {len(masks)} subsets and seeds {list(seeds)}: give at least one, each once.")
    check_whole(workers=workers, together=together)
    names = [hashlib.sha256(mask.cpu().numpy().tobytes()).hexdigest()[:16] for mask in masks]
    every = [(name, seed) for name in names for seed in seeds]
    kept = {} if folder is None else _kept(Path(folder), key)
    found = {job: kept[job] for job in every if job in kept}
    missing = [job for job in dict.fromkeys(every) if job not in found]
    mask_of = dict(zip(names, masks, strict=True))
    size = together if hasattr(train, "many") else 1
    size = max(1, min(size, -(-len(missing) // workers)))
    parts = [missing[i : i + size] for i in range(0, len(missing), size)]
    work = [[(mask_of[name], seed) for name, seed in part] for part in parts]
    for place, values in _finished(train, outcomes, work, workers):
        rows = dict(zip(parts[place], values, strict=True))
        if folder is not None:
            _keep(Path(folder), key, rows)
        found |= rows
        if progress is not None:
            progress(len(found), len(set(every)))
    if len({len(row) for row in found.values()}) > 1:
        raise ValueError(f"{folder} holds trainings measured at other queries: give another `folder`, or `key`.")
    table = torch.tensor([found[job] for job in every], dtype=torch.float64)
    return Retraining(table.reshape(len(masks), len(seeds), -1), len(missing), len(set(every)) - len(missing))


# Training


def _finished(
    train: Train, outcomes: Outcomes, work: list[Jobs], workers: int
) -> Iterator[tuple[int, list[list[float]]]]:
    """Yield the place of each part of the work as it is finished, and its outcomes."""
    if min(workers, len(work)) <= 1:
        yield from ((place, _trained(train, outcomes, jobs)) for place, jobs in enumerate(work))
        return
    try:
        payload = pickle.dumps((train, outcomes))
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise ValueError(
            f"`workers={workers}`: what is trained cannot be sent to another process ({error}): write it as a function "
            "of a module, or use `workers=1`."
        ) from error
    with ExitStack() as stack:
        pool = ProcessPoolExecutor(
            min(workers, len(work)), mp_context=get_context("spawn"), initializer=_begin, initargs=(payload,)
        )
        stack.callback(pool.shutdown, cancel_futures=True)
        places = {pool.submit(_in_worker, jobs): place for place, jobs in enumerate(work)}
        try:
            for future in as_completed(places):
                yield places[future], future.result()
        except BrokenProcessPool as error:
            raise RuntimeError(
                "A worker ended before its time: was memory short? A script that starts workers does so under "
                "`if __name__ == '__main__':`."
            ) from error


_GIVEN: list[Any] = []  # of a worker: what it was started with


def _begin(payload: bytes) -> None:
    torch.set_num_threads(1)
    _GIVEN[:] = [payload]


def _in_worker(jobs: Jobs) -> list[list[float]]:
    if isinstance(_GIVEN[0], bytes):
        try:
            _GIVEN[:] = [pickle.loads(_GIVEN[0])]
        except (ImportError, AttributeError) as error:
            raise RuntimeError(f"A worker cannot import what is trained: {error}. Use `workers=1`.") from error
    train, outcomes = _GIVEN[0]
    return _trained(train, outcomes, jobs)


def _trained(train: Train, outcomes: Outcomes, jobs: Jobs) -> list[list[float]]:
    masks, seeds = torch.stack([mask for mask, _ in jobs]), [seed for _, seed in jobs]
    try:
        many: Any = getattr(train, "many", None)
        models = [train(masks[0], seeds[0])] if many is None else many(masks, seeds)
        with torch.no_grad():
            found = [outcomes(model).double().flatten() for model in models]
        return [values.where(values.isfinite(), math.nan).tolist() for values in found]
    except Exception as error:
        raise RuntimeError(f"Training on subsets with seeds {sorted(set(seeds))} failed: {error}") from error


# The file: a line a training


def _kept(folder: Path, key: str) -> dict[tuple[str, int], list[float]]:
    """Return the outcomes that a folder holds of a key by subset and seed; a half line at the end is left out."""
    path, found = folder / _FILE, {}
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
            values = [math.nan if value is None else float(value) for value in row["outcomes"]]
            if row["key"] == key:
                found[str(row["subset"]), int(row["seed"])] = values
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(f"{path}:{number} is no training of ours ({error}): give another `folder`.") from error
    return found


def _keep(folder: Path, key: str, rows: dict[tuple[str, int], list[float]]) -> None:
    """Append finished trainings, whole or not at all; the half line that a killed run left is cut off first."""
    data = "".join(
        json.dumps({"key": key, "subset": subset, "seed": seed, "outcomes": [_json(value) for value in values]}) + "\n"
        for (subset, seed), values in rows.items()
    ).encode()
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / _FILE, "a+b", buffering=0) as file:
        file.seek(0)
        whole = file.read().rfind(b"\n") + 1
        try:
            file.truncate(whole)
            if file.write(data) < len(data):
                raise OSError(f"{folder / _FILE} could not be written whole: is the disk full?")
            os.fsync(file.fileno())
        except OSError:
            file.truncate(whole)
            raise


def _json(value: float) -> float | None:
    return value if math.isfinite(value) else None
