"""Find what SOURCE holds: the images of each split, the table of votes, and the files to ignore.

SOURCE is a folder, a zip, or a zip of zips, in any layout of the Kaggle download, or any folder, zip or tar of
JPEGs, PNGs and FITS images. Tars are opened in folders, not inside other archives.

The nearest folder or archive below SOURCE whose name has the word "train", "training" or "test" in it
(`images_training_rev1`, `images_train_rev1.zip`, `my-test-set`) gives the split of an image. Images without such a
name follow the first rule that applies:

- if other images are training images by name, they are training images if a table named with --labels has a row for
  their id and no image with such a name has that id, else they are ignored;
- if there are labels, they are training images;
- if other images are test images by name, they are ignored;
- else they are test images.

All ignored files are listed with the reason.
"""

import posixpath
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from galaxy_zoo.errors import LabelError, SourceError
from galaxy_zoo.remote import AnyPath, is_url
from shard_tool.source.archives import ArchiveMember
from shard_tool.source.draft import HIDDEN, IMAGE, OTHER, Draft, FoundFile
from shard_tool.source.files import StoredFile, file_at, is_zip, path_text, walk, why_not_opened
from shard_tool.source.ids import IMAGE_SUFFIXES
from shard_tool.source.scratch import to_text

SPLIT_WORD = re.compile(r"(?:^|[^a-z])(train|test)(?:ing)?(?![a-z])")
TABLE_NAME = re.compile(r"\.csv(\.gz|\.bz2|\.xz|\.zst)?$")
LABELS_NAME = re.compile(rf"(^train|solutions).*{TABLE_NAME.pattern}")
NOT_LABELS = "not labels by its name; if it is, name it with --labels"
NOT_LABELS_NAME = re.compile(r"benchmark|sample_submission")
HIDDEN_NAME = re.compile(r"(?:^|/)(?:\.|__MACOSX/)")
NOT_BY_NAME = "images neither in a training nor in a test folder by name"
IMAGE_NAMES = ", ".join(f"<id>{suffix}" for suffix in IMAGE_SUFFIXES)
UNNAMED = f"kind = {IMAGE} AND split IS NULL AND ignored IS NULL"


def list_source(draft: Draft, source: AnyPath, labels: Sequence[AnyPath] = ()) -> tuple[StoredFile, ...]:
    """Add the files of SOURCE to an empty draft; return the tables of votes, which are `labels` if the user named any.

    In that case the images without a split by name are left for `settle`, which needs the rows of these tables.

    Raises:
        SourceError: SOURCE is missing or empty, holds no image, or an archive is damaged or suspicious.
        LabelError: there are several tables of votes, or training images without one.
    """
    skip = 1 if source.is_file() else 0  # the first part of a path below an archive is the archive itself
    tables = [read_labels_file(path) for path in labels]
    _add(draft, source, _sorted_out(walk(source), tables, skip))
    if len(tables) > 1 and not labels:
        names = " and ".join(sorted(file.shown for file in tables)[:3])
        raise LabelError(f"several tables of labels: {names}; name the right one with --labels FILE.csv")
    _take_unnamed(draft, source, is_labelled=bool(tables))
    num_train = draft.count("train")
    if num_train and not tables:
        raise LabelError(
            f"{source}: {num_train:,} training images but no training_solutions*.csv; "
            "name the table of votes with --labels FILE.csv"
        )
    if tables and not num_train:
        raise LabelError(f"{tables[0].shown}: labels, but {source} holds no training images to go with them")
    if not labels:
        draft.change(f"UPDATE file SET ignored = ? WHERE {UNNAMED}", NOT_BY_NAME)
    return tuple(tables)


def settle(draft: Draft) -> None:
    """Make images without a split training images if a table named with --labels has their row; ignore others."""
    doubles = "images whose ids training or test images by name have already"
    others = f"{NOT_BY_NAME}, and --labels has no row for them"
    by_name = "id IN (SELECT id FROM file WHERE split IS NOT NULL)"
    draft.change(f"UPDATE file SET ignored = ? WHERE {UNNAMED} AND {by_name}", doubles)
    draft.change(f"UPDATE file SET split = 'train' WHERE {UNNAMED} AND id IN (SELECT id FROM vote)")
    draft.change(f"UPDATE file SET ignored = ? WHERE {UNNAMED}", others)


def tables_not_taken(draft: Draft) -> list[str]:
    """Return the places below SOURCE of the tables that are not taken for labels because of their names."""
    found = draft.rows("SELECT shown FROM file WHERE ignored = ? ORDER BY shown", NOT_LABELS)
    return [to_text(shown) for (shown,) in found]


