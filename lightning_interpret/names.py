"""Checks of options, and the words of their errors: what was given, what there is, and what is near."""

import math
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any


def unknown(argument: str, value: object, known: Iterable[object], *, limit: int = 12) -> str:
    """Return the message for a name that does not exist, with the near ones first.

    Args:
        argument: The option as the user wrote it.
        value: What was given.
        known: Everything that would have been accepted.
        limit: How many names to print at most.
    """
    names = [str(name) for name in known]
    near = get_close_matches(str(value), names, n=3, cutoff=0.5)
    shown = ", ".join(names[:limit]) + (f", ... ({len(names)} in all)" if len(names) > limit else "")
    hint = f" Did you mean {' or '.join(repr(name) for name in near)}?" if near else ""
    return f"`{argument}={value!r}` does not exist.{hint} There is: {shown or 'none'}."


def choose(argument: str, value: str, known: Iterable[str]) -> str:
    """Return ``value`` if it is one of ``known``.

    Raises:
        ValueError: If it is not; the message names the near ones.
    """
    names = list(known)
    if value not in names:
        raise ValueError(unknown(argument, value, names))
    return value


def check_whole(least: int = 1, /, **options: Any) -> None:
    """Raise a ``ValueError`` for options that are no whole numbers of at least ``least``."""
    for name, value in options.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(f"`{name}={value!r}` must be a whole number of at least {least}.")


def check_index(**options: Any) -> None:
    """Raise a ``ValueError`` for options that are neither whole numbers, from the end if negative, nor None."""
    for name, value in options.items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
            raise ValueError(f"`{name}={value!r}` must be a whole number: 0 is the first, -1 the last.")


def check_positive(**options: float) -> None:
    """Raise a ``ValueError`` for options that are no finite numbers above 0."""
    for name, value in options.items():
        if not 0 < value < math.inf:
            raise ValueError(f"`{name}={value!r}` must be positive and finite.")


def check_finite(**options: float) -> None:
    """Raise a ``ValueError`` for options that are no finite numbers."""
    for name, value in options.items():
        if not -math.inf < value < math.inf:
            raise ValueError(f"`{name}={value!r}` must be a finite number.")


def check_seed(seed: Any) -> None:
    """Raise a ``ValueError`` for what no random generator takes as its seed."""
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**63:
        raise ValueError(f"`seed={seed!r}` must be a whole number from 0 to 2⁶³ − 1.")
