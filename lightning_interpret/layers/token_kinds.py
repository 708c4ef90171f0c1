"""What kind of token each id is: which frame a text, which are padding, which begin a word; read off ids alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class WordTable:
    """What each token of a vocabulary does to words, bool ``(V,)`` each.

    Attributes:
        starts: It begins a word, whatever stands before it.
        closes: What follows it begins a word.
        blank: It is white space, which belongs to the word that it begins.
    """

    starts: Tensor
    closes: Tensor
    blank: Tensor


class TokenKinds:
    """Tells which tokens of ids ``(B, T)`` may be selected: on every path that ids come by, whatever made them.

    It is no part of a module's state: averages of weights average integers that are buffers too.

    Args:
        special: Ids that frame a text.
        padding: The padding id, for ids that come without an attention mask.
        table: What tokens do to words, where whole words are to be told.
    """

    def __init__(self, special: Sequence[int] = (), padding: int | None = None, table: WordTable | None = None) -> None:
        self.special, self.padding = tuple(special), padding
        self._marks = None if table is None else torch.stack([table.starts, table.closes, table.blank])
        self._on: dict[torch.device, tuple[Tensor, Tensor | None]] = {}  # what is asked on a device

    def of(self, ids: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return which tokens may be selected and which frame a text, bool ``(B, T)`` each; padding is neither.

        Args:
            ids: Token ids ``(B, T)``.
            mask: The attention mask ``(B, T)``, if there is one: then it alone says what is padding. One that is
                shorter is of a model that has padded the ids further.
        """
        if mask is not None and mask.dim() == 2 and len(mask) == len(ids) and mask.shape[1] <= ids.shape[1]:
            there = F.pad(mask != 0, (0, ids.shape[1] - mask.shape[1]))
        else:
            there = torch.ones_like(ids, dtype=torch.bool) if self.padding is None else ids != self.padding
        special = torch.isin(ids, self._tables(ids.device)[0]) & there
        return there & ~special, special

    def words(self, ids: Tensor, selectable: Tensor) -> Tensor | None:
        """Return the word of each token, long ``(B, T)``, -1 for those that may not be selected; None if not told."""
        marks = self._tables(ids.device)[1]
        if marks is None:
            return None
        starts, closes, blank = marks[:, ids]
        begins = torch.ones_like(selectable)
        after = closes[:, :-1] | starts[:, 1:]
        begins[:, 1:] = ~selectable[:, :-1] | (after & ~blank[:, :-1])
        return ((begins & selectable).cumsum(dim=1) - 1).masked_fill(~selectable, -1)

    def _tables(self, device: torch.device) -> tuple[Tensor, Tensor | None]:
        if device not in self._on:
            with torch.inference_mode(False):  # what is made there could be used nowhere else
                marks = None if self._marks is None else self._marks.to(device)
                self._on[device] = torch.tensor(self.special, dtype=torch.long, device=device), marks
        return self._on[device]


def check_padding(option: str, readable: Tensor, padding: Tensor | None) -> None:
    """Refuse texts of which padding is read as tokens of theirs.

    Args:
        option: What names the layer, for the message.
        readable: Which tokens are of a text, bool ``(B, T)``.
        padding: Which are padding, as the batch says, bool of the same shape; None, or of another one, says nothing.

    Raises:
        ValueError: If a token is both.
    """
    if padding is None or padding.shape != readable.shape or not bool((padding.to(readable.device) & readable).any()):
        return
    raise ValueError(
        f"`{option}`: the batch's `attention_mask` hides tokens that it does not know as padding, so that they would "
        "count as words of the text. Give the embeddings `padding_idx=`, keep the tokenizer on the module as "
        "`tokenizer`, or define `interpret_task()` with one."
    )
