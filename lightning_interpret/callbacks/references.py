"""Reference examples that a Monitor's baselines are drawn from: of the training data, by index, read once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from lightning.pytorch import LightningModule, Trainer

from lightning_interpret.callbacks.probes import Probes, evaluated
from lightning_interpret.functional.baselines import Baseline
from lightning_interpret.names import check_whole
from lightning_interpret.tasks import Task
from lightning_interpret.trainer.transfer import to_module


class References:
    """Training examples, spread evenly by their index, for baselines that are drawn from data.

    They are read with the loader's own collate function, once, and only if one of the baselines is drawn; a task that
    has ``references`` keeps them. Runs without training data take those they evaluate.

    Args:
        baselines: The baselines of the Monitor's methods; ``None`` of one that has none.
        number: How many examples.
        say: Warns the user of a thing once.

    Raises:
        ValueError: If the number is no whole number of at least 1.
    """

    def __init__(self, baselines: Iterable[Baseline | None], number: int, say: Callable[[str], None]) -> None:
        check_whole(references=number)
        self._drawn = next((each for each in baselines if each is not None and each.drawn), None)
        self._number, self._say = number, say
        self._batch: Any = None  # on the CPU

    def forget(self) -> None:
        """Read them again when they are next wanted: another entry point may have other data."""
        self._batch = None

    def wanted(self, task: Task) -> bool:
        """Whether a baseline is drawn from references that are for the Monitor to read."""
        return self._drawn is not None and task.references is None

    def check(self, trainer: Trainer, task: Task) -> None:
        """Raise a ``ValueError`` for data that no references can be read from, if there are to be any."""
        if self.wanted(task):
            self._reader(trainer)

    def given_to(self, task: Task, module: LightningModule, precision: str) -> Task:
        """Return the task with the references, as the module takes them; the task itself where none are wanted."""
        if not self.wanted(task):
            return task
        if self._batch is None:
            reader = self._reader(module.trainer)
            self._batch = reader.batch(range(len(reader.indices)), None, task)
        return task.with_references(to_module(self._batch, module.trainer, module, precision=precision, moved=False))

    def _reader(self, trainer: Trainer) -> Probes:
        """Return what reads them by index: never the loader, which would draw random numbers."""
        loaders, what = trainer.train_dataloader, "training"
        if loaders is None:
            loaders, what = evaluated(trainer), "evaluation"
            self._say("this run has no training data: the references are of the data that it evaluates.")
        found = Probes(loaders, self._number)
        if not found.indexed:
            assert self._drawn is not None
            raise ValueError(
                f"`baseline={self._drawn.name!r}` is drawn from the {what} data, which have no indices: "
                "give `task=task.with_references(batch)`, a data set with `__getitem__` and `__len__`, or a baseline "
                "such as 'pad'."
            )
        return found
