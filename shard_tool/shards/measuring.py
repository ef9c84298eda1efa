"""Measure the galaxy of every image of a folder of shards, and write `objects.csv`."""

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from galaxy_zoo.errors import ImageError, OutputError, ShardError
from galaxy_zoo.files import check_can_write
from galaxy_zoo.image_size import Size
from galaxy_zoo.index import key_of
from galaxy_zoo.manifest import Manifest, Shard
from galaxy_zoo.objects import OBJECTS_NAME, write_objects
from shard_tool.images.detection import Found, find_galaxy, require_sep
from shard_tool.images.jpeg import decode_strictly
from shard_tool.shards.parallel import Tick, run_tasks
from shard_tool.shards.reader import image_of, proven_index, read_component
from shard_tool.source.scratch import open_scratch, rows, to_bytes, to_text


@dataclass(frozen=True, kw_only=True)
class MeasureTask:
    """A shard whose galaxies are to be measured; `number` is its place in the manifest."""

    folder: Path
    shard: Shard
    image_px: Size
    number: int


@dataclass(frozen=True)
class MeasuredShard:
    """Ids of a shard, and the galaxy of each image, None if nothing was found."""

    number: int
    ids: tuple[str, ...]
    found: tuple[Found | None, ...]


@dataclass(frozen=True, kw_only=True)
class Measured:
    """The file written, the number of images, and medians over the images in which a galaxy was found.

    offset_px: distance of the galaxy from the centre of its image.
    not_found: number of images without a galaxy; they get the centre and the median radius.
    """

    path: Path
    images: int
    offset_px: float
    radius_px: float
    not_found: int


def measure_folder(folder: Path, manifest: Manifest, *, workers: int, overwrite: bool = False) -> Measured:
    """Measure all images of a folder of shards and write `objects.csv` into it.

    Raises:
        InputError: `sep` is not installed.
        ShardError: a shard is not what the manifest says, an image does not decode, or no image has a galaxy.
        OutputError: the file exists already, or the folder is read-only.
    """
    require_sep()
    check_can_write(folder / OBJECTS_NAME)
    if not overwrite and (folder / OBJECTS_NAME).exists():
        raise OutputError(f"{folder / OBJECTS_NAME}: exists already; replace it with --overwrite")
    shards = [shard for shards in manifest.splits.values() for shard in shards]
    tasks = [
        MeasureTask(folder=folder, shard=shard, image_px=manifest.image_px, number=number)
        for number, shard in enumerate(shards)
    ]
    total = sum(shard.samples for shard in shards)
    database = open_scratch("galaxy (shard INTEGER, place INTEGER, id BLOB, x REAL, y REAL, radius REAL)")
    for each in run_tasks(measure_shard, tasks, workers=workers, total=total, description="objects"):
        pairs = enumerate(zip(each.ids, each.found, strict=True))
        values = ((each.number, place, to_bytes(i), *(galaxy or (None,) * 3)) for place, (i, galaxy) in pairs)
        database.executemany("INSERT INTO galaxy VALUES (?, ?, ?, ?, ?, ?)", values)
    ((found,),) = rows(database, "SELECT count(radius) FROM galaxy")
    if not found:
        raise ShardError(f"{folder}: no galaxy stands out in any image; look at them with: shard_tool preview")
    y, x = (side / 2 for side in manifest.image_px)
    radius = _median(database, "radius", found)
    squares = _median(database, f"(x - {x}) * (x - {x}) + (y - {y}) * (y - {y})", found)
    path = write_objects(folder, manifest.set_sha256, _filled(database, (x, y, radius)))
    return Measured(path=path, images=total, offset_px=squares**0.5, radius_px=radius, not_found=total - found)


def measure_shard(task: MeasureTask, tick: Tick) -> MeasuredShard:
    """Measure every image of a shard.

    Raises:
        ShardError: the shard or its index is not what the manifest says, or an image does not decode.
    """
    tar, samples, found = task.folder / task.shard.name, proven_index(task.folder, task.shard), []
    with tar.open("rb") as file:
        for sample in samples:
            try:
                image = image_of(sample)
                data = read_component(file, image) if image else b""
                found.append(find_galaxy(decode_strictly(data, task.image_px)))
            except ImageError as error:
                raise ShardError(f"{tar}: {key_of(sample)}: {error}; see: shard_tool lint --deep") from error
            tick()
    return MeasuredShard(task.number, tuple(key_of(sample) for sample in samples), tuple(found))


def _median(database: sqlite3.Connection, value: str, found: int) -> float:
    """Return the median of an expression over the galaxies found; the upper median if their number is even."""
    query = f"SELECT {value} FROM galaxy WHERE radius NOT NULL ORDER BY 1 LIMIT 1 OFFSET {found // 2}"
    ((median,),) = rows(database, query)
    return float(median)


def _filled(database: sqlite3.Connection, otherwise: Found) -> Iterator[tuple[str, float, float, float]]:
    """Yield (id, x, y, radius) in the order of the shards; `otherwise` replaces the last three if nothing was found."""
    for key, *galaxy in rows(database, "SELECT id, x, y, radius FROM galaxy ORDER BY shard, place"):
        x, y, radius = otherwise if galaxy[2] is None else galaxy
        yield to_text(key), x, y, radius
