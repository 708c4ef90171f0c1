"""Texts as bags of words and word pairs, read by models that are small enough to be trained again and again."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from lightning_interpret.explanations import Units
from lightning_interpret.functional.baselines import Baseline
from lightning_interpret.tasks.classification import Classification

_WORD = re.compile(r"\w+|[^\w\s]")


@dataclass(frozen=True)
class Vocabulary:
    """Words, and pairs of neighbouring words ("not good"), that texts are told apart by.

    Attributes:
        words: The words and pairs, each a column.
    """

    words: tuple[str, ...]

    @classmethod
    def of(cls, texts: Sequence[str], labels: Sequence[int], size: int) -> Vocabulary:
        """Return the words and pairs whose presence depends on the label most (by χ²), at most ``size`` of them."""
        within = {label: Counter[str]() for label in sorted(set(labels))}
        for text, label in zip(texts, labels, strict=True):
            within[label].update(_words(text))
        total, shares = Counter[str](), {label: labels.count(label) / len(labels) for label in within}
        for counts in within.values():
            total.update(counts)

        def depends(word: str) -> float:
            expected = {label: total[word] * share for label, share in shares.items()}
            return sum((within[label][word] - value) ** 2 / value for label, value in expected.items())

        return cls(tuple(sorted(total, key=lambda word: (-depends(word), word))[:size]))

    def vectors(self, texts: Sequence[str]) -> Tensor:
        """Return which words each text has, as a vector of length 1, ``(n, len(words))``; zero if it has none."""
        place, found = {word: i for i, word in enumerate(self.words)}, torch.zeros(len(texts), len(self.words))
        for row, text in zip(found, texts, strict=True):
            row[[place[word] for word in _words(text) if word in place]] = 1.0
        return nn.functional.normalize(found, dim=1)


class BagOfWords(Classification):
    """Reads batches of ``vectors``, ``labels``, ``text`` and ``example_id``; the module is called with the vectors."""

    def logits(self, module: nn.Module, batch: Any) -> Tensor:
        """Return the class scores."""
        return module(batch["vectors"])

    def texts(self, batch: Any) -> tuple[str, ...]:
        """Return the texts."""
        return tuple(batch["text"])

    def layer(self, module: nn.Module) -> str:
        """Refuse: see :meth:`units`."""
        raise self._refusal()

    def units(self, batch: Any) -> Units:
        """Refuse: a bag has no tokens that an attribution could be shown for."""
        raise self._refusal()

    def baseline(self, module: nn.Module, batch: Any, features: Tensor, baseline: Baseline) -> Tensor:
        """Refuse: see :meth:`units`."""
        raise self._refusal()

    def check(self, module: nn.Module, which: str, baseline: Baseline | None) -> None:
        """Refuse: see :meth:`units`."""
        raise self._refusal()

    def _refusal(self) -> ValueError:
        return ValueError("A bag of words has no tokens to attribute to: it is read by influence methods only.")


def _words(text: str) -> set[str]:
    words = _WORD.findall(text.lower())
    return {*words, *(f"{first} {second}" for first, second in pairwise(words))}
