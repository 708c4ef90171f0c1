"""Tasks without one class a text have no bad cases that the rules know, which is said with the reason."""

import pytest
from every_task import NAMES, made

from lightning_interpret import BadCaseMonitor
from lightning_interpret.causes import CauseFinder

OTHERS = NAMES[2:]


@pytest.mark.parametrize("name", OTHERS)
def test_it_is_refused_before_anything_is_read(name):
    model, task, _ = made(name)
    for asked in (CauseFinder(influence=None), BadCaseMonitor()):
        with pytest.raises(
            ValueError, match=rf"wrong class, one a text, and a {name} has no such class: .*Use Saliency"
        ):
            asked.check(model, task)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in OTHERS])
def test_classes_of_texts_and_of_pairs_are_taken(name):
    model, task, _ = made(name)
    CauseFinder(influence=None).check(model, task)
