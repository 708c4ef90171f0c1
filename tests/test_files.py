import errno
import os

import pytest
from full_disk import room_for

from lightning_interpret.files import file_digest, replacing


def test_a_file_takes_the_place_when_it_is_whole(tmp_path):
    path = tmp_path / "new" / "file.bin"  # the folder is made
    for data in (b"one", b"two" * 100_000):
        with replacing(path) as file:
            file.write(data)
        assert path.read_bytes() == data
        assert os.listdir(path.parent) == ["file.bin"]
    plain = tmp_path / "plain"
    plain.write_bytes(b"")
    assert path.stat().st_mode == plain.stat().st_mode


@pytest.mark.parametrize("room", [0, 10, 9_000, 299_999])
@pytest.mark.parametrize("pieces", [1, 300])
def test_a_full_disk_is_said_and_leaves_what_was_there(tmp_path, room, pieces):
    path = tmp_path / "file.bin"
    path.write_bytes(b"before")

    def fill():
        with replacing(path, "buy a disk") as file:
            for _ in range(pieces):
                file.write(b"x" * (300_000 // pieces))

    said = r"Could not write the file \(.*nothing of it is kept: buy a disk.*file\.bin"
    with room_for(room), pytest.raises(OSError, match=said) as raised:
        fill()
    assert raised.value.errno == errno.EFBIG
    assert path.read_bytes() == b"before"
    assert os.listdir(tmp_path) == ["file.bin"]


@pytest.mark.parametrize("error", [KeyError("gone"), OSError(errno.ENOSPC, "of another file")])
def test_another_error_keeps_its_words_and_leaves_what_was_there(tmp_path, error):
    path = tmp_path / "file.bin"
    path.write_bytes(b"before")

    def fail():
        with replacing(path) as file:
            file.write(b"after")
            raise error

    with pytest.raises(type(error)) as raised:
        fail()
    assert raised.value is error
    assert path.read_bytes() == b"before"
    assert os.listdir(tmp_path) == ["file.bin"]


def test_a_folder_that_cannot_be_made_is_said(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match=r"Could not write the file .*make room, or name another folder.*x\.bin"):
        replacing(tmp_path / "file" / "x.bin").__enter__()


def test_a_digest_is_that_of_the_bytes(tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_bytes(b"x" * (1 << 20) + b"y")
    other.write_bytes(b"x" * (1 << 20) + b"y")
    assert file_digest(one) == file_digest(other)
    other.write_bytes(b"x" * (1 << 20) + b"z")
    assert file_digest(one) != file_digest(other)
