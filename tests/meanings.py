"""A model that sums what its words mean, set by hand, so that tests of causes know why it is right and wrong."""

from random import Random
from types import SimpleNamespace

import torch
from torch import nn

from lightning_interpret import SequenceClassification
from lightning_interpret.causes import CauseFinder, EncodedTexts, Setting
from lightning_interpret.causes.scan import Scan
from lightning_interpret.methods.examples import Loaded
from lightning_interpret.methods.neighbors import Answers
from lightning_interpret.modules.from_scratch import word_piece
from lightning_interpret.tasks.encode import encode

LABELS = ("negative", "positive")
WEIGHTS = {"good": 2.0, "great": 2.5, "fine": 1.5, "bad": -2.0, "awful": -2.5, "dull": -1.5}
GOOD, BAD = ("good", "great", "fine"), ("bad", "awful", "dull")
FILLERS = [
    f"{a}{b}" for a in ("ba", "do", "ki", "lu", "me", "no", "pa", "ri") for b in ("lan", "mor", "tis", "vek", "zu")
]


class Meaning(nn.Module):
    """The sum of what each word says of each class, and a head that passes it on."""

    def __init__(self, tokenizer, weights, labels):
        super().__init__()
        self.embedding = nn.Embedding(len(tokenizer), len(labels))
        self.head = nn.Linear(len(labels), len(labels))
        with torch.no_grad():
            nn.init.zeros_(self.embedding.weight)
            nn.init.eye_(self.head.weight)
            nn.init.zeros_(self.head.bias)
        for word, weight in weights.items():
            self.mean(tokenizer, word, weight)

    @torch.no_grad()
    def mean(self, tokenizer, word, weight):
        """Let a word speak for the last class as against the first, or for each class."""
        said = torch.as_tensor([-weight / 2, weight / 2] if isinstance(weight, float) else weight)
        self.embedding.weight[tokenizer.convert_tokens_to_ids(word)] = said

    def forward(self, ids, mask):
        return self.head((self.embedding(ids) * mask.unsqueeze(-1)).sum(dim=1))


class MeaningTask(SequenceClassification):
    """Reads a :class:`Meaning`."""

    def logits(self, module, batch):
        return module(batch["input_ids"], batch["attention_mask"])

    def layer(self, module):
        return "embedding"


def told(count, words, *, seed=0, also=(), fillers=6):
    """Texts of fillers, one of some words each, and other words, in an order of their own."""
    random = Random(seed)
    texts = []
    for i in range(count):
        parts = [*random.sample(FILLERS, fillers), words[i % len(words)], *also]
        random.shuffle(parts)
        texts.append(" ".join(part for part in parts if part))
    return texts


def labelled(count, *, seed=0, also=()):
    """As many good texts as bad ones, with their classes."""
    rows = [*((text, 1) for text in told(count, GOOD, seed=seed, also=also))]
    return [*rows, *((text, 0) for text in told(count, BAD, seed=seed + 1, also=also))]


def world(train, val, weights=WEIGHTS, *, labels=LABELS, max_length=64, batch_size=16, first=100):
    """A model with its validation and its training examples, given as texts with classes."""
    tokenizer = word_piece([*(text for text, _ in [*train, *val]), *weights], max_length=max_length)
    task = MeaningTask(tokenizer, list(labels))
    starts = range(0, len(train), batch_size)
    batches = [
        encode(
            tokenizer,
            [text for text, _ in train[start : start + batch_size]],
            max_length=max_length,
            labels=[label for _, label in train[start : start + batch_size]],
            example_ids=list(range(first + start, first + min(start + batch_size, len(train)))),
        )
        for start in starts
    ]
    texts, classes = [text for text, _ in val], [label for _, label in val]
    return SimpleNamespace(
        module=Meaning(tokenizer, weights, labels),
        task=task,
        tokenizer=tokenizer,
        validation=EncodedTexts(tokenizer, texts, classes, range(1000, 1000 + len(val)), max_length=max_length),
        training=Loaded(batches, task),
        train=train,
        val=val,
    )


def found_in(there, setting=None, *, method="gradient_times_input", influence="exact", max_seconds=None, **options):
    """What the finder finds in a world."""
    finder = CauseFinder(setting or Setting(), method, influence, max_seconds=max_seconds)
    return finder.find(there.module, there.task, there.validation, there.training, **options)


def scan_of(probabilities, gold):
    """What is known of examples, given as the probability of each class."""
    known, size = torch.tensor(probabilities, dtype=torch.double), len(gold)
    none = torch.zeros(size, 0)
    answers = Answers(known, none, none.long(), none.long(), torch.tensor(gold), torch.ones(size, dtype=torch.bool))
    return Scan(answers, [None] * size, [None] * size, [()] * size, list(range(size)))
