"""`shard_tool synth`: write synthetic galaxies in the layout of the Kaggle download.

A sample depends only on the seed and its index in the split, so the files are the same for any number of workers. The
tables of votes are written last: a folder without them is an interrupted run.
"""

from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import numpy.typing as npt

from galaxy_zoo.console import Command, ends_at_ctrl_c, local_path
from galaxy_zoo.cores import num_cores
from galaxy_zoo.errors import OutputError
from galaxy_zoo.files import TEMPORARY_SUFFIX, write_text
from galaxy_zoo.tree import DecisionTree, load_tree
from shard_tool.commands.options import echo, workers_option
from shard_tool.shards.parallel import Tick, run_tasks
from shard_tool.synthetic.population import draw_galaxy
from shard_tool.synthetic.voters import vote

Votes = npt.NDArray[np.float64]

FIRST_ID, LAST_ID = 100018, 999967
"""Range of ids that lie in both of Kaggle's ranges (train 100008..999967, test 100018..999996)."""

MAX_SAMPLES = LAST_ID - FIRST_ID + 1
CHUNK_SAMPLES = 64
TREE_NAME = "gz2-kaggle"
MARKER_NAME = "synthetic.txt"


@dataclass(frozen=True)
class Split:
    """A folder of images and its table of votes; `number` gives each split its own random streams."""

    number: int
    folder: str
    table: str


TRAIN = Split(0, "images_training_rev1", "training_solutions_rev1.csv")
TEST = Split(1, "images_test_rev1", "synthetic_test_truth.csv")


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """A unit of work: samples of a split from `start` on."""

    out: Path
    seed: int
    split: Split
    start: int
    ids: tuple[int, ...]


@click.command(cls=Command)
@click.argument("out", type=local_path)
@click.option(
    "--count", type=click.IntRange(0), default=1000, show_default=True, help="Number of training galaxies."
)
@click.option("--test", type=click.IntRange(0), default=0, show_default=True, help="Number of test galaxies.")
@click.option(
    "--seed",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Seed; the same seed gives the same bytes.",
)
@workers_option
@click.option("--overwrite", is_flag=True, help="Replace an earlier run's galaxies in OUT.  [default: refuse]")
def synth(out: Path, *, count: int, test: int, seed: int, workers: int | None, overwrite: bool) -> None:
    """Write synthetic galaxies and their votes to OUT, in the layout of the Kaggle download.

    Simulated volunteers walk the decision tree for every galaxy. The votes of the test galaxies go to
    OUT/synthetic_test_truth.csv, so that a submission can be scored.

    \b
    Example:
      shard_tool synth galaxies --count 2000 --test 500 --seed 1
    """
    if count + test > MAX_SAMPLES:
        raise click.UsageError(f"--count and --test together are {count + test}, but there are {MAX_SAMPLES} ids")
    write_galaxies(out, count=count, test=test, seed=seed, workers=workers or num_cores(), overwrite=overwrite)
    echo(f"{out / TRAIN.folder}: {count} galaxies, votes in {TRAIN.table}")
    echo(f"{out / TEST.folder}: {test} galaxies, votes in {TEST.table}")


def write_galaxies(
    out: Path, *, count: int, test: int, seed: int, workers: int = 1, overwrite: bool = False
) -> None:
    """Write `count` training and `test` test galaxies.

    Raises:
        OutputError: `out` is not empty and `overwrite` is off, or a worker process died.
        OSError: `out` cannot be written or the disk is full.
    """
    _prepare(out, overwrite=overwrite)
    train_ids, test_ids = draw_ids(count, test, seed)
    chunks = [*_chunks(out, seed, TRAIN, train_ids), *_chunks(out, seed, TEST, test_ids)]
    votes = _draw_all(chunks, workers)
    tree = load_tree(TREE_NAME)
    for split, ids in ((TRAIN, train_ids), (TEST, test_ids)):
        write_text(out / split.table, format_votes({id_: votes[id_] for id_ in ids}, tree))


