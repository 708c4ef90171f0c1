"""Event files that are cut or damaged, as a full disk or a killed run leaves them: what can be read is shown."""

import json

import boards
import pytest
from records import row

TAG = "interpret/saliency/probe_0"
READERS = ["python", pytest.param("rust", marks=pytest.mark.skipif(boards.rust() is None, reason="no Rust reader"))]


def write(folder, damage):
    """Write a run of two steps and hand the bytes of its file on to be damaged, beside a run that is whole."""
    with boards.Events(folder / "whole") as whole:
        whole.row(row("the soup was good"), step=10)
    with boards.Events(folder / "broken") as broken:
        broken.row(row("the soup was good"), step=10)
        broken.flush()
        (path,) = (folder / "broken").iterdir()
        size = path.stat().st_size
        broken.row(row("the soup was bad"), step=20)
    path.write_bytes(damage(path.read_bytes(), size))
    return {"whole": whole}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(
    "damage",
    [lambda data, size: data[: size + 40], lambda data, size: data[:size] + b"\0\xff<script>" * 99],
    ids=["cut", "garbage"],
)
def test_what_stands_before_the_damage_is_shown_and_other_runs_too(tmp_path, reader, damage):
    runs = write(tmp_path, damage)
    board = boards.backend(tmp_path, reader, runs=runs)
    boards.wait_for(lambda: {each["run"] for each in board.get("tags")[1]["tags"]} == {"whole", "broken"})
    for run in ("whole", "broken"):
        status, record = board.get("record", run=run, tag=TAG, step=10)
        assert status == 200
        assert record["payload"]["records"] == [json.loads(json.dumps(row("the soup was good").to_dict()))]
    assert [step["step"] for step in board.get("steps", run="broken", tag=TAG)[1]] == [10]


@pytest.mark.parametrize("reader", READERS)
def test_a_file_that_holds_no_events_hides_no_run(tmp_path, reader):
    runs = write(tmp_path, lambda data, size: b"no events at all" * 50)
    board = boards.backend(tmp_path, reader, runs=runs)
    assert [each["run"] for each in board.get("tags")[1]["tags"]] == ["whole"]
    assert board.get("record", run="whole", tag=TAG, step=10)[0] == 200
    assert board.get("steps", run="broken", tag=TAG)[0] in (200, 404)
