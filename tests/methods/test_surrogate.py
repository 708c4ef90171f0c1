"""LIME and KernelSHAP: closed forms, Captum's Shapley values, seeds, words, padding, and what is left alone."""

import sys
import threading

import captum.attr
import pytest
import torch
from tiny import LONG, VOCABULARY, Bag, BagTask, MeanPooled, MeanPooledTask, bag_task, batch_of, classifier, wordpiece
from tiny_images import images_of, model_of
from torch import nn

from lightning_interpret import Attribution, GradientTimesInput, KernelShap, Lime
from lightning_interpret.tasks import Layout, find_task
from lightning_interpret.units import Units

DEEPER = {"resnet": "resnet.encoder.stages.0", "vit": "vit.layers.0"}
BOTH = pytest.mark.parametrize("method", [KernelShap, Lime], ids=lambda method: method.name)


class FiveWays(nn.Module):
    """Captum's net, of the embeddings of three tokens: h = relu(sum of x + c), y = sum of h - 1."""

    def __init__(self, values):
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, 1).double()
        self.register_buffer("c", torch.tensor([-10.0, 1, 1, 1], dtype=torch.float64))
        with torch.no_grad():
            self.embedding.weight.zero_()
            for token, value in values.items():
                self.embedding.weight[token] = value

    def forward(self, ids, mask):
        y = (self.embedding(ids).sum(dim=1) + self.c).relu().sum(dim=1) - 1
        return torch.stack([y, torch.zeros_like(y), -y], dim=1)


def five_ways(text, *values):
    tokenizer = wordpiece()
    batch = batch_of(tokenizer, [text])
    content = batch["input_ids"][0, 1:-1].tolist()
    assert len(content) == len(set(content)) == len(values)
    return FiveWays(dict(zip(content, values, strict=True))), batch, bag_task()


# What the scores are


@pytest.mark.parametrize(
    ("values", "expected"), [((20, 50, 30), (76.6667, 196.6667, 116.6667)), ((2, 10, 3), (7, 32.5, 10.5))]
)
def test_shapley_values_of_three_units(values, expected):
    record = KernelShap(baseline="zero")(*five_ways("a good film", *values))
    assert record[0].scores == pytest.approx((0, *expected, 0), abs=1e-4)
    assert record.relative_error.tolist() == pytest.approx([0], abs=1e-6)
    assert record.sampling_error.tolist() == [0]
    assert record.forwards.tolist() == [2 + 8]  # x, x', and all coalitions


def test_shapley_values_of_groups():
    record = KernelShap(baseline="zero", unit="word")(*five_ways("player film", 20, 50, 30))
    assert [word.score for word in record[0].merged()] == pytest.approx([0, 275, 115, 0], abs=1e-4)
    assert record[0].scores[1] == record[0].scores[2]
    assert record.attribution_target.tolist() == [390]


def test_they_are_captums_shapley_values():
    model, task = Bag().double(), bag_task()
    batch = batch_of(task.tokenizer, ["a very good player"])
    record = KernelShap()(model, batch, task)
    x = model.embedding(batch["input_ids"]).detach()
    absent = model.embedding(batch["input_ids"].where(batch["input_ids"] < 5, 0)).detach()
    which = torch.tensor([[0, 0, 1, 2, 3, 4, 4]])[..., None].repeat(1, 1, 6)  # CLS, SEP: the same at both
    target = int(model(batch["input_ids"], batch["attention_mask"]).argmax())

    def from_embeddings(embedded):
        handle = model.embedding.register_forward_hook(lambda *_: embedded)
        try:
            return model(batch["input_ids"].expand(len(embedded), -1), batch["attention_mask"])[:, target]
        finally:
            handle.remove()

    peer = captum.attr.ShapleyValues(from_embeddings)
    expected = peer.attribute(x, baselines=absent, feature_mask=which)[0, 1:-1, 0]
    torch.testing.assert_close(record.scores[0, 1:-1], expected.double(), rtol=0, atol=1e-6)
    assert float(record.scores.abs().max()) > 1e-3


@BOTH
def test_drawn_scores_are_within_their_sampling_error(method):
    tokenizer = wordpiece()
    model = classifier("bert", dtype=torch.float64)
    batch, task = batch_of(tokenizer, [LONG]), find_task(model, tokenizer=tokenizer)
    exact = method(samples=2**13)(model, batch, task)
    assert exact.sampling_error.tolist() == [0]
    drawn = method()(model, batch, task)
    off = (drawn.scores - exact.scores).abs().sum() / drawn.scores.abs().sum()
    assert 0 < float(off) < 1.5 * float(drawn.sampling_error)
    assert float(drawn.sampling_error) < 0.1
    assert drawn.forwards.tolist() == [2 + 512]
    less = method(samples=128)(model, batch, task)
    assert float(less.sampling_error) > 1.5 * float(drawn.sampling_error)


