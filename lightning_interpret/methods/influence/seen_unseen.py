"""Training examples under their own masks of turn-over dropout: what each part of the network makes of them."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from lightning_interpret.layers.turn_over_dropout import TurnOverDropout
from lightning_interpret.methods.describe import class_names, losses_of
from lightning_interpret.tasks import Task

_LEARNT, _GAP = 0.9, 0.02


class SeenUnseen:
    """Mean loss and accuracy of the part that has learnt each example, and of the part that has not."""

    names: ClassVar[tuple[str, ...]] = ("seen_accuracy", "unseen_accuracy", "seen_loss", "unseen_loss")

    def __init__(self) -> None:
        self._sums = dict.fromkeys(self.names, 0.0)
        self._counts = dict.fromkeys(self.names, 0)

    @torch.no_grad()
    def add(self, module: nn.Module, dropout: TurnOverDropout, task: Task, batch: Any) -> Tensor:
        """Count the examples of a batch; return the loss of each under its flipped mask less that under its mask.

        Raises:
            ValueError: If the batch carries no ids.
        """
        known = task.example_ids(batch)
        if known is None:
            raise ValueError(
                f"The batches of the training data ({type(batch).__name__}) carry no `example_id`, of which an "
                "example's own mask is made: give `WithIds(data_set, in_batch='always')`, as training needs it too."
            )
        ids = torch.tensor(known, dtype=torch.long)
        gold = task.gold_names(batch) or ()
        found = []
        for name, scope in (("seen", dropout.seen), ("unseen", dropout.unseen)):
            with scope(ids):
                logits = task.logits(module, batch)
                losses = losses_of(logits, module, batch, task)
            if class_names(task, logits):  # of tags, tokens or numbers nothing is right as a whole
                right = [a == b for a, b in zip(task.names(logits), gold, strict=False) if b is not None]
                self._add(f"{name}_accuracy", sum(right), len(right))
            finite = losses[losses.isfinite()]
            self._add(f"{name}_loss", float(finite.sum()), len(finite))
            found.append(losses)
        return found[1] - found[0]

    def means(self) -> Mapping[str, tuple[float, int]]:
        """Return each mean by name, and of how many examples it is."""
        return {name: (self._sums[name] / count, count) for name, count in self._counts.items() if count}

    def warn(self) -> None:
        """Say so where both parts know the labels of the training examples alike, though one has not learnt them."""
        means = self.means()
        if "seen_accuracy" not in means:
            return
        seen, unseen = means["seen_accuracy"][0], means["unseen_accuracy"][0]
        if seen > _LEARNT and seen - unseen < _GAP:
            warnings.warn(
                "Turn-over dropout: the part of the network that has not learnt an example is right about as often as "
                "the part that has (`unseen_accuracy`, `seen_accuracy`). Where it is also well above the accuracy on "
                "validation data, the masks leak, and influence says little: mask more layers, `turn_over_layers=`.",
                stacklevel=4,
            )

    def _add(self, name: str, total: float, count: int) -> None:
        self._sums[name] += total
        self._counts[name] += count
