"""Draw sheets of galaxies as a recipe's network sees them."""

from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import click
import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ensemble.recipe import load_recipe
from ensemble.recipe_files import Tables
from galaxy_zoo.files import atomic_write, check_can_write, check_outputs
from galaxy_zoo.manifest import read_manifest
from galaxy_zoo.progress import progress
from galaxy_zoo.remote import AnyPath
from galaxy_zoo.text import counted, shown
from galaxy_zoo.view import Stamp, View
from pipeline.augment import FixedViews, RandomViews, Views
from pipeline.cache import Cache, open_set
from pipeline.loader import Batch, Loader, Sampling
from pipeline.proof import decode
from pipeline.shards import Samples, open_shards
from pipeline.warp import reduce_window, rgb_pixels
from prediction.request import files_of_set
from shard_tool.shards.contact_sheet import Cell, draw_sheet

Pixels = NDArray[np.uint8]

AT_ONCE = 10
"""Number of galaxies to draw between two updates of the progress."""


@dataclass(frozen=True, kw_only=True)
class SheetRequest:
    """The options of views.py, by their names there."""

    shards: AnyPath
    out: Path
    recipe: str
    settings: Tables
    count: int
    random_views: int
    seed: int
    split: str
    size: int
    gallery: bool
    cache_folder: Path
    cache_gb: float | None


