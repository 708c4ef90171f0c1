"""Options, names, targets and records of the methods."""

import math
from dataclasses import FrozenInstanceError, dataclass
from typing import ClassVar

import pytest
import torch
from tiny import TEXTS, VOCABULARY, Bag, BagTask, bag_task, batch_of, classifier, wordpiece
from torch import nn

from lightning_interpret import (
    Attribution,
    Gradient,
    GradientTimesInput,
    IntegratedGradients,
    SequenceClassification,
)
from lightning_interpret.methods import METHODS, Method, method_named
from lightning_interpret.methods.attention import AttentionMethod
from lightning_interpret.tasks import find_task

#: Every method of the registry, with its defaults; those of feature maps have a layer and targets of their own, and
#: those of attention need some.
EVERY = [m() for m in METHODS.values() if not (hasattr(m, "repaired") or issubclass(m, AttentionMethod))]
EVERY += [GradientTimesInput(baseline="pad"), METHODS["taylor"](at="baseline")]
EVERY += [METHODS["occlusion"](unit="window", window=3), METHODS["smooth_grad"](baseline="pad")]


def case(**options):
    return Bag().double(), batch_of(wordpiece(), **options), bag_task()


# Names and options


def test_methods_are_found_by_name():
    assert set(METHODS) >= {"integrated_gradients", "gradient_times_input", "gradient"}
    assert method_named("gradient") == Gradient()
    method = IntegratedGradients(steps=3)
    assert method_named(method) is method
    with pytest.raises(
        ValueError, match=r"`method='integrated_gradient'` does not exist\. Did you mean 'integrated_gra"
    ):
        method_named("integrated_gradient")


def test_a_method_of_ones_own_is_registered():
    @dataclass(frozen=True)
    class Own(Method):
        name: ClassVar[str] = "own_method_of_a_test"

        def attribute(self, module, batch, task, layer, which, output):
            return "own"

    try:
        model, batch, task = case()
        assert method_named("own_method_of_a_test")(model, batch, task) == "own"
    finally:
        del METHODS["own_method_of_a_test"]


def test_options_cannot_change():
    with pytest.raises(FrozenInstanceError):
        IntegratedGradients().steps = 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, r"`steps=0` must be a whole number of at least 1"),
        ({"rule": "trapezoid"}, r"`rule='trapezoid'` does not exist"),
        ({"max_steps": 15}, r"`max_steps=15` must be a whole number of at least 16"),
        ({"internal_batch_size": 0}, r"`internal_batch_size=0` must be a whole number of at least 1"),
        ({"tolerance": 0}, r"`tolerance=0` must be positive"),
        ({"tolerance": -1.0}, r"`tolerance=-1.0` must be positive"),
        ({"tolerance": math.nan}, r"`tolerance=nan` must be positive"),
        ({"error_floor": 0.0}, r"`error_floor=0.0` must be positive"),
        ({"baseline": "padd"}, r"`baseline='padd'` does not exist\. Did you mean 'pad'"),
    ],
)
def test_wrong_options_are_refused_when_they_are_given(options, message):
    with pytest.raises(ValueError, match=message):
        IntegratedGradients(**options)


def test_wrong_norm_and_baseline_are_refused():
    with pytest.raises(ValueError, match=r"`norm='l1'` does not exist.*There is: l2, mean_abs"):
        Gradient(norm="l1")
    with pytest.raises(ValueError, match="does not exist"):
        GradientTimesInput(baseline="zeros")


def test_wrong_output_and_layer_are_refused():
    model, batch, task = case()
    with pytest.raises(ValueError, match=r"`output='logits'` does not exist\. Did you mean 'logit'"):
        Gradient()(model, batch, task, output="logits")
    with pytest.raises(ValueError, match=r"`layer='hiden'` does not exist\. Did you mean 'hidden'"):
        Gradient()(model, batch, task, layer="hiden")


# Records


