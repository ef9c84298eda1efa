"""The folder of a run: its recipe and data, and the checkpoints of each member.

RUN/run.json                     recipe, seed, fold, data, versions, commit
RUN/member-00/last-*.safetensors everything needed to resume (see checkpoint.py)
RUN/member-00/best.safetensors   the weights with the best score on the fold (without a fold: the newest)
RUN/member-00/metrics.jsonl      a line an epoch
RUN/member-00/events...          the same for TensorBoard
"""

import json
import platform
import subprocess
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ensemble.recipe import Recipe, recipe_from_table
from galaxy_zoo.errors import OutputError, RunError
from galaxy_zoo.files import TEMPORARY_SUFFIX, exclusive, is_special, write_text
from galaxy_zoo.fold import Fold
from galaxy_zoo.image_size import LARGEST_SIDE_PX
from galaxy_zoo.manifest import LARGEST_COUNT
from galaxy_zoo.strict import check_range, parse, parse_json
from galaxy_zoo.tree import DecisionTree
from galaxy_zoo.version import __version__
from training.request import MOST_MEMBERS

RUN_NAME = "run.json"
BEST_NAME = "best.safetensors"
EPOCHS = "recipe.training.epochs"
SHARDS = "data.manifest_sha256"
"""Names of the number of epochs and of the set of shards in the identity of a run."""
PACKAGES = ("torch", "nvidia-dali-cuda120", "timm", "numpy")


@dataclass(frozen=True, kw_only=True)
class Data:
    """The data of a run. manifest_sha256: checksum of the manifest, which holds the checksums of all shards."""

    tree: DecisionTree
    image_px: tuple[int, int]
    manifest_sha256: str
    vote_mean: tuple[float | None, ...] | None


@dataclass(frozen=True, kw_only=True)
class InitFrom:
    """The earlier run that a run starts from, as it was named, and the checksums of its members' best weights."""

    run: str
    weights_sha256: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class _Facts:
    """The values in run.json besides the recipe and the versions; see `Run`."""

    members: int
    seed: int
    fold: str
    pretrained: bool
    data: Data
    shard_groups: int = 0  # this and what follows is missing in older runs
    init_from: InitFrom | None = None
    weights_sha256: str = ""

    def __post_init__(self) -> None:
        """Raise ValueError if a value is not allowed."""
        Fold.named(self.fold)
        check_range("members", self.members, 1, MOST_MEMBERS)
        check_range("seed", self.seed, 0, 2**32 - 1)
        check_range("shard_groups", self.shard_groups, 0, LARGEST_COUNT)
        check_range("image_px", self.data.image_px, 1, LARGEST_SIDE_PX)
        if len(self.data.vote_mean or ()) not in {0, len(self.data.tree.columns)}:
            raise ValueError(f"mean votes of {len(self.data.vote_mean or ())} answers")


