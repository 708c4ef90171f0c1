"""The back end of the Interpret tab, without a server around it, over both of TensorBoard's data readers."""

import json
import math
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path
from types import SimpleNamespace

import boards
import numpy as np
import pytest
from records import NASTY, arbitrary_row, row

import lightning_interpret
from lightning_interpret.tensorboard import payload
from lightning_interpret.tensorboard.plugin import SAMPLES, InterpretLoader
from lightning_interpret.tensorboard.server import InterpretPlugin

ROOT = Path(lightning_interpret.__file__).parents[1]
STATIC = ROOT / "lightning_interpret" / "tensorboard" / "static"
NO_RUST = pytest.mark.skipif(boards.rust() is None, reason="TensorBoard's Rust reader is not installed here")
READERS = ["python", pytest.param("rust", marks=NO_RUST)]
LONG = row([f"w{i}" for i in range(900)], scores=[math.sin(i) for i in range(900)])
ODD = "a run/ü & #1 ?x=y"
PROBE = "interpret/saliency/probe_0"
KINDS = [
    *("attention", "attribution", "bad_case", "bad_case_group", "bad_cases", "concept_test", "concepts", "generated"),
    *("influence", "landmarks", "neighbors", "plain", "rationale", "span_tree", "spans", "targets", "trust"),
]


def _write(folder):
    """Two runs: one of what a Monitor writes, one of what nobody should."""
    with boards.Events(folder / "good") as good:
        for step in (10, 20, 30):
            good.row(row("good bad", scores=[step, -1.0], example_id=7), step=step)
            good.row(row("x y", scores=[1.0, math.nan], target=math.nan), probe=1, step=step)
        good.pages = good.row(LONG, probe=2, step=10, limit=9000)
        good.row(row(NASTY, [0.5] * len(NASTY), gold=None), probe=3, step=10)
        good.row(LONG, probe=4, step=10, limit=9000)
        good.row(row("short now"), probe=4, step=10)
        for _ in range(2):
            good.row(row("same", target=5.0), probe=5, step=10)
        good.row(row("same", target=6.0), probe=5, step=10)
        for seed in range(8):
            good.row(arbitrary_row(seed), probe=seed, step=seed, name="any")
    with boards.Events(folder / ODD) as odd:
        for step, text in enumerate(['{"broken', "[]", "\ud800".encode("utf8", "replace").decode(), "3", "[" * 5000]):
            odd.text("interpret/odd/probe_0", step, text)
        odd.row(row("fine"), probe=0, step=9, name="odd")
        odd.text("interpret/odd/probe_1", 0, "", values=["a", "b"])
        odd.text("interpret/odd/probe_1", 1, "", values=np.float32(3))
        odd.text("interpret/odd/probe_1", 2, "", values=b"\xff\xfe")
        odd.text("interpret/odd/probe_2", 0, boards.payload([{"a": 1}], "mine", pages=3))
        odd.text("interpret/odd/probe_3", 0, boards.payload([{"a": 1}], "mine", pages=10**12))
        odd.text("interpret/odd/probe_4", 0, boards.payload([{"rows": [[1]]}, 5], "mine"), content=b'{"kind": "mine"}')
        odd.text("no/tag of ours", 0, boards.payload([{"target": 1e308}]), content=b"\xff not JSON")
        numbers = '{"records": [{"scores": [NaN, 1e999, 1], "problem": "mine"}]}'
        odd.text("interpret/odd/probe_5", 0, numbers, content=b"[]")
        for depth in range(700, 1000, 9):
            nest = "[" * depth + "]" * depth
            odd.text("interpret/odd/probe_6", depth, boards.payload(["nest"]).replace('"nest"', nest))
    return {"good": good, ODD: odd}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    return SimpleNamespace(folder=folder, runs=_write(folder))


@pytest.fixture(scope="module", params=READERS)
def board(request, written):
    return boards.backend(written.folder, request.param, runs=written.runs)


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    folder = tmp_path_factory.mktemp("many")
    with boards.Events(folder) as events:
        for step in range(260):
            events.row(row("a b", scores=[1.0, step]), step=step)
    return SimpleNamespace(folder=folder, runs={".": events})


