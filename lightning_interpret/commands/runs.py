"""Two runs on one validation file: which rows are the same, what was fixed, what broke, what became of each group."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain

from lightning_interpret.bad_cases import BadCaseGroupRow
from lightning_interpret.report.bad_case_files import Prediction, Report


@dataclass(frozen=True)
class Pair:
    """What both runs say of one row."""

    before: Prediction
    after: Prediction

    @property
    def relabelled(self) -> bool:
        """Whether the row has another label now."""
        return self.before.gold != self.after.gold

    @property
    def what(self) -> str:
        """``fixed``, ``broken``, ``wrong`` or ``right``: what became of a row that has the same label."""
        if self.before.right:
            return "right" if self.after.right else "broken"
        return "fixed" if self.after.right else "wrong"


@dataclass(frozen=True)
class Change:
    """What became of a group.

    Attributes:
        cause: Its cause.
        cue: Its cue.
        before: Cases that it had.
        after: Cases that it has.
        fixed: Rows of it before that are right now.
        wrong: Rows of it before that are still wrong.
        broken: Rows of it now that were right before.
        slice_before: Accuracy on its slice of the validation data; ``None`` where it has none.
        slice_after: The same now.
    """

    cause: str
    cue: str
    before: int
    after: int
    fixed: int
    wrong: int
    broken: int
    slice_before: float | None
    slice_after: float | None

    @property
    def status(self) -> str:
        """``new``, ``growing``, ``steady``, ``shrinking`` or ``solved``."""
        if not self.before or not self.after:
            return "solved" if self.before else "new"
        return "steady" if self.before == self.after else "growing" if self.after > self.before else "shrinking"


@dataclass(frozen=True)
class Runs:
    """Two runs, row by row.

    Attributes:
        by: By what rows were matched: ``example_id`` or ``text``.
        pairs: Rows that have the same label in both.
        relabelled: Rows that have another label now.
        unlabelled: Rows of both that have no label in one of them.
        only_before: Rows of the run before alone.
        only_after: Rows of the run after alone.
        changes: What became of the groups.
    """

    by: str
    pairs: list[Pair]
    relabelled: list[Pair]
    unlabelled: int
    only_before: int
    only_after: int
    changes: list[Change] = field(default_factory=list)

    def of(self, what: str) -> list[Pair]:
        """Return the rows of which that became, those first that the run which errs is surest of."""
        found = [pair for pair in self.pairs if pair.what == what]
        erring = "before" if what == "fixed" else "after"
        return sorted(found, key=lambda pair: -getattr(pair, erring).confidence)

    @property
    def p_value(self) -> float:
        """How likely as many rows change in one direction, or more, where both directions are as likely."""
        counted = Counter(pair.what for pair in self.pairs)
        return mcnemar(counted["fixed"], counted["broken"])


def mcnemar(fixed: int, broken: int) -> float:
    """Return the exact two-sided p-value of McNemar's test: the binomial tails of the pairs that differ.

    Args:
        fixed: Pairs that are right in the second alone.
        broken: Pairs that are right in the first alone.
    """
    total = fixed + broken
    tail = term = 1
    for k in range(min(fixed, broken)):
        term = term * (total - k) // (k + 1)  # C(total, k + 1)
        tail += term
    return min(1.0, 2 * tail / 2**total)


def compared(before: Report, after: Report) -> Runs:
    """Return two reports of one validation file, row by row and group by group.

    Raises:
        ValueError: If they have no row in common.
    """
    by, pairs = _matched(before.predictions, after.predictions)
    if not pairs:
        raise ValueError(
            f"{before.path} and {after.path} have no validation row in common, neither by id and text nor by text "
            f"alone ({before.files['val']}, {after.files['val']}): compare two runs on the same validation file."
        )
    labelled = [pair for pair in pairs if pair.before.gold is not None and pair.after.gold is not None]
    same = [pair for pair in labelled if not pair.relabelled]
    return Runs(
        by,
        same,
        [pair for pair in labelled if pair.relabelled],
        len(pairs) - len(labelled),
        len(before.predictions) - len(pairs),
        len(after.predictions) - len(pairs),
        _changes(before.groups, after.groups, same),
    )


def _matched(before: Sequence[Prediction], after: Sequence[Prediction]) -> tuple[str, list[Pair]]:
    """Return by what rows are matched: by id, if each id that both have is that of the same text."""
    by_id = {each.example_id: each for each in after}
    pairs = [Pair(each, by_id[each.example_id]) for each in before if each.example_id in by_id]
    if pairs and all(_same_text(pair) for pair in pairs):
        return "example_id", pairs
    by_text: defaultdict[str | None, list[Prediction]] = defaultdict(list)
    for each in reversed(after):
        by_text[each.text_digest].append(each)
    by_text.pop(None, None)
    # of rows with one text the first is matched with the first
    return "text", [Pair(each, by_text[each.text_digest].pop()) for each in before if by_text.get(each.text_digest)]


def _same_text(pair: Pair) -> bool:
    known = None not in (pair.before.text_digest, pair.after.text_digest)
    return not known or pair.before.text_digest == pair.after.text_digest


def _changes(
    before: Iterable[BadCaseGroupRow], after: Iterable[BadCaseGroupRow], pairs: Iterable[Pair]
) -> list[Change]:
    """Return what became of each group that has cases in one of the runs, the largest first."""
    old, new = ({(group.cause, group.cue): group for group in groups} for groups in (before, after))
    counts: Counter[tuple[str, tuple[str | None, str | None]]] = Counter()
    for pair in pairs:
        group = pair.after if pair.what == "broken" else pair.before
        counts[pair.what, (group.cause, group.cue or "")] += 1
    changes = []
    for key in dict.fromkeys(chain(old, new)):
        one, other = old.get(key), new.get(key)
        sizes = [0 if group is None else group.size for group in (one, other)]
        slices = [None if group is None else group.accuracy for group in (one, other)]
        whats = [counts[what, key] for what in ("fixed", "wrong", "broken")]
        if any(sizes):
            changes.append(Change(*key, *sizes, *whats, *slices))
    return sorted(changes, key=lambda change: (-max(change.before, change.after), change.cause, change.cue))
