"""Words for errors: what was given, what there is, and what is near."""

from collections.abc import Iterable
from difflib import get_close_matches


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
