"""Validation texts as a list."""

from tiny import wordpiece

from lightning_interpret.causes import EncodedTexts


def test_a_batch_is_encoded_once_and_has_labels_and_ids():
    texts = EncodedTexts(wordpiece(), ["the film was good", "bad", "not bad"], [1, 0, -1], [7, 8, 9], max_length=4)
    batch = texts.batch([2, 0])
    assert texts.batch((2, 0)) is batch
    assert batch["labels"].tolist() == [-1, 1]
    assert batch["input_ids"].shape[1] == 4
    assert texts.batch([0, 2])["labels"].tolist() == [1, -1]
    assert (len(texts), texts.index(2), texts.text(2)) == (3, 2, "not bad")
    assert texts.encoded(["bad"])["input_ids"].tolist() == texts.batch([1])["input_ids"].tolist()
