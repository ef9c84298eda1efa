"""Files that are whole or not there."""

import errno
import hashlib
import os
import threading
from pathlib import Path
from queue import Queue

import pytest
from hypothesis import given
from hypothesis import strategies as st

from galaxy_zoo.errors import OutputError
from galaxy_zoo.files import (
    TEMPORARY_SUFFIX,
    atomic_write,
    check_outputs,
    exclusive,
    in_turn,
    in_use,
    kind_of,
    may_wait,
    sha256_of,
    write_text,
)


def test_the_name_appears_only_when_the_file_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "out.bin"
    with atomic_write(path) as file:
        file.write(b"galaxy")
        assert not path.exists()
    assert path.read_bytes() == b"galaxy"
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_while_writing_leaves_all_as_it_was(tmp_path: Path, subtests: pytest.Subtests) -> None:
    (older := tmp_path / "older").write_text("old")
    for error in (ValueError, OSError, KeyboardInterrupt):
        for path in (older, tmp_path / "new"):
            with subtests.test(error=error, path=path.name):
                with pytest.raises(error), atomic_write(path) as file:
                    file.write(b"half")
                    raise error
                assert list(tmp_path.iterdir()) == [older]
                assert older.read_text() == "old"


def test_an_error_names_the_file_that_it_is_about(tmp_path: Path, subtests: pytest.Subtests) -> None:
    for filename, named in [(None, "out.bin"), ("s3://bucket/a", "s3://bucket/a")]:
        with subtests.test(filename=filename, named=named):
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


def test_a_name_taken_by_a_folder_is_an_os_error_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(OSError):
        write_text(tmp_path / "out", "text")
    assert [each.name for each in tmp_path.iterdir()] == ["out"]


def test_a_folder_that_is_not_there_is_an_os_error(tmp_path: Path, subtests: pytest.Subtests) -> None:
    for folder in ["none", "a_file"]:
        with subtests.test(folder=folder):
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


def test_a_lock_that_is_a_link_is_refused_and_its_target_stays(tmp_path: Path) -> None:
    (precious := tmp_path / "precious.txt").write_text("precious")
    (lock := tmp_path / "lock").symlink_to("precious.txt")
    for held in (exclusive(lock, busy=""), in_use(lock), in_turn(lock, note="", on_wait=print)):
        with pytest.raises(OutputError, match="lock is a symbolic link"), held:
            pass
        assert precious.read_text() == "precious"


def test_a_temporary_file_that_is_a_link_is_replaced_and_its_target_stays(tmp_path: Path) -> None:
    (tmp_path / "precious.txt").write_text("precious")
    (tmp_path / f"out{TEMPORARY_SUFFIX}").symlink_to("precious.txt")
    write_text(tmp_path / "out", "new")
    assert (tmp_path / "precious.txt").read_text() == "precious"
    assert (tmp_path / "out").read_text() == "new"
    assert not (tmp_path / "out").is_symlink()


def test_an_output_that_is_an_input_under_any_name_is_refused(tmp_path: Path, subtests: pytest.Subtests) -> None:
    (tmp_path / "in").write_text("input")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("in")
    (tmp_path / "hard link").hardlink_to(tmp_path / "in")
    for other in ("in", "folder/../in", "link", "hard link"):
        with subtests.test(other), pytest.raises(OutputError, match="is read by this command"):
            check_outputs([tmp_path / "out", tmp_path / other], [tmp_path / "in"])
    check_outputs([tmp_path / "out"], [tmp_path / "in", tmp_path / "missing"])


def test_two_outputs_of_one_file_are_refused_also_where_it_is_not_there_yet(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("out")
    with pytest.raises(OutputError, match="both would be written"):
        check_outputs([tmp_path / "out", tmp_path / "link"], [])


def test_only_what_a_shell_opened_may_be_read_where_a_pipe_would_wait(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").touch()
    reader, writer = os.pipe()
    try:
        assert may_wait(tmp_path / "pipe")
        assert may_wait(Path("/dev/zero"))
        assert not may_wait(tmp_path / "file")
        assert not may_wait(tmp_path / "nothing")
        assert not may_wait(Path(f"/dev/fd/{reader}"))
    finally:
        os.close(reader)
        os.close(writer)


def test_what_lies_in_the_place_of_a_file_is_said(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("nowhere")
    assert kind_of(tmp_path) == "a folder, not a file"
    assert kind_of(tmp_path / "pipe") == "a pipe, a socket or a device, not a file"
    assert kind_of(tmp_path / "link") == "a link to nothing"
    assert kind_of(tmp_path / "none") == "missing"
