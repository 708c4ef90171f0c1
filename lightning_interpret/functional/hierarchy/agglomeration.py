"""Bottom-up agglomeration: neighbours that do most together are joined first (Singh, Murdoch and Yu, 2019, ACD)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from torch import Tensor

from lightning_interpret.functional.hierarchy.division import ROUNDING
from lightning_interpret.functional.hierarchy.tree import Span

#: The scores of spans: of rows ``(M,)``, from units ``(M,)`` to units ``(M,)``.
Score = Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclass
class Agglomeration:
    """How a text was put together.

    Attributes:
        parts: The parts of each span that was joined, and their interaction: its score less the sum of theirs.
        scores: The score of every span that was looked at.
        rounding: What two joint contributions may differ by and still be called equal, at least.
    """

    parts: dict[Span, tuple[list[Span], float]] = field(default_factory=dict)
    scores: dict[Span, float] = field(default_factory=dict)
    rounding: float = 0.0

    def joint(self, first: Span, second: Span) -> float:
        """Return what two neighbours contribute together beyond what each does."""
        return self.scores[first[0], second[1]] - self.scores[first] - self.scores[second]


def agglomerate(
    score: Score, lengths: Sequence[int], *, percentile: float = 95.0, scale: Sequence[float] = ()
) -> list[Agglomeration]:
    """Return how the units of N texts are joined to the whole, neighbours with the largest joint contribution first.

    The joint contribution of neighbours A and B is s(A ∪ B) − s(A) − s(B). In a step those pairs of a text are joined
    whose |joint contribution| is in the top ``100 − percentile`` per cent, at least one; pairs with a span in common
    make one span of three parts or more. A step needs at most the spans that its joins have made possible, so that
    the whole takes fewer than 4 L scores; the steps of all texts are made side by side.

    Of pairs that are equal but for rounding, and of those that are not a number, the first in the text goes first.

    Args:
        score: The scores of spans.
        lengths: The units of each text.
        percentile: From 0, where all are joined at once, to 100, where one pair is.
        scale: Of each text the size of the numbers that its scores are differences of, which rounding is a share of.

    Raises:
        ValueError: If ``percentile`` is out of its range.
    """
    if not 0 <= percentile <= 100:
        raise ValueError(f"`percentile={percentile!r}` must be from 0 to 100.")
    made = [Agglomeration(rounding=ROUNDING * abs(size)) for size in scale or [0.0] * len(lengths)]
    spans: list[list[Span]] = [[(i, i + 1) for i in range(length)] for length in lengths]
    _look(score, made, [{*of, *_unions(of)} for of in spans])
    while any(len(of) > 1 for of in spans):
        spans = [_joined(each, of, percentile) for each, of in zip(made, spans, strict=True)]
        _look(score, made, [{*of, *_unions(of)} for of in spans])
    for each in made:
        for span, (parts, _) in each.parts.items():
            together = each.scores[span] - sum(each.scores[part] for part in parts)
            each.parts[span] = parts, together
    return made


def _unions(spans: Sequence[Span]) -> list[Span]:
    return [(first[0], second[1]) for first, second in pairwise(spans)]


def _look(score: Score, made: Sequence[Agglomeration], wanted: Iterable[set[Span]]) -> None:
    """Score the spans that have no score yet."""
    new = [(row, *span) for row, spans in enumerate(wanted) for span in sorted(spans - made[row].scores.keys())]
    if not new:
        return
    rows, starts, ends = torch.tensor(new).unbind(dim=1)
    for (row, start, end), found in zip(new, score(rows, starts, ends).tolist(), strict=True):
        made[row].scores[start, end] = found


def _joined(made: Agglomeration, spans: list[Span], percentile: float) -> list[Span]:
    """Return the spans after a step."""
    if len(spans) < 2:
        return spans
    sizes = [abs(made.joint(*pair)) for pair in pairwise(spans)]
    sizes = [size if math.isfinite(size) else -1.0 for size in sizes]
    largest = max((abs(s) for s in made.scores.values() if math.isfinite(s)), default=0.0)
    rounding = max(made.rounding, ROUNDING * largest)
    count = max(1, math.ceil(len(sizes) * (1 - percentile / 100) - 1e-9))
    least = sorted(sizes, reverse=True)[count - 1]
    above = [i for i, size in enumerate(sizes) if size > least + rounding]
    ties = [i for i, size in enumerate(sizes) if abs(size - least) <= rounding]
    chosen = {*above, *ties[: count - len(above)]}
    groups: list[list[Span]] = [[spans[0]]]
    for i, span in enumerate(spans[1:]):
        if i in chosen:
            groups[-1].append(span)
        else:
            groups.append([span])
    for group in groups:
        if len(group) > 1:
            made.parts[group[0][0], group[-1][1]] = group, math.nan  # until its score is known
    return [(group[0][0], group[-1][1]) for group in groups]