@BOTH
def test_a_linear_model_has_its_gradient_times_the_step(method):
    class Linear(Bag):
        def forward(self, ids, mask):
            return self.head((self.embedding(ids) * mask.unsqueeze(-1)).sum(dim=1))

    model, task = Linear().double(), bag_task()
    batch = batch_of(task.tokenizer)
    expected = GradientTimesInput(baseline="mask")(model, batch, task)
    record = method(baseline="mask", samples=200)(model, batch, task)
    torch.testing.assert_close(record.scores, expected.scores, rtol=0, atol=1e-5)
    assert float(record.relative_error.max()) < 1e-5
    assert float(record.sampling_error.max()) < 1e-5


def test_shapley_values_sum_to_their_target_and_lime_says_by_how_much_it_misses():
    model, task = Bag().double(), bag_task()
    batch = batch_of(task.tokenizer)
    shap, lime = KernelShap(samples=64)(model, batch, task), Lime()(model, batch, task)
    for record in (shap, lime):
        change = record.target - record.baseline_target
        torch.testing.assert_close(record.attribution_target, change)
        torch.testing.assert_close(record.error, record.scores.sum(dim=1) - change)
        assert record.baseline == "pad"
        assert record.steps is None
        assert "no path" in record.reasons["steps"]
    assert float(shap.relative_error.max()) < 1e-6
    assert float(lime.relative_error.max()) > 1e-3


@BOTH
@pytest.mark.parametrize("baseline", ["mask", "zero", "mean", "text: the film"])
def test_every_baseline_is_what_absent_units_are_at(method, baseline):
    model, task = Bag().double(), bag_task()
    batch = batch_of(task.tokenizer)
    record = method(baseline=baseline)(model, batch, task)
    same = GradientTimesInput(baseline=baseline)(model, batch, task)
    torch.testing.assert_close(record.baseline_target, same.baseline_target)
    assert record.baseline == baseline
    assert record.scores[record.units.special].abs().sum() == 0
    with_ends = method(baseline="pad")(model, batch, task)
    assert not torch.allclose(record.scores, with_ends.scores)


# Units


@BOTH
def test_words_are_absent_as_a_whole(method):
    model, task = Bag().double(), bag_task()
    record = method(unit="word")(model, batch_of(task.tokenizer, ["the player is unaffable"]), task)[0]
    assert [word.text for word in record.merged()] == ["[CLS]", "the", "player", "is", "unaffable", "[SEP]"]
    assert sum(word.score for word in record.merged()) == pytest.approx(sum(record.scores))
    assert record.scores[2] == record.scores[3] != 0
    tokens = method(unit="token")(model, batch_of(task.tokenizer, ["the player is unaffable"]), task)[0]
    assert tokens.scores[2] != tokens.scores[3]
    assert record.forwards == 2 + 2**4
    assert tokens.forwards == 2 + 2**7


@BOTH
@pytest.mark.parametrize("unit", ["token", "word"])
@pytest.mark.parametrize("side", ["right", "left"])
def test_a_text_has_the_scores_that_it_has_alone(method, unit, side):
    tokenizer = wordpiece(padding_side=side)
    model, task = MeanPooled("bert", torch.float64), MeanPooledTask(tokenizer)
    texts = [LONG, "a film", "the player was great ."]
    method = method(unit=unit, samples=80)
    together = method(model, batch_of(tokenizer, texts), task)
    assert together.scores[together.units.padding].abs().sum() == 0
    for row, text in zip(together, texts, strict=True):
        alone = method(model, batch_of(tokenizer, [text]), task)[0]
        assert row.scores == pytest.approx(alone.scores, abs=1e-6)
    wide = method(model, batch_of(tokenizer, texts), task).scores
    chunked = type(method)(unit=unit, samples=80, internal_batch_size=7)(model, batch_of(tokenizer, texts), task)
    torch.testing.assert_close(chunked.scores, wide, rtol=0, atol=1e-6)


@BOTH
@pytest.mark.parametrize("layer", ["middle", "hidden"])
def test_other_layers(method, layer):
    model, task = Bag(nn.Linear(6, 6)).double(), bag_task()
    record = method()(model, batch_of(task.tokenizer), task, layer=layer)
    assert record.units.kind == ("token" if layer == "middle" else "feature")
    assert float(record.scores.abs().max()) > 1e-3
    if method is KernelShap:
        assert float(record.relative_error.max()) < 1e-6


@BOTH
def test_units_lie_where_the_layout_says(method):
    """Features with the channels first, as an image's are."""

    class Channels(Bag):
        def forward(self, ids, mask):
            return self.head(torch.tanh(self.hidden(self.middle(self.embedding(ids).transpose(1, 2)).mean(dim=2))))

    class ChannelsTask(BagTask):
        def layout(self, module, batch, features, layer):
            summed = Layout(self.units(batch), lambda values: values.sum(dim=1))
            return summed if layer == "middle" else super().layout(module, batch, features, layer)

    model, task = Channels().double(), ChannelsTask(wordpiece())
    batch = batch_of(task.tokenizer, ["a very good player"])
    there, here = (method()(model, batch, task, layer=layer) for layer in ("middle", "embedding"))
    torch.testing.assert_close(there.scores, here.scores, rtol=0, atol=1e-6)
    assert float(here.scores.abs().max()) > 1e-3


