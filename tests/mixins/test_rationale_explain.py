"""The rationale of a prediction: what was selected, and what is predicted with it, without it and from everything."""

import pytest
import torch
from purity import assert_same, state_of
from rationale_toys import gated
from span_toys import Spans, made
from tiny import LONG, SHORT, batch_of, tokenizer_for
from torch import nn

from lightning_interpret.mixins.rationale.terms import reinforce
from lightning_interpret.rationales import RationaleRow

TEXTS = [LONG, SHORT]


@pytest.mark.parametrize("name", ["bert", "gpt2", "t5", "longformer", "xlnet"])
def test_a_row_is_what_the_module_predicts_and_the_module_is_as_it_was(name):
    module = gated(name).train()
    batch = batch_of(module.tokenizer, TEXTS, labels=[0, 1])
    before = state_of(module)
    rows = module.explain(batch)
    assert_same(before, state_of(module))
    module.eval()
    with torch.no_grad(), module.rationale.hearing() as heard:
        part = module(batch).softmax(dim=1)
        with module.rationale.everything():
            whole = module(batch).softmax(dim=1)
        with module.rationale.complement():
            rest = module(batch).softmax(dim=1)
    first = part.argmax(dim=1)
    for i, row in enumerate(rows):
        count = int(batch["attention_mask"][i].sum())
        assert len(row.tokens) == len(row.selected) == len(row.probabilities) == len(row.special) == count
        assert row.tokens == tuple(module.tokenizer.convert_ids_to_tokens(batch["input_ids"][i][:count]))
        kept = [s for s, special in zip(row.selected, row.special, strict=True) if not special]
        assert sum(kept) == round(0.3 * len(kept))
        assert row.rate == pytest.approx(sum(kept) / len(kept))
        for found, of in ((row.probability, part), (row.full, whole), (row.complement, rest)):
            assert found == pytest.approx(of[i, first[i]].item(), abs=1e-5)
        assert row.sufficiency == pytest.approx(row.full - row.probability)
        assert (row.budget, row.gate, row.gold_rationale) == (0.3, "gumbel", None)
        assert row.prediction == ["bad", "dull", "good"][first[i]]
        assert RationaleRow.from_dict(row.to_dict()) == row
    assert len(heard) == 2  # the gate speaks twice, and the whole text is nobody's selection


def test_which_class_and_people_s_rationales():
    module = gated("bert", rationale_evaluation="threshold")
    batch = batch_of(module.tokenizer, TEXTS, labels=[2, 1])
    gold = torch.zeros_like(batch["input_ids"])
    gold[0, 2:4] = 1
    rows = module.explain({**batch, "rationale": gold}, which="gold")
    with torch.no_grad():
        probabilities = module(batch).softmax(dim=1)
    assert rows[0].probability == pytest.approx(probabilities[0, 2].item(), abs=1e-5)
    assert rows[0].notes == ("probabilities are of good",)
    assert rows[0].budget is None
    assert [i for i, each in enumerate(rows[0].gold_rationale) if each] == [2, 3]
    assert rows[1].gold_rationale is None
    assert module.explain(batch, which="dull")[1].probability == pytest.approx(probabilities[1, 1].item(), abs=1e-5)
    with pytest.raises(ValueError, match="is a contrast"):
        module.explain(batch, which="good-bad")
    with pytest.raises(ValueError, match="does not exist"):
        module.explain(batch, which="goood")
    with pytest.raises(ValueError, match=r"has shape \(2, 9\)"):
        module.explain({**batch, "rationale": gold[:, :9]})


def test_words_are_selected_whole_and_spend_the_budget():
    text = "unaffable player unaffable player"  # un ##aff ##able, play ##er
    module = gated("bert", rationale_words=True, rationale_target=0.5)
    (row,) = module.explain(batch_of(module.tokenizer, [text]))
    by_word = {}
    for word, chosen in zip(row.word_ids, row.selected, strict=True):
        if word is not None:
            by_word.setdefault(word, set()).add(chosen)
    assert len(by_word) == 4
    assert all(len(each) == 1 for each in by_word.values())
    assert abs(10 * row.rate - 5) <= 1.5  # half of the longest word
    (loose,) = gated("bert", rationale_target=0.1).explain(batch_of(module.tokenizer, [text]))
    assert sum(loose.selected) == 2 + 1


def test_a_gate_that_was_taken_out_has_nothing_to_say():
    module = gated("bert")
    batch = batch_of(module.tokenizer, TEXTS)
    module.detach_rationale()
    with pytest.raises(ValueError, match="has no gate"):
        module.explain(batch)
    with pytest.raises(ValueError, match="No gate is attached"):
        module.detach_rationale()
    module.attach_rationale()
    assert len(module.explain(batch)) == 2
    with pytest.raises(ValueError, match="has a gate already"):
        module.attach_rationale()


@pytest.mark.parametrize("kind", ["rationale", "spans"])
@pytest.mark.parametrize(
    ("scores", "labels", "losses"),
    [
        (3, torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 0.0]]), [None, None]),  # several at a time
        (1, torch.tensor([3.5, -1.0]), [None, None]),  # a number
        (3, torch.tensor([-1, 2]), [None, 1.0]),  # one that nobody has labelled
    ],
)
def test_labels_that_are_no_classes_have_no_loss(kind, scores, labels, losses):
    module = gated("bert") if kind == "rationale" else made(Spans, "bert").eval()
    module.model.classifier = nn.Linear(16, scores)
    task = module.interpret_task()
    task._labels = None
    module.interpret_task = lambda: task
    rows = module.explain({**batch_of(tokenizer_for("bert"), TEXTS), "labels": labels})
    assert [None if row.loss is None else 1.0 for row in rows] == losses
    assert [row.gold for row in rows] == [None if each is None else "2" for each in losses]
    if kind == "rationale" and scores == 1:
        assert [row.probability for row in rows] == [None, None]


@pytest.mark.parametrize("labels", [torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 0.0]]), torch.tensor([0.5, 0.1])])
def test_a_policy_gradient_needs_a_loss_that_the_task_knows(labels):
    module = gated("bert", rationale_gate="reinforce").train()
    module.model.classifier = nn.Linear(16, 3 if labels.dim() == 2 else 1)
    batch = {**batch_of(module.tokenizer, TEXTS), "labels": labels}
    with module.rationale.hearing() as heard:
        module(batch)
    with pytest.raises(ValueError, match=r"are not of one class an example.*define `losses\(module, batch\)` on a Seq"):
        reinforce(module, heard[0], batch, "none")
