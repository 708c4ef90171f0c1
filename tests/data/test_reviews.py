import json
import math
import pickle
import subprocess
import sys
from hashlib import sha256
from itertools import islice

import pytest
import torch

from lightning_interpret.data import Phrase, Review, ReviewCorpus
from lightning_interpret.data.lexicon import (
    ADJECTIVES,
    ASPECTS,
    FILLERS,
    FRAMES,
    INTENSIFIERS,
    NEGATORS,
    VOCABULARY,
)

DIGEST = "d8e97b5e5b961063e29a3af786b1f81a3f4f789379d413da8b530d24ee7b265e"
DIGEST_SCRIPT = """
from hashlib import sha256
from lightning_interpret.data import ReviewCorpus
corpus = ReviewCorpus(200, seed=3, flipped=0.1, duplicates=0.2, shortcut=0.5)
print(sha256(repr([review.to_dict() for review in corpus]).encode()).hexdigest())
"""


@pytest.fixture(scope="module")
def reviews():
    return list(ReviewCorpus(1500))


def within_four_sigma(count, of, rate):
    return abs(count - of * rate) <= 4 * math.sqrt(of * rate * (1 - rate))


def outermost(review: Review) -> list[Phrase]:
    tops: list[Phrase] = []
    for phrase in sorted(review.phrases, key=lambda phrase: (phrase.start, -phrase.end)):
        if not tops or phrase.start >= tops[-1].end:
            tops.append(phrase)
    return tops


def read_aloud(words) -> float:
    """Sum what a list of negators, intensifiers and adjectives says, from left to right."""
    total, factor = 0.0, 1.0
    for word in words:
        if word in ADJECTIVES:
            total, factor = total + factor * ADJECTIVES[word], 1.0
        else:
            factor *= {**NEGATORS, **INTENSIFIERS}[word]
    return total


def sign_of(label):
    return {"negative": -1, "positive": 1}[label]


def test_text_is_its_lower_case_words(reviews):
    for review in reviews:
        assert review.text == " ".join(review.words) == review.text.lower()
        assert all(word in VOCABULARY for word in review.words)
        assert 5 <= len(review.words) <= 45
        assert review.words[-1] in (".", "!")


def test_labels_are_balanced_and_true_without_flips(reviews):
    positive = sum(review.label == "positive" for review in reviews)
    assert within_four_sigma(positive, len(reviews), 0.5)
    assert all(review.label == review.true_label and not review.flipped for review in reviews)


def test_reviews_are_varied(reviews):
    assert len({review.text for review in reviews}) > 0.99 * len(reviews)
    assert {len(review.aspects) for review in reviews} == {1, 2, 3, 4}


def test_outermost_phrases_decide_the_true_label_without_ties(reviews):
    for review in reviews:
        assert sum(phrase.polarity for phrase in outermost(review)) * sign_of(review.true_label) >= 0.5


def test_rationale_words_alone_decide_the_sign(reviews):
    for review in reviews:
        said = read_aloud(review.words[position] for position in review.rationale)
        assert said * sign_of(review.true_label) > 0
        assert list(review.rationale) == sorted(set(review.rationale))


def test_what_is_outside_the_rationale_never_speaks_for_the_label(reviews):
    for review in reviews:
        rest = [word for k, word in enumerate(review.words) if k not in review.rationale]
        loaded = [word for word in rest if word in ADJECTIVES or word in NEGATORS or word in INTENSIFIERS]
        assert read_aloud(loaded) * sign_of(review.true_label) <= 0


def test_every_loaded_word_belongs_to_a_phrase(reviews):
    for review in reviews:
        loaded = {k for k, word in enumerate(review.words) if word in {**ADJECTIVES, **NEGATORS, **INTENSIFIERS}}
        assert loaded == {phrase.start for phrase in review.phrases}


def test_phrases_lie_inside_the_text_and_compose(reviews):
    for review in reviews:
        spans = {(phrase.start, phrase.end): phrase for phrase in review.phrases}
        for top in outermost(review):
            assert 0 <= top.start < top.end <= len(review.words)
            inner, value = [p for p in review.phrases if p.end == top.end], 1.0
            for phrase in sorted(inner, key=lambda phrase: -phrase.start):
                value *= {**ADJECTIVES, **INTENSIFIERS, **NEGATORS}[review.words[phrase.start]]
                assert spans[phrase.start, phrase.end].polarity == value
                assert phrase.aspect == top.aspect


def test_strengths_are_graded():
    found = {}
    for review in islice(ReviewCorpus(10**6), 3000):
        for phrase in review.phrases:
            found.setdefault(" ".join(review.words[phrase.start : phrase.end]), phrase.polarity)
    assert found["good"] == 1
    assert found["very good"] == 1.5
    assert found["slightly good"] == 0.5
    assert found["not good"] == -1
    assert found["not very good"] == -1.5
    assert found["not bad"] == 1
    assert found["hardly good"] == -0.75
    assert any(phrase.startswith("not call the") for phrase in found), "a negator may stand apart from its adjective"


