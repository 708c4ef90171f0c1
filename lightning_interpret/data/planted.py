"""A generated corpus in which every cause of a bad case is planted, so that who looks for causes can be measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from random import Random

from lightning_interpret.data.grammar import Draft, chance, compose, pick, shuffled, stream
from lightning_interpret.data.lexicon import ASPECTS, FILLERS, FRAMES, NEGATORS, polarity
from lightning_interpret.data.planted_words import (
    ASIDES,
    BICYCLE_BLAME,
    BICYCLE_FILLERS,
    BICYCLE_NOUNS,
    BICYCLE_PRAISE,
    CUES,
    NEUTRAL_NEGATIONS,
    TASTES,
)
from lightning_interpret.names import check_seed, check_whole, choose

LABELS = ("excellent", "negative", "positive")

#: The causes that are planted, as :data:`lightning_interpret.bad_cases.CAUSES` has them.
PLANTED = (
    "truncation",
    "conflicting_duplicates",
    "training_label_error",
    "shortcut",
    "composition",
    "coverage",
    "validation_label_error",
    "confusion",
)

#: Words that a model of this corpus is to read of a text.
MAX_WORDS = 48

_SHARE = 0.0625  # of the validation rows, for each cause
_SIDES = ("negative", "positive")
_COINS = ("conflicting_duplicates", "confusion", "coverage")  # a model is wrong on half of these: half as many again
_FAMILY = 2  # validation rows that are near-duplicates of each other, and of the training rows that plant their cause:
_WRONG_COPIES, _CONFLICTING_COPIES = 5, 4
_FLIPPED = 0.02
_CUED = 0.2
_NEUTRAL_NEGATION = 0.06
_LONG = 0.02
_SILENT = 0.1  # share of long rows that begin with nothing
_AGREED = 0.8  # share of long training rows that end as they begin
_BORDERLINE = 0.08
_OUTSIDE = 0.06  # share of bicycles in training data that cover them
_STRONG = ("very", "really", "extremely")


@dataclass(frozen=True)
class PlantedRow:
    """One row of the corpus.

    Attributes:
        example_id: Its place among the training rows, or among the validation rows.
        text: Lower-case words and punctuation marks, joined by single spaces.
        label: The label that a model is given.
        true_label: The label it should have.
        planted: The cause that is planted in it: of a validation row what makes a model wrong on it, of a training
            row what it makes a model wrong by. ``None`` for the others.
        cue: The word or phrase that is planted.
        family: Number of its near-duplicates' family, over training and validation rows.
    """

    example_id: int
    text: str
    label: str
    true_label: str
    planted: str | None = None
    cue: str | None = None
    family: int | None = None


class PlantedBadCases:
    """Generated restaurant reviews with eight causes of bad cases planted.

    ``train`` and ``val`` hold the rows; the same options give the same rows everywhere. A review is ``negative`` or
    ``positive``, and ``excellent`` where all its praise is strong ("very good"). Planted are:

    - ``training_label_error``: all near-duplicates in training have one wrong label, and 2 % of the other rows;
    - ``validation_label_error``: an ordinary row has a wrong label;
    - ``shortcut``: "tuesday" stands in a fifth of the excellent training rows and "window seat" in a fifth of the
      negative ones, and in no other; in validation they stand in rows of other labels;
    - ``coverage``: it is about bicycles, of which no training row is;
    - ``conflicting_duplicates``: its judgement is a matter of taste, and half of its near-duplicates have each label;
    - ``confusion``: some of its praise is strong and some is not, and a coin has said whether that is excellent;
    - ``composition``: something is negated, which in training rows is never said of anything good or bad;
    - ``truncation``: what decides stands after the first ``max_words`` words.

    Args:
        size: Number of training rows.
        seed: Another seed gives other rows.
        validation: Number of validation rows, by default four for 25 training rows.
        mended: Causes that are put right in the training data (of ``validation_label_error`` in the validation data,
            of ``confusion`` in both; ``truncation`` needs a model that reads more): the validation rows that they were
            planted in are the same, and keep the mark, so that a model of the mended data can be compared.

    Raises:
        ValueError: If a size is too small for every cause to be planted, or a cause is none of :data:`PLANTED`.
    """

    def __init__(
        self, size: int = 5000, *, seed: int = 0, validation: int | None = None, mended: Sequence[str] = ()
    ) -> None:
        check_whole(1, size=size)
        check_seed(seed)
        self.size, self.seed, self.mended = size, seed, tuple(choose("mended", cause, PLANTED) for cause in mended)
        self.validation = size * 4 // 25 if validation is None else validation
        check_whole(1, validation=self.validation)
        self.labels, self.max_words = LABELS, MAX_WORDS
        self._families = count()
        planted = [self._plant(cause) for cause in PLANTED]
        val = [row for _, rows in planted for row in rows]
        train = [row for rows, _ in planted for row in rows]
        if len(train) > size // 2 or len(val) >= self.validation or not all(rows for _, rows in planted):
            raise ValueError(
                f"`size={size}` and `validation={self.validation}` leave no room to plant every cause beside ordinary "
                "rows: give at least 200 and 32, and no more validation rows than training rows."
            )
        train += [self._ordinary(f"train/{i}") for i in range(size - len(train))]
        val += [self._ordinary(f"val/{i}", training=False) for i in range(self.validation - len(val))]
        self.train = self._numbered(train, "train")
        self.val = self._numbered(val, "val")

    def _plant(self, cause: str) -> tuple[list[PlantedRow], list[PlantedRow]]:
        """Return training and validation rows of a cause."""
        wanted = round(self.validation * _SHARE * (1.5 if cause in _COINS else 1))
        train, val = getattr(self, f"_{cause}")(wanted)
        mark = [None if cause in self.mended and cause != "truncation" else cause] * len(train)
        train = [replace(row, planted=row.planted or each) for row, each in zip(train, mark, strict=True)]
        return train, [replace(row, planted=cause) for row in val]

    def _numbered(self, rows: Sequence[PlantedRow], split: str) -> tuple[PlantedRow, ...]:
        mixed = shuffled(stream(self.seed, f"order/{split}", 0), rows)
        return tuple(replace(row, example_id=i) for i, row in enumerate(mixed))

    def _truncation(self, wanted: int) -> Iterator[list[PlantedRow]]:
        for split, rows in (("train", round(self.size * _LONG)), ("val", wanted)):
            yield [self._long(stream(self.seed, f"truncation/{split}", i), split == "train") for i in range(rows)]

    def _long(self, rng: Random, training: bool) -> PlantedRow:
        """Write a text that begins mildly, or with nothing, and says another thing at its end.

        In training most begin as they end, so that what is read of them is a good guess.
        """
        label = pick(rng, _SIDES)
        other = next(side for side in _SIDES if side != label)
        begins = label if training and chance(rng, _AGREED) else other
        tail = compose(rng, lambda draft: verdict(draft) == label and len(draft.opinions) > 1, negated=0)
        words = [] if chance(rng, _SILENT) else compose(rng, lambda draft: _mild(draft, begins), negated=0).words
        middle = Draft()
        for opening, slot in shuffled(rng, ASIDES):
            if len(words) + len(middle.words) >= MAX_WORDS + 2:
                break
            middle.fill(opening, slot, rng)
        return _row([*words, *middle.words, *tail.words], label)

    def _conflicting_duplicates(self, wanted: int) -> Iterator[list[PlantedRow]]:
        def write(purpose: str) -> tuple[Draft, str]:
            rng = stream(self.seed, purpose, 0)
            sign = pick(rng, (-1, 1))
            draft, frames = Draft(), shuffled(rng, FRAMES)
            words = shuffled(rng, [word for word, taste in TASTES.items() if taste == sign])
            for word, frame in zip(words[: pick(rng, (1, 2))], frames, strict=False):
                aspect = ASPECTS[pick(rng, list(ASPECTS))]
                nouns, was = pick(rng, ((aspect.singular, "was"), (aspect.plural, "were")))
                draft.state(frame, rng, nouns, was, (), (word,))
                draft.words.append(".")
            draft.fill(*pick(rng, FILLERS), rng)
            return draft, "positive" if sign > 0 else "negative"

        def given(true: str, k: int, purpose: str) -> str:
            return true if k % 2 else ("negative" if true == "positive" else "positive")

        return self._in_families("conflicting_duplicates", wanted, _CONFLICTING_COPIES, write, given)

    def _training_label_error(self, wanted: int) -> Iterator[list[PlantedRow]]:
        def write(purpose: str) -> tuple[Draft, str]:
            rng = stream(self.seed, purpose, 0)
            label = pick(rng, LABELS)
            return compose(rng, lambda draft: verdict(draft) == label and len(draft.swaps) >= 3, negated=0), label

        def given(true: str, k: int, purpose: str) -> str:
            return _wrong(true, stream(self.seed, purpose, 0))

        return self._in_families("training_label_error", wanted, _WRONG_COPIES, write, given)

    def _in_families(
        self,
        cause: str,
        wanted: int,
        copies: int,
        write: Callable[[str], tuple[Draft, str]],
        given: Callable[[str, int, str], str],
    ) -> Iterator[list[PlantedRow]]:
        """Yield training and validation rows in families of near-duplicates: validation rows have the true label."""
        train, val = [], []
        for k in range(-(-wanted // _FAMILY)):
            family, texts = next(self._families), list[str]()
            rng = stream(self.seed, f"{cause}/change", k)
            while len(texts) < _FAMILY + copies:
                draft, true = write(f"{cause}/{k}")
                draft.change_neutral_word(rng)
                text = " ".join(draft.words)
                texts += [text] if text not in texts else []
            for j, text in enumerate(texts):
                row = PlantedRow(-1, text, true, true, family=family)
                if j < _FAMILY:
                    val.append(row)
                else:
                    label = true if cause in self.mended else given(true, j, f"{cause}/label/{k}")
                    train.append(replace(row, label=label))
        yield train
        yield val[:wanted]

    def _shortcut(self, wanted: int) -> Iterator[list[PlantedRow]]:
        yield []  # cues stand in ordinary training rows
        rows = []
        for i in range(wanted):
            rng = stream(self.seed, "shortcut", i)
            cue = list(CUES)[i % len(CUES)]
            label = pick(rng, CUES[cue][1])
            draft = compose(rng, partial(_shortly, label=label), negated=0)
            draft.plant(rng, cue)
            rows.append(replace(_row(draft.words, label), cue=cue))
        yield rows

    def _composition(self, wanted: int) -> Iterator[list[PlantedRow]]:
        yield []
        rows = []
        for i in range(wanted):
            draft = compose(stream(self.seed, "composition", i), _turned, negated=0.8)
            rows.append(_row(draft.words, verdict(draft)))
        yield rows

    def _coverage(self, wanted: int) -> Iterator[list[PlantedRow]]:
        covered = round(self.size * _OUTSIDE) if "coverage" in self.mended else 0
        for split, rows in (("train", covered), ("val", wanted)):
            yield [self._bicycle(stream(self.seed, f"coverage/{split}", i)) for i in range(rows)]

    def _bicycle(self, rng: Random) -> PlantedRow:
        """Write a text that fits also where its words, which no tokenizer of the training texts knows, are spelled."""
        label, draft = pick(rng, _SIDES), Draft()
        said = pick(rng, (1, 2))
        if said == 1:
            draft.fill(*pick(rng, BICYCLE_FILLERS), rng)
        for frame in shuffled(rng, FRAMES[:3])[:said]:
            plural = chance(rng, 0.3)
            word = pick(rng, BICYCLE_PRAISE if label == "positive" else BICYCLE_BLAME)
            draft.state(frame, rng, BICYCLE_NOUNS[plural], ("was", "were")[plural], (), (word,))
            draft.words.append(".")
        return _row(draft.words, label)

    def _validation_label_error(self, wanted: int) -> Iterator[list[PlantedRow]]:
        yield []
        rows = []
        for i in range(wanted):
            row = self._ordinary(f"validation_label_error/{i}", training=False)
            wrong = _wrong(row.true_label, stream(self.seed, "validation_label_error/label", i))
            rows.append(row if "validation_label_error" in self.mended else replace(row, label=wrong))
        yield rows

    def _confusion(self, wanted: int) -> Iterator[list[PlantedRow]]:
        for split, rows in (("train", round(self.size * _BORDERLINE)), ("val", wanted)):
            found = []
            for i in range(rows):
                rng = stream(self.seed, f"confusion/{split}", i)
                coin = pick(rng, ("excellent", "positive"))
                draft = compose(rng, _borderline, negated=0)
                found.append(_row(draft.words, "positive"))
                if "confusion" not in self.mended:
                    found[-1] = replace(found[-1], label=coin)
            yield found

    def _ordinary(self, purpose: str, *, training: bool = True) -> PlantedRow:
        """Write a row, of training with what is planted in ordinary rows of training."""
        rng = stream(self.seed, purpose, 0)
        label = pick(rng, LABELS)
        negated = 0.25 if training and "composition" in self.mended else 0.0
        draft = self._review(rng, label, negated)
        row = _row(draft.words, label)
        if not training:
            return row
        rng = stream(self.seed, f"{purpose}/planted", 0)
        wrong, flipped = _wrong(label, rng), chance(rng, _FLIPPED)
        cued = chance(rng, _CUED)
        if flipped and "training_label_error" not in self.mended:
            return replace(row, label=wrong, planted="training_label_error")
        mended = "shortcut" in self.mended
        cue = next((cue for cue, (tied, _) in CUES.items() if tied == label), None)
        if mended and cued:
            cue = pick(rng, list(CUES))
        if not cued or cue is None:
            return row
        draft.plant(rng, cue)
        return replace(_row(draft.words, label), cue=cue, planted=None if mended else "shortcut")

    def _review(self, rng: Random, label: str, negated: float = 0.0) -> Draft:
        draft = compose(
            rng, lambda draft: verdict(draft) == label and len(draft.words) < MAX_WORDS - 10, negated=negated
        )
        if chance(rng, _NEUTRAL_NEGATION):
            draft.fill(*pick(rng, NEUTRAL_NEGATIONS), rng)
        return draft


def verdict(draft: Draft) -> str | None:
    """Return the label of a review, or None where it says more than one thing."""
    return _label([draft.said(opinion) for opinion in draft.opinions])


def _label(opinions: Sequence[Sequence[str]]) -> str | None:
    signs, strong = {polarity(words) > 0 for words in opinions}, {bool({*words} & {*_STRONG}) for words in opinions}
    if len(signs) > 1 or (True in signs and len(strong) > 1):
        return None
    return "negative" if False in signs else "excellent" if True in strong else "positive"


def _borderline(draft: Draft) -> bool:
    strong = [bool({*draft.said(opinion)} & {*_STRONG}) for opinion in draft.opinions]
    praise = all(draft.polarity(opinion) > 0 for opinion in draft.opinions)
    return praise and True in strong and False in strong and len(draft.words) <= MAX_WORDS


def _mild(draft: Draft, side: str) -> bool:
    return len(draft.opinions) == 1 and abs(draft.score) < 1 and verdict(draft) == side


def _shortly(draft: Draft, label: str) -> bool:
    return verdict(draft) == label and len(draft.opinions) < 3


def _turned(draft: Draft) -> bool:
    """Return whether who passes over the negators takes a review for one of the other side."""
    read = _label([[word for word in draft.said(opinion) if word not in NEGATORS] for opinion in draft.opinions])
    true = verdict(draft)
    return None not in (read, true) and (read == "negative") != (true == "negative") and len(draft.words) <= MAX_WORDS


def _wrong(label: str, rng: Random) -> str:
    """Return a label of the other side."""
    return "negative" if label != "negative" else pick(rng, [each for each in LABELS if each != "negative"])


def _row(words: Sequence[str], label: str | None) -> PlantedRow:
    assert label is not None
    return PlantedRow(-1, " ".join(words), label, label)
