"""What `pack` is going to do, decided before anything is written: which sample goes into which shard, and why not.

The plan depends on the source and the options alone, so every worker count and every resumed run follows the
same one. `Plan.identity` is what a resumed run compares. The samples lie in a `Draft` on the disk: a plan holds no
more in memory for more of them.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from itertools import islice
from typing import Any

import numpy as np

from galaxy_zoo.errors import ImageError, SourceError
from galaxy_zoo.tree import DecisionTree
from galaxy_zoo.version import __version__
from shard_tool.images.encoding import AS_IT_IS, Encoding, encoded_bytes, size_of
from shard_tool.images.fits import require_astropy
from shard_tool.images.sizes import Size, common_size
from shard_tool.source.draft import FITS, JPEG, SPLITS, Draft
from shard_tool.source.files import StoredFile
from shard_tool.source.galaxy10 import StoredRow
from shard_tool.source.joining import join
from shard_tool.source.options import PackOptions
from shard_tool.source.order import default_shards, shard_slices, spread
from shard_tool.source.samples import Rejects, ShardPlan

HEADERS_READ = 100
MEASURED_WITHOUT_DECODING = 500
"""At least. The means of the channels are then off by 2 % of their value or so."""


@dataclass(frozen=True)
class Cut:
    """A split that is cut into shards of equal length, whose numbers begin with `first`."""

    split: str
    num_samples: int
    num_shards: int
    first: int = 0

    @property
    def names(self) -> list[str]:
        """The names of its shards."""
        return [f"{self.split}-{number:06d}.tar" for number in range(self.first, self.first + self.num_shards)]


@dataclass(frozen=True)
class Plan:
    """The shards to write, what is rejected already, and what was ignored (what, why).

    `encodes` is None where no image needs encoding: all are JPEGs and keep their size. `source_sha256` is the same for
    the same images and votes in any layout, as far as ids and sizes of files tell; `identity` notices more.
    """

    tree: DecisionTree
    image_px: tuple[int, int]
    draft: Draft
    cuts: tuple[Cut, ...]
    identity: dict[str, str]
    encoding: Encoding = AS_IT_IS
    encodes: dict[str, Any] | None = None
    decode: bool = True
    source_sha256: str = ""

    @property
    def num_answers(self) -> int:
        """The answers of the tree that votes are for."""
        return len(self.tree.columns)

    @property
    def main_split(self) -> str:
        """The split that the channel statistics are of: the training images, or the test images without any."""
        return self.cuts[0].split

    @property
    def num_samples(self) -> int:
        """The samples of all shards."""
        return sum(cut.num_samples for cut in self.cuts)

    @property
    def rejected(self) -> Rejects:
        """What is rejected so far."""
        return self.draft.rejects

    @property
    def names(self) -> list[str]:
        """The names of all shards, in order."""
        return [name for cut in self.cuts for name in cut.names]

    def shards(self) -> Iterator[ShardPlan]:
        """The shards one after the other, each with its samples."""
        for cut in self.cuts:
            samples = self.draft.shuffled(cut.split)
            for name, part in zip(cut.names, shard_slices(cut.num_samples, cut.num_shards), strict=True):
                found, votes = zip(*islice(samples, part.stop - part.start), strict=True)
                values = None if votes[0] is None else np.frombuffer(b"".join(votes)).reshape(len(votes), -1)
                yield ShardPlan(cut.split, name, found, None if values is None else values.astype(np.float32))

    def num_measured(self, shard: ShardPlan) -> int:
        """How many images of a shard the channel statistics are of: all of the main split, or so many of each.

        The samples are shuffled, so the first ones of every shard are a random sample.
        """
        main = self.cuts[0]
        if shard.split != main.split:
            return 0
        return len(shard.samples) if self.decode else math.ceil(MEASURED_WITHOUT_DECODING / main.num_shards)


def make_plan(options: PackOptions) -> Plan:
    """Read what is in SOURCE and decide.

    Raises:
        InputError: the source, the labels or the tree cannot be used at all; single bad images and rows are
            rejected instead.
    """
    draft = join(options)
    formats = {split: found for split in SPLITS if (found := draft.formats(split))}
    _check_stretch(draft, options)
    if not formats:
        raise SourceError(
            f"{options.source}: no image is left to pack: none has both a usable id and a row of votes"
        )
    image_px, images, votes, whole = _look_through(draft, formats, options)
    cuts = tuple(_cut(split, found, options, image_px) for split, found in formats.items())
    encodes = _what_encodes(formats, options.encoding)
    identity = {
        "version of this program": __version__,
        "tree": sha256(str(options.tree.to_dict()).encode()).hexdigest(),
        "--seed": str(options.seed),
        "decoding of images": str(options.decode),
        "number of shards": str(sum(cut.num_shards for cut in cuts)),
        "images": images,
        "votes": votes,
        "size and quality of images": str(options.encoding.to_dict()),
    }
    return Plan(options.tree, image_px, draft, cuts, identity, options.encoding, encodes, options.decode, whole)


Formats = dict[str, tuple[int, int]]
"""How many images there are of each format, and how many bytes they have."""


def _check_stretch(draft: Draft, options: PackOptions) -> None:
    """Check that a stretch is given exactly where there are FITS images, and that these can be read."""
    shown = draft.first_of(FITS)
    if shown is None and options.encoding.fits is not None and options.stretch_is_asked:
        raise SourceError(f"{options.source}: no FITS images to pack; leave --fits-range away")
    if shown is None:
        return
    if options.encoding.fits is None:
        raise SourceError(
            f"{options.source}: FITS images, as {shown}, need a stretch; pass --fits-range BLACK WHITE, the "
            "values in the files that shall be black and as bright as can be"
        )
    require_astropy(str(options.source))


def _look_through(draft: Draft, formats: dict[str, Formats], options: PackOptions) -> tuple[Size, str, str, str]:
    """The size that all images are going to have, and checksums: of the images, the votes, and of `source_sha256`."""
    totals = {split: sum(count for count, _ in found.values()) for split, found in formats.items()}
    wanted = set(spread(sum(totals.values()), HEADERS_READ))
    place = {"train": 0, "test": totals.get("train", 0)}
    looked_at: list[tuple[int, StoredFile]] = []
    images, rows, whole = sha256(), sha256(), sha256()
    for split, sample, num_bytes, proof, votes in draft.by_id():
        line = f"{split}/{sample.id} {num_bytes} ".encode()
        images.update(line + proof + b"\n")
        # as they are packed: what was unpacked again has lost the other digits
        whole.update(line + np.frombuffer(votes or b"").astype("<f4").tobytes() + b"\n")
        if votes is not None:
            rows.update(sample.id.encode() + b"\n" + votes)
        if place[split] in wanted:
            looked_at.append((place[split], sample.file))
        place[split] += 1
    image_px = _image_px([file for _, file in sorted(looked_at, key=lambda each: each[0])], options)
    images.update(f"image_px {image_px}".encode())
    return image_px, images.hexdigest(), rows.hexdigest(), whole.hexdigest()


def _image_px(looked_at: list[StoredFile], options: PackOptions) -> Size:
    """The size that all images are going to have: the one asked for, or that of most of them."""
    if options.encoding.image_px is not None:
        return options.encoding.image_px
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
        return size_of(file.read())
    except ImageError:  # it will be rejected when its turn comes
        return None


def _what_encodes(formats: dict[str, Formats], encoding: Encoding) -> dict[str, Any] | None:
    """What the manifest says about the encoding, None where every image keeps its bytes."""
    keeps_all = encoding.image_px is None and all(found.keys() == {JPEG} for found in formats.values())
    return None if keeps_all else encoding.to_dict()


def _cut(split: str, formats: Formats, options: PackOptions, image_px: Size) -> Cut:
    """Into how many shards a split is cut."""
    num_samples = sum(count for count, _ in formats.values())
    num_bytes = sum(
        num_bytes if format_ == JPEG and options.encoding.image_px is None else count * encoded_bytes(image_px)
        for format_, (count, num_bytes) in formats.items()
    )
    wanted = options.shards if split == "train" else None
    return Cut(split, num_samples, min(wanted or default_shards(num_bytes, num_samples), num_samples))
