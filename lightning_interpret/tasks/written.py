"""Tokens that a model writes, as targets: where each is scored, what it is not made from, and where a text ends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_interpret.functional.features import is_open
from lightning_interpret.functional.passes import waist
from lightning_interpret.tasks.placed import PlacedTargets


@dataclass(frozen=True)
class WrittenTargets(PlacedTargets):
    """One row a generated token, or several of them together.

    Attributes:
        first: The place that the first of the logits is of.
        units_before: Units before the first place: those of the source, where another end of the model reads it.
    """

    one_path: ClassVar[bool] = True

    first: int = 0
    units_before: int = 0

    def unread(self, shape: tuple[int, ...]) -> Tensor:
        """Return which units each target is not made from, bool ``(N, T)``: all from its last token on."""
        last = self.units_before + self.place.amax(dim=1)
        return torch.arange(shape[0], device=last.device) > last[:, None]

    def crop(self, columns: Tensor) -> WrittenTargets:
        """Return the targets in a batch of which only some columns are left."""
        return self if self.units_before else super().crop(columns)


@contextmanager
def head_at(model: Any, example: Tensor, place: Tensor) -> Iterator[list[bool]]:
    """Let a model score its vocabulary at some places alone, long ``(N, K)``, of N rows of the batch: ``(N, K, V)``.

    Yields a list that has an entry once this was done: where it stays empty, the scores are those of all places.
    """
    done: list[bool] = []
    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    if head is None or is_open(head):  # the scores themselves are what is attributed to: they are needed at all places
        yield done
        return

    def before(part: nn.Module, args: tuple) -> Any:
        if not args or not isinstance(args[0], Tensor) or args[0].dim() != 3 or len(args[0]) <= int(example.max()):
            return None
        hidden = args[0]
        done.append(True)
        return (waist(hidden[example.to(hidden.device)[:, None], place.to(hidden.device)]), *args[1:])

    handle = head.register_forward_pre_hook(before, prepend=True)
    try:
        yield done
    finally:
        handle.remove()


def ended(model: Any, ids: Tensor, tokenizer: Any) -> Tensor:
    """Return which tokens that a model wrote are its output, bool ``(B, S)``: up to the mark that ends it."""
    ends = getattr(model.generation_config, "eos_token_id", None)
    ends = tokenizer.eos_token_id if ends is None else ends
    known = torch.tensor([] if ends is None else [ends] if isinstance(ends, int) else list(ends), device=ids.device)
    before = F.pad(torch.isin(ids, known).long().cumsum(dim=1), (1, 0))[:, :-1]
    return before == 0
