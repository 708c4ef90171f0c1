"""What becomes of predictions when words are taken out of texts: by their ids and masks, never as text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lightning_interpret.causes.scan import Validation
from lightning_interpret.causes.words import Cue, places_of, words_of
from lightning_interpret.explanations import Units
from lightning_interpret.methods.examples import Examples
from lightning_interpret.tasks import Task, batches

_AT_ONCE = 32


@dataclass(frozen=True)
class Words:
    """The words of one example as its batch has them.

    Attributes:
        shown: The words, punctuation among them.
        keys: The words that count, as :func:`.words.words_of` has them.
        at: For each of ``keys``, which of ``shown`` it is of.
    """

    shown: tuple[str, ...]
    keys: tuple[str, ...]
    at: tuple[int, ...]

    @classmethod
    def of(cls, shown: Sequence[str]) -> Words:
        """Return the words of one text."""
        pairs = [(key, place) for place, word in enumerate(shown) for key in words_of(word)]
        return cls(tuple(shown), tuple(key for key, _ in pairs), tuple(place for _, place in pairs))

    def places(self, cue: Cue) -> tuple[int, ...]:
        """Return which of ``shown`` a cue is, wherever it stands."""
        begins = places_of(cue, self.keys)
        return tuple(sorted({self.at[i + n] for i in begins for n in range(len(cue))}))


class Eraser:
    """Asks the model of validation examples without some of their words; called inside the explaining scope."""

    def __init__(self, module: nn.Module, task: Task, validation: Validation) -> None:
        self._module, self._task, self._validation = module, task, validation
        self._words: dict[int, Words] = {}

    def words(self, numbers: Sequence[int]) -> dict[int, Words]:
        """Return the words of some examples."""
        missing = [number for number in numbers if number not in self._words]
        for start in range(0, len(missing), _AT_ONCE):
            some = missing[start : start + _AT_ONCE]
            found = self._task.units(self._validation.batch(some)).words
            self._words |= {number: Words.of(words) for number, words in zip(some, found, strict=True)}
        return {number: self._words[number] for number in numbers}

    def without(self, asked: Sequence[tuple[int, Sequence[int]]]) -> Tensor:
        """Return the probabilities of each example without the words at some places, ``(R, C)``.

        NaN where no word would be left.
        """
        found = []
        # examples that are asked often are read once, and texts of one example are as long as one another
        order = sorted(range(len(asked)), key=lambda i: asked[i][0])
        for start in range(0, len(order), _AT_ONCE):
            some = [asked[i] for i in order[start : start + _AT_ONCE]]
            numbers = list(dict.fromkeys(number for number, _ in some))
            batch = self._validation.batch(numbers)
            found.append(self.within(batch, [(numbers.index(number), places) for number, places in some]))
        together = torch.cat(found) if found else torch.zeros(0, 1).double()
        back = torch.empty(len(order), dtype=torch.long)
        back[torch.tensor(order, dtype=torch.long)] = torch.arange(len(order))
        return together[back]

    @torch.no_grad()
    def within(self, batch: Any, asked: Sequence[tuple[int, Sequence[int]]]) -> Tensor:
        """Return the same of rows of a batch."""
        batch = batches.to_full_precision(batches.clone(batch))
        units = self._task.units(batch)
        rows = torch.tensor([row for row, _ in asked])
        absent = torch.stack([_tokens(units, row, places) for row, places in asked])
        nothing = (absent | units.special[rows] | units.padding[rows]).all(dim=1)
        repeated = self._task.take(batch, rows)
        shorter = self._task.delete(self._module, repeated, absent & ~nothing[:, None])
        known = self._task.log_probabilities(self._task.logits(self._module, shorter))
        assert known is not None
        return known.exp().double().cpu().masked_fill(nothing[:, None], torch.nan)

    def training(self, examples: Examples, ids: Sequence[int], cue: Cue) -> Tensor:
        """Return the probabilities of training examples without a cue, ``(R, C)``; those that lack it are left out."""
        found = []
        for _, batch in examples.take(ids):
            words = [Words.of(each) for each in self._task.units(batch).words]
            asked = [(row, each.places(cue)) for row, each in enumerate(words)]
            asked = [(row, places) for row, places in asked if places]
            found += [self.within(batch, asked)] if asked else []
        return torch.cat(found) if found else torch.zeros(0, 1).double()


def _tokens(units: Units, row: int, places: Sequence[int]) -> Tensor:
    """Return which tokens are of some words, bool ``(T,)``."""
    wanted = set(places)
    return torch.tensor([word is not None and word in wanted for word in units.word_ids[row]])
