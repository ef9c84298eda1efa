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
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

from galaxy_zoo.errors import LabelError, SourceError
from galaxy_zoo.remote import AnyPath, is_url
from shard_tool.source.archives import Member
from shard_tool.source.draft import HIDDEN, IMAGE, OTHER, Draft, FoundFile
from shard_tool.source.files import StoredFile, file_at, is_zip, path_text, walk

SPLIT_WORD = re.compile(r"(?:^|[^a-z])(train|test)(?:ing)?(?![a-z])")
LABELS_NAME = re.compile(r"^train.*\.csv$|solutions.*\.csv$")
NOT_LABELS_NAME = re.compile(r"benchmark|sample_submission")
HIDDEN_NAME = re.compile(r"(?:^|/)(?:\.|__MACOSX/)")
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".fits", ".fit")
NOT_BY_NAME = "images neither in a training nor in a test folder by name"
IMAGE_NAMES = ", ".join(f"<id>{suffix}" for suffix in IMAGE_SUFFIXES)


def list_source(draft: Draft, source: AnyPath, labels: Sequence[AnyPath] = ()) -> tuple[StoredFile, ...]:
    """Write the images into an empty draft; return the tables of labels: `labels`, if the user named any.

    Where he did, the images of no split by name are left for `settle`, which needs the rows of these tables.

    Raises:
        SourceError: SOURCE is missing or empty, holds no image, or a zip is damaged or not to be trusted.
        LabelError: there are several tables of labels, or training images without one.
    """
    skip = 1 if source.is_file() else 0  # the first part of a path below a zip is the zip itself
    _find_files(
        draft,
        source,
        (FoundFile(f, what := _what(f), _split_of(f, skip) if what == IMAGE else None) for f in walk(source)),
    )
    tables = _find_labels(draft, labels)
    _take_unnamed(draft, source, is_labelled=bool(tables))
    num_train = draft.count(split="train")
    if num_train and not tables:
        raise LabelError(
            f"{source}: {num_train:,} training images but no training_solutions*.csv; "
            "name the table of votes with --labels FILE.csv"
        )
    if tables and not num_train:
        raise LabelError(f"{tables[0].shown}: labels, but {source} holds no training images to go with them")
    if not labels:
        draft.ignore_unnamed(NOT_BY_NAME)
    return tables


def settle(draft: Draft) -> None:
    """Make each unnamed image a training image, if a table named with --labels has a row for it, or ignore it."""
    draft.settle_unnamed(
        doubles="images whose ids training or test images by name have already",
        others=f"{NOT_BY_NAME}, and --labels has no row for them",
    )


def list_images(draft: Draft, source: AnyPath, catalogue: AnyPath) -> None:
    """Write the images into an empty draft with their paths below SOURCE; `catalogue` is no other file.

    Raises:
        SourceError: as `list_source`.
    """
    skip = 1 if source.is_file() else 0  # a path below an archive begins with the archive
    _find_files(
        draft,
        source,
        (FoundFile(f, _what(f), place=posixpath.normpath(f.shown.split("/", skip)[-1])) for f in walk(source)),
    )
    own = _resolved(path_text(catalogue))
    for file in draft.files(OTHER):
        if _resolved(file.path) != own:
            draft.ignore(file.shown, "no image")


def list_only_images(draft: Draft, source: AnyPath) -> None:
    """Write the images of a folder or archive, or the one that SOURCE is, into an empty draft as test images.

    Raises:
        SourceError: as `list_source`.
    """
    is_image = source.is_file() and source.name.lower().endswith(IMAGE_SUFFIXES)
    files = iter([file_at(path_text(source), source.name)]) if is_image else walk(source)
    _find_files(draft, source, (FoundFile(f, what := _what(f), "test" if what == IMAGE else None) for f in files))


def _find_files(draft: Draft, source: AnyPath, files: Iterator[FoundFile]) -> None:
    draft.add_files(files)
    if not draft.count():
        num_others = draft.count(what=OTHER)
        if not num_others and not draft.count(what=HIDDEN):
            raise SourceError(f"{source}: empty; give the folder or the zip that holds the images")
        num_files = num_others + draft.count(what=HIDDEN)
        raise SourceError(f"{source}: no image among its {num_files:,} files; images are {IMAGE_NAMES}")
    draft.ignore_hidden()


def _what(file: StoredFile) -> str:
    if HIDDEN_NAME.search(file.shown):
        return HIDDEN
    return IMAGE if file.shown.lower().endswith(IMAGE_SUFFIXES) else OTHER


def _split_of(file: StoredFile, skip: int) -> str | None:
    return _split_by_name(file.folder.split("/", skip)[-1])


def _take_unnamed(draft: Draft, source: AnyPath, *, is_labelled: bool) -> None:
    """Make the images of no split by name training or test images, where they are all of a kind."""
    if not draft.count(split="train") and (is_labelled or _split_by_name(source.name) == "train"):
        draft.take_unnamed("train")
    elif not draft.count(split="train") and not draft.count(split="test"):
        draft.take_unnamed("test")


def read_labels_file(path: AnyPath) -> StoredFile:
    """The CSV that the user named, or the only one in the zip that he named."""
    try:
        is_file = path.is_file()
    except OSError as error:
        raise LabelError(f"{path}: cannot be read ({error.strerror})") from error
    if not is_file:
        raise LabelError(f"{path}: there is no such file; --labels takes a .csv, or a .zip that holds one")
    if not is_zip(path.name):
        return file_at(path_text(path), str(path))
    tables = [file for file in walk(path) if file.name.lower().endswith(".csv")]
    if len(tables) != 1:
        raise LabelError(f"{path}: holds {len(tables)} .csv files; name one with --labels FILE.csv")
    return replace(tables[0], shown=f"{path}/{tables[0].shown.partition('/')[2]}")


@cache
def _split_by_name(folder: str) -> str | None:
    for part in reversed(folder.split("/")):
        if word := SPLIT_WORD.search(part.lower()):
            return word[1]
    return None


def _find_labels(draft: Draft, named: Sequence[AnyPath]) -> tuple[StoredFile, ...]:
    """The tables of labels; the other files that are no images are ignored, with the reason."""
    chosen = tuple(read_labels_file(path) for path in named)
    places = {_place(file) for file in chosen}
    tables = []
    for file in draft.files(OTHER):
        if places and _place(file) in places:
            continue
        if LABELS_NAME.search(file.name.lower()):
            tables.append(file)
        else:
            draft.ignore(file.shown, _why_not_labels(file))
    if chosen:
        for table in tables:
            draft.ignore(table.shown, "--labels names another file")
        return chosen
    if len(tables) > 1:
        names = " and ".join(file.shown for file in tables[:3])
        raise LabelError(f"several tables of labels: {names}; name the right one with --labels FILE.csv")
    return tuple(tables)


def _place(file: StoredFile) -> tuple[str, Member | None]:
    """What is the same for two `StoredFile`s of one file."""
    return _resolved(file.path), file.member


def _resolved(path: str) -> str:
    return path if is_url(path) else str(Path(path).resolve())


def _why_not_labels(file: StoredFile) -> str:
    name = file.name.lower()
    if NOT_LABELS_NAME.search(name):
        return "a benchmark submission, not labels"
    if name.endswith(".csv"):
        return "not labels by its name; if it is, name it with --labels"
    return "neither an image nor labels"
