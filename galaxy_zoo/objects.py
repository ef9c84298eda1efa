"""`objects.csv`: the position and the size of the galaxy in each image, as `shard_tool objects` measured them.

    # set_sha256 <set_sha256 of the manifest beside it>
    id,x_px,y_px,radius_px
    100008,212.31,211.87,164.20

The file names the set it was measured in, so that a file for other shards is noticed.
"""

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from galaxy_zoo.errors import ShardError
from galaxy_zoo.files import atomic_write
from galaxy_zoo.remote import AnyPath

OBJECTS_NAME = "objects.csv"
LARGEST_PX = 65_535
"""Largest position and radius: the longest side a JPEG can have."""
COLUMNS = ["id", "x_px", "y_px", "radius_px"]
MEASURE = "measure the galaxies of a folder of shards with: shard_tool objects SHARDS"


@dataclass(frozen=True)
class Objects:
    """The positions and sizes of galaxies, one per image.

    centres_px: x and y from the upper left corner, where pixel i covers [i, i + 1); float64, shape (images, 2).
    radii_px: the semi-major axes of their Petrosian apertures, above 0; float64, shape (images,).
    """

    centres_px: NDArray[np.float64]
    radii_px: NDArray[np.float64]


def write_objects(folder: Path, set_sha256: str, rows: Iterable[tuple[str, float, float, float]]) -> Path:
    """Write (id, x, y, radius) of each image into `folder`, whole or not at all; return the path of the file."""
    path = folder / OBJECTS_NAME
    with atomic_write(path) as file:
        text = io.TextIOWrapper(file, encoding="utf-8", newline="")
        text.write(_first_line(set_sha256))
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows((each, *(f"{value:.2f}" for value in values)) for each, *values in rows)
        text.flush()
        text.detach()
    return path


def read_objects(folder: Path, set_sha256: str, ids: Sequence[str]) -> Objects:
    """Return the measured galaxies of the images `ids`, in that order, from the set in `folder`.

    Raises:
        ShardError: the galaxies were not measured or were measured in other shards, or the file is damaged.
    """
    path = folder / OBJECTS_NAME
    try:
        with path.open(encoding="utf-8", newline="") as file:
            first, (header, *rows) = file.readline(), csv.reader(file)
        if header != COLUMNS:
            raise ValueError(f"its columns are {', '.join(header)}")
        known = {row[0]: (float(row[1]), float(row[2]), float(row[3])) for row in rows}
    except FileNotFoundError as error:
        raise not_measured(path) from error
    except (ValueError, IndexError, csv.Error) as error:  # bad UTF-8 is a ValueError
        raise ShardError(f"{path}: damaged: {error}; {MEASURE} --overwrite") from error
    if first != _first_line(set_sha256):
        raise ShardError(f"{path}: measured in other shards than these; {MEASURE} --overwrite")
    if missing := next((each for each in ids if each not in known), None):
        raise ShardError(f"{path}: damaged: has no {missing}; {MEASURE} --overwrite")
    values = np.array([known[each] for each in ids], np.float64).reshape(-1, 3)
    if not (((values >= 0) & (values <= LARGEST_PX)).all() and (values[:, 2] > 0).all()):  # false for NaN too
        raise ShardError(
            f"{path}: damaged: a value is no length in an image, or a radius not above 0; {MEASURE} --overwrite"
        )
    return Objects(values[:, :2], values[:, 2])


def not_measured(path: AnyPath) -> ShardError:
    """Return the error for a missing `objects.csv` at `path`."""
    return ShardError(
        f"{path}: missing, and a view that is framed by the galaxy needs it; {MEASURE}, and copy the file to wherever "
        "the shards are copied"
    )


def _first_line(set_sha256: str) -> str:
    return f"# set_sha256 {set_sha256}\n"
