import json
import re

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny import write_reviews

from lightning_interpret import AttributionRow, TextClassifier
from lightning_interpret.data import ReviewCorpus
from lightning_interpret.tasks.encode import encode

QUICK = ("--size", 64, "--epochs", 1, "--probes", 2)


@pytest.fixture(scope="module")
def demo(tmp_path_factory, command):
    """The quick demo on the generated corpus: where it wrote and what it printed."""
    folder = tmp_path_factory.mktemp("demo")
    return folder, command("demo", "--output-dir", folder, *QUICK)


def table(printed):
    """The table of results in what was printed."""
    lines = printed.splitlines()
    start = next(i for i, line in enumerate(lines) if re.fullmatch(r"result +value", line.rstrip()))
    end = next(i for i in range(start, len(lines)) if not lines[i].strip())
    return dict(re.split(r"  +", line.rstrip()) for line in lines[start + 2 : end])


def lines_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_demo_writes_what_it_promises(demo):
    folder, done = demo
    assert done.status == 0
    train = lines_of(folder / "data" / "train.jsonl")
    assert len(train) == 64
    assert train[5] == json.loads(
        json.dumps(ReviewCorpus(64, seed=0, flipped=0.02, duplicates=0.05, shortcut=0.2)[5].to_dict())
    )
    assert len(lines_of(folder / "data" / "val.jsonl")) == 6
    assert TextClassifier(str(folder / "model")).labels == ["negative", "positive"]
    run = folder / "runs" / "version_0"
    assert len(list((run / "checkpoints").glob("*.ckpt"))) == 1
    records = lines_of(run / "interpret" / "saliency.jsonl")
    steps = [event.step for event in EventAccumulator(str(run)).Reload().Scalars("val_loss")]
    assert [(row["step"], row["probe"]) for row in records] == [(step, k) for step in steps for k in (0, 1)]
    assert len(steps) == 2
    assert all(len(AttributionRow.from_dict(row).tokens) > 5 for row in records)


def test_the_demo_logs_for_tensorboard(demo):
    events = EventAccumulator(str(demo[0] / "runs" / "version_0")).Reload()
    scalars, images = events.Tags()["scalars"], events.Tags()["images"]
    assert {"train_loss", "val_loss", "val_accuracy", "val_f1"} <= set(scalars)
    names = ("attribution_error", "relative_error", "steps", "drift", "seconds", "failures")
    assert {f"interpret/saliency/{name}" for name in names} <= set(scalars)
    assert {f"interpret/saliency/probe_{k}/image" for k in (0, 1)} <= set(images)
    assert [event.value for event in events.Scalars("interpret/saliency/failures")] == [0.0, 0.0]


def test_the_demo_prints_a_table_of_what_it_found(demo):
    folder, done = demo
    results = table(done.out)
    rows = lines_of(folder / "data" / "val.jsonl")
    module = TextClassifier(str(folder / "model")).eval()
    with torch.no_grad():
        found = module(encode(module.tokenizer, [row["text"] for row in rows])).argmax(dim=1)
    right = [module.labels[i] == row["label"] for i, row in zip(found.tolist(), rows, strict=True)]
    assert float(results["val accuracy"]) == pytest.approx(sum(right) / len(right), abs=5e-4)
    assert results["explanations within tolerance"] == "6 of 6"
    assert float(results["relative attribution error, largest"].rstrip("%")) <= 1
    assert 0 < float(results["the same, of words at random"].rstrip("%")) < 50


def test_the_demo_shows_explanations_and_what_to_open(demo):
    folder, done = demo
    shown = [int(number) for number in re.findall(r"^validation row (\d+)", done.out, flags=re.MULTILINE)]
    assert len(shown) == len(set(shown)) == 4
    rows = lines_of(folder / "data" / "val.jsonl")
    words = re.sub(r"\([^()]*\)|\s", "", done.out)
    for number in shown:
        assert rows[number]["text"].replace(" ", "") in words
    assert "integrated_gradients of logit of" in done.out
    assert "is not given" not in done.out
    assert re.search(rf"\n    \S*tensorboard --logdir {re.escape(str(folder))}\n\n$", done.out)


def test_what_is_no_terminal_gets_no_colour(demo):
    assert "\x1b" not in demo[1].out + demo[1].err


def test_the_demo_repeats_itself(demo, command):
    folder, first = demo
    weights = (folder / "model" / "model.safetensors").read_bytes()
    again = command("demo", "--output-dir", folder, *QUICK)
    assert again.status == 0
    assert table(again.out) == table(first.out)
    assert (folder / "model" / "model.safetensors").read_bytes() == weights
    assert (folder / "runs" / "version_1" / "interpret" / "saliency.jsonl").exists()