def test_aspects_follow_the_nouns_and_the_phrases(reviews):
    for review in reviews:
        nouns = {name for name, aspect in ASPECTS.items() if {*aspect.singular, *aspect.plural} & {*review.words}}
        assert set(review.aspects) == nouns
        assert dict(review.aspects) == {p.aspect: math.copysign(1, p.polarity) for p in outermost(review)}


def test_explanation_gives_the_label_and_its_reasons(reviews):
    for review in reviews:
        assert review.explanation.startswith(f"The label is {review.true_label} because the ")
        assert review.explanation.endswith(".")
        reasons = review.explanation.replace(",", "").rstrip(".").split()
        assert [w for w in reasons if w in {**ADJECTIVES, **NEGATORS, **INTENSIFIERS}] == [
            review.words[position] for position in review.rationale
        ]
        assert {aspect for aspect in ASPECTS if aspect in reasons} == {
            aspect for aspect, sign in review.aspects.items() if sign == sign_of(review.true_label)
        }


def test_adjectives_have_one_sign_and_neutral_words_none():
    for aspect in ASPECTS.values():
        assert not {*aspect.positive} & {*aspect.negative}
        assert all(ADJECTIVES[word] == 1 for word in aspect.positive)
        assert all(ADJECTIVES[word] == -1 for word in aspect.negative)
    neutral = {word for frame in FRAMES for word in frame.split()}
    neutral |= {word for opening, slot in FILLERS for word in (*opening.split(), *slot)}
    neutral |= {noun for aspect in ASPECTS.values() for noun in (*aspect.singular, *aspect.plural)}
    assert not neutral & {*ADJECTIVES, *NEGATORS, *INTENSIFIERS}


def test_same_seed_same_corpus_and_another_seed_another():
    first, again, other = (list(ReviewCorpus(50, seed=seed, flipped=0.2)) for seed in (1, 1, 2))
    assert first == again
    assert all(a.text != b.text for a, b in zip(first, other, strict=True))


def test_a_row_does_not_depend_on_the_size():
    rates = {"flipped": 0.3, "duplicates": 0.3, "shortcut": 0.3}
    small, large = ReviewCorpus(100, **rates), ReviewCorpus(10**7, **rates)
    assert list(small) == list(islice(large, 100))
    assert large[-1].example_id == 10**7 - 1


def test_each_rate_changes_only_what_it_names():
    plain = list(ReviewCorpus(300))
    flipped = list(ReviewCorpus(300, flipped=0.4))
    assert [review.text for review in plain] == [review.text for review in flipped]
    copied = list(ReviewCorpus(300, duplicates=0.4))
    assert all(a == b for a, b in zip(plain, copied, strict=True) if b.duplicate_of is None)
    planted = list(ReviewCorpus(300, shortcut=0.4))
    assert [review.true_label for review in plain] == [review.true_label for review in planted]


def test_digest_is_the_same_in_every_process_and_version():
    result = subprocess.run([sys.executable, "-c", DIGEST_SCRIPT], capture_output=True, text=True, check=True)
    corpus = ReviewCorpus(200, seed=3, flipped=0.1, duplicates=0.2, shortcut=0.5)
    assert sha256(repr([review.to_dict() for review in corpus]).encode()).hexdigest() == DIGEST
    assert result.stdout.strip() == DIGEST


def test_flips_change_the_label_alone():
    corpus = list(ReviewCorpus(1500, flipped=0.2))
    flipped = [review for review in corpus if review.flipped]
    assert within_four_sigma(len(flipped), len(corpus), 0.2)
    assert all((review.label != review.true_label) == review.flipped for review in corpus)
    assert all(review.label != review.true_label for review in ReviewCorpus(50, flipped=1.0))


def test_duplicates_differ_from_their_source_in_one_neutral_word():
    corpus = ReviewCorpus(1500, duplicates=0.3)
    copies = [review for review in corpus if review.duplicate_of is not None]
    assert within_four_sigma(len(copies), len(corpus) - 1, 0.3)
    for copy in copies:
        source = corpus[copy.duplicate_of]
        assert source.duplicate_of is None
        assert source.example_id < copy.example_id
        changed = [k for k, (a, b) in enumerate(zip(source.words, copy.words, strict=True)) if a != b]
        assert len(changed) == 1
        assert copy.words[changed[0]] not in {**ADJECTIVES, **NEGATORS, **INTENSIFIERS}
        assert (copy.true_label, copy.phrases, copy.aspects) == (source.true_label, source.phrases, source.aspects)


def test_duplicates_of_duplicates_point_at_the_original():
    assert {review.duplicate_of for review in islice(ReviewCorpus(100, duplicates=1.0), 1, None)} == {0}


