import json

import pytest
from tiny import wordpiece
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import BertConfig, GPT2Config, PreTrainedTokenizerFast

from lightning_interpret.modules.from_scratch import word_piece
from lightning_interpret.modules.portable import config_from, config_values, tokenizer_files, tokenizer_from

TEXTS = ["The waiter was unaffable .", "good good food", "naïve café 寿司 🍣", ""]


def byte_level_bpe():
    core = Tokenizer(models.BPE())
    core.pre_tokenizer, core.decoder = pre_tokenizers.ByteLevel(add_prefix_space=True), decoders.ByteLevel()
    options = {"special_tokens": ["<|end|>"], "initial_alphabet": pre_tokenizers.ByteLevel.alphabet()}
    core.train_from_iterator(TEXTS, trainers.BpeTrainer(vocab_size=300, show_progress=False, **options))
    return PreTrainedTokenizerFast(
        tokenizer_object=core, eos_token="<|end|>", pad_token="<|end|>", padding_side="left", model_max_length=77
    )


def unigram():
    core = Tokenizer(models.Unigram())
    core.pre_tokenizer, core.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    special = ["<pad>", "<unk>", "</s>"]
    options = {"special_tokens": special, "unk_token": "<unk>", "show_progress": False}
    core.train_from_iterator(TEXTS, trainers.UnigramTrainer(vocab_size=60, **options))
    return PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", unk_token="<unk>", eos_token="</s>", model_max_length=12
    )


MAKERS = {
    "wordpiece": lambda: wordpiece(padding_side="left"),
    "trained wordpiece": lambda: word_piece(TEXTS, vocabulary=60, max_length=33),
    "byte-level bpe": byte_level_bpe,
    "unigram": unigram,
}


@pytest.mark.parametrize("name", MAKERS)
def test_a_tokenizer_comes_back(name):
    before = MAKERS[name]()
    after = tokenizer_from(json.loads(json.dumps(tokenizer_files(before))))
    assert after.get_vocab() == before.get_vocab()
    assert after.special_tokens_map == before.special_tokens_map
    assert (after.padding_side, after.model_max_length) == (before.padding_side, before.model_max_length)
    for options in ({}, {"padding": True}, {"truncation": True, "max_length": 4}):
        assert dict(after(TEXTS, **options)) == dict(before(TEXTS, **options))
    ids = before(TEXTS)["input_ids"]
    assert after.batch_decode(ids) == before.batch_decode(ids)


CONFIGS = {
    "bert": BertConfig(
        hidden_size=16, num_attention_heads=2, layer_norm_eps=1e-7, id2label={0: "no", 1: "yes", 2: "maybe"}
    ),
    "gpt2": GPT2Config(n_embd=16, n_layer=1, n_head=2, pad_token_id=3, embd_pdrop=0.0, num_labels=5),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_configuration_comes_back(name):
    before = CONFIGS[name]
    after = config_from(json.loads(json.dumps(config_values(before))))
    assert type(after) is type(before)
    ours = {"_name_or_path"}  # where it was read from
    assert {k: v for k, v in after.to_dict().items() if k not in ours} == {
        k: v for k, v in before.to_dict().items() if k not in ours
    }
    assert after.id2label == before.id2label
