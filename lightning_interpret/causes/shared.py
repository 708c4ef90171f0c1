"""What the cases of a group have in common: words that stand in them more often than in what the model gets right."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from lightning_interpret.causes.cues import spelled
from lightning_interpret.causes.scan import Scan
from lightning_interpret.causes.setting import Setting
from lightning_interpret.causes.words import Cue, cues_of, places_of, words_of
from lightning_interpret.functional.count_tests import fisher_p_value

_TOLD = 3
_TRIED = 500


def what_they_share(numbers: Sequence[int], cue: str, scan: Scan, setting: Setting) -> list[str]:
    """Return a sentence for each word or phrase that the cases of a group share, the surest first.

    Told is what stands in ``setting.cue_cases`` of the cases at least, and there more often than in the examples that
    are right: by Fisher's exact test, one-sided, ``p`` times how many are tried (Bonferroni). Of phrases that the same
    cases have the shortest is told.

    Args:
        numbers: Numbers of the cases.
        cue: Of the group: its own words are not told again.
        scan: The validation examples.
        setting: Bounds.
    """
    right = [scan.words[number] for number in scan.right.nonzero().flatten().tolist()]
    often = Counter(each for number in numbers for each in cues_of(scan.words[number]))
    known = set(words_of(cue))
    tried = [each for each, count in often.most_common() if count >= setting.cue_cases and not known & {*each}][:_TRIED]
    if not tried or not right:
        return []
    elsewhere = _counts(tried, right)
    p = {each: fisher_p_value(often[each], len(numbers), elsewhere[each], len(right)) * len(tried) for each in tried}
    found: list[tuple[Cue, frozenset[int]]] = []
    for each in sorted(
        (each for each in tried if p[each] <= setting.cue_p), key=lambda each: (p[each], len(each), each)
    ):
        have = frozenset(number for number in numbers if places_of(each, scan.words[number]))
        if len(found) < _TOLD and not any(2 * len(have & there) > len(have | there) for _, there in found):
            found.append((each, have))
    return [
        f"'{spelled(each)}' stands in {len(have)} of these {len(numbers)} cases, and in "
        f"{elsewhere[each] / len(right):.0%} of the examples that are right."
        for each, have in found
    ]


def _counts(cues: Sequence[Cue], texts: Sequence[Sequence[str]]) -> Counter[Cue]:
    """Return how many of the texts have each cue."""
    wanted = set(cues)
    return Counter(each for words in texts for each in wanted & cues_of(words))
