"""`compare --what baselines`: on models made here, on a user's own, and on what cannot be compared."""

import json

import pytest
import torch
from PIL import Image
from tiny_images import model_of
from transformers import DetrImageProcessorPil, ViTImageProcessorPil

from lightning_interpret.commands import compare_baselines
from lightning_interpret.data import ShapesDataset
from lightning_interpret.modules.shape_models import detection_loss

NAMES = {"gradient × input", "IG, zero features", "IG, zero input", "LayerCAM", "ODAM", "difference map"}
NAMES |= {"IG, input-determined", "difference map, repaired"}


def checked(folder, model, explanations):
    """The rows of a model, whose page and numbers agree with one another."""
    rows = [row for row in json.loads((folder / "baselines.json").read_text()) if row["model"] == model]
    page = (folder / "baselines.md").read_text()
    assert {row["name"] for row in rows} == NAMES
    assert len(rows) == explanations * len(NAMES)
    for row in rows:
        assert row["sum"] + sum(row["dropped"].values()) == pytest.approx(row["target"], rel=1e-4, abs=1e-5)
        assert f"* **{row['name']}**: {row['why']}." in page
    for row in rows:
        if row["name"] in ("IG, input-determined", "difference map, repaired"):
            assert row["relative_error"] < 0.011
    return rows


def test_without_a_model_a_classifier_and_a_detector_are_made(command, tmp_path, monkeypatch):
    for name, value in {"_CLASSIFIER_STEPS": 2, "_DETECTOR_STEPS": 2, "_UNSEEN": 8, "_THRESHOLD": 1e-6}.items():
        monkeypatch.setattr(compare_baselines, name, value)
    found = command("compare", "--what", "baselines", "--output-dir", tmp_path / "out", "--examples", 2)
    assert found.status == 0, found.err
    assert "ResNetForImageClassification" in found.out
    assert "DetrForObjectDetection" in found.out
    checked(tmp_path / "out", "resnet", 2)
    boxes = checked(tmp_path / "out", "detr", 10)  # every query of both pictures
    assert len({row["target"] for row in boxes if row["name"] == "ODAM"}) > 2  # a map a box
    pictures = sorted(path.name for path in (tmp_path / "out").glob("*.png"))
    assert pictures == sorted(["resnet_0.png", "resnet_1.png", *(f"detr_{i}.png" for i in range(10))])
    with Image.open(tmp_path / "out" / "resnet_0.png") as picture:
        assert len(picture.convert("RGB").getcolors(1 << 24)) > 100
    page = (tmp_path / "out" / "baselines.md").read_text()
    assert all(f"![{name}]({name})" in page for name in pictures)


