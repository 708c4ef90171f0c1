"""A tiny model of every kind that a task reads, with its task and a batch: what is tried over all tasks."""

import torch
from tiny import _BART, _COMMON, _ENDS, _SIZES, _T5, batch_of, lively, wordpiece
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    BertConfig,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertForTokenClassification,
    GPT2Config,
    GPT2LMHeadModel,
    T5Config,
    T5ForConditionalGeneration,
)

from lightning_interpret import (
    CausalGeneration,
    MultiLabelClassification,
    QuestionAnswering,
    Regression,
    Seq2SeqGeneration,
    SequenceClassification,
    TokenClassification,
)

TAGS = ("O", "B-person", "I-person", "B-film", "I-film")
TEXTS = ("he was great and not bad .", "a dull film")
PAIRS = (("the player was great", "he is good"), ("a film", "was it not very dull"))
NAMES = ("SequenceClassification", "pairs", "TokenClassification", "QuestionAnswering", "CausalGeneration")
NAMES += ("Seq2SeqGeneration", "Regression", "MultiLabelClassification")


def made(name, *, seed=0, dtype=torch.float32, **options):
    """Return a model in eval mode, its task, and a batch of two examples with labels."""
    tokenizer, make = wordpiece(), _MAKERS[name]
    model, task, batch = make(tokenizer, options)
    return lively(model, seed).to(dtype), task, batch | {"example_id": torch.arange(2)}


def _bert(model, labels, **options):
    return model(BertConfig(**{**_COMMON, "num_labels": labels}, **_SIZES, **options))


def _classes(tokenizer, options):
    task = SequenceClassification(tokenizer, ["bad", "dull", "good"], **options)
    return _bert(BertForSequenceClassification, 3), task, batch_of(tokenizer, TEXTS, labels=[2, 1])


def _pairs(tokenizer, options):
    model, task, _ = _classes(tokenizer, options)
    return model, task, _both(tokenizer) | {"labels": torch.tensor([2, 0])}


def _tags(tokenizer, options):
    batch = batch_of(tokenizer, TEXTS)
    labels = torch.full_like(batch["input_ids"], -100)
    labels[0, 1:8] = torch.tensor([1, 0, 0, 0, 3, 4, 0])
    labels[1, 1:4] = torch.tensor([0, 0, 3])
    return (
        _bert(BertForTokenClassification, 5),
        TokenClassification(tokenizer, TAGS, **options),
        batch | {"labels": labels},
    )


def _answers(tokenizer, options):
    found = _both(tokenizer)
    first = found["token_type_ids"].argmax(dim=1)
    ends = {"start_positions": first, "end_positions": first + 1}
    return _bert(BertForQuestionAnswering, 2), QuestionAnswering(tokenizer, **options), found | ends


def _both(tokenizer):
    texts = [[pair[i] for pair in PAIRS] for i in (0, 1)]
    return dict(tokenizer(*texts, padding=True, return_tensors="pt", return_token_type_ids=True))


def _continued(tokenizer, options):
    found = tokenizer(list(TEXTS), padding=True, return_tensors="pt", add_special_tokens=False, padding_side="left")
    labels = found["input_ids"].masked_fill(found["attention_mask"] == 0, -100)
    labels[:, :-2] = -100  # two tokens are written after the prompt
    sizes = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 40, "bos_token_id": 2, "eos_token_id": 3}
    model = GPT2LMHeadModel(GPT2Config(**_COMMON, **sizes))
    return (
        model,
        CausalGeneration(tokenizer, **options),
        {k: found[k] for k in ("input_ids", "attention_mask")} | {"labels": labels},
    )


def _written(tokenizer, options):
    labels = torch.tensor([[6, 9, 3], [8, 3, -100]])
    batch = {k: v for k, v in batch_of(tokenizer, TEXTS).items() if k in ("input_ids", "attention_mask")}
    return t5(), Seq2SeqGeneration(tokenizer, **options), batch | {"labels": labels}


def t5():
    """A tiny T5 that writes."""
    return T5ForConditionalGeneration(T5Config(**_COMMON, **_T5, eos_token_id=3, decoder_start_token_id=0))


def bart():
    """A tiny BART that writes."""
    sizes = {"d_model": 16, "encoder_ffn_dim": 24, "decoder_ffn_dim": 24, "max_position_embeddings": 40}
    return BartForConditionalGeneration(BartConfig(**_COMMON, **_BART, **_ENDS, **sizes))


def _number(tokenizer, options):
    batch = batch_of(tokenizer, TEXTS) | {"labels": torch.tensor([0.5, -1.0])}
    return _bert(BertForSequenceClassification, 1), Regression(tokenizer, **options), batch


def _several(tokenizer, options):
    batch = batch_of(tokenizer, TEXTS) | {"labels": torch.tensor([[1.0, 0, 1], [0, 0, 0]])}
    task = MultiLabelClassification(tokenizer, ["bad", "dull", "good"], **options)
    return _bert(BertForSequenceClassification, 3), task, batch


_MAKERS = dict(zip(NAMES, (_classes, _pairs, _tags, _answers, _continued, _written, _number, _several), strict=True))