def test_the_demo_on_files_and_a_model_of_ones_own(saved, command, tmp_path):
    files = ("--train-file", saved.train, "--val-file", saved.val, "--id-column", "id", "--probes", 3)
    done = command("demo", "--output-dir", tmp_path, *files, "--model", saved.model, "--method", "gradient_times_input")
    assert done.status == 0
    results = table(done.out)
    assert results["texts explained (gradient_times_input)"] == "16"
    assert "strongest words that decide the label" not in results  # of these texts the truth is not known
    assert not (tmp_path / "data").exists()
    ids = {row["example_id"] for row in lines_of(tmp_path / "runs" / "version_0" / "interpret" / "saliency.jsonl")}
    assert ids == {1000, 1005, 1010}
    assert all(1000 <= int(number) < 1016 for number in re.findall(r"validation row (\d+)", done.out))


def test_the_demo_on_training_rows_alone(command, tmp_path):
    path = write_reviews(tmp_path / "own.tsv", 60)
    path.write_text(path.read_text().replace("text\tlabel", "body\tmood", 1))
    columns = ("--text-column", "body", "--label-column", "mood")
    out = tmp_path / "out"
    done = command("demo", "--output-dir", out, "--train-file", path, *columns, "--epochs", 1, "--method", "gradient")
    assert done.status == 0
    assert table(done.out)["texts explained (gradient)"] == "6"
    assert TextClassifier(str(out / "model")).labels == ["negative", "positive"]


@pytest.mark.parametrize("kind", ["checkpoint", "headless"])
def test_the_demo_goes_on_with_a_checkpoint_or_gives_an_encoder_a_head(saved, command, tmp_path, kind):
    files = ("--train-file", saved.train, "--val-file", saved.val, "--method", "gradient", "--probes", 1)
    done = command("demo", "--output-dir", tmp_path, *files, "--model", getattr(saved, kind))
    assert done.status == 0
    module = TextClassifier(str(tmp_path / "model"))
    assert module.labels == ["negative", "positive"]
    before, after = (m.model.bert.embeddings.word_embeddings.weight for m in (saved.module, module))
    assert 0 < (before - after).abs().max() < 0.01


def test_labels_given_as_numbers_are_shown_by_name(saved, command, tmp_path):
    path = write_reviews(tmp_path / "own.tsv", 40)
    path.write_text(path.read_text().replace("\tnegative\t", "\t0\t").replace("\tpositive\t", "\t1\t"))
    files = ("--train-file", path, "--val-file", path, "--method", "gradient", "--probes", 1)
    done = command("demo", "--output-dir", tmp_path / "out", *files, "--model", saved.model)
    assert done.status == 0
    assert re.search(r"gold '(negative|positive)'", done.out)
    assert not re.search(r"gold '[01]'", done.out)


def test_what_the_user_can_mend_is_said_before_training(saved, refused, tmp_path):
    out, train = tmp_path / "out", ("--train-file", saved.train)
    wrong = write_reviews(tmp_path / "val.tsv", 8)
    wrong.write_text(wrong.read_text().replace("\tpositive\t", "\tpostive\t"))
    (tmp_path / "notes.ckpt").write_text("no checkpoint")
    cases = [
        ((*train, "--label-column", "lable"), r"line 1: `label_column='lable'` does not exist. Did you mean 'label'"),
        (
            (*train, "--val-file", wrong),
            r"val\.tsv, line \d+: `label='postive'` does not exist. Did you mean 'positive'",
        ),
        (("--train-file", tmp_path / "none.tsv"), r"none\.tsv'` does not exist"),
        (("--val-file", saved.val), "`--val-file` without `--train-file`"),
        (("--method", "gradiant"), "`method='gradiant'` does not exist. Did you mean 'gradient'"),
        ((*train, "--model", tmp_path / "missing"), "is no directory, and no name within reach"),
        ((*train, "--model", tmp_path / "notes.ckpt"), "is a file, but no checkpoint of a TextClassifier"),
        ((*train, "--model", saved.no_tokenizer), "has no vocabulary: save the tokenizer there"),
    ]
    for words, said in cases:
        assert re.search(said, refused("demo", "--output-dir", out, *words)), words
        assert not list(out.glob("**/*.ckpt"))
        assert not (out / "model").exists()


def test_a_folder_that_cannot_be_written_is_said(saved, refused):
    below = f"{saved.train}/out"  # below a file
    assert f"`--output-dir {below}` cannot be written" in refused("demo", "--output-dir", below, *QUICK)


@pytest.mark.slow
def test_the_default_demo_learns_what_it_explains(command, tmp_path):
    done = command("demo", "--output-dir", tmp_path)
    assert done.status == 0
    results = table(done.out)
    percent = {name: float(value.rstrip("%")) for name, value in results.items() if value.endswith("%")}
    assert float(results["val accuracy"]) >= 0.8
    assert percent["relative attribution error, largest"] <= 1
    assert percent["strongest words that decide the label"] >= 3 * percent["the same, of words at random"]
    assert int(re.search(r"It took (\d+) s", done.out)[1]) <= 180
