"""A tiny model, its task and a batch of training examples for each kind of task that has no one class, in float64."""

import torch
from tiny import SHORT, VOCABULARY, batch_of, lively, wordpiece
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    BertConfig,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertForTokenClassification,
    GPT2Config,
    GPT2LMHeadModel,
)

from lightning_interpret import (
    CausalGeneration,
    MultiLabelClassification,
    QuestionAnswering,
    Regression,
    Seq2SeqGeneration,
    TokenClassification,
)

TEXTS = (SHORT, "a dull film .", "bad and great movie", "he is good")
TAGS = ("O", "B-thing", "I-thing")
_BERT = {
    "vocab_size": VOCABULARY, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2,
    "intermediate_size": 6, "max_position_embeddings": 40, "pad_token_id": 0,
}  # fmt: skip
_BART = {f"{end}_{what}": n for end in ("encoder", "decoder") for what, n in [("layers", 1), ("attention_heads", 2)]}


def _texts():
    return {**batch_of(wordpiece(), TEXTS), "example_id": torch.arange(10, 10 + len(TEXTS))}


def tagging():
    batch = _texts()
    own = (batch["attention_mask"] == 1) & (batch["input_ids"] > 4)
    labels = (batch["input_ids"] % 3).masked_fill(~own, -100)
    model = BertForTokenClassification(BertConfig(**_BERT, num_labels=3))
    return model, TokenClassification(wordpiece(), TAGS), batch | {"labels": labels}


def answering():
    batch = _texts()
    ends = {"start_positions": torch.tensor([2, 1, 0, 2]), "end_positions": torch.tensor([4, 3, 0, 2])}
    return BertForQuestionAnswering(BertConfig(**_BERT)), QuestionAnswering(wordpiece()), batch | ends


def continuing():
    batch = _texts()
    ids, there = batch["input_ids"], batch["attention_mask"] == 1
    output = there & (torch.arange(ids.shape[1]) >= torch.tensor([5, 3, 2, 3])[:, None])
    config = GPT2Config(vocab_size=VOCABULARY, n_embd=8, n_layer=1, n_head=2, n_positions=40, pad_token_id=0)
    return (
        GPT2LMHeadModel(config),
        CausalGeneration(wordpiece()),
        batch | {"labels": ids.masked_fill(~output, -100)},
    )


def translating():
    batch = _texts()
    labels = batch["input_ids"][:, 1:6].flip(0).clone()
    labels = labels.masked_fill(labels == 0, -100)
    config = BartConfig(
        vocab_size=VOCABULARY, **_BART, d_model=8, encoder_ffn_dim=6, decoder_ffn_dim=6, max_position_embeddings=40,
        pad_token_id=0, bos_token_id=2, eos_token_id=3, decoder_start_token_id=3,
    )  # fmt: skip
    return BartForConditionalGeneration(config), Seq2SeqGeneration(wordpiece()), batch | {"labels": labels}


def measuring():
    labels = torch.tensor([[0.5, -1.0], [2.0, 0.0], [-0.5, float("nan")], [1.0, 1.5]])
    model = BertForSequenceClassification(BertConfig(**_BERT, num_labels=2))
    return model, Regression(wordpiece(), ["stars", "price"]), _texts() | {"labels": labels}


def labelling():
    labels = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    model = BertForSequenceClassification(BertConfig(**_BERT, num_labels=3))
    return model, MultiLabelClassification(wordpiece(), ["funny", "sad", "long"]), _texts() | {"labels": labels}


KINDS = {each.__name__: each for each in (tagging, answering, continuing, translating, measuring, labelling)}
#: A small layer of each.
HEAD = {
    "tagging": "classifier", "answering": "qa_outputs", "continuing": "transformer.h.0.mlp.c_proj",
    "translating": "model.decoder.layers.0.fc2", "measuring": "classifier", "labelling": "classifier",
}  # fmt: skip
PLACED = ("tagging", "continuing", "translating")


def made(kind, dtype=torch.float64):
    """A lively model, its task, and a batch of four examples."""
    model, task, batch = KINDS[kind]()
    return lively(model).to(dtype), task, batch


def parts_of(task, batch, size=2):
    """The batch in parts, as a loader would yield it."""
    return [task.take(batch, rows) for rows in torch.arange(len(batch["example_id"])).split(size)]
