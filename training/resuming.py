"""Check that a run may begin in its folder, or resume the one that is there."""

from dataclasses import replace
from pathlib import Path

from galaxy_zoo.errors import OutputError, RunError
from galaxy_zoo.text import counted
from training.checkpoint import checkpoint_path, common_positions, load_header, positions
from training.initial import check_start, initial_weights
from training.ranks import Ranks
from training.run import Run, load_run


def check_run(run: Run, ranks: Ranks, *, resume: bool) -> Run:
    """Check that the run fits its folder, and return it with the groups of shards and the weights it was begun with.

    Raises:
        OutputError: the folder of a new run is not empty.
        RunError: the folder holds another run, a new run would have a single group of shards, or it may not start from
            the earlier one.
    """
    if resume:
        saved = load_run(run.folder)
        if run.shard_groups and saved.shard_groups:
            run = replace(run, shard_groups=saved.shard_groups)
        if run.init_from is None or (saved.init_from and saved.init_from.run == run.init_from.run):
            run = replace(run, init_from=saved.init_from)
        run = replace(run, weights_sha256=run.weights_sha256 or saved.weights_sha256)
        run.check_same(saved)
        _check_checkpoints(run)
        _check_length(run)
        return replace(run, versions=saved.versions)
    if run.shard_groups == 1:
        raise RunError("--stick-to-shard needs several ranks: torchrun --nproc-per-node 2 train.py ...")
    if ranks.is_first:
        run.check_free()
    if run.init_from:
        run = replace(run, init_from=initial_weights(Path(run.init_from.run)))
        check_start(run)
    return run


def _check_checkpoints(run: Run) -> None:
    """Check that the checkpoints in the folder of a run are its own.

    Raises:
        OutputError: the folder of a member is a symbolic link.
        RunError: run.json was edited.
    """
    for folder in map(run.member_folder, range(run.members)):
        if folder.is_symlink():
            raise OutputError(f"{folder} is a symbolic link: old files would be removed where it leads; remove it")
        for path in (checkpoint_path(folder, position) for position in positions(folder)):
            try:
                header = load_header(path)
            except RunError:  # if one is damaged, use the one before
                continue
            run.check_header(header, path)


def _check_length(run: Run) -> None:
    """Raise RunError if a run has been trained for more epochs than it should have."""
    if not (common := common_positions([run.member_folder(member) for member in range(run.members)])):
        return
    begun = common[-1].epoch + (common[-1].step > 0)
    if begun > (epochs := run.recipe.training.epochs):
        raise RunError(
            f"{run.folder} has been trained for more than {counted(epochs, 'epoch')}; give --epochs {begun} or more"
        )
