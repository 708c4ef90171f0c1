"""The benchmarks run, on a tiny model, and print what they say they print; what they measure is not tested."""

import gzip
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from lightning_interpret.data import ReviewCorpus
from lightning_interpret.methods import METHODS
from lightning_interpret.modules.from_scratch import small_encoder

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with sst2/ in the columns of SST-2, and an untrained model in model/."""
    folder = tmp_path_factory.mktemp("benchmark")
    (folder / "sst2").mkdir()
    reviews = ReviewCorpus(64, seed=0)
    rows = [(reviews[i].text, int(reviews[i].label == "positive")) for i in range(64)]
    text = "label\tsentence\n" + "".join(f"{label}\t{sentence}\n" for sentence, label in rows)
    (folder / "sst2" / "dev.tsv").write_text(text)
    with gzip.open(folder / "sst2" / "train_sentences.tsv.gz", "wt") as file:
        file.write(text)
    small_encoder([sentence for sentence, _ in rows], ["negative", "positive"]).save_pretrained(folder / "model")
    return folder


def run(name, folder, *words, path=(), data=True, timeout=300):
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / name), *(("--data-folder", str(folder)) if data else ()), *words],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (ROOT, *path)))},
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_attributions_are_compared_in_a_table(folder):
    printed = run(
        "attribution.py", folder, "--model", str(folder / "model"), "--examples", "5", "--reference-steps", "300"
    )
    rows = [[cell.strip() for cell in line.strip("| ").split("|")] for line in printed.splitlines() if "|" in line]
    assert rows[0] == ["ours", "Captum 50", "Captum 20", "Captum 10"]
    figures = {row[0]: row[1:] for row in rows[2:]}
    assert list(figures) == [
        "seconds",
        "gradients, mean",
        *(f"{what}, {share} %" for what in ("error", "distance") for share in ("median", "p95")),
    ]
    assert figures["gradients, mean"][1:] == ["50 (1.00)", "20 (0.40)", "10 (0.20)"]
    assert float(figures["error, p95 %"][0].split()[0]) <= 1


def test_every_method_is_in_one_table_with_its_error_and_its_faithfulness(folder, tmp_path):
    """LXT is stood in for by one that patches nothing: what is left is gradient × input, with F(x) as its target."""
    (tmp_path / "lxt").mkdir()
    (tmp_path / "lxt" / "__init__.py").write_text("")
    (tmp_path / "lxt" / "efficient.py").write_text("def monkey_patch(module):\n    pass\n")
    words = ("--model", str(folder / "model"), "--examples", "2", "--json", str(tmp_path / "figures.json"))
    printed = run("faithfulness.py", folder, *words, path=[tmp_path])
    written = json.loads((tmp_path / "figures.json").read_text())
    rows, said = written["rows"], " ".join(written["said"])
    for name in METHODS:
        assert name in rows or f"{name} is left out: " in said, said
    assert "does not run here" not in said
    assert all(f"| {name} |" in printed for name in rows)
    ours, peer = rows["gradient_times_input"], rows["Captum gradient × input"]
    for figure in ("error, median %", "comprehensiveness", "sufficiency"):
        assert ours[figure] == pytest.approx(peer[figure], rel=1e-3)
    patched = rows["LXT AttnLRP"]
    assert patched["comprehensiveness"] == pytest.approx(peer["comprehensiveness"], rel=1e-3)
    assert patched["error, median %"] != pytest.approx(peer["error, median %"], rel=1e-3)
    for name in ("integrated_gradients", "kernel_shap", "Captum KernelSHAP"):
        assert rows[name]["error, p95 %"] <= 1
    assert rows["Captum KernelSHAP"]["forwards"] == 512
    assert 0 < rows["kernel_shap"]["sampling error, median %"] < 100
    assert rows["gradient"]["error, median %"] is None
    assert "| ranks only |" in printed
    assert next(iter(rows)) == "random order, mean of 5"
    assert rows["random order, mean of 5"]["seconds"] is None


@pytest.mark.slow
def test_metrics_of_trust_are_counted_in_forward_passes(folder):
    words = ("--examples", "3", "--rounds", "1", "--orders", "2", "--width", "32", "--blocks", "1", "--threads", "1")
    printed = run("trust.py", folder, *words, data=False)
    rows = [[cell.strip() for cell in line.strip("| ").split("|")] for line in printed.splitlines() if "|" in line]
    figures = {row[0]: row[1:] for row in rows}
    assert 2 <= float(figures["comprehensiveness, 5 bins"][0]) <= 6
    assert float(figures["comprehensiveness, 5 bins"][2]) <= 16  # the whole text once
    assert figures["infidelity, 16 sets"][0] == figures["infidelity, 16 sets"][2]  # the same sets for every order
    assert figures["leave-one-out correlation"][0] == figures["leave-one-out correlation"][2]
    assert figures["soft sufficiency, 8 draws"][::2] == ["9.0", "25.0"]
    assert figures["agreement, Kendall"][0] == "0.0"
    assert float(figures["comprehensiveness, 2 random orders"][1]) > 0


@pytest.mark.slow
def test_methods_are_held_to_peoples_marks_in_one_table(folder):
    reviews = ReviewCorpus(60, seed=0)
    (folder / "hatexplain").mkdir()
    for split in ("train", "test"):
        with gzip.open(folder / "hatexplain" / f"{split}.jsonl.gz", "wt") as file:
            for i in range(60):
                words, label = reviews[i].text.split(), ("normal", "hatespeech")[reviews[i].label == "positive"]
                file.write(
                    json.dumps({"tokens": words, "label": label, "rationale_union": [1] + [0] * (len(words) - 1)})
                )
                file.write("\n")
    words = ("--sets", "hatexplain", "--methods", "all", "--plain", "--epochs", "1", "--test", "4", "--threads", "1")
    printed = run("rationales.py", folder, *words)
    rows = [[cell.strip() for cell in line.strip("| ").split("|")] for line in printed.splitlines() if "|" in line]
    figures = {row[0]: [float(cell) for cell in row[1:]] for row in rows[2:]}
    assert len(figures) >= 9
    assert {"plain, random order", "plain, LIME", "plain, DeepLIFT", "plain, attention"} <= set(figures)
    assert len({tuple(row[:2]) for row in figures.values()}) == 1  # one model
    assert all(len(row) == 8 for row in figures.values())


@pytest.mark.slow
def test_the_cost_of_a_monitor_is_printed(folder):
    printed = run("monitor_cost.py", folder, "--encoder-folder", str(folder / "model"), "--batches", "4")
    assert "weights at the end         the same to the last bit" in printed
    assert [line.split("  ")[0] for line in printed.splitlines()[-5:-1]] == [
        "fit without a Monitor",
        "fit with SaliencyMonitor",
        "explaining",
        "all of its hooks",
    ]


@pytest.mark.slow
def test_influence_on_digits_is_held_to_training_on_halves(folder):
    words = ("--what", "digits", "--subsets", "8", "--seeds", "1", "--skip-peer")
    printed = run("influence.py", folder, *words, data=False)
    rows = {row.split("|")[1].strip(): row.split("|")[2] for row in printed.splitlines() if row.count("|") == 6}
    assert float(rows["exact, every layer"]) > float(rows["gradient dot product"])
    assert float(rows["EK-FAC"]) > 0.4
    assert "kronfluence was left out" in printed


@pytest.mark.slow
def test_influence_is_timed_side_by_side(folder):
    words = ("--model", str(folder / "model"), "--train", "24", "--queries", "4", "--threads", "1", "--skip-peer")
    printed = run("influence.py", folder, *words)
    assert "24 training sentences, 4 queries, 1 threads. kronfluence was left out." in printed
    for side in ("EK-FAC", "EK-FAC, every layer", "gradient cosine, every layer", "exact, last layer"):
        assert f"| {side} |" in printed
        assert f"- {side}: " in printed


def test_scores_of_wrong_labels_are_compared_in_two_tables(folder):
    reviews = ReviewCorpus(60, seed=0, flipped=0.3)
    rows = [(reviews[i].text, reviews[i].true_label == "positive", reviews[i].flipped) for i in range(60)]
    for name in ("ag_news", "imdb_label_errors"):
        (folder / name).mkdir()
    with gzip.open(folder / "ag_news" / "train.tsv.gz", "wt") as file:
        file.write("label\thuman_noisy_label\ttext\n")
        file.writelines(f"{int(label)}\t{int(label != wrong)}\t{text}\n" for text, label, wrong in rows)
    with gzip.open(folder / "imdb_label_errors" / "reviews.jsonl.gz", "wt") as file:
        for text, label, wrong in rows:
            verdict = "label error: other class" if wrong else "not flagged"
            given = "pos" if label != wrong else "neg"
            file.write(json.dumps({"text": text, "given_label": given, "verdict": verdict}) + "\n")
    printed = run("label_errors.py", folder, "--encoder-folder", str(folder / "model"), "--seeds", "1")
    found = [line.split("|")[1].strip() for line in printed.splitlines() if line.startswith("| self-influence, ")]
    assert found == 2 * [
        "self-influence, exact, last layer",
        "self-influence, EK-FAC, every layer",
        "self-influence, gradient norm",
    ]
    wrong = sum(each for *_, each in rows) / 60
    assert f"imdb_label_errors: 60 examples, {wrong:.1%} of the labels wrong" in printed


@pytest.mark.slow
def test_steps_and_readouts_of_joint_methods_are_timed(folder):
    words = ("--width", "32", "--blocks", "2", "--rounds", "2", "--examples", "40", "--queries", "4", "--pairs", "8")
    printed = run("joint.py", folder, *words, "--length", "8", "--shortlist", "10", "--threads", "1", data=False)
    rows = [[cell.strip() for cell in line.strip("| ").split("|")] for line in printed.splitlines() if "|" in line]
    figures = {row[0]: row[1:] for row in rows}
    for first in ("plain dropout", "head alone", "without concepts", "without spans", "whole text", "label alone"):
        assert figures[first][2:] == ["1.000", "1.000"]
    writers = ("predict then explain", "explain then predict", "jointly")
    assert all(float(figures[name][2]) > 0 for name in ("own generator", "the encoder reads first", *writers))
    assert float(figures["turn-over dropout"][2]) > 0
    assert float(figures["kernel layer, 100 landmarks"][2]) > 0
    assert float(figures["20 concepts, stopped gradient"][2]) > 0
    assert float(figures["spans, width 8"][2]) > 0
    assert "Kept for the backward pass, MB: without concepts " in printed
    kept = re.search(r"without spans ([\d.]+), spans, width 4 ([\d.]+), spans, width 8 ([\d.]+)", printed)
    plain, half, whole = map(float, kept.groups())
    assert plain < half < whole < plain + 2.2 * (half - plain)  # linear in the width
    for row in ("masks at the head", "masks in every block, shortlist 10"):
        assert float(figures[row][-1]) < 1e-4  # as two forwards a pair say


@pytest.mark.slow
def test_joint_methods_are_measured_on_texts(folder):
    reviews = ReviewCorpus(60, seed=0, flipped=0.3)
    rows = [(reviews[i].text, int(reviews[i].true_label == "positive"), reviews[i].flipped) for i in range(60)]
    for name in ("trec", "ag_news"):
        (folder / name).mkdir(exist_ok=True)
    with gzip.open(folder / "ag_news" / "train.tsv.gz", "wt") as file:
        file.write("label\thuman_noisy_label\ttext\n")
        file.writelines(f"{label}\t{int(label != wrong)}\t{text}\n" for text, label, wrong in rows)
    with gzip.open(folder / "ag_news" / "test.tsv.gz", "wt") as file:
        file.write("label\ttext\n" + "".join(f"{label}\t{text}\n" for text, label, _ in rows))
    questions = "coarse\tfine\tquestion\n" + "".join(f"{['HUM', 'LOC'][label]}\tx\t{text}\n" for text, label, _ in rows)
    with gzip.open(folder / "trec" / "train.tsv.gz", "wt") as file:
        file.write(questions)
    (folder / "trec" / "test.tsv").write_text(questions)
    words = ("--encoder-folder", str(folder / "model"), "--seeds", "2", "--epochs", "2", "--landmarks", "8")
    printed = run("joint_data.py", folder, *words, "--test", "20")
    found = [line.split("|")[1].strip() for line in printed.splitlines() if line.startswith("| ")]
    assert {"accuracy %, plain head", "accuracy %, kernel layer", "nearest landmark has it, %"} <= set(found)
    assert found.count("turn-over dropout: unseen − seen loss") == found.count("loss of the plain twin") == 2
    assert "ag_news: 60 training examples, " in printed
    assert printed.count("it costs ") == 2
    tuned = run("joint_data.py", folder, *words, "--what", "labels", "--sets", "sst2", "--encoder", "tuned")
    assert "| self-influence of the plain twin, EK-FAC, last layer |" in tuned
