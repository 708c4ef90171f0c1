"""The examples run as they stand."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lightning_interpret.methods import METHODS

ROOT = Path(__file__).parents[1]


def run(name, folder, *words):
    """Run an example in a folder."""
    return called(folder, str(ROOT / "examples" / f"{name}.py"), *words)


def called(folder, *words):
    return subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.mark.parametrize("name", ["own_module", "own_model", "images"])
def test_an_example_runs_and_writes_what_tensorboard_shows(tmp_path, name):
    done = run(name, tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "'interpret/saliency/failures': 0.0" in done.stdout
    assert list((tmp_path / name / "runs").rglob("events.out.tfevents*"))


def test_wrong_labels_are_found_among_training_rows_that_influence_themselves(tmp_path):
    done = run("training_data", tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "'interpret/influence/failures': 0.0" in done.stdout
    assert "'interpret/neighbor/failures': 0.0" in done.stdout
    suspects, wrong = map(int, re.search(r"Of (\d+) rows .*?, (\d+) have a wrong label", done.stdout).groups())
    assert suspects == 50
    assert wrong > 15  # by chance 2 or 3 would be


@pytest.mark.slow
def test_every_method_is_put_beside_the_truth(tmp_path):
    done = run("every_method", tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    lines = {line.split()[0]: line for line in done.stdout.splitlines() if line.split() and line.split()[0] in METHODS}
    assert set(lines) == set(METHODS)
    finds = {name: float(re.findall(r"(\d+)%", line)[-1]) for name, line in lines.items()}
    assert finds["integrated_gradients"] > 40  # of words at random 15 would be


def test_a_planted_shortcut_is_found_from_the_word_that_a_prediction_leans_on(tmp_path):
    done = run("saliency_influence", tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "would lower the saliency of token 'tuesday'" in done.stdout
    found = re.search(
        r"(\d+) of the 10 reviews that made the word matter contain 'tuesday'; by chance (\d+)%", done.stdout
    )
    assert int(found[1]) >= 8
    assert int(found[2]) <= 15


def test_a_module_with_joint_methods_says_what_its_predictions_are_made_of(tmp_path):
    done = run("own_module_joint", tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    for name in ("influence", "landmark", "saliency"):
        assert f"'interpret/{name}/failures': 0.0" in done.stdout
    accuracy, rank = (
        float(re.search(rf"'{name}': ([\d.]+)", done.stdout)[1]) for name in ("val_accuracy", "kernel/rank")
    )
    assert accuracy > 0.8
    assert rank > 1
    assert "Unlike (landmarks that speak against it" in done.stdout


@pytest.mark.slow
def test_a_configuration_trains_a_text_classifier_with_joint_methods(tmp_path):
    assert run("joint_data", tmp_path, "joint").returncode == 0
    done = called(tmp_path, "-m", "lightning_interpret.cli", "fit", "--config", str(ROOT / "examples" / "joint.yaml"))
    assert done.returncode == 0, done.stderr[-3000:]
    (events,) = (tmp_path / "joint" / "runs").rglob("events.out.tfevents*")
    known = EventAccumulator(str(events)).Reload()
    last = {tag: known.Scalars(tag)[-1].value for tag in known.Tags()["scalars"]}
    assert last["interpret/influence/failures"] == last["interpret/landmark/failures"] == 0
    assert last["val_accuracy"] > 0.65
    assert {"interpret/influence/unseen_accuracy", "interpret/landmark/same_label"} <= last.keys()
    assert {path.name for path in events.parent.rglob("*.jsonl")} == {"influence.jsonl", "landmark.jsonl"}


def test_a_module_that_selects_learns_and_says_what_it_selected(tmp_path):
    done = run("own_module_rationale", tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    names = ("val_accuracy", "rationale/rate_eval", "interpret/rationale/token_f1", "interpret/rationale/failures")
    accuracy, rate, plausible, failures = (float(re.search(rf"'{name}': ([\d.]+)", done.stdout)[1]) for name in names)
    assert accuracy > 0.9
    assert rate == pytest.approx(0.2, abs=0.01)
    assert plausible > 0.5
    assert failures == 0
    assert "Said negative from" in done.stdout


@pytest.mark.slow
def test_an_encoder_in_a_module_of_ones_own_selects_and_its_twin_says_what_that_costs(tmp_path):
    done = run("own_module_encoder", tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    names = ("val_accuracy", "rationale/complement_accuracy", "interpret/twin/cost", "interpret/rationale/failures")
    accuracy, rest, cost, failures = (float(re.search(rf"'{name}': (-?[\d.]+)", done.stdout)[1]) for name in names)
    assert accuracy > max(0.7, rest)
    assert cost < 0.1
    assert failures == 0


@pytest.mark.slow
def test_a_configuration_trains_a_text_classifier_that_selects(tmp_path):
    assert run("joint_data", tmp_path, "joint").returncode == 0
    file = str(ROOT / "examples" / "rationale.yaml")
    done = called(tmp_path, "-m", "lightning_interpret.cli", "fit", "--config", file)
    assert done.returncode == 0, done.stderr[-3000:]
    (events,) = (tmp_path / "joint" / "rationale").rglob("events.out.tfevents*")
    known = EventAccumulator(str(events)).Reload()
    last = {tag: known.Scalars(tag)[-1].value for tag in known.Tags()["scalars"]}
    assert last["interpret/rationale/failures"] == 0
    assert last["val_accuracy"] > 0.7
    assert last["rationale/complement_accuracy"] < last["val_accuracy"]
    assert "interpret/twin/cost" in last
