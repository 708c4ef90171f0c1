"""Tiny models and batches of the tasks beyond one label a text, built from configurations."""

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from tiny import _BART, _COMMON, _ENDS, _ROBERTA, _SIZES, _T5, ROBERTA_SPECIAL, TEXTS, VOCABULARY, wordpiece
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    BertConfig,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertForTokenClassification,
    BertLMHeadModel,
    BertModel,
    EncoderDecoderModel,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MarianConfig,
    MarianMTModel,
    RobertaConfig,
    RobertaForQuestionAnswering,
    T5Config,
    T5ForConditionalGeneration,
)

from lightning_interpret.tasks import (
    CausalGeneration,
    MultiLabelClassification,
    QuestionAnswering,
    Regression,
    Seq2SeqGeneration,
    Task,
    TokenClassification,
)
from lightning_interpret.tasks.encode import encode

TAGS = ["O", "B-person", "I-person", "B-group", "I-group"]
OUTPUTS = ("he is not dull .", "a film")
QUESTIONS = ("was he great", "is he")

_WORDS = {"vocab_size": VOCABULARY, "pad_token_id": 0}
_BERT = {**_WORDS, **_SIZES}
_GPT2 = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 40}
_SEQ2SEQ = {"d_model": 16, "encoder_ffn_dim": 24, "decoder_ffn_dim": 24, "max_position_embeddings": 40}


def _bert2bert():
    decoder = BertConfig(**_BERT, is_decoder=True, add_cross_attention=True)
    model = EncoderDecoderModel(encoder=BertModel(BertConfig(**_BERT)), decoder=BertLMHeadModel(decoder))
    model.config.decoder_start_token_id, model.config.pad_token_id = 2, 0
    return model


CAUSAL = {
    "gpt2": lambda: GPT2LMHeadModel(GPT2Config(**_WORDS, **_ENDS, **_GPT2)),
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**_BERT, **_ENDS)),
}
SEQ2SEQ = {
    "bart": lambda: BartForConditionalGeneration(
        BartConfig(**_WORDS, **_ENDS, **_SEQ2SEQ, **_BART, forced_eos_token_id=None)
    ),
    "t5": lambda: T5ForConditionalGeneration(T5Config(**_WORDS, **_T5, eos_token_id=3, decoder_start_token_id=0)),
    "marian": lambda: MarianMTModel(
        MarianConfig(**_WORDS, **_SEQ2SEQ, **_BART, eos_token_id=3, decoder_start_token_id=0, forced_eos_token_id=None)
    ),
    "bert2bert": _bert2bert,
}


@dataclass
class Subject:
    """A model, how it is read, and its batches of some of the texts."""

    model: Any
    task: Task
    make: Any

    def batch(self, *rows):
        return self.make(rows or range(len(TEXTS)))


def weighed(model, *, seed=0, scale=0.3):
    """The model in evaluation mode with random weights that leave it undecided nowhere."""
    generator = torch.Generator().manual_seed(seed)
    for weight in model.parameters():
        weight.data.normal_(0, scale, generator=generator)
    return model.eval()


def causal(name="gpt2", *, side="right", prompt=4, **options):
    tokenizer = wordpiece(padding_side=side)

    def make(rows):
        batch = encode(tokenizer, [TEXTS[i] for i in rows], example_ids=[10 + i for i in rows])
        there = batch["attention_mask"] != 0
        batch["labels"] = batch["input_ids"].masked_fill(~there | (there.cumsum(dim=1) <= prompt), -100)
        return batch

    return Subject(weighed(CAUSAL[name]()), CausalGeneration(tokenizer, **options), make)


