"""Read Galaxy10 DECaLS and SDSS: one HDF5 file with pixels in `images` and the number of the answer in `ans`.

A file compressed in chunks of many images is slow to read image by image, and shards are shuffled. So the images
of a shard are read in the order of the file, a chunk at a time, encoded, and returned in the order of the shard.

Source of the layout and of `SIDE_PX`: Leung & Bovy, astroNN documentation, "Galaxy10 DECaLS Dataset" and "Galaxy10 SDSS
Dataset".
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from galaxy_zoo.errors import InputError, LabelError, SourceError
from galaxy_zoo.image_size import LARGEST_SIDE_PX, Size
from galaxy_zoo.remote import AnyPath, RemotePath
from galaxy_zoo.tree import DecisionTree
from shard_tool.images.encoding import Encoding, Pixels
from shard_tool.source.files import StoredFile

SUFFIXES = (".h5", ".hdf5")
SIDE_PX = {"galaxy10": 256, "galaxy10-sdss": 69}
"""Tree -> side of its images; both have classes 0 to 9, with different meanings."""
SLICE_BYTES = 2**26
"""Bytes to read at once; images of Galaxy10 DECaLS take 197 kB each."""


VotesOfRow = tuple[str, NDArray[np.float64]]


@dataclass(frozen=True, slots=True)
class StoredRow(StoredFile):
    """An image of an HDF5 file; `image_px` is its (height, width)."""

    row: int = 0
    image_px: tuple[int, int] = (0, 0)

    def __reduce__(self) -> tuple[Any, ...]:
        return StoredRow, tuple(getattr(self, name) for name in self.__match_args__)


def is_hdf5(source: AnyPath) -> TypeGuard[Path]:
    """Return whether SOURCE is an HDF5 file by its name.

    Raises:
        SourceError: it is an HDF5 file in a store.
    """
    if isinstance(source, RemotePath) and source.name.lower().endswith(SUFFIXES):
        raise SourceError(f"{source}: HDF5 is only read from the disk; copy it here first")
    return source.name.lower().endswith(SUFFIXES) and not source.is_dir()


def read_galaxy10(source: Path, tree: DecisionTree) -> tuple[Size, Iterator[StoredRow], Iterator[VotesOfRow]]:
    """Return the size of the images, the images, and the one-hot votes of each id, float64, shape (answers,).

    Raises:
        SourceError: it is not an HDF5 file in the layout of Galaxy10.
        LabelError: an answer is not in the tree.
        InputError: the tree has several questions, or h5py is not installed.
    """
    if len(tree.questions) != 1:
        raise InputError(
            f"{source}: its galaxies have one answer each, but tree {tree.name!r} has {len(tree.questions)} "
            f"questions; use shard_tool pack --tree {' or --tree '.join(SIDE_PX)}"
        )
    with _open(source) as file:
        images, answers = _dataset(file, "images", source), _dataset(file, "ans", source)
        _check_layout(images, answers, source)
        numbers, size = np.asarray(answers[:]), (int(images.shape[1]), int(images.shape[2]))
    _check_tree(source, tree, size)
    wrong = np.flatnonzero((numbers < 0) | (numbers >= len(tree.columns)))
    if len(wrong):
        raise LabelError(
            f"{source}: ans[{wrong[0]}] is {numbers[wrong[0]]}, but tree {tree.name!r} has the answers 0 to "
            f"{len(tree.columns) - 1} ({len(wrong)} such rows); use shard_tool pack --tree with that of its survey"
        )
    changed_ns = source.stat().st_mtime_ns
    num_bytes = size[0] * size[1] * 3
    one_hot = np.eye(len(tree.columns))
    rows = (
        StoredRow(f"{source.name}/{_id(row)}", str(source), num_bytes, changed_ns, row=row, image_px=size)
        for row in range(len(numbers))
    )
    return size, rows, ((_id(row), one_hot[number]) for row, number in enumerate(numbers))


def _check_tree(source: Path, tree: DecisionTree, size: Size) -> None:
    """Check by the image size that the classes are those of the tree's survey; raise LabelError if not."""
    fits = next((name for name, side in SIDE_PX.items() if size == (side, side)), tree.name)
    if tree.name in SIDE_PX and fits != tree.name:
        raise LabelError(
            f"{source}: images of {size[1]} x {size[0]} pixels are those of tree {fits!r}, and tree {tree.name!r} has "
            f"other classes; use shard_tool pack --tree {fits}"
        )