@BOTH
@pytest.mark.parametrize("name", ["resnet", "vit"])
def test_squares_of_an_image_are_absent_as_a_whole(method, name):
    model, batch = model_of(name), images_of()
    record = method(baseline="zero", squares=3)(model, batch, find_task(model))
    assert record.forwards.tolist() == [2 + 2**9] * 2
    pixels = record.scores.view(2, 32, 32)
    assert [len(row.unique()) for row in record.scores] == [9, 9]
    assert torch.equal(pixels[:, 0, 0], pixels[:, 10, 10])
    assert not torch.equal(pixels[:, 10, 10], pixels[:, 11, 10])
    deeper = method(baseline="zero", squares=2)(model, batch, find_task(model), layer=DEEPER[name])
    if method is KernelShap:
        assert float(record.relative_error.max()) < 1e-5
        assert float(deeper.relative_error.max()) < 1e-5
    grid = deeper.scores[~deeper.units.special].view(2, -1)
    assert [len(row.unique()) for row in grid] == [4, 4]
    if name == "vit":
        assert deeper.forwards.tolist() == [deeper.forwards[0].item()] * 2
        assert deeper.scores[:, 0].abs().min() > 0  # CLS is no square: it is absent on its own


@BOTH
def test_a_layer_of_too_many_units_is_refused(method):
    model, batch = Bag(nn.Linear(6, 6)), batch_of(wordpiece())
    wide = BagTask(wordpiece())
    wide.layout = lambda module, batch, features, layer: Layout(
        Units.features(len(features), 2049), lambda values: values.flatten(1)[:, 6:7].expand(-1, 2049)
    )
    with pytest.raises(ValueError, match=r"`layer='embedding'` has 2049 units .* with at most 2048"):
        method()(model, batch, wide)


@BOTH
def test_a_text_without_content_has_nothing_to_explain(method):
    model, task = Bag(), bag_task()
    record = method()(model, batch_of(task.tokenizer, ["", "a film"]), task)
    assert record[0].scores == (0, 0)
    assert record.sampling_error.tolist() == [0, 0]
    assert record.forwards[1] - record.forwards[0] >= 3


# Draws, threads, Captum


@BOTH
def test_equal_seeds_give_equal_scores_and_others_do_not(method):
    model, task = Bag(), bag_task()
    batch = batch_of(task.tokenizer)
    before = torch.get_rng_state()
    first = method(samples=60, seed=3)(model, batch, task)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(17)
    assert torch.equal(method(samples=60, seed=3)(model, batch, task).scores, first.scores)
    assert not torch.equal(method(samples=60, seed=4)(model, batch, task).scores[0], first.scores[0])


@BOTH
def test_no_more_than_asked_for_are_in_a_pass(method):
    model, task = Bag(), bag_task()
    sizes = []

    class Sizes(BagTask):
        def logits(self, module, batch):
            sizes.append(len(batch["input_ids"]))
            return super().logits(module, batch)

    method(samples=60, internal_batch_size=9)(model, batch_of(task.tokenizer), Sizes(task.tokenizer))
    assert max(sizes) == 9
    assert sizes.count(9) >= 12


@BOTH
def test_another_thread_sees_untouched_logits(method):
    model, task = Bag().eval(), bag_task()
    batch = batch_of(task.tokenizer)
    expected, seen = model(batch["input_ids"], batch["attention_mask"]), []

    class Served(BagTask):
        def logits(self, module, inside):
            serve = threading.Thread(target=lambda: seen.append(module(batch["input_ids"], batch["attention_mask"])))
            serve.start()
            serve.join()
            return super().logits(module, inside)

    method(samples=60)(model, batch, Served(task.tokenizer))
    assert len(seen) > 4
    assert all(torch.equal(logits, expected) for logits in seen)


@BOTH
def test_without_captum_the_extra_is_named(method, monkeypatch):
    model, task = Bag(), bag_task()
    monkeypatch.setitem(sys.modules, "captum", None)
    monkeypatch.delitem(sys.modules, "captum.attr", raising=False)
    with pytest.raises(ImportError, match=rf"`{method.__name__}` runs in Captum.*lightning-interpret\[captum\]"):
        method()(model, batch_of(task.tokenizer), task)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"unit": "words"}, r"`unit='words'` does not exist\. Did you mean 'word'"),
        ({"samples": 1}, r"`samples=1` must be a whole number of at least 2"),
        ({"squares": 0}, r"`squares=0` must be a whole number of at least 1"),
        ({"seed": -1}, r"`seed=-1` must be a whole number from 0"),
        ({"kernel_width": 0}, r"`kernel_width=0` must be positive"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Lime(**options)


def test_a_record_survives_json():
    model, task = Bag(), bag_task()
    record = KernelShap(samples=60)(model, batch_of(task.tokenizer), task)
    again = Attribution.from_dict(record.to_dict())
    assert again[0].sampling_error == record[0].sampling_error > 0
