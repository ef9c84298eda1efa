"""What `pack` is going to do, decided before anything is written: which sample goes into which shard, and why not.

The plan depends on the source and the options alone, so every worker count and every resumed run follows the
same one. `Plan.identity` is what a resumed run compares.
"""

import gc
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from galaxy_zoo.errors import ImageError, SourceError
from galaxy_zoo.tree import DecisionTree
from galaxy_zoo.version import __version__
from shard_tool.encoding import AS_IT_IS, Encoding, is_fits, is_jpeg, size_of
from shard_tool.fits import require_astropy
from shard_tool.galaxy10 import StoredRow
from shard_tool.joining import Rejected, Sample, Split, join
from shard_tool.options import PackOptions
from shard_tool.order import default_shards, shard_slices, shuffle_key, spread
from shard_tool.sizes import Size, common_size
from shard_tool.walking import StoredFile

HEADERS_READ = 100
MEASURED_WITHOUT_DECODING = 500
"""At least. The means of the channels are then off by 2 % of their value or so."""


@dataclass(frozen=True)
class ShardPlan:
    """The samples of one shard in their order; `votes` is float32 of shape (samples, answers), None without."""

    split: str
    name: str
    samples: tuple[Sample, ...]
    votes: NDArray[np.float32] | None


@dataclass(frozen=True)
class Plan:
    """The shards to write, what is rejected already, and what was ignored (what, why).

    `encodes` is None where no image needs encoding: all are JPEGs and keep their size.
    """

    tree: DecisionTree
    image_px: tuple[int, int]
    shards: tuple[ShardPlan, ...]
    rejected: tuple[Rejected, ...]
    ignored: tuple[tuple[str, str], ...]
    identity: dict[str, str]
    encoding: Encoding = AS_IT_IS
    encodes: dict[str, Any] | None = None
    decode: bool = True

    @property
    def num_answers(self) -> int:
        """The answers of the tree that votes are for."""
        return len(self.tree.columns)

    def num_measured(self, shard: ShardPlan) -> int:
        """How many images of a shard the channel statistics are of: all of the main split, or so many of each.

        The samples are shuffled, so the first ones of every shard are a random sample.
        """
        if shard.split != self.main_split:
            return 0
        num_shards = sum(each.split == self.main_split for each in self.shards)
        return len(shard.samples) if self.decode else math.ceil(MEASURED_WITHOUT_DECODING / num_shards)

    @property
    def main_split(self) -> str:
        """The split that the channel statistics are of: the training images, or the test images without any."""
        return self.shards[0].split

    @property
    def num_samples(self) -> int:
        """The samples of all shards."""
        return sum(len(shard.samples) for shard in self.shards)


def make_plan(options: PackOptions) -> Plan:
    """Read what is in SOURCE and decide.

    Raises:
        InputError: the source, the labels or the tree cannot be used at all; single bad images and rows are
            rejected instead.
    """
    with _collector_paused():
        return _make_plan(options)


def _make_plan(options: PackOptions) -> Plan:
    joined = join(options)
    samples = [sample for split in joined.splits for sample in split.samples]
    _check_stretch(samples, options)
    image_px = _image_px(samples, options)
    encodes = _what_encodes(samples, options.encoding)
    shards = [shard for split in joined.splits for shard in _cut(split, options, joined.votes_of(split), image_px)]
    identity = _identity(options, shards, joined.votes, image_px)
    return Plan(
        tree=options.tree,
        image_px=image_px,
        shards=tuple(shards),
        rejected=tuple(rejected for split in joined.splits for rejected in split.rejected),
        ignored=tuple(joined.ignored),
        identity={**identity, "size and quality of images": str(encodes)},
        encoding=options.encoding,
        encodes=encodes,
        decode=options.decode,
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


def _check_stretch(samples: list[Sample], options: PackOptions) -> None:
    """Check that a stretch is given exactly where there are FITS images, and that these can be read."""
    shown = next((sample.file.shown for sample in samples if is_fits(sample.file.name)), None)
    if shown is None and options.encoding.fits is not None:
        raise SourceError(f"{options.source}: no FITS images to pack; leave --fits-range away")
    if shown is None:
        return
    if options.encoding.fits is None:
        raise SourceError(
            f"{options.source}: FITS images, as {shown}, need a stretch; pass --fits-range BLACK WHITE, the "
            "values in the files that shall be black and as bright as can be"
        )
    require_astropy(str(options.source))


def _image_px(samples: list[Sample], options: PackOptions) -> Size:
    """The size that all images are going to have: the one asked for, or that of most of them."""
    if not samples:
        raise SourceError(
            f"{options.source}: no image is left to pack: none has both a usable id and a row of votes"
        )
    if options.encoding.image_px is not None:
        return options.encoding.image_px
    looked_at = [samples[i].file for i in spread(len(samples), HEADERS_READ)]
    image_px = common_size(size for file in looked_at if (size := _try_to_measure(file)))
    if image_px is None:
        raise SourceError(
            f"{options.source}: none of {len(looked_at)} images looked at can be read, as {looked_at[0].shown}"
        )
    return image_px


def _try_to_measure(file: StoredFile) -> Size | None:
    if isinstance(file, StoredRow):
        return file.image_px
    try:
        return size_of(file.name, file.read())
    except ImageError:  # it will be rejected when its turn comes
        return None


def _what_encodes(samples: list[Sample], encoding: Encoding) -> dict[str, Any] | None:
    """What the manifest says about the encoding, None where every image keeps its bytes."""
    keeps_all = encoding.image_px is None and all(is_jpeg(sample.file.name) for sample in samples)
    return None if keeps_all else encoding.to_dict()


def _cut(split: Split, options: PackOptions, votes: pd.DataFrame | None, image_px: Size) -> list[ShardPlan]:
    """Shuffle a split and cut it into shards."""
    order = sorted(range(len(split.samples)), key=lambda i: shuffle_key(split.samples[i].id, options.seed))
    samples = [split.samples[i] for i in order]
    values = None if votes is None else votes.to_numpy(np.float32)[order]
    wanted = options.shards if split.name == "train" else None
    files = [sample.file for sample in samples]
    num_bytes = sum(options.encoding.jpeg_bytes(file.name, file.num_bytes, image_px) for file in files)
    num_shards = wanted or default_shards(num_bytes)
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
            checksum = file.member.crc if file.member else None
            proof = f"{file.changed_ns} {file.shown}" if checksum is None else checksum
            lines.append(f"{shard.split}/{sample.id} {file.num_bytes} {proof}")
    images = sha256("\n".join(sorted(lines)).encode())
    rows = sha256()
    if votes is not None:
        rows.update("\n".join(votes.index).encode() + votes.to_numpy().tobytes())
    return {
        "version of this program": __version__,
        "tree": sha256(str(options.tree.to_dict()).encode()).hexdigest(),
        "--seed": str(options.seed),
        "decoding of images": str(options.decode),
        "number of shards": str(len(shards)),
        "images": images.hexdigest(),
        "votes": rows.hexdigest(),
    }
