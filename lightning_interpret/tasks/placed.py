"""What tasks share whose targets stand at places of the text: tags, answers, generated tokens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from lightning_interpret.names import choose
from lightning_interpret.tasks import batches
from lightning_interpret.tasks.base import OUTPUTS, Singles, Targets
from lightning_interpret.tasks.text import TextTask

#: Log probability, and score, of what a model does not tell apart at a place: far below any, and a finite number.
NEVER = -1e9
_HELD = object()  # stands for the labels while the other parts of a batch are taken


@dataclass(frozen=True)
class PlacedTargets(Targets):
    """One row a target, each of K places at most: the words of an entity, the tokens of a continuation.

    Attributes:
        place: Long ``(N, K)``, where each is scored; −1 after the last.
        classes: Long ``(N, K)``, the class that is explained there.
        others: Long ``(N, K)``, the class that ``margin`` and contrasts subtract there.
        at_units: First unit that each target is at and one past the last.
    """

    place: Tensor
    classes: Tensor
    others: Tensor
    at_units: tuple[tuple[int, int] | None, ...]

    @property
    def spans(self) -> tuple[tuple[int, int] | None, ...]:
        """First unit that each target is at and one past the last."""
        return self.at_units

    def at(self, rows: Tensor) -> Self:
        """Return the targets of the given rows, for a batch in which each row stands once and in that order."""
        picked = rows.tolist()
        return replace(
            self,
            example=torch.arange(len(rows), device=rows.device),
            index=self.index[rows],
            against=self.against[rows],
            name=tuple(self.name[i] for i in picked),
            place=self.place[rows],
            classes=self.classes[rows],
            others=self.others[rows],
            at_units=tuple(self.at_units[i] for i in picked),
        )

    def crop(self, columns: Tensor) -> Self:
        """Return the targets in a batch of which only some columns are left."""
        begin = int(columns[0])
        return replace(self, place=torch.where(self.place < 0, -1, self.place - begin)) if begin else self

    def summed(self, scores: Tensor, output: str) -> Tensor:
        """Return the scalar of each target from the classes' scores at its places, ``(N, K, C)``: ``(N,)``.

        Of several places it is the sum: of log probabilities, that of all of them together. ``prob`` is their product.
        """
        choose("output", output, OUTPUTS)
        there = self.place >= 0
        scores = in_single_precision(scores)
        if output in ("log_prob", "prob"):
            scores = scores.log_softmax(dim=-1)

        def of(classes: Tensor) -> Tensor:
            picked = scores.gather(2, classes.clamp(min=0)[..., None]).squeeze(2)
            total = torch.where(there, picked, 0).sum(dim=1)
            return total.exp() if output == "prob" else total

        found = of(self.classes)
        return found - of(self.others) if self.contrast or output == "margin" else found


class PlacedTask(TextTask):
    """Reads a batch of texts of which places are explained: units cannot be deleted, as what follows would move."""

    pooled: ClassVar[tuple[str, str]] = ("mean", "the tokens")

    def delete(self, module: nn.Module, batch: Any, absent: Tensor) -> Any:
        """Refuse: the places that are explained would be others.

        Raises:
            ValueError: Always.
        """
        raise ValueError(
            f"`baseline='delete'`, but what {type(self).__name__} explains stands at places of the text, which would "
            "move: use another baseline, such as 'pad', 'mask' or 'zero'."
        )

    def loss_roots(
        self, logits: Tensor, samples: int | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        """Refuse: where the loss is, the batch says, which :meth:`roots` takes.

        Raises:
            ValueError: Always.
        """
        raise ValueError(
            f"Where the loss of {type(self).__name__} is, its batch says: ask `roots(logits, batch)`, and override "
            "that where `losses` is overridden."
        )

    def single(self, batch: Any, labels: Tensor, text: Callable[[int, int], str]) -> Singles:
        """Return a batch with one example for each label that is not −100, with this label alone.

        Args:
            batch: The batch.
            labels: Its labels, long ``(B, L)``, of which the batch holds this very tensor.
            text: What is said of a label, by row and column.
        """
        example, place = (labels != -100).nonzero(as_tuple=True)
        alone = torch.full_like(labels[example], -100)
        rows = torch.arange(len(example), device=labels.device)
        alone[rows, place] = labels[example, place]
        held = batches.map_leaves(lambda leaf: _HELD if leaf is labels else leaf, batch)
        taken = self.take(held, example)
        words = tuple(text(*at) for at in zip(example.tolist(), place.tolist(), strict=True))
        put = batches.map_leaves(lambda leaf: alone if leaf is _HELD else leaf, taken)
        return Singles(put, example.cpu(), place.cpu(), words)


def in_single_precision(scores: Tensor) -> Tensor:
    """Return scores in at least single precision: half precision has no number as low as ``NEVER``."""
    return scores if scores.dtype == torch.float64 else scores.float()


def runner_up(scores: Tensor, classes: Tensor) -> Tensor:
    """Return the class ``(...)`` with the highest score ``(..., C)`` that is not the one given."""
    return scores.detach().scatter(-1, classes[..., None], float("-inf")).argmax(dim=-1)


def padded(rows: list[list[int]], fill: int, device: torch.device) -> Tensor:
    """Return lists of numbers as one long tensor, each filled up to the length of the longest."""
    width = max(1, *(len(row) for row in rows)) if rows else 1
    return torch.tensor([row + [fill] * (width - len(row)) for row in rows], device=device).reshape(len(rows), width)