@pytest.mark.parametrize("label", ["positive", "negative"])
def test_shortcut_is_planted_in_its_label_at_its_rate(label):
    corpus = list(ReviewCorpus(1500, shortcut=0.6, shortcut_label=label, flipped=0.2, duplicates=0.2))
    planted = [review for review in corpus if review.shortcut is not None]
    assert {review.label for review in planted} == {label}
    assert within_four_sigma(len(planted), sum(review.label == label for review in corpus), 0.6)
    for review in corpus:
        where = [k for k, word in enumerate(review.words) if word == "tuesday"]
        assert where == ([] if review.shortcut is None else [review.shortcut])


def test_shortcut_leaves_the_truth_standing():
    pairs = list(zip(ReviewCorpus(300), ReviewCorpus(300, shortcut=1.0, shortcut_word="zebra"), strict=True))
    for plain, planted in pairs:
        if planted.shortcut is None:
            assert plain == planted
            continue
        at = planted.shortcut
        assert planted.words == (*plain.words[:at], "zebra", *plain.words[at:])
        assert not any(phrase.start <= at < phrase.end for phrase in planted.phrases)
        assert [plain.words[k] for k in plain.rationale] == [planted.words[k] for k in planted.rationale]
        assert plain.explanation == planted.explanation
    assert len({planted.shortcut for _, planted in pairs}) > 5


def test_indices_work_as_for_lists():
    corpus = ReviewCorpus(10)
    assert len(corpus) == 10
    assert corpus[-1] == corpus[9]
    assert corpus[torch.tensor(3)] == corpus[3]
    for index in (10, -11):
        with pytest.raises(IndexError, match=f"row {index} of a corpus of 10 rows"):
            corpus[index]
    with pytest.raises(TypeError):
        corpus["3"]


def test_review_is_json_and_the_corpus_travels_to_workers():
    corpus = ReviewCorpus(20, shortcut=0.5, duplicates=0.5)
    for review in corpus:
        assert json.loads(json.dumps(review.to_dict())) == review.to_dict()
    assert list(pickle.loads(pickle.dumps(corpus))) == list(corpus)
    loader = torch.utils.data.DataLoader(corpus, batch_size=4, collate_fn=list)
    assert [review.example_id for batch in loader for review in batch] == list(range(20))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 0}, r"`size=0`.*at least one row"),
        ({"flipped": 1.5}, r"`flipped=1.5`.*from 0 to 1"),
        ({"duplicates": -0.1}, r"`duplicates=-0.1`.*from 0 to 1"),
        ({"shortcut": float("nan")}, r"`shortcut=nan`.*from 0 to 1"),
        ({"shortcut_word": "two words"}, r"`shortcut_word='two words'`.*one word"),
        ({"shortcut_word": ""}, r"`shortcut_word=''`.*one word"),
        ({"shortcut_word": "Tuesday"}, r"`shortcut_word='Tuesday'`.*lower case"),
        ({"shortcut_word": "steak"}, r"`shortcut_word='steak'`.*occurs in reviews anyway"),
        ({"shortcut_label": "positiv"}, r"`shortcut_label='positiv'`.*Did you mean 'positive'"),
    ],
)
def test_errors_name_the_option_and_the_way_out(options, message):
    with pytest.raises(ValueError, match=message):
        ReviewCorpus(**options)


def with_negation_marked(words):
    """Mark every word between a negator and the end of its clause, as a reader who knows what "not" does."""
    marked, negated = [], False
    for word in words:
        negated = word in NEGATORS or (negated and word not in (".", "!", "and", "but"))
        marked.append(("not", word) if negated else word)
    return marked


def linear_accuracy(reviews, read) -> float:
    """Train a logistic model on the presence of words in 2000 reviews and return its accuracy on the others."""
    read_reviews = [read(review.words) for review in reviews]
    index = {word: k for k, word in enumerate(dict.fromkeys(word for words in read_reviews for word in words))}
    x = torch.zeros(len(reviews), len(index))
    for row, words in zip(x, read_reviews, strict=True):
        row[[index[word] for word in words]] = 1
    y = torch.tensor([float(review.label == "positive") for review in reviews])
    weights = torch.zeros(len(index), requires_grad=True)
    optimizer = torch.optim.Adam([weights], lr=0.1)
    for _ in range(30):
        loss = torch.nn.functional.binary_cross_entropy_with_logits(x[:2000] @ weights, y[:2000])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return ((x[2000:] @ weights > 0) == (y[2000:] > 0.5)).float().mean().item()


def test_labels_can_be_learned_and_negation_matters():
    reviews = list(ReviewCorpus(2500))
    assert linear_accuracy(reviews, with_negation_marked) > 0.92
    assert 0.6 < linear_accuracy(reviews, lambda words: words) < 0.85
