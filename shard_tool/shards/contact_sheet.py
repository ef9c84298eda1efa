"""Draw galaxies side by side on one sheet, with the main votes of volunteers."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from galaxy_zoo.errors import ImageError, ShardError
from galaxy_zoo.index import Sample, key_of
from galaxy_zoo.manifest import Manifest
from galaxy_zoo.remote import AnyPath
from galaxy_zoo.text import shown
from galaxy_zoo.tree import DecisionTree
from galaxy_zoo.walk import walk
from shard_tool.images.jpeg import decode_strictly
from shard_tool.shards.reader import decode_votes, image_of, proven_index, read_component, votes_of

MOST_COLUMNS, GAP_PX, LINE_PX, FONT_PX = 8, 6, 13, 11
BACKGROUND, ID_COLOUR, VOTE_COLOUR = (24, 24, 24), (255, 255, 255), (170, 170, 170)
VOTE_LINES = 4


@dataclass(frozen=True)
class Cell:
    """A cell of a sheet: uint8 pixels, shape (side, side, 3), and the lines under them, the id first."""

    pixels: NDArray[np.uint8]
    lines: tuple[str, ...]


def draw_samples(samples: int, count: int, seed: int) -> list[int]:
    """Return up to `count` random positions among the samples, without repetition, ascending."""
    drawn = np.random.default_rng(seed).permutation(samples)[:count]
    return sorted(int(position) for position in drawn)


def read_cells(
    folder: AnyPath, manifest: Manifest, *, split: str, positions: Sequence[int], side_px: int
) -> Iterator[Cell]:
    """Yield the samples at positions of a split, ascending, counted from its first shard.

    Raises:
        ShardError: a shard is not what the manifest says, or an image does not decode.
    """
    first = 0
    for shard in manifest.splits[split]:
        mine = [position - first for position in positions if first <= position < first + shard.samples]
        first += shard.samples
        if mine:
            samples, tar = proven_index(folder, shard), folder / shard.name
            for position in mine:
                yield _read(tar, samples[position], manifest=manifest, side_px=side_px)


def main_votes(votes: NDArray[np.float32], tree: DecisionTree) -> list[str]:
    """Return the main answers as text, a line for each question; `votes` has the shape (answers,)."""
    return [f"{step.answer} {step.votes:.2f}" for step in walk(votes, tree)]


def balanced_columns(num_cells: int) -> int:
    """Return how many cells stand in a row where the fewest rows share them out most evenly."""
    num_rows = -(-num_cells // MOST_COLUMNS)
    return -(-num_cells // num_rows)


def draw_sheet(cells: Sequence[Cell], *, num_columns: int | None = None) -> Image.Image:
    """Draw a sheet of cells, `num_columns` a row; None: `balanced_columns`."""
    side = cells[0].pixels.shape[0]
    num_columns = num_columns or balanced_columns(len(cells))
    num_rows = -(-len(cells) // num_columns)
    width, height = side + GAP_PX, side + max(len(cell.lines) for cell in cells) * LINE_PX + 2 * GAP_PX
    sheet = Image.new("RGB", (num_columns * width + GAP_PX, num_rows * height + GAP_PX), BACKGROUND)
    for number, cell in enumerate(cells):
        row, column = divmod(number, num_columns)
        _draw(sheet, cell, left=GAP_PX + column * width, top=GAP_PX + row * height)
    return sheet


def _draw(sheet: Image.Image, cell: Cell, *, left: int, top: int) -> None:
    side, draw = cell.pixels.shape[0], ImageDraw.Draw(sheet)
    font = ImageFont.load_default(FONT_PX)
    sheet.paste(Image.fromarray(cell.pixels), (left, top))
    for number, line in enumerate(map(shown, cell.lines)):
        while draw.textlength(line, font) > side:
            line = line[:-3] + ".."  # noqa: PLW2901 - shortened until it fits
        colour = VOTE_COLOUR if number else ID_COLOUR
        draw.text((left, top + side + 2 + number * LINE_PX), line, colour, font)


def _read(tar: AnyPath, sample: Sample, *, manifest: Manifest, side_px: int) -> Cell:
    image, votes = image_of(sample), votes_of(sample)
    if image is None:
        raise ShardError(f"{tar}: sample {key_of(sample)} does not hold one JPEG; see: shard_tool lint --deep")
    with tar.open("rb") as file:
        lines = [key_of(sample)]
        if votes is not None:
            data = read_component(file, votes)
            given = decode_votes(data, len(manifest.tree.columns), tar, votes)
            lines += main_votes(given, manifest.tree)[:VOTE_LINES]
        try:
            pixels = decode_strictly(read_component(file, image), manifest.image_px)
        except ImageError as error:
            raise ShardError(
                f"{tar}: {image.name} does not decode: {error}; list all such images with: shard_tool lint --deep"
            ) from error
    return Cell(_fit(pixels, side_px), tuple(lines))


def _fit(pixels: NDArray[np.uint8], side_px: int) -> NDArray[np.uint8]:
    """Return the largest centred square, scaled to `side_px`."""
    height, width = pixels.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = np.ascontiguousarray(pixels[top : top + side, left : left + side])
    method = cv2.INTER_AREA if side_px < side else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(square, (side_px, side_px), interpolation=method), np.uint8)
