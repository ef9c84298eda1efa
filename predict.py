"""Predict votes with all members of some runs, and write a submission; or check and score one.

    python predict.py runs/quick shards --out submission.csv --views 16
    python predict.py runs/a runs/b shards --blend weights --details details.parquet
    python predict.py runs/quick images/ --out votes.csv
    python predict.py --check submission.csv --ids central_pixel_benchmark.csv --score truth.csv
    torchrun --nproc-per-node 8 predict.py runs/quick shards --views 16

Options -> runs and shards -> parts, kept until the files are written -> blend -> files. Killed at any moment, the
same command goes on with the part it was at.
"""

if __name__ == "__main__":  # what is below takes seconds
    from galaxy_zoo.starting import end_at_ctrl_c

    end_at_ctrl_c()

from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd
import torch
from click.core import ParameterSource

from galaxy_zoo.checking import Reference, read_reference
from galaxy_zoo.console import Command, cache_options, check_local, machine_options, path_or_url
from galaxy_zoo.errors import RunError
from galaxy_zoo.files import sha256_of
from galaxy_zoo.fold import Fold
from galaxy_zoo.manifest import MANIFEST_NAME, Manifest, Shard, read_manifest
from galaxy_zoo.remote import AnyPath
from galaxy_zoo.submission import read_submission, warnings_about
from galaxy_zoo.tree import DecisionTree, load_tree
from galaxy_zoo.view import View
from galaxy_zoo.votes import Floats
from galaxy_zoo.walk import describe_walk
from pipeline.augment import FixedView, FixedViews
from pipeline.cache import Cache, ShardSet, open_set
from pipeline.device import choose_device
from pipeline.loader import Decoding, Loader, Sampling
from pipeline.options import parse_views, stamps_options, views_options
from pipeline.shards import Samples, shards_of
from pipeline.stamps import STREAM, StampMode, StampPolicy
from prediction.blend import BLENDS
from prediction.job import Job
from prediction.outputs import Outputs
from prediction.parts import Spool
from prediction.passes import find_members
from shard_tool.staging import stage
from training.ranks import Ranks, started_by_torchrun
from training.run import Run, load_run

LINES_SHOWN = 20
CHECKING = {"paths", "submission", "tree", "ids", "score", "device", "threads"}
"""The parameters that --check goes with; device and threads do no harm."""


@dataclass(frozen=True)
class Reading:
    """How galaxies are read. threads: None is all cores."""

    views: tuple[FixedView, ...]
    batch_size: int
    device: torch.device
    threads: int | None = None
    stamps: StampPolicy = STREAM


@dataclass(frozen=True)
class Shards:
    """A split of a set of shards, and how it is read; see `prediction.job.Source`."""

    shard_set: ShardSet
    manifest: Manifest
    split: str
    reading: Reading

    @property
    def batch_size(self) -> int:
        """Galaxies a batch."""
        return self.reading.batch_size

    @property
    def device(self) -> torch.device:
        """Where batches are."""
        return self.reading.device

    @property
    def shards(self) -> tuple[Shard, ...]:
        """Those of the split."""
        return shards_of(self.shard_set.path, self.manifest, self.split)

    @property
    def training_shards(self) -> tuple[Shard, ...]:
        """All that there are."""
        return shards_of(self.shard_set.path, self.manifest, "train")

    @property
    def key(self) -> dict[str, Any]:
        """Everything that decides the bytes of a prediction."""
        return {
            "shards": self.manifest.set_sha256,
            "split": self.split,
            "views": [asdict(view) for view in self.reading.views],
            "batch_size": self.batch_size,
            "device": self.device.type,
        }

    def open(self, shards: Sequence[Shard], view: View) -> Loader:
        """The batches of some shards, in their order."""
        self.shard_set.need_objects(view)
        samples = Samples(self.shard_set.folder, self.manifest, shards)
        reading = self.reading
        decoding = Decoding(device=reading.device, num_threads=reading.threads, stamps=reading.stamps)
        sampling = Sampling(batch_size=reading.batch_size, shuffle=False)
        return Loader(samples, FixedViews(view, reading.views), sampling, decoding)

    def unseen(self, run: Run) -> frozenset[str]:
        """The names of the training shards that were held out from the members of a run.

        Raises:
            RunError: it was trained on other shards, so what it has seen is not known.
        """
        if run.data.manifest_sha256 != sha256_of(self.shard_set.folder / MANIFEST_NAME):
            raise RunError(
                f"{run.folder} was not trained on {self.shard_set.path} as it is now, so which galaxies it has not "
                "seen is not known; give the shards it was trained on"
            )
        try:
            fold = Fold.named(run.fold)
        except ValueError as error:
            raise RunError(f"{run.folder}/run.json: damaged: fold {run.fold!r}; train again") from error
        if fold is None:
            return frozenset()
        _, held_out = fold.split(self.training_shards)
        return frozenset(shard.name for shard in held_out)

    def training_votes(self) -> pd.DataFrame:
        """The votes of the training shards by id."""
        samples = Samples(self.shard_set.folder, self.manifest, self.training_shards)
        return pd.DataFrame(samples.votes, index=samples.keys)


