"""Concept vectors at layers of any module: of images, of convolutions over texts, of one score or several labels."""

from dataclasses import replace

import pytest
import torch
from planted_concepts import LENGTH, PADDING, SIZE, UNUSED, USED, WORDS, Planted, PlantedTask, labelled, sets, texts
from torch import nn

from lightning_interpret import ImageClassification, SequenceClassification
from lightning_interpret.functional.features import LayerError
from lightning_interpret.functional.scope import explaining
from lightning_interpret.methods.concepts import ConceptActivationVectors, ConceptSets
from lightning_interpret.methods.concepts.features import LayerReader
from lightning_interpret.records.concept_test import ALIKE, FOR

SMALL = ConceptActivationVectors("embedding", examples=30, vectors=3, random_concepts=12)


class TextConvolution(nn.Module):
    """A convolution over the words and the largest value of each channel; padding is 0 at every layer."""

    def __init__(self, channels=12, reach=1):
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Embedding(WORDS, SIZE, padding_idx=PADDING)
        self.convolution = nn.Conv1d(SIZE, channels, 3, padding=reach)
        self.active, self.head = nn.ReLU(), nn.Linear(channels, 2)

    def forward(self, ids):
        return self.head(self.active(self.convolution(self.embedding(ids).transpose(1, 2))).amax(dim=2))


@pytest.mark.parametrize("channels", [12, LENGTH])
def test_a_convolution_over_a_text_has_features_by_channel_without_padding(channels):
    module, batch = TextConvolution(channels), {"input_ids": texts(4)}
    there = batch["input_ids"] != PADDING
    layers = ["convolution"] if channels == LENGTH else ["convolution", "active"]
    with explaining(module):
        found = LayerReader(module, PlantedTask(), layers, "mean", "logit").features(batch)
        rates, _, _ = LayerReader(module, PlantedTask(), layers, "mean", "logit").gradients(batch, "predicted")
        values = module.convolution(module.embedding(batch["input_ids"]).transpose(1, 2)).transpose(1, 2)
    for layer in layers:
        each = [
            row[kept].mean(dim=0)
            for row, kept in zip(values.relu() if layer == "active" else values, there, strict=True)
        ]
        assert torch.allclose(found[layer], torch.stack(each), atol=1e-6)
        assert rates[layer].shape == (4, channels)


def test_vectors_whose_length_is_that_of_the_text_are_refused():
    module = TextConvolution(reach=0)
    ids = [texts(20, seed=k)[:, : LENGTH - k % 2] for k in range(15)]
    found = ConceptSets(tuple({"input_ids": each} for each in ids), {"a": torch.arange(30)}, torch.arange(30, 300))
    with pytest.raises(LayerError, match=r"`layer='active'` gives vectors of 5, 6 numbers, by the length of the text"):
        replace(SMALL, layer="active").fit(module, found, PlantedTask())


def test_layers_that_give_the_places_before_the_examples_are_refused_by_name_also_where_both_are_as_many():
    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding, self.head = nn.Embedding(WORDS, SIZE), nn.Linear(6, 2)
            self.memory, self.block = nn.GRU(SIZE, 6), nn.TransformerEncoderLayer(6, 2, 8)

        def forward(self, ids):
            return self.head(self.block(self.memory(self.embedding(ids).transpose(0, 1))[0]).mean(dim=0))

    module = Recurrent()
    for layer in ("memory", "block"):
        with (
            explaining(module),
            pytest.raises(LayerError, match=rf"`layer='{layer}'` gives \(8, 8, 6\), the places before the examples"),
        ):
            LayerReader(module, PlantedTask(), [layer], "mean", "logit").features({"input_ids": texts(LENGTH)})


