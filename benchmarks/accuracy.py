"""Measure how well recipes predict galaxies they have not seen, all on the same fold of the same galaxies.

    python -m benchmarks.accuracy kaggle plain small_data:4 small_data:4:partly --partly partly --out accuracy

KAGGLE is a folder with the challenge's files as downloaded; --partly is a folder with images and a table of some of
their votes. An entry is NAME, NAME:MEMBERS or NAME:MEMBERS:partly: a recipe's name or TOML file, the number of members,
and whether to train on the partly labelled galaxies too. It runs unattended; if started again, it resumes where it
stopped and repeats nothing that is finished.

The fold is held out from the fully labelled galaxies in every entry. Scores are Kaggle's RMSE of the blend of all
members over the test-time views, with an interval from resampling galaxies (bootstrap), and the ratio to the first
entry on the same resamples. Each member's weights are those of its best epoch on the same fold.
"""

import os
import shlex
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch

from benchmarks.measuring import RESULTS, ROOT, provenance, write_json
from ensemble.model import predict_views
from ensemble.recipe import load_recipe
from galaxy_zoo.console import Command, options
from galaxy_zoo.errors import RunError
from galaxy_zoo.manifest import MANIFEST_NAME
from galaxy_zoo.votes import Floats
from pipeline.augment import FixedViews, rotations_and_flips
from pipeline.device import choose_device
from pipeline.loader import Decoding, Loader, Sampling
from pipeline.shards import Samples, open_shards
from prediction.members import find_members
from training.checkpoint import Position, positions
from training.logbook import read_log
from training.run import RUN_NAME, Run, load_run

LABELLED_SHARDS, PARTLY_SHARDS = 10, 4
RESAMPLES = 2000
SEED = 0
STDERR = 2


@dataclass(frozen=True)
class Entry:
    """What to train: a recipe, the number of members, and whether to use the partly labelled galaxies too."""

    recipe: str
    members: int
    partly: bool

    @property
    def label(self) -> str:
        """Name of its files."""
        return f"{Path(self.recipe).stem}-{self.members}" + ("-partly" if self.partly else "")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Where to work, and how to train and score. epochs: None: as the recipe says."""

    out: Path
    fold: str
    epochs: int | None
    views: int
    device: str

    def shards(self, entry: Entry) -> Path:
        """Return the folder of the shards that an entry is trained on."""
        return self.out / ("both" if entry.partly else "labelled")

    def run(self, entry: Entry) -> Path:
        """Return the folder of an entry's run."""
        fold = self.fold.replace("/", "-of-")
        return self.out / f"{entry.label}-fold-{fold}" / (f"{self.epochs}-epochs" if self.epochs else "run")


def parse_entry(text: str) -> Entry:
    """Return the entry that NAME, NAME:MEMBERS or NAME:MEMBERS:partly stands for.

    Raises:
        click.BadParameter: the text is none of these.
    """
    name, _, rest = text.partition(":")
    members, _, partly = rest.partition(":")
    if not (members or "1").isdecimal() or int(members or 1) < 1 or partly not in {"", "partly"}:
        raise click.BadParameter(f"{text!r} is not NAME, NAME:MEMBERS or NAME:MEMBERS:partly")
    load_recipe(name)
    return Entry(name, int(members or 1), bool(partly))


def make_shards(kaggle: Path, partly: Path | None, out: Path) -> None:
    """Pack the fully labelled galaxies, and a second set with the partly labelled ones appended."""
    labelled, both = out / "labelled", out / "both"
    if not (labelled / MANIFEST_NAME).exists():
        _run("-m", "shard_tool", "pack", kaggle, labelled, "--shards", LABELLED_SHARDS, "--resume")
    if partly is None or (both / "whole").exists():
        return
    shutil.rmtree(both, ignore_errors=True)
    shutil.copytree(labelled, both)
    tables = [argument for table in sorted(partly.glob("*.csv")) for argument in ("--labels", table)]
    _run("-m", "shard_tool", "append", partly, both, *tables, "--missing-votes", "--shards", PARTLY_SHARDS)
    (both / "whole").touch()