@pytest.mark.parametrize("method", EVERY, ids=str)
def test_a_record_says_what_it_is(method):
    model, batch, task = case(labels=[0, 2], example_ids=[7, 70])
    record = method(model, batch, task)
    assert isinstance(record, Attribution)
    assert len(record) == 2
    assert record.method == method.name
    assert record.layer == "embedding"
    assert record.output == "logit"
    assert record.gold == ("bad", "good")
    assert record.example_id == (7, 70)
    assert record.prediction == record.target_name
    assert record.scores.shape == tuple(batch["input_ids"].shape)
    assert record.scores.device.type == "cpu"
    assert not record.scores.requires_grad
    assert record.scores[record.units.padding].abs().sum() == 0
    with torch.no_grad():
        logits = task.logits(model, batch)
    torch.testing.assert_close(record.target, logits.amax(dim=1))
    for name in ("baseline", "baseline_target", "error", "relative_error", "partial_error", "converged"):
        assert (getattr(record, name) is None) == (name in record.reasons)


def test_what_the_batch_does_not_hold_is_none_with_a_reason():
    model, batch, task = case()
    record = Gradient()(model, batch, task)
    assert record.gold is None
    assert record.example_id is None
    assert record.reasons["gold"] == "the batch has no labels"
    assert "example_id" in record.reasons["example_id"]
    assert "ranks" in record.reasons["error"]


def test_fixed_steps_do_not_say_that_they_converged():
    model, batch, task = case()
    record = IntegratedGradients(tolerance=None, steps=3)(model, batch, task)
    assert record.converged is None
    assert record.reasons["converged"] == "fixed steps: no tolerance was set"
    assert record.steps.tolist() == record.gradients.tolist() == [3, 3]


def test_a_row_has_converged_where_both_its_errors_are_within_the_tolerance():
    model, batch, task = case()
    record = IntegratedGradients(steps=2, max_steps=5)(model, batch, task)
    for row in record:
        assert row.converged == (max(row.relative_error, row.partial_error) <= 0.01)
    exact = IntegratedGradients(steps=40, tolerance=None)(model, batch, task)
    assert exact.partial_error.max() < record.partial_error.max()
    assert "left" in IntegratedGradients(rule="left", tolerance=None)(model, batch, task).reasons["partial_error"]


def test_a_row_that_did_not_converge_says_so():
    model, batch, task = Bag().double(), batch_of(wordpiece()), bag_task()
    with torch.no_grad():
        model.hidden.weight.mul_(300)
    record = IntegratedGradients(steps=2, max_steps=4, tolerance=1e-9)(model, batch, task)
    assert False in record.converged
    row = record[record.converged.index(False)]
    assert row.relative_error > 1e-9
    assert "NOT converged" in row.summary()
    assert record.steps.max() <= 4


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_scores_that_are_no_numbers_end_with_converged_false(value):
    model, batch, task = case()
    with torch.no_grad():
        model.head.bias[:] = value
    record = IntegratedGradients()(model, batch, task)
    assert record.converged == (False, False)
    assert record.steps.tolist() == [16, 16]


def test_one_text_that_overflows_does_not_disturb_the_others():
    model, batch, task = case()
    expected = IntegratedGradients()(model, batch, task)
    dull = task.tokenizer.convert_tokens_to_ids("dull")
    assert [int((row == dull).sum()) for row in batch["input_ids"]] == [1, 0]
    spoilt = Bag().double()
    spoilt.load_state_dict(model.state_dict())
    with torch.no_grad():
        spoilt.embedding.weight[dull] = math.nan
    record = IntegratedGradients()(spoilt, batch, task)
    assert record.converged == (False, True)
    torch.testing.assert_close(record.scores[1], expected.scores[1])


@pytest.mark.parametrize("method", EVERY, ids=str)
def test_a_head_of_zeros_explains_itself(method):
    model, batch, task = case()
    nn.init.zeros_(model.head.weight)
    nn.init.zeros_(model.head.bias)
    record = method(model, batch, task)
    assert record.scores.abs().sum() == 0
    if record.error is not None:
        assert record.error.tolist() == [0, 0]
        assert record.relative_error.tolist() == [0, 0]
        assert record.converged in ((True, True), None)


