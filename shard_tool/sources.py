"""What SOURCE holds: which images of which split, which table of votes, and what is ignored.

SOURCE is a folder, a zip, or a zip of zips, in any layout of the Kaggle download, or any folder of JPEGs.

The split of an image is told by the nearest folder or zip below SOURCE whose name has the word "train",
"training" or "test" in it (`images_training_rev1`, `images_train_rev1.zip`, `my-test-set`). Images without such a
name are, in this order: ignored where others are training images by name; training images where there are labels;
ignored where others are test images by name; test images. Whatever is ignored is listed with the reason.
"""

import os
import re
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from galaxy_zoo.errors import LabelError, SourceError
from shard_tool.archives import Archive, Member, archive_at, list_members, read_member

SPLITS = ("train", "test")
SPLIT_WORD = re.compile(r"(?:^|[^a-z])(train|test)(?:ing)?(?![a-z])")
LABELS_NAME = re.compile(r"^train.*\.csv$|solutions.*\.csv$")
NOT_LABELS_NAME = re.compile(r"benchmark|sample_submission")
HIDDEN = re.compile(r"(?:^|/)(?:\.|__MACOSX/)")
IMAGE_SUFFIXES = (".jpg", ".jpeg")


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file of SOURCE: at `path` on the disk, or the `member` of an `archive`.

    `shown` is the path below SOURCE, through folders and zips, with "/"; what messages call it.
    """

    shown: str
    path: str
    num_bytes: int
    changed_ns: int
    archive: Archive | None = None
    member: Member | None = None

    @property
    def name(self) -> str:
        """The file's own name, which is the same in a folder and in a zip."""
        return self.shown.rpartition("/")[2]

    @property
    def folder(self) -> str:
        """The folder or zip it is in, below SOURCE."""
        return self.shown.rpartition("/")[0] or "."

    def read(self) -> bytes:
        """The bytes of the file.

        Raises:
            ImageError: it is a damaged member of a zip.
            SourceError: it, or the zip, cannot be read.
        """
        if self.archive is not None and self.member is not None:
            return read_member(self.archive, self.member)
        try:
            return Path(self.path).read_bytes()
        except OSError as error:
            raise SourceError(
                f"{self.path}: cannot be read ({error.strerror}); mend that and pack again"
            ) from error


@dataclass(frozen=True)
class Listing:
    """What was found: the images of each split, the labels, and (what, why) of everything ignored."""

    images: dict[str, list[StoredFile]]
    labels: StoredFile | None
    ignored: list[tuple[str, str]]


def list_source(source: Path, labels: Path | None = None) -> Listing:
    """Find the images and the labels; `labels` is the file the user named, if any.

    Raises:
        SourceError: SOURCE is missing or empty, holds no image, or a zip is damaged or not to be trusted.
        LabelError: there are several tables of labels, or training images without one.
    """
    files = walk(source)
    if not files:
        raise SourceError(f"{source}: empty; give the folder or the zip that holds the images")
    hidden, seen = _split_off(files, lambda f: HIDDEN.search(f.shown) is not None)
    images, others = _split_off(seen, lambda f: f.name.lower().endswith(IMAGE_SUFFIXES))
    if not images:
        raise SourceError(f"{source}: no JPEG among its {len(files):,} files; images are <id>.jpg or <id>.jpeg")
    table, not_labels = _find_labels(others, labels)
    by_split, unnamed = _by_split(images, source, is_labelled=table is not None)
    if by_split["train"] and table is None:
        raise LabelError(
            f"{source}: {len(by_split['train']):,} training images but no training_solutions*.csv; "
            "name the table of votes with --labels FILE.csv"
        )
    if table is not None and not by_split["train"]:
        raise LabelError(f"{table.shown}: labels, but {source} holds no training images to go with them")
    why = "neither in a training nor in a test folder by name"
    ignored = _grouped(unnamed, f"images {why}") + not_labels + _grouped(hidden, "hidden files")
    return Listing(by_split, table, ignored)


def walk(source: Path) -> list[StoredFile]:
    """Every file of a folder or zip, also those in zips in it, sorted by where they are.

    Raises:
        SourceError: there is no such folder or zip, or a zip is damaged or not to be trusted.
    """
    if source.is_dir():
        found = list(_walk_folder(source))
    elif source.is_file():
        found = [_file_at(str(source), source.name)]
        if not _is_zip(found[0].name):
            raise SourceError(f"{source}: neither a folder nor a .zip; give one that holds the images")
    else:
        raise SourceError(f"{source}: there is no such folder or zip")
    zips, files = _split_off(found, lambda f: _is_zip(f.name))
    inner_zips, members = _split_off(_list_zips(zips), lambda f: _is_zip(f.name))
    files += members + _list_zips(inner_zips)
    return sorted(files, key=lambda file: file.shown)