def draw_ids(count: int, test: int, seed: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the ids of the training and the test samples, by index: disjoint, and the same for larger sets."""
    shuffled = np.random.default_rng([seed, 2]).permutation(np.arange(FIRST_ID, LAST_ID + 1))
    train, rest = shuffled[:count], shuffled[::-1][:test]
    return tuple(train.tolist()), tuple(rest.tolist())


def draw_chunk(chunk: Chunk, tick: Tick) -> dict[int, Votes]:
    """Draw and write the images of a chunk; return the votes by id."""
    with ends_at_ctrl_c():
        import cv2
    cv2.setNumThreads(0)
    tree = load_tree(TREE_NAME)
    votes = {}
    for index, id_ in enumerate(chunk.ids, chunk.start):
        jpeg, votes[id_] = draw_sample(chunk.seed, chunk.split, index, tree)
        (chunk.out / chunk.split.folder / f"{id_}.jpg").write_bytes(jpeg)
        tick()
    return votes


def draw_sample(seed: int, split: Split, index: int, tree: DecisionTree) -> tuple[bytes, Votes]:
    """Return the JPEG and the votes of one sample, each from its own random stream."""
    from shard_tool.synthetic.rendering import encode, render

    streams = np.random.SeedSequence([seed, split.number, index]).spawn(3)
    truth, pixels, voters = (np.random.default_rng(stream) for stream in streams)
    galaxy = draw_galaxy(truth)
    return encode(render(galaxy, pixels)), vote(galaxy, tree, voters)


def format_votes(votes: dict[int, Votes], tree: DecisionTree) -> str:
    """Return the table of votes in Kaggle's format: ids ascending, plain decimals of up to nine digits."""
    lines = [",".join([tree.id_column, *tree.columns])]
    lines += [",".join([str(id_), *map(_decimal, votes[id_].tolist())]) for id_ in sorted(votes)]
    return "\n".join(lines) + "\n"


def _decimal(value: float) -> str:
    return f"{value:.9f}".rstrip("0").rstrip(".")


def _prepare(out: Path, *, overwrite: bool) -> None:
    """Make the folders and remove an earlier run's files, tables first; touch nothing else.

    Only a folder with the marker of an earlier run is overwritten: a real download looks the same otherwise.
    """
    marker = out / MARKER_NAME
    begun = MARKER_NAME + TEMPORARY_SUFFIX  # the only file if a run was killed early
    if out.is_dir() and any(entry.name != begun for entry in out.iterdir()):
        if not overwrite:
            raise OutputError(f"{out} is not empty; give another folder, or --overwrite to replace its galaxies")
        if not marker.exists():
            raise OutputError(
                f"{out}: holds files that synth did not make (no {MARKER_NAME}); give another folder"
            )
    for split in (TRAIN, TEST):
        if (out / split.folder).is_symlink():
            raise OutputError(f"{out / split.folder} is a symbolic link, which synth did not make; remove it")
    out.mkdir(parents=True, exist_ok=True)
    write_text(marker, "Made by shard_tool synth, which may overwrite this folder.\n")
    for split in (TRAIN, TEST):
        (out / split.table).unlink(missing_ok=True)
    for split in (TRAIN, TEST):
        (out / split.folder).mkdir(parents=True, exist_ok=True)
        for image in (out / split.folder).glob("*.jpg"):
            image.unlink()


def _chunks(out: Path, seed: int, split: Split, ids: tuple[int, ...]) -> list[Chunk]:
    starts = range(0, len(ids), CHUNK_SAMPLES)
    return [
        Chunk(out=out, seed=seed, split=split, start=start, ids=ids[start : start + CHUNK_SAMPLES])
        for start in starts
    ]


def _draw_all(chunks: list[Chunk], workers: int) -> dict[int, Votes]:
    """Draw all chunks; return the votes by id."""
    total = sum(len(chunk.ids) for chunk in chunks)
    votes: dict[int, Votes] = {}
    for drawn in run_tasks(draw_chunk, chunks, workers=workers, total=total, description="synth"):
        votes |= drawn
    return votes