def test_a_text_without_content_has_nothing_to_explain():
    model, _, task = case()
    record = IntegratedGradients()(model, batch_of(task.tokenizer, ["", "a film"]), task)
    assert record[0].tokens == ("[CLS]", "[SEP]")
    assert record[0].scores == (0, 0)
    assert record.converged == (True, True)


def test_a_text_without_tokens_is_refused():
    model, batch, task = case()
    empty = {name: batch[name][:, :0] for name in ("input_ids", "attention_mask")}
    with pytest.raises(ValueError, match="nothing to attribute to"):
        Gradient()(model, empty, task)


def test_forwards_and_gradients_are_what_the_rows_cost():
    """Counted at the model; the first call also makes a trial of the layer, so that the second is counted."""
    model, batch, task = Bag().double(), batch_of(wordpiece()), bag_task()
    with torch.no_grad():
        model.hidden.weight.mul_(30)
    counted = {True: 0, False: 0}

    class Counts(BagTask):
        def logits(self, module, batch):
            logits = super().logits(module, batch)
            counted[logits.requires_grad] += len(logits)
            return logits

    method, counting = IntegratedGradients(tolerance=1e-3, max_steps=1024), Counts(task.tokenizer)
    method(model, batch, counting)
    counted.update({True: 0, False: 0})
    record = method(model, batch, counting)
    assert int(record.steps.max()) > 16
    assert int(record.gradients.sum()) == counted[True]
    assert int(record.forwards.sum()) == counted[False]


def test_internal_batch_size_bounds_the_points_of_a_pass():
    model, batch, task = case()
    sizes = []

    class Sizes(BagTask):
        def logits(self, module, batch):
            logits = super().logits(module, batch)
            sizes.append((logits.requires_grad, len(logits)))
            return logits

    for method in (
        IntegratedGradients(internal_batch_size=3),
        GradientTimesInput(internal_batch_size=1),
        Gradient(internal_batch_size=1),
    ):
        sizes.clear()
        method(model, batch, Sizes(task.tokenizer))
        assert max(size for graph, size in sizes if graph) == method.internal_batch_size


def test_a_pass_has_no_more_padding_than_its_texts_need():
    model, batch, task = case()
    lengths = batch["attention_mask"].sum(dim=1)
    assert lengths.tolist() == [15, 8]
    columns = []

    class Columns(BagTask):
        def logits(self, module, batch):
            columns.append(batch["input_ids"].shape[1])
            return super().logits(module, batch)

    method = IntegratedGradients(internal_batch_size=5, tolerance=None)
    record = method(model, batch, Columns(task.tokenizer))
    assert set(columns) == {8, 15}
    for row, text in zip(record, TEXTS, strict=True):
        alone = method(model, batch_of(task.tokenizer, [text]), task)[0]
        assert row.scores == pytest.approx(alone.scores, abs=1e-12)


@pytest.mark.parametrize("wrong", ["other scores", "an error"])
def test_padding_stays_where_the_model_needs_it(wrong):
    """A model that reads how long its batch is, or is made for one length: what it says of the whole batch holds."""
    model, batch, task = case()
    length = batch["input_ids"].shape[1]

    class OneLength(BagTask):
        def logits(self, module, batch):
            found = batch["input_ids"].shape[1]
            if wrong == "an error" and found != length:
                raise RuntimeError("made for one length")
            return super().logits(module, batch) * found

    record = IntegratedGradients()(model, batch, OneLength(task.tokenizer))
    expected = IntegratedGradients()(model, batch, task)
    torch.testing.assert_close(record.scores, expected.scores * length, rtol=1e-9, atol=1e-9)
    assert all(record.converged)


def test_a_rule_of_fixed_steps_is_refused_with_a_tolerance():
    with pytest.raises(ValueError, match=r"`rule='left'` has fixed steps: set `tolerance=None` with it"):
        IntegratedGradients(rule="left")
    assert IntegratedGradients(rule="left", tolerance=None).steps == 16


