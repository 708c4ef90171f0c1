"""Where turn-over dropout masks: every block of every family and the head, each layer of a plain network once."""

import pytest
import torch
from tiny import _SIZES, CLASSIFIERS, VOCABULARY, batch_of, wordpiece
from torch import nn
from transformers import (
    AlbertConfig,
    AlbertForSequenceClassification,
    DebertaV2Config,
    DebertaV2ForSequenceClassification,
    ElectraConfig,
    ElectraForSequenceClassification,
    MixtralConfig,
    MixtralForSequenceClassification,
    ModernBertConfig,
    ModernBertForSequenceClassification,
    MPNetConfig,
    MPNetForSequenceClassification,
    Qwen2Config,
    Qwen2ForSequenceClassification,
)

from lightning_interpret.functional.features import LayerError
from lightning_interpret.layers import TurnOverDropout
from lightning_interpret.layers.sites import default_sites, known_units
from lightning_interpret.tasks.transformer import call

_OPTIONS = {"vocab_size": VOCABULARY, "num_labels": 3, "pad_token_id": 0, **_SIZES}
_ENDS = {"bos_token_id": 2, "eos_token_id": 3, "cls_token_id": 2, "sep_token_id": 3}
FAMILIES = CLASSIFIERS | {
    "electra": lambda: ElectraForSequenceClassification(ElectraConfig(**_OPTIONS, embedding_size=16)),
    "albert": lambda: AlbertForSequenceClassification(AlbertConfig(**_OPTIONS, embedding_size=16)),
    "modernbert": lambda: ModernBertForSequenceClassification(ModernBertConfig(**_OPTIONS, **_ENDS)),
    "deberta-v2": lambda: DebertaV2ForSequenceClassification(DebertaV2Config(**_OPTIONS)),
    "mpnet": lambda: MPNetForSequenceClassification(MPNetConfig(**_OPTIONS | {"pad_token_id": 1})),
    "qwen2": lambda: Qwen2ForSequenceClassification(Qwen2Config(**_OPTIONS, num_key_value_heads=1)),
}
BLOCKS = {"t5": 4, "albert": 1}  # T5 has encoder and decoder, ALBERT one block that it calls twice


def logits(model, batch):
    return call(model, batch).logits


@pytest.mark.parametrize("name", FAMILIES)
def test_every_block_of_a_transformer_and_its_head_are_masked(name):
    torch.manual_seed(0)
    model, dropout = FAMILIES[name]().eval(), TurnOverDropout().eval()
    sites = default_sites(model)
    assert len(sites) == BLOCKS.get(name, 2) + 1
    assert sites[-1].startswith("input of ")
    assert not any("attention" in site or "attn" in site for site in sites)
    dropout.attach(model, sites)
    batch, ids = batch_of(wordpiece()), torch.tensor([3, 4])
    plain = logits(model, batch)
    for scope in (dropout.seen, dropout.unseen):
        with scope(ids):
            masked = logits(model, batch)
        assert not torch.allclose(masked[0], plain[0])
        assert not torch.allclose(masked[1], plain[1])
    for site in sites:  # each masks by itself
        factors = {other: torch.ones(1, dropout._units[other]) for other in sites}
        with dropout.masked(factors):
            assert torch.equal(logits(model, batch), plain)
        with dropout.masked(factors | {site: torch.zeros(1, dropout._units[site])}):
            assert not torch.allclose(logits(model, batch), plain)
    dropout.train().begin(ids)
    assert not torch.allclose(logits(model, batch), plain)
    assert dropout.idle == ()


def test_blocks_that_have_no_feed_forward_part_of_linear_layers_are_to_be_named():
    model = MixtralForSequenceClassification(MixtralConfig(**_OPTIONS, num_key_value_heads=2, num_local_experts=2))
    with pytest.raises(LayerError, match=r"`turn_over_layers=None`.*Mixtral.*'input of score'"):
        default_sites(model)
    dropout = TurnOverDropout().eval()
    dropout.attach(model.eval(), ["model.layers.0.mlp", "input of score"])
    with dropout.seen(torch.tensor([1, 2])):
        assert logits(model, batch_of(wordpiece())).isfinite().all()


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.feed_forward = nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 4))


@pytest.mark.parametrize(
    ("module", "sites"),
    [
        (lambda: nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 2)), ["2", "4"]),
        (lambda: nn.Sequential(nn.Linear(4, 2)), ["0"]),
        (lambda: nn.Sequential(nn.LSTM(4, 3), nn.Linear(3, 2)), ["1"]),
        (lambda: nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4, 2)), ["3"]),
        (lambda: nn.Sequential(nn.Conv2d(1, 4, 3), nn.Conv2d(4, 5, 3), nn.Flatten(), nn.Linear(5, 2)), ["1", "3"]),
        (lambda: nn.Sequential(nn.ModuleList([nn.Linear(8, 4), nn.Linear(4, 2)])), ["0.1"]),
    ],
)
def test_each_hidden_layer_of_a_plain_network_is_masked_once(module, sites):
    assert default_sites(module()) == [f"input of {site}" for site in sites]


def test_blocks_of_ones_own_are_found():
    blocks = nn.Sequential(Residual(), Residual())
    module = nn.ModuleDict({"blocks": blocks, "encoder": nn.TransformerEncoderLayer(4, 1, 8), "head": nn.Linear(4, 2)})
    assert default_sites(module) == [f"blocks.{i}.feed_forward.2" for i in (0, 1)] + ["input of head"]
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(4, 1, 8, batch_first=True), 2).eval()
    module = nn.ModuleDict({"encoder": encoder, "head": nn.Linear(4, 2)})
    assert default_sites(module) == ["encoder.layers.0.linear2", "encoder.layers.1.linear2", "input of head"]
    dropout, x = TurnOverDropout().eval(), torch.randn(2, 3, 4)
    dropout.attach(module, default_sites(module))
    with torch.no_grad(), dropout.seen(torch.tensor([0, 1])):  # PyTorch's fast path passes by no hook
        masked = encoder(x)
    with torch.no_grad():
        assert not torch.allclose(masked, encoder(x))
    assert default_sites(nn.Tanh()) == []


def test_the_units_are_known_beforehand_where_the_layer_tells():
    assert known_units("a", nn.Linear(3, 5)) == 5
    assert known_units("input of a", nn.Linear(3, 5)) == 3
    assert known_units("a", nn.Conv2d(3, 7, 1)) == 7
    assert known_units("input of a", nn.LazyLinear(7)) is None
    assert known_units("a", nn.LayerNorm(7)) is None
