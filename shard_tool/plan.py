"""What `pack` is going to do, decided before anything is written: which sample goes into which shard, and why not.

The plan depends on the source and the options alone, so every worker count and every resumed run follows the
same one. `Plan.identity` is what a resumed run compares.
"""

import gc
import io
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from galaxy_zoo.errors import ImageError, LabelError, SourceError
from galaxy_zoo.labels import read_votes
from galaxy_zoo.tree import DecisionTree
from galaxy_zoo.version import __version__
from galaxy_zoo.votes import check_votes
from shard_tool.jpeg import common_size
from shard_tool.order import default_shards, shard_slices, shuffle_key, spread
from shard_tool.sources import SPLITS, Listing, StoredFile, list_source

HEADERS_READ = 100
LONGEST_ID_BYTES = 90
"""A name in a USTAR tar has 100 bytes, `.votes.npy` needs 10."""


@dataclass(frozen=True)
class PackOptions:
    """What the user asks for. `shards` is None for shards of about 64 MB."""

    source: Path
    tree: DecisionTree
    labels: Path | None = None
    missing_votes: bool = False
    shards: int | None = None
    seed: int = 0


@dataclass(frozen=True, order=True)
class Rejected:
    """An image, or a row of votes, that did not become a sample; `file` is the name without folder or zip."""

    split: str
    id: str
    file: str
    reason: str


@dataclass(frozen=True, slots=True)
class Sample:
    """An image and its id."""

    id: str
    file: StoredFile


@dataclass(frozen=True)
class ShardPlan:
    """The samples of one shard in their order; `votes` is float32 of shape (samples, answers), None without."""

    split: str
    name: str
    samples: tuple[Sample, ...]
    votes: NDArray[np.float32] | None


@dataclass(frozen=True)
class Plan:
    """The shards to write, what is rejected already, and what was ignored (what, why)."""

    image_px: tuple[int, int]
    shards: tuple[ShardPlan, ...]
    rejected: tuple[Rejected, ...]
    ignored: tuple[tuple[str, str], ...]
    identity: dict[str, str]

    @property
    def main_split(self) -> str:
        """The split that the channel statistics are of: the training images, or the test images without any."""
        return self.shards[0].split

    @property
    def num_samples(self) -> int:
        """The samples of all shards."""
        return sum(len(shard.samples) for shard in self.shards)


@dataclass
class _Split:
    """The samples of a split while they are being sorted out."""

    name: str
    samples: list[Sample]
    rejected: list[Rejected] = field(default_factory=list)

    def reject(self, sample: Sample, reason: str) -> None:
        self.rejected.append(Rejected(self.name, sample.id, sample.file.name, reason))


def make_plan(options: PackOptions) -> Plan:
    """Read what is in SOURCE and decide.

    Raises:
        InputError: the source, the labels or the tree cannot be used at all; single bad images and rows are
            rejected instead.
    """
    with _collector_paused():
        return _make_plan(options)


def _make_plan(options: PackOptions) -> Plan:
    listing = list_source(options.source, options.labels)
    splits = [_Split(name, _samples(listing.images[name])) for name in SPLITS]
    votes = _read_labels(listing, options)
    for split in splits:
        _reject_bad_ids(split)
    if votes is not None:
        votes = _join(splits[0], votes, options.tree, file=listing.labels.name if listing.labels else "")
    image_px = _image_px([sample for split in splits for sample in split.samples], options.source)
    shards = [
        shard for split in splits for shard in _cut(split, options, votes if split.name == "train" else None)
    ]
    return Plan(
        image_px=image_px,
        shards=tuple(shards),
        rejected=tuple(rejected for split in splits for rejected in split.rejected),
        ignored=tuple(listing.ignored),
        identity=_identity(options, shards, votes, image_px),
    )


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Leave out the search for cycles, which takes a quarter of the time among some 100,000 new objects."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _samples(files: Iterable[StoredFile]) -> list[Sample]:
    by_id: dict[str, StoredFile] = {}
    for file in files:
        name = file.name
        sample_id = name[: name.rindex(".")]
        if (other := by_id.setdefault(sample_id, file)) is not file:
            raise SourceError(
                f"two images have the id {sample_id}: {other.shown} and {file.shown}; remove or rename one"
            )
    return [Sample(sample_id, by_id[sample_id]) for sample_id in sorted(by_id)]


