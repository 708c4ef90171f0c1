"""Sentences by key in several languages: a catalogue a language, a file each, with placeholders and plurals.

A catalogue file is JSON ``{"code": "fr", "name": "Français", "direction": "ltr", "sentences": {key: sentence}}``. The
keys and their placeholders are those of ``catalogues/en.json``. A sentence is a text, or one text a plural category of
the language (``{"one": ..., "other": ...}``), which its ``{count}`` decides. What it has no sentence for is said in
English.
"""

from __future__ import annotations

import json
import math
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Formatter
from typing import Any

from lightning_interpret.report.plurals import CATEGORIES, category
from lightning_interpret.texts import printable

#: Languages that come with the package.
BUILT_IN = ("en", "zh")
_CODE = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{1,8}){0,3}")
_LISTED = 8  # keys that a warning names


class Html(str):
    """A text that is HTML already; any other text is escaped."""

    __slots__ = ()


@dataclass(frozen=True)
class Share:
    """A share from 0 to 1, said as per cent."""

    value: float | None


@dataclass(frozen=True)
class Said:
    """A sentence, or part of one, in whatever language it is asked for."""

    key: str
    values: Mapping[str, Any]


def said(key: str, **values: Any) -> Said:
    """Return a sentence to be said: values are whole numbers, shares, texts, HTML, sentences, or a list of these."""
    return Said(key, values)


@dataclass(frozen=True)
class Catalogue:
    """The sentences of one language.

    Attributes:
        code: Code of the language, as in HTML's ``lang``.
        name: What speakers of it call it.
        direction: ``ltr`` or ``rtl``.
        sentences: By key a text, or a text a plural category.
        english: The catalogue for what it has no sentence of; ``None`` of English itself.
    """

    code: str
    name: str
    direction: str
    sentences: Mapping[str, str | Mapping[str, str]]
    english: Catalogue | None = None

    def html(self, sentence: Said) -> Html:
        """Return a sentence as HTML: its own words escaped, each value in its place."""
        if sentence.key not in self.sentences and self.english is not None:
            return Html(f'<span lang="en" dir="ltr">{self.english.html(sentence)}</span>')
        parts = (
            escape(printable(literal)) + ("" if name is None else self._value(sentence.values[name]))
            for literal, name in _pieces(self._form(sentence))
        )
        return Html("".join(parts))

    def _form(self, sentence: Said) -> str:
        found = self.sentences[sentence.key]
        if isinstance(found, str):
            return found
        count = sentence.values.get("count")
        return found.get(category(self.code, count) if isinstance(count, int) else "other", found["other"])

    def _value(self, value: Any) -> str:
        if isinstance(value, Html):
            return value
        if isinstance(value, Said):
            return self.html(value)
        if isinstance(value, Share):
            return self._percent(value.value)
        if isinstance(value, int):
            return f"{value:,}".replace(",", escape(printable(self.text("format.thousands"))))
        if isinstance(value, str):
            return f'<bdi dir="auto">{escape(printable(value))}</bdi>'
        return self._list([self._value(each) for each in value])

    def _percent(self, share: float | None) -> str:
        if share is None or not math.isfinite(share):
            return "–"
        number = str(round(100 * share))
        if number in ("0", "100") and 0 < share < 1:  # what is not all of it is not said to be
            number = {"0": "<1", "100": ">99"}[number]
        return self.html(said("format.percent", number=Html(escape(number))))

    def _list(self, parts: Sequence[str]) -> str:
        if len(parts) < 2:
            return "".join(parts)
        first = escape(printable(self.text("list.comma"))).join(parts[:-1])
        return self.html(said("list.last", first=Html(first), last=Html(parts[-1])))

    def text(self, key: str) -> str:
        """Return a sentence without placeholders or plurals as it is in the file, not escaped."""
        found = self.sentences.get(key)
        return found if isinstance(found, str) else str((self.english or self).sentences[key])


class Voices:
    """Says a sentence in several languages side by side, of which a page shows one.

    Attributes:
        catalogues: The first one is shown until a reader chooses another.
    """

    def __init__(self, catalogues: Sequence[Catalogue]) -> None:
        self.catalogues = tuple(catalogues)

    def __call__(self, key: str, **values: Any) -> Html:
        """Return a sentence as HTML, one element a language."""
        return self.of(said(key, **values))

    def of(self, sentence: Said) -> Html:
        """Return a sentence that was made before."""
        spans = (
            f'<span class="t t-{each.code}" lang="{each.code}" dir="{each.direction}">{each.html(sentence)}</span>'
            for each in self.catalogues
        )
        return Html("".join(spans))


