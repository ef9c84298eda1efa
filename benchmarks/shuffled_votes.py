"""Write a table of votes with its rows dealt out anew: what a network must not be able to learn.

    python -m benchmarks.shuffled_votes training_solutions_rev1.csv shuffled.csv --seed 0
    shard_tool pack images_training_rev1 shards-shuffled --labels shuffled.csv

A network trained on these shards may at best learn the mean votes. If it scores better than them, the fold leaks.
"""

from pathlib import Path

import click
import numpy as np
import pandas as pd


@click.command(context_settings={"show_default": True})
@click.argument("labels", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--seed", default=0, help="Of the shuffle.")
def main(labels: Path, out: Path, seed: int) -> None:
    """Write to OUT the ids of LABELS, in order, with the votes of other ids."""
    table = pd.read_csv(labels, dtype=str, keep_default_na=False)
    order = np.random.default_rng(seed).permutation(len(table))
    table.iloc[:, 1:] = table.iloc[order, 1:].to_numpy()
    table.to_csv(out, index=False)
    click.echo(f"{out}: {len(table)} rows")


if __name__ == "__main__":
    main()
