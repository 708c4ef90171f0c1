"""One bad case with all that was asked about it, which the rules go by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from lightning_interpret.bad_cases import BadCaseRow, Erasure, Verdict
from lightning_interpret.causes.erase import Words
from lightning_interpret.causes.scan import Scan
from lightning_interpret.evidence import InfluenceRow, NeighborsRow
from lightning_interpret.explanations import AttributionRow


@dataclass
class Case:
    """A bad case.

    Attributes:
        number: Which of the validation examples that were looked through.
        index: Where it stands in their data set.
        badness: Which kind.
        predicted: The class that is predicted.
        other: The class that stands against it: the gold label, or the runner-up of an unsure one.
        wrong: Whether it is wrong.
        before: Probability of what is predicted.
        words: Its words; none where there is no text.
        attribution: What the prediction comes from.
        neighbors: What stands near.
        influence: What training examples help and harm.
        ties: By word, how much more often training examples with it have the predicted label than all do.
        erased: By places of words, the probabilities without them.
        reasons: Why something is missing.
    """

    number: int
    index: int
    badness: str
    predicted: int
    other: int
    wrong: bool
    before: float
    words: Words
    attribution: AttributionRow | None = None
    neighbors: NeighborsRow | None = None
    influence: InfluenceRow | None = None
    ties: dict[str, float] = field(default_factory=dict)
    erased: dict[tuple[int, ...], list[float]] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)

    def strongest(self, count: int) -> list[int]:
        """Return the places of the words that score most for the prediction, the first ones where none is scored."""
        if self.attribution is None:
            return sorted(dict.fromkeys(self.words.at))[:count]
        scored = self.scores()
        known = set(self.words.at)
        best = sorted((place for place in scored if place in known), key=lambda place: (-scored[place], place))
        return [place for place in best if scored[place] > 0][:count]

    def scores(self) -> dict[int, float]:
        """Return the score of each word for the prediction, by its place; none where that was not asked."""
        scored: dict[int, float] = {}
        if self.attribution is not None:
            word_ids = self.attribution.word_ids or range(len(self.attribution.scores))
            for word, score in zip(word_ids, self.attribution.scores, strict=True):
                if word is not None:
                    scored[word] = scored.get(word, 0.0) + score
        return scored

    def after(self, places: Sequence[int]) -> list[float] | None:
        """Return the probabilities without some words; ``None`` where that was not asked, or nothing would be left."""
        found = self.erased.get(tuple(sorted(places)))
        return None if found is None or found[0] != found[0] else found

    def fall(self, places: Sequence[int]) -> float:
        """Return by how much the predicted class's probability falls without some words; 0 where that is not known."""
        found = self.after(places)
        return 0.0 if found is None else self.before - found[self.predicted]

    def said(self, places: Sequence[int]) -> str:
        """Return some of its words as they stand there."""
        return " ".join(self.words.shown[place] for place in sorted(places))

    def row(
        self, scan: Scan, classes: Sequence[str], verdicts: Sequence[Verdict], facts: Mapping[str, Any]
    ) -> BadCaseRow:
        """Return its record."""
        answers, first = scan.answers, verdicts[0]
        gold = int(answers.gold[self.number])
        loss = float(scan.losses[self.number])
        erasures = [
            self._erasure(places, after, classes) for places, after in self.erased.items() if after[0] == after[0]
        ]
        erasures.sort(key=lambda each: (each.after, len(each.words)))
        return BadCaseRow(
            example_id=scan.ids[self.number],
            text=scan.texts[self.number],
            prediction=classes[self.predicted],
            gold=classes[gold] if gold >= 0 else None,
            loss=None if loss != loss else loss,
            confidence=self.before,
            index=self.index,
            badness=self.badness,
            cause=first.cause,
            cue=first.cue,
            verdicts=tuple(verdicts),
            probabilities=dict(zip(classes, answers.probabilities[self.number].tolist(), strict=True)),
            attribution=self.attribution,
            neighbors=self.neighbors,
            influence=None if self.influence is None else replace(self.influence, neighbors=None),
            erasures=tuple(erasures),
            notes=scan.notes[self.number],
            reasons=self.reasons,
            **facts,
        )

    def _erasure(self, places: tuple[int, ...], after: list[float], classes: Sequence[str]) -> Erasure:
        best = max(range(len(after)), key=after.__getitem__)
        return Erasure(places, self.said(places), self.before, after[self.predicted], classes[best])
