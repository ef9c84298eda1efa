"""Rules of ids, and ways to match ids of tables and images that differ in form."""

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from functools import partial

from galaxy_zoo.index import key_of_id

LONGEST_KEY_BYTES = 90
"""Longest key: a name in a USTAR tar has 100 bytes, of which `.votes.npy` needs 10."""
FORMULA = re.compile(r"[=@]|[+-].*[|!(]")
"""Text that a spreadsheet runs as a formula; a plain -12.5 is not one."""
RUN_BY_SPREADSHEET = "a spreadsheet would run this id as a formula; rename it"
ROUNDED_BY_SPREADSHEET = re.compile(r"\d([.,]\d+)?[eE]\+?\d+")
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".fits", ".fit")

HARMLESS: Mapping[str, Callable[[str], str]] = {
    "end in .0": partial(re.sub, r"\.0+$", ""),
    "end in the suffix of an image": partial(re.sub, rf"(?i)({'|'.join(map(re.escape, IMAGE_SUFFIXES))})$", ""),
    "are in another Unicode form": partial(unicodedata.normalize, "NFC"),
    "are in a decomposed Unicode form": partial(unicodedata.normalize, "NFD"),
}
"""Differences between ids of tables and of images that still match."""
CAUSES: Mapping[str, Callable[[str], str]] = {
    "leading zeros": lambda sample_id: sample_id.lstrip("0"),
    "upper and lower case": str.casefold,
    "spaces, dots, dashes and underscores": partial(re.sub, r"[\s._-]", ""),
    "what comes before or after a number": lambda sample_id: "".join(re.findall(r"\d{4,}", sample_id)[:1]),
}
"""Other differences, which are reported but do not match."""


def what_is_wrong(sample_id: str) -> str | None:
    """Return the reason why an id cannot be used, None if it can."""
    if not sample_id or sample_id != sample_id.strip() or not sample_id.isprintable():
        return "an id may not be empty, hold control characters, or begin or end with a space; rename it"
    if FORMULA.match(sample_id):
        return RUN_BY_SPREADSHEET
    if len(key_of_id(sample_id).encode(errors="replace")) > LONGEST_KEY_BYTES:
        return f"an id may have {LONGEST_KEY_BYTES} bytes at most (a dot or a space counts as three); rename it"
    return None


def likely_cause(images: Iterable[str], rows: Iterable[str]) -> str | None:
    """Return the likely reason why ids of images and rows do not match, None if unknown."""
    images, rows = list(images), list(rows)
    if rounded := next(filter(ROUNDED_BY_SPREADSHEET.fullmatch, rows), None):
        return f"row {rounded} was rounded by a spreadsheet; take the table from where it came"
    for what, plain in CAUSES.items():
        by_plain = {plain(row): row for row in rows}
        for image in images:
            if (row := by_plain.get(plain(image) or "no id")) is not None:
                return f"image {image} and row {row} differ in {what}"
    return None
