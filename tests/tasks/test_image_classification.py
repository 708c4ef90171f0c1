import base64
import io

import pytest
import torch
from PIL import Image
from tiny import wordpiece
from tiny_images import images_of, model_of
from torch import nn
from transformers import ViTImageProcessor

from lightning_interpret import Baseline, ImageClassification, IntegratedGradients, SequenceClassification
from lightning_interpret.data import ShapesDataset
from lightning_interpret.data.shapes import MEAN, SHAPES, STD
from lightning_interpret.functional.baselines import blur
from lightning_interpret.tasks import find_task

PROCESSOR = ShapesDataset.processor


def decoded(uri):
    head, data = uri.split(",")
    assert head == "data:image/jpeg;base64"
    image = Image.open(io.BytesIO(base64.b64decode(data)))
    flat = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
    return flat.reshape(image.height, image.width, -1).permute(2, 0, 1) / 255


def shown(pixels, processor=PROCESSOR):
    (uri,) = ImageClassification(processor=processor).pictures(pixels)
    return decoded(uri)


@pytest.mark.parametrize("name", ["resnet", "convnext", "vit", "swin"])
def test_an_image_classifier_needs_no_task(name):
    model, batch = model_of(name), images_of()
    task = find_task(model)
    assert isinstance(task, ImageClassification)
    task.check(model, "circle-cross", Baseline("default"))
    logits = task.logits(model, batch)
    assert torch.equal(logits, model(batch["pixel_values"]).logits)
    assert task.names(logits) == tuple(SHAPES[i] for i in logits.argmax(dim=1))
    assert task.gold_names(batch) == tuple(SHAPES[i] for i in batch["labels"])
    wanted = nn.functional.cross_entropy(logits, batch["labels"], reduction="none")
    torch.testing.assert_close(task.losses(model, batch), wanted)


def test_the_processor_of_the_module_is_used():
    model = model_of("resnet")
    assert find_task(model).normalisation is None
    model.processor = PROCESSOR
    assert find_task(model).normalisation == (MEAN, STD)


def test_batches_may_be_mappings_tuples_or_images_alone():
    task, batch = ImageClassification(SHAPES), images_of(4)
    images, labels = batch["pixel_values"], batch["labels"]
    for given in (batch, (images, labels), [images, labels], {"image": images, "label": labels}):
        assert task.pixels(given) is images
        assert torch.equal(task.labels(given), labels)
    assert task.pixels(images) is images
    with pytest.raises(ValueError, match="has no `pixel_values`, floating-point images"):
        task.pixels({"pixel_values": images.long()})


