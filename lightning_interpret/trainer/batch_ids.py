"""Whether training batches will carry the ids of their examples: looked at before the first step."""

from __future__ import annotations

import warnings
from typing import Any

from lightning.pytorch import Trainer
from torch import Tensor

from lightning_interpret.data.find_ids import known_ids, size_of
from lightning_interpret.data.random_states import random_states_kept
from lightning_interpret.functional.turn_over import checked_ids
from lightning_interpret.tasks import batches
from lightning_interpret.trainer.training_data import first_loader


def check_batch_ids(trainer: Trainer) -> None:
    """Look at the first two examples of the training data, batched as the loader would, and at the ids of them all.

    The loader is not iterated and no random state disturbed. Nothing is said where nothing can be known: of a stream,
    of data that cannot be read, or where batches are changed on their way by the user's hooks.

    Raises:
        ValueError: If batches will have no ids, or ids are no integers of 0 or more.
    """
    loader = first_loader(trainer.train_dataloader)
    dataset, collate = getattr(loader, "dataset", None), getattr(loader, "collate_fn", None)
    batch = _first_two(dataset, collate)
    if batch is None:
        return
    ids = batches.example_ids(batch)
    if ids is None:
        raise ValueError(missing(batch))
    checked_ids(ids)
    if (every := _known(dataset)) is None:
        return
    checked_ids(every)
    values, counts = every.unique(return_counts=True)
    if len(values) < len(every):
        some = ", ".join(map(str, values[counts > 1][:5].tolist()))
        warnings.warn(
            f"{int((counts > 1).sum())} ids of the training data come more than once ({some} first): their examples "
            "share a mask, and are one example to influence. That is right for copies and augmentations of one "
            "example; else number them anew: `WithIds` with another `id_column`, or with none.",
            stacklevel=2,
        )


def missing(batch: Any) -> str:
    """Return what is said of a batch without ids."""
    return (
        f"The training batches ({type(batch).__name__}) carry no `example_id`, of which each example's mask is made: "
        "`data = WithIds(data_set, in_batch='always')` and `DataLoader(data, collate_fn=data.collate)` put it there; a "
        "batch with names may have it as a key or field, long (B,)."
    )


def _first_two(dataset: Any, collate: Any) -> Any:
    """Return two examples as a batch, or None where that fails: training will say why."""
    try:
        with random_states_kept():
            return collate([dataset[i] for i in range(min(2, size_of(dataset)))])
    except Exception:
        return None


def _known(dataset: Any) -> Tensor | None:
    try:
        return known_ids(dataset)
    except ValueError:
        return None
