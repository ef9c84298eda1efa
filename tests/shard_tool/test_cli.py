"""The group and its help."""

import pytest
from kaggle_download import run

from galaxy_zoo.version import __version__
from shard_tool.cli import main


def test_the_version_is_the_projects() -> None:
    assert run("--version").stdout == f"shard_tool, version {__version__}\n"


@pytest.mark.parametrize("command", sorted(main.commands))
def test_every_command_shows_an_example_and_every_default(command: str) -> None:
    text = run(command, "--help").stdout
    assert "xample" in text
    assert f"shard_tool {command} " in text
    for option in main.commands[command].params:
        if option.param_type_name == "option" and option.name != "help":
            assert option.help, option.name
            assert "[default: " in option.help or option.show_default, option.name


def test_an_unknown_command_exits_2() -> None:
    assert run("unwrap").exit_code == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ("append", "s3://bucket/source", "shards"),
        ("append", "source", "s3://bucket/shards"),
        ("duplicates", "s3://bucket/shards"),
        ("index", "s3://bucket/tars"),
        ("preview", "s3://bucket/shards", "sheet.png"),
        ("synth", "s3://bucket/demo"),
        ("unpack", "s3://bucket/shards", "out"),
    ],
)
def test_a_command_for_the_disk_refuses_a_url(arguments: tuple[str, ...]) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert "//bucket/" in result.stderr
    assert "this has to be on the disk; copy it here first" in " ".join(result.stderr.split())