def draw(request: SheetRequest) -> None:
    """Draw a sheet, and print what it shows.

    Raises:
        InputError: there is no such recipe or split, or a shard cannot be used.
        OutputError: the sheet cannot be written, or is an input.
    """
    inputs = [Path(request.recipe), request.shards, *files_of_set(request.shards)]
    check_outputs([request.out, request.cache_folder], inputs)
    check_can_write(request.out)
    view = load_recipe(request.recipe, request.settings).view
    with open_set(request.shards, Cache(request.cache_folder, request.cache_gb)) as source:
        manifest = read_manifest(source.folder)
        view = view.with_statistics(manifest.channel_mean, manifest.channel_std)
        view = replace(view, turns_deg=view.turns_deg[:1])
        source.need(request.split)
        source.need_objects(view)
        samples = open_shards(source.folder, request.split)
        choice = Choice(min(request.count, len(samples)), request.seed, request.size)
        drawn = (
            gallery_cells(samples, view, choice)
            if request.gallery
            else cells(samples, view, request.random_views, choice)
        )
    with atomic_write(request.out) as file:
        sheet = draw_sheet(drawn, num_columns=len(drawn) // choice.count)
        sheet.save(file, "PNG", compress_level=1)  # a third of the time for a third more bytes
    split = shown(request.split)
    galaxies = counted(len(samples), f"{split} galaxy", f"{split} galaxies")
    click.echo(f"{shown(request.out)}: {choice.count:,} of {galaxies}")


@dataclass(frozen=True)
class Choice:
    """The galaxies to draw, the first `count` in the order of an epoch with `seed`, and their size."""

    count: int
    seed: int
    side_px: int


def cells(samples: Samples, view: View, num_views: int, choice: Choice) -> list[Cell]:
    """Return the cells of a sheet: for each galaxy image, stamp, plain view, grey view, `num_views` random views."""
    stamp = view.stamp(samples.image_px)
    plain = View(
        crop_px=view.crop_px,
        size_px=view.size_px,
        framing=view.framing,
        object_radius_px=view.object_radius_px,
        mean=view.mean,
        std=view.std,
        grey=view.grey,
        channel=view.channel,
    )
    seeds = tuple(range(choice.seed, choice.seed + num_views))
    ids, random = _draw(samples, RandomViews(view, seeds), choice, "random views")
    _, (plain_views,) = _draw(samples, FixedViews(plain), choice, "plain views")
    grey = replace(plain, grey=True, channel="all")
    _, (grey_views,) = _draw(samples, FixedViews(grey), choice, "grey views")
    size = f"{view.size_px} px"
    drawn = []
    for number, sample_id in enumerate(ids):
        source = _source(samples, sample_id)
        height, width = source.shape[:2]
        drawn += [
            _cell(source, choice, shown(sample_id), f"source, {width} x {height} px"),
            _cell(_stamp(source, stamp), choice, "stamp", _size(stamp.size_px)),
            _cell(rgb_pixels(plain_views[number], view), choice, "plain view", size),
            _cell(rgb_pixels(grey_views[number], view), choice, "the same in grey", size),
        ]
        drawn += [
            _cell(rgb_pixels(each[number], view), choice, f"random view {k}", size)
            for k, each in enumerate(random, 1)
        ]
    return drawn


def gallery_cells(samples: Samples, view: View, choice: Choice) -> list[Cell]:
    """Return the cells of a gallery: each galaxy's image, in grey, cropped in grey, and the crop at smaller sizes.

    The "Galaxy Imagery Classification" notebook shows the same: original, grey, crop, resized to a half and a quarter.
    """
    height, width = samples.image_px
    crop_px = round(view.crop_px)
    variants = {
        f"grey, {min(height, width)} px": (min(height, width), min(height, width)),
        **{
            f"grey, crop {crop_px} at {side} px": (crop_px, side) for side in (crop_px, crop_px // 2, crop_px // 4)
        },
    }
    columns = []
    for name, (crop, size) in variants.items():
        grey = View(crop_px=crop, size_px=max(1, size), grey=True)
        ids, (images,) = _draw(samples, FixedViews(grey), choice, name)
        columns.append([rgb_pixels(image, grey) for image in images])
    drawn = []
    for number, sample_id in enumerate(ids):
        drawn.append(
            _cell(_source(samples, sample_id), choice, shown(sample_id), f"source, {width} x {height} px")
        )
        drawn += [_cell(made[number], choice, name) for name, made in zip(variants, columns, strict=True)]
    return drawn


def _draw(samples: Samples, views: Views, choice: Choice, what: str) -> tuple[list[str], tuple[Tensor, ...]]:
    """Return ids and views of the chosen galaxies, which are the same for all views. what: shown with the progress."""
    sampling = Sampling(batch_size=min(choice.count, AT_ONCE), seed=choice.seed)
    batches: list[Batch] = []
    with (
        Loader(samples, views, sampling) as loader,
        progress(total=choice.count, unit="galaxies", desc=what) as bar,
    ):
        for batch in islice(loader.epoch(0), -(-choice.count // AT_ONCE)):
            batches.append(batch)
            bar.update(min(len(batch.ids), choice.count - bar.n))
    ids = [each for batch in batches for each in batch.ids.tolist()]
    images = zip(*(batch.views for batch in batches), strict=True)
    return ids[: choice.count], tuple(torch.cat(each)[: choice.count] for each in images)


def _source(samples: Samples, sample_id: str) -> Pixels:
    [position] = np.flatnonzero(samples.keys == sample_id)
    return decode(samples, int(position))


def _stamp(source: Pixels, stamp: Stamp) -> Pixels:
    """Return the stamp that `pipeline` warps every view from."""
    top, left = ((side - window) // 2 for side, window in zip(source.shape, stamp.window_px, strict=False))
    return reduce_window(source[top : top + stamp.window_px[0], left : left + stamp.window_px[1]], stamp)


def _cell(pixels: Pixels, choice: Choice, *lines: str) -> Cell:
    """Return a cell; enlarge smaller images without smoothing, so that their pixels show."""
    scale = choice.side_px / max(pixels.shape[:2])
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST
    height, width = (max(1, round(side * scale)) for side in pixels.shape[:2])
    cell = np.zeros((choice.side_px, choice.side_px, 3), np.uint8)
    top, left = (choice.side_px - height) // 2, (choice.side_px - width) // 2
    cell[top : top + height, left : left + width] = cv2.resize(pixels, (width, height), interpolation=method)
    return Cell(cell, lines)


def _size(size_px: tuple[int, int]) -> str:
    return f"{size_px[1]} x {size_px[0]} px"
