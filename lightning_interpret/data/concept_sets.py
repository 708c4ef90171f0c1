"""What a concept is told by: words, a column of the training data, a file of texts, or templates filled with words."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from os import PathLike
from typing import Any

from lightning_interpret.data.files import read_rows
from lightning_interpret.data.ids import Identified
from lightning_interpret.data.lexicon import ASPECTS
from lightning_interpret.data.rows import share
from lightning_interpret.names import unknown

_WAYS = ("words", "column", "file", "texts")
_LISTS = ("words", "templates", "texts")
_KINDS: dict[str, Any] = {"column": str, "text_column": str, "file": (str, PathLike), "case": bool}


@dataclass(frozen=True)
class ConceptSource:
    """Where examples of one concept are from: one of ``words``, ``column``, ``file`` and ``texts``.

    Attributes:
        words: Words and phrases: a training text that holds one of them, as whole words, has the concept.
        templates: Texts with ``{}``, into which each of the words is put: these are the examples then.
        case: Whether upper and lower case are told apart.
        column: Column, key or field of the training examples, that says which have the concept: 0 or 1, true or false,
            or a share of which more than 0.5 is one; nothing, NaN or −1 where nobody has said.
        value: In place of that, what the column holds where an example has the concept.
        file: A file with a text a row, as :func:`.read_rows` reads it.
        text_column: Its column.
        texts: The texts themselves.
        against: Name of another concept whose examples the vectors are set against, in place of random ones.
    """

    words: tuple[str, ...] = ()
    templates: tuple[str, ...] = ()
    case: bool = False
    column: str | None = None
    value: Any = None
    file: str | None = None
    text_column: str = "text"
    texts: tuple[str, ...] = ()
    against: str | None = None

    @property
    def written(self) -> list[str] | None:
        """The texts that are written down, each once, or None of a concept that is found in the training data.

        Raises:
            OSError: If there is no such file.
            ValueError: If it cannot be read.
        """
        if self.file is not None:
            return _once(row.text for row in read_rows(self.file, text_column=self.text_column, label_column=None))
        if self.templates:
            return _once(template.replace("{}", word) for template in self.templates for word in self.words)
        return _once(self.texts) or None

    def said_in(self, text: str) -> bool:
        """Return whether a text holds one of the words."""
        return self._pattern.search(text) is not None

    def told_by(self, value: Any, where: str) -> bool | None:
        """Return whether what the column holds says that the concept is there; None where it says nothing.

        Raises:
            ValueError: If it holds several numbers, or what is neither 0 nor 1 and no ``value`` is asked for.
        """
        if hasattr(value, "item"):
            if math.prod(value.shape) != 1:
                raise ValueError(
                    f"{where}: column {self.column!r} holds {tuple(value.shape)} numbers, not one that says whether "
                    "the concept is there: name another column."
                )
            value = value.item()
        if self.value is not None:
            return None if value is None else value == self.value or str(value) == str(self.value)
        number = share(value, str(self.column), where)
        return None if number != number else number > 0.5

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        words = "|".join(re.escape(word.strip()) for word in self.words)
        return re.compile(rf"(?<!\w)(?:{words})(?!\w)", 0 if self.case else re.IGNORECASE)


def concept_sources(concepts: str | Mapping[str, Any]) -> dict[str, ConceptSource]:
    """Return the sources of concepts, as a config file can write them down.

    Args:
        concepts: For each concept its name and the fields of a :class:`ConceptSource`, or a list of words. Or
            ``"aspects"`` for those of the generated reviews (food, service, price, ambience), told by their nouns.

    Raises:
        ValueError: If there is none, or one is told by nothing, by several things, or by what does not exist.

    Example::

        concept_sources({"food": {"words": ["steak"]}, "cheap": {"column": "cheap"}, "spice": {"file": "s.txt"}})
    """
    if concepts == "aspects":
        return {name: ConceptSource(words=(*each.singular, *each.plural)) for name, each in ASPECTS.items()}
    if not isinstance(concepts, Mapping) or not concepts:
        raise ValueError(
            f"`concepts={concepts!r}` must name concepts with what tells them, {{'food': {{'words': ['steak']}}}}, or "
            "be 'aspects'."
        )
    found = {str(name): _source(str(name), spec) for name, spec in concepts.items()}
    for name, source in found.items():
        if source.against is not None and (source.against not in found or source.against == name):
            raise ValueError(
                f"Concept {name!r}: {unknown('against', source.against, [each for each in found if each != name])}"
            )
    return found


def text_in(example: Any) -> str | None:
    """Return the text of an example: it is one, has one as ``text``, or is a tuple of which a part does; else None."""
    return next((value for value in _fields(example, "text") if isinstance(value, str)), None)


def value_in(example: Any, column: str, concepts: Sequence[str] = ()) -> Any:
    """Return what an example holds under a column, or None.

    Args:
        example: A mapping, an object with fields, or a tuple of which a part is one.
        column: The column.
        concepts: Names of the concept columns of a :class:`.TextRow`, in their order.
    """
    held = next(iter(_fields(example, "concepts")), ()) if concepts else ()  # else it may be anything
    named = dict(zip(concepts, held, strict=False))
    return named[column] if column in named else next(iter(_fields(example, column)), None)


def _once(texts: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(texts))  # the same text in what is fitted and in what is held out would tell nothing


def _source(name: str, spec: Any) -> ConceptSource:
    spec = {"words": spec} if isinstance(spec, list | tuple) else spec
    if not name.strip() or "/" in name:
        raise ValueError(f"A concept is called {name!r}: give it a name without '/', which is a part of its tags.")
    if not isinstance(spec, Mapping):
        raise ValueError(
            f"Concept {name!r} is told by {spec!r}: give one of {', '.join(_WAYS)}, {{'words': ['steak']}}."
        )
    known = [each.name for each in fields(ConceptSource)]
    for key, value in spec.items():
        if key not in known:
            raise ValueError(f"Concept {name!r}: {unknown('key', key, known)}")
        texts = [value] if not isinstance(value, list | tuple) else value
        if key in _LISTS and (
            isinstance(value, str) or not value or not all(isinstance(t, str) and t.strip() for t in texts)
        ):
            raise ValueError(f"Concept {name!r}: `{key}={value!r}` must be a list of texts.")
        if key in _KINDS and value is not None and not isinstance(value, _KINDS[key]):
            what = "true or false" if key == "case" else "a text"
            raise ValueError(f"Concept {name!r}: `{key}={value!r}` must be {what}.")
    given = [way for way in _WAYS if spec.get(way)]
    if len(given) != 1:
        raise ValueError(f"Concept {name!r} is told by {given or 'nothing'}: give one of {', '.join(_WAYS)}.")
    for key, needed in (("templates", "words"), ("case", "words"), ("value", "column"), ("text_column", "file")):
        if key in spec and needed not in spec:
            raise ValueError(f"Concept {name!r}: `{key}={spec[key]!r}` goes with `{needed}`, which is not given.")
    for template in spec.get("templates", ()):
        if "{}" not in template:
            raise ValueError(f"Concept {name!r}: the template {template!r} has no '{{}}' to put a word into.")
    read: dict[str, Any] = {key: tuple(value) if key in _LISTS else value for key, value in spec.items()}
    return ConceptSource(**read)


def _fields(example: Any, name: str) -> Iterable[Any]:
    """Yield what an example, or each part of it, holds under a name."""
    if isinstance(example, Identified):
        yield from _fields(example.example, name)
    elif isinstance(example, str):
        if name == "text":
            yield example
    elif isinstance(example, tuple | list) and not hasattr(example, "_fields"):
        for part in example:
            yield from _fields(part, name)
    else:
        value = example.get(name) if isinstance(example, Mapping) else getattr(example, name, None)
        if value is not None and not callable(value):
            yield value
