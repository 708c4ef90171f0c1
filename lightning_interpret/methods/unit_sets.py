"""Sets of units that are absent together: a token, a word, a window of a text or of a grid."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_interpret.explanations import Units
from lightning_interpret.functional.occlusion import window_starts
from lightning_interpret.names import choose

KINDS = ("token", "word", "window")


@dataclass(frozen=True)
class UnitSets:
    """P sets of units, each of one of N rows: the units that lie in a box and can be absent.

    Held is where the units and the boxes lie, for P sets of T units may be many; ``members`` are made when asked for.

    Attributes:
        row: Long ``(P,)``, the row of each set.
        low: Long ``(P, k)``, where each box begins.
        high: Long ``(P, k)``, where it has ended.
        place: Long ``(N, T, k)``, where each unit lies.
        absent: Bool ``(N, T)``, the units that can be absent.
    """

    row: Tensor
    low: Tensor
    high: Tensor
    place: Tensor
    absent: Tensor

    def __len__(self) -> int:
        return len(self.row)

    def members(self, sets: Tensor) -> Tensor:
        """Return the units of M sets, bool ``(M, T)``."""
        place, row = self.place[self.row[sets]], self.row[sets]
        inside = (place >= self.low[sets, None]) & (place < self.high[sets, None])
        return inside.all(dim=2) & self.absent[row]

    def split(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield rows ``(M,)`` and members ``(M, T)`` of ``size`` sets at a time, in their order."""
        for sets in torch.arange(len(self)).split(size) if len(self) else ():
            yield self.row[sets], self.members(sets)


def unit_sets(
    units: Units,
    absent: Tensor,
    kind: str = "token",
    *,
    window: int | Sequence[int] = 1,
    stride: int | Sequence[int] = 1,
    order: Tensor | None = None,
) -> UnitSets:
    """Return the sets of a kind that hold a unit which can be absent.

    Args:
        units: The units of N rows.
        absent: Bool ``(N, T)``, the units that can be absent.
        kind: ``token`` (each unit alone), ``word``, or ``window``: over the content of a text in its order, or over the
            grid of an image. Special units are in no window: those that can be absent are sets of their own.
        window: Units in a window; of a grid also ``(rows, columns)``.
        stride: Units from one window to the next, likewise.
        order: The rows ``(N,)`` in the order in which their sets shall stand.

    Raises:
        ValueError: If words are asked for of what has none, or a window of two dimensions of what lies on a line.
    """
    choose("unit", kind, KINDS)
    absent, place, boxes = absent.cpu(), _places(units, kind), []
    outside = units.shape[0]  # no word and no window comes so far
    for n in range(len(absent)) if order is None else order.tolist():
        here = place[n][absent[n]].unique(dim=0)
        low, high = here, here + 1
        if kind == "window":
            alone = here[:, 0] >= outside
            first, end = _windows(units, n, _by_axis("window", window, units), _by_axis("stride", stride, units))
            low, high = torch.cat([first, here[alone]]), torch.cat([end, here[alone] + 1])
        boxes.append((torch.full((len(low),), n), low, high))
    rows, lows, highs = zip(*boxes, strict=True)
    sets = UnitSets(torch.cat(rows), torch.cat(lows), torch.cat(highs), place, absent)
    kept = torch.cat([members.any(dim=1) for _, members in sets.split(256)] or [absent.new_zeros(0)])
    return UnitSets(sets.row[kept], sets.low[kept], sets.high[kept], place, absent)


def _places(units: Units, kind: str) -> Tensor:
    """Return where each unit lies ``(N, T, k)``; what is no word or no content lies where nothing else does."""
    rows, size = units.special.shape
    own = torch.arange(size).expand(rows, size)
    if kind == "token":
        return own[..., None]
    if kind == "word":
        if not all(units.word_ids):
            raise ValueError(f"`unit='word'`, but the units are of kind {units.kind!r}, which makes no words.")
        words = [[size + t if word is None else word for t, word in enumerate(row)] for row in units.word_ids]
        return torch.tensor(words).reshape(rows, size, 1)
    content = ~(units.special | units.padding)
    count = content.long().cumsum(dim=1) - 1
    places = [count] if units.grid is None else [count // units.grid[1], count % units.grid[1]]
    return torch.stack([torch.where(content, place, size + own) for place in places], dim=2)


def _by_axis(option: str, size: int | Sequence[int], units: Units) -> tuple[int, ...]:
    sizes = (size,) * (1 if units.grid is None else 2) if isinstance(size, int) else tuple(size)
    if units.grid is None and len(sizes) != 1:
        raise ValueError(f"`{option}={sizes}`, but the units, of kind {units.kind!r}, lie on a line: give one number.")
    return sizes


def _windows(units: Units, row: int, window: tuple[int, ...], stride: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Return where the windows over the content of a row begin and end, ``(P, k)`` each."""
    length = int((~(units.special[row] | units.padding[row])).sum())
    lengths = (length,) if units.grid is None else units.grid
    axes = [window_starts(*axis) for axis in zip(lengths, window, stride, strict=True)]
    low = torch.cartesian_prod(*axes).reshape(-1, len(axes))
    return low, torch.minimum(low + torch.tensor(window), torch.tensor(lengths))
