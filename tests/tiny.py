"""Tiny models, tokenizers and tasks for tests: built from configurations, nothing is downloaded."""

import math

import torch
from lightning.pytorch import Trainer
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from torch import nn
from transformers import (
    BartConfig,
    BartForSequenceClassification,
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    GPT2Config,
    GPT2ForSequenceClassification,
    LlamaConfig,
    LlamaForSequenceClassification,
    LongformerConfig,
    LongformerForSequenceClassification,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaForSequenceClassification,
    RobertaModel,
    T5Config,
    T5EncoderModel,
    T5ForSequenceClassification,
    XLNetConfig,
    XLNetForSequenceClassification,
)

from lightning_interpret import SequenceClassification
from lightning_interpret.data import ReviewCorpus
from lightning_interpret.tasks.batches import as_mapping
from lightning_interpret.tasks.encode import encode
from lightning_interpret.tasks.transformer import call

BERT_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
ROBERTA_SPECIAL = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")  # the padding id is 1
WORDS = "the play ##er was great a film not bad dull movie good he is un ##aff ##able very . and".split()  # noqa: SIM905
VOCABULARY = len(BERT_SPECIAL) + len(WORDS)

SHORT = "the player was great ."  # 7 tokens, with the special ones of BERT: 8
LONG = "he is unaffable and a very good film was not dull"
TEXTS = (LONG, SHORT)
REFERENCES = ("a great film", "dull and bad movie .", "the play was not very good", "he is great", "bad")


def wordpiece(*, special=BERT_SPECIAL, padding_side="right", **options):
    """A WordPiece tokenizer; BERT's special tokens, or RoBERTa's names and ids for them."""
    pad, unknown, begin, end, mask = special if special == BERT_SPECIAL else [special[i] for i in (1, 3, 0, 2, 4)]
    vocabulary = {token: i for i, token in enumerate([*special, *WORDS])}
    inner = Tokenizer(models.WordPiece(vocabulary, unk_token=unknown))
    inner.pre_tokenizer, inner.decoder = pre_tokenizers.Whitespace(), decoders.WordPiece()
    inner.post_processor = processors.TemplateProcessing(
        single=f"{begin} $A {end}",
        pair=f"{begin} $A {end} $B:1 {end}:1",
        special_tokens=[(begin, vocabulary[begin]), (end, vocabulary[end])],
    )
    names = {"pad_token": pad, "unk_token": unknown, "cls_token": begin, "sep_token": end, "mask_token": mask}
    given = {name: token for name, token in (names | options).items() if token is not None}
    return PreTrainedTokenizerFast(tokenizer_object=inner, padding_side=padding_side, **given)


