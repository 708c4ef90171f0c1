"""Texts as words: what training examples have in common with a case, counted and compared."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from lightning_interpret.functional.bags import Bags

Cue = tuple[str, ...]
"""One word, or several that stand next to each other."""

LONGEST = 3  # words in a cue
_WIDTH = 2**18  # places that words and pairs of words are hashed to
# scripts that set no spaces between words: each character stands alone, and words are phrases of them
_ALONE = r"\u0e00-\u0e7f\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_LETTER = rf"[^\W_{_ALONE}]"
# vowels and accents that are written on letters, which Python does not count among those: of Latin and Cyrillic taken
# apart, of Hebrew, of Arabic, of the scripts of India
_MARK = (
    r"[\u0300-\u036f\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u0610-\u061a\u064b-\u065f\u0670\u06d6-\u06dc"
    r"\u06df-\u06e4\u06e7\u06e8\u06ea-\u06ed\u0900-\u0963\u0966-\u0dff]"
)
_WORD = re.compile(rf"[{_ALONE}]|{_LETTER}+(?:{_MARK}+{_LETTER}*)*")

#: Words that turn the meaning of those after them, by language; "t" and "nt" are what is left of "n't".
NEGATORS = frozenset(
    {"not", "no", "never", "nothing", "nobody", "none", "neither", "nor", "without", "hardly", "barely", "scarcely"}
    | {"cannot", "t", "nt", "n"}
    | {"nicht", "kein", "keine", "keinen", "keiner", "nie", "niemals", "ohne", "kaum"}
    | {"ne", "pas", "jamais", "sans", "aucun", "aucune", "non", "mai", "senza"}
    | {"nunca", "sin", "tampoco", "apenas", "ningún", "ninguna", "não", "nem", "sem"}
    | set("不没無无未非别")
)


def words_of(text: str) -> list[str]:
    """Return the words of a text in lower case, without punctuation; of scripts without spaces its characters."""
    return _WORD.findall(text.lower())


def cues_of(words: Sequence[str], longest: int = LONGEST) -> set[Cue]:
    """Return every word, and every phrase of at most ``longest`` words, that a text has."""
    return {tuple(words[i : i + n]) for n in range(1, longest + 1) for i in range(len(words) - n + 1)}


def places_of(cue: Cue, words: Sequence[str]) -> list[int]:
    """Return where a cue begins in a text."""
    return [i for i in range(len(words) - len(cue) + 1) if tuple(words[i : i + len(cue)]) == cue]


def pattern_of(cue: Cue) -> str:
    """Return the regular expression of a cue as a text has it: whole words, whatever stands between them."""
    before, after = rf"(?<!{_LETTER})(?<!{_MARK})", rf"(?!{_LETTER}|{_MARK})"
    whole = (
        re.escape(word) if re.fullmatch(f"[{_ALONE}]", word) else f"{before}{re.escape(word)}{after}" for word in cue
    )
    return r"[\W_]*".join(whole)


class WordIndex:
    """The words of the training examples, in their order, with labels and ids.

    Holds four bytes a word and each text once.
    """

    def __init__(self) -> None:
        self.ids: list[int] = []
        self.labels: list[int] = []
        self.texts: dict[int, str] = {}
        self._number: dict[str, int] = {}
        self._rows: list[Tensor] = []

    def __len__(self) -> int:
        return len(self.ids)

    def add(self, ids: Iterable[int], texts: Iterable[str], labels: Iterable[int]) -> None:
        """Add some examples; an id that is there already is left out."""
        for i, text, label in zip(ids, texts, labels, strict=True):
            if i in self.texts:
                continue
            self.ids.append(i)
            self.labels.append(label)
            self.texts[i] = text
            numbers = [self._number.setdefault(word, len(self._number)) for word in words_of(text)]
            self._rows.append(torch.tensor(numbers, dtype=torch.int32))

    def unseen(self, words: Collection[str]) -> list[str]:
        """Return the words that no training example has, each once."""
        return [word for word in dict.fromkeys(words) if word not in self._number]

    def counts(self, cues: Sequence[Cue], classes: int) -> Tensor:
        """Return how many training examples of each class have each cue, ``(N, C)``."""
        wanted = {tuple(self._number.get(word, -1) for word in cue): n for n, cue in enumerate(cues)}
        found = torch.zeros(len(cues), classes, dtype=torch.double)
        first = {key[0] for key in wanted}
        lengths = sorted({len(key) for key in wanted})
        for label, row in zip(self.labels, self._rows, strict=True):
            if label < 0:
                continue
            numbers, there = row.tolist(), set[int]()
            for i, number in enumerate(numbers):
                if number in first:
                    there.update(wanted.get(tuple(numbers[i : i + n]), -1) for n in lengths)
            there.discard(-1)
            if there:
                found[list(there), label] += 1
        return found

    def with_cue(self, cue: Cue) -> list[int]:
        """Return the ids of the training examples that have a cue."""
        key = [self._number.get(word, -1) for word in cue]
        if -1 in key:
            return []
        known = ((i, row.tolist()) for i, row in zip(self.ids, self._rows, strict=True) if bool((row == key[0]).any()))
        return [i for i, row in known if places_of(tuple(key), row)]  # type: ignore[arg-type]

    def bags(self) -> Bags:
        """Return the words and pairs of words of each training example."""
        return Bags.of([_hashed(row.tolist()) for row in self._rows], _WIDTH)

    def bags_of(self, texts: Iterable[Sequence[str]]) -> Bags:
        """Return those of other texts, given as words; words that no training example has are one and the same."""
        return Bags.of([_hashed([self._number.get(word, -1) for word in words]) for words in texts], _WIDTH)


def _hashed(numbers: Sequence[int]) -> list[int]:
    pairs = [a * 1_000_003 + b + 7 for a, b in pairwise(numbers)]
    return list(dict.fromkeys((number * 2_654_435_761 % 2**32) % _WIDTH for number in [*numbers, *pairs]))
