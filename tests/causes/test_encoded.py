"""Validation texts as a list."""

import torch
from tiny import wordpiece

from lightning_interpret.causes import EncodedTexts
from lightning_interpret.tasks.encode import encode


def test_a_batch_is_encoded_once_and_has_labels_and_ids():
    texts = EncodedTexts(wordpiece(), ["the film was good", "bad", "not bad"], [1, 0, -1], [7, 8, 9], max_length=4)
    batch = texts.batch([2, 0])
    assert texts.batch((2, 0)) is batch
    assert batch["labels"].tolist() == [-1, 1]
    assert batch["input_ids"].shape[1] == 4
    assert texts.batch([0, 2])["labels"].tolist() == [1, -1]
    assert (len(texts), texts.index(2), texts.text(2)) == (3, 2, "not bad")
    assert texts.encoded(["bad"])["input_ids"].tolist() == texts.batch([1])["input_ids"].tolist()


def test_a_batch_is_that_of_its_texts_however_often_and_beside_whatever_it_is_read():
    tokenizer, raw = wordpiece(), ["a great film", "good " * 9000, "", "dull"]
    texts = EncodedTexts(tokenizer, raw, [1, 0, -1, 2], range(4), max_length=16)
    for numbers in [[0, 1, 2, 3], [1], [3, 0], [1, 3]] * 3:
        wanted = encode(tokenizer, [raw[n] for n in numbers], max_length=16, example_ids=numbers)
        found = texts.batch(numbers)
        for name, value in wanted.items():
            assert torch.equal(found[name], value) if isinstance(value, torch.Tensor) else found[name] == value
        assert found["labels"].tolist() == [[1, 0, -1, 2][n] for n in numbers]
