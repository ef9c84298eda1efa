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
from tqdm import tqdm

from galaxy_zoo import errors
from galaxy_zoo.console import Command, counted, progress, shown


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


def test_names_are_shown_on_one_line_without_what_a_terminal_obeys(subtests: pytest.Subtests) -> None:
    for name in ["a\nb", "a\x1b[31mb", "a\x07b", "a\u202eb", "a\x85b", "a\udc80b"]:
        with subtests.test(name=name):
            assert shown(name).isprintable()
            assert shown(name).startswith("a\\")


def test_names_of_any_language_are_shown_as_they_are() -> None:
    assert shown("Ceci n'est pas une 星系 🌌.jpg") == "Ceci n'est pas une 星系 🌌.jpg"


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


def test_only_one_thing_is_in_the_singular() -> None:
    assert [counted(n, "view") for n in (0, 1, 2, 1000)] == ["0 views", "1 view", "2 views", "1,000 views"]
    assert [counted(n, "galaxy", "galaxies") for n in (1, 2)] == ["1 galaxy", "2 galaxies"]


def test_progress_into_a_file_or_a_pipe_is_whole_lines_that_end_with_the_total(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with progress(total=20, unit="steps", desc="train", done=3) as outer:
        with progress(total=9, unit="B", desc="fetch") as inner:
            inner.update(9)
        with progress(total=9, unit="steps", desc="hidden", shown=False) as hidden:
            hidden.update(9)
        outer.set_description("epoch 2/2", refresh=False)
        for _ in range(17):
            outer.update()
        tqdm.write("epoch 2: done", file=sys.stderr)
    with progress(total=5, unit="steps", desc="nothing done"):
        pass
    with progress(total=None, unit="images", desc="index") as unknown:
        unknown.update(7)
    shown = capsys.readouterr().err
    assert not set("\r\x1b") & set(shown)
    begun, _, fetched, said, trained, _, _, indexed = shown.splitlines()
    assert begun.startswith("train: 15 %, 3 of 20, ")
    assert fetched.startswith("fetch: 100 %, 9.00 of 9.00, ")
    assert said == "epoch 2: done"
    assert indexed.startswith("index: 7, ") and indexed.endswith(" images/s")
    assert trained.startswith("epoch 2/2: 100 %, 20 of 20, ")