_COMMON = {"vocab_size": VOCABULARY, "num_labels": 3, "pad_token_id": 0}
_SIZES = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 40,
}
_ROBERTA = {**_COMMON, **_SIZES, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}
_T5 = {"d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 2, "num_heads": 2}
_BART = {f"{end}_{what}": n for end in ("encoder", "decoder") for what, n in [("layers", 1), ("attention_heads", 2)]}
_ENDS = {"bos_token_id": 2, "eos_token_id": 3, "decoder_start_token_id": 3}

CLASSIFIERS = {
    "bert": lambda: BertForSequenceClassification(BertConfig(**_COMMON, **_SIZES)),
    "roberta": lambda: RobertaForSequenceClassification(RobertaConfig(**_ROBERTA)),
    "distilbert": lambda: DistilBertForSequenceClassification(
        DistilBertConfig(**_COMMON, dim=16, n_layers=2, n_heads=2, hidden_dim=24, max_position_embeddings=40)
    ),
    "gpt2": lambda: GPT2ForSequenceClassification(
        GPT2Config(**_COMMON, n_embd=16, n_layer=2, n_head=2, n_positions=40, bos_token_id=2, eos_token_id=3)
    ),
    "llama": lambda: LlamaForSequenceClassification(LlamaConfig(**_COMMON, **_SIZES)),
    "t5": lambda: T5ForSequenceClassification(T5Config(**_COMMON, **_T5, eos_token_id=3, decoder_start_token_id=0)),
    "bart": lambda: BartForSequenceClassification(
        BartConfig(
            **_COMMON, **_BART, **_ENDS, d_model=16, encoder_ffn_dim=24, decoder_ffn_dim=24, max_position_embeddings=40
        )
    ),
    "longformer": lambda: LongformerForSequenceClassification(
        LongformerConfig(**_COMMON, **_SIZES, attention_window=[4, 4])
    ),
    "xlnet": lambda: XLNetForSequenceClassification(
        XLNetConfig(**_COMMON, d_model=16, n_layer=2, n_head=2, d_inner=24)
    ),
}
ENCODERS = {
    "bert": lambda: BertModel(BertConfig(**_COMMON, **_SIZES), add_pooling_layer=False),
    "roberta": lambda: RobertaModel(RobertaConfig(**_ROBERTA), add_pooling_layer=False),
    "t5": lambda: T5EncoderModel(T5Config(**_COMMON, **_T5, eos_token_id=3, decoder_start_token_id=0)),
}


def lively(module, seed=0):
    """The module with weights large enough that its attention and its heads are far from linear; in eval mode."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in module.named_parameters():
            if weight.dim() > 1:
                weight.normal_(0, 1 / math.sqrt(weight.shape[-1]), generator=generator)
            elif name.endswith("bias"):
                weight.normal_(0, 0.2, generator=generator)
    return module.eval()


def classifier(name, *, seed=0, dtype=torch.float32):
    """A tiny `transformers` sequence classifier with three classes."""
    return lively(CLASSIFIERS[name](), seed).to(dtype)


def tokenizer_for(name, **options):
    """The tokenizer of a tiny model."""
    return wordpiece(special=ROBERTA_SPECIAL if name == "roberta" else BERT_SPECIAL, **options)


class MeanPooled(nn.Module):
    """An encoder, a mean over the tokens that are no padding, and a head: invariant to padding on either side."""

    def __init__(self, name, dtype=torch.float32):
        super().__init__()
        self.encoder = ENCODERS[name]()
        self.head = nn.Linear(16, 3)
        lively(self).to(dtype)

    def forward(self, parts):
        hidden = call(self.encoder, parts).last_hidden_state
        mask = parts["attention_mask"].unsqueeze(-1).to(hidden.dtype)
        return self.head((hidden * mask).sum(dim=1) / mask.sum(dim=1))


class MeanPooledTask(SequenceClassification):
    """Reads a :class:`MeanPooled`."""

    def logits(self, module, batch):
        return module(as_mapping(batch))


class Bag(nn.Module):
    """A model of one's own: embeddings, a middle, a mean over the tokens, a non-linear head."""

    def __init__(self, middle=None, *, size=6, classes=3):
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, size)
        self.middle = nn.Identity() if middle is None else middle
        self.hidden = nn.Linear(size, size)
        self.head = nn.Linear(size, classes)
        lively(self)

    def forward(self, ids, mask):
        mask = mask.unsqueeze(-1).to(self.head.weight.dtype)
        pooled = (self.middle(self.embedding(ids)) * mask).sum(dim=1) / mask.sum(dim=1)
        return self.head(torch.tanh(self.hidden(pooled)))


class BagTask(SequenceClassification):
    """Reads a :class:`Bag`, and whatever is called as it is and embeds with ``embedding``."""

    def logits(self, module, batch):
        return module(batch["input_ids"], batch["attention_mask"])

    def layer(self, module):
        return "embedding"


def batch_of(tokenizer, texts=TEXTS, **options):
    """The batch of some texts."""
    return encode(tokenizer, list(texts), **options)


def bag_task(**options):
    """A task for :class:`Bag` with its labels, and references to draw baselines from."""
    task = BagTask(wordpiece(), ["bad", "dull", "good"], **options)
    return task.with_references(batch_of(task.tokenizer, REFERENCES, labels=[2, 0, 1, 2, 0]))


def write_reviews(path, size, *, seed=0):
    """Write generated reviews as a TSV file with the columns text, label and id (from 1000), and return its path."""
    rows = ReviewCorpus(size, seed=seed)
    lines = [f"{row.text}\t{row.label}\t{1000 + row.example_id}\n" for row in (rows[i] for i in range(size))]
    path.write_text("text\tlabel\tid\n" + "".join(lines))
    return path


def quiet_trainer(folder, **options):
    """A trainer on the CPU that writes nothing it is not asked for."""
    silent = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    return Trainer(
        **{"accelerator": "cpu", "default_root_dir": folder, "enable_model_summary": False, **silent, **options}
    )
