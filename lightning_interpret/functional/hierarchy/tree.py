"""From what was cut, or put together, to a tree: its spans level by level."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Span = tuple[int, int]
#: The parts of each span that has some, in reading order, and the interaction between them.
Parts = Mapping[Span, tuple[Sequence[Span], float]]


@dataclass(frozen=True)
class Node:
    """A span of a tree.

    Attributes:
        start: Its first unit.
        end: The unit after its last.
        parent: Number of the span that it is a part of; ``None`` for the whole text.
        children: Numbers of its parts, in reading order.
        interaction: Between its parts; ``None`` of a leaf.
    """

    start: int
    end: int
    parent: int | None
    children: tuple[int, ...] = ()
    interaction: float | None = None


def level_order(length: int, parts: Parts) -> tuple[Node, ...]:
    """Return the spans of a text of ``length`` units from the whole down; none of an empty text."""
    spans: list[tuple[Span, int | None]] = [((0, length), None)] if length else []
    nodes: list[Node] = []
    for number, (span, parent) in enumerate(spans):  # which grows as it is gone through
        below, interaction = parts.get(span, ((), None))
        children = tuple(range(len(spans), len(spans) + len(below)))
        spans += [(part, number) for part in below]
        nodes.append(Node(*span, parent, children, interaction))
    return tuple(nodes)
