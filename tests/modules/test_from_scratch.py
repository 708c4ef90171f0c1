import torch

from lightning_interpret.modules.from_scratch import small_encoder, word_piece
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
