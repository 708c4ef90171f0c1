import pytest
import torch
from transformers import AutoTokenizer

from lightning_interpret.modules.from_scratch import (
    byte_level,
    small_decoder,
    small_encoder,
    small_encoder_decoder,
    word_piece,
)
from lightning_interpret.tasks.encode import max_tokens

TEXTS = ["The lamb was not very good .", "the waiter, the LAMB: good!", "naïve 寿司"]


def test_the_words_of_the_texts_are_tokens_and_others_are_spelled():
    tokenizer = word_piece(TEXTS)
    for text in TEXTS:
        ids = tokenizer(text)["input_ids"]
        assert ids[0] == tokenizer.cls_token_id
        assert ids[-1] == tokenizer.sep_token_id
        assert tokenizer.unk_token_id not in ids
    assert tokenizer.tokenize("The waiter was naïve!") == ["the", "waiter", "was", "naive", "!"]
    assert tokenizer.tokenize("what") == ["w", "##h", "##a", "##t"]
    assert tokenizer.tokenize("寿") == ["寿"]
    assert tokenizer.tokenize("q") == ["[UNK]"]
    assert tokenizer.mask_token == "[MASK]"


def test_a_bound_keeps_the_frequent_words():
    characters = 2 * len(set("".join(TEXTS[:2]).lower()) - {" "})
    tokenizer = word_piece(TEXTS[:2], vocabulary=5 + characters + 3)
    assert len(tokenizer) == 5 + characters + 3
    assert tokenizer.tokenize("the good lamb") == ["the", "good", "lamb"]
    assert tokenizer.tokenize("was") == ["w", "##a", "##s"]


def test_the_same_texts_and_seed_make_the_same_model():
    made = []
    for _ in range(2):
        torch.manual_seed(0)
        made.append(small_encoder(TEXTS, ["bad", "good"]))
    first, again = made
    assert first.tokenizer.get_vocab() == again.tokenizer.get_vocab()
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in first.state_dict().items())
    assert first.labels == ["bad", "good"]
    assert max_tokens(first.tokenizer, first.model) == 256


def test_bytes_spell_every_text_and_lose_nothing():
    tokenizer = byte_level(["Ein Hund läuft .", "Ein Mann läuft"], end=True)
    assert tokenizer.convert_ids_to_tokens(tokenizer("Ein Mann läuft").input_ids) == [
        "ĠEin",
        "ĠMann",
        "ĠlÃ¤uft",
        "</s>",
    ]
    for text in ("Ein Mann läuft .", "naïve 寿司 \t two  spaces\n", "x" * 300, "<s> </s> 🙂"):
        ids = tokenizer(text, verbose=False)["input_ids"]
        assert tokenizer.decode(ids[:-1]).removeprefix(" ") == text
        assert ids[-1] == tokenizer.eos_token_id
    found = tokenizer("Ein läuft", return_offsets_mapping=True)["offset_mapping"]
    assert found == [(0, 3), (4, 9), (0, 0)]


def test_bytes_stay_where_few_words_may_be_known():
    tokenizer = byte_level(["b b b a"], vocabulary=261)
    assert len(tokenizer) == 261
    assert tokenizer.tokenize("b a c") == ["Ġb", "Ġa", "Ġ", "c"]
    assert len(byte_level(["b b b a"], vocabulary=1)) == 259


def test_a_saved_tokenizer_of_bytes_is_the_same(tmp_path):
    tokenizer = byte_level(["Ein Mann"], begin=True)
    tokenizer.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    for text in ("Ein Mann", "  寿 ", ""):
        assert again(text)["input_ids"] == tokenizer(text)["input_ids"]
    assert again.decode(again("Ein Mann")["input_ids"], skip_special_tokens=True) == " Ein Mann"


@pytest.mark.parametrize("make", [small_encoder_decoder, small_decoder])
def test_the_same_texts_and_seed_make_the_same_writer(make):
    made = []
    for _ in range(2):
        torch.manual_seed(0)
        made.append(make(TEXTS, max_length=40))
    first, again = made
    assert first.tokenizer.get_vocab() == again.tokenizer.get_vocab()
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in first.state_dict().items())
    assert max_tokens(first.tokenizer, first.model) == 40
