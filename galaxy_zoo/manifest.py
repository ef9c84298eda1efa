"""`manifest.json` describes a folder of shards. It is written last, so a folder that has one is complete."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import Any

from galaxy_zoo.errors import ShardError
from galaxy_zoo.files import is_special, write_text
from galaxy_zoo.remote import AnyPath
from galaxy_zoo.strict import check_range, parse_json
from galaxy_zoo.tree import DecisionTree, tree_from_dict

MANIFEST_NAME = "manifest.json"
FORMAT_VERSION = 1
OWN_SHA256 = "own_sha256"
LARGEST_IMAGE_PX, LARGEST_COUNT = 65_535, 10**15
LARGEST_SUM, LARGEST_SEED = 10**30, 2**63 - 1
ROUNDING = 1e-6
"""Largest distance of a mean from [0, 1] that counts as a rounding error."""


@dataclass(frozen=True)
class Shard:
    """One tar of a folder of shards.

    sha256, index_sha256: checksums of the tar and of the `.idx` beside it.
    """

    name: str
    samples: int
    bytes: int
    sha256: str
    index_sha256: str


@dataclass(frozen=True)
class Statistics:
    """Sums over all samples, so that the statistics of two sets can be added.

    image_bytes: (least, sum, most) over all images.
    labelled: number of samples with votes.
    vote_counts, vote_sums: for each answer, the number and the sum of the votes present.
    measured: number of images that `Manifest.channel_mean` is computed from.
    channel_sums, channel_squares: sums over the pixels (0-255) of these images and over their squares; exact integers.
    """

    image_bytes: tuple[int, int, int]
    labelled: int
    vote_counts: tuple[int, ...]
    vote_sums: tuple[float, ...]
    channel_sums: tuple[int, int, int]
    channel_squares: tuple[int, int, int]
    measured: int

    @property
    def missing_votes(self) -> int:
        """Number of votes that labelled samples lack."""
        return self.labelled * len(self.vote_counts) - sum(self.vote_counts)


@dataclass(frozen=True)
class Manifest:
    """The contents of a folder of shards.

    image_px: (height, width) of every image.
    is_decoded: whether packing decoded every image. If not, some may be damaged, and the channel statistics are those
        of a sample of the images.
    channel_mean, channel_std: red, green, blue, in [0, 1], over all pixels of the training images, or of the test
        images if there are no others.
    vote_mean: for each answer the mean of the votes present; None without labels.
    splits: "train" and "test" -> their shards.
    statistics: None in manifests of older versions.
    is_foreign: whether other software wrote the tars; their samples may hold more than an image and votes.
    encoding: how images were encoded that were not JPEGs or had another size; None if every JPEG has the bytes of its
        source.
    source_sha256: checksum of the ids, votes and file sizes that were packed, whatever the layout of the source; None
        if they came from several sources.
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
    statistics: Statistics | None = None
    is_foreign: bool = False
    encoding: Mapping[str, Any] | None = None
    is_decoded: bool = True
    source_sha256: str | None = None

    @property
    def set_sha256(self) -> str:
        """Checksum of the whole set: the sha256 of the shards' checksums, joined as text in order."""
        return sha256("".join(s.sha256 for shards in self.splits.values() for s in shards).encode()).hexdigest()

    def samples(self, split: str) -> int:
        """Return the number of samples of a split, 0 if there is no such split."""
        return sum(shard.samples for shard in self.splits.get(split, ()))

    def write(self, folder: AnyPath) -> None:
        """Write `manifest.json` into `folder`, whole or not at all."""
        data = {
            "format_version": FORMAT_VERSION,
            **asdict(self),
            "tree": self.tree.to_dict(),
            "set_sha256": self.set_sha256,
        }
        data[OWN_SHA256] = _own_sha256(data)
        write_text(folder / MANIFEST_NAME, json.dumps(data, indent=1) + "\n")


