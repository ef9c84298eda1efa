"""Pack one shard: read, check and write its samples one by one. This runs in a worker process."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256

import cv2
import numpy as np
from numpy.typing import NDArray

from galaxy_zoo.errors import ImageError
from galaxy_zoo.files import atomic_write
from galaxy_zoo.image_size import check_bytes
from galaxy_zoo.index import index_path
from galaxy_zoo.manifest import Shard, Statistics
from galaxy_zoo.remote import AnyPath
from shard_tool.images.encoding import AS_IT_IS, Encoding
from shard_tool.images.jpeg import check_header, check_strictly, decode_strictly
from shard_tool.shards.journal import Journal, PackedShard, output_errors
from shard_tool.shards.parallel import Tick
from shard_tool.shards.repeated_images import fingerprint
from shard_tool.shards.statistics import NO_SUMS, add_sums, add_up_votes
from shard_tool.shards.writer import ShardWriter, encode_votes
from shard_tool.source.galaxy10 import StoredRow, encode_rows
from shard_tool.source.read_ahead import reading
from shard_tool.source.samples import Rejected, ShardPlan


@dataclass(frozen=True, kw_only=True)
class ShardTask:
    """A shard to write into `out`; with `resume` a finished one is kept if its checksums match.

    The pixels of its first `num_measured` good images count for the channel statistics. The others are decoded
    only with `decode`; otherwise only their headers are checked.
    """

    out: AnyPath
    plan: ShardPlan
    image_px: tuple[int, int]
    num_answers: int
    num_measured: int
    resume: bool
    fence: str
    encoding: Encoding = AS_IT_IS
    decode: bool = True

    def __str__(self) -> str:
        """Return its name in messages."""
        return self.plan.name


class ChannelSums:
    """Sums over the pixels of each channel, and over their squares, as exact integers.

    An image of 424 x 424 takes 30-50 us, its decoding 310 us (`numpy.bincount` would take 880 us).
    """

    def __init__(self, image_px: tuple[int, int]) -> None:
        self._planes = [np.empty(image_px, np.uint8) for _ in range(3)]
        self.num_images = 0
        self.sums = self.squares = NO_SUMS

    def add(self, image: NDArray[np.uint8]) -> None:
        """Add a uint8 image of shape (height, width, 3)."""
        cv2.split(image, self._planes)
        self.num_images += 1
        self.sums = add_sums(self.sums, map(int, cv2.sumElems(image)[:3]))
        # round, since OpenCV 5 squares the root of the sum
        self.squares = add_sums(self.squares, (round(cv2.norm(plane, cv2.NORM_L2SQR)) for plane in self._planes))


def pack_shard(task: ShardTask, tick: Tick) -> PackedShard:
    """Write a shard, its index and its entry in the journal.

    Raises:
        OutputError: it cannot be written, or its pack is no longer running.
        SourceError: the source can no longer be read.
    """
    journal = Journal(task.out)
    if task.resume and (finished := journal.finished_shard(task.plan.name)):
        for _ in task.plan.samples:
            tick()
        return finished
    path = task.out / task.plan.name
    with output_errors(path):
        packed = _write(task, path, tick)
        journal.finish_shard(packed)
    return packed


def _write(task: ShardTask, path: AnyPath, tick: Tick) -> PackedShard:
    """Write the good samples of a shard; return its entry, with the rejected ones."""
    sums = ChannelSums(task.image_px)
    rejected, kept, is_encoded, fingerprints = [], [], False, {}
    with (
        atomic_write(path, is_contested=True) as file,
        atomic_write(index_path(path), is_contested=True) as index_file,
        _jpegs(task) as jpegs,
    ):
        writer = ShardWriter(file)
        for number, sample in enumerate(task.plan.samples):
            try:
                data, was_encoded = jpegs(number)
                _prove(data, task, sums)
            except ImageError as error:
                rejected.append(
                    Rejected(split=task.plan.split, id=sample.id, file=sample.file.name, reason=str(error))
                )
            else:
                votes = None if task.plan.votes is None else encode_votes(task.plan.votes[number])
                writer.add(sample.id, data, votes)
                fingerprints[sample.id] = fingerprint(data)
                kept.append(number)
                is_encoded |= was_encoded
            tick()
        writer.finish()
        index = writer.index.encode()
        index_file.write(index)
        Journal(task.out).check_fence(task.fence)
    shard = Shard(path.name, writer.num_samples, writer.num_bytes, writer.sha256, sha256(index).hexdigest())
    return PackedShard(
        shard=shard,
        rejected=tuple(rejected),
        statistics=_statistics(task, writer, kept, sums),
        is_encoded=is_encoded,
        fingerprints=fingerprints,
    )


def _prove(jpeg: bytes, task: ShardTask, sums: ChannelSums) -> None:
    """Check a JPEG, and measure its pixels if it is among the first good ones."""
    if sums.num_images < task.num_measured:
        sums.add(decode_strictly(jpeg, task.image_px))
    elif task.decode:
        check_strictly(jpeg, task.image_px)
    else:
        check_header(jpeg, task.image_px)


def _statistics(task: ShardTask, writer: ShardWriter, kept: list[int], sums: ChannelSums) -> Statistics:
    """Return the statistics of the samples that were written, whose numbers are `kept`."""
    votes = [] if task.plan.votes is None else [task.plan.votes[kept]]
    labelled, counts, totals = add_up_votes(votes, task.num_answers)
    return Statistics(writer.image_bytes, labelled, counts, totals, sums.sums, sums.squares, sums.num_images)


@contextmanager
def _jpegs(task: ShardTask) -> Iterator[Callable[[int], tuple[bytes, bool]]]:
    """Yield a function that takes a sample's number and returns its JPEG, and whether the image was encoded.

    Call it in the order of the samples. It reads the image when it is called, or earlier if that is faster, and raises
    ImageError if the image cannot be used.
    """
    files = [sample.file for sample in task.plan.samples]
    rows = [file for file in files if isinstance(file, StoredRow)]
    if rows:
        jpegs = encode_rows(rows, task.encoding)
        yield lambda number: (jpegs[number], True)
        return
    with reading(files) as read:

        def to_jpeg(number: int) -> tuple[bytes, bool]:
            check_bytes(files[number].num_bytes)
            data = read(number)
            jpeg = task.encoding.to_jpeg(data)
            return jpeg, jpeg is not data

        yield to_jpeg