def read_labels_file(path: Path) -> StoredFile:
    """The CSV that the user named, or the only one in the zip that he named."""
    if not path.is_file():
        raise LabelError(f"{path}: there is no such file; --labels takes a .csv, or a .zip that holds one")
    if not _is_zip(path.name):
        return _file_at(str(path), str(path))
    tables = [file for file in walk(path) if file.name.lower().endswith(".csv")]
    if len(tables) != 1:
        raise LabelError(f"{path}: holds {len(tables)} .csv files; name one with --labels FILE.csv")
    return tables[0]


def _walk_folder(folder: Path) -> Iterator[StoredFile]:
    seen: set[tuple[int, int]] = set()
    for root, folders, names in os.walk(folder, followlinks=True, onerror=_raise):
        status = Path(root).stat()
        if (status.st_dev, status.st_ino) in seen:  # a link that leads back
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        below = os.path.relpath(root, folder)
        for name in names:
            yield _file_at(os.path.join(root, name), name if below == "." else f"{below}/{name}")  # noqa: PTH118


def _raise(error: OSError) -> None:
    raise SourceError(f"{error.filename}: cannot be read ({error.strerror})") from error


def _file_at(path: str, shown: str) -> StoredFile:
    try:
        status = Path(path).stat()
    except OSError as error:
        raise SourceError(f"{path}: cannot be read ({error.strerror}); remove or mend it") from error
    return StoredFile(shown, path, status.st_size, status.st_mtime_ns)


def _is_zip(name: str) -> bool:
    return name.lower().endswith(".zip")


def _list_zips(zips: list[StoredFile]) -> list[StoredFile]:
    with ThreadPoolExecutor() as pool:  # zlib inflates outside the interpreter lock
        return [member for members in pool.map(_list_zip, zips) for member in members]


def _list_zip(file: StoredFile) -> list[StoredFile]:
    archive = archive_at(file.path)
    if file.member is not None:
        archive = Archive(archive.path, archive.num_bytes, archive.changed_ns, file.member)
    return [
        StoredFile(f"{file.shown}/{member.name}", file.path, member.size, archive.changed_ns, archive, member)
        for member in list_members(archive)
    ]


def _by_split(
    images: list[StoredFile], source: Path, *, is_labelled: bool
) -> tuple[dict[str, list[StoredFile]], list[StoredFile]]:
    skip = 1 if source.is_file() else 0  # the first part of a path below a zip is the zip itself
    by_split: dict[str | None, list[StoredFile]] = {"train": [], "test": [], None: []}
    for image in images:
        by_split[_split_by_name(image.folder.split("/", skip)[-1])].append(image)
    unnamed = by_split.pop(None)
    if not by_split["train"] and (is_labelled or _split_by_name(source.name) == "train"):
        by_split["train"], unnamed = unnamed, []
    elif not by_split["train"] and not by_split["test"]:
        by_split["test"], unnamed = unnamed, []
    return {split: by_split[split] for split in SPLITS}, unnamed


@cache
def _split_by_name(folder: str) -> str | None:
    for part in reversed(folder.split("/")):
        if word := SPLIT_WORD.search(part.lower()):
            return word[1]
    return None


def _find_labels(others: list[StoredFile], named: Path | None) -> tuple[StoredFile | None, list[tuple[str, str]]]:
    tables = [file for file in others if LABELS_NAME.search(file.name.lower())]
    rest = [(file.shown, _why_not_labels(file)) for file in others if file not in tables]
    if named is not None:
        return read_labels_file(named), rest + [(t.shown, "--labels names another file") for t in tables]
    if len(tables) > 1:
        names = " and ".join(file.shown for file in tables[:3])
        raise LabelError(f"several tables of labels: {names}; name the right one with --labels FILE.csv")
    return (tables[0] if tables else None), rest


def _why_not_labels(file: StoredFile) -> str:
    name = file.name.lower()
    if NOT_LABELS_NAME.search(name):
        return "a benchmark submission, not labels"
    if name.endswith(".csv"):
        return "not labels by its name; if it is, name it with --labels"
    return "neither an image nor labels"


def _grouped(files: list[StoredFile], why: str) -> list[tuple[str, str]]:
    folders = Counter(file.folder for file in files)
    return [(folder, f"{count:,} {why}") for folder, count in sorted(folders.items())]


def _split_off(
    files: list[StoredFile], is_chosen: Callable[[StoredFile], bool]
) -> tuple[list[StoredFile], list[StoredFile]]:
    """Those that are chosen, and the others."""
    return [f for f in files if is_chosen(f)], [f for f in files if not is_chosen(f)]
