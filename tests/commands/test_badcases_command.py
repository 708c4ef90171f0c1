import json
import shutil
from types import SimpleNamespace

import pytest

from lightning_interpret.bad_cases import BadCaseRow, BadCasesRow
from lightning_interpret.commands import badcases
from lightning_interpret.data import read_rows
from lightning_interpret.files import file_digest
from lightning_interpret.report.bad_case_files import read_report

FAST = ("--cases", 2, "--id-column", "id")
OTHER = {"negative": "positive", "positive": "negative"}


@pytest.fixture(scope="session")
def looked(command, saved):
    """The bad cases of the saved model: what was said, the report and its folder."""
    folder = saved.folder / "looked"
    files = ("--train", saved.train, "--val", saved.val, "--id-column", "id")
    done = command("badcases", "--model", saved.model, *files, "--output", folder, "--cases", 4)
    assert done.status == 0, done.err
    predicted = {each.example_id: each.prediction for each in read_report(folder).predictions}
    return SimpleNamespace(out=done.out, report=read_report(folder), folder=folder, predicted=predicted)


@pytest.fixture
def bad_cases(command, saved, tmp_path):
    """Look for the bad cases of the saved model and return what was said, the report and its folder."""

    def bad_cases(*words, train=saved.train, val=saved.val, model=saved.model, output="out"):
        given = ("--model", model, "--train", train, "--val", val, "--output", tmp_path / output)
        done = command("badcases", *given, *(words or FAST))
        assert done.status == 0, done.err
        return SimpleNamespace(
            out=done.out, err=done.err, report=read_report(tmp_path / output), folder=tmp_path / output
        )

    return bad_cases


@pytest.fixture
def bad_cases_refused(refused, saved, tmp_path):
    """Return why bad cases are not looked for, and see that nothing was written."""

    def bad_cases_refused(*words, train=saved.train, val=saved.val, model=saved.model):
        given = ("--model", model, "--train", train, "--val", val, "--output", tmp_path / "out")
        said = refused("badcases", *given, *words)
        assert not list(tmp_path.glob("out/*"))
        return said

    return bad_cases_refused


@pytest.fixture
def labelled(saved, tmp_path):
    """Write the validation rows with other labels or texts, and return the file."""

    def labelled(label, text=lambda row: row.text, source=saved.val, name="other.jsonl"):
        rows = read_rows(source, id_column="id")
        lines = [{"id": row.example_id, "text": text(row), "label": label(row)} for row in rows]
        (tmp_path / name).write_text("".join(json.dumps(line) + "\n" for line in lines))
        return tmp_path / name

    return labelled


def test_a_report_is_written_that_can_be_compared(looked, command, saved, tmp_path):
    found, report = looked, looked.report
    assert (report.model, report.files) == (saved.model, {"train": saved.train, "val": saved.val})
    assert report.digests == {"train": file_digest(saved.train), "val": file_digest(saved.val)}
    assert report.columns == {"text": "text", "label": "label", "id": "id"}
    assert report.labels == ["negative", "positive"]
    rows = list(read_rows(saved.val, id_column="id"))
    assert [(each.example_id, each.line, each.gold) for each in report.predictions] == [
        (row.example_id, row.line, row.label) for row in rows
    ]
    assert all(row.text.startswith(each.text.rstrip("…")) for row, each in zip(rows, report.predictions, strict=True))
    overview = report.overview
    assert overview.wrong_cases == sum(not each.right for each in report.predictions)
    assert f"Of 16 validation rows {overview.wrong_cases} are wrong" in found.out
    cases = [BadCaseRow.from_dict(case) for case in json.loads((found.folder / "report.json").read_text())["cases"]]
    assert 0 < len(cases) == overview.explained <= 4
    causes = {each.example_id: (each.cause, each.cue) for each in report.predictions if each.cause}
    assert causes == {case.example_id: (case.cause, case.cue) for case in cases}
    assert all(group.name in found.out for group in report.groups)
    assert "<html" in (found.folder / "review.html").read_text()
    assert sorted(path.name for path in found.folder.iterdir()) == ["relabel.tsv", "report.json", "review.html"]
    assert "answers to the report before" not in found.out
    words = ("--before", found.folder, "--after", found.folder, "--output-dir", tmp_path / "compared")
    done = command("compare", "--what", "runs", *words)
    assert "16 rows compared, matched by example_id: 0 were fixed, 0 broke" in done.out


def test_suspected_labels_are_answered_and_applied(bad_cases, command, labelled, saved, tmp_path):
    def by_place(row):
        return int(row.label == "positive") ^ (row.example_id < 1005)  # the first five wrong

    train = labelled(by_place, source=saved.train, name="train.jsonl")
    found = bad_cases(*FAST, "--set", "suspicion=0.3", train=train)
    rows = [line.split("\t") for line in (found.folder / "relabel.tsv").read_text().splitlines()[1:]]
    asked = {int(row[2]): row for row in rows if row[1] == "train" and row[3]}
    assert asked.keys() & set(range(1000, 1005))
    lines = {row.example_id: row for row in read_rows(train, id_column="id")}
    for key, row in asked.items():
        label = found.report.labels[int(lines[key].label)]
        assert (int(row[3]), row[4], row[9]) == (lines[key].line, label, lines[key].text)
    assert f"relabel.tsv with {len(rows)} rows to answer" in found.out
    done = command("apply", "--report", found.folder, "--output", tmp_path / "new.jsonl", "--accept", "relabel")
    assert done.status == 0, done.err
    after = {row.example_id: row.label for row in read_rows(tmp_path / "new.jsonl", id_column="id")}
    assert after == {key: str(int(row.label) ^ (key in asked)) for key, row in lines.items()}


