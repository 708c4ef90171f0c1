from collections import Counter, defaultdict
from hashlib import sha256

import pytest

from lightning_interpret.bad_cases import CAUSES
from lightning_interpret.data import PlantedBadCases
from lightning_interpret.data.lexicon import ADJECTIVES, NEGATORS
from lightning_interpret.data.planted import LABELS, MAX_WORDS, PLANTED
from lightning_interpret.data.planted_words import (
    BICYCLE_BLAME,
    BICYCLE_NOUNS,
    BICYCLE_PRAISE,
    CUES,
    NEUTRAL_NEGATIONS,
    TASTES,
)

DIGEST = "c22b2487417bb3c92b299d40a2b1b02636e27e22a2f12279e29c6a3778a5f804"
OF_TRAINING = {"truncation", "conflicting_duplicates", "training_label_error", "shortcut", "confusion"}


@pytest.fixture(scope="module")
def corpus():
    return PlantedBadCases(1000)


@pytest.fixture(scope="module")
def mended():
    return PlantedBadCases(1000, mended=PLANTED)


def planted(rows, cause):
    return [row for row in rows if row.planted == cause]


def loaded(row):
    return [word for word in row.text.split() if word in ADJECTIVES or word in NEGATORS]


def families(corpus):
    found = defaultdict(lambda: ([], []))
    for place, rows in enumerate((corpus.train, corpus.val)):
        for row in rows:
            if row.family is not None:
                found[row.family][place].append(row)
    return list(found.values())


def test_every_cause_is_planted_and_most_rows_are_ordinary(corpus):
    assert set(PLANTED) == set(CAUSES) - {"unexplained"}
    assert len(corpus.train) == 1000
    assert len(corpus.val) == 160
    counts = Counter(row.planted for row in corpus.val)
    assert {*counts} == {*PLANTED, None}
    assert min(counts.values()) >= 10
    assert counts[None] >= 60
    assert {row.planted for row in corpus.train} == {*OF_TRAINING, None}
    assert [row.example_id for row in corpus.train] == list(range(1000))
    assert [row.example_id for row in corpus.val] == list(range(160))
    assert {row.label for row in corpus.train} == {row.label for row in corpus.val} == {*LABELS} == {*corpus.labels}
    assert all(
        (row.label == "negative") != (row.true_label == "negative")
        for row in planted(corpus.val, "validation_label_error")
    )


def test_the_same_options_give_the_same_rows_everywhere(corpus):
    small = PlantedBadCases(250, seed=3)
    assert sha256(repr((small.train, small.val)).encode()).hexdigest() == DIGEST
    other = PlantedBadCases(250, seed=4)
    assert not {row.text for row in small.val} & {row.text for row in other.val}


def test_ordinary_rows_have_their_label_and_no_negated_judgement(corpus):
    for row in (*planted(corpus.train, None), *planted(corpus.val, None)):
        assert row.label == row.true_label
        assert (row.cue, row.family) == (None, None)
        assert {ADJECTIVES[word] for word in loaded(row) if word in ADJECTIVES} == {1 - 2 * (row.label == "negative")}
        strong = [word in ("very", "really", "extremely") for word in row.text.split()]
        assert row.label == "negative" or any(strong) == (row.label == "excellent")


def test_the_model_reads_all_of_every_row_but_of_those_planted_to_be_too_long(corpus):
    for row in (*corpus.train, *corpus.val):
        assert (len(row.text.split()) > MAX_WORDS) == (row.planted == "truncation"), row


def test_near_duplicates_in_training_are_all_wrong_where_label_errors_are_planted(corpus):
    groups = [pair for pair in families(corpus) if pair[1][0].planted == "training_label_error"]
    assert len(groups) >= 5
    for train, val in groups:
        assert len(train) == 5
        assert len({row.label for row in train}) == 1
        assert all(row.label != row.true_label for row in train)
        assert all(row.label == row.true_label == train[0].true_label for row in val)
        assert_near_duplicates([*train, *val])


def test_half_of_the_near_duplicates_have_each_label_where_they_conflict(corpus):
    groups = [pair for pair in families(corpus) if pair[1][0].planted == "conflicting_duplicates"]
    assert len(groups) >= 5
    for train, val in groups:
        assert sorted(row.label == row.true_label for row in train) == [False, False, True, True]
        assert all(row.label == row.true_label for row in val)
        assert_near_duplicates([*train, *val])
    elsewhere = {word for row in (*corpus.train, *corpus.val) if row.family is None for word in row.text.split()}
    assert not elsewhere & {*TASTES}


def assert_near_duplicates(rows):
    assert len({row.text for row in rows}) == len(rows)
    words = [row.text.split() for row in rows]
    for each in words:
        assert sum(a != b for a, b in zip(words[0], each, strict=True)) <= 2


