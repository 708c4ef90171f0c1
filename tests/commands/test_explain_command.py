import gzip
import json
import re
from itertools import pairwise

import pytest
import torch

from lightning_interpret import AttributionRow, TextClassifier
from lightning_interpret.commands import explain as explain_command
from lightning_interpret.methods import IntegratedGradients, Occlusion
from lightning_interpret.tasks.encode import encode

ROWS = [
    ("we thought the lamb was not very good .", "negative"),
    ("the waiter was friendly and the prices were fair !", "positive"),
    ("", "negative"),
    ("dull", "negative"),
    ("i loved the decor , but the soup was cold .", "positive"),
    ("never again", "negative"),
    ("the costs were reasonable .", "positive"),
]
SECTION_4 = {
    "schema", "scores", "tokens", "target", "target_name", "prediction", "gold", "baseline", "baseline_target", "error",
    "relative_error", "steps", "gradients", "converged", "layer", "method", "example_id", "units",
}  # fmt: skip
FAST = ("--set", "steps=4", "--set", "tolerance=null")


@pytest.fixture
def write_rows(tmp_path):
    """Write rows of text and label in the format that the name says, and return the path."""

    def write_rows(name, rows=ROWS):
        forms = {
            "txt": lambda: "".join(f"{text}\n" for text, _ in rows),
            "tsv": lambda: "text\tlabel\n" + "".join(f"{text}\t{label}\n" for text, label in rows),
            "csv": lambda: "text,label\n" + "".join(f'"{text}",{label}\n' for text, label in rows),
            "jsonl": lambda: "".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in rows),
        }
        content = forms[name.split(".")[1]]().encode()
        path = tmp_path / name
        path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
        return path

    return write_rows


@pytest.fixture
def explain(command, saved, tmp_path):
    """Explain a file and return the rows written; the model is the saved one unless another is named."""

    def explain(path, *words, output="out.jsonl", model=saved.model, status=0):
        words = ("--model", model, "--input", path, "--output", tmp_path / output, *words)
        done = command("explain", *words)
        assert done.status == status, done.err
        return [json.loads(line) for line in (tmp_path / output).read_text().splitlines()]

    return explain


@pytest.fixture
def explain_refused(refused, saved, write_rows, tmp_path):
    """Return why an explanation is refused, and see that nothing was written."""

    def explain_refused(*words, model=saved.model, path=None):
        given = ("--model", model, "--input", path or write_rows("rows.tsv"), "--output", tmp_path / "out.jsonl")
        said = refused("explain", *given, *words)
        assert not (tmp_path / "out.jsonl").exists()
        return said

    return explain_refused


def logits(saved, texts):
    with torch.no_grad():
        return saved.module(encode(saved.module.tokenizer, texts))


def test_each_row_is_the_record_of_its_text(explain, saved, write_rows):
    rows = explain(write_rows("rows.tsv"), "--batch-size", 3)
    assert [row["text"] for row in rows] == [text for text, _ in ROWS]
    assert [row["row"] for row in rows] == [row["example_id"] for row in rows] == list(range(len(ROWS)))
    assert [row["line"] for row in rows] == list(range(2, len(ROWS) + 2))
    names = saved.module.labels
    expected = logits(saved, [text for text, _ in ROWS])
    for row, scores in zip(rows, expected, strict=True):
        assert set(row) >= SECTION_4
        assert row["tokens"] == ["[CLS]", *saved.module.tokenizer.tokenize(row["text"]), "[SEP]"]
        assert all(isinstance(score, float) for score in row["scores"])
        assert len(row["scores"]) == len(row["tokens"])
        assert row["prediction"] == row["target_name"] == names[scores.argmax()]
        assert row["target"] == pytest.approx(scores.max().item(), abs=1e-5)
        assert sum(row["scores"]) == pytest.approx(row["target"] - row["baseline_target"] + row["error"], abs=1e-6)
        assert row["converged"] is True
        assert row["relative_error"] <= 0.01
        assert (row["method"], row["baseline"], row["which"], row["output"]) == (
            "integrated_gradients",
            "pad",
            "predicted",
            "logit",
        )
        assert row["gold"] is None
        assert "gold" in row["reasons"]
        record = AttributionRow.from_dict(row)
        assert record.to_dict().items() <= row.items()
    said_nothing = rows[2]
    assert (said_nothing["tokens"], said_nothing["scores"]) == (["[CLS]", "[SEP]"], [0.0, 0.0])


