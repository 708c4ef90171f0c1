"""What comes before an attention is not computed again, and what comes of other attention is the same."""

import pytest
import torch
from attention_toys import Attentive, attentive_task
from purity import assert_same, state_of
from tiny import TEXTS, MeanPooled, MeanPooledTask, batch_of, classifier, tokenizer_for
from torch import nn

from lightning_interpret import SequenceClassification
from lightning_interpret.functional.attention.replay import Replay
from lightning_interpret.trust.attention_reading import read_attention


class Counting(nn.Module):
    """Doubles, and counts its calls."""

    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, x, mark=None):
        self.calls += 1
        return 2 * x, {"mark": mark}


def test_modules_before_a_mark_return_what_they_returned_of_the_rows_asked_for():
    model = nn.ModuleDict({"first": Counting(), "second": Counting()})
    replay, x = Replay(model), torch.arange(3.0)
    with replay.recording():
        first, _ = model["first"](x, mark=torch.tensor(7.0))
        mark = replay.now()
        model["second"](first)
    replay.keep(mark, 3)
    with replay.of(torch.tensor([2, 0])):
        again, kept = model["first"](torch.zeros(2))
        after, _ = model["second"](again)
    assert again.tolist() == [4.0, 0.0]
    assert kept["mark"] == 7  # no row of it
    assert after.tolist() == [8.0, 0.0]
    assert [part.calls for part in model.values()] == [1, 2]
    assert all("forward" not in vars(part) for part in model.values())
    replay.forget()
    with replay.of(torch.tensor([0])):
        model["first"](torch.zeros(1))
    assert model["first"].calls == 2


@pytest.mark.parametrize("name", ["pooled", "bert", "gpt2", "mean", "roberta", "bart"])
def test_other_attention_has_the_answer_that_a_whole_forward_has(name):
    if name == "pooled":
        model, task = Attentive(), attentive_task()
    elif name == "mean":
        model, task = MeanPooled("bert"), MeanPooledTask(tokenizer_for("bert"))
    else:
        model, task = classifier(name), SequenceClassification(tokenizer_for(name))
    batch = batch_of(task.tokenizer, [*TEXTS, "a dull and bad movie"])
    before = state_of(model)
    with read_attention(model, batch, task) as reading:
        rows = torch.tensor([2, 0, 1, 1])
        other = reading.weights[rows] ** 2
        other = other / other.sum(dim=-1, keepdim=True)
        found = reading.respond(other, rows)
        assert reading.skipped is not None
        reading.replay.forget()
        reading.skipped = 0
        assert torch.allclose(found, reading.respond(other, rows), atol=1e-6)
    assert_same(before, state_of(model))


def test_what_comes_before_is_run_once():
    model, task = classifier("bert"), SequenceClassification(tokenizer_for("bert"))
    calls = []
    model.bert.encoder.layer[0].attention.self.query.register_forward_hook(lambda *_: calls.append(1))
    with read_attention(model, batch_of(task.tokenizer), task) as reading:
        for _ in range(5):
            reading.respond(reading.weights, torch.arange(2))
        assert reading.skipped == 1
    assert len(calls) == 1


def test_a_model_whose_parts_do_more_than_return_is_run_as_it_is():
    class Leaving(Attentive):
        """Its embedding's length is read off the side by the forward."""

        def forward(self, ids, mask):
            self.mix(self.embedding(ids))
            return super().forward(ids, mask) + self.mix.left[:, None]

    model, task = Leaving(), attentive_task()
    plain = model.mix.forward

    def leaving(x):
        model.mix.left = x.mean(dim=(1, 2)) * 3
        return plain(x)

    model.mix.forward = leaving
    batch = batch_of(task.tokenizer)
    with read_attention(model, batch, task) as reading:
        rows = torch.tensor([1, 0])
        assert torch.allclose(reading.respond(reading.weights[rows], rows), reading.answer[rows], atol=1e-6)
        assert reading.skipped == 0
        assert reading.replay.empty
    assert model.mix.forward is leaving
