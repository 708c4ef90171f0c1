"""Baselines found or drawn from data, and what every record says of F(x')."""

import math

import pytest
import torch
from tiny import LONG, REFERENCES, SHORT, TEXTS, Bag, BagTask, bag_task, batch_of, classifier, tokenizer_for, wordpiece
from torch import nn

from lightning_interpret import Attribution, Gradient, GradientTimesInput, IntegratedGradients
from lightning_interpret.functional.baselines import Baseline
from lightning_interpret.functional.features import features
from lightning_interpret.methods.absent import absent
from lightning_interpret.tasks import find_task

FOUND = ("training_mean", "nearest", "uniform")


def distilbert(references=REFERENCES, **options):
    model, tokenizer = classifier("distilbert", dtype=torch.float64), wordpiece()
    task = find_task(model, tokenizer=tokenizer)
    return model, batch_of(tokenizer), task.with_references(batch_of(tokenizer, references, **options))


def features_at(model, batch, task, kind):
    """x' at the word embeddings, and the notes."""
    name = task.layer(model)
    with torch.no_grad(), features(model, name, lambda: task.logits(model, batch)) as (opened, logits, at_x):
        found = absent(model, batch, task, Baseline(kind), at_x, put=opened.put, predicted=task.names(logits), chunk=3)
    return at_x, found.features[:, 0], found


# What the baselines are


def test_the_training_mean_is_that_of_the_references_content_tokens():
    model, batch, task = distilbert()
    ids = task.references["input_ids"]
    expected = model.get_input_embeddings()(ids[(ids != 0) & (ids != 2) & (ids != 3)]).mean(dim=0)
    at_x, found, _ = features_at(model, batch, task, "training_mean")
    content = (batch["input_ids"] != 0) & (batch["input_ids"] != 2) & (batch["input_ids"] != 3)
    torch.testing.assert_close(found[content], expected.expand(int(content.sum()), -1))
    assert torch.equal(found[~content], at_x[~content])


@pytest.mark.parametrize("gold", [None, [2, 0, 1, 1, 0]])
def test_the_nearest_is_of_another_class_and_has_the_largest_cosine(gold):
    model, batch, task = distilbert(labels=gold)
    words = model.get_input_embeddings()
    with torch.no_grad():
        mine = task.logits(model, batch).argmax(dim=1)
        theirs = torch.tensor(gold) if gold else task.logits(model, task.references).argmax(dim=1)

        def mean(row):
            return words(row[(row != 0) & (row != 2) & (row != 3)]).mean(dim=0)

        others = [mean(row) for row in task.references["input_ids"]]
        best = []
        for row, label in zip(batch["input_ids"], mine, strict=True):
            cosine = [float(torch.cosine_similarity(mean(row), other, dim=0)) for other in others]
            best.append(max((i for i in range(5) if theirs[i] != label), key=lambda i, cosine=cosine: cosine[i]))
        _, found, said = features_at(model, batch, task, "nearest")
        for row, picked in enumerate(best):
            text = Baseline("text", REFERENCES[picked])
            torch.testing.assert_close(found[row], task.baseline(model, batch, words(batch["input_ids"]), text)[row])
            assert f"'{task.label_names(3)[int(theirs[picked])]}': number {picked} " in said.notes[row][0]
            assert REFERENCES[picked].split()[0] in said.notes[row][0]


def test_the_uniform_baseline_is_undecided_and_moves_content_alone():
    model, batch, task = distilbert()
    at_x, found, said = features_at(model, batch, task, "uniform")
    start = task.baseline(model, batch, at_x, Baseline("pad"))
    kept = (batch["input_ids"] == 0) | (batch["input_ids"] == 2) | (batch["input_ids"] == 3)
    assert torch.equal(found[kept], at_x[kept])
    assert not torch.equal(found, start)
    record = IntegratedGradients(baseline="uniform")(model, batch, task)
    assert float(record.baseline_entropy.min()) >= 0.99
    assert float(IntegratedGradients()(model, batch, task).baseline_entropy.min()) < 0.95
    assert all(record.converged)
    assert bool((record.gradients >= record.steps + said.gradients).all())
    assert record.notes == ((), ())


def test_what_cannot_be_reached_is_noted():
    class Decided(Bag):
        def forward(self, ids, mask):
            return 0.01 * super().forward(ids, mask) + torch.tensor([3.0, 0.0, 0.0])

    record = IntegratedGradients(baseline="uniform")(Decided().double(), batch_of(wordpiece()), bag_task())
    for row in record:
        assert row.notes[0].startswith("the uniform baseline was not reached: the entropy at x' is ")
        assert row.baseline_entropy < 0.5


@pytest.mark.parametrize("kind", FOUND)
@pytest.mark.parametrize(("name", "side"), [("distilbert", "right"), ("gpt2", "right"), ("gpt2", "left")])
def test_a_text_has_the_baseline_that_it_has_alone(name, side, kind):
    model, tokenizer = classifier(name, dtype=torch.float64), tokenizer_for(name, padding_side=side)
    task = find_task(model, tokenizer=tokenizer).with_references(batch_of(tokenizer, REFERENCES))
    method = GradientTimesInput(baseline=kind)
    record = method(model, batch_of(tokenizer), task)
    assert record.scores[record.units.padding].abs().sum() == 0
    for row, text in zip(record, TEXTS, strict=True):
        alone = method(model, batch_of(tokenizer, [text]), task)[0]
        assert row.scores == pytest.approx(alone.scores, abs=1e-6)
        assert row.baseline_target == pytest.approx(alone.baseline_target, abs=1e-6)
        assert row.notes == alone.notes


