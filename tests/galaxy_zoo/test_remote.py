"""Paths of stores, by fsspec's store in memory: what they are, what they hold, and what they say when they fail."""

import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from s3_server import S3Server, url

from galaxy_zoo import remote, stores
from galaxy_zoo.errors import InputError
from galaxy_zoo.files import atomic_write, sha256_of, write_text
from galaxy_zoo.remote import RemotePath, path_of, remove_files
from galaxy_zoo.stores import until

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder() -> Iterator[RemotePath]:
    yield RemotePath("memory://bucket/folder")
    fsspec.filesystem("memory").store.clear()
    fsspec.filesystem("memory").pseudo_dirs[:] = [""]


def test_a_path_is_on_the_disk_unless_it_is_a_url() -> None:
    assert path_of("a/b c.zip") == Path("a/b c.zip")
    assert path_of("file:///a/b") == Path("/a/b")
    assert path_of("s3://bucket/a/") == RemotePath("s3://bucket/a")
    assert path_of("s3://bucket") == RemotePath("s3://bucket")


UNREADABLE = [
    ("ftp://me:hidden@host/a", "a URL with a password"),
    ("zip://a.jpg::s3://bucket/b.zip", "joined by '::'"),
    ("", "the path is empty"),
    ("file://", "from the root on"),
    ("file://hidden/a", "from the root on"),
    ("s3://", "names no bucket"),
]


def test_a_url_that_is_not_read_is_refused_without_being_repeated(subtests: pytest.Subtests) -> None:
    for text, message in UNREADABLE:
        with subtests.test(url=text):
            with pytest.raises(ValueError, match=message) as caught:
                path_of(text)
            assert "hidden" not in str(caught.value)


def test_a_signature_is_not_shown() -> None:
    path = path_of("https://host/a.zip?X-Amz-Signature=hidden")
    assert (str(path), path.name, path.suffix) == ("https://host/a.zip", "a.zip", ".zip")


def test_files_are_written_whole_listed_read_and_removed(folder: RemotePath) -> None:
    assert not folder.exists()
    assert list(folder.iterdir()) == []
    write_text(folder / "a.txt", "one")
    write_text(folder / "deep" / "b.txt", "two")
    assert {path.name: (path.is_dir(), path.is_file()) for path in folder.iterdir()} == {
        "a.txt": (False, True),
        "deep": (True, False),
    }
    assert sorted(path.relative_to(folder) for path in folder.files()) == ["a.txt", "deep/b.txt"]
    assert (folder / "a.txt").read_text() == "one"
    assert (folder / "a.txt").read_at(1, 2) == b"ne"
    assert (folder / "a.txt").stat().st_size == 3
    assert sha256_of(folder / "a.txt") == "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed"
    remove_files(list(folder.files()))
    assert list(folder.files()) == []
    (folder / "a.txt").unlink()


def test_what_is_interrupted_or_fails_leaves_nothing(folder: RemotePath) -> None:
    write_text(folder / "a.txt", "old")
    with pytest.raises(KeyboardInterrupt), atomic_write(folder / "a.txt") as file:
        file.write(b"new")
        raise KeyboardInterrupt
    assert [path.name for path in folder.iterdir()] == ["a.txt"]
    assert (folder / "a.txt").read_text() == "old"


def test_a_store_that_answers_again_was_only_waited_for(folder: RemotePath) -> None:
    answers = iter([ConnectionError("gone"), TimeoutError("late"), None])

    def ask(store: object, path: str) -> str:
        if error := next(answers):
            raise error
        return path

    assert folder._call(ask) == "/bucket/folder"


