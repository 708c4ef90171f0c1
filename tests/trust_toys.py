"""Comparisons to test with: a hand-made table, and a linear model of words whose truth is known."""

import torch
from tiny import VOCABULARY, BagTask, batch_of, wordpiece
from torch import nn

from lightning_interpret.records.trust import Agreement, Drill, TrustedMethod, TrustRow

GOOD, BAD = "great", "dull"
TEXTS = (
    "the film was great and not dull",
    "a very good movie",
    "he is bad and the play was dull",
    "the player was unaffable",
    "great film but dull movie",
    "a good play and a bad film .",
)


class Words(nn.Module):
    """Two logits, ±Σ weight of each word: what a word is worth is known, whatever else stands in the text."""

    def __init__(self, size=4):
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, size)
        self.head = nn.Linear(size, 2, bias=False)
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            self.embedding.weight.normal_(generator=generator)
            self.head.weight[0].normal_(generator=generator)
            self.head.weight[1] = -self.head.weight[0]

    def forward(self, ids, mask):
        return self.head((self.embedding(ids) * mask[..., None]).sum(dim=1))


def words(texts=TEXTS, **options):
    """The model, its task, and a batch."""
    tokenizer = wordpiece()
    return Words(), BagTask(tokenizer, ["bad", "good"]), batch_of(tokenizer, texts, **options)


def method(name, *, gain=0.1, p=0.01, probes=8, failed=None, reasons=None, **figures):
    """A line of a table: by default one that nothing is wrong with."""
    known = {
        "relative_error": 0.001, "comprehensiveness": 0.3, "sufficiency": 0.1, "randomisation": 0.05, "seconds": 0.1,
    } | figures  # fmt: skip
    return TrustedMethod(
        name=name, figures={key: value for key, value in known.items() if value is not None}, probes=probes, gain=gain,
        gain_error=0.01, p=p, failed=failed, reasons=reasons or {},
    )  # fmt: skip


def comparison(**changes):
    """A comparison of three methods, one of which failed, with a drill."""
    methods = (
        method("integrated_gradients", passes=33.0, token_f1=0.4),
        method("gradient", relative_error=None, reasons={"relative_error": "ranks only: a rate of change"}),
        TrustedMethod("expected_gradients", failed="ValueError: no references"),
    )
    values = {
        "methods": methods,
        "control": TrustedMethod("random order", {"comprehensiveness": 0.1, "sufficiency": 0.3}, probes=8),
        "agreement": (Agreement("integrated_gradients", "gradient", 0.4, 0.6),),
        "drill": Drill(
            "tuesday", "good", 0.1, 50, 0.8, 0.5, 12, 20, {"integrated_gradients": 1.0, "gradient": 0.5},
            {"integrated_gradients": 1.0, "gradient": 0.75}, 3, (0.1, 0.3), 2.5, None, 12,
        ),
        "recommended": "integrated_gradients",
        "because": ("integrated_gradients is recommended, of 2 that could be.",),
        "probes": 8,
        "baseline": "pad",
    }  # fmt: skip
    return TrustRow(**values | changes)