@pytest.mark.parametrize("kind", FOUND)
def test_one_baseline_input_fixes_that_of_every_layer(kind):
    model, batch, task = distilbert()
    layers = ["distilbert.embeddings.word_embeddings", "distilbert.transformer.layer.0", "pre_classifier"]
    records = IntegratedGradients(baseline=kind)(model, batch, task, layer=layers)
    for record in records.values():
        assert record.cut
        torch.testing.assert_close(record.baseline_target, records[layers[0]].baseline_target)
        torch.testing.assert_close(record.baseline_entropy, records[layers[0]].baseline_entropy)
        assert all(record.converged)


def test_references_without_content_or_of_one_class_are_refused_or_left_out():
    model, batch, task = distilbert(["", "a great film", ""])
    whole = IntegratedGradients(baseline="training_mean")(model, batch, task)
    one = IntegratedGradients(baseline="training_mean")(
        model, batch, task.with_references(batch_of(task.tokenizer, ["a great film"]))
    )
    torch.testing.assert_close(whole.scores, one.scores)
    with pytest.raises(ValueError, match="no reference has a token of its own"):
        IntegratedGradients(baseline="nearest")(model, batch, task.with_references(batch_of(task.tokenizer, [""])))
    with pytest.raises(ValueError, match=r"`baseline='nearest'`: every reference is of the class '0'; give others too"):
        IntegratedGradients(baseline="nearest")(
            _Always(), batch, BagTask(task.tokenizer).with_references(task.references)
        )


class _Always(Bag):
    def forward(self, ids, mask):
        return super().forward(ids, mask) * 0.01 + torch.tensor([1.0, 0.0, 0.0])


@pytest.mark.parametrize("kind", ["training_mean", "nearest"])
def test_without_references_it_says_so_and_what_to_do(kind):
    model, batch = Bag().double(), batch_of(wordpiece())
    task = BagTask(wordpiece())
    message = rf"`baseline='{kind}'` is drawn from reference examples, and there are none: `references=` of Sal"
    with pytest.raises(ValueError, match=message):
        task.check(model, "predicted", Baseline(kind))
    with pytest.raises(ValueError, match=message):
        IntegratedGradients(baseline=kind)(model, batch, task)
    with pytest.raises(ValueError, match="is made by a method"):
        task.baseline(model, batch, model.embedding(batch["input_ids"]), Baseline(kind))


def test_references_are_those_of_a_copy():
    task = BagTask(wordpiece())
    other = task.with_references("a batch")
    assert (task.references, other.references) == (None, "a batch")
    assert other.tokenizer is task.tokenizer


# F(x') and its entropy


@pytest.mark.parametrize("layer", [None, "middle"])
def test_every_record_with_a_baseline_has_the_entropy_there(layer):
    model, batch, task = Bag(nn.Linear(6, 6)).double(), batch_of(wordpiece()), bag_task()
    ids = torch.where(batch["input_ids"] > 4, 4, batch["input_ids"])
    with torch.no_grad():
        p = model(ids, batch["attention_mask"]).softmax(dim=1)
    expected = -(p * p.log()).sum(dim=1) / math.log(3)
    for method in (IntegratedGradients(baseline="mask"), GradientTimesInput(baseline="mask")):
        record = method(model, batch, task, layer=layer)
        torch.testing.assert_close(record.baseline_entropy, expected)
        assert f"(entropy {float(expected[0]):.0%})" in record[0].summary()
        again = Attribution.from_dict(record.to_dict())
        torch.testing.assert_close(again.baseline_entropy, expected)
    assert Gradient()(model, batch, task).baseline_entropy is None


def test_a_model_of_one_score_has_no_entropy_and_says_why():
    model, batch, task = Bag(classes=1).double(), batch_of(wordpiece()), BagTask(wordpiece())
    record = IntegratedGradients()(model, batch, task)
    assert record.baseline_entropy is None
    assert "no probabilities" in record.reasons["baseline_entropy"]
    with pytest.raises(ValueError, match="`baseline='uniform'` needs probabilities of two classes or more"):
        IntegratedGradients(baseline="uniform")(model, batch, task)


class Certain(Bag):
    """Sure of a class by how many content tokens there are, whatever they are: five or more are 'good'."""

    def forward(self, ids, mask):
        more = (mask.sum(dim=1) - 9).sign().to(self.head.weight.dtype)[:, None]
        return super().forward(ids, mask) * 0.1 + more * torch.tensor([0.0, 0.0, 4.0])


def test_a_baseline_that_is_itself_classified_is_noted():
    model, batch, task = Certain().double(), batch_of(wordpiece()), bag_task()
    record = IntegratedGradients()(model, batch, task)
    (long, short) = record
    assert LONG.startswith("he is")
    assert len(SHORT.split()) < len(LONG.split())
    assert long.notes[0].startswith("the baseline is itself classified as 'good' with probability 0.9")
    assert long.notes[0].endswith("what the scores explain is the way from there")
    assert short.notes == ()


def test_what_a_forward_writes_into_its_batch_does_not_reach_the_references():
    class Spoils(BagTask):
        def logits(self, module, batch):
            result = super().logits(module, batch)
            batch["input_ids"].fill_(0)
            return result

    tokenizer = wordpiece()
    references = batch_of(tokenizer, REFERENCES)
    before = references["input_ids"].clone()
    task = Spoils(tokenizer).with_references(references)
    GradientTimesInput(baseline="training_mean")(Bag().double(), batch_of(tokenizer), task)
    assert torch.equal(references["input_ids"], before)
