import pytest
import torch
from tiny_images import images_of, model_of
from torch.nn import functional as F

from lightning_interpret import Gradient, IntegratedGradients, ObjectDetection
from lightning_interpret.data.shapes import SHAPES
from lightning_interpret.tasks import find_task
from lightning_interpret.tasks.object_detection import corners, intersection_over_union

# Two images, three queries, two classes and no object; boxes as centre, width and height
BOXES = [
    [[0.2, 0.2, 0.2, 0.2], [0.5, 0.5, 0.4, 0.4], [0.8, 0.8, 0.2, 0.2]],
    [[0.5, 0.5, 1.2, 0.4], [0.3, 0.3, 0.2, 0.2], [0.7, 0.7, 0.2, 0.2]],
]
SCORES = [[[2.0, 0, 1], [0, 3, 1], [-1, 0, 4]], [[0, 1, 0], [0, 0, 5], [2, 0, 0]]]
LOGITS = torch.cat([torch.tensor(SCORES), torch.tensor(BOXES)], dim=2)
GOLD = [
    {"class_labels": torch.tensor([1, 0]), "boxes": torch.tensor([[0.75, 0.8, 0.2, 0.2], [0.5, 0.5, 0.3, 0.3]])},
    {"class_labels": torch.tensor([0]), "boxes": torch.tensor([[0.1, 0.9, 0.1, 0.1]])},
]
BATCH = {"pixel_values": torch.rand(2, 3, 8, 8), "labels": GOLD}
TASK = ObjectDetection(["cat", "dog"])


def resolved(which, task=TASK, batch=BATCH):
    found = task.resolve(LOGITS, batch, which)
    return list(zip(found.example.tolist(), found.query.tolist(), found.name, strict=True))


def test_predicted_is_the_most_probable_box_of_each_image():
    assert resolved("predicted") == [(0, 1, "dog"), (1, 2, "cat")]
    assert TASK.names(LOGITS) == ("dog", "cat")


def test_all_is_every_box_over_the_threshold():
    assert resolved("all") == [(0, 0, "cat"), (0, 1, "dog"), (1, 0, "dog"), (1, 2, "cat")]
    assert resolved("all", ObjectDetection(threshold=0.8)) == [(0, 1, "1")]
    with pytest.raises(ValueError, match=r"no box is as probable as `threshold=0.9`; the most probable one has 0.84"):
        resolved("all", ObjectDetection(threshold=0.9))


def test_gold_is_the_query_that_overlaps_most():
    # of the last gold box no query has a part: the most probable one of its class
    assert resolved("gold") == [(0, 2, "dog"), (0, 1, "cat"), (1, 2, "cat")]
    assert TASK.gold_names(BATCH) == ("dog, cat", "cat")
    assert ObjectDetection().gold_names((BATCH["pixel_values"], GOLD)) == ("1, 0", "0")
    with pytest.raises(ValueError, match="`which='gold'`, but the batch has no gold boxes"):
        resolved("gold", batch={"pixel_values": torch.rand(2, 3, 8, 8)})


def test_each_box_is_compared_with_the_gold_box_it_overlaps_with_most():
    task = ObjectDetection(["cat", "dog"], threshold=0.5)
    found = task.compared(LOGITS, BATCH, task.resolve(LOGITS, BATCH, "all"))
    assert found == (("cat", "dog", "dog", "cat"), ("no object", "cat", "no object", "no object"))
    gold = [{"class_labels": torch.tensor([7, 1]), "boxes": torch.tensor([[0.6, 0.5, 0.3, 0.3], BOXES[0][1]])}, GOLD[1]]
    batch = BATCH | {"labels": gold}
    assert task.compared(LOGITS, batch, task.resolve(LOGITS, batch, "predicted"))[1] == ("dog", "no object")
    empty = [{"class_labels": torch.empty(0).long(), "boxes": torch.empty(0, 4)}] * 2
    assert task.compared(LOGITS, BATCH | {"labels": empty}, task.resolve(LOGITS, batch, "cat"))[1] == ("no object",) * 2
    assert task.compared(LOGITS, {"pixel_values": BATCH["pixel_values"]}, task.resolve(LOGITS, batch, "cat"))[1] is None


def test_the_record_of_an_image_with_several_boxes_has_one_gold_class_a_row():
    model, batch = model_of("yolos"), images_of(2, boxes=True, objects=(2, 2))
    task = ObjectDetection(SHAPES)
    record = Gradient()(model, batch, task, which="gold")
    assert len(record) == 4
    assert {*record.gold} <= {*SHAPES, "no object"}