def list_images(draft: Draft, source: AnyPath, catalogue: AnyPath) -> None:
    """Add the files of SOURCE to an empty draft, with their paths below SOURCE; do not list `catalogue` as ignored.

    Raises:
        SourceError: `list_source` would raise it.
    """
    skip = 1 if source.is_file() else 0  # a path below an archive begins with the archive
    own = _resolved(path_text(catalogue))

    def found(file: StoredFile) -> FoundFile:
        kind = _kind(file)
        why = IGNORED.get(kind)
        if kind == OTHER and _resolved(file.path) != own:
            why = why_not_opened(file.name) or "no image"
        listed = posixpath.normpath(file.shown.split("/", skip)[-1]) if kind == IMAGE else None
        return FoundFile(file, kind, ignored=why, listed=listed)

    _add(draft, source, map(found, walk(source)))


def list_only_images(draft: Draft, source: AnyPath) -> None:
    """Add the images of a folder or archive, or SOURCE itself if it is an image, to an empty draft as test images.

    Raises:
        SourceError: `list_source` would raise it.
    """

    def found(file: StoredFile) -> FoundFile:
        kind = _kind(file)
        why = why_not_opened(file.name) if kind == OTHER else IGNORED.get(kind)
        return FoundFile(file, kind, "test" if kind == IMAGE else None, why)

    is_image = source.is_file() and source.name.lower().endswith(IMAGE_SUFFIXES)
    _add(draft, source, map(found, [file_at(path_text(source), source.name)] if is_image else walk(source)))


IGNORED = {HIDDEN: "hidden files"}


def _add(draft: Draft, source: AnyPath, files: Iterator[FoundFile]) -> None:
    """Add files to a draft; at least one must be an image."""
    draft.add_files(files)
    num_files = dict(draft.rows("SELECT kind, count(*) FROM file GROUP BY kind"))
    if not num_files:
        raise SourceError(
            f"{source}: holds no file, nor does any archive in it; give the folder or the archive that holds the images"
        )
    if IMAGE not in num_files:
        others = draft.rows(f"SELECT shown FROM file WHERE kind = {OTHER} ORDER BY shown")
        names = (to_text(shown) for (shown,) in others)
        archive = next((f"; {name}: {why}" for name in names if (why := why_not_opened(name))), "")
        raise SourceError(
            f"{source}: no image among its {sum(num_files.values()):,} files; images are {IMAGE_NAMES}{archive}"
        )


def _sorted_out(files: Iterator[StoredFile], tables: list[StoredFile], skip: int) -> Iterator[FoundFile]:
    """Yield what each file is; if `tables` is empty, add the files that are named like tables of votes to it."""
    chosen = {_place(file) for file in tables}
    for file in files:
        kind = _kind(file)
        why = IGNORED.get(kind)
        if kind == OTHER and not (chosen and _place(file) in chosen):
            if not LABELS_NAME.search(file.name.lower()):
                why = _why_not_labels(file.name)
            elif chosen:
                why = "--labels names another file"
            else:
                tables.append(file)
        yield FoundFile(
            file, kind, _split_by_name(file.folder.split("/", skip)[-1]) if kind == IMAGE else None, why
        )


def _kind(file: StoredFile) -> int:
    if HIDDEN_NAME.search(file.shown):
        return HIDDEN
    return IMAGE if file.shown.lower().endswith(IMAGE_SUFFIXES) else OTHER


def _take_unnamed(draft: Draft, source: AnyPath, *, is_labelled: bool) -> None:
    """Make the images without a split by name training or test images, if one rule holds for all."""
    split = None
    if not draft.count("train"):
        if is_labelled or _split_by_name(source.name) == "train":
            split = "train"
        elif not draft.count("test"):
            split = "test"
    if split:
        draft.change(f"UPDATE file SET split = ? WHERE {UNNAMED}", split)


def read_labels_file(path: AnyPath) -> StoredFile:
    """Return the CSV that the user named, or the only CSV in the zip that the user named.

    Raises:
        LabelError: there is no such file, or the zip holds none or several.
    """
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


@lru_cache(maxsize=4096)
def _split_by_name(folder: str) -> str | None:
    for part in reversed(folder.split("/")):
        if word := SPLIT_WORD.search(part.lower()):
            return word[1]
    return None


def _place(file: StoredFile) -> tuple[str, ArchiveMember | None]:
    """Return a value that is equal for two `StoredFile`s of the same file."""
    return _resolved(file.path), file.member


def _resolved(path: str) -> str:
    return path if is_url(path) else str(Path(path).resolve())


def _why_not_labels(name: str) -> str:
    if NOT_LABELS_NAME.search(name.lower()):
        return "a benchmark submission, not labels"
    if TABLE_NAME.search(name.lower()):
        return NOT_LABELS
    return why_not_opened(name) or "neither an image nor labels"
