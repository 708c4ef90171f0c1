"""How many words two texts share: what an explanation has in common with a person's."""

from __future__ import annotations

import re
from collections import Counter

_WORD = re.compile(r"\w+")


def word_f1(text: str, reference: str) -> float:
    """Return the harmonic mean of precision and recall of the words of a text, counted as often as they come.

    Words are runs of letters and digits, in lower case. Two texts without words have 1, one of them 0. As SQuAD's F1
    (Rajpurkar et al., 2016), but for articles, which count here. It says nothing of what a text means, or of whether a
    model went by it: read it beside the overlap with texts of other examples.
    """
    one, other = (Counter(_WORD.findall(each.lower())) for each in (text, reference))
    total = one.total() + other.total()
    return 2 * (one & other).total() / total if total else 1.0
