"""What lies on the disk while a command runs: in Python's order, of any size, and never left behind."""

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shard_tool.shards.repeated_ids import SeenIds
from shard_tool.source.scratch import open_scratch, rows, to_bytes, to_text

NAMES = st.text(st.characters(codec=None), max_size=8)  # lone surrogates too, as in file names that are no UTF-8


@given(st.lists(NAMES, max_size=20))
def test_texts_come_back_in_pythons_order(names: list[str]) -> None:
    database = open_scratch("name (name BLOB)")
    database.executemany("INSERT INTO name VALUES (?)", ((to_bytes(name),) for name in names))
    assert [to_text(name) for (name,) in rows(database, "SELECT name FROM name ORDER BY name")] == sorted(names)


@pytest.mark.slow
def test_more_rows_than_the_cache_holds_leave_no_file_even_after_a_kill(tmp_path: Path) -> None:
    code = (
        "import os, signal; from shard_tool.source.scratch import open_scratch, rows;"
        "database = open_scratch('big (data BLOB)');"
        "database.executemany('INSERT INTO big VALUES (randomblob(100000))', ((),) * 400);"
        "assert sum(len(data) for data, in rows(database, 'SELECT data FROM big ORDER BY data')) == 40_000_000;"
        "print(*(os.path.realpath(f'/proc/self/fd/{fd}') for fd in os.listdir('/proc/self/fd') if fd > '2'),"
        "flush=True);"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    command = [sys.executable, "-c", code]
    environment = {"TMPDIR": str(tmp_path), "PYTHONPATH": "."}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == -9, done.stderr
    assert str(tmp_path) in done.stdout  # it was there ...
    assert not list(tmp_path.iterdir())  # ... without a name


def test_ids_that_stand_again_are_named_with_their_first_shard() -> None:
    seen = SeenIds()
    seen.add("train", "b.tar", ["1", "2", "1"])
    seen.add("train", "a.tar", ["2", "3"])
    seen.add("test", "t.tar", ["3"])
    assert list(seen.again("train")) == [("b.tar", "2", "a.tar"), ("b.tar", "1", "b.tar")]
    assert list(seen.again("test")) == []
