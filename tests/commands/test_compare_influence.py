"""`compare --what influence`: rows that hold what they say, runs that go on, and what cannot be compared."""

import json

import pytest
import torch
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score
from tiny import write_reviews

from lightning_interpret.commands import influence_rows, influence_subject
from lightning_interpret.commands.compare_influence import _row
from lightning_interpret.functional.influence.datamodels import subsets
from lightning_interpret.functional.influence.ensembles import SubsetTrainer
from lightning_interpret.methods.influence import INFLUENCE, GradientSimilarity

SMALL = ("--what", "influence", "--examples", 60, "--queries", 5, "--subsets", 6)
DOT = "gradient_similarity:similarity=dot"


@pytest.fixture
def small(monkeypatch):
    """A network that is trained for few epochs."""
    for name, value in {"_EPOCHS": 4, "_WORDS": 30, "_BATCH": 20, "_CHECKPOINTS": 2}.items():
        monkeypatch.setattr(influence_subject, name, value)


@pytest.fixture
def trained_on(monkeypatch):
    """How many networks were trained at each call."""
    counts, many = [], SubsetTrainer.many

    def counted(self, masks, seeds):
        counts.append(len(masks))
        return many(self, masks, seeds)

    monkeypatch.setattr(SubsetTrainer, "many", counted)
    return counts


def rows(folder):
    return {row["name"]: row for row in json.loads((folder / "influence.json").read_text())["rows"]}


def test_reviews_are_generated_and_each_row_is_what_it_says(command, small, tmp_path):
    found = command("compare", *SMALL, "--output-dir", tmp_path, "--methods", DOT, "exact:layers=all")
    assert found.status == 0, found.err
    assert "60 generated reviews, " in found.out
    assert "left out" not in found.out.lower()
    listed = rows(tmp_path)
    assert set(listed) == {DOT, "exact:layers=all", *influence_rows.CONTROLS}
    page = (tmp_path / "influence.md").read_text()
    assert all(f"| {name} | {row['lds']:+.3f} | " in page for name, row in listed.items())
    assert (listed[DOT]["coverage"], listed["exact:layers=all"]["damping"]) == (1.0, 0.0)

    # the row of one method, anew and by hand
    kept = [json.loads(line) for line in (tmp_path / "retraining.jsonl").read_text().splitlines()]
    outcomes = torch.tensor([line["outcomes"] for line in kept], dtype=torch.float64)
    options = {"train_file": None, "val_file": None, "flipped": None, "examples": 60, "queries": 5, "seed": 0}
    subject = influence_subject.find_subject(type("Options", (), options))
    fitted = GradientSimilarity("dot").fit(subject.module, subject.examples, subject.task)
    _, scores = fitted.matrix(subject.queries)
    sums = [[float(scores[m][mask].double().sum()) for m in range(5)] for mask in subsets(60, 0.5, 6, seed=0)]
    each = [spearmanr([row[m] for row in sums], outcomes[:, m]).statistic for m in range(5)]
    assert listed[DOT]["lds"] == pytest.approx(sum(each) / 5, abs=1e-9)
    assert listed[DOT]["auc"] == pytest.approx(roc_auc_score(subject.wrong, fitted.self_influence()[1]), abs=1e-9)


def test_a_run_goes_on_where_another_stopped(command, small, tmp_path, trained_on):
    words = ("compare", *SMALL, "--output-dir", tmp_path, "--methods", DOT)
    assert command(*words).status == 0
    assert trained_on == [6, 1]  # the halves, and the network that is explained
    first = rows(tmp_path)
    again = command(*words)
    assert again.status == 0
    assert trained_on == [6, 1, 1]
    assert "6 trainings were there, 0 were run" in again.out
    assert again.out.count("measured before") == len(first)
    assert rows(tmp_path) == first

    file = tmp_path / "retraining.jsonl"
    file.write_text("\n".join(file.read_text().splitlines()[:4]) + '\n{"key": "ha')
    more = command(*words, "--seeds", 2)
    assert "4 trainings were there, 8 were run" in more.out
    assert "measured before" not in more.out  # held to other outcomes
    assert "2 times each" in more.out


def test_every_method_is_served_or_says_why_not(command, small, tmp_path, monkeypatch):
    class Fussy(GradientSimilarity):
        def fit(self, *args, **options):
            raise ValueError("It is\nof no use here.")

    monkeypatch.setitem(INFLUENCE, "fussy", Fussy)
    found = command("compare", *SMALL, "--output-dir", tmp_path)
    assert found.status == 0, found.err
    left_out = {name: row["left_out"] for name, row in rows(tmp_path).items() if "left_out" in row}
    assert "was not trained with turn-over dropout" in left_out.pop("turn_over_dropout")
    assert left_out == {"fussy": "ValueError: It is of no use here."}
    assert {name for name, method in INFLUENCE.items() if method.of_loss} <= set(rows(tmp_path))
    assert rows(tmp_path)["feature_similarity"]["unit"] == "cosine of features"  # a control
    assert "Left out: fussy: ValueError: It is of no use here." in found.out
    assert "* fussy: ValueError: It is of no use here." in (tmp_path / "influence.md").read_text()