def test_every_probe_of_every_run_is_listed_once_whatever_its_pages(board, written):
    status, answer = board.get("tags")
    assert status == 200
    assert answer["kinds"] == KINDS
    assert answer["schema"] == payload.SCHEMA
    assert answer["samples"] == SAMPLES
    found = {(entry["run"], entry["tag"]) for entry in answer["tags"]}
    assert found == {(run, tag) for run, events in written.runs.items() for tag in events.last}
    assert len(found) == len(answer["tags"])
    good = [entry for entry in answer["tags"] if entry["run"] == "good" and entry["monitor"] == "saliency"]
    assert [entry["probe"] for entry in good] == [0, 1, 2, 3, 4, 5]
    assert good[0] == {
        "run": "good", "tag": PROBE, "monitor": "saliency", "probe": 0, "kind": "attribution", "version": 1,
        "last_step": 30,
    }  # fmt: skip


def test_metadata_that_is_no_json_or_of_another_kind_is_listed_all_the_same(board):
    kinds = {entry["tag"]: (entry["kind"], entry["version"]) for entry in board.get("tags")[1]["tags"]}
    assert kinds["no/tag of ours"] == ("", None)
    assert kinds["interpret/odd/probe_5"] == ("", None)
    assert kinds["interpret/odd/probe_4"] == ("mine", None)


def test_the_facts_of_several_probes_come_in_one_answer(board):
    status, answer = board.get("latest", run="good", tag=[PROBE, "interpret/saliency/probe_2", "not/there"])
    assert status == 200
    assert set(answer) == {PROBE, "interpret/saliency/probe_2"}
    assert (answer[PROBE]["step"], answer[PROBE]["largest"], answer[PROBE]["text"]) == (30, 30.0, "good bad")
    assert answer[PROBE]["example_id"] == 7
    assert answer["interpret/saliency/probe_2"]["largest"] == pytest.approx(max(abs(s) for s in LONG.scores[1:-1]))


def test_the_last_records_of_several_probes_come_in_one_answer(board):
    status, answer = board.get("records", run="good", tag=[PROBE, "interpret/saliency/probe_2", "not/there"])
    assert status == 200
    assert set(answer) == {PROBE, "interpret/saliency/probe_2"}
    for tag, step in ((PROBE, 30), ("interpret/saliency/probe_2", 10)):
        assert answer[tag] == board.get("record", run="good", tag=tag, step=step)[1]
    broken = board.get("records", run=ODD, tag="interpret/odd/probe_2")[1]["interpret/odd/probe_2"]
    assert (broken["payload"], broken["problem"][:14]) == (None, "Expected every")


def test_steps_come_in_order_with_the_drift_since_the_step_before(board):
    status, steps = board.get("steps", run="good", tag=PROBE)
    assert status == 200
    assert [step["step"] for step in steps] == [10, 20, 30]
    assert steps[0]["drift"] is None
    assert 0 < steps[1]["drift"] < 0.01
    assert all(isinstance(step["wall_time"], float) for step in steps)
    assert [step["drift"] for step in board.get("steps", run="good", tag="interpret/saliency/probe_1")[1]] == [None] * 3


def test_a_record_is_what_was_written(board):
    status, record = board.get("record", run="good", tag=PROBE, step=20)
    assert status == 200
    assert (record["step"], record["problem"]) == (20, None)
    expected = row("good bad", scores=[20, -1.0], example_id=7).to_dict()
    assert record["payload"]["records"] == [json.loads(json.dumps(expected))]


def test_texts_of_any_characters_come_back_as_they_were(board):
    for seed in range(8):
        status, record = board.get("record", run="good", tag=f"interpret/any/probe_{seed}", step=seed)
        assert status == 200
        assert record["payload"]["records"] == [json.loads(json.dumps(arbitrary_row(seed).to_dict()))]
    (nasty,) = board.get("record", run="good", tag="interpret/saliency/probe_3", step=10)[1]["payload"]["records"]
    assert nasty["words"] == NASTY


def test_pages_are_joined(board, written):
    assert written.runs["good"].pages > 2
    status, record = board.get("record", run="good", tag="interpret/saliency/probe_2", step=10)
    assert status == 200
    assert record["payload"]["records"] == [json.loads(json.dumps(LONG.to_dict()))]


def test_of_a_step_that_was_written_twice_the_last_is_shown(board):
    (step,) = board.get("steps", run="good", tag="interpret/saliency/probe_5")[1]
    assert step["target"] == 6.0
    record = board.get("record", run="good", tag="interpret/saliency/probe_5", step=10)[1]
    assert record["payload"]["records"][0]["target"] == 6.0


