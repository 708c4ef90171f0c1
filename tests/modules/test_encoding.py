import pytest
import torch
from tiny import CLASSIFIERS, LONG, SHORT, wordpiece
from tokenizers import processors

from lightning_interpret.tasks.encode import encode, max_tokens

TEXTS = [LONG, SHORT]


@pytest.mark.parametrize("side", ["right", "left"])
def test_padding_and_offsets_stand_on_the_side_of_the_tokenizer(side):
    tokenizer = wordpiece(padding_side=side)
    batch = encode(tokenizer, TEXTS)
    ids, mask, offsets = batch["input_ids"], batch["attention_mask"], batch["offset_mapping"]
    width = ids.shape[1]
    assert offsets.shape == (2, width, 2)
    for row, text in enumerate(TEXTS):
        length = len(tokenizer(text)["input_ids"])
        real = range(width - length, width) if side == "left" else range(length)
        assert mask[row].nonzero().flatten().tolist() == list(real)
        assert ids[row, list(real)].tolist() == tokenizer(text)["input_ids"]
        assert offsets[row][mask[row] == 0].sum() == 0
        for place in real:
            start, end = offsets[row, place].tolist()
            token = tokenizer.convert_ids_to_tokens(int(ids[row, place]))
            assert token in ("[CLS]", "[SEP]") or text[start:end] == token.removeprefix("##")


def test_labels_and_ids_go_along():
    batch = encode(wordpiece(), TEXTS, labels=[2, 0], example_ids=[7, 11])
    assert torch.equal(batch["labels"], torch.tensor([2, 0]))
    assert torch.equal(batch["example_id"], torch.tensor([7, 11]))
    assert {"labels", "example_id"}.isdisjoint(encode(wordpiece(), TEXTS))


def test_a_text_that_is_cut_says_so():
    tokenizer = wordpiece()
    longest = len(tokenizer(LONG)["input_ids"])
    batch = encode(tokenizer, TEXTS, max_length=longest - 3)
    assert batch["note"] == [f"cut to {longest - 3} of {longest} tokens: the model takes no more", None]
    assert batch["input_ids"].shape[1] == longest - 3
    assert batch["input_ids"][0, -1] == tokenizer.sep_token_id
    assert encode(tokenizer, TEXTS, max_length=longest)["note"] == [None, None]


def test_half_a_character_is_read_as_one_that_is_not_known():
    batch, known = (encode(wordpiece(), [f"{SHORT} {half} {SHORT}"]) for half in ("\ud83d", "\ufffd"))
    assert torch.equal(batch["input_ids"], known["input_ids"])
    assert torch.equal(batch["offset_mapping"], known["offset_mapping"])


def test_without_a_padding_token_only_equal_lengths_make_a_batch():
    tokenizer = wordpiece(pad_token=None)
    assert encode(tokenizer, [SHORT, SHORT])["input_ids"].shape == (2, len(tokenizer(SHORT)["input_ids"]))
    with pytest.raises(ValueError, match="no padding token, so texts of several lengths, or of none, make no batch"):
        encode(tokenizer, TEXTS)


@pytest.mark.parametrize(
    ("name", "expected"), [("bert", 40), ("roberta", 38), ("distilbert", 40), ("gpt2", 40), ("llama", 40)]
)
def test_the_longest_text_is_what_the_positions_allow(name, expected):
    assert max_tokens(wordpiece(), CLASSIFIERS[name]()) == expected


def test_the_longest_text_is_the_smaller_of_tokenizer_and_model():
    assert max_tokens(wordpiece(model_max_length=12), CLASSIFIERS["bert"]()) == 12
    assert max_tokens(wordpiece(model_max_length=512), CLASSIFIERS["bert"]()) == 40
    assert max_tokens(wordpiece(), CLASSIFIERS["t5"]()) is None


def test_texts_of_no_tokens_make_a_batch_of_padding():
    tokenizer = wordpiece()
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(single="$A", special_tokens=[])
    batch = encode(tokenizer, ["", ""])
    assert batch["input_ids"].tolist() == [[tokenizer.pad_token_id]] * 2
    assert batch["attention_mask"].tolist() == [[0], [0]]
    assert batch["offset_mapping"].shape == (2, 1, 2)