def test_a_label_is_its_best_box_and_a_contrast_that_of_the_first():
    assert resolved("cat") == [(0, 0, "cat"), (1, 2, "cat")]
    assert resolved("dog-cat") == [(0, 1, "dog-cat"), (1, 0, "dog-cat")]
    with pytest.raises(ValueError, match=r"`which='dgo'` does not exist\. Did you mean 'dog'"):
        resolved("dgo")


@pytest.mark.parametrize(
    ("which", "output", "expected"),
    [
        ("predicted", "logit", [3.0, 2.0]),
        ("predicted", "margin", [2.0, 2.0]),  # less no object
        ("predicted", "prob", [0.84379, 0.78699]),
        ("predicted", "log_prob", [-0.16985, -0.23954]),
        ("cat", "logit", [2.0, 2.0]),
        ("dog-cat", "logit", [3.0, 1.0]),
        ("dog-cat", "prob", [0.84379 - 0.04201, 0.57612 - 0.21194]),
    ],
)
def test_scores(which, output, expected):
    found = TASK.score(LOGITS, TASK.resolve(LOGITS, BATCH, which), output)
    torch.testing.assert_close(found, torch.tensor(expected), rtol=0, atol=1e-4)


def test_the_side_of_a_box_is_a_target_too():
    found = TASK.resolve(LOGITS, BATCH, "predicted bottom")
    assert found.name == ("dog bottom", "cat bottom")
    torch.testing.assert_close(TASK.score(LOGITS, found, "logit"), torch.tensor([0.7, 0.8]))
    torch.testing.assert_close(TASK.score(LOGITS[[1]], found.at(torch.tensor([1])), "logit"), torch.tensor([0.8]))
    assert resolved("cat left") == [(0, 0, "cat left"), (1, 2, "cat left")]
    with pytest.raises(ValueError, match="`output='prob'` is of a class: the bottom of a box has 'logit' alone"):
        TASK.score(LOGITS, found, "prob")
    with pytest.raises(ValueError, match=r"`which='cta'` does not exist\. Did you mean 'cat'"):
        TASK.check(model_of("yolos"), "cta top", None)
    assert ObjectDetection(["top", "to the left"]).resolve(LOGITS, BATCH, "to the left").name == ("to the left",) * 2


def test_classes_that_are_scored_by_themselves():
    """As many scores as labels: sigmoids, and no object is a logit of 0."""
    task = ObjectDetection(["cat", "dog", "bird"])
    found = task.resolve(LOGITS, BATCH, "predicted")
    assert list(zip(found.query.tolist(), found.name, strict=True)) == [(2, "bird"), (1, "bird")]
    for output, wanted in [("logit", [4.0, 5.0]), ("margin", [4.0, 5.0])]:
        assert task.score(LOGITS, found, output).tolist() == wanted
    raw = torch.tensor([4.0, 5.0])
    torch.testing.assert_close(task.score(LOGITS, found, "prob"), raw.sigmoid())
    torch.testing.assert_close(task.score(LOGITS, found, "log_prob"), F.logsigmoid(raw))
    assert task.probabilities(LOGITS).shape == (2, 3, 3)


def test_the_box_of_a_target_is_within_the_image():
    targets = TASK.resolve(LOGITS, BATCH, "dog")
    found = TASK.boxes(LOGITS, BATCH, targets)
    torch.testing.assert_close(torch.tensor(found), torch.tensor([[0.3, 0.3, 0.7, 0.7], [0, 0.3, 1, 0.7]]))


def test_the_box_of_a_padded_image_lies_where_the_image_is():
    mask = torch.ones(2, 8, 8, dtype=torch.long)
    mask[0, :, 4:] = 0
    mask[1, 6:] = 0
    found = TASK.boxes(LOGITS, BATCH | {"pixel_mask": mask}, TASK.resolve(LOGITS, BATCH, "dog"))
    torch.testing.assert_close(torch.tensor(found), torch.tensor([[0.15, 0.3, 0.35, 0.7], [0, 0.225, 1, 0.525]]))


def test_overlap():
    first = torch.tensor([[0.5, 0.5, 0.4, 0.4]])
    second = torch.tensor([[0.5, 0.5, 0.4, 0.4], [0.7, 0.5, 0.4, 0.4], [0.9, 0.9, 0.2, 0.2]])
    torch.testing.assert_close(intersection_over_union(first, second), torch.tensor([[1.0, 1 / 3, 0.0]]))
    assert corners(first).tolist() == [pytest.approx([0.3, 0.3, 0.7, 0.7])]