def train(plan: Plan, entry: Entry) -> None:
    """Train an entry, or resume it; do nothing if it is finished."""
    folder = plan.run(entry)
    going = (folder / RUN_NAME).exists()
    if going and is_finished(load_run(folder)):
        return
    epochs = ("--epochs", plan.epochs) if plan.epochs else ()
    options = ("--recipe", entry.recipe, "--members", entry.members, "--fold", plan.fold, "--seed", SEED)
    where = ("--out", folder, "--device", plan.device, *(["--resume"] if going else []))
    _run(ROOT / "train.py", plan.shards(entry), *options, *epochs, *where)


def is_finished(run: Run) -> bool:
    """Return whether every member has its last checkpoint."""
    newest = [positions(run.member_folder(member))[-1:] for member in range(run.members)]
    return all(each == [Position(run.recipe.training.epochs, 0)] for each in newest)


def split(plan: Plan, entry: Entry) -> tuple[Samples, Samples]:
    """Return the galaxies to train on, and those to score on.

    Raises:
        RunError: a galaxy is in both sets.
    """
    samples = open_shards(plan.out / "labelled", fold=plan.fold, held_out=True)
    trained = open_shards(plan.shards(entry), fold=plan.fold)
    if np.isin(samples.keys, trained.keys).any():
        raise RunError(f"{plan.shards(entry)}: holds galaxies of the fold; remove this folder and run again")
    return trained, samples


def predict(plan: Plan, entry: Entry, samples: Samples) -> Floats:
    """Return the votes of the members' best weights, shape (members, views, galaxies, answers)."""
    device, run = choose_device(plan.device), load_run(plan.run(entry))
    members = [member.load(device) for member in find_members([run])]
    views = FixedViews(run.recipe.view, rotations_and_flips(plan.views))
    with Loader(samples, views, Sampling(batch_size=64, shuffle=False), Decoding(device=device)) as loader:
        parts = [predict_views(members, batch.views).cpu() for batch in loader.epoch(0)]
    votes: Floats = torch.cat(parts, dim=2).numpy()
    return votes


def squared_errors(predicted: Floats, votes: Floats) -> Floats:
    """Return the mean squared error of each galaxy, shape (galaxies,); the root of its mean is Kaggle's RMSE."""
    errors: Floats = np.square(predicted.astype(np.float64) - votes).mean(axis=1)
    return errors


def resampled_rmse(errors: Floats) -> Floats:
    """Return RMSEs of galaxies drawn with replacement, shape (RESAMPLES,); equal lengths give equal draws."""
    draws = np.random.default_rng(SEED).integers(len(errors), size=(RESAMPLES, len(errors)))
    return np.asarray(np.sqrt(errors[draws].mean(axis=1)))


def interval(values: Floats) -> list[float]:
    """Return the ends of the central 95 % of the values."""
    return [round(float(each), 6) for each in np.percentile(values, [2.5, 97.5])]


def score(predicted: Floats, samples: Samples, reference: Floats | None) -> tuple[dict[str, Any], Floats]:
    """Return the scores of an entry, as in its file, and its error for each galaxy."""
    blend = squared_errors(predicted.mean(axis=(0, 1)), samples.votes)
    draws = resampled_rmse(blend)
    found = {
        "rmse": _rmse(blend),
        "rmse_interval": interval(draws),
        "rmse_one_view": _rmse(squared_errors(predicted[:, 0].mean(axis=0), samples.votes)),
        "rmse_of_the_first_members": [
            _rmse(squared_errors(predicted[:count].mean(axis=(0, 1)), samples.votes))
            for count in range(1, len(predicted) + 1)
        ],
        "rmse_of_each_member_one_view": [_rmse(squared_errors(each[0], samples.votes)) for each in predicted],
    }
    if reference is not None:
        found["ratio_to_first"] = round(float(np.sqrt(blend.mean() / reference.mean())), 5)
        found["ratio_interval"] = interval(draws / resampled_rmse(reference))
    return found, blend


def speed(run: Path, images: int) -> dict[str, Any]:
    """Return the time of all epochs, without validation and saving, and the median rate of all members together.

    Seconds are computed from the rates; the rate of a resumed epoch is that of its last part.

    Args:
        run: the folder of the run.
        images: number of images trained on in an epoch, over all members.
    """
    lines = read_log(run / "member-00")
    rates = np.array([line["images_per_s"] for line in lines])
    return {
        "epochs": len(lines),
        "seconds": round(float((images / rates).sum()), 1),
        "images_per_s": round(float(np.median(rates)), 1),
    }


