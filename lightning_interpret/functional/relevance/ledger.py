"""Where the relevance went that did not reach the inputs."""

from __future__ import annotations

import torch
from torch import Tensor


class Ledger:
    """Sums of relevance by what absorbed it, one a row of the batch, filled in while a backward pass runs.

    The rows of a tensor are found by its first dimension: of length N, or a multiple of it with the rows of an example
    together. What has another first dimension is kept in the total alone (:attr:`split` is then False).
    """

    def __init__(self) -> None:
        self.open(1)

    def open(self, rows: int) -> None:
        """Begin anew for ``rows`` rows."""
        self.rows, self.split = rows, True
        self._entries: dict[str, Tensor] = {}

    def add(self, kind: str, amount: Tensor) -> None:
        """Add relevance, one entry an element of some tensor of the model."""
        per_row = torch.zeros(self.rows, dtype=torch.float64, device=amount.device)
        if amount.dim() > 0 and amount.numel() and amount.shape[0] % self.rows == 0:
            per_row = amount.reshape(self.rows, -1).sum(dim=1, dtype=torch.float64)
        else:
            self.split = self.split and self.rows == 1
            per_row = per_row + amount.sum(dtype=torch.float64) / self.rows
        before = self._entries.get(kind)
        self._entries[kind] = per_row if before is None else before + per_row

    @property
    def absorbed(self) -> dict[str, Tensor]:
        """Relevance by what absorbed it, each ``(N,)`` in float64; nothing that absorbed exactly nothing."""
        return {kind: amount for kind, amount in self._entries.items() if bool((amount != 0).any())}