@pytest.mark.parametrize("pair", [False, True])
def test_gold_boxes_go_with_their_images(pair):
    batch = (BATCH["pixel_values"], GOLD) if pair else BATCH  # two images with two boxes in the first: no other way
    taken = TASK.take(batch, torch.tensor([1, 0, 1]))
    assert torch.equal(TASK.pixels(taken), BATCH["pixel_values"][[1, 0, 1]])
    assert [part["class_labels"].tolist() for part in TASK.gold(taken)] == [[0], [1, 0], [0]]


def test_the_loss_of_an_image_is_that_of_its_gold_classes():
    class Fixed(ObjectDetection):
        def logits(self, module, batch):
            return LOGITS

    scores = torch.tensor(SCORES)
    wanted = [
        (F.cross_entropy(scores[0, 2], torch.tensor(1)) + F.cross_entropy(scores[0, 1], torch.tensor(0))) / 2,
        F.cross_entropy(scores[1, 2], torch.tensor(0)),
    ]
    torch.testing.assert_close(Fixed(["cat", "dog"]).losses(None, BATCH), torch.stack(wanted))


def test_options_and_what_is_no_detector_are_refused():
    with pytest.raises(ValueError, match=r"`threshold=1.5` is a probability"):
        ObjectDetection(threshold=1.5)
    with pytest.raises(ValueError, match=r"Linear holds no `transformers` model.*ObjectDetection whose"):
        TASK.check(torch.nn.Linear(2, 2), "all", None)
    with pytest.raises(ValueError, match="returns no `logits` and `pred_boxes`"):
        TASK.logits(model_of("resnet"), images_of())


@pytest.mark.parametrize("name", ["yolos", "detr"])
def test_detectors_need_no_task(name):
    model, batch = model_of(name), images_of(boxes=True, objects=(1, 2))
    task = find_task(model)
    assert isinstance(task, ObjectDetection)
    for which in ("all", "gold", "predicted", "circle", "circle-cross"):
        task.check(model, which, None)
    output, logits = model(batch["pixel_values"]), task.logits(model, batch)
    assert torch.equal(logits[..., :-4], output.logits)
    assert torch.equal(logits[..., -4:], output.pred_boxes)
    assert task.label_names(logits.shape[2] - 5) == SHAPES


@pytest.mark.parametrize("name", ["yolos", "detr"])
@pytest.mark.parametrize("output", ["logit", "log_prob"])
def test_one_call_explains_all_boxes_as_each_alone(name, output):
    model, batch = model_of(name), images_of(3, boxes=True, objects=(1, 3))
    task = ObjectDetection(SHAPES, threshold=0.25)
    method = IntegratedGradients(baseline="zero", tolerance=None, steps=24)
    record = method(model, batch, task, which="all", output=output)
    logits = task.logits(model, batch)
    targets = task.resolve(logits, batch, "all")
    assert len(record) == len(targets.name) > 3
    rows = []
    for i in range(3):
        alone = task.take(batch, torch.tensor([i]))
        assert [len(part["boxes"]) for part in alone["labels"]] == [len(batch["labels"][i]["boxes"])]
        rows += [task.score(task.logits(model, alone), task.resolve(task.logits(model, alone), alone, "all"), output)]
        found = method(model, alone, task, which="all", output=output)
        mine = record.scores[(targets.example == i).nonzero().flatten()]
        torch.testing.assert_close(found.scores, mine, rtol=1e-8, atol=1e-10)
    torch.testing.assert_close(torch.cat(rows), record.target)
    for k, row in enumerate(record):
        box = corners(logits[targets.example[k], targets.query[k], -4:]).clamp(0, 1)
        assert row.box == pytest.approx(box.tolist(), abs=1e-6)
        assert row.grid == (32, 32)
    many = Gradient(internal_batch_size=2)(model, batch, task, which="all")
    torch.testing.assert_close(many.scores, Gradient()(model, batch, task, which="all").scores)
    torch.testing.assert_close(record.scores.sum(dim=1), record.attribution_target + record.error)


@pytest.mark.parametrize("layer", ["pixel_values", "vit.encoder.layer.0", "vit.layernorm"])
@pytest.mark.parametrize("which", ["gold", "gold top"])
def test_scores_sum_to_the_target_of_each_box(layer, which):
    model, batch = model_of("yolos"), images_of(boxes=True, objects=(2, 2))
    record = IntegratedGradients("zero")(model, batch, find_task(model), layer=layer, which=which)
    assert len(record) == 4
    assert record.cut
    assert all(record.converged)
    assert float(record.relative_error.max()) < 0.01