class Painted(nn.Module):
    """Two convolutions of images, of which the score of class 1 is how far they are red."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Conv2d(3, 6, 1), nn.ReLU(), nn.Conv2d(6, 5, 3, stride=2, padding=1), nn.Tanh())
        self.pooled, self.head = nn.AdaptiveAvgPool2d(1), nn.Linear(5, 2)
        with torch.no_grad():
            self.head.weight[1] = self.direction()
            self.head.weight[0] = -self.head.weight[1]

    def direction(self):
        """How the mean of the last map moves as an image becomes red."""
        white = torch.zeros(1, 3, 8, 8)
        red = white + torch.tensor([1.0, 0, 0])[:, None, None]
        return (self.body(red) - self.body(white)).mean(dim=(0, 2, 3))

    def forward(self, images):
        return self.head(self.pooled(self.body(images)).flatten(1))


class PaintedTask(ImageClassification):
    """Reads it."""

    def logits(self, module, batch):
        return module(batch["pixel_values"])


def images(count, *colours, seed=0):
    drawn = torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
    drawn[:, list(colours)] += 1
    return drawn


def image_sets():
    """Return a set of red images and one of others, beside others of which one in ten is red."""
    others = torch.cat([images(324, seed=3), images(36, 0, seed=4)])
    told = {"red": list(images(30, 0, seed=1)), "drawn": list(images(30, seed=2))}
    return ConceptSets.of(told, list(others), lambda rows: {"pixel_values": torch.stack(rows)})


@pytest.mark.parametrize("layer", [None, "all", "body.2", "pooled"])
def test_concepts_of_images_are_tested_in_maps_and_in_vectors(layer):
    module, task = Painted(), PaintedTask(["other", "red"])
    batch = {"pixel_values": images(60, seed=7)}
    batch["labels"] = torch.arange(60) % 2
    record = replace(SMALL, layer=layer, vectors=2).fit(module, image_sets(), task).scores([batch])
    layers = list(dict.fromkeys(test.layer for test in record.tests))
    assert layers == {None: ["body.2"], "all": ["body.0", "body.1", "body.2", "body.3"]}.get(layer, [layer])
    last = {(test.concept, test.target_name): test for test in record.tests if test.layer == layers[-1]}
    assert last["red", "red"].verdict == FOR
    assert last["red", "red"].effect > 0 > last["red", "other"].effect
    assert last["red", "red"].accuracy > 0.7


def test_feature_maps_are_pooled_over_places_wherever_the_channels_stand():
    class ChannelsLast(Painted):
        def forward(self, images):
            return super().forward(self.turned(images.permute(0, 2, 3, 1)).permute(0, 3, 1, 2))

    module = ChannelsLast()
    module.turned = nn.Linear(3, 3)
    batch, task = {"pixel_values": images(4)}, PaintedTask()
    with explaining(module):
        found = LayerReader(module, task, ["turned", "body.2"], "mean", "logit").features(batch)
        turned = module.turned(batch["pixel_values"].permute(0, 2, 3, 1))
        assert torch.allclose(found["turned"], turned.mean(dim=(1, 2)), atol=1e-6)
        assert found["body.2"].shape == (4, 5)
        with pytest.raises(LayerError, match=r"`pooling='first'` is of sequences, and `layer='body.2'` gives feature"):
            LayerReader(module, task, ["body.2"], "first", "logit").features(batch)


def test_an_image_model_without_a_block_is_asked_for_a_layer():
    module = nn.Sequential(nn.Flatten(), nn.Linear(192, 2))
    task = PaintedTask()
    with pytest.raises(LayerError, match=r"No layer of Sequential is known for a block: name one with `layer=`"):
        replace(SMALL, layer=None).fit(module, image_sets(), task)


class OneScore(Planted):
    """The score of class 1 alone."""

    def forward(self, ids):
        return super().forward(ids)[:, 1:]


@pytest.mark.parametrize("kind", [torch.float, torch.long])
def test_a_model_of_one_score_is_tested_with_every_example_whatever_its_label(kind):
    module, task = OneScore(), PlantedTask()
    SequenceClassification.__init__(task, labels=["stars"])
    ids = texts(60, seed=4)
    batch = {"input_ids": ids, "labels": (module(ids)[:, 0] > 0).to(kind)}
    told = {"used": texts(30, USED, seed=1), "unused": texts(30, UNUSED, seed=2)}
    record = SMALL.fit(module, sets(told), task).scores([batch])
    assert [(test.concept, test.target_name, test.verdict, test.examples) for test in record.tests] == [
        ("used", "stars", FOR, 60),
        ("unused", "stars", ALIKE, 60),
    ]


def test_several_labels_an_example_are_refused_by_name_and_predictions_are_not():
    module, ids = Planted(), texts(40, seed=4)
    fitted = SMALL.fit(module, sets({"used": texts(30, USED, seed=1)}), PlantedTask())
    for labels in (torch.ones(40, 2), torch.ones(40)):
        with pytest.raises(
            ValueError, match=r"`which='gold'` counts the examples of each class, and labels \(40,.*flo"
        ):
            fitted.scores([{"input_ids": ids, "labels": labels}])
    predicted = replace(fitted, method=replace(SMALL, which="predicted"))
    gold = fitted.scores([labelled(module, ids)])
    assert predicted.scores([{"input_ids": ids, "labels": torch.ones(40, 2)}]).tests == gold.tests


def test_classes_that_the_first_batch_has_not_are_tested_where_there_are_no_probabilities_to_name_them():
    class Found(PlantedTask):
        """As a detector: a class is known where it is found."""

        def log_probabilities(self, logits):
            return None

    module, ids, told = Planted(), texts(60, seed=4), texts(90, USED, seed=1)
    told = told[module(told).argmax(dim=1) == 1][:32]
    fitted = replace(SMALL, which="predicted").fit(module, sets({"used": told}), Found())
    assert fitted.classes == ("yes",)
    record = fitted.scores([{"input_ids": ids}])
    assert {test.target_name for test in record.tests} == {"yes", "no"}
    assert sum(test.examples for test in record.tests) == record.tested == 60
