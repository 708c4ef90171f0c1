"""The largest and the smallest of a stream of scores, in memory that does not grow with it."""

from __future__ import annotations

from math import isfinite

import torch
from torch import Tensor

from lightning_interpret.names import check_whole

_NAMED = 5


class TopK:
    """The k largest and the k smallest scores of each of M queries, and the ids they are of.

    Ties go to the smaller id, so that order and batching of the stream change nothing. An id that comes again counts
    once. Examples with a score that is not finite are left out and counted.

    Args:
        k: How many to keep at each end; of fewer examples, all of that sign.

    Attributes:
        examples: Examples that came, without those left out.
        skipped: Examples left out.
        left_out: The ids of the first of them.
    """

    def __init__(self, k: int) -> None:
        check_whole(k=k)
        self.k, self.examples, self.skipped = k, 0, 0
        self.left_out: list[int] = []
        self._kept: dict[int, tuple[Tensor, Tensor]] = {}

    def update(self, ids: Tensor, scores: Tensor) -> None:
        """Add examples: ids ``(B,)`` and scores ``(M, B)``."""
        ids = ids.to(scores.device)
        order = ids.argsort(stable=True)
        ids, scores = ids[order], scores[:, order]
        first = torch.cat([ids[:1] == ids[:1], ids[1:] != ids[:-1]])
        finite = scores.isfinite().all(dim=0)
        if len(bad := ids[first & ~finite]):
            self.skipped += len(bad)
            self.left_out = (self.left_out + bad.tolist())[:_NAMED]
        self.examples += int((first & finite).sum())
        ids, scores = ids[first & finite], scores[:, first & finite]
        for sign in (1, -1):
            own = ids.expand(len(scores), -1)
            if sign in self._kept:
                before_ids, before = self._kept[sign]
                again = (own[:, :, None] == before_ids[:, None]).any(dim=2)
                own = torch.cat([before_ids, own], dim=1)
                values = torch.cat([before, (sign * scores).masked_fill(again, -torch.inf)], dim=1)
            else:
                values = sign * scores
            order = own.argsort(dim=1, stable=True)
            own, values = own.gather(1, order), values.gather(1, order)
            place = values.argsort(dim=1, descending=True, stable=True)[:, : self.k]
            self._kept[sign] = own.gather(1, place), values.gather(1, place)

    def found(self, *, largest: bool, signed: bool = True) -> list[list[tuple[int, float]]]:
        """Return each query's (id, score) pairs: positive ones from the largest, or negative ones from the smallest.

        Args:
            largest: Which end.
            signed: Whether it ends at 0; else scores on the other side of 0 count, too, and those of 0 do not.

        Raises:
            ValueError: If no example came.
        """
        sign = 1 if largest else -1
        if sign not in self._kept:
            raise ValueError("No training example was scored: the training data yielded no batch.")
        ids, values = self._kept[sign]

        def kept(value: float) -> bool:
            return isfinite(value) and (value > 0 if signed else value != 0)

        return [
            [(i, sign * value) for i, value in zip(row, of, strict=True) if kept(value)]
            for row, of in zip(ids.tolist(), values.tolist(), strict=True)
        ]