@dataclass(frozen=True)
class Options:
    """What to predict by which runs, how to blend, where to write, and the files to compare it with."""

    runs: tuple[Path, ...]
    source: AnyPath
    split: str
    out_of_fold: bool
    blend: str
    resize: bool
    outputs: Outputs
    ids: Path | None
    truth: Path | None

    @property
    def splits(self) -> set[str]:
        """The splits that are read: a blend is fitted on the training galaxies."""
        return {self.split} if self.blend == "uniform" else {self.split, "train"}

    @cached_property
    def is_images(self) -> bool:
        """Whether the source is images: a file, or a folder with neither a manifest nor tars; no URL."""
        if not isinstance(self.source, Path):
            return False
        is_folder = self.source.is_dir() and not (self.source / MANIFEST_NAME).exists()
        return self.source.is_file() or (is_folder and not any(self.source.glob("*.tar")))

    def check_usage(self) -> None:
        """Raise click.UsageError for options that exclude each other."""
        fits = self.out_of_fold or self.blend != "uniform"
        if self.is_images and fits:
            raise click.UsageError(
                f"{self.source}: --out-of-fold and --blend need the shards trained on, not images"
            )
        if self.resize and not self.is_images:
            raise click.UsageError("--resize is for images; shards are resized by shard_tool pack")
        if self.out_of_fold and (self.blend != "uniform" or self.outputs.embeddings):
            raise click.UsageError("--out-of-fold goes with neither --blend nor --embeddings")


def predict(options: Options, reading: Reading, cache: Cache, ranks: Ranks) -> int:
    """Predict and write everything that is asked for; returns how many images could not be used."""
    runs = [load_run(path) for path in options.runs]
    members, spool = find_members(runs), Spool(options.outputs.submission)
    options.outputs.check()
    reference = read_reference(options.ids, options.truth, runs[0].data.tree)
    with ExitStack() as stack:
        if ranks.is_first:
            stack.enter_context(spool.locked())
        if options.is_images:
            source, num_rejected = _stage(options, runs, spool, ranks)
        else:
            source, num_rejected = stack.enter_context(open_set(options.source, cache)), 0
        manifest = read_manifest(source.folder)
        check_fit(runs[0], source.path, manifest)
        ranks.check_same(manifest.set_sha256, f"the manifest of {source.path}")
        source.need(*options.splits)
        shards = Shards(source, manifest, "test" if options.is_images else options.split, reading)
        job = Job(members, shards, options.outputs, options.out_of_fold, options.blend)
        if ranks.is_first and (num_parts := spool.begin(job.key)):
            click.echo(f"going on with {num_parts} finished parts in {spool.folder}", err=True)
        ranks.wait()
        predicted, lines = job.run(spool, ranks)
        if predicted is not None:
            spool.end()
            lines.append(f"{options.outputs.submission}: {_summary(job, len(predicted.ids), len(reading.views))}")
            if options.is_images:
                pairs = zip(predicted.ids[:LINES_SHOWN], predicted.votes, strict=False)
                lines += [f"{sample_id}: {describe_walk(votes, manifest.tree)}" for sample_id, votes in pairs]
            click.echo("\n".join(lines))
            _compare(predicted.ids.tolist(), predicted.votes, runs, reference, manifest.tree)
            if reference.ids is not None:
                read_submission(options.outputs.submission, manifest.tree, expected_ids=reference.ids)
    return num_rejected


