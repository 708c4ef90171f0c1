"""Examples of concepts, and random ones, as batches that can be gone through again at every step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from lightning_interpret.names import check_whole, unknown
from lightning_interpret.tasks import batches


@dataclass(frozen=True)
class ConceptSets:
    """Examples of concepts and random ones; rows are counted over all batches.

    Attributes:
        batches: Batches as the task reads them.
        concepts: For each concept the rows of its examples, long ``(n,)``.
        random: Rows of examples drawn at random, long ``(N,)``: what vectors are set against, and random concepts.
        against: Concepts that are set against others than random ones, with the rows of these: relative vectors.
        missing: Concepts of which there are no or too few examples, with the reason.

    Raises:
        ValueError: If a row is outside of the batches.
    """

    batches: tuple[Any, ...]
    concepts: Mapping[str, Tensor]
    random: Tensor
    against: Mapping[str, Tensor] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse rows that there are not."""
        size = len(self)
        for name, rows in (*self.concepts.items(), *self.against.items(), ("random", self.random)):
            if len(rows) and not 0 <= int(rows.min()) <= int(rows.max()) < size:
                raise ValueError(f"Rows of {name!r} reach from {int(rows.min())} to {int(rows.max())} of {size}.")

    def __len__(self) -> int:
        return sum(batches.batch_size(batch) for batch in self.batches)

    @property
    def names(self) -> tuple[str, ...]:
        """All concepts, those without examples last."""
        return (*self.concepts, *self.missing)

    @classmethod
    def of(
        cls,
        concepts: Mapping[str, Sequence[Any]],
        random: Sequence[Any],
        collate: Callable[[list[Any]], Any],
        *,
        against: Mapping[str, str] | None = None,
        batch_size: int = 32,
    ) -> ConceptSets:
        """Return the sets of examples that are at hand.

        Args:
            concepts: For each concept its examples: texts, or whatever ``collate`` takes.
            random: Examples of the training data, drawn at random.
            collate: Makes a batch of a list of examples: ``lambda texts: encode(tokenizer, texts)``.
            against: For a concept the name of the other whose examples it is set against, in place of random ones.
            batch_size: Examples in a batch.

        Raises:
            ValueError: If ``against`` names what is no concept.

        Example::

            sets = ConceptSets.of({"praise": texts}, drawn, lambda texts: tokenizer(texts, padding=True))
        """
        check_whole(batch_size=batch_size)
        examples: list[Any] = []
        rows: dict[str, Tensor] = {}
        for name, some in concepts.items():
            rows[name] = torch.arange(len(examples), len(examples) + len(some))
            examples += some
        drawn = torch.arange(len(examples), len(examples) + len(random))
        examples += random
        for one, other in (against or {}).items():
            for name in (one, other):
                if name not in rows:
                    raise ValueError(unknown("against", name, rows))
        made = [collate(examples[start : start + batch_size]) for start in range(0, len(examples), batch_size)]
        return cls(tuple(made), rows, drawn, {one: rows[other] for one, other in (against or {}).items()})
