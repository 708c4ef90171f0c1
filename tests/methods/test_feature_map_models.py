"""Feature maps of convolutional nets, vision transformers and detectors, in float64."""

from dataclasses import replace

import captum.attr
import pytest
import torch
from tiny_images import MODELS, images_of, model_of

from lightning_interpret import (
    DifferenceMap,
    ImageClassification,
    IntegratedGradients,
    LayerCam,
    ObjectDetection,
    Odam,
)

MAPS = [LayerCam, Odam, DifferenceMap]
#: The layer that is explained; its grid is 4 x 4.
LAYERS = {
    "resnet": "resnet.encoder",
    "convnext": "convnext.encoder",
    "vit": "vit.embeddings",
    "swin": "swin.layernorm",
    "yolos": "vit.encoder.layer.0",
    "detr": "model.encoder",
}
DETECTORS = ("yolos", "detr")
LABELS = ["a", "b", "c", "d"]


def case(name):
    """A tiny model in float64, two pictures and the task."""
    task = ObjectDetection(LABELS, threshold=0.01) if name in DETECTORS else ImageClassification(LABELS)
    return model_of(name, seed=1), {"pixel_values": images_of()["pixel_values"]}, task


def read(model, layer, forward, replacement=None):
    """The result and a layer's first output, by a hook of one's own that may replace it."""
    seen = []

    def hook(module, args, output):
        first = output if isinstance(output, torch.Tensor) else output[0]
        seen.append(first if replacement is None else replacement)
        if replacement is None:
            return None
        if isinstance(output, torch.Tensor):
            return replacement
        return (replacement, *output[1:]) if isinstance(output, tuple) else type(output)(replacement)

    handle = model.get_submodule(layer).register_forward_hook(hook)
    try:
        return forward(), seen[0]
    finally:
        handle.remove()


@pytest.mark.parametrize("method", MAPS)
@pytest.mark.parametrize("name", MODELS)
def test_the_account_adds_up_at_the_last_map_before_pooling(name, method):
    model, batch, task = case(name)
    record = method()(model, batch, task, which="a-b")
    assert (record.layer, record.units.grid) == (LAYERS[name], (4, 4))
    shown = ~record.units.special[0]
    assert int(shown.sum()) == 16
    assert bool(record.scores[:, shown].any())
    for row in record:
        total = sum(row.scores) + sum(row.absorbed.values())
        assert total == pytest.approx(row.attribution_target, abs=1e-10)
        assert row.attribution_target == pytest.approx(row.target - row.baseline_target)
        assert abs(row.error) > 1e-6


def test_patches_that_are_read_through_a_layer_norm_alone_have_no_first_order():
    """The last block reads their direction and not their length, so that Σ_k h_k ∂F/∂h_k is 0: ODAM draws nothing."""
    methods, layer = (Odam(), LayerCam(), Odam(repaired=True)), "vit.layers.0"
    boxed, cam, repaired = (method(*case("vit"), layer=layer) for method in methods)
    patches = ~boxed.units.special
    assert float(boxed.scores[patches].abs().max()) < 1e-6 * float(repaired.scores[patches].abs().max())
    assert float(cam.scores[patches].max()) > 1e-4
    assert repaired.cut


@pytest.mark.parametrize("name", MODELS)
def test_maps_are_the_definitions_in_a_loop(name):
    model, batch, task = case(name)
    layer = LAYERS[name]

    def forward():
        return model(**batch).logits

    with torch.no_grad():
        logits, features = read(model, layer, forward)
    point = features.clone().requires_grad_()
    at_point, _ = read(model, layer, forward, point)
    torch.testing.assert_close(at_point, logits)
    at_zero, _ = read(model, layer, forward, torch.zeros_like(features))
    cams, boxed = LayerCam()(model, batch, task), Odam()(model, batch, task)
    for i in range(2):
        if name in DETECTORS:
            place = divmod(int(logits[i].softmax(dim=1)[:, :4].argmax()), 4)
        else:
            place = (int(logits[i].argmax()),)
        slope = torch.autograd.grad(at_point[i][place], point, retain_graph=True)[0][i]
        h, g = features[i], slope
        if h.dim() == 3:  # channels first
            h, g = h.flatten(1).T, g.flatten(1).T
        for unit in range(len(h)):
            cam = sum(max(b, 0) * a for a, b in zip(h[unit].tolist(), g[unit].tolist(), strict=True))
            signed = sum(b * a for a, b in zip(h[unit].tolist(), g[unit].tolist(), strict=True))
            assert float(cams.scores[i, unit]) == pytest.approx(max(cam, 0), abs=1e-10)
            assert float(boxed.scores[i, unit]) == pytest.approx(max(signed, 0), abs=1e-10)
        for record in (cams, boxed):
            assert float(record.baseline_target[i]) == pytest.approx(float(at_zero[i][place].detach()), abs=1e-10)
            higher = float((logits[i][place] - at_zero[i][place]).detach()) - float((h * g).sum())
            assert record.absorbed[i]["higher orders"] == pytest.approx(higher, abs=1e-10)


@pytest.mark.parametrize("method", MAPS)
@pytest.mark.parametrize("name", MODELS)
def test_repaired_maps_are_signed_and_complete_at_the_same_locations(name, method):
    model, batch, task = case(name)
    record = method(repaired=True)(model, batch, task, which="a-b")
    same = IntegratedGradients()(model, batch, task, layer=LAYERS[name], which="a-b")
    assert torch.equal(record.scores, same.scores)
    assert record.units.grid == (4, 4)
    assert record.baseline == "blur: 0.25"
    assert record.cut
    assert all(record.converged)
    assert float(record.relative_error.max()) < 0.01
    assert bool((record.scores < 0).any())