def _stage(options: Options, runs: Sequence[Run], spool: Spool, ranks: Ranks) -> tuple[ShardSet, int]:
    """Pack images for the time of the prediction, and measure them where a run's view is framed by the galaxy.

    Names those that cannot be used and returns their number.
    """
    folder, num_rejected = spool.folder / "images", 0
    if ranks.is_first:
        data = runs[0].data
        is_framed = any(run.recipe.view.framing != "image" for run in runs)
        packed = stage(options.source, folder, data.tree, data.image_px, resize=options.resize, measures=is_framed)
        for each in packed.rejected.first(LINES_SHOWN):
            click.echo(f"not predicted: {each.file}: {each.reason}", err=True)
        if len(packed.rejected) > LINES_SHOWN:
            click.echo(f"... and {len(packed.rejected) - LINES_SHOWN:,} more", err=True)
        if not options.resize and any(" pixels" in each.reason for each in packed.rejected):
            click.echo("images of another size than trained on are scaled with --resize", err=True)
        num_rejected = len(packed.rejected)
    return ShardSet(options.source, folder), ranks.agree(num_rejected)


def check_fit(run: Run, path: AnyPath, manifest: Manifest) -> None:
    """Refuse shards of another tree or another size of image than the run was trained on."""
    if manifest.tree != run.data.tree:
        raise RunError(
            f"{run.folder} was trained on the tree {run.data.tree.name!r}, {path} holds {manifest.tree.name!r} "
            "or another version of it; predict shards packed with the same tree"
        )
    if manifest.image_px != run.data.image_px:
        raise RunError(
            f"{run.folder} was trained on images of {run.data.image_px} px, {path} holds {manifest.image_px}; "
            "predict images of the same size"
        )


def _summary(job: Job, num_galaxies: int, num_views: int) -> str:
    counts = Counter(member.run.recipe.name for member in job.members)
    recipes = " + ".join(f"{count} {name}" for name, count in counts.items())
    return f"{num_galaxies:,} galaxies, {recipes}, {num_views} views, blend {job.blend}"


def _check_submission(path: Path, runs: Sequence[Run], tree: DecisionTree, reference: Reference) -> None:
    """Check a submission that is there already, and score it where the truth is given."""
    table = read_submission(path, tree, expected_ids=reference.ids)
    click.echo(f"{path}: {len(table):,} galaxies, as they should be: header, ids and values")
    _compare(table.index.tolist(), table.to_numpy(), runs, reference, tree)


def _compare(
    ids: Sequence[str], votes: Floats, runs: Sequence[Run], reference: Reference, tree: DecisionTree
) -> None:
    """Say what looks broken, and the score where the truth is given."""
    means = runs[0].data.vote_mean if runs else None
    training_mean = None if means is None else np.array([np.nan if each is None else each for each in means])
    for warning in warnings_about(votes, tree, training_mean):
        click.echo(f"warning: {warning}", err=True)
    for line in reference.describe(ids, votes, tree):
        click.echo(line)


