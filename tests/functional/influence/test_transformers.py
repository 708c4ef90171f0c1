"""Per-example gradients of `transformers` models, padded on either side, next to one-at-a-time autograd."""

import pytest
import torch
import transformers
from per_example import assert_right, by_hooks, near
from tiny import _COMMON, _SIZES, CLASSIFIERS, MeanPooled, classifier, lively
from torch.nn import functional as F

from lightning_interpret.functional.influence.blocks import Table, coverage, uncovered

LENGTHS = (7, 4, 6, 3)
EXTRA = {
    "electra": lambda: transformers.ElectraForSequenceClassification(
        transformers.ElectraConfig(**_COMMON, **_SIZES, embedding_size=8)
    ),
    "albert": lambda: transformers.AlbertForSequenceClassification(
        transformers.AlbertConfig(**_COMMON, **_SIZES, embedding_size=8)
    ),
    "modernbert": lambda: transformers.ModernBertForSequenceClassification(
        transformers.ModernBertConfig(
            **_COMMON, **_SIZES, bos_token_id=2, eos_token_id=3, cls_token_id=2, sep_token_id=3
        )
    ),
    "gemma": lambda: transformers.GemmaForSequenceClassification(  # a weight of 1 + w, a scaled embedding
        transformers.GemmaConfig(**_COMMON, **_SIZES, head_dim=8, num_key_value_heads=1)
    ),
    "deberta": lambda: transformers.DebertaV2ForSequenceClassification(
        transformers.DebertaV2Config(
            **_COMMON, **_SIZES, relative_attention=True, pos_att_type=["p2c", "c2p"], share_att_key=True
        )
    ),
}


def of(name, dtype=torch.float64, **options):
    if name in CLASSIFIERS:
        return classifier(name, dtype=dtype)
    return lively(EXTRA[name]()).to(dtype)


def batch(side="right", first=5, last=23, eos=None, pad=0, extra=0):
    """Ids and masks of four texts of unequal lengths."""
    generator, width = torch.Generator().manual_seed(0), max(LENGTHS) + extra
    ids, mask = torch.full((4, width), pad), torch.zeros(4, width, dtype=torch.long)
    for row, length in enumerate(LENGTHS):
        place = slice(0, length) if side == "right" else slice(width - length, width)
        ids[row, place] = torch.randint(first, last, (length,), generator=generator)
        mask[row, place] = 1
        if eos is not None:
            ids[row, place.stop - 1] = eos
    return ids, mask


def runs(model, ids, mask):
    def losses(n):
        rows = torch.arange(n) % len(ids)
        logits = model(input_ids=ids[rows], attention_mask=mask[rows]).logits
        return F.cross_entropy(logits, rows % 3, reduction="none")

    return losses


# what is left out by name: biases of relative positions and positions that are read once for all examples and then
# moved about, an embedding whose ids are not what it is called with
LEFT = {
    "t5": {
        f"transformer.{end}.block.0.layer.0.SelfAttention.relative_attention_bias" for end in ("encoder", "decoder")
    },
    "bart": {f"model.{end}.embed_positions" for end in ("encoder", "decoder")},
    "deberta": {f"deberta.encoder.layer.{i}.attention.self.{each}_proj" for i in range(2) for each in ("query", "key")},
}


def given(name, side="right", extra=0):
    pad = 1 if name == "roberta" else 0
    return batch(side, pad=pad, eos=3 if name in ("t5", "bart") else None, extra=extra)


@pytest.mark.parametrize("name", [*CLASSIFIERS, *EXTRA])
def test_gradients_are_autograds(name):
    model = of(name)
    left = LEFT.get(name, ())
    for attention in ("eager", "sdpa"):
        try:
            model.set_attn_implementation(attention)
        except ValueError:  # has no such implementation
            continue
        # Gemma's normalisation is in single precision whatever the model's is
        assert_right(model, runs(model, *given(name)), 4, left=left, tolerance=1e-6 if name == "gemma" else 1e-10)


def test_a_picture_models_patches_are_covered_and_what_is_a_bare_parameter_is_not():
    sizes = {name: value for name, value in _SIZES.items() if name != "max_position_embeddings"}
    model = transformers.ViTForImageClassification(
        transformers.ViTConfig(**sizes, image_size=8, patch_size=4, num_labels=3)
    )
    model = lively(model).double()
    pixels = torch.randn(4, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def losses(n):
        rows = torch.arange(n) % 4
        return F.cross_entropy(model(pixel_values=pixels[rows]).logits, rows % 3, reduction="none")

    blocks = assert_right(model, losses, 4)
    assert uncovered(model, blocks) == ["vit.embeddings.cls_token", "vit.embeddings.position_embeddings"]
    bare = model.vit.embeddings.cls_token.numel() + model.vit.embeddings.position_embeddings.numel()
    assert coverage(model, blocks) == 1 - bare / sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("name", ["gpt2", "bert"])
def test_a_language_models_embedding_is_its_decoder_too(name):
    if name == "gpt2":
        config = transformers.GPT2Config(vocab_size=24, n_embd=16, n_layer=1, n_head=2, n_positions=40)
        model = transformers.GPT2LMHeadModel(config)
    else:
        model = transformers.BertForMaskedLM(transformers.BertConfig(**_COMMON, **_SIZES))
    model = lively(model).double()
    ids, mask = given(name)

    def losses(n):
        rows = torch.arange(n) % 4
        logits = model(input_ids=ids[rows], attention_mask=mask[rows]).logits[:, :-1]
        each = F.cross_entropy(logits.transpose(1, 2), ids[rows, 1:], reduction="none")
        return (each * mask[rows, 1:]).sum(dim=1)

    blocks = assert_right(model, losses, 4)
    held_by_another = {"bert": ["cls.predictions.bias"], "gpt2": []}  # a module that is no layer holds it too
    assert uncovered(model, blocks) == held_by_another[name]
    assert [type(block) for block in blocks].count(Table) == 1


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize(
    ("name", "side", "pooled"),
    [("bert", "right", False), ("roberta", "right", False), ("bert", "left", True), ("gpt2", "left", False)],
)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_gradients_are_the_same_alone_and_in_a_padded_batch(name, side, pooled, attention, dtype, tolerance):
    model = MeanPooled(name, dtype) if pooled else of(name, dtype)
    (model.encoder if pooled else model).set_attn_implementation(attention)
    ids, mask = given(name, side, extra=3)

    def called(ids, mask):
        places = (mask.cumsum(dim=1) - 1).clamp(min=0)  # left padding moves no position
        if pooled:
            return model({"input_ids": ids, "attention_mask": mask, "position_ids": places})
        own = {} if name == "roberta" else {"position_ids": places}
        return model(input_ids=ids, attention_mask=mask, **own).logits

    def losses(n):
        rows = torch.arange(n) % 4
        return F.cross_entropy(called(ids[rows], mask[rows]), rows % 3, reduction="none")

    together, _, _ = by_hooks(model, losses, 4)
    for row in range(4):
        kept = mask[row].bool()
        own = [each[row : row + 1, kept].repeat(3, 1) for each in (ids, mask)]

        def alone(n, own=own, row=row):
            return F.cross_entropy(called(own[0][:n], own[1][:n]), torch.full((n,), row % 3), reduction="none")

        found, _, _ = by_hooks(model, alone, 1)
        near({name: value[row] for name, value in together.items()}, {k: v[0] for k, v in found.items()}, tolerance)