@pytest.mark.parametrize("name", MODELS)
def test_the_attribution_of_a_contrast_is_the_difference_of_two(name):
    """A[s_a − s_b] = A[s_a] − A[s_b] for one baseline; the pictures' difference is another map."""
    model, batch, task = case(name)
    options = {"layer": LAYERS[name], "which": "a-b"}
    fixed = {"tolerance": None, "steps": 60}
    contrast = DifferenceMap(repaired=True, **fixed)(model, batch, task, **options)
    if name not in DETECTORS:  # of a detector the box is that of a in one, and that of b in the other
        one, other = (LayerCam(repaired=True, **fixed)(model, batch, task, **options | {"which": w}) for w in "ab")
        torch.testing.assert_close(contrast.scores, one.scores - other.scores, rtol=0, atol=1e-4)
    drawn = DifferenceMap()(model, batch, task, **options)
    assert float(drawn.scores.abs().max()) <= 1
    gap = (drawn.scores.sum(dim=1) - contrast.attribution_target).abs()
    assert bool((gap > 0.01 * contrast.attribution_target.abs()).all())


def test_the_difference_map_of_what_is_predicted_is_against_what_a_margin_subtracts():
    model, batch, task = case("resnet")
    with torch.no_grad():
        top = model(**batch).logits.topk(2, dim=1).indices.tolist()
    record = DifferenceMap()(model, batch, task)
    assert record.target_name == tuple(f"{LABELS[a]}-{LABELS[b]}" for a, b in top)
    named = DifferenceMap()(model, batch, task, which=record.target_name[0])
    assert torch.equal(named.scores[0], record.scores[0])
    model, batch, task = case("yolos")
    record = DifferenceMap()(model, batch, task)
    assert record.target_name == tuple(f"{name} (margin)" for name in record.prediction)
    with torch.no_grad():
        logits = model(**batch).logits
    best = logits.softmax(dim=2)[..., :4].amax(dim=2).argmax(dim=1)
    margins = [float(logits[i, q, :4].max() - logits[i, q, 4]) for i, q in enumerate(best)]
    assert record.target.tolist() == pytest.approx(margins)


@pytest.mark.parametrize("method", [*[m() for m in MAPS], LayerCam(repaired=True)], ids=str)
@pytest.mark.parametrize("name", ["resnet", "vit", "yolos"])
def test_a_batch_is_one_by_one(name, method):
    model, batch, task = case(name)
    record = method(model, batch, task)
    for i in range(2):
        alone = method(model, {"pixel_values": batch["pixel_values"][i : i + 1]}, task)
        torch.testing.assert_close(alone.scores[0], record.scores[i], rtol=1e-9, atol=1e-10)
        torch.testing.assert_close(alone.error[0], record.error[i], rtol=1e-9, atol=1e-10)


class OneBox(ObjectDetection):
    """Explains one of the boxes that there are."""

    def __init__(self, row, **options):
        super().__init__(LABELS, **options)
        self.row = row

    def resolve(self, logits, batch, which):
        every = super().resolve(logits, batch, which)
        row = torch.tensor([self.row])
        return replace(every.at(row), example=every.example[row])


@pytest.mark.parametrize("name", DETECTORS)
@pytest.mark.parametrize("repaired", [False, True])
def test_each_box_has_the_map_it_has_alone(name, repaired):
    model, batch, task = case(name)
    method = Odam(repaired=repaired)
    record = method(model, batch, task, which="all")
    assert len(record) == len(set(record.box)) > 2
    assert not torch.allclose(record.scores[0], record.scores[1])
    for i in (0, len(record) - 1):
        alone = method(model, batch, OneBox(i, threshold=0.01), which="all", layer=record.layer)
        assert alone.box == record.box[i : i + 1]
        torch.testing.assert_close(alone.scores[0], record.scores[i], rtol=1e-9, atol=1e-10)
        torch.testing.assert_close(alone.error[0], record.error[i], rtol=1e-9, atol=1e-10)


# Captum, where it computes the same


@pytest.mark.parametrize("name", ["resnet", "convnext"])
def test_captum_agrees(name):
    """A head that is linear in the pooled map has one gradient a channel: there ODAM is Grad-CAM; not in ConvNeXt."""
    model, batch, task = case(name)
    layer = model.get_submodule(f"{name}.encoder.stages.1")

    def forward(pixels):
        return model(pixel_values=pixels).logits

    with torch.no_grad():
        target = forward(batch["pixel_values"]).argmax(dim=1)
    product = captum.attr.LayerGradientXActivation(forward, layer).attribute(batch["pixel_values"], target=target)
    record = Odam()(model, batch, task)
    torch.testing.assert_close(record.scores, product.sum(dim=1).clamp(min=0).flatten(1))
    cut = torch.tensor([row["negative locations"] for row in record.absorbed], dtype=torch.float64)
    torch.testing.assert_close(cut, product.sum(dim=1).clamp(max=0).flatten(1).sum(dim=1))
    cam = captum.attr.LayerGradCam(forward, layer)
    averaged = cam.attribute(batch["pixel_values"], target=target, relu_attributions=True).flatten(1)
    if name == "resnet":
        torch.testing.assert_close(record.scores, averaged)