@dataclass(frozen=True, kw_only=True)
class Run(_Facts):
    """A run and its folder.

    fold: "k/K" or "none". versions: versions of the packages, and the commit, at its start. shard_groups: number of
    groups that the shards are dealt into, on which the batches depend; 0: every rank reads all shards. init_from: None
    if the members start from random or pretrained weights. weights_sha256: checksum of the file with the
    pretrained weights; empty: no such file was given.
    """

    folder: Path
    recipe: Recipe
    versions: Mapping[str, str]

    def member_folder(self, member: int) -> Path:
        """Return the folder of a member."""
        return self.folder / f"member-{member:02d}"

    def check_free(self) -> None:
        """Check that a new run can be created in the folder, which must be `locked`.

        Raises:
            OutputError: the folder is not empty.
        """
        if any(map(_is_content, self.folder.iterdir())):
            raise OutputError(f"{self.folder} is not empty; continue with --resume, or give another --out")

    def create(self) -> None:
        """Create the folders of the members and write run.json."""
        for member in range(self.members):
            self.member_folder(member).mkdir(exist_ok=True)
        write_text(self.folder / RUN_NAME, json.dumps(self._to_dict(), indent=1) + "\n")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Create the folder if it is missing, and keep every other training out of it within the block.

        If it holds no run at the end, remove what was created for the lock.

        Raises:
            OutputError: another training writes to the folder, or the path is a file.
        """
        if self.folder.exists() and not self.folder.is_dir():
            raise OutputError(f"{self.folder} is not a folder; give another --out")
        lock, is_new = self.folder / "lock", not self.folder.exists()
        has_lock = lock.exists()
        self.folder.mkdir(parents=True, exist_ok=True)
        with exclusive(lock, busy=f"{self.folder}: another run is writing to it; wait for it to finish"):
            try:
                yield
            finally:
                if not (self.folder / RUN_NAME).exists():
                    with suppress(OSError):
                        if not has_lock:
                            lock.unlink()
                        if is_new:
                            self.folder.rmdir()

    def check_same(self, saved: "Run") -> None:
        """Check that this run is the one saved in its folder, maybe with another number of epochs.

        Raises:
            RunError: they differ; the message names the first difference.
        """
        if not (different := self._difference(saved.identity)):
            return
        if different.startswith(EPOCHS):
            kind = self.recipe.table["schedule"]["kind"]
            raise RunError(
                f"{self.folder} was started with {different}, and with schedule {kind!r} all learning rates depend on "
                f"that; resume with --epochs {saved.recipe.training.epochs}, or begin a new run from its weights: "
                f"--init-from {self.folder} --out ..."
            )
        if different.startswith(SHARDS):
            different = "other shards"
        raise RunError(
            f"{self.folder} was started with {different}; "
            "resume with the same options and shards, or give another --out"
        )

    @cached_property
    def identity(self) -> dict[str, Any]:
        """Everything that decides what the members learn and which galaxies are held out, as JSON values."""
        values: dict[str, Any] = json.loads(json.dumps(self._to_dict()))
        del values["versions"]
        return values

    def check_header(self, header: Mapping[str, Any], path: Path) -> None:
        """Check by the header of a checkpoint that it belongs to this run; older checkpoints name no run and pass.

        Raises:
            RunError: run.json was edited, or the checkpoint belongs to another run.
        """
        if different := self._difference(header.get("run", self.identity)):
            raise RunError(
                f"{self.folder / RUN_NAME} is not what {path} was trained with ({different}); restore it, "
                "or train again"
            )

    def _difference(self, kept: Any) -> str:
        """Return in words the first difference from an identity that was kept, "" if there is none.

        Another number of epochs counts only if the learning rates depend on it.
        """
        passed_over = () if self.recipe.schedule.spans_training else (EPOCHS,)
        return _first_difference(kept, self.identity, "", passed_over)

    def _to_dict(self) -> dict[str, Any]:
        """Return the content of run.json."""
        return {
            "recipe_name": self.recipe.name,
            "recipe": self.recipe.table,
            "members": self.members,
            "seed": self.seed,
            "fold": self.fold,
            "pretrained": self.pretrained,
            "shard_groups": self.shard_groups,
            "init_from": None if self.init_from is None else asdict(self.init_from),
            **({"weights_sha256": self.weights_sha256} if self.weights_sha256 else {}),
            "data": {**asdict(self.data), "image_px": list(self.data.image_px), "tree": self.data.tree.to_dict()},
            "versions": dict(self.versions),
        }


def _is_content(path: Path) -> bool:
    """Return whether a path is more than a training leaves if it is killed before writing run.json."""
    is_own = path.name in {"lock", RUN_NAME + TEMPORARY_SUFFIX}
    is_empty_folder = path.is_dir() and not path.is_symlink() and not any(path.iterdir())
    return not is_own and not is_empty_folder


def load_run(folder: Path) -> Run:
    """Read the run in a folder.

    Raises:
        RunError: there is no run, or its run.json is damaged.
    """
    path = folder / RUN_NAME
    if is_special(path):
        raise RunError(f"{path}: a pipe or a device, not a file; restore it, or train again")
    try:
        saved = parse_json(path.read_bytes())
        named = {key: saved.pop(key) for key in ("recipe_name", "recipe", "versions")}
        facts = parse(_Facts, saved, "the run")
        recipe = recipe_from_table(named["recipe"], str(named["recipe_name"]), where=str(path))
        return Run(folder=folder, recipe=recipe, versions=dict(named["versions"]), **vars(facts))
    except (FileNotFoundError, NotADirectoryError) as error:
        folds = "; give the runs of its folds: fold-*" if any(folder.glob(f"fold-*/{RUN_NAME}")) else ""
        make = folds or "; make one with: python train.py SHARDS"
        raise RunError(f"{folder}: no {RUN_NAME}, so not a run{make}") from error
    except KeyError as error:
        raise RunError(f"{path}: damaged: key {error} is missing; restore it, or train again") from error
    except (TypeError, ValueError, AttributeError) as error:
        raise RunError(f"{path}: damaged: {error}; restore it, or train again") from error


def current_versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that decide a result, and the commit of this project."""
    found = {name: _version(name) for name in PACKAGES}
    return {"galaxy-zoo-pipeline": __version__, "commit": _commit(), "python": platform.python_version(), **found}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # importable, but without metadata
        return "unknown"


def _commit() -> str:
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _first_difference(kept: Any, asked: Any, name: str, passed_over: Collection[str]) -> str:
    """Return "NAME KEPT, not ASKED" for the first value that differs, "" if none does. passed_over: names to ignore."""
    if name in passed_over:
        return ""
    if isinstance(kept, Mapping) and isinstance(asked, Mapping):
        found = (
            _first_difference(kept.get(key), asked.get(key), f"{name}.{key}".lstrip("."), passed_over)
            for key in (*kept, *(key for key in asked if key not in kept))
        )
        return next((text for text in found if text), "")
    return "" if kept == asked else f"{name} {_short(kept)}, not {_short(asked)}".lstrip()


def _short(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else text[:57] + "..."
