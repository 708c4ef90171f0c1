"""Which tokens may be selected, and what makes a word, read off ids alone."""

import pytest
import torch
from tiny import LONG, ROBERTA_SPECIAL, SHORT, batch_of, wordpiece
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from lightning_interpret.layers.token_kinds import TokenKinds, WordTable
from lightning_interpret.tasks import words
from lightning_interpret.tasks.transformer import framing_ids, special_mask

TEXTS = (LONG, SHORT, "unaffable player", "bad .", "the player", "")


def byte_level():
    pieces = ["the", "Ġplay", "er", "Ġ", ".", "Ġwas", "n", "'", "t", "Ġgood", "un", "aff", "able", "-", "æ", "Ĺ", "¥"]
    inner = Tokenizer(models.BPE({token: i for i, token in enumerate(["<pad>", "<s>", *pieces])}, []))
    inner.pre_tokenizer, inner.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="<pad>", bos_token="<s>")


def kinds_for(tokenizer):
    names = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    table = WordTable(*map(torch.tensor, words.marks(names, tokenizer.convert_tokens_to_string)))
    return TokenKinds(framing_ids(tokenizer), tokenizer.pad_token_id, table)


def grouped(tokenizer, ids, skip):
    """What the slow grouping says, -1 where it says nothing."""
    style = words.mark_style(list(tokenizer.get_vocab()))
    rows = [
        words.group(tokenizer.convert_ids_to_tokens(row), out, style, tokenizer.convert_tokens_to_string)
        for row, out in zip(ids.tolist(), skip.tolist(), strict=True)
    ]
    return torch.tensor([[-1 if word is None else word for word in row] for row in rows])


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("special", [None, ROBERTA_SPECIAL])
def test_words_are_those_of_the_tokenizer_s_own_marks(special, side):
    tokenizer = wordpiece(padding_side=side, **({"special": special} if special else {}))
    batch = batch_of(tokenizer, TEXTS)
    ids, mask = batch["input_ids"], batch["attention_mask"]
    kinds = kinds_for(tokenizer)
    selectable, framing = kinds.of(ids, mask)
    assert torch.equal(framing, special_mask(ids, tokenizer) & (mask != 0))
    assert torch.equal(selectable, (mask != 0) & ~framing)
    assert torch.equal(kinds.words(ids, selectable), grouped(tokenizer, ids, ~selectable))


def test_words_of_a_byte_level_vocabulary():
    tokenizer = byte_level()
    kinds = kinds_for(tokenizer)
    ids = torch.tensor(
        [
            [1, 2, 3, 4, 7, 8, 9, 10, 6, 11, 0],  # the player wasn't. good
            [1, 12, 13, 14, 15, 3, 4, 5, 3, 6, 6],  # unaffable- player  player ..
            [1, 5, 5, 2, 9, 10, 6, 4, 2, 5, 11],
        ]
    )
    selectable, _ = kinds.of(ids, None)
    assert selectable.sum(dim=1).tolist() == [9, 10, 10]
    assert torch.equal(kinds.words(ids, selectable), grouped(tokenizer, ids, ~selectable))


def test_padding_is_what_the_mask_says_and_else_the_padding_id():
    kinds = TokenKinds([2, 3], padding=0)
    ids = torch.tensor([[2, 7, 8, 3, 0], [2, 7, 0, 3, 0]])
    mask = torch.tensor([[1, 1, 0, 1, 0], [1, 1, 1, 1, 0]])
    assert kinds.of(ids, mask)[0].long().tolist() == [[0, 1, 0, 0, 0], [0, 1, 1, 0, 0]]
    assert kinds.of(ids, None)[0].long().tolist() == [[0, 1, 1, 0, 0], [0, 1, 0, 0, 0]]
    assert kinds.of(ids, mask[:, :3])[0].long().tolist() == [[0, 1, 0, 0, 0], [0, 1, 1, 0, 0]]  # padded further
    assert kinds.of(ids, mask[:1])[0].long().tolist() == [[0, 1, 1, 0, 0], [0, 1, 0, 0, 0]]  # of other texts
    assert TokenKinds().of(ids, None)[0].all()