@pytest.fixture
def pictures(tmp_path):
    """A folder with three pictures and a file that is none."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    data = ShapesDataset(3, image_size=40)
    for i in range(3):
        pixels = (data[i]["pixel_values"] * 0.25 + 0.5).clamp(0, 1).mul(255).byte().permute(1, 2, 0).contiguous()
        Image.frombytes("RGB", (40, 40), pixels.numpy().tobytes()).save(folder / f"{i}.png")
    (folder / "notes.txt").write_text("no picture")
    return folder


@pytest.mark.parametrize("name", ["vit", "resnet"])
def test_a_model_of_images_by_its_directory(command, tmp_path, pictures, name):
    model_of(name, dtype=torch.float32).save_pretrained(tmp_path / name)
    ViTImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(tmp_path / name)
    options = ("--model", tmp_path / name, "--input", pictures, "--which", "circle", "--examples", 2)
    found = command("compare", "--what", "baselines", "--output-dir", tmp_path / "out", *options)
    assert found.status == 0, found.err
    assert {row["explains"] for row in checked(tmp_path / "out", name, 2) if row["name"] == "LayerCAM"} == {"circle"}


def test_pictures_of_two_sizes_are_padded_with_their_mask(command, tmp_path, pictures):
    with Image.open(pictures / "1.png") as picture:
        picture.resize((60, 40)).save(pictures / "1.png")
    model = model_of("detr", dtype=torch.float32)
    model.save_pretrained(tmp_path / "detr")
    processor = DetrImageProcessorPil(size={"shortest_edge": 32, "longest_edge": 64})
    processor.save_pretrained(tmp_path / "detr")
    options = ("--model", tmp_path / "detr", "--input", pictures, "--examples", 2, "--layer", "model.encoder")
    found = command("compare", "--what", "baselines", "--output-dir", tmp_path / "out", *options)
    assert found.status == 0, found.err
    rows = [row for row in checked(tmp_path / "out", "detr", 2) if row["name"] == "ODAM"]
    images = [Image.open(pictures / f"{i}.png").convert("RGB") for i in range(2)]
    logits = model(**processor(images=images, return_tensors="pt")).logits
    wanted = [logits[i][logits[i].softmax(dim=1)[:, :-1].amax(dim=1).argmax()][:-1].max().item() for i in range(2)]
    assert [row["at_x"] for row in rows] == pytest.approx(wanted, rel=1e-4)


def test_a_model_of_texts_by_its_directory(command, saved, tmp_path):
    options = ("--model", saved.model, "--input", saved.val, "--examples", 3, "--layer", "model.bert.encoder.layer.0")
    found = command("compare", "--what", "baselines", "--output-dir", tmp_path, *options)
    assert found.status == 0, found.err
    assert {row["layer"] for row in checked(tmp_path, "model", 3) if row["name"] == "ODAM"} == {options[-1]}
    assert not list(tmp_path.glob("*.png"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--what", "baseline"], "`--what='baseline'` does not exist. Did you mean 'baselines'"),
        (["--what", "baselines", "--seeds", "2"], "`--seeds` is an option of `--what influence`"),
        (["--what", "baselines", "--score", "logits"], "Did you mean 'logit'"),
        (["--what", "baselines", "--baseline", "blurr"], "Did you mean 'blur'"),
        (["--what", "baselines", "--model", "x"], "`--model` and `--input` go together"),
        (["--what", "baselines", "--model", "nowhere", "--input", "."], "is no directory"),
    ],
)
def test_what_cannot_be_compared_is_said_in_a_line(command, tmp_path, words, message):
    found = command("compare", "--output-dir", tmp_path, *words)
    assert found.status == 1
    assert message in found.err
    assert len(found.err.strip().splitlines()) == 1


def test_a_folder_without_pictures_is_refused(command, tmp_path):
    model_of("vit", dtype=torch.float32).save_pretrained(tmp_path / "vit")
    ViTImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(tmp_path / "vit")
    (tmp_path / "empty").mkdir()
    options = ("--model", tmp_path / "vit", "--input", tmp_path / "empty")
    found = command("compare", "--what", "baselines", "--output-dir", tmp_path, *options)
    assert (found.status, "holds no pictures" in found.err) == (1, True)


def test_the_loss_of_a_detector_matches_at_the_least_cost():
    """Two objects, three queries: by hand the third and the first query, in that order."""
    logits = torch.tensor([[[9.0, 0, 0], [0, 0, 9.0], [0, 9.0, 0]]])
    boxes = torch.tensor([[[0.5, 0.5, 0.2, 0.2], [0.1, 0.1, 0.1, 0.1], [0.3, 0.3, 0.2, 0.2]]])
    target = {"class_labels": torch.tensor([1, 0]), "boxes": torch.tensor([[0.3, 0.3, 0.2, 0.4], [0.5, 0.5, 0.2, 0.2]])}
    matched = detection_loss(logits, boxes, [target])
    assert float(matched) == pytest.approx(3 * 0.2 / 2, abs=1e-3)  # classes all but right, one side off by 0.2
    swapped = {name: value.flip(0) for name, value in target.items()}
    assert float(detection_loss(logits, boxes, [swapped])) == pytest.approx(float(matched))
