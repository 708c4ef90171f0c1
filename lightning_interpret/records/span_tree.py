"""The record of a hierarchical explanation: spans of a text with scores, from the whole down to its units."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import ClassVar

from lightning_interpret.records.row import Rows
from lightning_interpret.records.tokens import TokensRow


@dataclass(frozen=True)
class SpanNode:
    """One span of the tree.

    Attributes:
        start: Its first unit.
        end: The unit after its last.
        score: What it contributes to the target, as the method measures that.
        parent: Number of the span that it is a part of; ``None`` for the whole text.
        children: Numbers of its parts, in reading order; none of a leaf.
        interaction: Between its parts, what made the method cut there, or join there; ``None`` of a leaf.
    """

    start: int
    end: int
    score: float
    parent: int | None = None
    children: tuple[int, ...] = ()
    interaction: float | None = None


@dataclass(frozen=True, kw_only=True)
class SpanTreeRow(TokensRow):
    """The tree of spans of one prediction; its leaves are the text's units, or partition them.

    Attributes:
        nodes: The spans, level by level from the whole text, each level in reading order; none of an empty text.
        unit: What ``start`` and ``end`` count: ``word`` (of ``words``) or ``token`` (of those that are not special).
        method: How it was found.
        measure: What a score is, in words.
        joins: What an interaction is, in words.
        baseline: What stands at absent units.
        output: ``logit``, ``log_prob``, ``prob`` or ``margin``.
        target_name: What is explained.
        span: First token that the target is at and one past the last; a token that is written stands behind ``tokens``.
            None where it is at no place.
        target: F(x).
        baseline_target: F(x'), with nothing of the text there.
        erased: By how much the target falls without the ``foremost`` span.
        control: The same of random spans as long, their mean.
        forwards: Forward passes that the tree took.
    """

    kind: ClassVar[str] = "span_tree"
    parts: ClassVar[Mapping[str, type]] = {"nodes": SpanNode}

    nodes: tuple[SpanNode, ...] = ()
    unit: str = "word"
    method: str | None = None
    measure: str | None = None
    joins: str | None = None
    baseline: str | None = None
    output: str | None = None
    target_name: str | None = None
    span: tuple[int, int] | None = None
    target: float | None = None
    baseline_target: float | None = None
    erased: float | None = None
    control: float | None = None
    forwards: int | None = None

    @property
    def units(self) -> tuple[str, ...]:
        """The text of each unit."""
        if self.unit == "word":
            return self.words
        return tuple(text for i, text in enumerate(self.tokens) if not any(self.special[i : i + 1]))

    def text_of(self, node: SpanNode) -> str:
        """Return the text of a span, its units joined by blanks."""
        texts = self.units[max(0, node.start) : max(0, node.end)]
        return " ".join(texts) or f"{self.unit}s {node.start} to {node.end - 1}"

    @property
    def levels(self) -> tuple[int, ...]:
        """How far each span is from the whole text: 0, 1, 2, ..."""
        found: list[int] = []
        for node in self.nodes:  # a parent comes before its parts; what a file says otherwise is a text of its own
            known = node.parent is not None and 0 <= node.parent < len(found)
            found.append(found[node.parent] + 1 if known else 0)  # type: ignore[index]
        return tuple(found)

    @property
    def depth(self) -> int:
        """The largest level."""
        return max(self.levels, default=0)

    @property
    def spans(self) -> frozenset[tuple[int, int]]:
        """Where the spans lie that the method chose: neither the whole text nor a single unit."""
        whole = (min((n.start for n in self.nodes), default=0), max((n.end for n in self.nodes), default=0))
        found = ((node.start, node.end) for node in self.nodes)
        return frozenset(span for span in found if span != whole and span[1] - span[0] > 1)

    @property
    def foremost(self) -> SpanNode | None:
        """The span of the highest score among those of at most half the text, of equal ones the shortest, the first.

        A span of more could not be compared with another one as long; a text of one unit has none.
        """
        length = max((node.end for node in self.nodes), default=0)
        short = [node for node in self.nodes if 2 * (node.end - node.start) <= length and math.isfinite(node.score)]
        return min(short, key=lambda node: (-node.score, node.end - node.start, node.start), default=None)

    def pruned(self, most: int) -> SpanTreeRow:
        """Return the tree with its topmost levels only, at most so many spans and at least the whole text.

        The leaves still partition the text.
        """
        if len(self.nodes) <= most:
            return self
        levels = self.levels
        sizes = accumulate(count for _, count in sorted(Counter(levels).items()))  # spans down to each level
        kept = max(1, sum(size <= most for size in sizes))
        known = [i for i, level in enumerate(levels) if level < kept]
        number = {i: place for place, i in enumerate(known)}
        nodes = tuple(
            replace(self.nodes[i], children=tuple(number[k] for k in self.nodes[i].children if k in number))
            for i in known
        )
        return replace(self, nodes=nodes)


class SpanTree(Rows[SpanTreeRow]):
    """The trees of spans of N predictions, one row each.

    Attributes:
        rows: A row a prediction, in their order.
    """
