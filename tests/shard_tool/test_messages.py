"""No message of a command names an option that the command does not have."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from prediction.command import predict
from shard_tool.cli import SUMMARIES, main
from shard_tool.staging import PACK_HINT

ROOT = Path(__file__).parents[2] / "shard_tool"
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]+")
NAMED = re.compile(r"shard_tool (\w+)[^;]*?(--[a-z][a-z-]+)|(pack) and (append) with (--resume)")
"""Options after the name of their command, which any command may tell of."""
OTHERS = re.compile(r"\b(?:docker|tar|zip) [^;]*--[a-z-]+")
"""Options of other programs."""
TOLD_BY = {
    "commands/options.py": {"pack", "append"},
    "shards/appending.py": {"append"},
    "shards/claims.py": {"pack"},
    "shards/cluster.py": {"pack", "append", "lint"},
    "shards/indexing.py": {"index"},
    "shards/journal.py": {"pack", "append"},
    "shards/measuring.py": {"objects"},
    "shards/packing.py": {"pack"},
    "shards/parallel.py": {"append", "duplicates", "index", "lint", "objects", "pack", "synth", "unpack"},
    "source/": {"pack", "append"},
}
"""The commands that show the messages of a module; any of all for the rest."""


def options_of(name: str) -> set[str]:
    command = main.get_command(click.Context(main), name)
    assert command is not None
    return {option for parameter in command.params for option in parameter.opts}


def commands_of(module: str) -> set[str]:
    if module.removeprefix("commands/").removesuffix(".py") in SUMMARIES:
        return {module.removeprefix("commands/").removesuffix(".py")}
    return next((names for start, names in TOLD_BY.items() if module.startswith(start)), set(SUMMARIES))


def messages(path: Path) -> Iterator[str]:
    """Every string that is raised or printed, "…" for what is put into it."""
    nodes = list(ast.walk(ast.parse(path.read_text())))
    parts = {id(part) for node in nodes if isinstance(node, ast.JoinedStr) for part in ast.walk(node)}
    for node in nodes:
        if isinstance(node, ast.JoinedStr):
            yield "".join(each.value if isinstance(each, ast.Constant) else "…" for each in node.values)
        elif isinstance(node, ast.Constant) and id(node) not in parts and " " in str(node.value):
            yield str(node.value)


def texts_of_options(path: Path) -> set[str]:
    """What is no message: docstrings, and what is told of an option itself."""
    tree, texts = ast.parse(path.read_text()), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            texts.add(node.value.value)
        if isinstance(node, ast.keyword) and node.arg == "help" and isinstance(node.value, ast.Constant):
            texts.add(node.value.value)
    return texts


def lacking(module: str, message: str) -> set[str]:
    """The options that a message names and a command that shows it lacks."""
    left = OTHERS.sub("", message)
    wrong = set()
    for match in NAMED.finditer(left):
        command, option = (match[1], match[2]) if match[1] else (match[4], match[5])
        if command in SUMMARIES and option not in options_of(command):
            wrong.add(option)
    left = NAMED.sub("", left)
    return wrong | {
        option
        for option in OPTION.findall(left)
        for command in commands_of(module)
        if option not in options_of(command)
    }


def test_a_message_names_only_options_that_the_command_at_hand_has(subtests: pytest.Subtests) -> None:
    for path in sorted(ROOT.rglob("*.py")):
        with subtests.test(path.name):
            module, texts = str(path.relative_to(ROOT)), texts_of_options(path)
            if module != "staging.py":  # whose messages predict.py shows
                found = {message: lacking(module, message) for message in messages(path) if message not in texts}
                assert {message: options for message, options in found.items() if options} == {}


FOUND = [
    ("commands/lint.py", "go on with --resume", {"--resume"}),
    ("commands/lint.py", "finish it with shard_tool pack --resume", set()),
    ("commands/lint.py", "see: shard_tool info --deep", {"--deep"}),
    ("source/tars.py", "give --tree", {"--tree"}),
    ("source/tars.py", "use tar --dereference", set()),
]


def test_such_a_message_is_found(subtests: pytest.Subtests) -> None:
    for module, message, wrong in FOUND:
        with subtests.test(message):
            assert lacking(module, message) == wrong


TOLD_TO_PREDICT = ("source/", "images/", "shards/parallel.py", "shards/packer.py")
ABOUT_VOTES = {"source/contents.py", "source/tables.py"}
"""Modules whose messages with options are about tables, of which predict.py packs none."""


def test_packing_for_a_prediction_names_only_options_of_predict(subtests: pytest.Subtests) -> None:
    options = {option for parameter in predict.params for option in parameter.opts}
    for path in sorted(ROOT.rglob("*.py")):
        module, texts = str(path.relative_to(ROOT)), texts_of_options(path)
        if module.startswith(TOLD_TO_PREDICT) and module not in ABOUT_VOTES:
            with subtests.test(module):
                told = {
                    OTHERS.sub("", NAMED.sub("", PACK_HINT.sub("", message)))
                    for message in messages(path)
                    if message not in texts
                }
                assert [message for message in told if not options.issuperset(OPTION.findall(message))] == []
