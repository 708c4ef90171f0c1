"""Rows of token ids of several lengths: put one after another, without gaps, and cut."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Tokens:
    """Token ids, and which of them are there; the others are padding, wherever they stand, and may hold any id.

    Attributes:
        ids: Long ``(B, T)``.
        there: Bool ``(B, T)``.
    """

    ids: Tensor
    there: Tensor

    @classmethod
    def of(cls, ids: Tensor, there: Tensor | None = None) -> Tokens:
        """Return ids with what is there of them: by default those that are no negative number."""
        there = ids >= 0 if there is None else there != 0
        return cls(ids.masked_fill(~there, 0), there)

    @classmethod
    def none(cls, like: Tokens) -> Tokens:
        """Return as many rows without a token."""
        return cls(like.ids[:, :0], like.there[:, :0])

    @property
    def lengths(self) -> Tensor:
        """How many tokens each row has, ``(B,)``."""
        return self.there.sum(dim=1)

    def filled(self, value: int) -> Tensor:
        """Return the ids with ``value`` as padding."""
        return self.ids.masked_fill(~self.there, value)

    def then(self, *others: Tokens | Tensor) -> Tokens:
        """Return each row followed by those of others; a vector of ids follows each row."""
        parts = [self, *(each if isinstance(each, Tokens) else self.each(each) for each in others)]
        return Tokens(torch.cat([part.ids for part in parts], dim=1), torch.cat([part.there for part in parts], dim=1))

    def each(self, ids: Tensor) -> Tokens:
        """Return a vector of ids for each row."""
        rows = ids.to(self.ids.device).expand(len(self.ids), len(ids))
        return Tokens(rows, torch.ones_like(rows, dtype=torch.bool))

    def closed(self, *, left: bool = False) -> Tokens:
        """Return the rows without gaps, as wide as the longest; the padding comes last, or with ``left`` first."""
        order = (self.there if left else ~self.there).long().argsort(dim=1, stable=True)
        width = int(self.lengths.max()) if len(self.ids) else 0
        order = order[:, order.shape[1] - width :] if left else order[:, :width]
        return Tokens(self.ids.gather(1, order), self.there.gather(1, order))

    def cut(self, count: int) -> Tokens:
        """Return the first ``count`` tokens of each row."""
        if self.ids.shape[1] <= count:
            return self
        return Tokens(self.ids, self.there & (self.there.cumsum(dim=1) <= count)).closed()

    def repeat(self, times: int) -> Tokens:
        """Return each row several times, one after the other."""
        return Tokens(self.ids.repeat_interleave(times, dim=0), self.there.repeat_interleave(times, dim=0))

    def take(self, index: Tensor) -> Tokens:
        """Return some of the rows."""
        return Tokens(self.ids[index], self.there[index])
