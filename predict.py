"""Predict votes with all members of a run, and write a submission.

python predict.py runs/quick shards --out submission.csv --views 16
"""

from pathlib import Path

import click
import numpy as np
import torch

from ensemble.blend import uniform_blend
from ensemble.checkpoint import load_state
from ensemble.member import Predictor, build_network
from ensemble.run import BEST_NAME, Run, load_run
from galaxy_zoo.console import Command, progress
from galaxy_zoo.errors import RunError
from galaxy_zoo.files import check_can_write
from galaxy_zoo.manifest import read_manifest
from galaxy_zoo.submission import warnings_about, write_submission
from galaxy_zoo.votes import Floats
from pipeline.augment import FixedViews, rotations_and_flips
from pipeline.calibration import tune
from pipeline.device import choose_device
from pipeline.loader import Loader
from pipeline.shards import open_split
from pipeline.store import StoreMode, StorePolicy


def load_members(run: Run, device: torch.device) -> list[Predictor]:
    """The members of a run with their best weights.

    Raises:
        RunError: a member has no usable checkpoint.
    """
    members = []
    for index in range(run.members):
        path = run.member_folder(index) / BEST_NAME
        if not path.exists():
            raise RunError(f"{path}: no checkpoint yet; train at least one epoch: python train.py ... --resume")
        network = build_network(run.recipe, run.data.tree, pretrained=False)
        try:
            network.load_state_dict(load_state(path)["weights"])
        except (KeyError, RuntimeError) as error:
            reason = str(error).partition("\n")[0]
            raise RunError(
                f"{path}: not the weights of a member of {run.folder} ({reason}); train again"
            ) from error
        members.append(Predictor(network, device))
    return members


def predict(members: list[Predictor], loader: Loader) -> tuple[list[str], Floats]:
    """The ids and the blend over members and views of all samples of a loader; shows progress."""
    ids: list[str] = []
    parts: list[torch.Tensor] = []
    with progress(total=loader.num_samples, unit="galaxy", desc="predict") as bar:
        for batch in loader.epoch(0):
            parts.append(uniform_blend([member.predict(images) for member in members for images in batch.views]))
            ids += batch.ids.tolist()
            bar.update(len(batch.ids))
    return ids, torch.cat(parts).cpu().numpy()


@click.command(cls=Command, context_settings={"show_default": True, "max_content_width": 100})
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("shards", type=click.Path(path_type=Path))
@click.option("--out", default="submission.csv", type=click.Path(path_type=Path), help="The CSV to write.")
@click.option("--views", default=1, type=int, help="Test-time views: 1, or rotations x zooms x flip.")
@click.option("--zooms", default="1.0", help="Zooms of the views, as in 0.83,1,1.2.")
@click.option("--split", default="test", type=click.Choice(["test", "train"]), help="Which shards.")
@click.option("--batch-size", default=128, type=click.IntRange(1), help="Galaxies a batch.")
@click.option(
    "--device", default="auto", type=click.Choice(["auto", "cpu", "cuda"]), help="auto: cuda if there is one."
)
@click.option(
    "--threads",
    type=click.IntRange(1),
    default=None,
    help="To decode with.  [default: as calibrated, or all cores]",
)
@click.option("--calibrate", is_flag=True, help="First measure the fastest way to decode here, and remember it.")
@click.option(
    "--store",
    default="auto",
    type=click.Choice(["auto", "stream", "resident"]),
    help="Where stamps come from. auto: from --store-folder where they are saved, else from the shards.",
)
@click.option(
    "--store-folder",
    type=click.Path(path_type=Path),
    default=None,
    help="Take saved stamps from there; with --store resident they are saved there too.",
)
def main(
    run: Path,
    shards: Path,
    out: Path,
    views: int,
    zooms: str,
    split: str,
    batch_size: int,
    device: str,
    threads: int | None,
    calibrate: bool,
    store: StoreMode,
    store_folder: Path | None,
) -> None:
    """Predict the galaxies in the folder SHARDS with all members of RUN, the mean over members and views.

    \b
    Example:
      python predict.py runs/quick shards --out submission.csv --views 16
    """
    try:
        test_views = rotations_and_flips(views, [float(zoom) for zoom in zooms.split(",")])
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--views and --zooms") from error
    check_can_write(out)
    where, trained = choose_device(device), load_run(run)
    _check_fit(trained, shards)
    samples, _ = open_split(shards, split)
    members = load_members(trained, where)
    policy = StorePolicy(store, folder=store_folder, reused=False)
    chosen = FixedViews(trained.recipe.view, test_views)
    tuning = tune(samples, chosen, batch_size=batch_size, device=where, threads=threads, calibrate=calibrate)
    with Loader(
        samples,
        chosen,
        batch_size=batch_size,
        device=where,
        shuffle=False,
        num_threads=tuning.num_threads,
        hw_decoder_load=tuning.hw_decoder_load,
        store=policy,
    ) as loader:
        ids, votes = predict(members, loader)
    for warning in warnings_about(votes, trained.data.tree, _training_mean(trained)):
        click.echo(f"warning: {warning}", err=True)
    write_submission(out, ids, votes, trained.data.tree)
    click.echo(
        f"{out}: {len(ids)} galaxies, {len(members)} members x {views} views of recipe {trained.recipe.name}"
    )


def _check_fit(run: Run, shards: Path) -> None:
    """Refuse shards of another tree or another size of image than the run was trained on."""
    manifest = read_manifest(shards)
    if manifest.tree != run.data.tree:
        raise RunError(
            f"{run.folder} was trained on the tree {run.data.tree.name!r}, {shards} holds {manifest.tree.name!r} "
            "or another version of it; predict shards packed with the same tree"
        )
    if manifest.image_px != run.data.image_px:
        raise RunError(
            f"{run.folder} was trained on images of {run.data.image_px} px, {shards} holds {manifest.image_px}; "
            "predict images of the same size"
        )


def _training_mean(run: Run) -> Floats | None:
    if run.data.vote_mean is None:
        return None
    return np.array([np.nan if mean is None else mean for mean in run.data.vote_mean])


if __name__ == "__main__":
    main()
