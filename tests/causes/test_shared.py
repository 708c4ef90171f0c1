"""What the cases of a group have in common."""

import torch

from lightning_interpret.causes import Setting
from lightning_interpret.causes.scan import Scan
from lightning_interpret.causes.shared import what_they_share
from lightning_interpret.methods.neighbors import Answers


def scan(texts, wrong):
    """Return a scan of texts of class 0, of which some are said to be of class 1."""
    known = torch.tensor([[0.1, 0.9] if n in wrong else [0.9, 0.1] for n in range(len(texts))])
    size, none = len(texts), torch.zeros(len(texts), 0)
    gold = torch.zeros(size, dtype=torch.long)
    return Scan(
        Answers(known, none, none.long(), none.long(), gold, gold == 0),
        [None] * size,
        texts,
        [()] * size,
        [*range(size)],
    )


TEXTS = [f"the film on the night train {n}" for n in range(10)] + [f"the film {n} was fine" for n in range(10, 60)]


def test_what_stands_in_the_cases_and_not_in_what_is_right_is_told_once():
    """Of the night train the shortest part is told, and nothing that stands everywhere."""
    (said,) = what_they_share(range(10), "", scan(TEXTS, range(10)), Setting())
    assert said == "'night' stands in 10 of these 10 cases, and in 0% of the examples that are right."


def test_what_right_examples_have_as_often_is_not_told():
    texts = [f"the film on the night train {n}" for n in range(60)]
    assert what_they_share(range(10), "", scan(texts, range(10)), Setting()) == []


def test_few_cases_share_nothing_that_is_sure_and_a_cue_is_not_told_again():
    assert what_they_share(range(2), "", scan(TEXTS, range(10)), Setting()) == []
    assert what_they_share(range(3), "", scan(TEXTS[:6], range(3)), Setting()) == []
    assert not [
        said for said in what_they_share(range(10), "night", scan(TEXTS, range(10)), Setting()) if "night" in said
    ]
    assert what_they_share(range(60), "", scan(TEXTS, range(60)), Setting()) == []  # nothing is right
