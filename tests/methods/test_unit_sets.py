"""Which units are absent together."""

import pytest
import torch
from tiny import bag_task, batch_of, wordpiece

from lightning_interpret.explanations import Units
from lightning_interpret.methods.unit_sets import unit_sets


def text_units(texts=("he is unaffable", "a film"), **options):
    return bag_task().units(batch_of(wordpiece(**options), texts))


def content(units):
    return ~(units.special | units.padding)


def listed(sets):
    """Each set as its row and the places of its units."""
    found = [(row, members) for part in sets.split(2) for row, members in zip(*part, strict=True)]
    return [(int(row), members.nonzero().flatten().tolist()) for row, members in found]


@pytest.mark.parametrize("side", ["left", "right"])
def test_tokens_and_words(side):
    units = text_units(padding_side=side)  # [CLS] he is un ##aff ##able [SEP], [CLS] a film [SEP]
    first = 4 if side == "left" else 1
    short = [(1, [first]), (1, [first + 1])]
    tokens = [(0, [place]) for place in range(1, 6)]
    assert listed(unit_sets(units, content(units))) == tokens + short
    assert listed(unit_sets(units, content(units), order=torch.tensor([1, 0]))) == short + tokens
    assert listed(unit_sets(units, content(units), "word")) == [(0, [1]), (0, [2]), (0, [3, 4, 5]), *short]


def test_windows_of_a_text_lie_over_its_content():
    units = text_units()
    sets = unit_sets(units, content(units), "window", window=(2,), stride=(2,))
    assert listed(sets) == [(0, [1, 2]), (0, [3, 4]), (0, [5]), (1, [1, 2])]
    wide = unit_sets(units, content(units), "window", window=(4,), stride=(1,))
    assert listed(wide) == [(0, [1, 2, 3, 4]), (0, [2, 3, 4, 5]), (1, [1, 2])]


def test_what_cannot_be_absent_is_in_no_set_and_no_set_is_empty():
    units = text_units()
    absent = content(units).clone()
    absent[0, 1:3], absent[1, 1:] = False, False
    assert listed(unit_sets(units, absent)) == [(0, [3]), (0, [4]), (0, [5])]
    windows = unit_sets(units, absent, "window", window=(2,), stride=(2,))
    assert listed(windows) == [(0, [3, 4]), (0, [5])]
    assert listed(unit_sets(units, torch.zeros_like(absent), "word")) == []


@pytest.mark.parametrize("kind", ["token", "word", "window"])
def test_special_units_that_can_be_absent_stand_alone(kind):
    units = text_units()
    found = listed(unit_sets(units, ~units.padding, kind, window=(3,)))
    assert {(0, (0,)), (0, (6,)), (1, (0,)), (1, (3,))} <= {(row, tuple(places)) for row, places in found}
    assert sum(0 in places or 6 in places for row, places in found if row == 0) == 2


def test_windows_lie_on_the_grid_of_an_image():
    units = Units.locations(2, (3, 4), before=1, after=1)  # unit 0 is CLS, then 12 locations
    sets = unit_sets(units, content(units), "window", window=(2, 3), stride=(1, 3))
    grid = torch.arange(1, 13).reshape(3, 4)
    expected = [grid[i : i + 2, j : j + 3].flatten().tolist() for i in (0, 1) for j in (0, 3)]
    assert listed(sets) == [(row, places) for row in (0, 1) for places in expected]
    with_cls = unit_sets(units, torch.ones(2, 14, dtype=torch.bool), "window", window=(3, 4))
    assert listed(with_cls)[:3] == [(0, list(range(1, 13))), (0, [0]), (0, [13])]


def test_entries_of_a_vector_lie_on_a_line():
    units = Units.features(1, 5)
    assert listed(unit_sets(units, content(units), "window", window=(3,), stride=(2,))) == [
        (0, [0, 1, 2]),
        (0, [2, 3, 4]),
    ]


def test_what_does_not_fit_is_refused():
    image, text = Units.locations(1, (2, 2)), text_units()
    with pytest.raises(ValueError, match=r"`unit='word'`, but the units are of kind 'location'"):
        unit_sets(image, content(image), "word")
    with pytest.raises(ValueError, match=r"`window=\(2, 2\)`.*of kind 'token', lie on a line: give one number"):
        unit_sets(text, content(text), "window", window=(2, 2))
    with pytest.raises(ValueError, match=r"`unit='words'` does not exist\. Did you mean 'word'"):
        unit_sets(text, content(text), "words")