def is_as_written(folder: AnyPath) -> bool:
    """Return whether the values are those that were written; True if the manifest has no checksum."""
    data = json.loads((folder / MANIFEST_NAME).read_text())
    return data.get(OWN_SHA256) in (None, _own_sha256(data))


def _own_sha256(data: Mapping[str, Any]) -> str:
    """Return the sha256 of all values of a manifest except this one, whatever the layout of the file."""
    rest = {name: value for name, value in data.items() if name != OWN_SHA256}
    return sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def read_manifest(folder: AnyPath) -> Manifest:
    """Read the manifest of a folder of shards.

    Raises:
        ShardError: the manifest is missing or damaged, lists a shard twice, or was written by a newer version of this
            project.
        TreeError: its decision tree is not valid.
    """
    return parse_manifest(manifest_bytes(folder), folder)


def manifest_bytes(folder: AnyPath) -> bytes:
    """Return the bytes of a manifest's file.

    Raises:
        ShardError: there is no manifest.
    """
    if is_special(folder / MANIFEST_NAME):
        raise ShardError(f"{folder / MANIFEST_NAME}: a pipe or a device, not a file; remove it")
    try:
        return (folder / MANIFEST_NAME).read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ShardError(
            f"{folder}: no {MANIFEST_NAME}, so not a finished folder of shards; "
            "make one with: shard_tool pack SOURCE OUT, or for the tars of others: shard_tool index FOLDER"
        ) from error


def parse_manifest(data: bytes, folder: AnyPath) -> Manifest:
    """Parse the bytes of the manifest in `folder`; raise as `read_manifest` does."""
    path = folder / MANIFEST_NAME
    try:
        return _from_dict(parse_json(data.decode()), where=str(path))
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        # errors of JSON and UTF-8 are ValueErrors too
        raise ShardError(f"{path}: damaged: {type(error).__name__} {error}; pack again") from error


def _from_dict(data: dict[str, Any], *, where: str) -> Manifest:
    version = data.pop("format_version")
    if version != FORMAT_VERSION or type(version) is not int:
        raise ShardError(f"{where}: format version {version}, this program reads {FORMAT_VERSION}; update it")
    height, width = data["image_px"]
    check_range("image_px", (height, width), 1, LARGEST_IMAGE_PX)
    splits = {_split(name): tuple(_shard(s) for s in shards) for name, shards in data["splits"].items()}
    mean, std, votes = data["channel_mean"], data["channel_std"], data["vote_mean"]
    tree = tree_from_dict(data["tree"], where=f"{where}: tree")
    if votes is not None and len(votes) != len(tree.columns):
        raise ValueError(f"{len(votes)} vote means for {len(tree.columns)} answers")
    if not len(mean) == len(std) == 3:
        raise ValueError("channel_mean and channel_std must have three values each")
    for name, shares in (("channel_mean", mean), ("channel_std", std), ("vote_mean", votes or ())):
        check_range(name, tuple(_number(each) for each in shares if each is not None), -ROUNDING, 1 + ROUNDING)
    manifest = Manifest(
        tree=tree,
        seed=_integer(data["seed"], highest=LARGEST_SEED),
        tool_version=_text(data["tool_version"]),
        image_px=(_integer(height), _integer(width)),
        channel_mean=(float(mean[0]), float(mean[1]), float(mean[2])),
        channel_std=(float(std[0]), float(std[1]), float(std[2])),
        vote_mean=None if votes is None else tuple(None if v is None else float(v) for v in votes),
        rejected=_integer(data["rejected"]),
        splits=splits,
        statistics=_statistics(data.get("statistics"), splits, len(tree.columns)),
        is_foreign=_truth(data.get("is_foreign", False)),
        encoding=_encoding(data.get("encoding")),
        is_decoded=_truth(data.get("is_decoded", True)),
        source_sha256=None if data.get("source_sha256") is None else _text(data["source_sha256"]),
    )
    if data.get("set_sha256", manifest.set_sha256) != manifest.set_sha256:
        raise ValueError("set_sha256 is not that of the shards it lists")
    if again := repeated_shard([shard for shards in splits.values() for shard in shards]):
        raise ShardError(
            f"{where}: {again[1].name} is the same shard as {again[0].name}, and its galaxies would count twice; "
            "pack or index again"
        )
    return manifest


