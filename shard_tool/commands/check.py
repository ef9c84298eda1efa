"""`shard_tool check`: check that a submission is in Kaggle's format, and score it."""

from pathlib import Path

import click

from galaxy_zoo.console import Command, ends_at_ctrl_c, local_path
from galaxy_zoo.tree import load_tree
from shard_tool.commands.options import echo, tree_option


@click.command(cls=Command)
@click.argument("file", type=local_path)
@tree_option
@click.option("--ids", type=local_path, help="Expected ids: a benchmark CSV, or a list.  [default: any]")
@click.option("--truth", type=local_path, help="CSV of true votes to score against.  [default: none]")
def check(*, file: Path, tree: str, ids: Path | None, truth: Path | None) -> None:
    """Check and score the submission FILE.

    Header, ids and values must be right; predictions that look broken only cause a warning.

    \b
    Examples:
      shard_tool check submission.csv --ids central_pixel_benchmark.csv
      shard_tool check submission.csv --truth truth.csv
    """
    with ends_at_ctrl_c():
        from galaxy_zoo.checking import read_reference
        from galaxy_zoo.submission import read_submission, warnings_about, warnings_about_rows
    asked = load_tree(tree)
    reference = read_reference(ids, truth, asked)
    table = read_submission(file, asked, expected_ids=reference.ids)
    votes = table.to_numpy()
    echo(f"{file}: {len(table):,} galaxies; header, ids and values are right")
    of_rows = warnings_about_rows(len(table), asked) if reference.is_empty else []
    for warning in [*of_rows, *warnings_about(votes, asked)]:
        echo(f"warning: {warning}", err=True)
    for line in reference.describe(table.index.tolist(), votes, asked):
        echo(line)
