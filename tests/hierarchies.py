"""Models and methods for tests of hierarchical explanations: a sum of words, a language model, one of each method."""

import torch
from tiny import VOCABULARY, Bag, BagTask, lively, wordpiece
from torch import nn
from transformers import BertConfig, BertForMaskedLM

from lightning_interpret import (
    AgglomerativeContextualDecomposition,
    Hedge,
    MaskedLanguageModel,
    SamplingAndOcclusion,
)


class Sum(nn.Module):
    """A bag of words without a non-linearity: three scores, each the sum of what the words have for it, and a bias."""

    def __init__(self, dtype=torch.float64):
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, 4)
        self.head = nn.Linear(4, 3)
        lively(self).to(dtype)

    def forward(self, ids, mask):
        return self.head((self.embedding(ids) * mask.unsqueeze(-1)).sum(dim=1))


class Gated(Bag):
    """A model in which words act on one another: a GRU over the words, read at each word that is no padding."""

    def __init__(self):
        super().__init__(nn.GRU(6, 6, batch_first=True))
        for name, values in self.middle.named_parameters():
            if "bias" in name:
                nn.init.normal_(values, 0, 0.2, generator=torch.Generator().manual_seed(1))
        self.double()

    def forward(self, ids, mask):
        hidden, _ = self.middle(self.embedding(ids))
        mask = mask.unsqueeze(-1).to(hidden)
        return self.head(torch.tanh(self.hidden((hidden * mask).sum(dim=1))))


class Constant(Sum):
    """A model that says the same of any text."""

    def forward(self, ids, mask):
        return super().forward(ids, mask) * 0 + torch.tensor([1.0, 2.0, 3.0])


def task():
    """A task for these models, with their labels."""
    return BagTask(wordpiece(), ["bad", "dull", "good"])


def language_model(tokenizer=None, vocabulary=VOCABULARY, **options):
    """A tiny masked language model with the tokenizer of the tests."""
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    model = BertForMaskedLM(BertConfig(vocab_size=vocabulary, max_position_embeddings=40, **sizes))
    return MaskedLanguageModel(lively(model), tokenizer or wordpiece(), **options)


METHODS = {
    "hedge": Hedge(baseline="pad"),
    "hedge, signed": Hedge(baseline="zero", window=2, absolute=False, unit="token"),
    "acd": AgglomerativeContextualDecomposition(baseline="pad"),
    "acd, shared": AgglomerativeContextualDecomposition(baseline="pad", cross="shared", percentile=50, unit="token"),
    "occlusion": SamplingAndOcclusion(baseline="pad"),
    "soc": SamplingAndOcclusion(baseline="pad", sampler=language_model(), n_samples=3, radius=2),
}
