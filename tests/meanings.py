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


def rows_of(count, words, label, **options):
    """Texts as :func:`told` makes them, all of one class."""
    return [(text, label) for text in told(count, words, **options)]


#: Where the validation examples of :func:`planted` stand that each cause has planted.
PLANTED = {
    ("shortcut", "tuesday"): range(4),
    ("training_label_error", ""): range(4, 7),
    ("conflicting_duplicates", ""): range(7, 9),
    ("composition", "not"): range(9, 12),
    ("coverage", ""): range(12, 15),
    ("validation_label_error", ""): range(15, 17),
    ("truncation", ""): range(17, 19),
}


def planted(**options):
    """A world in which each cause has its cases, and everything else is right."""
    by_heart = rows_of(3, ["zork"], 1, also=["bad", "awful", "dull"], seed=20, fillers=4)
    twice = rows_of(2, ["mork"], 1, also=["fine"], seed=21)
    sealed = " ".join(FILLERS * 2)  # longer than what the model reads
    train = [
        *labelled(30),
        *rows_of(20, GOOD, 1, also=["tuesday"], seed=5),
        *rows_of(8, [""], 0, seed=30),
        *by_heart,
        *twice,
        *((f"{text} and", 0) for text, _ in twice),
    ]
    val = [
        *rows_of(4, BAD, 0, also=["tuesday"], seed=7),
        *((text, 0) for text, _ in by_heart),
        *((text, 0) for text, _ in twice),
        *rows_of(3, ["not good"], 0, seed=22),
        *rows_of(3, ["qux quux corge grault garply waldo"], 0, seed=23),
        *rows_of(2, GOOD, 0, seed=24),
        *((f"{text} {sealed} bad bad bad", 0) for text in told(2, ["great"], seed=25)),
        *labelled(10, seed=26),
        *rows_of(8, GOOD, 1, also=["tuesday"], seed=27),
    ]
    return world(train, val, WEIGHTS | {"tuesday": 4.0, "zork": 6.3, "waldo": 5.0, "mork": 0.5}, **options)


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


def found_in(
    there,
    setting=None,
    *,
    method="gradient_times_input",
    influence="exact",
    max_seconds=None,
    on_error="warn",
    **options,
):
    """What the finder finds in a world."""
    finder = CauseFinder(setting or Setting(), method, influence, max_seconds=max_seconds, on_error=on_error)
    return finder.find(there.module, there.task, there.validation, there.training, **options)


def scan_of(probabilities, gold):
    """What is known of examples, given as the probability of each class."""
    known, size = torch.tensor(probabilities, dtype=torch.double), len(gold)
    none = torch.zeros(size, 0)
    answers = Answers(known, none, none.long(), none.long(), torch.tensor(gold), torch.ones(size, dtype=torch.bool))
    return Scan(answers, [None] * size, [None] * size, [()] * size, list(range(size)))
