"""Baselines of images that are found or drawn from reference images: what stands there is a whole image."""

import pytest
import torch
from tiny_images import images_of, model_of

from lightning_interpret import ExpectedGradients, GradientTimesInput, IntegratedGradients
from lightning_interpret.functional.baselines import Baseline
from lightning_interpret.tasks import find_task

DRAWN = ("training_mean", "nearest", "uniform")


def case(name="resnet", **options):
    model, references = model_of(name), images_of(8)
    task = find_task(model).with_references({name: value[3:] for name, value in references.items()})
    return model, images_of(2, **options), task


def test_the_training_mean_is_the_mean_image():
    model, batch, task = case()
    record = GradientTimesInput(baseline="training_mean")(model, batch, task)
    mean = task.references["pixel_values"].mean(dim=0, keepdim=True).expand(2, -1, -1, -1)
    with torch.no_grad():
        logits, at_x = model(pixel_values=mean).logits, model(pixel_values=batch["pixel_values"]).logits
    expected = logits.gather(1, at_x.argmax(dim=1, keepdim=True)).squeeze(1)
    torch.testing.assert_close(record.baseline_target, expected)


def test_the_nearest_is_a_reference_image_of_another_class():
    model, batch, task = case()
    record = GradientTimesInput(baseline="nearest")(model, batch, task)
    pixels, others = batch["pixel_values"].flatten(1), task.references["pixel_values"].flatten(1)
    with torch.no_grad():
        predicted = model(pixel_values=batch["pixel_values"]).logits.argmax(dim=1)
        logits = model(pixel_values=task.references["pixel_values"]).logits
    gold = task.labels(task.references)
    for row in range(2):
        cosine = torch.cosine_similarity(pixels[row : row + 1], others)
        best = int(cosine.masked_fill(gold == predicted[row], -2).argmax())
        assert float(record.baseline_target[row]) == pytest.approx(float(logits[best, predicted[row]]))
        assert record.notes[row][0].startswith("the baseline is the nearest reference of another class, ")
        assert "example " in record.notes[row][0] or "number " in record.notes[row][0]


@pytest.mark.parametrize("name", ["resnet", "vit"])
@pytest.mark.parametrize("kind", DRAWN)
def test_a_batch_is_its_images_one_by_one_and_every_layer_has_one_target(name, kind):
    model, batch, task = case(name)
    deeper = {"resnet": "resnet.encoder.stages.0", "vit": "vit.layers.0"}[name]
    found = IntegratedGradients(baseline=kind)(model, batch, task, layer=["pixel_values", deeper])
    for record in found.values():
        torch.testing.assert_close(record.attribution_target, found["pixel_values"].attribution_target)
        assert float(record.relative_error.max()) < 0.05
    if kind == "uniform":
        assert float(found["pixel_values"].baseline_entropy.min()) >= 0.99
    alone = IntegratedGradients(baseline=kind)(model, task.take(batch, torch.tensor([1])), task)
    torch.testing.assert_close(alone.scores[0], found["pixel_values"].scores[1], rtol=1e-5, atol=1e-7)


def test_expected_gradients_of_images():
    model, batch, task = case()
    record = ExpectedGradients(samples=40)(model, batch, task)
    with torch.no_grad():
        logits = model(pixel_values=task.references["pixel_values"]).logits
        predicted = model(pixel_values=batch["pixel_values"]).logits.argmax(dim=1)
    torch.testing.assert_close(record.baseline_target, logits[:, predicted].mean(dim=0))
    torch.testing.assert_close(record.baseline_spread, logits[:, predicted].std(dim=0, unbiased=False))
    size = record.scores.abs().sum(dim=1)
    assert float((record.error.abs() / size).max()) < 0.2


@pytest.mark.parametrize("kind", ["training_mean", "nearest"])
def test_references_of_another_size_are_refused(kind):
    model, batch, task = case(size=40)
    with pytest.raises(ValueError, match=r"features of shape \(3, 32, 32\), the example of \(3, 40, 40\): give ref"):
        GradientTimesInput(baseline=kind)(model, batch, task)


@pytest.mark.parametrize("kind", ["training_mean", "nearest", "distribution"])
def test_without_references_it_says_so(kind):
    model = model_of("resnet")
    with pytest.raises(ValueError, match=rf"`baseline='{kind}'` is drawn from reference examples, and there are none"):
        find_task(model).check(model, "predicted", Baseline(kind))
    find_task(model).check(model, "predicted", Baseline("uniform"))


def test_a_detector_has_no_entropy_and_no_uniform_baseline():
    model, batch = model_of("yolos"), images_of(2, boxes=True)
    task = find_task(model)
    record = GradientTimesInput(baseline="blur")(model, batch, task)
    assert record.baseline_entropy is None
    assert "no probabilities" in record.reasons["baseline_entropy"]
    mean = GradientTimesInput(baseline="training_mean")(model, batch, task.with_references(batch))
    assert bool(mean.baseline_target.isfinite().all())
    with pytest.raises(ValueError, match="needs probabilities of two classes or more"):
        GradientTimesInput(baseline="uniform")(model, batch, task)
