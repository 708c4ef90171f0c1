"""One call over many layers: which, in which order, and what they share."""

import pytest
import torch
from convolution import Convolutional, ConvolutionalTask, pictures
from purity import assert_same, state_of
from tiny import LONG, SHORT, Bag, bag_task, batch_of, classifier, tokenizer_for, wordpiece
from tiny_images import MODELS, images_of, model_of
from torch import nn

import lightning_interpret
from lightning_interpret import IntegratedGradients
from lightning_interpret.methods import Gradient, GradientTimesInput
from lightning_interpret.tasks import find_task

EXACT = IntegratedGradients(tolerance=0.001)


def case(name):
    """A module, its task and a batch."""
    if name == "convolution":
        return Convolutional(), ConvolutionalTask(labels=["a", "b", "c"]), pictures()
    if name in MODELS:
        module = model_of(name)
        return module, find_task(module), images_of()
    module, tokenizer = classifier(name), tokenizer_for(name)
    return module, find_task(module, tokenizer=tokenizer), batch_of(tokenizer)


BLOCKS = {
    "bert": ["bert.embeddings.word_embeddings", "bert.encoder.layer.0", "bert.encoder.layer.1"],
    "gpt2": ["transformer.wte", "transformer.h.0", "transformer.h.1"],
    "t5": [
        "transformer.encoder.embed_tokens", "transformer.encoder.block.0", "transformer.encoder.block.1",
        "transformer.decoder.block.0", "transformer.decoder.block.1",
    ],
    "convolution": ["pixel_values", "stages.0", "stages.1", "stages.2", "stages.3"],
    "vit": ["pixel_values", "vit.layers.0", "vit.layers.1"],
    "resnet": ["pixel_values", "resnet.encoder.stages.0", "resnet.encoder.stages.1"],
}  # fmt: skip


@pytest.mark.parametrize("name", BLOCKS)
def test_all_is_the_default_layer_and_every_block_in_the_order_of_execution(name):
    module, task, batch = case(name)
    found = Gradient()(module, batch, task, layer="all")
    assert list(found) == BLOCKS[name]
    assert [record.layer for record in found.values()] == BLOCKS[name]
    assert {record.units.kind for record in found.values()} == {task.units(batch).kind}


@pytest.mark.parametrize("name", ["bert", "gpt2", "convolution", "vit", "resnet"])
def test_all_cut_layers_share_one_target(name):
    module, task, batch = case(name)
    found = EXACT(module, batch, task, layer="all")
    shared = next(iter(found.values())).attribution_target
    assert shared.abs().min() > 0.01
    for layer, record in found.items():
        assert record.cut is True, layer
        assert torch.allclose(record.attribution_target, shared, rtol=0, atol=1e-5), layer
        assert torch.allclose(record.scores.sum(dim=1).double(), shared, atol=0.002 * float(shared.abs().max())), layer


NO_CUTS = {
    "bert": ["bert.encoder.layer.0.attention.output.dense", "bert.encoder.layer.1.intermediate"],
    "gpt2": ["transformer.h.0.attn", "transformer.h.1.mlp"],
    "t5": ["transformer.encoder.block.0", "transformer.decoder.block.0"],
    "convolution": ["stages.1.branch"],
}


@pytest.mark.parametrize("name", NO_CUTS)
def test_what_something_passes_by_is_found_by_trial_and_has_a_target_of_its_own(name):
    module, task, batch = case(name)
    found = EXACT(module, batch, task, layer=[BLOCKS[name][0], *NO_CUTS[name]])
    first, *others = found.values()
    assert first.cut is True
    for record in others:
        assert record.cut is False, record.layer
        assert (record.attribution_target - first.attribution_target).abs().max() > 1e-3
        assert (record.scores.sum(dim=1).double() - record.attribution_target).abs().max() < 0.01


def test_a_list_gives_exactly_what_is_named():
    module, task, batch = case("bert")
    names = ["bert.encoder.layer.1", "classifier", "bert.embeddings"]
    found = GradientTimesInput()(module, batch, task, layer=names)
    assert list(found) == names
    alone = GradientTimesInput()(module, batch, task, layer=names[0])
    assert torch.equal(found[names[0]].scores, alone.scores)
    assert found["classifier"].units.kind == "feature"


def test_without_containers_the_layers_are_the_modules_without_parts():
    module, task = Bag(Skipping()), bag_task()
    batch = batch_of(wordpiece())
    found = IntegratedGradients(steps=4)(module, batch, task, layer="all")
    assert list(found) == ["embedding", "middle.inner"]
    assert [record.cut for record in found.values()] == [True, False]


class Skipping(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(6, 6)

    def forward(self, x):
        return x + torch.tanh(self.inner(x))


def test_a_head_of_several_layers_is_no_stage():
    module = Bag()
    module.hidden = nn.Sequential(nn.Linear(6, 6), nn.Tanh())
    assert bag_task().layers(module, batch_of(wordpiece())) == ["embedding", "middle"]


def test_a_user_may_say_what_all_is():
    class Mine(type(bag_task())):
        def layers(self, module, batch):
            return ["middle"]

    found = Gradient()(Bag(), batch_of(wordpiece()), Mine(wordpiece(), ["bad", "dull", "good"]), layer="all")
    assert list(found) == ["middle"]


def test_no_layer_is_refused():
    module, task, batch = case("bert")
    with pytest.raises(ValueError, match=r"`layer=\[\]` names no layer"):
        Gradient()(module, batch, task, layer=[])


def test_explain_returns_a_record_of_all_texts_for_each_layer():
    model, tokenizer = classifier("bert"), tokenizer_for("bert")
    texts = [LONG, SHORT, SHORT]
    found = lightning_interpret.explain(model, tokenizer, texts, method="gradient", layer="all", batch_size=2)
    assert list(found) == BLOCKS["bert"]
    for layer, record in found.items():
        alone = lightning_interpret.explain(model, tokenizer, texts, method="gradient", layer=layer, batch_size=2)
        assert torch.equal(record.scores, alone.scores)
        assert len(record) == 3


@pytest.mark.parametrize("name", ["bert", "convolution"])
def test_a_sweep_leaves_the_module_as_it_was(name):
    module, task, batch = case(name)
    module.train()
    before = state_of(module)
    IntegratedGradients(steps=4)(module, batch, task, layer="all")
    assert_same(before, state_of(module), objects=True)
