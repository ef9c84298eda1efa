"""How a command ends."""

import errno
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from galaxy_zoo import errors
from galaxy_zoo.console import Command


def run(error: BaseException | None, *arguments: str) -> Result:
    @click.command(cls=Command)
    @click.option("--count", type=int)
    def command(count: int | None) -> None:
        if error is not None:
            raise error
        click.echo("done")

    return CliRunner().invoke(command, list(arguments))


ALL_ERRORS = [each for each in vars(errors).values() if isinstance(each, type)]


def test_each_error_of_the_project_is_one_message_and_exit_code_1(subtests: pytest.Subtests) -> None:
    for kind in ALL_ERRORS:
        with subtests.test(kind=kind):
            assert issubclass(kind, errors.GalaxyZooError)
            result = run(kind("votes.csv, line 3: the id is empty"))
            assert result.exit_code == 1
            assert result.stdout == ""
            assert result.stderr == "Error: votes.csv, line 3: the id is empty\n"


def test_of_a_line_too_long_for_a_message_the_ends_are_shown() -> None:
    @click.command(cls=Command)
    def fails() -> None:
        raise errors.ShardError(f"manifest.json: shard name {'x' * 10**6}; pack again")

    result = CliRunner().invoke(fails)
    assert (result.exit_code, len(result.stderr) < 5_000) == (1, True)
    assert result.stderr.startswith("Error: manifest.json: shard name xxx")
    assert result.stderr.endswith("xxx; pack again\n")


def test_an_error_of_the_file_system_names_the_file_if_any_and_what_to_do() -> None:
    fix = "fix this and run the command again. Finished work is kept.\n"
    for number, files, says in (
        (errno.EACCES, ["/shards"], "/shards: Permission denied"),
        (errno.ENOSPC, [], "No space left on device"),
    ):
        result = run(OSError(number, os.strerror(number), *files))
        assert (result.exit_code, result.stderr) == (1, f"Error: {says}; {fix}")


def raise_as_python_does() -> None:
    raise KeyboardInterrupt


def press_ctrl_c() -> None:
    signal.raise_signal(signal.SIGINT)


def press_ctrl_c_in_a_finaliser() -> None:
    """Python drops an exception there; the command would go on, after a traceback."""

    class Galaxy:
        def __del__(self) -> None:
            press_ctrl_c()

    Galaxy()
    time.sleep(20)


def press_ctrl_c_in_a_library() -> None:
    """SQLite makes an error of its own of the interrupt."""
    database = sqlite3.connect("")
    database.create_function("interrupted", 0, press_ctrl_c)
    database.execute("SELECT interrupted()")


def test_ctrl_c_is_one_word_and_exit_code_130_wherever_it_is_met(subtests: pytest.Subtests) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a library of another test may have set its own
    for pressed in (raise_as_python_does, press_ctrl_c, press_ctrl_c_in_a_finaliser, press_ctrl_c_in_a_library):
        with subtests.test(pressed=pressed.__name__):
            result = CliRunner().invoke(Command("pressed", callback=pressed))
            assert (result.exit_code, result.stderr) == (130, "interrupted\n")


NO_MEMORY = [
    MemoryError(),
    RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB.\nmore"),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 4 bytes."),
    RuntimeError("can't start new thread"),
]


def test_no_memory_is_one_message(subtests: pytest.Subtests) -> None:
    for error in NO_MEMORY:
        with subtests.test(error=error):
            result = run(error)
            assert result.exit_code == 1
            assert result.stderr.startswith("Error: out of memory (")
            assert result.stderr.endswith("); make room. Finished work is kept.\n")
            assert result.stderr.count("\n") == 1


def test_where_memory_runs_out_only_options_of_the_command_are_named() -> None:
    @click.command(cls=Command)
    @click.option("--workers", type=int)
    def command(workers: int | None) -> None:
        raise MemoryError

    result = CliRunner().invoke(command, [])
    assert result.stderr.endswith("; fewer --workers, or make room. Finished work is kept.\n")


def test_a_full_temporary_folder_is_a_message_that_names_the_way_out() -> None:
    database = sqlite3.connect("", isolation_level=None)
    database.execute("PRAGMA max_page_count = 2")
    with pytest.raises(sqlite3.Error) as full:
        database.execute("CREATE TABLE big AS SELECT randomblob(100000)")
    result = run(full.value)
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: temporary file: database or disk is full; it lies in $TMPDIR")


def test_a_bug_keeps_its_traceback() -> None:
    assert isinstance(run(ZeroDivisionError()).exception, ZeroDivisionError)


def test_a_reader_that_closed_its_pipe_gets_no_message() -> None:
    result = run(BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE)))
    assert result.exit_code == 1
    assert result.output == ""


def test_a_good_command_exits_0_and_wrong_usage_2() -> None:
    assert run(None).exit_code == 0
    result = run(None, "--count", "many")
    assert result.exit_code == 2
    assert "--count" in result.stderr


def test_every_error_is_drawn_in_the_tree_of_the_docstring() -> None:
    assert errors.__doc__ is not None
    assert all(each.__name__ in errors.__doc__ for each in ALL_ERRORS)


@pytest.mark.slow
def test_closed_standard_streams_change_no_exit_code(tmp_path: Path, subtests: pytest.Subtests) -> None:
    for closed in ("2>&-", "1>&-", "0<&- 1>&- 2>&-"):
        with subtests.test(closed=closed):
            out = tmp_path / closed.replace("&", "")
            command = f"'{sys.executable}' -m shard_tool synth '{out}' --count 3 {closed}"
            assert subprocess.run(command, shell=True, check=False).returncode == 0
            assert (out / "synthetic.txt").exists()


@pytest.mark.slow
def test_a_full_standard_output_is_named_and_a_full_standard_error_changes_nothing(
    shards: Path, subtests: pytest.Subtests
) -> None:
    def run_with(arguments: str, streams: str) -> subprocess.CompletedProcess[str]:
        command = f"'{sys.executable}' -m shard_tool {arguments} {streams}"
        return subprocess.run(command, shell=True, check=False, capture_output=True, text=True)

    for arguments in (f"info {shards}", f"lint {shards} --workers 1", "lint --help", "--help"):
        with subtests.test(arguments=arguments):
            said = run_with(arguments, "").stdout
            full = run_with(arguments, ">/dev/full")
            assert full.returncode == 1
            assert full.stderr.splitlines()[-1].startswith("Error: standard output: No space left on device;")
            unheard = run_with(arguments, "2>/dev/full")
            assert (unheard.returncode, unheard.stdout) == (0, said)
            assert run_with(arguments, ">/dev/full 2>/dev/full").returncode == 1
