"""A kernel on raw inputs, such as the strings of texts or of trees, with the rows that were computed kept."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from lightning_interpret.functional.kernels import KernelMatrix
from lightning_interpret.layers.kernels import OwnKernel


class RawKernel:
    """Rows of K(inputs, landmarks) by a function of the user's, each computed once.

    A row is kept under its input itself, so that training and validation examples do not get in each other's way. No
    more than ``rows`` are kept: ``rows`` × l numbers in double precision. The ones used longest ago go first.

    Args:
        function: ``(list of n, list of m) → (n, m)``, a tensor, an array or a nested list; or its import path,
            ``"package.module.function"``.
        rows: How many rows are kept.

    Raises:
        ValueError: If it cannot be imported.
    """

    def __init__(self, function: Callable[[list[str], list[str]], Any] | str, rows: int = 100_000) -> None:
        self.function, self.bound = OwnKernel(function).function, rows
        self._landmarks: tuple[str, ...] = ()
        self._rows: OrderedDict[str, Tensor] = OrderedDict()

    def rows(self, inputs: Sequence[str], landmarks: Sequence[str]) -> Tensor:
        """Return K(inputs, landmarks), ``(n, l)`` in double precision."""
        if tuple(landmarks) != self._landmarks:
            self._landmarks = tuple(landmarks)
            self._rows.clear()
        new = [each for each in dict.fromkeys(inputs) if each not in self._rows]
        found = dict(zip(new, self.matrix(new, landmarks), strict=True)) if new else {}
        for each in inputs:
            if each in self._rows:
                found[each] = self._rows[each]
                self._rows.move_to_end(each)
        self._rows.update((each, found[each]) for each in new)
        while len(self._rows) > self.bound:
            self._rows.popitem(last=False)
        return torch.stack([found[each] for each in inputs])

    def matrix(self, first: Sequence[str], second: Sequence[str]) -> Tensor:
        """Return K(first, second), ``(n, m)`` in double precision, which is not kept.

        Raises:
            ValueError: If the function returns numbers of another shape, or not finite ones.
        """
        found = torch.as_tensor(self.function(list(first), list(second)), dtype=torch.float64).cpu()
        if found.shape != (len(first), len(second)):
            raise ValueError(
                f"The kernel {_name(self.function)} of {len(first)} and {len(second)} inputs must have shape "
                f"{(len(first), len(second))}, and has {tuple(found.shape)}."
            )
        if not bool(found.isfinite().all()):
            raise ValueError(f"The kernel {_name(self.function)} returns numbers that are not finite.")
        return found

    def among(self, inputs: Sequence[str]) -> KernelMatrix:
        """Return the kernel matrix of some inputs, computed as parts of it are asked for."""

        def block(rows: Tensor, columns: Tensor) -> Tensor:
            return self.matrix([inputs[i] for i in rows.tolist()], [inputs[i] for i in columns.tolist()])

        return _OneByOne(len(inputs), block)

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy needs: it computes its rows itself."""
        return vars(self) | {"_rows": OrderedDict(), "_landmarks": ()}


class _OneByOne(KernelMatrix):
    def diagonal(self, places: Tensor | None = None) -> Tensor:
        """Return k(x, x), one by one: a square block would cost many values of a kernel that may be slow."""
        places = torch.arange(self.size) if places is None else places
        return torch.cat([self.square(place).flatten() for place in places.split(1)])


def _name(function: Any) -> str:
    return getattr(function, "__name__", type(function).__name__)
