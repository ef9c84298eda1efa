"""Start the members of a run from the weights of an earlier run: train.py --init-from.

Member i starts from the best weights of member i modulo their number, batch-norm statistics included. On another tree,
or with another head, the last layer stays as it was drawn.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

from torch import Tensor

from ensemble.model import NETWORK, last_layer
from ensemble.networks.backbones import Timm
from galaxy_zoo.errors import RunError
from galaxy_zoo.files import sha256_of
from galaxy_zoo.text import shown
from training.checkpoint import load_header, load_weights
from training.member import Member
from training.run import BEST_NAME, RUN_NAME, InitFrom, Run, load_run


def initial_weights(folder: Path) -> InitFrom:
    """Return what a run that starts from the run in a folder keeps of it.

    Raises:
        RunError: there is no run, a member has no weights yet, or run.json was edited.
    """
    run = load_run(folder)
    paths = [run.member_folder(member) / BEST_NAME for member in range(run.members)]
    for path in paths:
        run.check_header(load_header(path), path)
    return InitFrom(run=str(folder), weights_sha256=tuple(map(sha256_of, paths)))


def check_start(run: Run) -> None:
    """Check that a new run may start from the weights of the earlier one.

    Raises:
        RunError: the new run holds out galaxies that the earlier one, or one that this started from, was trained on, or
            its recipe freezes timm's own weights.
    """
    assert run.init_from
    if isinstance(run.recipe.network, Timm) and run.recipe.network.frozen:
        raise RunError(
            f"recipe {run.recipe.name} trains only what replaces the last layer of timm's own weights; to start from "
            "a run and train all of it, add --set network.frozen=false"
        )
    for earlier in _ancestors(run):
        if earlier.data.manifest_sha256 == run.data.manifest_sha256 and run.fold not in {"none", earlier.fold}:
            fitting = "none" if earlier.fold == "none" else f"{earlier.fold} or none"
            raise RunError(
                f"{earlier.folder} was trained on these shards with fold {earlier.fold}, so also on galaxies that fold "
                f"{run.fold} holds out; give --fold {fitting}"
            )


def _ancestors(run: Run) -> Iterator[Run]:
    """Yield the run that a run starts from, the one that this started from, and so on while they exist.

    Raises:
        RunError: the first one does not exist, or a run.json is damaged.
    """
    met = set[Path]()
    while run.init_from:
        folder = Path(run.init_from.run)
        if folder.resolve() in met or (met and not (folder / RUN_NAME).exists()):
            return
        met.add(folder.resolve())
        run = load_run(folder)
        yield run


def start_from_earlier(run: Run, members: Mapping[int, Member]) -> str:
    """Give members, by their numbers, the weights of the run that theirs starts from; return a line that says so.

    Raises:
        RunError: these are not the weights that run.json names, or a tensor does not fit.
    """
    assert run.init_from
    folder = Path(run.init_from.run)
    if initial_weights(folder) != run.init_from:
        raise RunError(f"{folder} has changed since {run.folder} was begun; restore it, or give another --out")
    earlier = load_run(folder)
    new = frozenset[str]()
    if is_new := (earlier.data.tree, earlier.recipe.head) != (run.data.tree, run.recipe.head):
        new = last_layer(run.recipe, len(run.data.tree.columns))
    for number, member in members.items():
        path = earlier.member_folder(number % earlier.members) / BEST_NAME
        own, found = _network(member.weights()), _network(load_weights(path))
        for name in dict.fromkeys([*own, *found]):
            there, here = _shape(found, name), _shape(own, name)
            if name not in new and there != here:
                raise RunError(
                    f"{path}: tensor {name} is {there}, and {here} in recipe {run.recipe.name} with a view of "
                    f"{run.recipe.view.size_px} px; give the network and view of {earlier.folder}, which has "
                    f"recipe {earlier.recipe.name} and {earlier.recipe.view.size_px} px"
                )
        copied = {name: each for name, each in found.items() if name not in new}
        member.start_from({**member.weights(), **copied})
    why = "; their last layer is new, as the tree or the head is another" if is_new else ""
    return f"members start from the weights of {shown(folder)}{why}"


def _network(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of the network, without the constants of the head."""
    return {name: each for name, each in weights.items() if name.startswith(NETWORK)}


def _shape(weights: Mapping[str, Tensor], name: str) -> str:
    return f"of shape {tuple(weights[name].shape)}" if name in weights else "missing"
