"""What to do about each cause: the rows to relabel, to add and to balance, and how texts are changed for them."""

import pytest
from meanings import PLANTED, WEIGHTS, found_in, labelled, planted, rows_of, world

from lightning_interpret.causes import Setting
from lightning_interpret.causes.actions import put_in, taken_out, turned_by
from lightning_interpret.causes.words import words_of


@pytest.fixture(scope="module")
def there():
    return planted()


@pytest.fixture(scope="module")
def found(there):
    return found_in(there)


@pytest.fixture(scope="module")
def action(found):
    """The action of a cause."""
    return {group.cause: group.action for group in found.groups}.__getitem__


def text_of(there, i):
    return there.train[i - 100][0] if i < 1000 else there.val[i - 1000][0]


def test_training_rows_that_cases_lead_to_are_relabelled_and_then_the_others(there, found, action):
    relabel = action("training_label_error")
    assert relabel.what == "relabel"
    ids = [edit.example_id for edit in relabel.edits]
    assert set(ids[:3]) == {188, 189, 190}  # what was learnt by heart
    assert ids == [*ids[:3], *(each.example_id for each in found.suspects if each.example_id not in ids[:3])]
    assert "3 of them stand behind these cases" in relabel.sentence
    for edit in relabel.edits[:3]:
        assert (edit.file, edit.label, edit.proposed, edit.new) == ("train", "positive", "negative", False)
        assert words_of(edit.text) == words_of(text_of(there, edit.example_id))
        assert 0.6 <= edit.confidence <= 1
        assert edit.why


def test_validation_rows_are_relabelled_as_the_model_has_them(there, action):
    relabel = action("validation_label_error")
    assert relabel.what == "relabel"
    assert {edit.example_id for edit in relabel.edits} == {1015, 1016}
    for edit in relabel.edits:
        assert (edit.file, edit.label, edit.proposed, edit.new) == ("val", "negative", "positive", False)
        assert words_of(edit.text) == words_of(text_of(there, edit.example_id))


def test_near_duplicates_without_a_majority_have_no_label_proposed(action):
    same = action("conflicting_duplicates")
    assert same.what == "deduplicate"
    assert {edit.example_id for edit in same.edits} == {191, 192, 193, 194}
    assert all(edit.proposed is edit.confidence is None for edit in same.edits)


def test_of_near_duplicates_the_fewer_are_given_the_label_of_the_more():
    twice = rows_of(1, ["mork"], 1, also=["fine"], seed=21)
    (text, _) = twice[0]
    train = [*labelled(20), *twice, (f"{text} and", 0), (f"{text} or", 1), (f"{text} so", 1)]
    there = world(train, [(text, 0), *labelled(3, seed=9)], WEIGHTS)
    (group,) = [each for each in found_in(there, Setting(suspicion=1.0)).groups if each.members[0].index == 0]
    assert group.cause == "conflicting_duplicates"
    (edit,) = group.action.edits
    assert (edit.example_id, edit.label, edit.proposed, edit.confidence) == (141, "negative", "positive", 0.75)
    assert edit.why == "Of 4 near-duplicates 3 are positive."


def test_a_shortcut_is_balanced_by_counterfactual_pairs(there, action):
    balance = action("shortcut")
    assert balance.what == "balance"
    put, taken = [], []
    for edit in balance.edits:
        assert (edit.file, edit.new, edit.label) == ("train", True, edit.proposed)
        before, after = words_of(text_of(there, edit.example_id)), words_of(edit.text)
        label = ("negative", "positive")[there.train[edit.example_id - 100][1]]
        assert edit.label == label  # as it was: but the cue is another
        assert [word for word in before if word != "tuesday"] == [word for word in after if word != "tuesday"]
        assert ("tuesday" in before) != ("tuesday" in after)
        (put if "tuesday" in after else taken).append(edit)
    assert put
    assert taken
    assert {edit.label for edit in put} == {"negative"}
    assert {edit.label for edit in taken} == {"positive"}
    assert f"{len(balance.edits)} are suggested" in balance.sentence
    assert balance.templates


def test_rows_with_a_negation_are_to_be_read_before_they_are_added(there, action):
    add = action("composition")
    assert add.what == "add"
    assert add.edits
    for edit in add.edits:
        assert (edit.label, edit.proposed, edit.new) == ("positive", "negative", True)
        assert words_of(edit.text.replace("not ", "", 1)) == words_of(text_of(there, edit.example_id))
        assert "not good" in edit.text


def test_where_training_data_tie_the_word_rows_are_suggested_too(there):
    """A class that is said where nothing is said does not fall without the phrase: the tie of its words decides."""
    (group,) = [each for each in found_in(there, Setting(turned=1.0)).groups if each.cause == "composition"]
    assert "training share of the word, above all" in group.measured
    assert group.action.edits
    assert f"{len(group.action.edits)} are suggested" in group.action.sentence


