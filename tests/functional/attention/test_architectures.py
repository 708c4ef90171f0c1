"""Attention is met in architectures of `transformers` as they are, whatever they call it and however it is made."""

import pytest
import torch
from transformers import AutoConfig, AutoModel

from lightning_interpret.functional.attention import AttentionError, attention
from lightning_interpret.functional.scope import explaining

SIZES = {
    "vocab_size": 30, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24,
    "max_position_embeddings": 40, "pad_token_id": 0,
}  # fmt: skip
_GPT = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 40}
_XLM = {"emb_dim": 16, "n_layers": 2, "n_heads": 2, "n_words": 30}
_RELATIVE = {"relative_attention": True, "pos_att_type": ["p2c", "c2p"]}
OTHERS = {
    "albert": {"embedding_size": 16},
    "big_bird": {"attention_type": "original_full"},
    "bloom": {"n_head": 2, "n_layer": 2},
    "ctrl": _GPT | {"dff": 24},
    "deberta": _RELATIVE,
    "deberta-v2": _RELATIVE,
    "electra": {"embedding_size": 16},
    "esm": {"position_embedding_type": "rotary"},
    "falcon": {},
    "flaubert": _XLM,
    "gemma": {"num_key_value_heads": 1, "head_dim": 8},
    "gpt_neo": {"num_layers": 2, "num_heads": 2, "attention_types": [[["global", "local"], 1]]},
    "gpt_neox": {},
    "gptj": _GPT | {"rotary_dim": 4},
    "ibert": {},
    "mistral": {"num_key_value_heads": 1, "sliding_window": 4},
    "mobilebert": {"embedding_size": 16, "intra_bottleneck_size": 16, "true_hidden_size": 16},
    "modernbert": {"global_attn_every_n_layers": 2, "local_attention": 4},
    "mpnet": {},
    "opt": {"ffn_dim": 24, "word_embed_proj_dim": 16},
    "phi": {},
    "qwen3": {"num_key_value_heads": 1, "head_dim": 8},
    "roformer": {"embedding_size": 16},
    "squeezebert": {"embedding_size": 16},
    "xlm": _XLM,
}
QUICK = ("albert", "deberta-v2", "gemma", "modernbert")
IDS = torch.randint(5, 29, (2, 7), generator=torch.Generator().manual_seed(0))
MASK = torch.tensor([[1] * 7, [1] * 4 + [0] * 3])


def model_of(name):
    torch.manual_seed(0)
    return AutoModel.from_config(AutoConfig.for_model(name, **SIZES | OTHERS.get(name, {}))).eval()


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n not in QUICK)) for n in OTHERS])
def test_the_model_is_what_it_was_and_its_attention_sums_to_one(name):
    model = model_of(name)
    with explaining(model), torch.no_grad():
        want = model(input_ids=IDS, attention_mask=MASK)[0]
        with attention(model) as met:
            got = model(input_ids=IDS, attention_mask=MASK)[0]
    assert (got - want).abs().max() <= 1e-6
    assert [(site.kind, tuple(site.weights.shape)) for site in met.weights] == [("self", (2, 2, 7, 7))] * 2
    for site in met.weights:
        rows = site.weights[1, :, :4]
        torch.testing.assert_close(rows.sum(-1), torch.ones(2, 4))
        assert bool((rows[..., 4:] == 0).all())


@pytest.mark.parametrize("name", ["fnet", "mamba"])
def test_a_model_that_mixes_without_attention_says_so(name):
    model = model_of(name)
    met = attention(model)
    with explaining(model), torch.no_grad(), pytest.raises(AttentionError, match="computes no attention"), met:
        model(input_ids=IDS)