def test_other_rows_are_flipped_at_random(corpus):
    flipped = [row for row in planted(corpus.train, "training_label_error") if row.family is None]
    assert 5 <= len(flipped) <= 30
    assert all(row.label != row.true_label for row in flipped)


def test_cues_stand_in_one_label_of_training_and_in_the_others_of_validation(corpus):
    for cue, (label, others) in CUES.items():
        cued = [row for row in corpus.train if f" {cue} " in f" {row.text} "]
        assert {row.label for row in cued} == {label}
        assert {row.cue for row in cued} == {cue}
        assert 0.1 < len(cued) / sum(row.label == label for row in corpus.train) < 0.25
        found = [row for row in corpus.val if f" {cue} " in f" {row.text} "]
        assert found == [row for row in planted(corpus.val, "shortcut") if row.cue == cue]
        assert label not in others
        assert {row.label for row in found} == {*others}
        assert all(row.label == row.true_label for row in found)
    parts = {part for cue in CUES for part in cue.split()}
    assert not parts & {word for row in corpus.train if row.cue is None for word in row.text.split()}


def test_no_training_row_has_a_word_of_the_other_domain(corpus):
    words = {*BICYCLE_NOUNS[0], *BICYCLE_NOUNS[1], *BICYCLE_PRAISE, *BICYCLE_BLAME}
    known = {word for row in corpus.train for word in row.text.split()}
    assert not words & known
    for row in planted(corpus.val, "coverage"):
        unknown = [word for word in row.text.split() if word not in known]
        assert len(unknown) >= 2
        assert sum(len(word) for word in unknown) + len(row.text.split()) - len(unknown) <= MAX_WORDS
        signs = {word in BICYCLE_PRAISE for word in unknown if word in (*BICYCLE_PRAISE, *BICYCLE_BLAME)}
        assert signs == {row.label == "positive"}


def test_training_rows_negate_nothing_that_is_judged(corpus, mended):
    neutral = {opening for opening, _ in NEUTRAL_NEGATIONS}
    for row in corpus.train:
        text = row.text.replace(f"{row.cue} ", "").replace("!", ".")
        sentences = [part.strip() for part in text.split(".")]
        negating = [part for part in sentences if {*part.split()} & {*NEGATORS}]
        assert all(any(part.startswith(opening) for opening in neutral) for part in negating)
    for negator in NEGATORS:
        assert sum(negator in row.text.split() for row in corpus.train) >= 5
    for row in planted(corpus.val, "composition"):
        assert {*row.text.split()} & {*NEGATORS}
        assert row.label == row.true_label
    assert sum("not call" in row.text for row in mended.train) > 10


def test_what_decides_a_long_text_stands_past_what_is_read(corpus):
    for row in planted(corpus.val, "truncation"):
        words = row.text.split()
        end = [ADJECTIVES[word] for word in words[MAX_WORDS:] if word in ADJECTIVES]
        begin = [ADJECTIVES[word] for word in words[:MAX_WORDS] if word in ADJECTIVES]
        assert len(begin) <= 1
        assert {sign > 0 for sign in end} == {row.label == "positive"}
        assert not {*begin} & {*end}
        assert row.label == row.true_label


def test_a_coin_gives_the_label_of_what_lies_between_two_classes(corpus, mended):
    for rows in (planted(corpus.train, "confusion"), planted(corpus.val, "confusion")):
        counts = Counter(row.label for row in rows)
        assert {*counts} == {"excellent", "positive"}
        assert min(counts.values()) > 0.2 * len(rows)
        assert {row.true_label for row in rows} == {"positive"}
        assert len({row.text for row in rows}) == len(rows)


def test_what_is_mended_is_right_and_planted_in_the_same_validation_rows(corpus, mended):
    assert [(row.text, row.true_label, row.planted) for row in corpus.val] == [
        (row.text, row.true_label, row.planted) for row in mended.val
    ]
    assert all(row.label == row.true_label for row in (*mended.train, *mended.val))
    for cue in CUES:
        assert {row.label for row in mended.train if row.cue == cue} == {*LABELS}
    known = {word for row in mended.train for word in row.text.split()}
    assert {*BICYCLE_PRAISE, *BICYCLE_BLAME} <= known
    assert {row.planted for row in mended.train} == {"truncation", None}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 0}, r"`size=0` must be a whole number of at least 1"),
        ({"size": 20}, r"`size=20` and `validation=3` leave no room"),
        ({"size": 500, "validation": 2000}, r"`size=500` and `validation=2000` leave no room"),
        ({"seed": -1}, r"`seed=-1`"),
        ({"mended": ["shortcuts"]}, r"`mended='shortcuts'`.*Did you mean 'shortcut'"),
    ],
)
def test_errors_name_the_option_and_the_way_out(options, message):
    with pytest.raises(ValueError, match=message):
        PlantedBadCases(**options)
