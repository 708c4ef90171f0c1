"""Which training examples a record is not about, and why: out of time, unreadable, or lost with a process."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from torch import Tensor

from lightning_interpret.methods.examples import Examples, id_batches

T = TypeVar("T")

_NAMED = 5  # of what is more, the number is said


@dataclass(frozen=True)
class Shortfall:
    """What one process did not do of its share.

    Attributes:
        failed: Queries that it has no evidence for, as it failed.
        late: Whether its time was spent.
        unreadable: Training examples that could not be read: their ids or, where only they tell it, their indices.
        error: What was wrong with the first of those.
    """

    failed: int = 0
    late: bool = False
    unreadable: tuple[int, ...] = ()
    error: str | None = None


def said(parts: Sequence[Shortfall], asked: int, found: int, max_seconds: float | None) -> tuple[str, ...]:
    """Return what a record says of training examples that are missing in it; nothing where none is.

    Args:
        parts: Of every process.
        asked: How many examples there should be.
        found: How many there are.
        max_seconds: The Monitor's.
    """
    if found >= asked:
        return ()
    why = []
    if failed := sum(part.failed > 0 for part in parts):
        why.append(f"{failed} of {len(parts)} processes failed")
    if any(part.late for part in parts):
        why.append(f"`max_seconds={max_seconds:g}` was spent")
    if ids := sorted({i for part in parts for i in part.unreadable}):
        why.append(unreadable(ids, next(part.error for part in parts if part.unreadable)))
    return (f"{found} of {asked} training examples were asked" + (f": {'; '.join(why)}" if why else ""),)


def unreadable(ids: Sequence[int], error: str | None) -> str:
    """Return in words which examples could not be read."""
    more = ", ..." if len(ids) > _NAMED else ""
    return f"{len(ids)} cannot be read: {', '.join(map(str, ids[:_NAMED]))}{more} ({error})"


class UntilLate:
    """Training examples that are read until it is late: at least one batch of them.

    Args:
        examples: The training examples.
        end: When it is late, by ``time.perf_counter()``.
        late: Called when batches are left out.
        last: When it is too late, for examples that a method goes through several times: each pass is of those that the
            first had time for, as curvature of one set and another would be of neither. ``None`` for passes that have
            nothing to do with each other, of which each ends when it is late.

    Raises:
        TimeoutError: While reading, if a further pass is not done at ``last``.
    """

    def __init__(self, examples: Examples, end: float, late: Callable[[], None], last: float | None = None) -> None:
        self._examples, self._end, self._late, self._last = examples, end, late, last
        self._count: int | None = None  # batches of a pass that is done

    def batches(self) -> Iterator[tuple[Tensor, Any]]:
        """Yield ids and batches while there is time."""
        number = 0
        for part in self._examples.batches():
            now = time.perf_counter()
            if self._count is None:
                if number and now > self._end:
                    self._late()
                    break
            elif number == self._count:
                return
            elif self._last is not None and now > self._last:
                self._late()
                raise TimeoutError("the method goes through the training data several times, and its time is spent")
            yield part
            number += 1
        if self._last is not None:
            self._count = number

    def id_batches(self, size: int) -> Iterator[Tensor] | None:
        """Yield ids while there is time; None where only reading tells them, or each pass is of what the first was."""
        known = None if self._last is not None else id_batches(self._examples, size)
        return None if known is None else self.in_time(known)

    def in_time(self, parts: Iterable[T]) -> Iterator[T]:
        """Yield parts of some work while there is time, at least one."""
        for number, part in enumerate(parts):
            if number and time.perf_counter() > self._end:
                self._late()
                return
            yield part

    def take(self, ids: Sequence[int]) -> Iterator[tuple[Tensor, Any]]:
        """Yield the batches of the examples with these ids."""
        return self._examples.take(ids)
