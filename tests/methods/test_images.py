"""Attributions of images: at the pixels and at any layer of three families of models."""

import captum.attr
import pytest
import torch
from tiny_images import images_of, model_of
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from lightning_interpret import Gradient, GradientTimesInput, ImageClassification, IntegratedGradients
from lightning_interpret.data import ShapesDataset
from lightning_interpret.data.shapes import SHAPES
from lightning_interpret.tasks import find_task

LAYERS = {
    "resnet": ["resnet.embedder", "resnet.encoder.stages.0", "resnet.encoder.stages.1", "resnet.pooler"],
    "convnext": ["convnext.embeddings", "convnext.encoder.stages.0", "convnext.encoder.stages.1", "convnext.layernorm"],
    "vit": ["vit.embeddings.patch_embeddings", "vit.embeddings", "vit.layers.0", "vit.layers.1", "vit.layernorm"],
}
PASSED_BY = {
    "resnet": "resnet.encoder.stages.0.layers.0.layer",
    "convnext": "convnext.encoder.stages.0.layers.0.pwconv2",
    "vit": "vit.layers.0.attention",
}
families = pytest.mark.parametrize("name", LAYERS)


@families
@pytest.mark.parametrize("baseline", ["blur", "zero"])
def test_scores_sum_to_one_target_at_the_pixels_and_at_every_stage(name, baseline):
    model, batch = model_of(name), images_of()
    found = IntegratedGradients(baseline)(model, batch, find_task(model), layer=["pixel_values", *LAYERS[name]])
    target = found["pixel_values"].attribution_target
    assert float(target.abs().max()) > 0.01
    for layer, record in found.items():
        assert record.cut, layer
        torch.testing.assert_close(record.attribution_target, target, rtol=1e-7, atol=1e-9)
        torch.testing.assert_close(record.scores.sum(dim=1), target + record.error)
        assert all(record.converged), layer
        assert float(record.relative_error.max()) < 0.01


@families
def test_a_layer_that_is_passed_by_has_a_target_of_its_own(name):
    model, batch = model_of(name), images_of()
    task = find_task(model)
    at_pixels, record = IntegratedGradients(max_steps=128)(
        model, batch, task, layer=["pixel_values", PASSED_BY[name]]
    ).values()
    assert not record.cut
    assert float((record.attribution_target - at_pixels.attribution_target).abs().min()) > 1e-3
    assert float(record.relative_error.max()) < 0.02


@families
@pytest.mark.parametrize("method", [IntegratedGradients(max_steps=64), GradientTimesInput("black"), Gradient()])
def test_a_batch_is_its_images_one_by_one(name, method):
    model, batch = model_of(name), images_of(3)
    task = ImageClassification(SHAPES, ShapesDataset.processor)
    record = method(model, batch, task)
    for i in range(3):
        alone = method(model, task.take(batch, torch.tensor([i])), task)
        torch.testing.assert_close(alone.scores[0], record.scores[i], rtol=1e-7, atol=1e-10)
        assert alone.example_id == (record.example_id[i],)
    assert (record.units.grid, record.layer) == ((32, 32), "pixel_values")


@families
def test_integrated_gradients_are_captums(name):
    model, batch = model_of(name), images_of()
    task = find_task(model)
    ours = IntegratedGradients("zero", rule="gauss_legendre", steps=20, tolerance=None)(model, batch, task)
    pixels, explained = batch["pixel_values"], task.logits(model, batch).argmax(dim=1)
    theirs = captum.attr.IntegratedGradients(lambda x: model(x).logits).attribute(
        pixels, target=explained, n_steps=20, method="gausslegendre"
    )
    torch.testing.assert_close(ours.scores, theirs.sum(dim=1).flatten(1), rtol=1e-6, atol=1e-9)


@families
def test_integrated_gradients_of_pixels_against_a_slow_sum(name):
    model, batch = model_of(name), images_of(1)
    task = ImageClassification(SHAPES, ShapesDataset.processor)
    record = IntegratedGradients("black", tolerance=1e-3)(model, batch, task)
    x, label = batch["pixel_values"], int(task.logits(model, batch).argmax())
    absent, total, nodes = torch.full_like(x, -2.0), torch.zeros_like(x), 200
    for k in range(nodes):
        point = (absent + (k + 0.5) / nodes * (x - absent)).requires_grad_()
        total += torch.autograd.grad(model(point).logits[0, label], point)[0] / nodes
    expected = ((x - absent) * total).sum(dim=1).flatten(1)
    assert float((record.scores - expected).abs().sum() / expected.abs().sum()) < 0.03
    torch.testing.assert_close(record.baseline_target, model(absent).logits[:, label])


