"""Is attention an explanation? A BiLSTM with additive attention (Jain and Wallace, 2019), and the report on it.

python examples/attention_debate.py
python examples/attention_debate.py --data-folder DATA    # SST-2 in DATA/sst2, in place of generated reviews
"""

import csv
import gzip
from argparse import ArgumentParser
from collections import Counter
from pathlib import Path

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from torch.utils.data import DataLoader
from torchmetrics.classification import BinaryAUROC
from transformers import PreTrainedTokenizerFast

from lightning_interpret import SequenceClassification, attention_report
from lightning_interpret.data import ReviewCorpus

LABELS = ["negative", "positive"]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]


def word_level(texts, min_frequency=1):
    """Return a tokenizer of the lower-cased words in some texts, a token a word."""
    counts = Counter(word for text in texts for word in text.lower().split())
    words = [*SPECIAL, *sorted(word for word, count in counts.items() if count >= min_frequency)]
    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    core.normalizer, core.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.WhitespaceSplit()
    core.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token"), SPECIAL, strict=True))
    return PreTrainedTokenizerFast(tokenizer_object=core, **names)


def loader(rows, tokenizer, batch_size=32, **options):
    """Return a loader of texts and labels, each batch a mapping."""

    def collate(some):
        batch = tokenizer([text for text, _ in some], padding=True, return_tensors="pt")
        return {**batch, "labels": torch.tensor([label for _, label in some])}

    return DataLoader(rows, batch_size=batch_size, collate_fn=collate, **options)


class Encoder(nn.Module):
    """Word vectors to vectors of words in their text, by a BiLSTM, or to projections that know no neighbours."""

    def __init__(self, kind, embedding, hidden):
        super().__init__()
        if kind == "lstm":
            self.lstm = nn.LSTM(embedding, hidden, batch_first=True, bidirectional=True)
        else:
            self.projection = nn.Linear(embedding, 2 * hidden)
        self.kind = kind

    def forward(self, embedded, mask):
        if self.kind != "lstm":
            return torch.tanh(self.projection(embedded))
        packed = pack_padded_sequence(embedded, mask.sum(dim=1).cpu(), batch_first=True, enforce_sorted=False)
        return pad_packed_sequence(self.lstm(packed)[0], batch_first=True, total_length=embedded.shape[1])[0]


class AttentiveReader(LightningModule):
    """Embedding, encoder, additive attention over the words, head."""

    def __init__(
        self, words, embedding=300, hidden=128, encoder="lstm", uniform=False, vectors=None, learning_rate=1e-3
    ):
        super().__init__()
        self.embedding = nn.Embedding(words, embedding, padding_idx=0)
        if vectors is not None:
            self.embedding.weight.data.copy_(vectors)
        self.encoder = Encoder(encoder, embedding, hidden)
        self.score = nn.Sequential(nn.Linear(2 * hidden, hidden), nn.Tanh(), nn.Linear(hidden, 1, bias=False))
        self.head = nn.Linear(2 * hidden, len(LABELS))
        self.area = BinaryAUROC()
        self.uniform, self.learning_rate = uniform, learning_rate

    def forward(self, ids, mask):
        hidden = self.encoder(self.embedding(ids), mask)
        scores = self.score(hidden).squeeze(-1) * (not self.uniform)
        words = (ids != 2) & (ids != 3) & (mask != 0)  # the first and the last token get no attention
        words = words | (~words.any(dim=1, keepdim=True) & (mask != 0))
        weights = scores.masked_fill(~words, -torch.inf).softmax(dim=1)
        return self.head((weights.unsqueeze(-1) * hidden).sum(dim=1))

    def training_step(self, batch, batch_idx):
        logits = self(batch["input_ids"], batch["attention_mask"])
        return nn.functional.cross_entropy(logits, batch["labels"])

    def validation_step(self, batch, batch_idx):
        answer, labels = self(batch["input_ids"], batch["attention_mask"]).softmax(dim=1), batch["labels"]
        self.area(answer[:, 1], labels)
        self.log("val_auc", self.area, batch_size=len(labels))
        self.log("val_accuracy", (answer.argmax(dim=1) == labels).float().mean(), batch_size=len(labels))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=self.learning_rate, weight_decay=1e-5, amsgrad=True, fused=True)


class ReaderTask(SequenceClassification):
    """How the report reads it."""

    def logits(self, module, batch):
        return module(batch["input_ids"], batch["attention_mask"])

    def layer(self, module):
        return "embedding"


def reviews(size, seed):
    """Return generated reviews as texts and labels."""
    corpus = ReviewCorpus(size, seed=seed)
    return [(corpus[i].text, LABELS.index(corpus[i].label)) for i in range(size)]


def sst(folder, split):
    """Return sentences of SST-2 as texts and labels."""
    path = next(Path(folder, "sst2").glob(f"{split}.tsv*"))
    with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf8", newline="") as file:
        rows = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        return [(row["sentence"], int(row["label"])) for row in rows]


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-folder", help="holds sst2/; by default reviews are generated")
    parser.add_argument("--texts", type=int, default=100, help="validation texts of the report (default: %(default)s)")
    options = parser.parse_args()
    seed_everything(0, verbose=False)
    if options.data_folder:
        train, val = sst(options.data_folder, "train_sentences"), sst(options.data_folder, "dev")
    else:
        train, val = reviews(1500, seed=0), reviews(200, seed=1)
    tokenizer = word_level([text for text, _ in train])
    sizes = {} if options.data_folder else {"embedding": 32, "hidden": 32, "learning_rate": 5e-3}
    module = AttentiveReader(len(tokenizer), **sizes)
    trainer = Trainer(max_epochs=8, accelerator="cpu", logger=False, enable_checkpointing=False)
    trainer.fit(module, loader(train, tokenizer, shuffle=True), loader(val, tokenizer))
    print({name: round(float(value), 4) for name, value in trainer.callback_metrics.items()})
    report = attention_report(
        module,
        loader(val[: options.texts], tokenizer),
        ReaderTask(tokenizer, labels=LABELS),
        steps=100,
        adversarial_texts=32,
    )
    print(report)