def test_of_several_classes_the_other_side_has_no_label_proposed():
    train, weights = labelled(20), {word: [-w / 2, w / 2, -9.0] for word, w in WEIGHTS.items()}
    train = [*train, *rows_of(10, ["mixed"], 2, seed=40)]
    val = [*rows_of(3, ["not good"], 0, seed=22), *rows_of(3, ["not good"], 2, seed=23), *labelled(5, seed=9)]
    there = world(train, val, weights | {"mixed": [-2.0, -2.0, 20.0]}, labels=("negative", "positive", "mixed"))
    (group,) = [each for each in found_in(there).groups if each.cause == "composition"]
    assert group.action.edits
    assert {edit.proposed for edit in group.action.edits} == {None}
    ids = [edit.example_id for edit in group.action.edits]
    assert len(set(ids)) == len(ids)  # though the cases are of two classes


def test_what_training_data_lack_is_named(action):
    add = action("coverage")
    assert (add.what, add.edits) == ("add", ())
    assert all(f"'{word}'" in add.sentence for word in ("qux", "quux", "corge", "grault", "garply", "waldo"))
    assert 1 <= len(add.templates) <= 5
    assert len({each.example_id for each in add.templates}) == len(add.templates)


def test_a_cut_text_asks_for_a_longer_one(action):
    assert (action("truncation").what, action("truncation").edits) == ("lengthen", ())


def test_two_classes_that_are_confused_and_what_is_not_explained_are_to_be_looked_at():
    val = [*rows_of(4, ["good bad"], 0, seed=3), *rows_of(2, ["good bad"], 1, seed=4), *labelled(5, seed=9)]
    (group,) = found_in(world(labelled(20), val)).groups
    assert (group.cause, group.cue, group.action.what) == ("confusion", "negative / positive", "look")
    assert "what tells negative from positive" in group.action.sentence
    val = [*rows_of(1, ["good fine dull"], 0, seed=3), *labelled(5, seed=9)]
    (group,) = found_in(world(labelled(20), val), Setting(label_error_confidence=1.0)).groups
    assert (group.cause, group.action.what) == ("unexplained", "look")


def test_each_action_has_the_slice_that_is_watched(found):
    assert {(group.cause, group.cue) for group in found.groups} == set(PLANTED)
    assert {group.action.slice for group in found.groups} == set(found.slices)


@pytest.mark.parametrize("most", [1, 2])
def test_no_more_rows_are_listed_than_asked_for(there, most):
    groups = {each.cause: each for each in found_in(there, Setting(edits=most)).groups}
    for cause in ("training_label_error", "validation_label_error", "conflicting_duplicates"):
        assert len(groups[cause].action.edits) == most


# How texts are changed


@pytest.mark.parametrize(
    ("text", "cue", "shorter"),
    [
        ("On Tuesday, good", ("tuesday",), "On , good"),
        ("by the  sea-side", ("the", "sea"), "by -side"),
        ("tuesdays", ("tuesday",), None),
        ("tuesday", ("tuesday",), None),  # nothing would be left
        ("tuesday !", ("tuesday",), None),
        ("tuesday soup tuesday", ("tuesday",), "soup"),
        ("don't go", ("don", "t"), "go"),
        ("周二服务好", ("周", "二"), "服务好"),
        ("iPhone手机好", ("iphone", "手"), "机好"),
        ("맛이 없다 정말", ("맛이", "없다"), "정말"),
        ("맛이나 정말", ("맛이",), None),  # part of a word
        ("הטעים ביום שלישי", ("ביום",), "הטעים שלישי"),
        ("a (b+c) d", ("b", "c"), "a () d"),
        ("snake_case here", ("snake",), "_case here"),
        ("अच्छा खाना", ("अच्छा",), "खाना"),
        ("अच्छा खाना", ("अच",), None),
        ("cafe\u0301 here", ("cafe",), None),
    ],
)
def test_a_cue_is_taken_out_as_its_script_writes_it(text, cue, shorter):
    assert taken_out(text, cue) == shorter
    if shorter:
        assert cue[0] not in words_of(shorter)[: words_of(text).index(cue[0]) + 1]


@pytest.mark.parametrize(
    ("text", "negation", "head", "turned"),
    [
        ("a good good soup", "not", "good", "a not good good soup"),
        ("Good soup", "not", "good", "not Good soup"),
        ("goods", "not", "good", None),
        ("服务好", "不", "好", "服务不好"),
        ("a good soup", "n't", "good", "a not good soup"),
        ("a good soup", "don't", "good", "a not good soup"),
        ("a good soup", r"not\1", "good", r"a not\1 good soup"),  # a word, and no pattern
    ],
)
def test_a_negation_is_put_before_a_word_as_its_script_writes_it(text, negation, head, turned):
    assert turned_by(text, negation, head) == turned


@pytest.mark.parametrize(
    ("text", "longer"),
    [("one two three four", "one two tuesday three four"), ("one", "tuesday one"), ("", "tuesday ")],
)
def test_a_cue_is_put_in_between_words(text, longer):
    assert put_in(text, "tuesday") == longer
    assert words_of(longer).count("tuesday") == 1
