import os

import pytest
import torch
from full_disk import room_for

from lightning_interpret.functional.store import collect, read, write


def parts(count=5, width=3, dtype=torch.float32):
    rows = torch.arange(count * width, dtype=dtype).reshape(count, width)
    ids, labels = torch.arange(count) + 2**40, -torch.arange(count)
    return list(zip(rows.split(2), ids.split(2), labels.split(2), strict=True))


def assert_holds(store, count, dtype):
    rows, ids, labels = (torch.cat(each) for each in zip(*parts(count, dtype=dtype), strict=True))
    assert (len(store), store.rows.dtype) == (count, dtype)
    assert torch.equal(store.rows, rows)
    assert torch.equal(store.ids, ids)
    assert torch.equal(store.columns[1], labels)
    assert [len(each) for each, _ in store.chunks(2)] == [len(each) for each in ids.split(2)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
@pytest.mark.parametrize("count", [1, 4, 5])
def test_rows_and_columns_come_back_as_they_were(tmp_path, dtype, count):
    path = tmp_path / "folder" / "rows.bin"  # the folder is made
    assert_holds(write(path, iter(parts(count, dtype=dtype)), {"seed": 7}), count, dtype)
    assert_holds(read(path), count, dtype)
    assert read(path).header == {"seed": 7}
    assert os.listdir(tmp_path / "folder") == ["rows.bin"]


@pytest.mark.parametrize("held", [0, 30, 60, 1000])
def test_what_is_collected_is_in_memory_or_in_a_file_that_goes_with_it(held):
    header = {}
    store = collect(filled(header), header, held)
    assert_holds(store, 5, torch.float32)
    assert store.header == {"parts": 3}
    assert (store.path is None) == (held >= 60)
    if store.path is not None:
        path, rows = store.path, store.rows
        assert path.exists()
        del store
        assert not path.exists()
        assert rows[4, 2] == 14  # what is mapped stays readable


def filled(header):
    for number, part in enumerate(parts()):
        header["parts"] = number + 1
        yield part


def test_a_header_may_be_filled_while_the_rows_are_made(tmp_path):
    header = {}
    assert write(tmp_path / "rows.bin", filled(header), header).header == {"parts": 3}


@pytest.mark.parametrize("make", [lambda path: write(path, (), {"a": 1}), lambda path: collect((), {"a": 1}, 9)])
def test_no_rows_are_a_store_too(tmp_path, make):
    store = make(tmp_path / "rows.bin")
    assert (len(store), store.header) == (0, {"a": 1})


@pytest.mark.parametrize("kept", [0, 1, 15, 16, 40, -8, -1])
def test_a_file_that_was_cut_short_is_never_taken_for_one(tmp_path, kept):
    path = tmp_path / "rows.bin"
    write(path, parts(), {})
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ValueError, match="cut short"):
        read(path)


def test_a_file_whose_middle_is_missing_is_refused(tmp_path):
    path = tmp_path / "rows.bin"
    write(path, parts(), {})
    path.write_bytes(path.read_bytes()[8:])
    with pytest.raises(ValueError, match="does not hold the 5 rows"):
        read(path)


@pytest.mark.parametrize("room", [0, 20, 70, 120])
def test_a_full_disk_is_said_and_leaves_the_old_file_alone(tmp_path, room):
    path = tmp_path / "rows.bin"
    write(path, parts(1), {})
    with room_for(room), pytest.raises(OSError, match=r"Could not write .*make room, or choose another `folder`"):
        write(path, parts(), {})
    assert os.listdir(tmp_path) == ["rows.bin"]
    assert len(read(path)) == 1


def test_an_error_of_what_makes_the_rows_leaves_nothing_behind(tmp_path):
    def broken():
        yield parts()[0]
        raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        write(tmp_path / "rows.bin", broken(), {})
    assert os.listdir(tmp_path) == []
