"""Groups over validations: what each is beside the one before, its number, its tag, its slice, and its memory."""

import json

import pytest
import torch
from meanings import scan_of

from lightning_interpret.bad_cases import STATUSES
from lightning_interpret.causes import Followed, Setting
from lightning_interpret.causes.follow import GROUPS, MOST
from lightning_interpret.causes.words import WordIndex

CUE, FAR = ("shortcut", "tuesday"), ("coverage", "")


def test_a_group_is_new_growing_steady_shrinking_solved_and_new_again():
    followed, said = Followed(), []
    for step, size in enumerate([2, 3, 3, 1, 0, 0, 2]):
        followed.add(step, {CUE: range(size)} if size else {})
        said.append(followed.status(CUE))
    assert said == ["new", "growing", "steady", "shrinking", "solved", "solved", "new"]
    assert set(said) == set(STATUSES)
    assert followed.sizes[CUE] == list(enumerate([2, 3, 3, 1, 0, 0, 2]))


def test_numbers_stay_and_are_never_given_twice():
    followed = Followed()
    assert [followed.number(key) for key in (CUE, 7, FAR, 7, CUE, 8)] == [1, 2, 3, 2, 1, 4]
    assert Followed.from_state(followed.state()).number(9) == 5


def test_cases_leave_numbers_for_groups_of_later_validations():
    followed = Followed()
    cases = [followed.number(case) for case in range(2 * MOST)]
    assert cases[: MOST - GROUPS] == list(range(1, MOST - GROUPS + 1))
    assert set(cases[MOST - GROUPS :]) == {None}
    groups = [followed.number(("shortcut", str(n))) for n in range(2 * MOST)]
    assert groups[:GROUPS] == list(range(MOST - GROUPS + 1, MOST + 1))
    assert set(groups[GROUPS:]) == {None}
    assert followed.number(0) == 1


def test_sizes_are_remembered_of_so_many_validations():
    followed = Followed()
    for step in range(MOST + 5):
        followed.add(step, {CUE: [1]})
    assert len(followed.sizes[CUE]) == MOST
    assert followed.sizes[CUE][-1] == (MOST + 4, 1)


def test_what_is_remembered_is_json_and_comes_back():
    followed = Followed()
    followed.add(10, {CUE: [4, 2], FAR: [1]})
    followed.add(20, {("confusion", "a / b"): [9]})
    for key in (CUE, 4, FAR, 2):
        followed.number(key)
    again = Followed.from_state(json.loads(json.dumps(followed.state())))
    assert again == followed
    again.add(30, {CUE: [5]})
    assert (again.status(CUE), again.status(FAR), again.indices[CUE]) == ("new", "solved", {2, 4, 5})
    assert followed.indices[CUE] == {2, 4}  # of its own


def test_each_group_has_a_tag_of_its_own():
    followed = Followed()
    keys = [CUE, ("shortcut", "周二"), ("shortcut", "东"), ("confusion", "A / b"), ("confusion", "a / B"), FAR]
    keys += [("shortcut", "x" * 90), ("shortcut", "x" * 91)]
    followed.add(0, {key: [0] for key in keys})
    tags = [followed.tags[key] for key in keys]
    assert tags[:6] == [
        *("slice/shortcut_tuesday", "slice/shortcut", "slice/shortcut_2"),
        *("slice/confusion_a_b", "slice/confusion_a_b_2", "slice/coverage"),
    ]
    assert len(set(tags)) == len(tags)
    assert all(len(tag) <= 70 for tag in tags)
    followed.add(1, {CUE: [1]})
    assert followed.tags[CUE] == tags[0]


TEXTS = ["soup on tuesday", "tuesday , not good", "not cut", "xyz uvw soup"]


@pytest.mark.parametrize(
    ("key", "wanted"),
    [
        (CUE, [0, 1]),
        (("shortcut", "on tuesday"), [0]),
        (("composition", "not"), [1, 2]),
        (("composition", "soup"), []),  # which is no negation
        (FAR, [3]),
        (("truncation", ""), [2]),
        (("confusion", "a / b"), [1, 3]),  # those that have been in it
        (("validation_label_error", ""), []),
    ],
)
def test_a_slice_has_what_its_examples_have_in_common(key, wanted):
    scan = scan_of([[0.5, 0.5]] * 4, [0] * 4)
    scan.texts, scan.indices = TEXTS, [10, 11, 12, 13]
    scan.notes = [(), ("another note",), ("cut to 2 of 4 tokens",), ()]
    index = WordIndex()
    index.add(range(3), TEXTS[:3], [0] * 3)
    followed = Followed(indices={("confusion", "a / b"): {11, 13, 99}})
    found = followed.slice(key, scan, type("Texts", (), {"index": index}), Setting(unseen=0.5))
    assert found.dtype == torch.bool
    assert found.nonzero().flatten().tolist() == wanted


def test_without_training_texts_the_far_ones_are_those_that_have_been_it():
    scan = scan_of([[0.5, 0.5]] * 2, [0] * 2)
    assert Followed(indices={FAR: {1}}).slice(FAR, scan, None, Setting()).tolist() == [False, True]
