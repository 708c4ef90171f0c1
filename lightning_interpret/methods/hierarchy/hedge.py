"""HEDGE: a text divided from the top, each time where its parts interact least."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from lightning_interpret.functional.baselines import Baseline
from lightning_interpret.functional.hierarchy.division import divide
from lightning_interpret.methods.hierarchy.base import Grown, HierarchicalMethod
from lightning_interpret.methods.hierarchy.reading import Reading
from lightning_interpret.names import check_whole


@dataclass(frozen=True)
class Hedge(HierarchicalMethod):
    """The text is cut again and again at its weakest Shapley interaction (Chen, Zheng and Ji, 2020, HEDGE).

    The score of a span is F with the span alone there, less F with nothing there; with ``output="margin"`` F is the
    margin of the explained class over the one that is second at x. (The paper's is the margin itself, which tells the
    model's bias as part of every span.) Forward passes alone; each level costs O(T) of them. See
    :func:`~lightning_interpret.functional.hierarchy.division.divide` for the interaction and its weights, which here
    sum to 1 in a text of any length.

    Args:
        baseline: What stands at absent tokens: the name of a baseline x', by default the task's (``pad`` of a text), or
            a :class:`Baseline`; special tokens and the attention mask stay as they are. Or ``delete``, where ids and
            attention mask are closed up; the model must then read a text of which nothing is left but special tokens.
        unit: ``word`` or ``token``, the smallest spans.
        internal_batch_size: Texts in one pass; by default as many as make 2,048 tokens (4,096 on a GPU).
        window: Parts on either side whose coalitions are tried, m of the paper, from 0 to 4; 4^m coalitions a boundary.
        absolute: Whether the weakest interaction is the smallest in size; else the smallest, as in equation 1.

    Raises:
        ValueError: If an option does not exist or is out of its range.
    """

    name: ClassVar[str] = "hedge"
    baseline: str | Baseline = "default"
    unit: Literal["word", "token"] = "word"
    internal_batch_size: int | None = None
    window: int = 1
    absolute: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_whole(0, window=self.window)
        divide(lambda rows, present: torch.zeros(0), torch.zeros(0, dtype=torch.long), window=self.window)

    def grow(self, opened: Reading) -> list[Grown]:
        """Divide each text."""
        found = divide(opened.only, opened.lengths, window=self.window, absolute=self.absolute)
        return [Grown(each.parts) for each in found]

    def scores(self, opened: Reading, rows: Tensor, starts: Tensor, ends: Tensor) -> Tensor:
        """Return F with each span alone, less F with nothing."""
        return opened.only(rows, opened.spans(starts, ends)) - opened.nothing[rows]

    @property
    def measure(self) -> str:
        """What a score is, in words."""
        return "the score with the span alone, less that with nothing"

    @property
    def joins(self) -> str:
        """What an interaction is, in words."""
        near = f"with up to {self.window} parts on either side"
        near = {0: "in no context", 1: "with the part on either side"}.get(self.window, near)
        return f"what the parts of a span do together beyond what each does, {near} (Shapley)"