def measure(plan: Plan, entry: Entry, reference: Floats | None) -> tuple[dict[str, Any], Floats]:
    """Train and score an entry; return the content of its file, and its error for each galaxy."""
    train(plan, entry)
    trained, samples = split(plan, entry)
    started = time.perf_counter()
    predicted = predict(plan, entry, samples)
    seconds = time.perf_counter() - started
    found, errors = score(predicted, samples, reference)
    run = load_run(plan.run(entry))
    all_labelled = open_shards(plan.out / "labelled", "train")
    also = " + partly labelled" if entry.partly else ""
    result = {
        "recipe": run.recipe.name,
        "data": f"{len(samples):,} of {len(all_labelled):,} galaxies held out{also}",
        "fold": plan.fold,
        "members": entry.members,
        "views": plan.views,
        **found,
        **speed(plan.run(entry), entry.members * len(trained)),
        "predict_seconds": round(seconds, 1),
        **provenance(choose_device(plan.device).type),
        "versions": dict(run.versions),
    }
    return result, errors


measuring_options = options(
    click.option(
        "--out", default="accuracy", type=click.Path(path_type=Path), help="Folder for shards, recipes and runs."
    ),
    click.option(
        "--results", default=RESULTS, type=click.Path(path_type=Path), help="Folder for the scores, as JSON."
    ),
    click.option("--fold", default="4/5", help="Fold k/K of the labelled galaxies to hold out."),
    click.option("--views", default=16, type=click.IntRange(1), help="Number of test-time views."),
    click.option(
        "--device", default="auto", type=click.Choice(["auto", "cpu", "cuda"]), help="auto: cuda if there."
    ),
)
"""Options of this benchmark and of benchmarks.ablations."""


@click.command(cls=Command, context_settings={"show_default": True, "max_content_width": 100})
@click.argument("kaggle", type=click.Path(exists=True, path_type=Path))
@click.argument("entries", nargs=-1, required=True)
@click.option("--partly", type=click.Path(exists=True, path_type=Path), help="Folder of partly labelled galaxies.")
@click.option("--epochs", type=click.IntRange(1), help="Number of epochs, to try it out.  [default: the recipe's]")
@measuring_options
def main(
    *,
    kaggle: Path,
    entries: tuple[str, ...],
    partly: Path | None,
    out: Path,
    results: Path,
    fold: str,
    epochs: int | None,
    views: int,
    device: str,
) -> None:
    """Train the ENTRIES on the folder KAGGLE one after the other, and score them on one fold.

    \b
    Example:
      python -m benchmarks.accuracy kaggle plain serrano_2 small_data:4:partly --partly partly
    """
    parsed = [parse_entry(text) for text in entries]
    if partly is None and any(entry.partly for entry in parsed):
        raise click.UsageError("an entry ends in :partly: give their folder with --partly")
    plan = Plan(out=out, fold=fold, epochs=epochs, views=views, device=device)
    out.mkdir(parents=True, exist_ok=True)
    results.mkdir(parents=True, exist_ok=True)
    make_shards(kaggle, partly, out)
    reference = None
    for entry in parsed:
        result, errors = measure(plan, entry, reference)
        reference = errors if reference is None else reference
        suffix = "" if fold == "4/5" else f"-fold-{fold.replace('/', '-of-')}"
        path = results / f"accuracy-{entry.label}{suffix}.json"
        write_json(path, result)
        low, high = result["rmse_interval"]
        ratio = f", {result['ratio_to_first']:.3f} of the first" if "ratio_to_first" in result else ""
        click.echo(f"{entry.label}: RMSE {result['rmse']:.5f} ({low:.5f} to {high:.5f}){ratio}, {path}")


def _rmse(errors: Floats) -> float:
    return round(float(np.sqrt(errors.mean())), 6)


def _run(*arguments: object) -> None:
    """Run a Python program of this project; send all its output to stderr.

    Raises:
        RunError: the program fails.
    """
    command = [sys.executable, *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, stdout=STDERR, check=False)
    if done.returncode:
        raise RunError(f"{shlex.join(command)} ended with exit code {done.returncode}; its message is above")


if __name__ == "__main__":
    main()
