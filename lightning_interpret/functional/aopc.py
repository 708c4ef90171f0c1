"""The area over the perturbation curve, and the least and the most of it that any order of a text's units reaches."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lightning_interpret.functional.erasure import BINS, Kept, ask, in_chunks, sizes
from lightning_interpret.names import check_whole

#: Units up to which every order can be tried.
MOST_UNITS = 14


def aopc(values: Tensor, *, paper: bool = False) -> Tensor:
    """Return the mean over the bins, ``(..., bins)`` to ``(...)``: the area over the curve, as ERASER's code has it.

    ERASER's paper (DeYoung et al., 2020) divides by the number of bins plus one (``paper=True``), which is
    5/6 of this with five.
    """
    return values.sum(dim=-1) / (values.shape[-1] + 1) if paper else values.mean(dim=-1)


def normalized_aopc(values: Tensor, lowest: Tensor, highest: Tensor) -> Tensor:
    """Return (AOPC − lowest) / (highest − lowest), ``(N,)`` (Edin et al., 2025, *Normalized AOPC*).

    Models differ in what any order can reach; this is 0 at the lowest and 1 at the highest. NaN where no order matters:
    the two are within 1e-6.

    Args:
        values: AOPC, ``(..., N)``.
        lowest: The lowest that an order reaches on this row, as :func:`aopc_limits` finds it, ``(N,)``.
        highest: The highest.
    """
    width = highest - lowest
    return ((values - lowest) / width).where(width > 1e-6, torch.nan)


def aopc_limits(
    counts: Tensor,
    kept: Kept,
    *,
    bins: Sequence[int] = BINS,
    sufficient: bool = False,
    beam: int | None = None,
    chunk: int = 64,
) -> tuple[Tensor, Tensor]:
    """Return the lowest and the highest AOPC that any order of the units reaches, each ``(N,)``.

    Up to 14 units they are exact: all sets of the sizes that a bin takes are tried once, then the best chain from
    nothing to everything is found set by set, so that the n! orders need no trial. Beyond that a beam search, where one
    is asked for, gives what it has reached: the limits may lie further out.

    Args:
        counts: Bool ``(N, T)``, the units that count.
        kept: The model, given which units are present.
        bins: Shares of the units, whole percent.
        sufficient: Whether it is the AOPC of sufficiency and not of comprehensiveness.
        beam: Sets of each size from which the search goes on, on rows of more than 14 units; each costs as many masks
            as the row has units, for each size up to the largest bin's, twice.
        chunk: Masks in one call of ``kept``.

    Raises:
        ValueError: If a row has more than 14 units that count, and there is no beam.
    """
    units = counts.sum(dim=1)
    long = units > MOST_UNITS
    if beam is None and bool(long.any()):
        raise ValueError(
            f"`counts` has {int(units.max())} units in a row: every order can be tried up to {MOST_UNITS}. "
            "Give `beam=` for a search that is not exact."
        )
    found = torch.zeros(2, len(counts), dtype=torch.float64, device=counts.device)
    for where in (rows for rows in ((~long).nonzero().flatten(), long.nonzero().flatten()) if len(rows)):

        def of(masks: Tensor, rows: Tensor, where: Tensor = where) -> Tensor:
            return kept(masks, where[rows])

        if beam is None or not bool(long[where[0]]):
            limits = _exact(counts[where], of, bins, sufficient, chunk)
        else:
            sides = [_searched(counts[where], of, bins, sufficient, beam, sign, chunk) for sign in (-1, 1)]
            limits = sides[0], sides[1]
        found[:, where] = torch.stack(limits)
    return found[0], found[1]


def _exact(counts: Tensor, kept: Kept, bins: Sequence[int], sufficient: bool, chunk: int) -> tuple[Tensor, Tensor]:
    units = int(counts.sum(dim=1).max())
    sets = torch.arange(2**units, device=counts.device)
    everything = 2 ** counts.sum(dim=1) - 1
    holds = (sets[:, None] >> torch.arange(units, device=counts.device)) & 1 == 1  # (sets, units)
    size = holds.sum(dim=1)
    times = (sizes(counts, bins)[:, :, None] == size).sum(dim=0)  # (N, sets): how many bins see a set of this size
    row, chosen = ((times > 0) & (sets <= everything[:, None])).nonzero(as_tuple=True)
    which = (counts.cumsum(dim=1) - 1).clamp(0, max(units - 1, 0))  # the unit's number among those that count
    absent = holds[chosen[:, None], which[row]] & counts[row] if units else counts[row]
    gains = torch.zeros(times.shape, dtype=torch.float64, device=counts.device)
    gains[row, chosen] = times[row, chosen] * _lost(counts, absent, row, kept, sufficient, chunk)
    found = []
    for extreme, none in ((torch.amin, torch.inf), (torch.amax, -torch.inf)):
        reached = torch.zeros_like(gains)
        for k in range(1, units + 1):
            of_size = (size == k).nonzero().flatten()
            before = of_size[:, None] ^ (1 << torch.arange(units, device=counts.device))  # without one of its units
            earlier = reached[:, before.flatten()].unflatten(1, before.shape).masked_fill(~holds[of_size], none)
            reached[:, of_size] = gains[:, of_size] + extreme(earlier, dim=2)
        found.append(reached.gather(1, everything[:, None]).squeeze(1) / len(bins))
    return found[0], found[1]


def _searched(
    counts: Tensor, kept: Kept, bins: Sequence[int], sufficient: bool, beam: int, sign: int, chunk: int
) -> Tensor:
    """Return the highest (sign 1) or lowest (−1) AOPC that a beam reaches, going by the sum over all sizes so far."""
    check_whole(beam=beam)
    of_bins, units = sizes(counts, bins), counts.sum(dim=1)
    here = torch.arange(len(counts), device=counts.device)[:, None]
    chosen = torch.zeros(len(counts), beam, counts.shape[1], dtype=torch.bool, device=counts.device)
    reached = torch.zeros(len(counts), beam, dtype=torch.float64, device=counts.device)
    guide = torch.full_like(reached, -torch.inf)
    guide[:, 0] = 0  # all begin with nothing: one is enough
    for k in range(1, int(of_bins.max()) + 1):
        open_ = ~chosen & counts[:, None] & guide.isfinite()[:, :, None] & (units >= k)[:, None, None]
        row, parent, unit = open_.nonzero(as_tuple=True)
        sets = chosen[row, parent]
        sets[torch.arange(len(unit)), unit] = True
        values = _lost(counts, sets, row, kept, sufficient, chunk)
        scored = sign * values + guide[row, parent]
        first = _best_of_equal(torch.cat([row[:, None], sets.long()], dim=1), scored)
        wide = torch.full(open_.shape, -torch.inf, dtype=torch.float64, device=counts.device)
        wide[row[first], parent[first], unit[first]] = scored[first]
        gained = torch.zeros_like(wide)
        gained[row, parent, unit] = values * (of_bins[:, row] == k).sum(dim=0)
        best, place = wide.flatten(1).topk(beam, dim=1)
        mother, added = place // counts.shape[1], place % counts.shape[1]
        going = (units >= k)[:, None]
        after = chosen[here, mother]
        after.scatter_(2, added[:, :, None], True)
        chosen = torch.where(going[:, :, None], after, chosen)
        reached = torch.where(going, reached[here, mother] + gained.flatten(1).gather(1, place), reached)
        guide = torch.where(going, best, guide)
    ends = (sign * reached).masked_fill(~guide.isfinite(), -torch.inf)
    return sign * ends.amax(dim=1) / len(bins)


def _best_of_equal(keys: Tensor, scored: Tensor) -> Tensor:
    """Return the places of the best of those that have the same key."""
    _, of = keys.unique(dim=0, return_inverse=True)
    order = scored.argsort(descending=True, stable=True)
    order = order[of[order].argsort(stable=True)]
    ahead = torch.ones_like(order, dtype=torch.bool)
    ahead[1:] = of[order][1:] != of[order][:-1]
    return order[ahead]


def _lost(counts: Tensor, sets: Tensor, row: Tensor, kept: Kept, sufficient: bool, chunk: int) -> Tensor:
    """Return p(x) − p without sets of units ``(M, T)`` of rows ``(M,)``, or with them alone."""
    every = torch.arange(len(counts), device=counts.device)
    full = in_chunks(kept, torch.ones_like(counts), every, chunk)
    present = sets | ~counts[row] if sufficient else ~sets
    return (full[row] - ask(kept, present, row, counts, chunk)).double()
