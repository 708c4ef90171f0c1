"""A part of a card: spans of a text as a tree, one a line, and where they lie on the words."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from lightning_interpret.palette import scale_of
from lightning_interpret.records.span_tree import SpanNode, SpanTreeRow
from lightning_interpret.texts import direction, shortened, signed

_LINES, _TEXT, _WORD = 40, 80, 40  # spans on a card, characters of each, of a word
_PICTURED, _LEVELS = 400, 12  # words and levels of a picture
_GAP = "\u00a0"  # a blank that no page takes away


@dataclass(frozen=True)
class Branch:
    """A span as a line.

    Attributes:
        lead: What stands before it and says what it is a part of.
        text: Its words, shortened.
        number: Its score as a text.
        strength: Its score as a share of the largest, in [-1, 1].
        joined: The interaction between its parts as a text, where there is one.
    """

    lead: str
    text: str
    number: str
    strength: float
    joined: str | None = None


@dataclass(frozen=True)
class Cell:
    """A span on the words, as a picture has it: its level, where it lies, and its score as a share of the largest."""

    level: int
    start: int
    end: int
    number: str
    strength: float


@dataclass(frozen=True)
class Tree:
    """Spans, level by level.

    Attributes:
        meaning: What a score is.
        branches: The topmost ones as lines, each followed by its parts.
        rest: What is said of those that are left out.
        words: The units, the first of a long text.
        cells: Where the spans lie on these, of the topmost levels.
        unseen: What is said of the levels and words that are left out of those.
        right_to_left: Whether the text is read from the right.
        largest: The score of the strongest colour.
    """

    meaning: str
    branches: tuple[Branch, ...]
    rest: str
    words: tuple[str, ...]
    cells: tuple[Cell, ...]
    unseen: str
    right_to_left: bool
    largest: float

    @classmethod
    def of(cls, row: SpanTreeRow) -> Tree | None:
        """Return the tree of a record; ``None`` where it has no spans."""
        if not row.nodes:
            return None
        largest = scale_of([node.score for node in row.nodes if math.isfinite(node.score)])
        some, levels, units = row.pruned(_LINES), row.levels, row.units
        left_out = len(row.nodes) - len(some.nodes)
        cells = tuple(
            Cell(level, max(0, node.start), min(node.end, _PICTURED), signed(node.score), _share(node, largest))
            for node, level in zip(row.nodes, levels, strict=True)
            if level < _LEVELS and node.start < _PICTURED
        )
        unseen = [f"{row.depth + 1 - _LEVELS} more levels"] if row.depth >= _LEVELS else []
        unseen += [f"{len(units) - _PICTURED} more {row.unit}s"] if len(units) > _PICTURED else []
        return cls(
            meaning=row.measure or "what it contributes",
            branches=tuple(_branches(some, largest)),
            rest=f"… {left_out} more spans below these." if left_out else "",
            words=tuple(shortened(word, _WORD) if word.strip() else "␣" for word in units[:_PICTURED]),
            cells=cells,
            unseen=" and ".join(unseen),
            right_to_left=direction(units) == "rtl",
            largest=largest,
        )

    def lines(self) -> Iterator[str]:
        """Yield the spans as lines of text, the numbers before them aligned."""
        wide = max(len(branch.number) for branch in self.branches)
        for branch in self.branches:
            yield f"  {branch.number:>{wide}}  {branch.lead}{branch.text}"
        if self.rest:
            yield f"  {self.rest}"


def _branches(row: SpanTreeRow, largest: float) -> Iterator[Branch]:
    """Yield the spans in reading order, each before its parts; deep trees are followed without recursion."""
    below: dict[int | None, list[int]] = {}
    for i, node in enumerate(row.nodes):
        parent = node.parent if node.parent is not None and 0 <= node.parent < i else None
        below.setdefault(parent, []).append(i)
    waiting = [(i, "", "") for i in reversed(below[None])]
    while waiting:
        i, lead, under = waiting.pop()
        node, parts = row.nodes[i], below.get(i, [])
        text = row.text_of(node)
        yield Branch(
            lead,
            shortened(text, _TEXT) if text.strip() else "␣",
            signed(node.score) if math.isfinite(node.score) else "–",
            _share(node, largest),
            None if node.interaction is None else signed(node.interaction),
        )
        for part in reversed(parts):
            last = part == parts[-1]
            bar = (" " if last else "│") + _GAP
            waiting.append((part, under + ("└" if last else "├") + _GAP, under + bar.replace(" ", _GAP)))


def _share(node: SpanNode, largest: float) -> float:
    return max(-1.0, min(1.0, node.score / largest)) if math.isfinite(node.score) else 0.0
