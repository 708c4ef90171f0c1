import errno
import json
import random
from io import FileIO

import pytest
from records import arbitrary_row, row

from lightning_interpret.explanations import AttributionRow
from lightning_interpret.report import jsonl


@pytest.fixture
def path(tmp_path):
    return tmp_path / "rows.jsonl"


def test_rows_come_back_in_order(path):
    rows = [arbitrary_row(seed) for seed in range(30)]
    rows += [row("寿司 a\u2028b \ud800")]
    jsonl.append(path, (sample.to_dict() for sample in rows[:1]))
    jsonl.append(path, [])
    jsonl.append(path, (sample.to_dict() for sample in rows[1:]))
    assert [AttributionRow.from_dict(data) for data in jsonl.read(path)] == rows
    assert "寿司" in path.read_text("utf-8")


@pytest.mark.parametrize("bad", [{"a": float("nan")}, {"a": object()}])
def test_a_row_that_is_not_json_writes_nothing(path, bad):
    jsonl.append(path, [{"a": 1}])
    before = path.read_bytes()
    with pytest.raises((ValueError, TypeError), match="JSON"):
        jsonl.append(path, [{"a": 2}, bad])
    assert path.read_bytes() == before


def test_a_full_disk_leaves_the_file_as_it_was(path, monkeypatch):
    jsonl.append(path, [{"a": 1}])
    before = path.read_bytes()
    real, room = FileIO.write, 100

    class Full(FileIO):
        def write(self, data):
            nonlocal room
            if not room:
                raise OSError(errno.ENOSPC, "No space left on device")
            taken = real(self, data[:room])
            room -= taken
            return taken

    monkeypatch.setattr(jsonl, "FileIO", Full)
    with pytest.raises(OSError, match=r"No space left on device.*rows\.jsonl") as caught:
        jsonl.append(path, [{"a": "x" * 60}, {"b": "y" * 60}])
    assert caught.value.errno == errno.ENOSPC
    assert path.read_bytes() == before


def test_short_writes_are_continued(path, monkeypatch):
    real = FileIO.write

    class Slow(FileIO):
        def write(self, data):
            return real(self, data[:7])

    monkeypatch.setattr(jsonl, "FileIO", Slow)
    jsonl.append(path, [{"a": "x" * 60}])
    assert list(jsonl.read(path)) == [{"a": "x" * 60}]


@pytest.mark.parametrize("size", [10, 200_000])
def test_a_crash_at_any_byte_loses_only_the_last_record(path, size):
    rows = [{"id": i, "text": "x" * size} for i in range(3)]
    jsonl.append(path, rows)
    whole = path.read_bytes()
    for cut in random.Random(0).sample(range(len(whole)), 20):
        path.write_bytes(whole[:cut])
        complete = whole[:cut].count(b"\n")
        assert list(jsonl.read(path)) == rows[:complete]
        jsonl.append(path, [{"id": "new"}])
        assert list(jsonl.read(path)) == [*rows[:complete], {"id": "new"}]


@pytest.mark.parametrize("content", [b"PK\x03\x04 weights", b'{"a": 1}\nnotes of mine'])
def test_a_file_of_another_kind_is_not_cut(path, content):
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"rows\.jsonl does not hold one JSON object a line"):
        jsonl.append(path, [{"a": 1}])
    assert path.read_bytes() == content


@pytest.mark.parametrize("line", [b"{half", b"", b"3", b'{"a": "\xff"}'])
def test_a_bad_line_is_named(path, line):
    path.write_bytes(b'{"a": 1}\n' + line + b"\n" + json.dumps({"a": 3}).encode() + b"\n")
    rows = jsonl.read(path)
    assert next(rows) == {"a": 1}
    with pytest.raises(ValueError, match=r"rows\.jsonl:2: "):
        next(rows)


def test_a_path_that_cannot_be_opened_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere/rows\.jsonl"):
        jsonl.append(tmp_path / "nowhere" / "rows.jsonl", [{}])