@click.command(cls=Command, context_settings={"show_default": True, "max_content_width": 100})
@click.argument("paths", type=path_or_url, nargs=-1, metavar="RUN... SHARDS|IMAGES")
@click.option("--out", default="submission.csv", type=click.Path(path_type=Path), help="The CSV to write.")
@views_options
@click.option("--split", default="test", type=click.Choice(["test", "train"]), help="Which shards.")
@click.option(
    "--out-of-fold", is_flag=True, help="Predict each training galaxy by the members that have not seen it."
)
@click.option(
    "--blend",
    default="uniform",
    type=click.Choice(list(BLENDS)),
    help="Mean of all members, of the best k on the held-out fold, or weights fitted on it.",
)
@click.option("--details", type=click.Path(path_type=Path), help="Parquet of votes and spreads.  [default: none]")
@click.option("--embeddings", type=click.Path(path_type=Path), help="Parquet of embeddings.  [default: none]")
@click.option("--resize", is_flag=True, help="Scale images of another size than trained on.  [default: refuse]")
@click.option(
    "--check", "submission", type=click.Path(path_type=Path), help="Check this submission instead of predicting."
)
@click.option("--tree", default=None, help="Decision tree of --check.  [default: RUN's, or gz2-kaggle]")
@click.option(
    "--ids", type=click.Path(path_type=Path), help="Ids there must be: a benchmark CSV, or a list.  [default: any]"
)
@click.option("--score", type=click.Path(path_type=Path), help="CSV of true votes to score with.  [default: none]")
@click.option("--batch-size", default=128, type=click.IntRange(1), help="Galaxies a batch.")
@machine_options
@stamps_options
@cache_options
@click.pass_context
def main(
    ctx: click.Context,
    *,
    paths: tuple[AnyPath, ...],
    out: Path,
    views: int,
    zooms: str,
    split: str,
    out_of_fold: bool,
    blend: str,
    details: Path | None,
    embeddings: Path | None,
    resize: bool,
    submission: Path | None,
    tree: str | None,
    ids: Path | None,
    score: Path | None,
    batch_size: int,
    device: str,
    threads: int | None,
    stamps: StampMode,
    stamps_folder: Path | None,
    cache_folder: Path,
    cache_gb: float | None,
) -> None:
    """Predict galaxies with all members of all RUNs, and blend members and test-time views.

    The last path is what to predict: SHARDS, a folder or the URL of one in an object store, or IMAGES (one, a folder or
    an archive), which have to be of the size trained on. With --check all paths are RUNs, whose mean votes the
    submission is compared with.

    Killed at any moment, the same command goes on where it was; torchrun shares the work out. Exit codes: 0 done, 1
    an input or output is bad, or an image could not be used, 2 wrong usage.

    \b
    Examples:
      python predict.py runs/quick shards --out submission.csv --views 16
      python predict.py runs/a runs/b shards --blend best-k
      python predict.py runs/quick galaxy.jpg --out votes.csv
      python predict.py --check submission.csv --ids central_pixel_benchmark.csv
    """
    if submission is not None:
        given = [name for name in ctx.params if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE]
        if wrong := sorted(set(given) - CHECKING):
            raise click.UsageError(f"--check predicts nothing, so it goes without --{wrong[0].replace('_', '-')}")
        runs = [load_run(check_local(path)) for path in paths]
        checked = runs[0].data.tree if runs and tree is None else load_tree(tree or "gz2-kaggle")
        _check_submission(submission, runs, checked, read_reference(ids, score, checked))
        return
    if len(paths) < 2 or tree is not None:
        raise click.UsageError("give one RUN or more, then SHARDS or IMAGES; --tree is for --check")
    split = "train" if out_of_fold else split
    outputs = Outputs(out, details, embeddings)
    folders = tuple(check_local(path) for path in paths[:-1])
    options = Options(folders, paths[-1], split, out_of_fold, blend, resize, outputs, ids, score)
    options.check_usage()
    test_views, where = parse_views(views, zooms), choose_device(device)
    policy = StampPolicy(stamps, folder=stamps_folder, reused=False)
    with started_by_torchrun(where) as ranks:
        reading = Reading(test_views, batch_size, ranks.device(where), ranks.threads(threads), policy)
        num_unusable = predict(options, reading, Cache(cache_folder, cache_gb), ranks)
    ctx.exit(1 if num_unusable else 0)


if __name__ == "__main__":
    main()
