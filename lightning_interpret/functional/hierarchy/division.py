"""Top-down division at the weakest Shapley interaction (Chen, Zheng and Ji, 2020, HEDGE)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from lightning_interpret.functional.hierarchy.tree import Span

#: The score with only some units ``(M, L)`` of given rows ``(M,)`` present: ``(M,)``.
Value = Callable[[Tensor, Tensor], Tensor]

#: What two values may differ by and still be called equal, as a share of the largest value: single precision rounds so.
ROUNDING = 1e-6
_MASKS, _WIDEST = 4096, 4  # coalitions held at a time, and neighbours on a side: of w there are 2^(2w) coalitions


@dataclass(frozen=True)
class Division:
    """How a text was divided.

    Attributes:
        parts: The two parts of each span that was cut, and their interaction there.
        evaluations: Coalitions that were evaluated.
    """

    parts: dict[Span, tuple[list[Span], float]]
    evaluations: int


def interaction_weights(neighbours: int) -> Tensor:
    """Return the weight of a coalition of k of ``neighbours`` other parts, float64 ``(neighbours + 1,)``.

    k! (n − k)! / (n + 1)!, the Shapley interaction index (Grabisch and Roubens, 1999) among the n others that are
    *there*. Over all coalitions they sum to 1 whatever n is; divided by the number of all parts of the text, as the
    paper's code has it, they would shrink with its length, and boundaries could not be compared.
    """
    n = neighbours
    weights = [math.factorial(k) * math.factorial(n - k) / math.factorial(n + 1) for k in range(n + 1)]
    return torch.tensor(weights, dtype=torch.float64)


def divide(
    value: Value, lengths: Tensor, *, window: int = 1, absolute: bool = True, masks: int = _MASKS
) -> list[Division]:
    """Return how N texts are divided into their units, one cut after the other, each where the parts interact least.

    The interaction between the two parts that a cut would make is the mean, over coalitions S of their neighbours, of
    v(S ∪ {l, r}) − v(S ∪ {l}) − v(S ∪ {r}) + v(S). S are sets of the ``window`` parts on either side; what lies further
    away is absent, as in the paper. A cut is made at the smallest interaction in all parts of a text. After it only
    those whose neighbours have changed are computed anew, and no coalition is evaluated twice: a level costs at most
    4^(window + 1) (L − 1) values.

    Of cuts that are equal but for rounding the first in the text is made.

    Args:
        value: v, the score with only some units present.
        lengths: Long ``(N,)``, the units of each text.
        window: Parts on either side whose coalitions are tried, from 0 to 4.
        absolute: Whether the smallest |interaction| is the weakest; else the smallest signed one, equation 1 of the
            paper as it stands, which takes two parts that cancel each other for the weakest bond.
        masks: Coalitions in one call of ``value``, whose masks are held at a time.

    Raises:
        ValueError: If ``window`` is out of its range.
    """
    if not 0 <= window <= _WIDEST:
        raise ValueError(f"`window={window!r}` must be a whole number from 0 to {_WIDEST}.")
    rows, units = len(lengths), int(lengths.max()) if len(lengths) else 0
    places = torch.arange(max(units - 1, 0))
    inside = places < (lengths[:, None] - 1)
    cut = torch.zeros(rows, len(places), dtype=torch.bool)
    found = torch.zeros(rows, len(places), dtype=torch.float64)
    seen = torch.full((rows, len(places), 3), -1)
    values = _Values(value, torch.zeros(rows, dtype=torch.float64), torch.zeros(rows, dtype=torch.long))
    made = [Division({}, 0) for _ in range(rows)]
    for _ in range(len(places)):
        now = _neighbourhoods(cut, lengths, window)
        stale = inside & ~cut & (now != seen).any(dim=2)
        seen = torch.where(stale[..., None], now, seen)
        of, at = stale.nonzero().unbind(dim=1)
        found[of, at] = _interactions(values, cut, lengths, of, at, window, masks)
        for row, place in _weakest(found.abs() if absolute else found, inside & ~cut, values.largest):
            start, end = _around(cut[row], place, int(lengths[row]))
            made[row].parts[start, end] = [(start, place + 1), (place + 1, end)], float(found[row, place])
            cut[row, place] = True
    return [Division(each.parts, count) for each, count in zip(made, values.counts.tolist(), strict=True)]


@dataclass
class _Values:
    """v, each coalition evaluated once: after a cut beside a place, half of those that it needs are known.

    Attributes:
        value: v.
        largest: The largest |v| of each text, ``(N,)``.
        counts: Coalitions of each text that were evaluated, ``(N,)``.
        known: The values by row and units, eight units a byte.
    """

    value: Value
    largest: Tensor
    counts: Tensor
    known: dict[tuple[int, bytes], float] = field(default_factory=dict)

    def __call__(self, rows: Tensor, present: Tensor) -> Tensor:
        """Return the values of coalitions, float64 ``(M,)``."""
        keys, place = torch.unique(torch.cat([rows[:, None], present.long()], dim=1), dim=0, return_inverse=True)
        packed = np.packbits(keys[:, 1:].bool().numpy(), axis=1)
        names = [(row, units.tobytes()) for row, units in zip(keys[:, 0].tolist(), packed, strict=True)]
        new = [i for i, name in enumerate(names) if name not in self.known]
        if new:
            of, units = keys[new, 0], keys[new, 1:].bool()
            values = self.value(of, units).double().cpu()
            self.largest.scatter_reduce_(0, of, values.abs().nan_to_num(0.0, 0.0, 0.0), "amax")
            self.counts += torch.bincount(of, minlength=len(self.counts))
            self.known.update(zip((names[i] for i in new), values.tolist(), strict=True))
        return torch.tensor([self.known[name] for name in names], dtype=torch.float64)[place]


def _interactions(
    value: _Values, cut: Tensor, lengths: Tensor, of: Tensor, at: Tensor, window: int, masks: int
) -> Tensor:
    """Return the interaction at candidate cuts ``at`` of rows ``of``, float64 ``(C,)``."""
    patterns = _patterns(window)
    table, signs = _table(patterns)
    size = patterns.sum(dim=1)
    weights = torch.stack([_padded(interaction_weights(n), 2 * window + 1) for n in range(2 * window + 1)])
    result = torch.zeros(len(of), dtype=torch.float64)
    for some in torch.arange(len(of)).split(max(1, masks // len(table))):
        slots, there = _slots(cut, lengths, of[some], at[some], window)
        real = (patterns[None] <= there[:, None]).all(dim=2)  # coalitions of parts that are there, (C, P)
        each, which = real.nonzero().unbind(dim=1)
        weight = weights[there.sum(dim=1)[each], size[which]]
        index = which[:, None] * 4 + torch.arange(4)  # of the table
        present = table[index[..., None], slots[each][:, None]].flatten(0, 1)
        values = value(of[some][each].repeat_interleave(4), present)
        result.index_add_(0, some[each], weight * (values.view(-1, 4) * signs).sum(dim=1))
    return result


def _patterns(window: int) -> Tensor:
    """Return every coalition of the neighbours, bool ``(4^window, 2 window)``."""
    return (torch.arange(4**window)[:, None] >> torch.arange(2 * window)) & 1 == 1


def _table(patterns: Tensor) -> tuple[Tensor, Tensor]:
    """Return what is present by slot, for each coalition with both parts, the left, the right, none, and the signs.

    Slots are the neighbours, the left part, the right part, and all else, which is absent.
    """
    both = torch.tensor([[True, True], [True, False], [False, True], [False, False]])
    rows = len(patterns)
    table = torch.cat(
        [
            patterns.repeat_interleave(4, dim=0),
            both.repeat(rows, 1),
            torch.zeros(4 * rows, 1, dtype=torch.bool),
        ],
        dim=1,
    )
    return table, torch.tensor([1.0, -1.0, -1.0, 1.0], dtype=torch.float64)


def _slots(cut: Tensor, lengths: Tensor, of: Tensor, at: Tensor, window: int) -> tuple[Tensor, Tensor]:
    """Return the slot of each unit ``(C, L)``, and which neighbours are there ``(C, 2 window)``."""
    units = torch.arange(cut.shape[1] + 1)
    part = torch.cat([torch.zeros(len(cut), 1, dtype=torch.long), cut.long().cumsum(dim=1)], dim=1)[of]
    left = part.gather(1, at[:, None])
    part = part + (units > at[:, None]) - left  # 0 the left part, 1 the right one
    before, after = part + window, part + window - 2
    slots = torch.full_like(part, 2 * window + 2)
    slots = torch.where((part < 0) & (before >= 0), before, slots)
    slots = torch.where((part > 1) & (after < 2 * window), after, slots)
    slots = torch.where(part == 0, 2 * window, torch.where(part == 1, 2 * window + 1, slots))
    slots = slots.masked_fill(units >= lengths[of][:, None], 2 * window + 2)
    last = part.gather(1, (lengths[of] - 1)[:, None])
    far = torch.arange(window)
    there = torch.cat([window - far <= left, far + 2 <= last], dim=1)
    return slots, there


def _neighbourhoods(cut: Tensor, lengths: Tensor, window: int) -> Tensor:
    """Return what an interaction at each place depends on, long ``(N, L − 1, 3)``: where its neighbours begin and end.

    Parts are only ever divided, so that the same ends with as many cuts between are the same parts.
    """
    rows, places = cut.shape
    part = torch.cat([torch.zeros(rows, 1, dtype=torch.long), cut.long().cumsum(dim=1)], dim=1)
    inside = torch.arange(places + 1) < lengths[:, None]
    part = torch.where(inside, part, torch.full_like(part, 2 * places + 2 * window + 4))  # a part of no text
    own = part[:, :-1]
    begin = torch.searchsorted(part, (own - window).clamp(min=0).contiguous())
    end = torch.searchsorted(part, (own + window).contiguous(), right=True)
    last = part.gather(1, (end - 1).clamp(min=0))
    return torch.stack([begin, end, last - part.gather(1, begin.clamp(max=places))], dim=2)


def _weakest(strength: Tensor, allowed: Tensor, largest: Tensor) -> Iterator[tuple[int, int]]:
    """Yield each row that can be cut, and where it is weakest; what is not a number is cut last."""
    known = strength.nan_to_num(math.inf, math.inf, -math.inf).masked_fill(~allowed, math.inf)
    least = known.amin(dim=1, keepdim=True) if known.shape[1] else known
    ties = (known <= least + ROUNDING * largest[:, None]) & allowed
    for row in allowed.any(dim=1).nonzero().flatten().tolist():
        yield row, int(ties[row].int().argmax())


def _around(cut: Tensor, place: int, length: int) -> Span:
    """Return the span that a place lies in."""
    cuts = cut.nonzero().flatten()
    before, after = cuts[cuts < place], cuts[cuts > place]
    return int(before[-1]) + 1 if len(before) else 0, int(after[0]) + 1 if len(after) else length


def _padded(weights: Tensor, size: int) -> Tensor:
    return torch.nn.functional.pad(weights, (0, size - len(weights)))