def _id(row: int) -> str:
    return f"galaxy10-{row:06d}"


def encode_rows(files: Sequence[StoredRow], encoding: Encoding) -> list[bytes]:
    """Return the JPEGs of some images of one file, in their order.

    Raises:
        SourceError: the file has changed or is damaged.
    """
    source = Path(files[0].path)
    if source.stat().st_mtime_ns != files[0].changed_ns:
        raise SourceError(f"{source}: has changed since it was listed; pack again")
    jpegs: dict[int, bytes] = {}
    with _open(source) as file:
        images = file["images"]
        step = _rows_at_once(images)
        for start, rows in groupby(sorted(each.row for each in files), key=lambda row: row // step * step):
            pixels: Pixels = images[start : start + step]
            for row in rows:
                jpegs[row] = encoding.encode(pixels[row - start])
    return [jpegs[each.row] for each in files]


@contextmanager
def _open(source: Path) -> Iterator[Any]:
    """Open an HDF5 file; turn errors of h5py into ours."""
    try:
        import h5py  # noqa: PLC0415 - an extra that most packs do not need
    except ImportError as error:
        raise InputError(f"{source}: reading HDF5 needs h5py; install it with: pip install h5py") from error
    if not source.is_file():
        raise SourceError(f"{source}: there is no such file")
    try:
        with h5py.File(source, "r") as file:
            yield file
    except (OSError, RuntimeError, KeyError) as error:
        raise SourceError(f"{source}: not a whole HDF5 file ({error}); download it again") from error


def _dataset(file: Any, name: str, source: Path) -> Any:
    """Return a dataset, whose data must be in the file itself."""
    import h5py  # noqa: PLC0415

    link = file.get(name, getlink=True)
    if link is None:
        raise SourceError(
            f"{source}: has no dataset {name!r}, but {', '.join(sorted(file)[:6]) or 'nothing'}; only the layout "
            "of Galaxy10 is read"
        )
    if not isinstance(link, h5py.HardLink):
        raise SourceError(f"{source}: {name!r} is a link; pack a file that holds its own data")
    data = file[name]
    if not isinstance(data, h5py.Dataset) or data.is_virtual or data.external:
        raise SourceError(
            f"{source}: {name!r} is no dataset with its own data; only the layout of Galaxy10 is read"
        )
    return data


def _check_layout(images: Any, answers: Any, source: Path) -> None:
    shape: tuple[int, ...] = images.shape or ()  # h5py gives None for an empty dataset
    if images.dtype != np.uint8 or len(shape) != 4 or shape[3] != 3:
        raise SourceError(
            f"{source}: images are {images.dtype} of shape {shape}; uint8 (N, height, width, 3) is read"
        )
    if not (0 < shape[1] <= LARGEST_SIDE_PX and 0 < shape[2] <= LARGEST_SIDE_PX):
        raise SourceError(
            f"{source}: images of {shape[2]} x {shape[1]} pixels; a side may have 1 to {LARGEST_SIDE_PX}"
        )
    if answers.dtype.kind not in "iu" or answers.shape != shape[:1] or not len(answers):
        raise SourceError(
            f"{source}: ans is {answers.dtype} of shape {answers.shape}; one integer for each of {shape[0]:,} "
            "images is read"
        )
    if shape[0] > source.stat().st_size:
        raise SourceError(
            f"{source}: says it holds {shape[0]:,} images, more than it has bytes; download it again"
        )
    chunk = 1 if images.chunks is None else int(np.prod(images.chunks))
    if chunk > 4 * SLICE_BYTES:
        raise SourceError(
            f"{source}: chunks of {chunk:,} bytes, which are more than memory is planned for; h5repack it"
        )


def _rows_at_once(images: Any) -> int:
    """Return the number of rows to read at once: a chunk if it is not too large, one row if the file has no chunks."""
    rows = 1 if images.chunks is None else int(images.chunks[0])
    return max(1, min(rows, SLICE_BYTES // int(np.prod(images.shape[1:]))))
