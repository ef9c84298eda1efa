"""Find and load the trained members of runs."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ensemble.model import Predictor, build_network
from galaxy_zoo.errors import RunError
from galaxy_zoo.files import sha256_of
from galaxy_zoo.text import shown
from training.checkpoint import load_header, load_weights
from training.run import BEST_NAME, Run


@dataclass(frozen=True)
class TrainedMember:
    """A member of a run, and the checksum of its best weights."""

    run: Run
    index: int
    sha256: str

    @property
    def name(self) -> str:
        """The member's folder, safe to print."""
        return shown(self.run.member_folder(self.index))

    def load(self, device: torch.device, *, compiled: bool = False, in_float32: bool = False) -> Predictor:
        """Load the network with the best weights. in_float32: ignore the recipe's precision.

        Raises:
            RunError: the checkpoint is damaged or of another recipe.
        """
        path = self.run.member_folder(self.index) / BEST_NAME
        network = build_network(self.run.recipe, self.run.data.tree, pretrained=False)
        if in_float32:
            network.precision = "float32"
        try:
            network.load_state_dict(load_weights(path))
        except RuntimeError as error:
            reason = str(error).partition("\n")[0]
            raise RunError(
                f"{path}: not the weights of a member of {self.run.folder} ({reason}); train again"
            ) from error
        return Predictor(network, device, compiled=compiled)


def find_members(runs: Sequence[Run]) -> list[TrainedMember]:
    """Return all members of some runs.

    Raises:
        RunError: a run is named twice, was trained on another tree or image size than the first, has a member
            without a checkpoint, or its run.json was edited.
    """
    first, members = runs[0], []
    for run in runs:
        if run.data.tree != first.data.tree:
            raise RunError(
                f"{run.folder} was trained on the tree {run.data.tree.name!r}, {first.folder} on "
                f"{first.data.tree.name!r} or another version of it; predict with them one by one"
            )
        if run.data.image_px != first.data.image_px:
            raise RunError(
                f"{run.folder} was trained on images of {run.data.image_px} px, {first.folder} of "
                f"{first.data.image_px}; predict with them one by one"
            )
        for index in range(run.members):
            path = run.member_folder(index) / BEST_NAME
            if not path.exists():
                raise RunError(
                    f"{path}: no checkpoint yet, or it was removed; restore it, or train at least one epoch: "
                    "python train.py ... --resume"
                )
            run.check_header(load_header(path), path)
            members.append(TrainedMember(run, index, sha256_of(path)))
    _refuse_twins(members)
    return members


def _refuse_twins(members: Sequence[TrainedMember]) -> None:
    seen: dict[str, TrainedMember] = {}
    for member in members:
        if (twin := seen.setdefault(member.sha256, member)) is not member:
            raise RunError(f"{member.name} has the same weights as {twin.name}; name each run once")