class Own(nn.Module):
    """A model of one's own; its images are called x."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.Tanh(), nn.Flatten(), nn.Linear(4 * 15 * 15, 4))

    def forward(self, x):
        return self.net(x)


def test_a_model_of_ones_own_needs_its_logits_alone():
    class OwnTask(ImageClassification):
        def logits(self, module, batch):
            return module(batch[0])

    model, batch = Own().double(), images_of()
    batch, task = (batch["pixel_values"], batch["labels"]), OwnTask(SHAPES)
    task.check(model, "gold", None)
    record = IntegratedGradients()(model, batch, task, which="gold")
    assert record.units.grid == (32, 32)
    assert record.baseline == "blur: 0.25"
    assert float(record.relative_error.max()) < 0.01
    assert record.target_name == record.gold
    record = IntegratedGradients()(model, batch, task, layer="net.0")
    assert record.units.grid == (15, 15)
    with pytest.raises(ValueError, match=r"Own holds no `transformers` model.*ImageClassification whose `logits"):
        ImageClassification(SHAPES).check(model, "gold", None)


# What stands in the place of an image


def test_baselines_of_the_pixels():
    task, batch = ImageClassification(SHAPES, PROCESSOR), images_of(3)
    pixels = batch["pixel_values"]

    def at(name):
        return task.baseline(None, batch, pixels, task.baseline_for(Baseline.ensure(name)))

    assert torch.equal(at("zero"), torch.zeros_like(pixels))
    torch.testing.assert_close(at("black"), torch.full_like(pixels, -2.0))  # (0 − 0.5) / 0.25
    assert torch.equal(at("blur: 0.1"), blur(pixels, 3.2))
    assert torch.equal(at("default"), blur(pixels, 8.0))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("pad", "`baseline='pad'` is of texts: an image has blur, black, zero"),
        ("text: a film", "is of texts"),
        ("black", "`baseline='black'` needs the `processor`"),
        ("mean", "`baseline='mean'` is of texts"),
    ],
)
def test_what_cannot_stand_there_is_refused_before_and_during(name, message):
    model, batch = model_of("resnet"), images_of()
    task = find_task(model)
    with pytest.raises(ValueError, match=message):
        task.check(model, "gold", Baseline.ensure(name))
    with pytest.raises(ValueError, match=message):
        IntegratedGradients(baseline=name)(model, batch, task)


def test_a_text_has_no_blur():
    task = SequenceClassification(wordpiece())
    with pytest.raises(ValueError, match="`baseline='blur'`, but the tokenizer has no blur token"):
        task._token_id(nn.Linear(1, 1), "blur")
    assert task.baseline_for(Baseline("default")) == Baseline("pad")


@pytest.mark.parametrize("kind", ["training_mean", "nearest", "uniform"])
def test_baselines_drawn_from_other_images_or_found(kind):
    model, batch = model_of("vit"), images_of()
    task = find_task(model).with_references(images_of(6))
    task.check(model, "gold", Baseline(kind))
    record = IntegratedGradients(kind)(model, batch, task)
    assert record.baseline == kind
    assert float(record.relative_error.max()) < 0.01
    if kind == "training_mean":
        mean = task.references["pixel_values"].mean(dim=0, keepdim=True)
        targets = task.resolve(task.logits(model, batch), batch, "predicted")
        found = task.score(model(mean.expand(2, -1, -1, -1)).logits, targets, "logit")
        torch.testing.assert_close(record.baseline_target, found)


@pytest.mark.parametrize("which", ["circl", "circle-circle"])
def test_a_class_that_does_not_exist_is_refused_before_training(which):
    with pytest.raises(ValueError, match="`which="):
        find_task(model_of("resnet")).check(model_of("resnet"), which, None)


# Where scores lie, and what they are shown on


def test_pictures_show_the_images_as_they_were():
    pixels = images_of(1)["pixel_values"]
    colours = pixels[0] * 0.25 + 0.5
    assert float((shown(pixels) - colours).abs().mean()) < 0.02
    stretched = shown(pixels, None)
    expected = (pixels[0] - pixels.min()) / (pixels.max() - pixels.min())
    assert float((stretched - expected).abs().mean()) < 0.02
    as_they_are = shown(colours[None], {"do_normalize": False})
    assert float((as_they_are - colours).abs().mean()) < 0.02


def test_pictures_are_small_and_of_any_channels():
    assert shown(torch.rand(1, 3, 448, 300)).shape == (3, 224, 150)
    gray = shown(torch.rand(1, 1, 20, 30), {"image_mean": 0.0, "image_std": 1.0})
    assert gray.shape == (3, 20, 30)
    assert float((gray[0] - gray[2]).abs().max()) < 0.02
    assert shown(torch.full((1, 5, 8, 8), float("nan")), None).shape == (3, 8, 8)


def test_a_processor_says_what_it_did():
    class Processor:
        def __init__(self):
            self.do_normalize, self.image_mean, self.image_std = True, [0.1, 0.2, 0.3], [1, 2, 3]

    assert ImageClassification(processor=Processor()).normalisation == ((0.1, 0.2, 0.3), (1.0, 2.0, 3.0))
    with pytest.raises(ValueError, match="says no `image_mean` and `image_std`"):
        _ = ImageClassification(processor={"size": 224}).normalisation


@pytest.mark.parametrize(
    ("processor", "message"),
    [
        ({"mean": [0.5] * 3}, "says no `image_mean` and `image_std`"),
        ("/no/such/folder", "`processor='/no/such/folder'` cannot be loaded"),
    ],
)
def test_a_processor_that_cannot_be_read_is_refused_before_training(processor, message):
    with pytest.raises(ValueError, match=message):
        ImageClassification(processor=processor).check(model_of("resnet"), "predicted", None)


def test_a_processor_of_other_channels_is_refused():
    task = ImageClassification(processor={"image_mean": [0.5] * 3, "image_std": [0.5] * 3})
    with pytest.raises(ValueError, match="`processor` normalises 3 channels, but the images have 4"):
        task.pictures(torch.rand(1, 4, 8, 8))
    grey = ImageClassification(processor={"image_mean": 0.5, "image_std": 0.5})
    assert len(grey.pictures(torch.rand(1, 4, 8, 8))) == 1


def test_a_processor_may_be_the_name_of_one(tmp_path):
    ViTImageProcessor(image_mean=[0.4, 0.5, 0.6], image_std=[0.2, 0.2, 0.2]).save_pretrained(tmp_path)
    task = ImageClassification(processor=str(tmp_path))
    assert task.normalisation == ((0.4, 0.5, 0.6), (0.2, 0.2, 0.2))


@pytest.mark.parametrize(
    ("name", "layer", "kind", "grid", "special"),
    [
        ("resnet", "pixel_values", "location", (32, 32), []),
        ("resnet", "resnet.encoder.stages.0", "location", (8, 8), []),
        ("resnet", "resnet.pooler", "feature", None, []),
        ("convnext", "convnext.encoder.stages.0.layers.0.pwconv1", "location", (8, 8), []),  # channels last
        ("vit", "vit.layers.0", "location", (4, 4), [0]),
        ("vit", "vit.embeddings.patch_embeddings", "location", (4, 4), []),
        ("swin", "swin.encoder.layers.1", "location", (4, 4), []),
        ("swin", "swin.pooler", "feature", None, []),
        ("yolos", "vit.encoder.layer.0", "location", (4, 4), [0, 17, 18, 19, 20, 21]),
        ("yolos", "class_labels_classifier", "feature", None, []),
        ("detr", "model.backbone.model.encoder.stages.1", "location", (4, 4), []),
        ("detr", "model.encoder", "location", (4, 4), []),
        ("detr", "model.decoder", "feature", None, []),
    ],
)
def test_where_the_features_of_a_layer_lie(name, layer, kind, grid, special):
    model, batch = model_of(name), images_of()
    record = IntegratedGradients(baseline="zero", steps=2, tolerance=None)(model, batch, find_task(model), layer=layer)
    assert (record.units.kind, record.units.grid) == (kind, grid)
    assert record.units.special[1].nonzero().flatten().tolist() == special
    assert record.scores.shape == (2, *record.units.shape)
    if grid is not None:
        assert record.units.shape == (grid[0] * grid[1] + len(special),)
        assert record[1].grid == grid
        assert decoded(record[1].image).shape == (3, 32, 32)
