"""What SOURCE holds: which images of which split, which table of votes, and what is ignored.

SOURCE is a folder, a zip, or a zip of zips, in any layout of the Kaggle download, or any folder, zip or tar of
JPEGs, PNGs and FITS images. Tars are opened where they lie in a folder, not inside other archives.

The split of an image is told by the nearest folder or archive below SOURCE whose name has the word "train",
"training" or "test" in it (`images_training_rev1`, `images_train_rev1.zip`, `my-test-set`). Images without such a
name are, by the first of these rules that fits:

- where others are training images by name: training images if a table named with --labels has a row for their id
  and no image with such a name has that id, else ignored;
- where there are labels: training images;
- where others are test images by name: ignored;
- test images.

Whatever is ignored is listed with the reason.
"""

import posixpath
import re
from collections import Counter
from collections.abc import Container, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from galaxy_zoo.errors import LabelError, SourceError
from shard_tool.archives import Member
from shard_tool.walking import StoredFile, file_at, is_zip, split_off, walk

SPLITS = ("train", "test")
SPLIT_WORD = re.compile(r"(?:^|[^a-z])(train|test)(?:ing)?(?![a-z])")
LABELS_NAME = re.compile(r"^train.*\.csv$|solutions.*\.csv$")
NOT_LABELS_NAME = re.compile(r"benchmark|sample_submission")
HIDDEN = re.compile(r"(?:^|/)(?:\.|__MACOSX/)")
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".fits", ".fit")
IMAGE_NAMES = ", ".join(f"<id>{suffix}" for suffix in IMAGE_SUFFIXES)


@dataclass(frozen=True)
class Listing:
    """What was found: the images of each split, the labels, and (what, why) of everything ignored.

    `unnamed` are images of no split by name: training images if `--labels` has a row for them.
    """

    images: dict[str, list[StoredFile]]
    labels: tuple[StoredFile, ...]
    unnamed: list[StoredFile]
    ignored: list[tuple[str, str]]

    def settle(self, labelled_ids: Container[str] | None) -> "Listing":
        """The listing without unnamed images: each is a training image now, or ignored.

        Args:
            labelled_ids: the ids that tables named with --labels have a row for; None without --labels.
        """
        why = "images neither in a training nor in a test folder by name"
        if labelled_ids is None:
            return Listing(self.images, self.labels, [], _grouped(self.unnamed, why) + self.ignored)
        taken = {file.stem for files in self.images.values() for file in files}
        doubles, free = split_off(self.unnamed, lambda file: file.stem in taken)
        labelled, others = split_off(free, lambda file: file.stem in labelled_ids)
        ignored = _grouped(doubles, "images whose ids training or test images by name have already")
        ignored += _grouped(others, f"{why}, and --labels has no row for them")
        images = {**self.images, "train": self.images["train"] + labelled}
        return Listing(images, self.labels, [], ignored + self.ignored)


def list_source(source: Path, labels: Sequence[Path] = ()) -> Listing:
    """Find the images and the labels; `labels` are the files the user named, if any.

    Raises:
        SourceError: SOURCE is missing or empty, holds no image, or a zip is damaged or not to be trusted.
        LabelError: there are several tables of labels, or training images without one.
    """
    images, others, hidden = _find_images(source)
    tables, not_labels = _find_labels(others, labels)
    by_split, unnamed = _by_split(images, source, is_labelled=bool(tables))
    if by_split["train"] and not tables:
        raise LabelError(
            f"{source}: {len(by_split['train']):,} training images but no training_solutions*.csv; "
            "name the table of votes with --labels FILE.csv"
        )
    if tables and not by_split["train"]:
        raise LabelError(f"{tables[0].shown}: labels, but {source} holds no training images to go with them")
    listing = Listing(by_split, tables, unnamed, not_labels + _grouped(hidden, "hidden files"))
    return listing if labels else listing.settle(None)


def list_images(source: Path, catalogue: Path) -> tuple[dict[str, StoredFile], list[tuple[str, str]]]:
    """The images by their paths below SOURCE, and (what, why) of what is ignored; `catalogue` is neither.

    Raises:
        SourceError: as `list_source`.
    """
    images, others, hidden = _find_images(source)
    skip = 1 if source.is_file() else 0  # a path below an archive begins with the archive
    by_path = {posixpath.normpath(image.shown.split("/", skip)[-1]): image for image in images}
    own = str(catalogue.resolve())
    ignored = [(f.shown, "no image") for f in others if str(Path(f.path).resolve()) != own]
    return by_path, ignored + _grouped(hidden, "hidden files")


def list_only_images(source: Path) -> list[StoredFile]:
    """The images of a folder or archive, or the one that SOURCE is; whatever else is there does not count.

    Raises:
        SourceError: as `list_source`.
    """
    if source.is_file() and source.name.lower().endswith(IMAGE_SUFFIXES):
        return [file_at(str(source), source.name)]
    images, _, _ = _find_images(source)
    return images


def _find_images(source: Path) -> tuple[list[StoredFile], list[StoredFile], list[StoredFile]]:
    """The images, the other files and the hidden ones."""
    files = walk(source)
    if not files:
        raise SourceError(f"{source}: empty; give the folder or the zip that holds the images")
    hidden, seen = split_off(files, lambda f: HIDDEN.search(f.shown) is not None)
    images, others = split_off(seen, lambda f: f.name.lower().endswith(IMAGE_SUFFIXES))
    if not images:
        raise SourceError(f"{source}: no image among its {len(files):,} files; images are {IMAGE_NAMES}")
    return images, others, hidden


def read_labels_file(path: Path) -> StoredFile:
    """The CSV that the user named, or the only one in the zip that he named."""
    if not path.is_file():
        raise LabelError(f"{path}: there is no such file; --labels takes a .csv, or a .zip that holds one")
    if not is_zip(path.name):
        return file_at(str(path), str(path))
    tables = [file for file in walk(path) if file.name.lower().endswith(".csv")]
    if len(tables) != 1:
        raise LabelError(f"{path}: holds {len(tables)} .csv files; name one with --labels FILE.csv")
    return replace(tables[0], shown=f"{path}/{tables[0].shown.partition('/')[2]}")


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


def _find_labels(
    others: list[StoredFile], named: Sequence[Path]
) -> tuple[tuple[StoredFile, ...], list[tuple[str, str]]]:
    """The tables of labels, and (what, why) of the files that are none."""
    chosen = tuple(read_labels_file(path) for path in named)
    if chosen:
        places = {_place(file) for file in chosen}
        others = [file for file in others if _place(file) not in places]
    tables, rest = split_off(others, lambda file: LABELS_NAME.search(file.name.lower()) is not None)
    ignored = [(file.shown, _why_not_labels(file)) for file in rest]
    if chosen:
        return chosen, ignored + [(t.shown, "--labels names another file") for t in tables]
    if len(tables) > 1:
        names = " and ".join(file.shown for file in tables[:3])
        raise LabelError(f"several tables of labels: {names}; name the right one with --labels FILE.csv")
    return tuple(tables), ignored


def _place(file: StoredFile) -> tuple[str, Member | None]:
    """What is the same for two `StoredFile`s of one file."""
    return str(Path(file.path).resolve()), file.member


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
