"""Words taken out: as if the shorter text had been read, several at once as one at a time, never all of them."""

import pytest
import torch
from meanings import labelled, world
from tiny import TEXTS, batch_of, classifier, tokenizer_for

from lightning_interpret import SequenceClassification
from lightning_interpret.causes.encoded import EncodedTexts
from lightning_interpret.causes.erase import Eraser, Words
from lightning_interpret.functional.scope import explaining

RAW = (*TEXTS, "good", "the play was bad bad . he is great", "[CLS] !")


def read(name, **options):
    model, tokenizer = classifier(name, dtype=torch.float64), tokenizer_for(name, **options)
    return model, SequenceClassification(tokenizer, ["bad", "dull", "good"]), tokenizer


def of(model, task, tokenizer):
    return Eraser(model, task, EncodedTexts(tokenizer, RAW, [0] * len(RAW), range(len(RAW))))


@pytest.fixture(scope="module")
def bert():
    return read("bert")


@pytest.fixture
def eraser(bert):
    with explaining(bert[0], full_precision=True):
        yield of(*bert)


def every(eraser):
    words = eraser.words(range(len(RAW)))
    return [(n, (place,)) for n in words for place in range(len(words[n].shown))]


def test_words_are_those_of_the_text_with_punctuation_that_is_no_key(eraser):
    words = eraser.words([1, 3])
    assert words[1].shown == ("the", "player", "was", "great", ".")
    assert words[1].keys == ("the", "player", "was", "great")
    assert words[3].places(("bad",)) == (3, 4)
    assert words[3].places(("bad", "bad", "he")) == (3, 4, 6)  # a phrase does not stop at punctuation
    assert words[3].places(("never",)) == ()
    assert Words.of(("don't", "…")) == Words(("don't", "…"), ("don", "t"), (0, 0))


# the sides on which the models themselves say the same of a padded text
EXACT = [
    ("bert", "right"),
    ("roberta", "right"),
    ("t5", "right"),
    ("gpt2", "right"),
    ("gpt2", "left"),
    ("xlnet", "left"),
]


@pytest.mark.parametrize(("name", "side"), EXACT)
def test_several_at_once_are_what_they_are_one_at_a_time(name, side):
    model, task, tokenizer = read(name, padding_side=side)
    with explaining(model, full_precision=True):
        eraser = of(model, task, tokenizer)
        asked = [*every(eraser), (0, (1, 4, 5)), (3, (0, 3)), (1, ())]
        asked = asked[::-1] + asked[:3]  # in no order, some twice
        together = eraser.without(asked)
        for row, one in zip(together, asked, strict=True):
            torch.testing.assert_close(row, eraser.without([one])[0], rtol=0, atol=1e-12, equal_nan=True)
        assert eraser.without([]).shape[0] == 0


@pytest.mark.parametrize(("name", "side"), EXACT)
def test_it_is_what_the_model_says_of_the_shorter_text(name, side):
    model, task, tokenizer = read(name, padding_side=side)
    asked = [(0, (3,)), (0, (2, 9)), (3, (3,)), (3, (0, 1, 8))]
    with explaining(model, full_precision=True):
        eraser = of(model, task, tokenizer)
        after = eraser.without(asked)
        for row, (number, places) in zip(after, asked, strict=True):
            shown = eraser.words([number])[number].shown
            shorter = " ".join(word for place, word in enumerate(shown) if place not in places)
            with torch.no_grad():
                wanted = task.logits(model, batch_of(tokenizer, [shorter])).softmax(dim=1)[0]
            torch.testing.assert_close(row, wanted, rtol=0, atol=1e-12)


def test_nothing_taken_out_is_the_text_and_all_of_it_is_not_a_number(bert, eraser):
    model, task, tokenizer = bert
    after = eraser.without([(1, ()), (2, (0,)), (1, tuple(range(5))), (1, (0, 1, 2))])
    with torch.no_grad():
        wanted = task.logits(model, batch_of(tokenizer, [RAW[1]])).softmax(dim=1)[0].double()
    torch.testing.assert_close(after[0], wanted, rtol=0, atol=1e-6)
    assert after.isnan().all(dim=1).tolist() == [False, True, True, False]


def test_training_examples_that_lack_a_cue_are_left_out():
    there = world(labelled(6), [("good bad", 1)])
    eraser = Eraser(there.module, there.task, there.validation)
    after = eraser.training(there.training, [100, 101, 103, 107], ("good",))
    assert after.shape == (2, 2)  # 100 and 103
    torch.testing.assert_close(after, torch.full((2, 2), 0.5).double())
    assert len(eraser.training(there.training, [107], ("good",))) == 0
    assert len(eraser.training(there.training, [], ("good",))) == 0
