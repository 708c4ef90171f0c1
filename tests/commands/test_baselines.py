"""Baselines compared on one model and batch."""

import pytest
from tiny_images import images_of, model_of

from lightning_interpret import ImageClassification, ObjectDetection
from lightning_interpret.commands.baselines import compare_baselines

LABELS = ["circle", "square", "triangle", "cross"]


@pytest.fixture(scope="module", params=["resnet", "yolos"])
def compared(request):
    task = ImageClassification(LABELS) if request.param == "resnet" else ObjectDetection(LABELS)
    batch = {"pixel_values": images_of()["pixel_values"]}
    return compare_baselines(model_of(request.param), batch, task, which="circle")


def test_each_method_has_a_row_for_each_target(compared):
    names = [row["name"] for row in compared]
    assert names[::2] == names[1::2]
    assert len(set(names)) == len(compared) / 2 == 8
    assert all(row["why"] and row["baseline"] for row in compared)


def test_sum_and_what_was_dropped_are_the_target(compared):
    for row in compared:
        assert row["sum"] + sum(row["dropped"].values()) == pytest.approx(row["target"], abs=1e-10)
        assert row["error"] == pytest.approx(row["sum"] - row["target"], abs=1e-10)
        assert row["target"] == pytest.approx(row["at_x"] - row["at_baseline"], abs=1e-10)
        assert row["shared_error"] == pytest.approx(row["sum"] - row["shared_target"], abs=1e-10)


def test_one_target_is_shared(compared):
    by_name = {name: [row for row in compared if row["name"] == name] for name in {row["name"] for row in compared}}
    for name, rows in by_name.items():
        of = "difference map, repaired" if name.startswith("difference") else "IG, input-determined"
        assert [row["shared_target"] for row in rows] == [row["target"] for row in by_name[of]]
    for name in ("IG, input-determined", "difference map, repaired"):
        assert all(row["relative_error"] < 0.01 for row in by_name[name])
        assert all(row["dropped"].keys() == {"quadrature"} for row in by_name[name])
    for name in ("IG, zero features", "IG, zero input"):  # complete, of another
        assert all(row["relative_error"] < 0.01 for row in by_name[name])
        assert any(abs(row["shared_error"]) > 0.01 for row in by_name[name])
    assert all(abs(row["shared_error"]) > 0.01 for row in by_name["LayerCAM"])
