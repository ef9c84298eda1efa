"""`manifest.json`: what a folder of shards holds. Written last, so a folder with one is whole."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from galaxy_zoo.errors import ShardError
from galaxy_zoo.files import write_text
from galaxy_zoo.tree import DecisionTree, tree_from_dict

MANIFEST_NAME = "manifest.json"
FORMAT_VERSION = 1


@dataclass(frozen=True)
class Shard:
    """One tar of a folder of shards.

    `sha256` and `index_sha256` are those of the tar and of the `.idx` beside it.
    """

    name: str
    samples: int
    bytes: int
    sha256: str
    index_sha256: str


@dataclass(frozen=True)
class Manifest:
    """What a folder of shards holds.

    `image_px` is (height, width) of every image. `channel_mean` and `channel_std` are red, green, blue over all
    pixels of the training images (of the test images where there are no others), in [0, 1]. `vote_mean` has one
    value an answer over the votes present, None without labels. `splits` maps "train" and "test" to their shards.
    """

    tree: DecisionTree
    seed: int
    tool_version: str
    image_px: tuple[int, int]
    channel_mean: tuple[float, float, float]
    channel_std: tuple[float, float, float]
    vote_mean: tuple[float | None, ...] | None
    rejected: int
    splits: Mapping[str, tuple[Shard, ...]]

    def samples(self, split: str) -> int:
        """The number of samples of a split, 0 where there is no such split."""
        return sum(shard.samples for shard in self.splits.get(split, ()))

    def write(self, folder: Path) -> None:
        """Write `manifest.json` into `folder`, whole or not at all."""
        data = {"format_version": FORMAT_VERSION, **asdict(self), "tree": self.tree.to_dict()}
        write_text(folder / MANIFEST_NAME, json.dumps(data, indent=1) + "\n")


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of a folder of shards.

    Raises:
        ShardError: there is none, it is damaged, or a newer version of this project wrote it.
        TreeError: its decision tree is not one.
    """
    path = folder / MANIFEST_NAME
    try:
        data = json.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ShardError(
            f"{folder}: no {MANIFEST_NAME}, so not a finished folder of shards; "
            "make one with: shard_tool pack SOURCE OUT"
        ) from error
    except ValueError as error:  # JSON and UTF-8 errors are ValueErrors
        raise ShardError(f"{path}: damaged: {error}; pack again") from error
    try:
        return _from_dict(data, where=str(path))
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise ShardError(f"{path}: damaged: {type(error).__name__} {error}; pack again") from error


def _from_dict(data: dict[str, Any], *, where: str) -> Manifest:
    version = data.pop("format_version")
    if version != FORMAT_VERSION:
        raise ShardError(f"{where}: format version {version}, this program reads {FORMAT_VERSION}; update it")
    height, width = data["image_px"]
    splits = {name: tuple(_shard(s) for s in shards) for name, shards in data["splits"].items()}
    mean, std, votes = data["channel_mean"], data["channel_std"], data["vote_mean"]
    tree = tree_from_dict(data["tree"], where=where)
    if votes is not None and len(votes) != len(tree.columns):
        raise ValueError(f"{len(votes)} vote means for {len(tree.columns)} answers")
    return Manifest(
        tree=tree,
        seed=int(data["seed"]),
        tool_version=str(data["tool_version"]),
        image_px=(int(height), int(width)),
        channel_mean=(float(mean[0]), float(mean[1]), float(mean[2])),
        channel_std=(float(std[0]), float(std[1]), float(std[2])),
        vote_mean=None if votes is None else tuple(None if v is None else float(v) for v in votes),
        rejected=int(data["rejected"]),
        splits=splits,
    )


def _shard(data: dict[str, Any]) -> Shard:
    shard = Shard(**data)
    if "/" in shard.name or not shard.name.endswith(".tar"):
        raise ValueError(f"shard name {shard.name!r}")
    if not (isinstance(shard.samples, int) and isinstance(shard.bytes, int)):
        raise ValueError(f"{shard.name}: {shard.samples!r} samples, {shard.bytes!r} bytes")
    return shard
