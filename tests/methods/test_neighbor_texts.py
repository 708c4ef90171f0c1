"""Neighbours of texts: how a sequence becomes a vector, and which tokens the neighbours' agreement rests on."""

import pytest
import torch
from purity import assert_same, state_of
from tiny import (
    LONG,
    REFERENCES,
    SHORT,
    Bag,
    MeanPooled,
    MeanPooledTask,
    bag_task,
    batch_of,
    classifier,
    tokenizer_for,
    wordpiece,
)

from lightning_interpret import SequenceClassification
from lightning_interpret.methods.neighbors import NearestNeighbors
from lightning_interpret.tasks.encode import encode

TRAIN = [
    "a great film", "dull and bad movie .", "the play was not very good", "he is great", "bad", "good", "not bad",
    "a very great play", "dull dull film", "the player was dull .", "he is unaffable", "very very good movie",
]  # fmt: skip


def loader(tokenizer, size=5):
    return [
        encode(
            tokenizer,
            TRAIN[i : i + size],
            labels=[j % 3 for j in range(i, min(i + size, len(TRAIN)))],
            example_ids=range(i, min(i + size, len(TRAIN))),
        )
        for i in range(0, len(TRAIN), size)
    ]


def fit(model, task, **options):
    return NearestNeighbors(**{"k": 3} | options).fit(model, loader(task.tokenizer), task)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("pooling", ["mean", "first", "last"])
def test_a_sequence_is_pooled_over_what_is_no_padding(pooling, side):
    task = MeanPooledTask(wordpiece(padding_side=side), ["bad", "dull", "good"])
    model = MeanPooled("bert")
    layer = "encoder.encoder.layer.0"
    together = fit(model, task, layer=layer, pooling=pooling).store.features
    for i in (1, 4, 5):
        alone = encode(task.tokenizer, [TRAIN[i]])
        seen = []
        handle = model.encoder.encoder.layer[0].register_forward_hook(
            lambda _, a, output, seen=seen: seen.append(output)
        )
        with torch.no_grad():
            model(alone)
        handle.remove()
        hidden = (seen[0][0] if isinstance(seen[0], tuple) else seen[0]).reshape(-1, 16)
        expected = {"mean": hidden.mean(dim=0), "first": hidden[0], "last": hidden[-1]}[pooling]
        assert torch.allclose(together[i], expected, atol=1e-5)


@pytest.mark.parametrize("name", ["bert", "distilbert", "gpt2", "roberta"])
def test_the_head_reads_the_features_also_where_it_reads_every_place(name):
    task, model = SequenceClassification(tokenizer_for(name)), classifier(name)
    batch = loader(task.tokenizer, 12)[0]
    found = NearestNeighbors(k=2).fit(model, [batch], task)
    head = dict(model.named_modules())[found.store.header.layer.removeprefix("input of ")]
    with torch.no_grad():
        assert torch.allclose(head(found.store.features), task.logits(model, batch), atol=1e-5)


def test_several_layers_are_put_one_after_the_other():
    task, model = bag_task(), Bag()
    both = fit(model, task, layer=["embedding", "hidden"], pooling="mean")
    one, two = (fit(model, task, layer=name).store.features for name in ("embedding", "hidden"))
    assert torch.equal(both.store.features, torch.cat([one, two], dim=1))
    assert both.find(batch_of(task.tokenizer, [SHORT]))[0].layer == "embedding + hidden"


def test_a_row_has_the_texts_and_the_labels_of_its_neighbours():
    task, model = bag_task(), Bag()
    before = state_of(model)
    row = fit(model, task).find(batch_of(task.tokenizer, [SHORT], labels=[2]), saliency=True)[0]
    assert_same(before, state_of(model), objects=True)
    assert row.text.replace(" ", "") == SHORT.replace(" ", "")
    for each in row.neighbors:
        assert each.text.replace(" ", "") == TRAIN[each.example_id].replace(" ", "")
        assert each.gold == ["bad", "dull", "good"][each.example_id % 3]
    assert set(row.shares) <= {"bad", "dull", "good"}
    assert row.text in str(row)


def test_saliency_is_a_loop_over_the_texts_without_each_token():
    task, model = bag_task(), Bag()
    found = fit(model, task, k=4)
    texts = [LONG, SHORT, REFERENCES[1], "good"]
    rows = found.find(batch_of(task.tokenizer, texts), saliency=True)
    changed = 0
    for text, row in zip(texts, rows, strict=True):
        ids = task.tokenizer(text)["input_ids"]
        tokens = task.tokenizer.convert_ids_to_tokens(ids)
        assert list(row.tokens) == tokens
        for i, token in enumerate(tokens):
            if token in ("[CLS]", "[SEP]"):
                assert row.scores[i] == 0
                continue
            left = torch.tensor([ids[:i] + ids[i + 1 :]])
            alone = found.find({"input_ids": left, "attention_mask": torch.ones_like(left)})[0]
            conforming = sum(each.gold == row.prediction for each in alone.neighbors) / 4
            assert row.scores[i] == pytest.approx(row.conformity - conforming)
            changed += row.scores[i] != 0
    assert changed > 3


def test_saliency_does_not_depend_on_padding_and_a_text_without_its_only_token_is_not_asked():
    task, model = bag_task(), Bag()
    found = fit(model, task)
    together = found.find(batch_of(task.tokenizer, [LONG, SHORT]), saliency=True)[1]
    alone = found.find(batch_of(task.tokenizer, [SHORT]), saliency=True)[0]
    assert (together.tokens, together.scores) == (alone.tokens, alone.scores)
    one = {"input_ids": torch.tensor([[12]]), "attention_mask": torch.ones(1, 1, dtype=torch.long)}
    assert found.find(one, saliency=True)[0].scores == (0.0,)


def test_what_is_no_feature_is_refused():
    task, model = bag_task(), Bag()
    with pytest.raises(ValueError, match="`layer='nothing'` does not exist"):
        fit(model, task, layer="nothing")
    model.unused = torch.nn.Linear(2, 2)
    with pytest.raises(ValueError, match="is not used when the model is called"):
        fit(model, task, layer="unused")
    with pytest.raises(ValueError, match="uses no linear layer"):
        NearestNeighbors().fit(Sums(), loader(task.tokenizer), task)


class Sums(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = torch.nn.Embedding(40, 3)

    def forward(self, ids, mask):
        return self.embedding(ids).sum(dim=1)