def test_pages_of_a_longer_record_that_was_written_over_are_no_problem(board):
    status, record = board.get("record", run="good", tag="interpret/saliency/probe_4", step=10)
    assert status == 200
    assert record["problem"] is None
    assert record["payload"]["records"][0]["words"] == ["short", "now"]


@pytest.mark.parametrize("step", range(5))
def test_a_payload_that_cannot_be_read_is_an_answer_that_says_why_and_shows_it(board, step):
    status, record = board.get("record", run=ODD, tag="interpret/odd/probe_0", step=step)
    assert status == 200
    assert record["payload"] is None
    assert record["problem"].startswith("The payload is not")
    assert record["raw"]


def test_steps_beside_a_broken_one_are_whole(board):
    steps = board.get("steps", run=ODD, tag="interpret/odd/probe_0")[1]
    assert ["problem" in step for step in steps] == [True] * 5 + [False]
    assert board.get("latest", run=ODD, tag="interpret/odd/probe_0")[1]["interpret/odd/probe_0"]["text"] == "fine"


@pytest.mark.parametrize("step", range(3))
def test_a_tensor_that_is_no_text_is_a_problem(board, step):
    status, record = board.get("record", run=ODD, tag="interpret/odd/probe_1", step=step)
    assert status == 200
    assert record["payload"] is None
    assert record["problem"]


@pytest.mark.parametrize("probe", [2, 3])
def test_pages_that_are_missing_are_named(board, probe):
    status, record = board.get("record", run=ODD, tag=f"interpret/odd/probe_{probe}", step=0)
    assert status == 200
    assert "Expected every page" in record["problem"]
    assert "--samples_per_plugin" in record["problem"]
    assert '"a": 1' in record["raw"]


def test_a_kind_that_nobody_knows_is_served_as_it_is(board):
    record = board.get("record", run=ODD, tag="interpret/odd/probe_4", step=0)[1]
    assert record["payload"]["records"] == [{"rows": [[1]]}, 5]
    assert record["payload"]["kind"] == "mine"


def test_numbers_that_json_has_not_are_nothing(board):
    (step,) = board.get("steps", run=ODD, tag="interpret/odd/probe_5")[1]
    assert step["largest"] == 1
    assert "problem" not in step
    record = board.get("record", run=ODD, tag="interpret/odd/probe_5", step=0)[1]
    assert record["payload"]["records"][0]["scores"] == [None, None, 1]


def test_a_payload_of_any_depth_is_an_answer(board):
    steps = board.get("steps", run=ODD, tag="interpret/odd/probe_6")[1]
    assert len(steps) == 34
    for step in steps:
        status, record = board.get("record", run=ODD, tag="interpret/odd/probe_6", step=step["step"])
        assert status == 200
        assert (record["payload"] is None) == (record["problem"] is not None)


@pytest.mark.parametrize(
    ("route", "query", "missing"),
    [
        ("latest", {}, "run"), ("latest", {"run": "good"}, "tag"), ("steps", {"run": "good"}, "tag"),
        ("steps", {"tag": PROBE}, "run"), ("record", {"run": "good", "tag": PROBE}, "step"),
        ("record", {"tag": PROBE, "step": 10}, "run"), ("records", {"run": "good"}, "tag"),
    ],
)  # fmt: skip
def test_a_missing_argument_is_named(board, route, query, missing):
    status, text = board.get(route, **query)
    assert status == 400
    assert f"`{missing}=`" in text


@pytest.mark.parametrize(
    ("route", "query"),
    [
        ("steps", {"run": "good", "tag": "not/there"}),
        ("steps", {"run": "deleted", "tag": PROBE}),
        ("record", {"run": "good", "tag": PROBE, "step": 11}),
        ("record", {"run": "good", "tag": PROBE, "step": "10 "}),
        ("record", {"run": "good", "tag": PROBE, "step": "last"}),
        ("../../../etc/passwd", {}),
        ("kinds/../../server.py", {}),
        ("%2e%2e/server.py", {}),
        ("server.py", {}),
        ("kinds", {}),
        ("", {}),
    ],
)
def test_what_is_not_there_is_not_found(board, route, query):
    assert board.get(route, **query)[0] == 404


@pytest.mark.parametrize("path", sorted(p.relative_to(STATIC).as_posix() for p in STATIC.rglob("*.*")))
def test_every_file_of_the_page_is_served_with_its_type(board, path):
    response = board.client.get(boards.ROUTE + path)
    assert response.status_code == 200
    assert response.mimetype == {".js": "text/javascript", ".css": "text/css"}[Path(path).suffix]
    assert response.get_data() == (STATIC / path).read_bytes()


