import errno
import os

import pytest
import torch

from lightning_interpret.functional.influence.store import Store, write


def parts(count=5, width=3, dtype=torch.float32):
    rows = torch.arange(count * width, dtype=dtype).reshape(count, width)
    return list(zip((torch.arange(count) + 2**40).split(2), rows.split(2), strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
@pytest.mark.parametrize("count", [1, 4, 5])
def test_rows_and_ids_come_back_as_they_were(tmp_path, dtype, count):
    path = str(tmp_path / "folder" / "rows.bin")  # the folder is made
    write(path, iter(parts(count, dtype=dtype)), {"seed": 7})
    store = Store(path)
    assert (len(store), store.header["seed"], store.rows.dtype) == (count, 7, dtype)
    assert torch.equal(store.rows, torch.cat([rows for _, rows in parts(count, dtype=dtype)]))
    assert torch.equal(store.ids, torch.arange(count) + 2**40)
    assert [len(ids) for ids, _ in store.chunks(2)] == [len(ids) for ids, _ in parts(count)]
    assert os.listdir(tmp_path / "folder") == ["rows.bin"]


def test_a_header_may_be_filled_while_the_rows_are_made(tmp_path):
    header = {}

    def made():
        for number, part in enumerate(parts()):
            header["parts"] = number + 1
            yield part

    write(str(tmp_path / "rows.bin"), made(), header)
    assert Store(str(tmp_path / "rows.bin")).header["parts"] == 3


@pytest.mark.parametrize("kept", [0, 1, 15, 16, 40, -8, -1])
def test_a_file_that_was_cut_short_is_never_taken_for_one(tmp_path, kept):
    path = tmp_path / "rows.bin"
    write(str(path), parts(), {})
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ValueError, match="cut short"):
        Store(str(path))


def test_a_file_whose_middle_is_missing_is_refused(tmp_path):
    path = tmp_path / "rows.bin"
    write(str(path), parts(), {})
    path.write_bytes(path.read_bytes()[8:])
    with pytest.raises(ValueError, match="does not hold the 5 rows"):
        Store(str(path))


class Full:
    """A file on a disk that has room for so many writes."""

    def __init__(self, file, writes):
        self.file, self.name, self.left = file, file.name, writes

    def write(self, data):
        if not self.left:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.left -= 1
        return self.file.write(data)

    def close(self):
        self.file.close()


@pytest.mark.parametrize("writes", range(6))
def test_a_full_disk_is_said_and_leaves_the_old_file_alone(tmp_path, monkeypatch, writes):
    from lightning_interpret.functional.influence import store

    path = str(tmp_path / "rows.bin")
    write(path, parts(1), {})
    temporary = store.NamedTemporaryFile
    monkeypatch.setattr(store, "NamedTemporaryFile", lambda **options: Full(temporary(**options), writes))
    with pytest.raises(OSError, match=r"No space left on device\. .*rows\.bin' could not be written") as raised:
        write(path, parts(), {})
    assert raised.value.errno == errno.ENOSPC
    assert os.listdir(tmp_path) == ["rows.bin"]
    assert len(Store(path)) == 1


def test_an_error_of_what_makes_the_rows_leaves_nothing_behind(tmp_path):
    def broken():
        yield parts()[0]
        raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        write(str(tmp_path / "rows.bin"), broken(), {})
    assert os.listdir(tmp_path) == []
