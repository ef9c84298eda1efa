"""Plan a pack before anything is written: which sample goes into which shard, and what is rejected.

The plan depends only on the source and the options, so it is the same for any number of workers and for a resumed run,
which compares `PackPlan.identity`. The samples are in a `Draft` on the disk, so memory does not grow with their number.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from itertools import islice
from typing import Any

import numpy as np

from galaxy_zoo.errors import ImageError, SourceError
from galaxy_zoo.image_size import Size, check_bytes, common_size
from galaxy_zoo.remote import AnyPath
from galaxy_zoo.tree import DecisionTree
from galaxy_zoo.version import __version__
from shard_tool.images.encoding import AS_IT_IS, Encoding, encoded_bytes, size_of
from shard_tool.images.fits import require_astropy
from shard_tool.source.draft import FITS, JPEG, Draft
from shard_tool.source.files import StoredFile
from shard_tool.source.galaxy10 import StoredRow
from shard_tool.source.joining import Joined, join
from shard_tool.source.options import PackOptions
from shard_tool.source.order import default_shards, shard_slices, spread
from shard_tool.source.samples import REASONS_SHOWN, SPLITS, PlannedSample, Rejects, ShardPlan
from shard_tool.source.scratch import to_bytes, to_text

HEADERS_READ = 100
MEASURED_WITHOUT_DECODING = 500
"""Fewest images for the channel statistics; channel means are then off by about 2 % of their value."""
IS_SAMPLE = "split IS NOT NULL AND rejected IS NULL"
VOTES = "CASE split WHEN 'train' THEN (SELECT votes FROM vote WHERE vote.id = file.id) END"


class NothingLeftError(SourceError):
    """Every image of SOURCE is rejected before any is read; `rejected` gives the reasons."""

    def __init__(self, source: AnyPath, joined: Joined) -> None:
        notes = "".join(f"; {note}" for note in joined.notes)
        super().__init__(f"{source}: no image is left to pack. Rejected: {joined.rejected.summary()}{notes}")
        self.rejected = joined.rejected


@dataclass(frozen=True, kw_only=True)
class Cut:
    """A split cut into shards of equal length, numbered from `first`."""

    split: str
    num_samples: int
    num_shards: int
    first: int = 0

    @property
    def names(self) -> list[str]:
        """Names of its shards."""
        return [f"{self.split}-{number:06d}.tar" for number in range(self.first, self.first + self.num_shards)]


@dataclass(frozen=True, kw_only=True)
class PackPlan:
    """The shards to write, and what is already rejected and ignored. It is never changed.

    notes: differences between ids of images and of tables.
    encodes: None if no image needs encoding, because all are JPEGs and keep their size.
    source_sha256: the same for the same images and votes in any layout, judged by ids and file sizes; `identity`
        detects more.
    """

    tree: DecisionTree
    image_px: tuple[int, int]
    draft: Draft
    rejected: Rejects
    notes: tuple[str, ...]
    cuts: tuple[Cut, ...]
    identity: dict[str, str]
    encoding: Encoding = AS_IT_IS
    encodes: dict[str, Any] | None = None
    decode: bool = True
    source_sha256: str = ""

    @property
    def num_answers(self) -> int:
        """Number of answers of the tree."""
        return len(self.tree.columns)

    @property
    def main_split(self) -> str:
        """Split of the channel statistics: the training images, or the test images if there are none."""
        return self.cuts[0].split

    @property
    def num_samples(self) -> int:
        """Number of samples in all shards."""
        return sum(cut.num_samples for cut in self.cuts)

    @property
    def names(self) -> list[str]:
        """Names of all shards, in order."""
        return [name for cut in self.cuts for name in cut.names]

    def shards(self) -> Iterator[ShardPlan]:
        """Yield the shards in order, each with its samples."""
        for cut in self.cuts:
            drawn = self.draft.rows(
                f"SELECT id, stored, {VOTES} FROM file WHERE split = ? AND rejected IS NULL ORDER BY shuffle_key(id)",
                cut.split,
            )
            for name, part in zip(cut.names, shard_slices(cut.num_samples, cut.num_shards), strict=True):
                ids, stored, votes = zip(*islice(drawn, part.stop - part.start), strict=True)
                samples = tuple(map(PlannedSample, map(to_text, ids), stored))
                values = None
                if votes[0] is not None:
                    values = np.frombuffer(b"".join(votes)).reshape(len(votes), -1).astype(np.float32)
                yield ShardPlan(split=cut.split, name=name, samples=samples, votes=values)

    def files(self) -> Iterator[StoredFile]:
        """Yield the files of the samples, in no particular order."""
        for (stored,) in self.draft.rows(f"SELECT stored FROM file WHERE {IS_SAMPLE}"):
            yield PlannedSample("", stored).file

    def known(self, ids: Iterable[str]) -> list[tuple[str, str]]:
        """Return those of some ids that are ids of samples, and the places of their images."""
        query = "SELECT shown FROM file WHERE split IN ('train', 'test') AND rejected IS NULL AND id = ?"
        found = ((each, self.draft.first(query, to_bytes(each))) for each in ids)
        return [(each, to_text(row[0])) for each, row in found if row]

    def in_both_splits(self) -> tuple[int, str]:
        """Return the number of ids that are in train and in test, and the first of them; (0, "") if there are none."""
        count, first = self.draft.first(
            "SELECT count(*), min(id) FROM file AS tested WHERE split = 'test' AND rejected IS NULL AND EXISTS "
            "(SELECT 1 FROM file WHERE split = 'train' AND rejected IS NULL AND id = tested.id)"
        )
        return count, to_text(first or b"")

    def num_measured(self, shard: ShardPlan) -> int:
        """Return how many of a shard's images count for the channel statistics: all, or the first few of each shard.

        Only the main split counts. Samples are shuffled, so the first ones of every shard are a random sample.
        """
        main = self.cuts[0]
        if shard.split != main.split:
            return 0
        return len(shard.samples) if self.decode else math.ceil(MEASURED_WITHOUT_DECODING / main.num_shards)


def make_plan(options: PackOptions) -> PackPlan:
    """Read SOURCE and plan its shards.

    Raises:
        InputError: the source, the labels or the tree cannot be used at all; single bad images and rows are only
            rejected.
    """
    joined = join(options)
    draft = joined.draft
    formats = {split: found for split in SPLITS if (found := _formats(draft, split))}
    _check_stretch(draft, options)
    if not formats:
        raise NothingLeftError(options.source, joined)
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
    return PackPlan(
        tree=options.tree,
        image_px=image_px,
        draft=draft,
        rejected=joined.rejected,
        notes=joined.notes,
        cuts=cuts,
        identity=identity,
        encoding=options.encoding,
        encodes=encodes,
        decode=options.decode,
        source_sha256=whole,
    )


Formats = dict[str, tuple[int, int]]
"""Format -> number of images and their bytes."""


def _formats(draft: Draft, split: str) -> Formats:
    query = (
        "SELECT format, count(*), sum(num_bytes) FROM file WHERE split = ? AND rejected IS NULL GROUP BY format"
    )
    return {format_: (count, num_bytes) for format_, count, num_bytes in draft.rows(query, split)}


def _check_stretch(draft: Draft, options: PackOptions) -> None:
    """Check that a stretch is given if and only if there are FITS images, and that these can be read."""
    found = draft.first(f"SELECT shown FROM file WHERE {IS_SAMPLE} AND format = ? ORDER BY split DESC, id", FITS)
    if found is None and options.encoding.fits is not None and options.stretch_is_asked:
        raise SourceError(f"{options.source}: no FITS images to pack; omit --fits-range")
    if found is None:
        return
    if options.encoding.fits is None and options.only_images:
        raise SourceError(
            f"{options.source}: FITS images, as {to_text(found[0])}, need a stretch; pack them with shard_tool pack "
            "--fits-range and give the shards"
        )
    if options.encoding.fits is None:
        raise SourceError(
            f"{options.source}: FITS images, as {to_text(found[0])}, need a stretch; pass --fits-range BLACK "
            "WHITE, the values in the files that become black and as bright as can be"
        )
    require_astropy(str(options.source))


def _look_through(draft: Draft, formats: dict[str, Formats], options: PackOptions) -> tuple[Size, str, str, str]:
    """Return the size that all images will have, and three checksums: images, votes, and `source_sha256`."""
    totals = {split: sum(count for count, _ in found.values()) for split, found in formats.items()}
    wanted = set(spread(sum(totals.values()), HEADERS_READ))
    place = {"train": 0, "test": totals.get("train", 0)}
    looked_at: list[tuple[int, StoredFile]] = []
    images, rows, whole = sha256(), sha256(), sha256()
    by_id = draft.rows(
        f"SELECT split, id, stored, num_bytes, fingerprint, {VOTES} FROM file WHERE {IS_SAMPLE} ORDER BY split, id"
    )
    for split, sample_id, stored, num_bytes, fingerprint, votes in by_id:
        line = b"%s/%s %d " % (split.encode(), sample_id, num_bytes)
        images.update(line + fingerprint + b"\n")
        # as packed: unpacked votes have lost the other digits
        packed = b"" if votes is None else np.frombuffer(votes).astype("<f4").tobytes()
        whole.update(line + packed + b"\n")
        if votes is not None:
            rows.update(sample_id + b"\n" + votes)
        if place[split] in wanted:
            looked_at.append((place[split], PlannedSample("", stored).file))
        place[split] += 1
    image_px = _image_px([file for _, file in sorted(looked_at, key=lambda each: each[0])], options)
    images.update(f"image_px {image_px}".encode())
    return image_px, images.hexdigest(), rows.hexdigest(), whole.hexdigest()


def _image_px(looked_at: list[StoredFile], options: PackOptions) -> Size:
    """Return the size that all images will have: the one asked for, or the most common one."""
    if options.encoding.image_px is not None:
        return options.encoding.image_px
    reasons: dict[str, str] = {}
    image_px = common_size(_sizes(looked_at, reasons))
    if image_px is None:
        told = "; ".join(f"{name}: {why}" for why, name in islice(reasons.items(), REASONS_SHOWN))
        raise SourceError(f"{options.source}: none of {len(looked_at)} images looked at can be read: {told}")
    return image_px


def _sizes(files: Iterable[StoredFile], reasons: dict[str, str]) -> Iterator[Size]:
    """Yield the sizes of images; add to `reasons` why others cannot be read, with the first of each reason."""
    for file in files:
        if isinstance(file, StoredRow):
            yield file.image_px
            continue
        try:
            check_bytes(file.num_bytes)
            yield size_of(file.read())
        except ImageError as error:  # it will be rejected when its turn comes
            reasons.setdefault(str(error), file.shown)


def _what_encodes(formats: dict[str, Formats], encoding: Encoding) -> dict[str, Any] | None:
    """Return what the manifest states about encoding, None if every image keeps its bytes."""
    keeps_all = encoding.image_px is None and all(found.keys() == {JPEG} for found in formats.values())
    return None if keeps_all else encoding.to_dict()


def _cut(split: str, formats: Formats, options: PackOptions, image_px: Size) -> Cut:
    """Return the cut of a split into shards."""
    num_samples = sum(count for count, _ in formats.values())
    num_bytes = sum(
        num_bytes if format_ == JPEG and options.encoding.image_px is None else count * encoded_bytes(image_px)
        for format_, (count, num_bytes) in formats.items()
    )
    wanted = options.shards if split == "train" else None
    num_shards = min(wanted or default_shards(num_bytes, num_samples), num_samples)
    return Cut(split=split, num_samples=num_samples, num_shards=num_shards)
