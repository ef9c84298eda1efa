"""The folder of a run: what was trained on what, and the checkpoints of each member.

RUN/run.json                     recipe, seed, fold, data, versions, commit
RUN/member-00/last-*.safetensors everything needed to go on (see checkpoint.py)
RUN/member-00/best.safetensors   the weights with the best score on the fold (without a fold: the newest)
RUN/member-00/metrics.jsonl      a line an epoch
RUN/member-00/events...          the same for TensorBoard
"""

import json
import platform
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ensemble.recipe import Recipe, recipe_from_table
from galaxy_zoo.errors import OutputError, RunError
from galaxy_zoo.files import TEMPORARY_SUFFIX, exclusive, write_text
from galaxy_zoo.tree import DecisionTree, tree_from_dict
from galaxy_zoo.version import __version__

RUN_NAME = "run.json"
BEST_NAME = "best.safetensors"
PACKAGES = ("torch", "nvidia-dali-cuda120", "timm", "numpy")


@dataclass(frozen=True, kw_only=True)
class Data:
    """What a run was trained on. manifest_sha256: of the shards' manifest, which has the checksums of all of them."""

    tree: DecisionTree
    image_px: tuple[int, int]
    manifest_sha256: str
    vote_mean: tuple[float | None, ...] | None


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run and its folder.

    fold: "k/K" or "none". versions: of the packages, and the commit, when it began. shard_groups: number of groups of
    shards that ranks stick to, on which its batches depend; 0: every rank reads all shards.
    """

    folder: Path
    recipe: Recipe
    members: int
    seed: int
    fold: str
    pretrained: bool
    data: Data
    versions: Mapping[str, str]
    shard_groups: int = 0

    def member_folder(self, member: int) -> Path:
        """Return the folder of a member."""
        return self.folder / f"member-{member:02d}"

    def check_free(self) -> None:
        """Check that a new run can be made in the folder, which is `locked`.

        Raises:
            OutputError: the folder is not empty.
        """
        if any(map(_is_content, self.folder.iterdir())):
            raise OutputError(f"{self.folder} is not empty; go on with --resume, or give another --out")

    def create(self) -> None:
        """Make the members' folders and write run.json."""
        for member in range(self.members):
            self.member_folder(member).mkdir(exist_ok=True)
        write_text(self.folder / RUN_NAME, json.dumps(self._to_dict(), indent=1) + "\n")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Make the folder if it is missing, and keep every other training out of it for the length of the block.

        If there is no run in it at the end, what was made for the lock is removed.

        Raises:
            OutputError: another training writes to the folder, or it is a file.
        """
        if self.folder.exists() and not self.folder.is_dir():
            raise OutputError(f"{self.folder} is not a folder; give another --out")
        lock, is_new = self.folder / "lock", not self.folder.exists()
        has_lock = lock.exists()
        self.folder.mkdir(parents=True, exist_ok=True)
        with exclusive(lock, busy=f"{self.folder}: another training writes to it; wait for its end"):
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
        """Check that this run, as asked for, is the one saved in its folder.

        Raises:
            RunError: it differs; the message names the first difference.
        """
        asked = replace(self, versions=saved.versions)._to_dict()
        different = _first_difference(saved._to_dict(), asked, "")
        if different:
            raise RunError(
                f"{self.folder} was started with {different}; "
                "resume with the same options and shards, or give another --out"
            )

    def _to_dict(self) -> dict[str, Any]:
        return {
            "recipe_name": self.recipe.name,
            "recipe": self.recipe.table,
            "members": self.members,
            "seed": self.seed,
            "fold": self.fold,
            "pretrained": self.pretrained,
            "shard_groups": self.shard_groups,
            "data": {**asdict(self.data), "image_px": list(self.data.image_px), "tree": self.data.tree.to_dict()},
            "versions": dict(self.versions),
        }


def _is_content(path: Path) -> bool:
    """Return whether this is more than a training leaves that was killed before it wrote run.json."""
    is_own = path.name in {"lock", RUN_NAME + TEMPORARY_SUFFIX}
    return not is_own and not (path.is_dir() and not any(path.iterdir()))


def load_run(folder: Path) -> Run:
    """Read the run in a folder.

    Raises:
        RunError: there is none, or its run.json is damaged.
    """
    path = folder / RUN_NAME
    try:
        saved = json.loads(path.read_text())
        data = saved["data"]
        tree = tree_from_dict(data["tree"], where=str(path))
        vote_mean = None if data["vote_mean"] is None else tuple(data["vote_mean"])
        if int(saved["members"]) < 1 or (vote_mean and len(vote_mean) != len(tree.columns)):
            raise ValueError(f"{saved['members']} members, {len(vote_mean or ())} mean votes")
        return Run(
            folder=folder,
            recipe=recipe_from_table(saved["recipe"], saved["recipe_name"], where=str(path)),
            members=int(saved["members"]),
            seed=int(saved["seed"]),
            fold=saved["fold"],
            pretrained=saved["pretrained"],
            data=Data(
                tree=tree,
                image_px=(data["image_px"][0], data["image_px"][1]),
                manifest_sha256=data["manifest_sha256"],
                vote_mean=vote_mean,
            ),
            versions=saved["versions"],
            shard_groups=int(saved.get("shard_groups", 0)),  # runs that were begun before there were any
        )
    except (FileNotFoundError, NotADirectoryError) as error:
        raise RunError(f"{folder}: no {RUN_NAME}, so not a run; make one with: python train.py SHARDS") from error
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise RunError(f"{path}: damaged: {type(error).__name__} {error}; train again") from error


def current_versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that decide a result, and the commit of this project."""
    found = {name: _version(name) for name in PACKAGES}
    return {"galaxy-zoo-pipeline": __version__, "commit": _commit(), "python": platform.python_version(), **found}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # on the path without its metadata
        return "unknown"


def _commit() -> str:
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _first_difference(kept: Any, asked: Any, name: str) -> str:
    """Return "NAME KEPT, not ASKED" for the first value that differs, or "" if none does."""
    if isinstance(kept, Mapping) and isinstance(asked, Mapping):
        found = (
            _first_difference(kept.get(key), asked.get(key), f"{name}.{key}".lstrip("."))
            for key in (*kept, *(key for key in asked if key not in kept))
        )
        return next((text for text in found if text), "")
    if kept == asked or (isinstance(kept, list | tuple) and list(kept) == list(asked or ())):
        return ""
    return f"{name} {_short(kept)}, not {_short(asked)}"


def _short(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else text[:57] + "..."