def seq2seq(name="bart", *, side="right", **options):
    tokenizer = wordpiece(padding_side=side)

    def make(rows):
        batch = encode(tokenizer, [TEXTS[i] for i in rows], example_ids=[10 + i for i in rows])
        written = encode(wordpiece(), [OUTPUTS[i] for i in rows])
        batch["labels"] = written["input_ids"].masked_fill(written["attention_mask"] == 0, -100)[:, 1:]
        return batch

    scale = 0.1 if name == "t5" else 0.3  # whose kinks a path would take thousands of steps for
    return Subject(weighed(SEQ2SEQ[name](), scale=scale), Seq2SeqGeneration(tokenizer, **options), make)


def tagging(*, side="right", labels=TAGS, gold=True):
    tokenizer = wordpiece(padding_side=side)

    def make(rows):
        batch = encode(tokenizer, [TEXTS[i] for i in rows], example_ids=[10 + i for i in rows])
        if gold:
            first = TokenClassification(tokenizer, labels).places(batch)
            tags = torch.arange(first.numel()).reshape(first.shape) % len(labels)
            order = first.long().cumsum(dim=1) % len(labels)
            batch["labels"] = torch.where(first, order, torch.full_like(tags, -100))
        return batch

    model = BertForTokenClassification(BertConfig(**_BERT, num_labels=len(labels)))
    return Subject(weighed(model), TokenClassification(tokenizer, labels), make)


def answering(*, side="right", roberta=False, **options):
    tokenizer = wordpiece(padding_side=side, **({"special": ROBERTA_SPECIAL} if roberta else {}))

    def make(rows):
        batch = tokenizer([QUESTIONS[i] for i in rows], [TEXTS[i] for i in rows], padding=True, return_tensors="pt")
        if roberta:
            with suppress(KeyError):
                del batch["token_type_ids"]
        first = (batch["attention_mask"] != 0).long().argmax(dim=1)
        ends = torch.tensor([(6, 7), (0, 0)])[list(rows)]
        batch["start_positions"], batch["end_positions"] = first + ends[:, 0], first + ends[:, 1]
        batch["example_id"] = torch.tensor([10 + i for i in rows])
        return batch

    model = RobertaForQuestionAnswering(RobertaConfig(**{**_ROBERTA, "num_labels": 2})) if roberta else None
    model = model or BertForQuestionAnswering(BertConfig(**_BERT))
    return Subject(weighed(model), QuestionAnswering(tokenizer, **options), make)


def numbers(*, several=False, multi_label=False, side="right"):
    tokenizer, names = wordpiece(padding_side=side), ["food", "service", "price"]
    gold = torch.tensor([[1.0, 0, 1], [0, 0, 0]])

    def make(rows):
        batch = encode(tokenizer, [TEXTS[i] for i in rows], example_ids=[10 + i for i in rows])
        batch["labels"] = gold[list(rows)] if several or multi_label else gold[list(rows), 0]
        return batch

    count = 3 if several or multi_label else 1
    model = BertForSequenceClassification(BertConfig(**{**_COMMON, **_SIZES, "num_labels": count}))
    named = names if count > 1 else None
    task = MultiLabelClassification(tokenizer, names) if multi_label else Regression(tokenizer, named)
    return Subject(weighed(model), task, make)


#: Every task, by name, with the sides its padding may stand on.
SUBJECTS = {
    **{
        f"causal-{name}-{side}": (causal, {"name": name, "side": side}) for name in CAUSAL for side in ("right", "left")
    },
    **{f"seq2seq-{name}": (seq2seq, {"name": name}) for name in SEQ2SEQ},
    "seq2seq-t5-left": (seq2seq, {"name": "t5", "side": "left"}),
    **{f"tagging-{side}": (tagging, {"side": side}) for side in ("right", "left")},
    **{f"answering-{side}": (answering, {"side": side}) for side in ("right", "left")},
    "answering-roberta": (answering, {"roberta": True}),
    "regression": (numbers, {}),
    "regression-several": (numbers, {"several": True}),
    "multi-label": (numbers, {"multi_label": True}),
}


def subject(name):
    made, options = SUBJECTS[name]
    return made(**options)