def test_rows_are_the_same_whatever_the_batch(explain, write_rows):
    path = write_rows("rows.tsv")
    one, all_of_them = (explain(path, "--batch-size", n, output=f"{n}.jsonl") for n in (1, 16))
    for alone, together in zip(one, all_of_them, strict=True):
        assert alone["tokens"] == together["tokens"]
        assert alone["scores"] == pytest.approx(together["scores"], abs=1e-5)


@pytest.mark.parametrize("name", ["rows.txt", "rows.csv", "rows.jsonl", "rows.tsv.gz", "rows.txt.gz"])
def test_each_format_gives_the_same(explain, write_rows, name):
    plain = explain(write_rows("rows.tsv"), *FAST, output="plain.jsonl")
    for one, other in zip(plain, explain(write_rows(name), *FAST), strict=True):
        assert {**one, "line": None} == {**other, "line": None}


def test_a_checkpoint_is_explained_as_the_directory_is(explain, saved, write_rows):
    path = write_rows("rows.txt")
    one, other = explain(path, *FAST), explain(path, *FAST, model=saved.checkpoint, output="other.jsonl")
    assert [row["scores"] for row in one] == [row["scores"] for row in other]


def test_columns_and_ids_have_the_names_given(explain, tmp_path):
    path = tmp_path / "rows.jsonl"
    rows = [{"body": "good food", "mood": "positive", "key": 70}, {"body": "bad food", "mood": "negative", "key": -3}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    columns = ("--text-column", "body", "--label-column", "mood", "--id-column", "key")
    found = explain(path, *columns, *FAST)
    assert [(row["text"], row["gold"], row["example_id"]) for row in found] == [
        ("good food", "positive", 70),
        ("bad food", "negative", -3),
    ]


# What is asked of a row


def test_options_of_the_method_are_set(explain, write_rows):
    rows = explain(write_rows("rows.txt"), "--set", "steps=32", "--set", "baseline=mask", "--set", "tolerance=null")
    assert {row["baseline"] for row in rows} == {"mask"}
    assert {row["steps"] for row in rows} == {32}
    assert {(row["options"]["steps"], row["options"]["tolerance"]) for row in rows} == {(32, None)}
    neutral = explain(write_rows("rows.txt"), "--set", "baseline=text: the food", *FAST, output="neutral.jsonl")
    assert {row["baseline"] for row in neutral} == {"text: the food"}


def test_gold_is_the_label_of_the_row(explain, saved, write_rows):
    rows = explain(write_rows("rows.tsv"), "--which", "gold", *FAST)
    expected = logits(saved, [text for text, _ in ROWS])
    for row, (_, label), scores in zip(rows, ROWS, expected, strict=True):
        assert row["gold"] == row["target_name"] == label
        assert row["target"] == pytest.approx(scores[saved.module.labels.index(label)].item(), abs=1e-5)


def test_a_contrast_is_the_difference_of_two_logits(explain, saved, write_rows):
    rows = explain(write_rows("rows.txt"), "--which", "negative-positive", *FAST)
    for row, scores in zip(rows, logits(saved, [text for text, _ in ROWS]), strict=True):
        assert row["target_name"] == "negative-positive"
        assert row["target"] == pytest.approx((scores[0] - scores[1]).item(), abs=1e-5)


def test_a_class_a_score_and_a_layer_can_be_named(explain, saved, write_rows):
    layer = "model.bert.encoder.layer.0"
    rows = explain(write_rows("rows.txt"), "--which", "positive", "--score", "prob", "--layer", layer, *FAST)
    expected = logits(saved, [text for text, _ in ROWS]).softmax(dim=1)[:, 1]
    assert [row["target"] for row in rows] == pytest.approx(expected.tolist(), abs=1e-5)
    assert {(row["target_name"], row["output"], row["layer"]) for row in rows} == {("positive", "prob", layer)}


def test_a_method_without_a_target_says_why_fields_are_empty(explain, write_rows):
    for row in explain(write_rows("rows.txt"), "--method", "gradient"):
        assert min(row["scores"]) >= 0
        for name in ("baseline", "baseline_target", "error", "relative_error", "converged"):
            assert row[name] is None
            assert "rate of change" in row["reasons"][name]


def test_a_long_text_is_cut_and_says_so(explain, write_rows):
    long, short = explain(write_rows("rows.txt", [("good food " * 200, ""), ("good food", "")]), *FAST)
    assert len(long["tokens"]) == 256
    assert [note.startswith("cut to 256 of ") for note in long["notes"]] == [True]
    assert short["notes"] == []


def test_a_row_that_fails_says_why_and_keeps_its_place(explain, write_rows):
    rows = explain(
        write_rows("rows.tsv", [*ROWS[:2], ("good", "positve"), *ROWS[3:]]), "--which", "gold", "--batch-size", 4, *FAST
    )
    assert [row["row"] for row in rows] == list(range(len(ROWS)))
    failed = rows[2]
    assert (failed["text"], failed["gold"], failed["scores"], failed["target"]) == ("good", "positve", [], None)
    assert "`label='positve'` does not exist. Did you mean 'positive'" in failed["reasons"]["scores"]
    assert failed["line"] == 4
    assert set(failed) == set(rows[0])
    assert AttributionRow.from_dict(failed).example_id == 2
    assert [row["target"] is None for row in rows] == [False, False, True, False, False, False, False]


def test_nothing_explained_is_a_failure(explain, write_rows):
    rows = explain(write_rows("rows.tsv", [("good", "god"), ("bad", "bda")]), "--which", "gold", status=1)
    assert [row["target"] for row in rows] == [None, None]


# Interrupted, and gone on with


@pytest.fixture
def whole(explain, write_rows, tmp_path):
    explain(write_rows("rows.tsv"), "--batch-size", 3, output="whole.jsonl")
    return (tmp_path / "whole.jsonl").read_bytes()


@pytest.mark.parametrize("lines", range(len(ROWS) + 1))
@pytest.mark.parametrize("half", [0, 1, 40])
def test_an_interrupted_run_goes_on_to_the_same_bytes(explain, write_rows, tmp_path, whole, lines, half):
    kept = b"".join(whole.splitlines(keepends=True)[:lines])
    out = tmp_path / "out.jsonl"
    out.write_bytes(whole[: len(kept) + half])
    explain(write_rows("rows.tsv"), "--batch-size", 3)
    assert out.read_bytes() == whole


def test_an_interrupt_leaves_whole_rows_and_is_no_traceback(
    command, saved, write_rows, tmp_path, whole, monkeypatch, explain
):
    batches = []
    attribute = IntegratedGradients.attribute

    def interrupted(self, module, batch, *rest):
        batches.append(batch)
        if len(batches) == 3:
            raise KeyboardInterrupt
        return attribute(self, module, batch, *rest)

    words = ("explain", "--model", saved.model, "--input", write_rows("rows.tsv"), "--output", tmp_path / "out.jsonl")
    with monkeypatch.context() as patch:
        patch.setattr(IntegratedGradients, "attribute", interrupted)
        done = command(*words, "--batch-size", 3)
    assert done.status == 130
    assert done.err.endswith("lightning-interpret: interrupted\n")
    assert (tmp_path / "out.jsonl").read_bytes() == b"".join(whole.splitlines(keepends=True)[:6])
    explain(write_rows("rows.tsv"), "--batch-size", 3)
    assert (tmp_path / "out.jsonl").read_bytes() == whole


def test_rows_are_read_and_written_batch_by_batch(explain, write_rows, monkeypatch):
    read, at_each_write = [], []
    rows_of, append = explain_command.read_rows, explain_command.jsonl.append

    def counted(*given, **options):
        for row in rows_of(*given, **options):
            read.append(row)
            yield row

    def watched(path, lines):
        at_each_write.append((len(read), len(lines)))
        append(path, lines)

    monkeypatch.setattr(explain_command, "read_rows", counted)
    monkeypatch.setattr(explain_command.jsonl, "append", watched)
    explain(write_rows("rows.txt", ROWS * 3), "--batch-size", 4, *FAST)
    assert at_each_write == [(4, 4), (8, 4), (12, 4), (16, 4), (20, 4), (21, 1)]
    assert all(after > before for (before, _), (after, _) in pairwise(at_each_write))


def test_an_unreadable_row_stops_at_its_line_and_can_be_mended(explain, refused, saved, write_rows, tmp_path, whole):
    path = write_rows("rows.tsv")
    good = path.read_text()
    lines = good.splitlines(keepends=True)
    path.write_text("".join([*lines[:6], "too\tmany\tfields\n", *lines[7:]]))
    words = ("explain", "--model", saved.model, "--input", path, "--output", tmp_path / "out.jsonl", "--batch-size", 3)
    assert "rows.tsv, line 7: 3 fields, but the header has 2" in refused(*words)
    assert (tmp_path / "out.jsonl").read_bytes() == b"".join(whole.splitlines(keepends=True)[:3])
    path.write_text(good)
    explain(path, "--batch-size", 3)
    assert (tmp_path / "out.jsonl").read_bytes() == whole


OTHER_RUNS = {
    "options": ("--set", "steps=8"),
    "which": ("--which", "positive"),
    "output": ("--score", "prob"),
    "method": ("--method", "gradient"),
    "layer": ("--layer", "model.bert.embeddings"),
    "example_id": ("--id-column", "id"),
}


@pytest.mark.parametrize("what", OTHER_RUNS)
def test_the_rows_of_another_run_are_refused_with_what_differs(explain, refused, saved, tmp_path, what):
    path, out = tmp_path / "rows.tsv", tmp_path / "out.jsonl"
    path.write_text("text\tid\ngood food\t7\nbad food\t8\n")
    explain(path)
    before = out.read_bytes()
    words = ("explain", "--model", saved.model, "--input", path, "--output", out, *OTHER_RUNS[what])
    said = refused(*words)
    assert "holds the rows of another run (line 2 of the input differs in " in said
    assert what in said[said.index("differs in") : said.index(")")]
    assert "give another file, or --overwrite" in said
    assert out.read_bytes() == before
    explain(path, *OTHER_RUNS[what], "--overwrite")
    assert out.read_bytes() != before
    assert len(out.read_text().splitlines()) == 2


def test_rows_of_another_text_or_of_more_texts_are_refused(explain, refused, saved, write_rows, tmp_path):
    explain(write_rows("rows.txt", ROWS[3:6]), *FAST)
    words = ("explain", "--model", saved.model, "--output", tmp_path / "out.jsonl", *FAST, "--input")
    other = write_rows("other.txt", [*ROWS[3:5], ("another", "")])
    assert "(line 3 of the input differs in text)" in refused(*words, other)
    assert "holds more rows than the input" in refused(*words, write_rows("fewer.txt", ROWS[3:5]))
    longer = explain(write_rows("longer.txt", ROWS[3:]), *FAST)
    assert [row["text"] for row in longer] == [text for text, _ in ROWS[3:]]


def test_a_model_trained_further_is_another_run(explain, refused, saved, write_rows, tmp_path):
    module = TextClassifier(saved.model)
    model = tmp_path / "model"
    module.save_pretrained(model)
    path = write_rows("rows.txt")
    explain(path, *FAST, model=model)
    with torch.no_grad():
        module.model.classifier.bias += 1
    module.save_pretrained(model)
    words = ("explain", "--model", model, "--input", path, "--output", tmp_path / "out.jsonl", *FAST)
    assert "differs in weights" in refused(*words)


# What cannot be


def test_the_input_is_never_written_over(refused, saved, write_rows):
    path = write_rows("rows.jsonl")
    before = path.read_bytes()
    for overwrite in ((), ("--overwrite",)):
        words = ("explain", "--model", saved.model, "--input", path, "--output", path, *overwrite)
        assert "is the input: give another file" in refused(*words)
        assert path.read_bytes() == before


def test_a_model_that_cannot_be_read_leaves_the_output_as_it_was(explain, refused, write_rows, tmp_path):
    path, out = write_rows("rows.txt"), tmp_path / "out.jsonl"
    explain(path, *FAST)
    before = out.read_bytes()
    refused("explain", "--model", tmp_path / "nothing", "--input", path, "--output", out, "--overwrite")
    assert out.read_bytes() == before


BAD_OPTIONS = {
    "steps=abc": "`--set steps=abc`: expected int, but got str",
    "steps=2.5": "`--set steps=2.5`: expected int, but got float",
    "steps=true": "expected int, but got bool",
    "steps=0": "`steps=0` must be a whole number of at least 1",
    "stepz=8": "`--set='stepz=8'` does not exist. Did you mean 'steps=...'",
    "steps": "`--set='steps'` does not exist",
    "baseline=maks": "`baseline='maks'` does not exist. Did you mean 'mask'",
    "tolerance=-1": "`tolerance=-1` must be positive",
    "tolerance=Infinity": "`tolerance=inf` must be positive and finite",
    "rule=trapezium": "'trapezium'",
}


@pytest.mark.parametrize("setting", BAD_OPTIONS)
def test_a_bad_option_of_the_method_is_refused(explain_refused, setting):
    assert BAD_OPTIONS[setting] in explain_refused("--set", setting)


WINDOWS = {
    "[2,3]": None,
    "2": None,
    "[2]": "`--set window=[2]`: expected int | tuple[int, int] | None, but got list",
    "[2,true]": "but got list",
    "[0,2]": "`window=(0, 2)` must be a whole number of at least 1, or two",
}


@pytest.mark.parametrize("window", WINDOWS)
def test_an_option_of_several_numbers_is_a_list(window):
    settings = ["unit=window", f"window={window}"]
    if WINDOWS[window] is None:
        method = explain_command.method_from("occlusion", settings)
        assert method == Occlusion(unit="window", window=2 if window == "2" else (2, 3))
    else:
        with pytest.raises(ValueError, match=re.escape(WINDOWS[window])):
            explain_command.method_from("occlusion", settings)


BAD_WORDS = {
    "method": ("--method", "integrated_gradient", "Did you mean 'integrated_gradients'"),
    "score": ("--score", "logits", "`--score='logits'` does not exist. Did you mean 'logit'"),
    "which": ("--which", "positve", "`which='positve'` does not exist. Did you mean 'positive'"),
    "contrast": ("--which", "negative-positve", "Did you mean 'negative' or 'positive'"),
    "layer": ("--layer", "model.bert.encoder.layer.9", "Did you mean 'model.bert.encoder.layer.1'"),
    "layers": ("--layer", "all", "`--layer all`: a file holds one line a row, of one layer"),
    "text": ("--text-column", "txt", "line 1: `text_column='txt'` does not exist. Did you mean 'text'"),
    "label": ("--label-column", "lable", "`label_column='lable'` does not exist. Did you mean 'label'"),
    "id": ("--id-column", "label", "column 'label' holds 'negative' (str), not an integer"),
}


@pytest.mark.parametrize("what", BAD_WORDS)
def test_a_name_that_does_not_exist_is_refused_with_the_near_ones(explain_refused, what):
    option, value, said = BAD_WORDS[what]
    assert said in explain_refused(option, value)


def test_gold_needs_labels(explain_refused, write_rows):
    assert "has no labels: explain 'predicted' or a named class" in explain_refused(
        "--which", "gold", path=write_rows("rows.txt")
    )


def test_a_model_that_is_no_classifier_is_refused(explain_refused, saved, write_rows, tmp_path):
    assert "is no directory, and no name within reach" in explain_refused(model=tmp_path / "nothing")
    assert "is no directory, and no name within reach" in explain_refused(model="nobody/nothing")
    said = explain_refused(model=saved.headless)
    assert "was saved as BertModel, which has no classification head to explain" in said
    assert "has no vocabulary: save the tokenizer there" in explain_refused(model=saved.no_tokenizer)
    assert "is a file, but no checkpoint of a TextClassifier" in explain_refused(model=write_rows("model.txt"))
    torch.save({"state_dict": {}}, tmp_path / "other.ckpt")
    assert "is a file, but no checkpoint of a TextClassifier" in explain_refused(model=tmp_path / "other.ckpt")


def test_files_that_cannot_be_read_or_written_are_named(explain_refused, refused, saved, write_rows, tmp_path):
    rows = write_rows("rows.txt")
    assert "rows.tsx" in explain_refused(path=tmp_path / "rows.tsx")
    assert "rosw.txt'` does not exist. Did you mean" in explain_refused(path=tmp_path / "rosw.txt")
    assert "has no rows" in explain_refused(path=write_rows("empty.tsv", []))
    for output in (rows / "below" / "out.jsonl", tmp_path):
        words = ("explain", "--model", saved.model, "--input", rows, "--output", output)
        assert f"`--output {output}` cannot be written" in refused(*words)


def test_the_folder_of_the_output_is_made(explain, write_rows):
    assert len(explain(write_rows("rows.txt"), *FAST, output="new/folder/out.jsonl")) == len(ROWS)


def test_a_file_of_something_else_is_not_appended_to(refused, saved, write_rows, tmp_path):
    out = tmp_path / "notes.md"
    out.write_text("# mine\n")
    words = ("explain", "--model", saved.model, "--input", write_rows("rows.txt"), "--output", out)
    assert "notes.md:1: not JSON" in refused(*words)
    assert out.read_text() == "# mine\n"