def test_no_bad_case_is_a_report_that_says_so(bad_cases, labelled, looked):
    val = labelled(lambda row: looked.predicted[row.example_id])
    found = bad_cases(*FAST, "--set", "unsure_below=0", "--set", "suspicion=1", val=val)
    assert (found.report.overview.wrong_cases, found.report.groups) == (0, [])
    assert "There is no bad case" in found.out
    assert "`apply` has no use" in found.out
    assert (found.folder / "relabel.tsv").read_text().count("\n") == 1


def test_all_bad_takes_the_place_of_an_older_report_whose_answers_are_kept(bad_cases, labelled, looked, tmp_path):
    folder, answered = tmp_path / "out", "accept\tfile\n\ttrain\nyes\ttrain\n"
    shutil.copytree(looked.folder, folder)
    (folder / "relabel.tsv").write_text(answered)
    (folder / "relabel.answered.tsv").write_text("older ones")
    val = labelled(lambda row: OTHER[looked.predicted[row.example_id]])
    found = bad_cases(*FAST, "--language", "zh", val=val)
    overview = found.report.overview
    assert (overview.accuracy, overview.wrong_cases, overview.explained) == (0.0, 16, 2)
    assert "2 of 16 bad cases were explained" in found.out
    assert "answers to the report before are in" in found.out
    assert (folder / "relabel.answered.2.tsv").read_text() == answered
    assert (folder / "relabel.answered.tsv").read_text() == "older ones"
    assert (folder / "relabel.tsv").read_text().startswith("accept\tfile\texample_id")
    assert '<html lang="zh' in (folder / "review.html").read_text()


def test_the_time_is_kept_and_what_is_left_out_is_said(bad_cases, looked):
    report = bad_cases("--max-seconds", 1e-9, "--batch-size", 4).report
    rows = len(list(read_rows(report.files["train"])))
    assert report.overview.training == 4
    assert f"4 of {rows} training examples were asked: `max_seconds=1e-09` was spent" in report.overview.notes


@pytest.mark.parametrize("copies", [5_000, pytest.param(400_000, marks=pytest.mark.slow)])
def test_one_class_and_long_and_empty_texts_are_read(bad_cases, labelled, copies):
    def text(row):
        return {1000: "", 1001: row.text + " so good" * copies}.get(row.example_id, row.text)

    val = labelled(lambda row: "positive", text)
    found = bad_cases(train=val, val=val)
    assert found.err.count("every row has the label 'positive'") == 2
    assert found.err.count("1 rows have an empty text and are left out (lines 1).") == 2
    assert [each.example_id for each in found.report.predictions] == list(range(1001, 1016))
    assert {each.gold for each in found.report.predictions} == {"positive"}
    assert len(found.report.predictions[0].text) == 200
    assert len((found.folder / "report.json").read_text()) < 1_000_000


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--language", "klingon"), "klingon"),
        (("--set", "cue_shair=1"), r"`--set='cue_shair=1'` does not exist"),
        (("--set", "cue_share=2"), "`cue_share=2`"),
        (("--set", "cases=3", "--cases", 4), "`--set cases=3` and `--cases 4`: give one of them"),
        (("--max-seconds", -1), "`max_seconds=-1.0`"),
        (("--text-column", "body"), "`text_column='body'` does not exist"),
    ],
)
def test_options_that_do_not_fit_are_refused(bad_cases_refused, words, said):
    assert said in bad_cases_refused(*words)


def test_files_and_models_that_cannot_be_read_are_refused(bad_cases_refused, labelled, saved, tmp_path):
    assert "`--val" in bad_cases_refused(val=tmp_path / "gone.tsv")
    assert "gone" in bad_cases_refused(model=tmp_path / "gone")
    assert "no classification head" in bad_cases_refused(model=saved.headless)
    strange = labelled(lambda row: "meh" if row.example_id == 1002 else row.label)
    said = bad_cases_refused(val=strange)
    assert f"{strange}, line 3: `label='meh'` does not exist" in said
    assert "There is: negative, positive." in said
    empty = labelled(lambda row: row.label, lambda row: " ")
    assert "every text in column 'text' is empty" in bad_cases_refused(train=empty)
    (tmp_path / "rows.txt").write_text("good\n")
    assert "has no labels" in bad_cases_refused(train=tmp_path / "rows.txt")


def test_probabilities_that_are_no_numbers_are_refused(bad_cases_refused, monkeypatch):
    row = {"index": 0, "gold": "negative", "prediction": "negative", "confidence": float("nan")}
    found = SimpleNamespace(predictions=[row], suspects=(), overview=BadCasesRow(), groups=(), cases=())
    monkeypatch.setattr(badcases, "_find", lambda *_: found)
    assert "not finite (validation line 2)" in bad_cases_refused()