def test_gradient_norms():
    model, batch, task = case()
    l2, mean = Gradient()(model, batch, task).scores, Gradient(norm="mean_abs")(model, batch, task).scores
    assert bool((l2 >= 0).all())
    assert bool((mean <= l2 + 1e-12).all())  # the mean of |g| over 6 dimensions is at most their root of squares
    assert bool((mean >= l2 / 6 - 1e-12).all())


def test_first_order_error_is_what_it_misses():
    model, batch, task = case()
    first, whole = (
        method(model, batch, task) for method in (GradientTimesInput(), IntegratedGradients(tolerance=1e-6))
    )
    missed = first.scores.sum(dim=1) - (first.target - first.baseline_target)
    torch.testing.assert_close(first.error, missed)
    assert float(first.error.abs().max()) > float(whole.error.abs().max())
    assert first.baseline == "zero (special tokens too)"


@pytest.mark.parametrize("method", EVERY, ids=str)
@pytest.mark.parametrize("layer", ["embedding", "middle"])
def test_padding_has_no_score_even_where_the_model_reads_it(method, layer):
    class Careless(Bag):
        def forward(self, ids, mask):
            mixed = self.embedding(ids) + self.embedding(ids).mean(dim=1, keepdim=True)  # padding too
            return self.head(torch.tanh(self.hidden(self.middle(mixed).sum(dim=1))))

    _, batch, task = case()
    record = method(Careless(nn.Linear(6, 6)).double(), batch, task, layer=layer)
    padding = record.units.padding
    assert record.scores[padding].tolist() == [0] * int(padding.sum())
    assert float(record.scores[~padding].abs().max()) > 1e-3


# Other batches and other models


class Tuples(BagTask):
    def logits(self, module, batch):
        return module(batch[0], batch[1])


def test_a_batch_of_a_tuple():
    model, batch, task = case(labels=[0, 2])
    expected = IntegratedGradients()(model, batch, task)
    pair = (batch["input_ids"], batch["attention_mask"], batch["labels"])
    record = IntegratedGradients()(model, pair, Tuples(task.tokenizer, ["bad", "dull", "good"]))
    assert torch.equal(record.scores, expected.scores)
    assert record.gold == expected.gold