def test_checkpoints_are_those_of_the_training(small, tmp_path):
    options = {"train_file": None, "val_file": None, "flipped": 0.0, "examples": 40, "queries": 5, "seed": 3}
    subject = influence_subject.find_subject(type("Options", (), options))
    files = subject.checkpoints(tmp_path)
    assert [file.rsplit("/", 1)[1] for file in files] == ["epoch=2.ckpt", "epoch=3.ckpt"]
    course = list(subject.trainer.course(torch.ones(40, dtype=torch.bool), 3))
    for file, epoch in zip(files, (2, 3), strict=True):
        kept = torch.load(file, weights_only=True)
        assert kept["optimizer_states"][0]["param_groups"][0]["lr"] == pytest.approx(course[epoch - 1][1])
        assert kept["state_dict"].keys() == subject.module.state_dict().keys()
    assert not subject.wrong.any()


def test_texts_of_ones_own(command, small, tmp_path):
    train, val = write_reviews(tmp_path / "train.tsv", 70), write_reviews(tmp_path / "val.tsv", 9, seed=1)
    words = ("compare", *SMALL, "--train-file", train, "--methods", DOT)
    found = command(*words, "--val-file", val, "--output-dir", tmp_path / "a")
    assert found.status == 0, found.err
    assert "60 rows of train.tsv; 5 to ask about" in found.out
    assert "AUC" not in found.out  # nobody knows which labels are wrong
    split = command(*words, "--flipped", 0.3, "--output-dir", tmp_path / "b")
    assert "60 rows of train.tsv, " in split.out
    assert "AUC" in split.out
    assert rows(tmp_path / "b")[DOT]["lds"] != rows(tmp_path / "a")[DOT]["lds"]


def test_what_would_take_too_long_is_left_out_with_its_reason(small, tmp_path):
    options = {"train_file": None, "val_file": None, "flipped": 0.2, "examples": 40, "queries": 5, "seed": 0}
    subject = influence_subject.find_subject(type("Options", (), options))
    masks = subsets(40, 0.5, 3, seed=0)
    row = influence_rows.Bench(subject, masks, torch.rand(3, 1, 5), tmp_path, max_seconds=0.0).method(DOT)
    assert "--max-seconds" in row["note"]
    assert "auc" not in row
    assert "lds" in row


def test_a_row_without_self_influence_is_kept_until_there_is_time_for_it(small, tmp_path):
    options = {"train_file": None, "val_file": None, "flipped": 0.2, "examples": 40, "queries": 5, "seed": 0}
    subject, masks = influence_subject.find_subject(type("Options", (), options)), subsets(40, 0.5, 3, seed=0)
    outcomes, measured = torch.rand(3, 1, 5), []
    for seconds in (0.0, 0.0, 60.0, 60.0):
        bench = influence_rows.Bench(subject, masks, outcomes, tmp_path, max_seconds=seconds)
        row = _row(DOT, lambda name, bench=bench: measured.append(name) or bench.method(name), bench)
        assert ("auc" in row) == (seconds > 0)
    assert measured == [DOT, DOT]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--model", "x"], "`--model` is an option of `--what baselines`"),
        (["--methods", "exakt"], "`--methods='exakt'` does not exist. Did you mean 'exact'"),
        (["--methods", "exact:dampin=1"], "`--methods='dampin=1'` does not exist. Did you mean 'damping=...'"),
        (["--flipped", "1.5"], "`--flipped 1.5` is a share"),
        (["--val-file", "x.tsv"], "`--val-file` goes with `--train-file`"),
        (["--train-file", "no.tsv"], "no.tsv"),
        (["--examples", "1"], "There are 1 training rows with 1 labels, and 100 rows to ask about"),
    ],
)
def test_what_cannot_be_compared_is_said_in_a_line(refused, tmp_path, words, message):
    assert message in refused("compare", "--what", "influence", "--output-dir", tmp_path, *words)


def test_rows_without_any_left_to_ask_about_are_refused(refused, tmp_path):
    train = write_reviews(tmp_path / "train.tsv", 30)
    words = ("--train-file", train, "--examples", 30, "--output-dir", tmp_path)
    assert "30 training rows with 2 labels, and 0 rows to ask about" in refused(
        "compare", "--what", "influence", *words
    )
