"""Texts with one word of evidence, and small models that learn to say which: for tests of generated explanations."""

import torch
from lightning.pytorch import LightningModule
from tokenizers import Tokenizer, models, pre_tokenizers
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)

from lightning_interpret import GeneratedRationaleMixin
from lightning_interpret.tasks.encode import encode, following

LABELS = ["sun", "rain", "snow"]
EVIDENCE = [["warm", "hot", "dry"], ["wet", "damp", "soaked"], ["icy", "white", "frozen"]]
FILLER = "one day we went out and saw that all of it had been here for some time before they came to look again".split()  # noqa: SIM905
SPECIAL = ["[PAD]", "[UNK]", "[EOS]"]
WORDS = [
    *SPECIAL,
    *LABELS,
    *(word for words in EVIDENCE for word in words),
    *dict.fromkeys(FILLER),
    "label:",
    "explanation:",
    "because",
    "was",
]
SIZE = len(WORDS)

_T5 = {"d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 1, "num_heads": 2, "dropout_rate": 0.0}
_BART = {
    f"{end}_{what}": n
    for end in ("encoder", "decoder")
    for what, n in [("layers", 1), ("attention_heads", 2), ("ffn_dim", 64)]
}
_OFF = {"dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0}
MODELS = {
    "t5": lambda: T5ForConditionalGeneration(
        T5Config(vocab_size=SIZE, **_T5, pad_token_id=0, eos_token_id=2, decoder_start_token_id=0)
    ),
    "bart": lambda: BartForConditionalGeneration(
        BartConfig(
            vocab_size=SIZE, d_model=32, **_BART, **_OFF, max_position_embeddings=64, pad_token_id=0,
            bos_token_id=2, eos_token_id=2, decoder_start_token_id=2, forced_eos_token_id=2, forced_bos_token_id=5,
        )
    ),
    "gpt2": lambda: GPT2LMHeadModel(
        GPT2Config(
            vocab_size=SIZE, n_embd=32, n_layer=2, n_head=2, n_positions=64, resid_pdrop=0.0, embd_pdrop=0.0,
            attn_pdrop=0.0, pad_token_id=0, bos_token_id=2, eos_token_id=2,
        )
    ),
    "llama": lambda: LlamaForCausalLM(
        LlamaConfig(
            vocab_size=SIZE, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
            max_position_embeddings=64, pad_token_id=0, bos_token_id=2, eos_token_id=2,
        )
    ),
}  # fmt: skip


def word_tokenizer(**options):
    """A tokenizer of whole words."""
    inner = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    names = dict(zip(("pad_token", "unk_token", "eos_token"), SPECIAL, strict=True))
    return PreTrainedTokenizerFast(tokenizer_object=inner, **names | options)


def made(count, seed=0, length=(4, 8)):
    """Return texts of filler with one word of evidence, their labels, and explanations that name it."""
    generator = torch.Generator().manual_seed(seed)

    def draw(n):
        return int(torch.randint(n, (1,), generator=generator))

    texts, labels, explanations = [], [], []
    for _ in range(count):
        label = draw(3)
        words = [FILLER[draw(len(FILLER))] for _ in range(length[0] + draw(length[1] - length[0] + 1))]
        evidence = EVIDENCE[label][draw(3)]
        words.insert(draw(len(words) + 1), evidence)
        texts.append(" ".join(words))
        labels.append(label)
        explanations.append(f"because it was {evidence}")
    return texts, labels, explanations


def batch_of(texts, labels=None, explanations=None, tokenizer=None):
    """The batch of some texts; an explanation may be empty."""
    tokenizer = tokenizer or word_tokenizer()
    batch = encode(tokenizer, texts, labels=labels, example_ids=range(len(texts)))
    if explanations is not None:
        rows = following(tokenizer, explanations)
        width = max(1, *map(len, rows))
        batch["explanation_ids"] = torch.tensor([row + [-100] * (width - len(row)) for row in rows])
    return batch


class Evidence(Dataset):
    """The rows of :func:`made`, each a tuple."""

    def __init__(self, count, seed=0, share=1.0, **options):
        texts, labels, explanations = made(count, seed, **options)
        kept = round(share * count)
        explanations = [each if i < kept else "" for i, each in enumerate(explanations)]
        self.rows = list(zip(texts, labels, explanations, strict=True))

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, i):
        return (*self.rows[i], i)


def collate(rows):
    texts, labels, explanations, ids = zip(*rows, strict=True)
    batch = batch_of(list(texts), labels, list(explanations))
    batch["example_id"] = torch.tensor(ids)
    return batch


def loader(count, seed=0, batch_size=32, shuffle=False, **options):
    return DataLoader(Evidence(count, seed, **options), batch_size=batch_size, collate_fn=collate, shuffle=shuffle)


class Own(LightningModule):
    """A module of the user's around a language model."""

    def __init__(self, name="t5", rate=3e-3, seed=0, tokenizer=None, optimizer=torch.optim.Adam):
        super().__init__()
        torch.manual_seed(seed)
        self.model, self.tokenizer, self.rate = MODELS[name](), tokenizer or word_tokenizer(), rate
        self.labels, self.losses, self.optimizer = LABELS, [], optimizer

    def forward(self, batch):
        return self.label_scores(batch)

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self(batch), batch["labels"])

    def on_train_batch_end(self, outputs, batch, batch_idx):
        super().on_train_batch_end(outputs, batch, batch_idx)
        self.losses.append(float(outputs["loss"]))

    def validation_step(self, batch, batch_idx):
        self.log("val_accuracy", (self(batch).argmax(dim=1) == batch["labels"]).float().mean())

    def configure_optimizers(self):
        return self.optimizer(self.parameters(), lr=self.rate)


class Explaining(GeneratedRationaleMixin, Own):
    """The same with the mixin."""


def explaining_model(name="t5", order="predict_then_explain", **options):
    """An untrained model whose weights are far from alike, in evaluation mode."""
    module = Explaining(name=name, generated_order=order, **options)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in module.parameters():
            if weight.dim() > 1:
                weight.normal_(0, 0.4, generator=generator)
    return module.eval()