class Encoder(nn.Module):
    """PyTorch's own encoder, which has a fast path for inference."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.embedding, self.encoder = nn.Embedding(VOCABULARY, 8), nn.TransformerEncoder(layer, 2)
        self.head = nn.Linear(8, 3)

    def forward(self, ids, mask):
        hidden = self.encoder(self.embedding(ids), src_key_padding_mask=mask == 0)
        mask = mask.unsqueeze(-1).to(hidden.dtype)
        return self.head((hidden * mask).sum(dim=1) / mask.sum(dim=1))


@pytest.mark.parametrize("layer", ["embedding", "encoder.layers.0", "encoder.layers.1.linear1", "encoder"])
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_the_fast_path_of_pytorch_is_not_in_the_way(layer):
    model, tokenizer = Encoder().eval(), wordpiece()
    record = IntegratedGradients()(model, batch_of(tokenizer), BagTask(tokenizer), layer=layer)
    assert all(record.converged)
    assert record.units.kind == "token"
    assert float(record.scores.abs().max()) > 1e-3
    for row, text in zip(record, TEXTS, strict=True):
        alone = IntegratedGradients()(model, batch_of(tokenizer, [text]), BagTask(tokenizer), layer=layer)[0]
        assert row.scores == pytest.approx(alone.scores, abs=1e-5)


def test_recurrent_models():
    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.embedding, self.head = nn.Embedding(VOCABULARY, 8), nn.Linear(8, 3)
            self.lstm = nn.LSTM(8, 8, batch_first=True)

        def forward(self, ids, mask):
            embedded = self.embedding(ids)
            packed = nn.utils.rnn.pack_padded_sequence(embedded, mask.sum(dim=1).cpu(), True, enforce_sorted=False)
            return self.head(self.lstm(packed)[1][0][-1])

    model, tokenizer = Recurrent().double().train(), wordpiece()
    record = IntegratedGradients(tolerance=1e-4)(model, batch_of(tokenizer), BagTask(tokenizer))
    assert all(record.converged)
    for row, text in zip(record, TEXTS, strict=True):
        alone = IntegratedGradients(tolerance=1e-4)(model, batch_of(tokenizer, [text]), BagTask(tokenizer))[0]
        assert row.scores == pytest.approx(alone.scores, abs=1e-10)


def test_a_compiled_module_is_explained_eagerly_under_the_names_of_what_was_compiled():
    model, batch, task = case()

    def never(graph, inputs):
        raise AssertionError("compiled anew")

    expected = IntegratedGradients()(model, batch, task)
    record = IntegratedGradients()(torch.compile(model, backend=never), batch, task)
    assert record.layer == "embedding"
    assert torch.equal(record.scores, expected.scores)


@pytest.mark.parametrize("method", [Gradient, GradientTimesInput, IntegratedGradients])
@pytest.mark.parametrize("size", [0, -1, 2.5])
def test_every_method_checks_how_many_go_in_a_pass(method, size):
    with pytest.raises(ValueError, match="internal_batch_size"):
        method(internal_batch_size=size)


def test_first_order_needs_a_positive_floor_and_a_baseline_that_exists():
    with pytest.raises(ValueError, match="`error_floor=-1` must be positive"):
        GradientTimesInput(error_floor=-1)
    with pytest.raises(ValueError, match="Did you mean 'zero'"):
        GradientTimesInput(baseline="zeros")


def test_a_layer_that_the_model_detaches_is_refused_with_the_reason():
    class Frozen(Bag):
        def forward(self, *parts):
            with torch.no_grad():
                return super().forward(*parts)

    with pytest.raises(ValueError, match=r"no_grad.*Choose a layer after that place"):
        IntegratedGradients()(Frozen(), batch_of(wordpiece()), BagTask(wordpiece()))


def test_a_text_of_no_tokens_has_no_score_and_says_so():
    tokenizer = wordpiece()
    model = classifier("bert")
    task = find_task(model, tokenizer=tokenizer)
    record = IntegratedGradients()(model, batch_of(tokenizer, ["", "a dull film"]), task)
    assert record[0].scores == (0.0, 0.0)
    assert record[0].error == 0
    assert record[0].notes == ("the text has no tokens of its own: there is nothing to attribute to",)
    assert record[1].notes == ()


@pytest.mark.parametrize(("name", "other"), [("bert", "alias"), ("t5", "transformer.shared")])
def test_the_word_embeddings_are_the_word_embeddings_by_whatever_name(name, other):
    model, tokenizer = classifier(name), wordpiece()
    model.alias = model.get_input_embeddings()
    task = find_task(model, tokenizer=tokenizer)
    batch = batch_of(tokenizer)
    record, same = IntegratedGradients()(model, batch, task), IntegratedGradients()(model, batch, task, layer=other)
    assert torch.equal(record.scores, same.scores)
    assert same.cut
    assert float(same.scores.abs().max()) > 0


def test_of_several_classifiers_one_must_be_named():
    class Pair(nn.Module):
        def __init__(self):
            super().__init__()
            self.teacher, self.student = classifier("bert"), classifier("distilbert")

    module, tokenizer = Pair(), wordpiece()
    with pytest.raises(ValueError, match=r"several `ForSequenceClassification` models \(teacher, student\): say which"):
        find_task(module, tokenizer=tokenizer)
    task = SequenceClassification(tokenizer, model="student")
    batch = batch_of(tokenizer)
    record = IntegratedGradients()(module, batch, task)
    assert record.layer == "student.distilbert.embeddings.word_embeddings"
    assert torch.equal(
        task.logits(module, batch), module.student(**{k: batch[k] for k in ("input_ids", "attention_mask")}).logits
    )


def test_a_classifier_is_found_behind_another_encoder():
    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder, self.head = classifier("bert").bert, classifier("distilbert")

    record = IntegratedGradients()(Both(), batch_of(wordpiece()), find_task(Both(), tokenizer=wordpiece()))
    assert record.layer.startswith("head.")
