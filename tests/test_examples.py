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


SHORT = """
import runpy, sys
from lightning.pytorch import Trainer
made = Trainer.__init__
Trainer.__init__ = lambda *args, **options: made(*args, **options | {"max_epochs": 1, "limit_train_batches": 4})
runpy.run_path(sys.argv[1], run_name="__main__")
"""


@pytest.mark.parametrize(
    ("name", "monitors"),
    [
        ("own_module_rationale", ["rationale"]),
        ("training_data", ["influence", "neighbor"]),
        pytest.param("own_module_joint", ["influence", "landmark", "saliency"], marks=pytest.mark.slow),
    ],
)
def test_a_long_example_runs_through_where_training_is_cut_short(tmp_path, name, monitors):
    done = called(tmp_path, "-c", SHORT, str(ROOT / "examples" / f"{name}.py"))
    assert done.returncode == 0, done.stderr[-3000:]
    for monitor in monitors:
        assert f"'interpret/{monitor}/failures': 0.0" in done.stdout
    assert list((tmp_path / name / "runs").rglob("events.out.tfevents*"))


@pytest.mark.parametrize("name", ["own_module", "own_model", pytest.param("images", marks=pytest.mark.slow)])
def test_an_example_runs_and_writes_what_tensorboard_shows(tmp_path, name):
    done = run(name, tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "'interpret/saliency/failures': 0.0" in done.stdout
    assert list((tmp_path / name / "runs").rglob("events.out.tfevents*"))


def test_what_a_negation_does_to_a_phrase_is_in_the_span_and_not_in_its_words(tmp_path):
    done = run("hierarchy", tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "'interpret/hierarchy/failures': 0.0" in done.stdout
    assert list((tmp_path / "hierarchy" / "runs").rglob("events.out.tfevents*"))
    good, of_not, word, together = map(float, re.findall(r"[+-]\d\.\d\d", done.stdout.splitlines()[-1]))
    assert min(good, word) > 0.3
    assert together < 0.2 < of_not + word  # the sum of its words says the opposite


@pytest.mark.slow
def test_wrong_labels_are_found_among_training_rows_that_influence_themselves(tmp_path):
    done = run("training_data", tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "'interpret/influence/failures': 0.0" in done.stdout
    assert "'interpret/neighbor/failures': 0.0" in done.stdout
    suspects, wrong = map(int, re.search(r"Of (\d+) rows .*?, (\d+) have a wrong label", done.stdout).groups())
    assert suspects == 50
    assert wrong > 15  # by chance 2 or 3 would be


@pytest.mark.slow
def test_concepts_that_decide_are_told_apart_from_those_that_do_not(tmp_path):
    done = run("concepts", tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    found = dict(re.findall(r"'interpret/concepts/([^']+)': ([-\d.]+)", done.stdout))
    found = {name: float(value) for name, value in found.items()}
    assert found["failures"] == 0
    for concept, sign in (("good_food", 1), ("bad_service", -1)):
        assert found[f"{concept}/positive/corrected_p"] < 0.05
        assert sign * found[f"{concept}/positive/effect"] > 0
    for concept in ("food", "service", "weekday"):
        assert found[f"{concept}/positive/corrected_p"] > 0.05


@pytest.mark.slow
def test_every_method_is_put_beside_the_truth(tmp_path):
    done = run("every_method", tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    lines = {line.split()[0]: line for line in done.stdout.splitlines() if line.split() and line.split()[0] in METHODS}
    assert set(lines) == set(METHODS)
    finds = {name: float(re.findall(r"(\d+)%", line)[-1]) for name, line in lines.items()}
    assert finds["integrated_gradients"] > 40  # of words at random 15 would be


@pytest.mark.slow
def test_attention_is_followed_in_training_and_put_beside_a_random_order(tmp_path):
    done = run("attention", tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "'interpret/attention/failures': 0.0" in done.stdout
    assert "'interpret/attention/entropy_layer_1'" in done.stdout
    assert list((tmp_path / "attention" / "runs").rglob("events.out.tfevents*"))
    lines = [line.split() for line in done.stdout.splitlines() if line.split() and line.split()[0] in METHODS]
    assert len(lines) == 6
    shares = {name: (int(finds.rstrip("%")), int(chance.rstrip("%"))) for name, finds, chance, _ in lines}
    assert shares["gradient"][0] > shares["gradient"][1] + 10


def test_a_planted_shortcut_is_found_from_the_word_that_a_prediction_leans_on(tmp_path):
    done = run("saliency_influence", tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "would lower the saliency of token 'tuesday'" in done.stdout
    found = re.search(
        r"(\d+) of the 10 reviews that made the word matter contain 'tuesday'; by chance (\d+)%", done.stdout
    )
    assert int(found[1]) >= 8
    assert int(found[2]) <= 15


@pytest.mark.slow
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


@pytest.mark.slow
def test_attention_is_put_beside_gradients_and_deletions_and_a_random_order(tmp_path):
    done = run("attention_debate", tmp_path, "--texts", "40")
    assert done.returncode == 0, done.stderr[-3000:]
    assert float(re.search(r"'val_accuracy': ([\d.]+)", done.stdout)[1]) > 0.85
    taus = {
        pair: float(re.search(rf"^{pair} .*? ([-\d.]+) ± [\d.]+ \(\d+%\) +40$", done.stdout, re.M)[1])
        for pair in ("attention ~ gradient", "gradient ~ leave-one-out", "random ~ gradient")
    }
    assert taus["gradient ~ leave-one-out"] > taus["attention ~ gradient"] > taus["random ~ gradient"]
    for title in ("Permuted attention", "Adversarial attention", "One weight erased", "Weights erased in order"):
        assert title in done.stdout


@pytest.mark.slow
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


@pytest.mark.slow
def test_one_method_is_recommended_and_a_planted_cue_is_found(tmp_path):
    done = run("trust", tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "'interpret/trust/failures': 0.0" in done.stdout
    assert re.search(r"^(integrated_gradients|deep_lift) is recommended \|", done.stdout, re.M)
    first, chance = (
        float(re.search(rf"'interpret/trust/{name}/cue_first': ([\d.]+)", done.stdout)[1])
        for name in ("integrated_gradients", "random_order")
    )
    assert first > 0.7
    assert chance < 0.15
    assert (tmp_path / "trust" / "model" / "model.safetensors").exists()


@pytest.mark.slow
def test_what_a_report_asks_about_is_worth_more_than_as_much_work_at_random(tmp_path):
    done = run("bad_cases", tmp_path, "--size", "600")
    assert done.returncode == 0, done.stderr[-3000:]
    folder = tmp_path / "bad_cases"
    assert done.stdout.count("'interpret/bad_case/failures': 0.0") == 2
    assert "shortcut: window seat" in done.stdout
    fixed, broken = map(int, re.search(r"(\d+) were fixed, (\d+) broke", done.stdout).groups())
    assert fixed > 2 * broken
    before, after, chance = map(float, re.findall(r"([\d.]+)%", done.stdout.splitlines()[-2]))
    assert after > before
    assert after > chance
    read, mended = (int(re.search(rf"(\d+) rows of train {what}", done.stdout)[1]) for what in ("read", "mended"))
    assert mended > read / 2  # by chance an eighth would be
    assert re.search(rf"^train +{mended} ", done.stdout, re.M)
    assert (folder / "report_before" / "review.html").exists()
    assert (folder / "compared" / "runs.md").exists()
    assert list((folder / "runs").rglob("events.out.tfevents*"))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "loss"), [("translation", 2.0), ("language_model", 2.0)])
def test_a_configuration_trains_a_writer_whose_every_word_is_watched(tmp_path, name, loss):
    assert run("written_data", tmp_path, "written").returncode == 0
    file = str(ROOT / "examples" / f"{name}.yaml")
    done = called(tmp_path, "-m", "lightning_interpret.cli", "fit", "--config", file)
    assert done.returncode == 0, done.stderr[-3000:]
    (events,) = (tmp_path / "written" / name).rglob("events.out.tfevents*")
    known = EventAccumulator(str(events)).Reload()
    last = {tag: known.Scalars(tag)[-1].value for tag in known.Tags()["scalars"]}
    assert last["interpret/saliency/failures"] == 0
    assert last["val_loss"] < loss
    assert ("val_bleu" in last) == (name == "translation")