def repeated_shard(shards: Iterable[Shard]) -> tuple[Shard, Shard] | None:
    """Return the first two shards of one name, or with any samples and the same bytes or index; None without such.

    An index holds the ids: shards that have one in common hold the same galaxies, whatever their bytes are said to be.
    """
    seen: dict[str, Shard] = {}
    for shard in shards:
        for mark in (shard.name, *((shard.sha256, shard.index_sha256) if shard.samples else ())):
            if mark in seen:
                return seen[mark], shard
        seen |= {shard.name: shard, shard.sha256: shard, shard.index_sha256: shard}
    return None


def _text(data: Any) -> str:
    if not isinstance(data, str):
        raise ValueError(f"{data!r} in place of text")
    return data


def _truth(data: Any) -> bool:
    if not isinstance(data, bool):
        raise ValueError(f"{data!r} is neither true nor false")
    return data


def _number(data: Any) -> float:
    if isinstance(data, bool) or not isinstance(data, int | float):
        raise ValueError(f"{data!r} is not a number")
    return float(data)


def _integer(data: Any, *, highest: int = LARGEST_COUNT) -> int:
    if type(data) is not int or not 0 <= data <= highest:
        raise ValueError(f"{data!r} is not a whole number from 0 to {highest:,}")
    return data


def _encoding(data: Any) -> dict[str, Any] | None:
    if data is not None and not isinstance(data, dict):
        raise ValueError(f"encoding {data!r}")
    return data


def _statistics(
    data: dict[str, Any] | None, splits: Mapping[str, tuple[Shard, ...]], num_answers: int
) -> Statistics | None:
    if data is None:
        return None
    all_measured = sum(shard.samples for shard in next(iter(splits.values()), ()))
    statistics = Statistics(
        image_bytes=_three_integers(data["image_bytes"]),
        labelled=_integer(data["labelled"]),
        vote_counts=tuple(map(_integer, data["vote_counts"])),
        vote_sums=tuple(map(_number, data["vote_sums"])),
        channel_sums=_three_integers(data["channel_sums"]),
        channel_squares=_three_integers(data["channel_squares"]),
        measured=_integer(data.get("measured", all_measured)),  # older versions measured all images
    )
    if not len(statistics.vote_counts) == len(statistics.vote_sums) == num_answers:
        raise ValueError(f"statistics of {len(statistics.vote_counts)} answers, the tree has {num_answers}")
    return statistics


def _three_integers(values: Any) -> tuple[int, int, int]:
    first, second, third = (_integer(each, highest=LARGEST_SUM) for each in values)
    return first, second, third


def _split(name: str) -> str:
    if not name.isidentifier():  # the name becomes part of the names of folders
        raise ValueError(f"split name {name!r}")
    return name


def _shard(data: dict[str, Any]) -> Shard:
    shard = Shard(**data)
    if not _is_file_name(shard.name) or not shard.name.endswith(".tar"):
        raise ValueError(f"shard name {shard.name!r}")
    if not (_is_count(shard.samples) and _is_count(shard.bytes)):
        raise ValueError(f"{shard.name}: {shard.samples!r} samples, {shard.bytes!r} bytes")
    if not (isinstance(shard.sha256, str) and isinstance(shard.index_sha256, str)):
        raise ValueError(f"{shard.name}: a sha256 is no text")
    return shard


def _is_file_name(value: object) -> bool:
    return isinstance(value, str) and "/" not in value and value.isprintable()


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value <= LARGEST_COUNT
