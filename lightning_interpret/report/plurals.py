"""Which form of a noun goes with a whole number, by language: the categories of Unicode's CLDR for integers."""

from __future__ import annotations

from collections.abc import Callable

CATEGORIES = ("zero", "one", "two", "few", "many", "other")


def category(language: str, count: int) -> str:
    """Return the category of a count, ``one`` or ``other`` in a language that is not listed here.

    Args:
        language: A code such as ``en`` or ``pt-BR``; what follows the first part makes no difference.
        count: The number, not below 0.
    """
    return _RULES.get(language.split("-")[0].lower(), _english)(count)


def _english(n: int) -> str:
    return "one" if n == 1 else "other"


def _none(n: int) -> str:
    return "other"


def _french(n: int) -> str:
    return "one" if n in (0, 1) else "other"


def _east_slavic(n: int) -> str:
    if n % 10 == 1 and n % 100 != 11:
        return "one"
    return "few" if n % 10 in (2, 3, 4) and n % 100 not in (12, 13, 14) else "many"


def _south_slavic(n: int) -> str:
    found = _east_slavic(n)
    return "other" if found == "many" else found


def _polish(n: int) -> str:
    if n == 1:
        return "one"
    return "few" if n % 10 in (2, 3, 4) and n % 100 not in (12, 13, 14) else "many"


def _czech(n: int) -> str:
    return {1: "one", 2: "few", 3: "few", 4: "few"}.get(n, "other")


def _arabic(n: int) -> str:
    if n < 3:
        return ("zero", "one", "two")[n]
    return "few" if 3 <= n % 100 <= 10 else "many" if n % 100 >= 11 else "other"


def _hebrew(n: int) -> str:
    return {1: "one", 2: "two"}.get(n, "other")


_RULES: dict[str, Callable[[int], str]] = {
    **dict.fromkeys(("zh", "ja", "ko", "vi", "th", "id", "ms", "lo", "my"), _none),
    **dict.fromkeys(("fr", "pt", "hi", "fa", "bn", "hy"), _french),
    **dict.fromkeys(("ru", "uk", "be"), _east_slavic),
    **dict.fromkeys(("sr", "hr", "bs"), _south_slavic),
    **{"pl": _polish, "cs": _czech, "sk": _czech, "ar": _arabic, "he": _hebrew},
}