def test_a_linear_model_of_pixels_is_its_weights():
    class Linear(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(3 * 8 * 12, 4).double()

        def forward(self, images):
            return self.head(images.flatten(1))

    class Task(ImageClassification):
        def logits(self, module, batch):
            return module(batch)

    torch.manual_seed(0)
    model, images, task = Linear(), torch.randn(5, 3, 8, 12).double(), Task(SHAPES, {"image_mean": 0.5, "image_std": 1})
    weight = model.head.weight[model(images).argmax(dim=1)].reshape(5, 3, 8, 12)
    for method, baseline in [(IntegratedGradients("black"), -0.5), (GradientTimesInput(), 0.0)]:
        record = method(model, images, task)
        torch.testing.assert_close(record.scores, ((images - baseline) * weight).sum(dim=1).flatten(1))
        assert float(record.error.abs().max()) < 1e-9
    torch.testing.assert_close(Gradient()(model, images, task).scores, weight.norm(dim=1).flatten(1))
    assert GradientTimesInput()(model, images, task).baseline == "zero"


def test_a_pass_holds_as_many_images_as_make_its_bound(monkeypatch):
    monkeypatch.setattr("lightning_interpret.methods.case.LOCATIONS_A_PASS", {"cpu": 3 * 1024 + 5, "cuda": 1})
    model, sizes = model_of("resnet"), []

    class Task(ImageClassification):
        def logits(self, module, batch):
            sizes.append(len(batch["pixel_values"]))
            return super().logits(module, batch)

    IntegratedGradients(steps=7, tolerance=None)(model, images_of(), Task(SHAPES))
    assert max(sizes) == 3
    assert sizes.count(3) >= 4


@families
def test_a_model_in_training_is_left_as_it_was(name):
    model, batch = model_of(name).train(), images_of()
    model(batch["pixel_values"]).logits.sum().backward()
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}

    def state():
        hooks = [len(kept) for part in model.modules() for kind, kept in vars(part).items() if kind.endswith("_hooks")]
        flags = [part.training for part in model.modules()]
        return hooks, flags, [(id(tensor), tensor._version, id(tensor.grad)) for tensor in tensors.values()]

    before, values = state(), [tensor.detach().clone() for tensor in tensors.values()]
    pixels, random = batch["pixel_values"].clone(), torch.get_rng_state()
    for layer in (None, LAYERS[name][1]):
        IntegratedGradients(max_steps=16)(model, batch, find_task(model), layer=layer)
    assert state() == before
    assert all(torch.equal(a, b) for a, b in zip(values, tensors.values(), strict=True))
    assert torch.equal(batch["pixel_values"], pixels)
    assert torch.equal(torch.get_rng_state(), random)


class Small(nn.Module):
    """A net that learns two shapes in a second."""

    def __init__(self):
        super().__init__()
        first = [nn.Conv2d(3, 12, 5, stride=2, padding=2), nn.BatchNorm2d(12), nn.ReLU()]
        second = [nn.Conv2d(12, 24, 3, stride=2, padding=1), nn.BatchNorm2d(24), nn.ReLU()]
        self.body, self.head = nn.Sequential(*first, *second), nn.Linear(48, 2)

    def forward(self, images):
        found = self.body(images)
        return self.head(torch.cat([found.mean(dim=(2, 3)), found.amax(dim=(2, 3))], dim=1))


class SmallTask(ImageClassification):
    def logits(self, module, batch):
        return module(batch["pixel_values"])


def test_a_classifier_that_has_learnt_the_shapes_looks_at_them():
    torch.manual_seed(0)
    kinds, epochs = ("circle", "cross"), 8
    train, val = (ShapesDataset(n, image_size=32, seed=seed, shapes=kinds) for n, seed in ((512, 0), (64, 1)))
    model, rows = Small(), [train[i] for i in range(len(train))]
    optimizer = torch.optim.Adam(model.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=epochs * 16)
    for _ in range(epochs):
        for batch in DataLoader(rows, batch_size=32, shuffle=True):
            optimizer.zero_grad()
            F.cross_entropy(model(batch["pixel_values"]), batch["labels"]).backward()
            optimizer.step()
            schedule.step()
    batch = next(iter(DataLoader(val, batch_size=64)))
    record = IntegratedGradients(steps=8, tolerance=None)(model, batch, SmallTask(kinds, train.processor))
    assert sum(row.prediction == row.gold for row in record) >= 60
    masks = batch["masks"][:, 0]
    boxes = (masks.any(dim=1, keepdim=True) & masks.any(dim=2, keepdim=True)).flatten(1)
    inside = (record.scores.abs() * boxes).sum(dim=1) / record.scores.abs().sum(dim=1)
    area = boxes.float().mean(dim=1)
    assert float(inside.mean()) > 2 * float(area.mean())
    assert bool((inside > area).all())
