"""Commands answer at once where nothing is to be computed."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

import evaluate
import predict
import shard_tool.cli
import train
import views
from evaluation import cli

SLOW = {"torch", "nvidia.dali", "timm", "pandas", "matplotlib", "scipy"}


LINES = [
    *("--help", "--version", "trian"),
    *("train --help", "train --list", "train", "train shards --fold 5/5", "train shards --set x=1"),
    *("train shards --workers 1000000", "train shards --members 1000000"),
    *("train shards --save-minutes nan", "train shards --stick-to-shard"),
    *("predict --help", "predict run", "predict run shards --views 3"),
    *("evaluate --help", "evaluate run", "evaluate run shards --embedding pca,tsen"),
    *("views --help", "views shards sheet.gif"),
]
USAGES = """
import sys
from click.testing import CliRunner
from evaluation.cli import main
for line in sys.argv[1:]:
    arguments = line.split()
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == (0 if {"--help", "--list", "--version"} & {*arguments} else 2), result.output
print(*sys.modules)
"""


@pytest.mark.slow
def test_help_and_wrong_usage_import_nothing_slow() -> None:
    command, root = [sys.executable, "-c", USAGES, *LINES], Path(__file__).parents[1]
    ended = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    loaded = ended.stdout.splitlines()[-1].split()
    assert "training.command" in loaded
    assert not SLOW & set(loaded)


MOST_SHOWN = 15


def commands() -> Iterator[tuple[click.Group, str]]:
    for group in (cli.main, shard_tool.cli.main):
        yield from ((group, name) for name in group.list_commands(click.Context(group)))


def shown(group: click.Group, name: str, option: str) -> set[str]:
    lines = CliRunner().invoke(group, [name, option]).output.split("Options:\n")[1].splitlines()
    return {line.split()[0] for line in lines if line.startswith("  --")}


def test_help_shows_few_options_and_help_all_every_one(subtests: pytest.Subtests) -> None:
    for group, name in commands():
        with subtests.test(name):
            command = group.get_command(click.Context(group), name)
            assert command is not None
            parameters = command.get_params(click.Context(command))
            every = {each.opts[0] for each in parameters if each.param_type_name == "option"}
            few = shown(group, name, "--help")
            assert len(few) <= MOST_SHOWN
            if "--help-all" in every:
                assert few < shown(group, name, "--help-all") == every
            else:
                assert few == every


def test_a_script_is_the_installed_command_of_its_name() -> None:
    scripts = {"train": train.main, "predict": predict.main, "evaluate": evaluate.main, "views": views.main}
    assert list(scripts) == list(cli.SUMMARIES)
    assert {name: cli.main.get_command(None, name) for name in cli.SUMMARIES} == scripts
