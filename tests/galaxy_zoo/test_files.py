"""Files that are whole or not there."""

import errno
import hashlib
import threading
from pathlib import Path
from queue import Queue

import pytest
from hypothesis import given
from hypothesis import strategies as st

from galaxy_zoo.errors import OutputError
from galaxy_zoo.files import atomic_write, exclusive, in_turn, in_use, sha256_of, write_text


def test_the_name_appears_only_when_the_file_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "out.bin"
    with atomic_write(path) as file:
        file.write(b"galaxy")
        assert not path.exists()
    assert path.read_bytes() == b"galaxy"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError, OSError, KeyboardInterrupt])
def test_an_error_while_writing_leaves_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    with pytest.raises(error), atomic_write(tmp_path / "out.bin") as file:
        file.write(b"half")
        raise error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("filename", "named"), [(None, "out.bin"), ("s3://bucket/a", "s3://bucket/a")], ids=["none", "another file"]
)
def test_an_error_names_the_file_that_it_is_about(filename: str | None, named: str, tmp_path: Path) -> None:
    with pytest.raises(OSError) as caught, atomic_write(tmp_path / "out.bin"):
        raise OSError(errno.EIO, "it fails", filename)
    assert str(caught.value.filename).endswith(named)


def test_two_writers_of_a_contested_file_do_not_touch_each_other(tmp_path: Path) -> None:
    path = tmp_path / "out.bin"
    with atomic_write(path, is_contested=True) as first:
        first.write(b"fir")
        with atomic_write(path, is_contested=True) as second:
            second.write(b"second")
        assert path.read_bytes() == b"second"
        first.write(b"st")
    assert path.read_bytes() == b"first"
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_while_writing_leaves_the_older_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "out.txt"
    write_text(path, "old")
    with pytest.raises(ValueError), atomic_write(path) as file:
        file.write(b"half")
        raise ValueError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_name_taken_by_a_folder_is_an_os_error_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(OSError):
        write_text(tmp_path / "out", "text")
    assert [each.name for each in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("folder", ["none", "a_file"])
def test_a_folder_that_is_not_there_is_an_os_error(tmp_path: Path, folder: str) -> None:
    (tmp_path / "a_file").write_text("")
    with pytest.raises(OSError) as caught:
        write_text(tmp_path / folder / "out", "text")
    assert caught.value.filename == str(tmp_path / folder / "out")


def test_text_is_written_as_utf8(tmp_path: Path) -> None:
    write_text(tmp_path / "out.txt", "├── Γαλαξίας\n")
    assert (tmp_path / "out.txt").read_bytes() == "├── Γαλαξίας\n".encode()


@given(st.binary(max_size=1000))
def test_sha256_is_that_of_the_bytes(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.mktemp("sha") / "file"
    path.write_bytes(data)
    assert sha256_of(path) == hashlib.sha256(data).hexdigest()


def test_a_lock_keeps_others_out_until_its_block_ends(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    with exclusive(lock, busy="mine"), pytest.raises(OutputError, match="mine"), exclusive(lock, busy="mine"):
        pass
    with exclusive(lock, busy="mine"):
        pass


def test_who_waits_for_a_turn_is_told_by_whom_and_gets_it(tmp_path: Path) -> None:
    lock, told, order = tmp_path / "lock", Queue[str](), []

    def second() -> None:
        with in_turn(lock, note="the second", on_wait=told.put):
            order.append("second")

    with in_turn(lock, note="the first", on_wait=told.put):
        thread = threading.Thread(target=second)
        thread.start()
        assert told.get(timeout=60) == "the first"
        order.append("first")
    thread.join()
    assert (order, told.empty()) == (["first", "second"], True)
    assert lock.read_text() == "the second"


def test_a_file_that_several_use_is_nobodys_alone(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    with in_use(lock):
        with in_use(lock):
            pass
        with pytest.raises(OutputError, match="in use"), exclusive(lock, busy="in use"):
            pass
    with exclusive(lock, busy="in use"):
        pass