def test_tensorboard_lists_the_tab_and_makes_its_page(board):
    listed = board.get("/data/plugins_listing")[1]["interpret"]
    assert listed["enabled"] is True
    assert listed["tab_name"] == "Interpret"
    assert listed["loading_mechanism"]["type"] == "IFRAME"
    status, page = board.get("/data/plugin_entry.html", name="interpret")
    assert status == 200
    assert "index.js" in page


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(
    ("flags", "kept"),
    [([], SAMPLES), (["--samples_per_plugin=interpret=7"], 7), (["--samples_per_plugin=interpret=0"], 260)],
)
def test_more_steps_are_kept_than_by_default_unless_the_reader_says_how_many(many, reader, flags, kept):
    board = boards.backend(many.folder, reader, *flags, runs=many.runs)
    steps = board.get("steps", run=".", tag=PROBE)[1]
    assert len(steps) == kept
    assert steps[-1]["step"] == 259
    status, record = board.get("record", run=".", tag=PROBE, step=steps[0]["step"])
    assert (status, record["step"]) == (200, steps[0]["step"])
    assert board.get("latest", run=".", tag=PROBE)[1][PROBE]["step"] == 259


@pytest.mark.parametrize("reader", READERS)
def test_an_empty_folder_has_no_tags_and_the_tab_is_there_but_not_active(tmp_path, reader):
    board = boards.backend(tmp_path, reader)
    assert board.get("tags") == (
        200,
        {
            "schema": 1,
            "kinds": KINDS,
            "samples": SAMPLES,
            "tags": [],
        },
    )
    assert board.get("/data/plugins_listing")[1]["interpret"]["enabled"] is False


@pytest.mark.parametrize("reader", READERS)
def test_an_events_file_that_breaks_off_leaves_what_is_before_and_the_other_runs(tmp_path, reader):
    for run in ("broken", "garbage", "whole"):
        with boards.Events(tmp_path / run) as events:
            for probe in range(3):
                events.row(row("good bad"), probe=probe, step=10)
        (file,) = (tmp_path / run).iterdir()
        written = file.read_bytes()
        file.write_bytes({"broken": written[:-40], "garbage": b"\xff" * 300, "whole": written}[run])
    del events.last["interpret/saliency/probe_2"]  # which the Rust reader waits for
    board = boards.backend(tmp_path, reader, runs={"broken": events})
    boards.wait_for(lambda: len(board.get("tags")[1]["tags"]) == 5)
    found = [(entry["run"], entry["probe"]) for entry in board.get("tags")[1]["tags"]]
    assert found == [("broken", 0), ("broken", 1), ("whole", 0), ("whole", 1), ("whole", 2)]
    assert board.get("latest", run="broken", tag="interpret/saliency/probe_1")[1]


def test_the_address_may_have_a_prefix(written):
    board = boards.backend(written.folder, "python", "--path_prefix=/foo", prefix="/foo")
    assert board.get("index.js")[0] == 200
    assert board.get("latest", run="good", tag=PROBE)[1][PROBE]["step"] == 30


@pytest.mark.parametrize("hints", [None, {}, {"scalars": 3}])
def test_a_tensorboard_without_hints_for_the_tab_is_asked_for_the_usual_number(hints):
    plugin = InterpretPlugin(SimpleNamespace(data_provider=None, sampling_hints=hints))
    assert plugin._samples == SAMPLES
    assert plugin.is_active() is False


def _loaded_by(code):
    found = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys\nprint(*sorted({{name.split('.')[0] for name in sys.modules}}))"],
        check=True,
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(ROOT)},
    )
    return set(found.stdout.split())


def test_loading_the_entry_point_and_the_tab_leaves_torch_and_lightning_out():
    (point,) = entry_points(group="tensorboard_plugins", name="interpret")
    assert point.value == "lightning_interpret.tensorboard.plugin:InterpretLoader"
    assert point.load() is InterpretLoader
    heavy = {"torch", "lightning", "lightning_fabric", "pytorch_lightning", "transformers", "torchmetrics", "PIL"}
    loaded = _loaded_by(
        "from importlib.metadata import entry_points\n"
        "(point,) = entry_points(group='tensorboard_plugins', name='interpret')\n"
        "assert point.load().__name__ == 'InterpretLoader'"
    )
    assert "tensorboard" in loaded
    assert not loaded & heavy
    assert not _loaded_by("import lightning_interpret.tensorboard.server") & heavy
