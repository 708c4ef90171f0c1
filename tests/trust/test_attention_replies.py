"""The replies: attention of several seeds, and an adversary that is one model."""

import json
from contextlib import nullcontext
from copy import deepcopy

import pytest
import torch
from attention_toys import Attentive, attentive_task
from purity import assert_same, state_of
from scipy.spatial.distance import jensenshannon
from tiny import LONG, SHORT, TEXTS, MeanPooled, MeanPooledTask, batch_of, classifier, lively, tokenizer_for

from lightning_interpret import SequenceClassification, compare_attention, train_adversary
from lightning_interpret.trust.attention_reading import read_attention


def test_a_model_is_as_itself_and_seeds_are_apart_by_the_mean_over_their_pairs():
    models, task = [Attentive(seed=seed) for seed in range(3)], attentive_task()
    batch = batch_of(task.tokenizer)
    same = compare_attention([models[0], models[0]], batch, task).summary()["all"]
    assert same["divergence"] == pytest.approx(0, abs=1e-9)
    assert same["change"] == 0
    assert same["same"] == 1
    found = compare_attention(models, [batch], task)
    seen, answers = [], []
    for model in models:
        with read_attention(model, batch, task) as reading:
            seen.append(reading.attention.double())
            answers.append(reading.answer.double())
    pairs = [(0, 1), (0, 2), (1, 2)]
    for text, row in enumerate(found.rows):
        apart = [jensenshannon(seen[i][text], seen[j][text]) ** 2 for i, j in pairs]
        moved = [float((answers[i][text] - answers[j][text]).abs().sum() / 2) for i, j in pairs]
        alike = [answers[i][text].argmax() == answers[j][text].argmax() for i, j in pairs]
        assert row.divergence == pytest.approx(sum(apart) / 3, abs=1e-7)
        assert row.change == pytest.approx(sum(moved) / 3, abs=1e-7)
        assert row.same == pytest.approx(sum(map(float, alike)) / 3)
    assert json.loads(found.to_json())["summary"]["all"]["texts"] == 2
    assert "divergence" in str(found)
    assert "| --- |" in found.to_markdown()


def test_an_adversary_learns_other_attention_with_the_same_answers_and_the_base_stays():
    base, task = Attentive(seed=0).eval(), attentive_task()
    adversary = Attentive(seed=1).eval()
    data = [batch_of(task.tokenizer, [*TEXTS, "a dull and bad movie", "he is a great player and very able"])]
    before, start = state_of(base), compare_attention([base, adversary], data, task).summary()["all"]
    losses = train_adversary(adversary, base, data, task, strength=0.1, epochs=60, learning_rate=0.05)
    end = compare_attention([base, adversary], data, task).summary()["all"]
    after = state_of(base)
    before.pop("random"), after.pop("random")
    assert_same(before, after)
    assert not adversary.training
    assert len(losses) == 60
    assert losses[-1] < losses[0] - 0.1
    assert end["change"] < start["change"]
    assert end["divergence"] > 0.1


def test_what_an_adversary_is_worth_moves_its_attention():
    task = attentive_task()
    base, data = Attentive(seed=0), [batch_of(task.tokenizer)]
    found = []
    for strength, mode in ((1e-6, nullcontext), (1.0, torch.inference_mode)):  # as validation runs
        adversary = Attentive(seed=1)
        with mode():
            train_adversary(adversary, base, data, task, strength=strength, epochs=40, learning_rate=0.05)
        found.append(compare_attention([base, adversary], data, task).summary()["all"])
    assert found[1]["divergence"] > found[0]["divergence"] + 0.05
    assert found[1]["change"] > found[0]["change"]


def test_what_padding_attends_to_is_worth_nothing_to_an_adversary():
    task, losses = MeanPooledTask(tokenizer_for("bert")), []
    base, adversary = MeanPooled("bert"), MeanPooled("bert")
    lively(adversary, seed=1)
    for part in adversary.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0
    for texts in ([SHORT], [LONG, SHORT], [LONG]):
        one = deepcopy(adversary)
        losses += train_adversary(one, base, batch_of(task.tokenizer, texts), task, strength=1.0, epochs=1)
    assert losses[1] == pytest.approx((losses[0] + losses[2]) / 2, abs=1e-5)


def test_transformers_are_compared_by_the_mean_of_their_heads():
    task = SequenceClassification(tokenizer_for("bert"))
    models = [classifier("bert", seed=seed) for seed in (0, 1)]
    assert compare_attention(models, batch_of(task.tokenizer), task).summary()["all"]["divergence"] > 0


def test_what_cannot_be_compared_is_refused_in_words():
    model, task = Attentive(), attentive_task()
    batch = batch_of(task.tokenizer)
    with pytest.raises(ValueError, match="give two or more"):
        compare_attention([model], batch, task)
    with pytest.raises(ValueError, match="the base itself"):
        train_adversary(model, model, batch, task)
    with pytest.raises(ValueError, match="`data` holds no batch"):
        compare_attention([model, Attentive(seed=1)], [], task)
    spent = iter([batch])
    with pytest.raises(ValueError, match="an iterator spent"):
        train_adversary(Attentive(seed=1), model, spent, task, epochs=2)
    half = Attentive(seed=1)
    half.mix = model.mix
    with pytest.raises(ValueError, match=r"shares 2 weights with the base, such as `mix.weight`"):
        train_adversary(half, model, batch, task)
    task = SequenceClassification(tokenizer_for("bert"))
    two, one = classifier("bert"), classifier("bert", seed=1)
    del one.bert.encoder.layer[1]
    with pytest.raises(ValueError, match=r"`adversary` attends with shapes .* at place 1 \(`bert.encoder.layer.1"):
        train_adversary(one, two, batch_of(task.tokenizer), task)
    assert torch.is_grad_enabled()
