"""The training data of a run, wherever it has them, and batches of them as its own loop would hand them over."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from typing import Any

import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.utilities.combined_loader import CombinedLoader
from lightning.pytorch.utilities.model_helpers import is_overridden
from torch import Tensor
from torch.utils.data import DataLoader, Subset, SubsetRandomSampler

from lightning_interpret.data import TrainingExamples
from lightning_interpret.data.ids import collate_of, plain_collate
from lightning_interpret.data.random_states import random_states_kept
from lightning_interpret.trainer._compat import given_train_loaders, own_sampler
from lightning_interpret.trainer.transfer import to_module


@torch.inference_mode(False)  # what is made there could be used nowhere else
def find_training_data(trainer: Trainer, source: Any = None, id_column: str | None = None) -> TrainingExamples:
    """Return the training examples of a run, read by index: no loader is iterated, no global random state disturbed.

    Of a loader its data set, collate function and batch size are taken; of a ``SubsetRandomSampler`` its subset. Of
    several loaders it is the first.

    Args:
        trainer: The trainer.
        source: The training data: a data module, a loader, a data set (batched as the trainer's loaders are), or
            :class:`TrainingExamples`. By default the loader that the trainer trains with; in ``validate`` and ``test``,
            where there is none, that of its data module, of which a copy is set up for ``fit`` if it needs to be, or
            else of its module.
        id_column: Column, key or field of the examples' ids; by default ``example_id``.

    Raises:
        ValueError: If there are none, they cannot be read by index, or they have no ids.
    """
    if isinstance(source, TrainingExamples):
        return source
    with random_states_kept():
        loader = _loader_of_run(trainer) if source is None else _loader(trainer, source)
        if loader is None:
            return _of_dataset(trainer, source, id_column)
        return _of_loader(loader, id_column)


class ModuleExamples:
    """Training examples on the module's device, in its precision: ``Examples`` for use inside ``attribution_mode``.

    Args:
        examples: The training examples.
        trainer: The trainer.
        module: Its module.
        precision: ``"32"`` for tensors in single precision at least, ``"model"`` for the trainer's own.
        batch_size: Examples in a batch; by default that of the training loader.
        shard: Rank and number of processes among which :meth:`batches` shares the examples; by default the trainer's.
        limit: How many examples :meth:`batches` reads over all processes, spread evenly.
        by_length: Whether :meth:`batches` puts examples of similar length together.
    """

    def __init__(
        self,
        examples: TrainingExamples,
        trainer: Trainer,
        module: LightningModule,
        *,
        precision: str = "32",
        batch_size: int | None = None,
        shard: tuple[int, int] | None = None,
        limit: int | None = None,
        by_length: bool = False,
    ) -> None:
        self.examples, self._trainer, self._module, self._precision = examples, trainer, module, precision
        shard = (trainer.global_rank, trainer.world_size) if shard is None else shard
        self._options: dict[str, Any] = {
            "batch_size": batch_size,
            "shard": shard,
            "limit": limit,
            "by_length": by_length,
        }

    def batches(self) -> Iterator[tuple[Tensor, Any]]:
        """Return an iterator over the ids ``(B,)`` of some examples and their batch."""
        return map(self._moved, self.examples.batches(**self._options))

    def id_batches(self, size: int) -> Iterator[Tensor] | None:
        """Return an iterator over the ids of the same examples; None where only reading them tells."""
        return self.examples.id_batches(size, shard=self._options["shard"], limit=self._options["limit"])

    def take(self, ids: Sequence[int]) -> Iterator[tuple[Tensor, Any]]:
        """Return an iterator over the batches of the examples with these ids, whatever the shard."""
        return map(self._moved, self.examples.take(ids, self._options["batch_size"]))

    def _moved(self, part: tuple[Tensor, Any]) -> tuple[Tensor, Any]:
        ids, batch = part
        return ids, to_module(batch, self._trainer, self._module, precision=self._precision, moved=False)


def _loader_of_run(trainer: Trainer) -> Any:
    if (loaders := _train_loaders(trainer)) is not None:
        return first_loader(loaders)
    data = getattr(trainer, "datamodule", None)
    if data is not None and is_overridden("train_dataloader", data):
        return _loader_of_data_module(trainer, data)
    module = trainer.lightning_module
    if module is not None and is_overridden("train_dataloader", module):
        return first_loader(module.train_dataloader())
    raise ValueError(
        "`train_data=None`, and this run has no training data: give `train_data=` a data module, a loader or a data "
        "set, or call the trainer with a data module that has a `train_dataloader`."
    )


def _train_loaders(trainer: Trainer) -> Any:
    """Return those that the trainer trains with, or in `on_fit_start` those that it was given."""
    return given_train_loaders(trainer) if trainer.train_dataloader is None else trainer.train_dataloader


def _loader_of_data_module(trainer: Trainer, data: LightningDataModule) -> Any:
    """Return its loader; a second ``setup`` could split the data in another way, so it is called only if need be."""
    data = copy(data)
    data.trainer = trainer
    try:
        loader = first_loader(data.train_dataloader())
        ready = getattr(loader, "dataset", None) is not None
    except Exception:  # whatever it is that `setup` has not made
        ready = False
    if ready:
        return loader
    try:
        data.setup("fit")
        return first_loader(data.train_dataloader())
    except Exception as error:
        raise ValueError(
            f"The training data of {type(data).__name__} cannot be set up ({type(error).__name__}: {error}): give "
            "others as `train_data=`."
        ) from error


def _loader(trainer: Trainer, source: Any) -> Any:
    """Return the loader that ``source`` is or has, or None if it is a data set."""
    if isinstance(source, LightningDataModule):
        return _loader_of_data_module(trainer, source)
    if isinstance(source, CombinedLoader):
        return first_loader(source)
    if isinstance(source, list | tuple | Mapping):  # of loaders, or of examples
        one = next(iter(source.values() if isinstance(source, Mapping) else source), None)
        return first_loader(source) if isinstance(one, DataLoader) else None
    return source if hasattr(source, "dataset") and hasattr(source, "collate_fn") else None


def first_loader(loaders: Any) -> Any:
    """Return the first of the loaders that a trainer has, in whatever they are put together, or None."""
    combined = loaders if isinstance(loaders, CombinedLoader) else CombinedLoader(loaders, "sequential")
    return next(iter(combined.flattened), None)


def _of_loader(loader: Any, id_column: str | None) -> TrainingExamples:
    batched = getattr(loader, "batch_sampler", None)
    if batched is None or not hasattr(loader, "dataset"):
        raise ValueError(
            f"The training loader ({type(loader).__name__}) does not put the examples of a data set into batches by "
            "index, so no example can be found again by its id: give `train_data=` a data set or such a loader."
        )
    dataset, sampler = loader.dataset, own_sampler(getattr(batched, "sampler", None))
    if isinstance(sampler, SubsetRandomSampler):
        dataset = Subset(dataset, [int(i) for i in sampler.indices])
    return _examples(dataset, loader.collate_fn, getattr(batched, "batch_size", None), id_column)


def _of_dataset(trainer: Trainer, dataset: Any, id_column: str | None) -> TrainingExamples:
    known = (_train_loaders(trainer), trainer.val_dataloaders, trainer.test_dataloaders, trainer.predict_dataloaders)
    loader = next((first_loader(loaders) for loaders in known if loaders is not None), None)
    collate = getattr(loader, "collate_fn", None)
    collate = collate_of(dataset) or (None if collate is None else plain_collate(collate))
    return _examples(dataset, collate, getattr(loader, "batch_size", None), id_column)


def _examples(dataset: Any, collate: Any, batch_size: int | None, id_column: str | None) -> TrainingExamples:
    return TrainingExamples(dataset, collate, id_column=id_column, batch_size=batch_size or 32)
