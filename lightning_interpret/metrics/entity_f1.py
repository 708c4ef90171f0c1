"""The F1 of entities: spans and types that are exactly right."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from lightning_interpret.functional.entities import entities


class EntityF1(Metric):
    """F1 over all entities of all texts, found and gold; one is right if its span and its type are.

    Tags are read as seqeval's default mode reads them (:func:`~lightning_interpret.functional.entities.entities`), and
    it is the micro average, as there. 0 where there are no entities at all.

    Args:
        tags: The tags in the order of their classes.
        kwargs: Passed on to :class:`torchmetrics.Metric`.
    """

    full_state_update = False
    higher_is_better = True
    right: Tensor
    total: Tensor

    def __init__(self, tags: Sequence[str], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.tags = tuple(tags)
        for name in ("right", "total"):
            self.add_state(name, torch.tensor(0, dtype=torch.long), dist_reduce_fx="sum")

    def update(self, predicted: Tensor, labels: Tensor) -> None:
        """Add texts: classes ``(B, T)``, found and gold; what has a negative label is no word, and left out.

        Raises:
            ValueError: If shapes differ.
        """
        if predicted.shape != labels.shape or labels.dim() != 2:
            raise ValueError(
                f"`predicted` {tuple(predicted.shape)} and `labels` {tuple(labels.shape)} must both be (B, T)."
            )
        for found, gold in zip(predicted, labels, strict=True):
            words = gold >= 0
            one, other = (set(entities([self.tags[i] for i in classes[words].tolist()])) for classes in (found, gold))
            self.right += len(one & other)
            self.total += len(one) + len(other)

    def compute(self) -> Tensor:
        """Return the F1, ``()``."""
        return 2 * self.right / self.total.clamp(min=1)
