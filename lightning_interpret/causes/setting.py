"""The thresholds of the rules, all in one place, and what finding causes may cost."""

from __future__ import annotations

from dataclasses import dataclass, fields

from lightning_interpret.names import check_whole


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What counts as a bad case, what each rule asks for, and how much is explained.

    Shares and probabilities are from 0 to 1.

    Args:
        cases: Bad cases that are explained, those of highest loss first, wrong ones before unsure ones.
        confident_from: Probability from which a wrong answer counts as confidently wrong.
        unsure_below: Probability below which a right answer counts as unsure; it is 1 / C at least.
        k: Neighbours that count.
        shown: Training examples that a record lists.
        words: Words of a case that are erased one at a time, those that score most for the prediction.
        turned: Fall of the predicted class's probability from which erasing words counts as decisive.
        cue_share: Share of the training examples with a cue that have the predicted label.
        cue_rows: Training examples that have the cue, at least.
        cue_p: Largest p-value of that share against the label's own, times how many cues are tried (Bonferroni).
        cue_cases: Cases that turn without the cue, at least.
        cue_fixed: Share of the wrong cases with a cue that turn right without it.
        cue_broken: Share of right examples with the cue that turn wrong without it, at most, as a share of that.
        near_duplicate: Jaccard similarity of words and pairs of words from which texts are near-duplicates.
        same_text: Jaccard similarity from which one near-duplicate of each label makes a conflict; of less similar ones
            it takes two of each.
        suspicion: From which a training label is suspected: the mean of what the words of the other examples say
            against it (cross-fitted) and of the share of its neighbours with another label, weighed by how often each
            of the two is right on validation examples; or what the better one says, less 1/4.
        suspects: Share of the training examples that speak for a prediction which are suspected.
        unseen: Share of a case's words that no training example has.
        distance: Share of right validation examples that are nearer to their neighbours.
        label_error_confidence: Probability of the predicted class from which a label is suspected.
        label_error_neighbors: Share of the neighbours with that class.
        label_error_words: Share of that class in what the words alone say of it and the validation label.
        right_words: Share of the gold label in what the words alone say of it and the prediction, from which training
            examples that are no near-duplicates can be what the prediction was learnt from.
        mixed: Share of the neighbours that each of two confused classes has.
        confused: Cases of two classes that make a group.
        tied: By how much more often training examples with a negated word have the predicted label than all do.
        composition: Largest fall of the predicted class's probability without a negation that still passes it over.
        tail: Probability of the right class, read from the part that was cut.
        edits: Rows that an action lists, at most.
        seed: Seed of the hashes that near-duplicates are found by.
    """

    cases: int = 100
    confident_from: float = 0.9
    unsure_below: float = 0.6
    k: int = 10
    shown: int = 5
    words: int = 6
    turned: float = 0.3
    cue_share: float = 0.8
    cue_rows: int = 5
    cue_p: float = 0.01
    cue_cases: int = 3
    cue_fixed: float = 0.5
    cue_broken: float = 0.5
    near_duplicate: float = 0.55
    same_text: float = 0.8
    suspicion: float = 0.6
    suspects: float = 0.4
    unseen: float = 0.25
    distance: float = 0.99
    label_error_confidence: float = 0.8
    label_error_neighbors: float = 0.8
    label_error_words: float = 0.6
    right_words: float = 0.8
    mixed: float = 0.2
    confused: int = 3
    tied: float = 0.15
    composition: float = 0.2
    tail: float = 0.5
    edits: int = 200
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what is out of its range; the message names it."""
        check_whole(
            **{
                each.name: getattr(self, each.name)
                for each in fields(self)
                if each.type == "int" and each.name != "seed"
            }
        )
        check_whole(0, seed=self.seed)
        for each in fields(self):
            value = getattr(self, each.name)
            if each.type == "float" and not 0 <= value <= 1:
                raise ValueError(f"`{each.name}={value!r}` must be a share from 0 to 1.")