def test_a_store_that_stays_away_is_one_line_with_its_url(
    folder: RemotePath, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(stores.RETRY_VARIABLE, "0")

    def ask(store: object, path: str) -> None:
        raise ConnectionError("no\n answer from 'https://host/a?X-Amz-Signature=hidden'")

    with pytest.raises(OSError, match="the store fails for 0 s") as caught:
        folder._call(ask)
    assert caught.value.filename == "memory://bucket/folder"
    assert (
        caught.value.strerror == "the store fails for 0 s (ConnectionError: no answer from 'https://host/a?...')"
    )


def test_who_is_not_waited_for_any_more_stops_asking(folder: RemotePath) -> None:
    asked: list[str] = []

    def ask(store: object, path: str) -> None:
        asked.append(path)
        raise ConnectionError("gone")

    with pytest.raises(OSError, match="the store fails"), until(lambda: len(asked) == 2), until(lambda: False):
        folder._call(ask)
    assert len(asked) == 2


def test_a_time_that_is_no_number_is_an_error(
    folder: RemotePath, monkeypatch: pytest.MonkeyPatch, subtests: pytest.Subtests
) -> None:
    for value in ["soon", "1 minute"]:
        with subtests.test(value=value):
            monkeypatch.setenv(stores.RETRY_VARIABLE, value)
            with pytest.raises(InputError, match=f"SHARD_TOOL_RETRY_S={value}: not a number of seconds"):
                folder.exists()


@pytest.mark.slow
def test_what_cannot_be_read_here_is_one_line(tmp_path: Path, subtests: pytest.Subtests) -> None:
    (tmp_path / "s3fs.py").write_text("raise ImportError('not installed')")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from shard_tool.cli import main; main()"
    for address, message in (
        ("s3://bucket/out", "needs a package that is missing; install it with: pip install s3fs"),
        ("nonsense://bucket/out", "fsspec knows no such protocol"),
    ):
        with subtests.test(address):
            command = [sys.executable, "-c", code, "info", address]
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
            assert (done.returncode, message in done.stderr) == (1, True), done.stderr
            assert "Traceback" not in done.stderr


def test_a_store_that_needs_more_than_a_url_says_so() -> None:
    with pytest.raises(InputError, match="github://: needs settings that a URL does not give"):
        RemotePath("github://host/a").exists()


def test_a_host_that_does_not_answer_is_no_missing_file(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("aiohttp", reason="http:// needs the extra s3")
    with socket.socket() as nobody:  # bound, but it does not listen
        nobody.bind(("127.0.0.1", 0))
        monkeypatch.setenv(stores.RETRY_VARIABLE, "0")
        with pytest.raises(OSError, match="the store fails") as caught:
            RemotePath(f"http://127.0.0.1:{nobody.getsockname()[1]}/a.zip").exists()
    assert not isinstance(caught.value, FileNotFoundError)


def test_two_writers_of_one_file_have_temporary_files_of_their_own(
    folder: RemotePath, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory, renamed = type(fsspec.filesystem("memory")), []
    move = memory.mv
    monkeypatch.setattr(memory, "mv", lambda store, one, two: (renamed.append(one), move(store, one, two)))
    for text in ("one", "two"):
        write_text(folder / "train-000000.tar", text)
    assert len(set(renamed)) == 2
    assert all(re.search(r"/train-000000\.tar\.[0-9a-f]{8}\.part$", name) for name in renamed)
    assert [path.name for path in folder.iterdir()] == ["train-000000.tar"]


def test_a_store_that_says_nothing_is_asked_again_and_given_up_in_time(
    server: S3Server, bucket: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = stores.OPTIONS["s3"]["config_kwargs"]
    monkeypatch.setitem(settings, "read_timeout", 0.2)
    monkeypatch.setenv(stores.RETRY_VARIABLE, "0.3")
    (bucket / "a").write_text("here")
    path = RemotePath(url(bucket / "a"))
    assert path.read_text() == "here"
    with server.silent(), pytest.raises(OSError, match=r"the store fails for .*[Tt]imeout"):
        path.read_text()
    assert path.read_text() == "here"


def test_a_store_that_takes_no_upload_is_given_up_in_time(
    server: S3Server, bucket: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "UPLOAD_S", 0.5)
    monkeypatch.setenv(stores.RETRY_VARIABLE, "0.3")
    path = RemotePath(url(bucket / "a"))
    with server.silent(), pytest.raises(OSError, match=r"the store fails for .*[Tt]imeout"):
        write_text(path, "here")
    write_text(path, "here")
    assert path.read_text() == "here"