def catalogues_of(language: str) -> list[Catalogue]:
    """Return the catalogues of a page: that of ``language`` first, then the others that come with the package.

    Args:
        language: ``en``, ``zh``, or the path of a catalogue file; a file of one of these replaces it.

    Raises:
        ValueError: If there is no such language, or the file is no catalogue; the message names the key.
        OSError: If the file cannot be read.
    """
    if language in BUILT_IN:
        chosen = built_in(language)
    elif language.endswith(".json"):
        chosen = read(language)
    else:
        known = ", ".join(map(repr, BUILT_IN))
        raise ValueError(f"`language` is {language!r}: give one of {known}, or the path of a catalogue file (.json).")
    return [chosen, *(built_in(code) for code in BUILT_IN if code != chosen.code)]


@cache
def built_in(code: str) -> Catalogue:
    """Return the catalogue of a language that comes with the package."""
    text = files("lightning_interpret.report").joinpath("catalogues", f"{code}.json").read_text(encoding="utf8")
    return _made(json.loads(text), f"{code}.json", None if code == "en" else built_in("en"))


def read(path: str | Path) -> Catalogue:
    """Return the catalogue of a file; what it lacks, and what no page says, is warned of once.

    Raises:
        ValueError: If the file is no catalogue, or a sentence has other placeholders than in English.
        OSError: If the file cannot be read.
    """
    english = built_in("en")
    try:
        found = json.loads(Path(path).read_text(encoding="utf8"))
    except ValueError as error:
        raise ValueError(f"The catalogue {path} is not JSON in UTF-8: {error}.") from error
    made = _made(found, str(path), english)
    missing = [key for key in english.sentences if key not in made.sentences]
    unknown = [key for key in made.sentences if key not in english.sentences]
    told = [f"has no {_named(missing)}, said in English"] * bool(missing)
    told += [f"has {_named(unknown)}, which no page says"] * bool(unknown)
    if told:
        warnings.warn(f"The catalogue {path} {' and '.join(told)}.", stacklevel=3)
    return made


def _named(keys: Sequence[str]) -> str:
    more = f" and {len(keys) - _LISTED} more" if len(keys) > _LISTED else ""
    return ", ".join(map(repr, keys[:_LISTED])) + more


def _made(found: Any, name: str, english: Catalogue | None) -> Catalogue:
    if not isinstance(found, Mapping) or not isinstance(found.get("sentences"), Mapping):
        raise ValueError(f"The catalogue {name} has to be an object with `code`, `name` and an object `sentences`.")
    code, own, direction = found.get("code"), found.get("name"), found.get("direction", "ltr")
    if not isinstance(code, str) or not _CODE.fullmatch(code):
        raise ValueError(f"The catalogue {name} has `code` {code!r}: give a language's code, such as 'fr'.")
    if not isinstance(own, str) or not own.strip():
        raise ValueError(f"The catalogue {name} has `name` {own!r}: give what the language calls itself.")
    if direction not in ("ltr", "rtl"):
        raise ValueError(f"The catalogue {name} has `direction` {direction!r}: give 'ltr' or 'rtl'.")
    for key, sentence in found["sentences"].items():
        _check(name, key, sentence, english)
    return Catalogue(code, own, direction, dict(found["sentences"]), english)


def _check(name: str, key: str, sentence: Any, english: Catalogue | None) -> None:
    """Refuse what cannot be said in the place of the English sentence."""
    forms = {"other": sentence} if isinstance(sentence, str) else sentence
    if not isinstance(forms, Mapping) or "other" not in forms or not set(forms) <= set(CATEGORIES):
        raise ValueError(
            f"The catalogue {name} has under {key!r} neither a text nor texts by plural category, among them 'other': "
            f"{sentence!r}."
        )
    needed = None if english is None or key not in english.sentences else _names(_other(english.sentences[key]))
    for form, text in forms.items():
        try:
            names = _names(text)
        except (TypeError, ValueError) as error:
            raise ValueError(f"The catalogue {name} has under {key!r} no sentence: {text!r} ({error}).") from error
        spared = {"count"} if form != "other" else set()
        if needed is not None and not needed - spared <= names <= needed:
            raise ValueError(
                f"The catalogue {name} has under {key!r} the placeholders {_braced(names)}: it needs {_braced(needed)}."
            )


def _other(sentence: str | Mapping[str, str]) -> str:
    return sentence if isinstance(sentence, str) else sentence["other"]


def _braced(names: set[str]) -> str:
    return ", ".join(f"{{{name}}}" for name in sorted(names)) or "none"


def _names(text: str) -> set[str]:
    return {name for _, name in _pieces(text) if name is not None}


def _pieces(text: str) -> Iterator[tuple[str, str | None]]:
    """Yield the words of a sentence with the placeholder that follows each; only plain names are placeholders."""
    for literal, name, form, conversion in Formatter().parse(text):
        if name is not None and (form or conversion or not name.isidentifier()):
            raise ValueError("a placeholder is a name in braces, such as {count}")
        yield literal, name
