import math

import pytest
import torch
from torch.utils.data import DataLoader

from lightning_interpret.data import ShapesDataset
from lightning_interpret.data.shapes import MEAN, SHAPES, STD, boxes_of


def colours(row):
    return row["pixel_values"] * torch.tensor(STD)[:, None, None] + torch.tensor(MEAN)[:, None, None]


def same(a, b):
    return a.keys() == b.keys() and all(
        torch.equal(a[name], b[name]) if isinstance(a[name], torch.Tensor) else a[name] == b[name] for name in a
    )


def test_a_row_is_drawn_from_the_seed_and_its_index_alone():
    rows = ShapesDataset(20, seed=3)
    state = torch.get_rng_state()
    assert same(rows[7], rows[7])
    assert same(rows[7], ShapesDataset(8, seed=3)[7])
    assert same(rows[-1], rows[19])
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(rows[7]["pixel_values"], rows[8]["pixel_values"])
    assert not torch.equal(rows[7]["pixel_values"], ShapesDataset(20, seed=4)[7]["pixel_values"])
    with pytest.raises(IndexError, match="picture 20 of a set of 20"):
        rows[20]


@pytest.mark.parametrize("size", [(48, 48), (40, 72)])
def test_shapes_boxes_and_masks_agree(size):
    rows = ShapesDataset(40, image_size=size, objects=(1, 4))
    counts = set()
    for row in (rows[i] for i in range(len(rows))):
        masks, count = row["masks"], len(row["class_labels"])
        counts.add(count)
        assert row["pixel_values"].shape == (3, *size)
        assert masks.shape == (count, *size)
        assert int(masks.sum(dim=0).max()) == 1  # none lies on another
        areas = masks.sum(dim=(1, 2))
        assert areas.tolist() == sorted(areas.tolist(), reverse=True)
        assert row["labels"] == int(row["class_labels"][0])
        for mask, (x, y, width, height) in zip(masks, row["boxes"].tolist(), strict=True):
            inside = torch.zeros_like(mask)
            top, left = round((y - height / 2) * size[0]), round((x - width / 2) * size[1])
            bottom, right = round((y + height / 2) * size[0]), round((x + width / 2) * size[1])
            inside[top:bottom, left:right] = True
            assert bool((mask <= inside).all())
            for edge in (mask[top], mask[bottom - 1], mask[:, left], mask[:, right - 1]):
                assert bool(edge.any())  # no smaller box would do
    assert counts == {1, 2, 3, 4}


def test_a_shape_has_the_outline_of_its_class():
    """Its area as a share of its box's, for shapes that are turned by less than 0.3."""
    rows, shares = ShapesDataset(300, image_size=96), {name: [] for name in SHAPES}
    for row in (rows[i] for i in range(len(rows))):
        box = float(row["boxes"][0, 2] * row["boxes"][0, 3]) * 96 * 96
        shares[SHAPES[row["labels"]]].append(float(row["masks"].sum()) / box)
    for name, lowest, highest in [
        ("circle", math.pi / 4, math.pi / 4),
        ("square", 1 / (math.cos(0.3) + math.sin(0.3)) ** 2, 1.0),
        ("triangle", 0.38, 0.5),
        ("cross", 0.35, 0.55),
    ]:
        assert len(shares[name]) > 40
        assert lowest - 0.06 < min(shares[name])
        assert max(shares[name]) < highest + 0.06, name


def test_a_shape_differs_from_what_it_lies_on_and_its_colour_says_nothing():
    rows = [ShapesDataset(300, image_size=32)[i] for i in range(300)]
    inside = torch.stack([colours(row)[:, row["masks"][0]].mean(dim=1) for row in rows])
    outside = torch.stack([colours(row)[:, ~row["masks"][0]].mean(dim=1) for row in rows])
    assert float((inside - outside).abs().amax(dim=1).min()) > 0.25
    labels = torch.tensor([row["labels"] for row in rows])
    means = torch.stack([inside[labels == k].mean(dim=0) for k in range(4)])
    assert float((means - inside.mean(dim=0)).abs().max()) < 4 * float(inside.std()) / math.sqrt(60)
    everything = torch.stack([colours(row) for row in rows])
    assert float(everything.min()) + 1e-6 >= 0
    assert float(everything.max()) <= 1 + 1e-6


def test_boxes_of_masks():
    mask = torch.zeros(1, 4, 8, dtype=torch.bool)
    mask[0, 1:3, 5:8] = True
    assert boxes_of(mask).tolist() == [[6.5 / 8, 0.5, 3 / 8, 0.5]]


def test_loaders_make_batches_of_it():
    batch = next(iter(DataLoader(ShapesDataset(8, image_size=32), batch_size=4)))
    assert batch["pixel_values"].shape == (4, 3, 32, 32)
    assert batch["labels"].tolist() == batch["class_labels"][:, 0].tolist()
    assert batch["example_id"].tolist() == [0, 1, 2, 3]
    rows = ShapesDataset(8, image_size=32, objects=(1, 2))
    batch = next(iter(DataLoader(rows, batch_size=8, collate_fn=rows.collate)))
    assert [len(target["boxes"]) for target in batch["labels"]] == [len(rows[i]["boxes"]) for i in range(8)]
    assert list(batch["labels"][0]) == ["class_labels", "boxes"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 0}, "`size=0`"),
        ({"objects": (0, 2)}, r"`objects=\(0, 2\)`"),
        ({"objects": (3, 2)}, r"`objects=\(3, 2\)`"),
        ({"image_size": 30, "objects": (1, 4)}, "`image_size=30` has no room for 4 shapes: give at least 32"),
        ({"shapes": ()}, r"`shapes=\(\)`"),
        ({"shapes": ("circle", "cros")}, "`shapes='cros'` does not exist. Did you mean 'cross'"),
    ],
)
def test_options_out_of_range_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        ShapesDataset(**options)