def _read_labels(listing: Listing, options: PackOptions) -> pd.DataFrame | None:
    if listing.labels is None:
        return None
    try:
        data = listing.labels.read()
    except ImageError as error:
        raise LabelError(f"{listing.labels.shown}: {error}; download it again") from error
    return read_votes(
        io.BytesIO(data), options.tree, name=listing.labels.shown, allow_missing=options.missing_votes
    )


def _reject_bad_ids(split: _Split) -> None:
    good = []
    for sample in split.samples:
        if reason := _what_is_wrong(sample.id):
            split.reject(sample, reason)
        else:
            good.append(sample)
    split.samples = good


def _what_is_wrong(sample_id: str) -> str | None:
    if not sample_id or "." in sample_id or not sample_id.isprintable() or sample_id.split() != [sample_id]:
        return "an id may not be empty or have dots, spaces or control characters; rename the file"
    if len(sample_id.encode(errors="replace")) > LONGEST_ID_BYTES:
        return f"an id may have {LONGEST_ID_BYTES} bytes at most; rename the file"
    return None


def _join(split: _Split, votes: pd.DataFrame, tree: DecisionTree, *, file: str) -> pd.DataFrame:
    """Keep the samples that have a row which obeys the tree; return the votes of these, in their order."""
    broken = {}
    for violation in reversed(check_votes(votes.to_numpy(), tree)):
        broken[votes.index[violation.row]] = str(violation)
    with_row, images = set(votes.index), {sample.id for sample in split.samples}
    rejected = {r.id for r in split.rejected}
    good = []
    for sample in split.samples:
        if sample.id not in with_row:
            split.reject(sample, f"no row of votes in {file}")
        elif sample.id in broken:
            split.reject(sample, f"the votes break the tree: {broken[sample.id]}")
        else:
            good.append(sample)
    lonely = sorted(with_row - images - rejected)
    split.rejected += [Rejected(split.name, each, file, "no image for this row of votes") for each in lonely]
    split.samples = good
    return votes.loc[[sample.id for sample in good]]


def _image_px(samples: list[Sample], source: Path) -> tuple[int, int]:
    if not samples:
        raise SourceError(f"{source}: no image is left to pack: none has both a usable id and a row of votes")
    looked_at = [samples[i].file for i in spread(len(samples), HEADERS_READ)]
    image_px = common_size(data for file in looked_at if (data := _try_to_read(file)))
    if image_px is None:
        raise SourceError(
            f"{source}: none of {len(looked_at)} images looked at is a JPEG, as {looked_at[0].shown}"
        )
    return image_px


def _try_to_read(file: StoredFile) -> bytes:
    try:
        return file.read()
    except ImageError:  # it will be rejected when its turn comes
        return b""


def _cut(split: _Split, options: PackOptions, votes: pd.DataFrame | None) -> list[ShardPlan]:
    """Shuffle a split and cut it into shards."""
    order = sorted(range(len(split.samples)), key=lambda i: shuffle_key(split.samples[i].id, options.seed))
    samples = [split.samples[i] for i in order]
    values = None if votes is None else votes.to_numpy(np.float32)[order]
    wanted = options.shards if split.name == "train" else None
    num_shards = wanted or default_shards(sum(sample.file.num_bytes for sample in samples))
    return [
        ShardPlan(
            split.name,
            f"{split.name}-{number:06d}.tar",
            tuple(samples[part]),
            None if values is None else values[part],
        )
        for number, part in enumerate(shard_slices(len(samples), num_shards))
    ]


def _identity(
    options: PackOptions, shards: list[ShardPlan], votes: pd.DataFrame | None, image_px: tuple[int, int]
) -> dict[str, str]:
    """Everything the shards depend on, by the name a message should give it."""
    lines = [f"image_px {image_px}"]
    for shard in shards:
        for sample in shard.samples:
            file = sample.file
            proof = file.changed_ns if file.member is None else file.member.crc
            lines.append(f"{shard.split}/{sample.id} {file.num_bytes} {proof}")
    images = sha256("\n".join(sorted(lines)).encode())
    rows = sha256()
    if votes is not None:
        rows.update("\n".join(votes.index).encode() + votes.to_numpy().tobytes())
    return {
        "version of this program": __version__,
        "tree": sha256(str(options.tree.to_dict()).encode()).hexdigest(),
        "--seed": str(options.seed),
        "number of shards": str(len(shards)),
        "images": images.hexdigest(),
        "votes": rows.hexdigest(),
    }
