"""The group and its help."""

import subprocess
import sys

import click
import pytest
from kaggle_download import run

from galaxy_zoo.version import __version__
from shard_tool.cli import SUMMARIES, main

SLOW_TO_IMPORT = {"pandas", "cv2", "PIL", "scipy", "torch", "distributed", "fsspec"}


def command_named(name: str) -> click.Command:
    command = main.get_command(click.Context(main), name)
    assert command is not None
    return command


def test_the_version_is_the_projects() -> None:
    assert run("--version").stdout == f"shard_tool, version {__version__}\n"


def test_every_command_shows_an_example_last_and_every_default(subtests: pytest.Subtests) -> None:
    for name in SUMMARIES:
        with subtests.test(name=name):
            text = run(name, "--help").stdout
            _, examples = text.split("Options:")[0].split("Example", 1)
            assert all(line.startswith(f"    shard_tool {name} ") for line in examples.strip().splitlines()[1:])
            assert f"shard_tool {name} " in examples
            for option in command_named(name).params:
                if isinstance(option, click.Option) and option.name not in {"help", "help_all"}:
                    assert option.help, option.name
                    assert "[default: " in option.help or option.show_default, option.name


def test_the_summaries_are_the_first_lines_of_the_commands_own_help() -> None:
    first = {name: (command_named(name).help or "").splitlines()[0] for name in SUMMARIES}
    assert first == SUMMARIES


USAGES = """
import sys
from click.testing import CliRunner
from shard_tool.cli import SUMMARIES, main
runner = CliRunner()
assert runner.invoke(main).exit_code == 2
for name in SUMMARIES:
    assert runner.invoke(main, [name, "--help"]).exit_code == 0, name
    assert runner.invoke(main, [name, "--wrong"]).exit_code == 2, name
print(*sys.modules)
"""


@pytest.mark.slow
def test_help_and_wrong_usage_import_nothing_slow() -> None:
    ended = subprocess.run([sys.executable, "-c", USAGES], capture_output=True, text=True, check=True)
    loaded = ended.stdout.split()
    assert "shard_tool.commands.pack" in loaded
    assert not SLOW_TO_IMPORT & set(loaded)


def test_an_unknown_command_exits_2() -> None:
    assert run("unwrap").exit_code == 2


NEED_THE_DISK = [
    ("append", "s3://bucket/source", "shards"),
    ("append", "source", "s3://bucket/shards"),
    ("check", "s3://bucket/submission.csv"),
    ("duplicates", "s3://bucket/shards"),
    ("fetch", "s3://bucket/kaggle"),
    ("index", "s3://bucket/tars"),
    ("preview", "shards", "s3://bucket/sheet.png"),
    ("synth", "s3://bucket/demo"),
    ("unpack", "s3://bucket/shards", "out"),
]


def test_a_command_for_the_disk_refuses_a_url(subtests: pytest.Subtests) -> None:
    for arguments in NEED_THE_DISK:
        with subtests.test(arguments=arguments):
            result = run(*arguments)
            assert result.exit_code == 2
            assert "//bucket/" in result.stderr
            assert "this has to be on the disk; copy it here first" in " ".join(result.stderr.split())
