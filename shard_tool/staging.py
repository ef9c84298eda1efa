"""Pack images without votes into temporary shards for one prediction."""

import csv
import re
import shutil
from dataclasses import replace
from pathlib import Path

from galaxy_zoo.cores import num_cores
from galaxy_zoo.errors import InputError, OutputError, SourceError
from galaxy_zoo.image_size import Size
from galaxy_zoo.remote import AnyPath
from galaxy_zoo.tree import DecisionTree
from shard_tool.images.encoding import AS_IT_IS, Encoding
from shard_tool.shards.journal import REJECTED_NAME
from shard_tool.shards.measuring import measure_folder
from shard_tool.shards.packing import OutOptions, Packed, locked_journal, pack
from shard_tool.shards.parallel import prepare_workers
from shard_tool.source.options import PackOptions
from shard_tool.source.plan import make_plan

WORTH_WORKERS = 2000
"""Fewest images worth other processes; fewer are packed before these would have started."""
OTHER_SIZE = re.compile(r", the others have (\d+ x \d+)")
PACK_HINT = re.compile(r"; [^;]*--(?!resize\b)[a-z][^;]*$")
"""The last clause of a message, if it names options that predict.py does not have."""


def stage(
    source: AnyPath, out: Path, tree: DecisionTree, image_px: Size, *, resize: bool, measures: bool
) -> Packed:
    """Pack an image, or all images of a folder or archive, as test images of (height, width) `image_px`.

    Images that do not decode or have another size are rejected. The contents of `out` are replaced.

    Args:
        resize: scale square images of other sizes to that size.
        measures: also measure their galaxies, as `shard_tool objects` does.

    Raises:
        InputError: a package that is needed is not installed.
        SourceError: there is no usable image.
        ShardError: no image has a galaxy that can be measured.
        OutputError: `out` cannot be written.
    """
    try:
        return _stage(source, out, tree, image_px, resize=resize, measures=measures)
    except OutputError as error:
        raise OutputError(PACK_HINT.sub("; fix this and run the same command again", str(error))) from error
    except InputError as error:
        raise type(error)(for_prediction(str(error))) from error


def _stage(
    source: AnyPath, out: Path, tree: DecisionTree, image_px: Size, *, resize: bool, measures: bool
) -> Packed:
    if resize and image_px[0] != image_px[1]:
        raise SourceError(f"{source}: images are resized to squares, and {image_px} is not one; omit --resize")
    encoding = Encoding(resize_px=image_px[0]) if resize else AS_IT_IS
    options = PackOptions(source=source, tree=tree, encoding=encoding, only_images=True)
    shutil.rmtree(out, ignore_errors=True)  # before SOURCE is listed, since `out` may be inside it
    plan = replace(make_plan(options), image_px=image_px)
    workers = num_cores() if plan.num_samples >= WORTH_WORKERS else 1
    prepare_workers(workers)
    try:
        with locked_journal(place := OutOptions(folder=out, workers=workers)) as journal:
            packed = pack(options, place, plan, journal)
    except SourceError as error:
        if (out / REJECTED_NAME).exists():
            raise SourceError(f"{source}: no image can be used: {_first_reason(out / REJECTED_NAME)}") from error
        raise
    if measures:
        measure_folder(out, packed.manifest, workers=workers)
    return packed


def for_prediction(message: str) -> str:
    """Return a message of packing for users of predict.py, which has no option of pack except --resize."""
    return PACK_HINT.sub("; pack these images with shard_tool pack, and predict the shards", message)


def _first_reason(path: Path) -> str:
    with path.open(newline="") as file:
        first, *others = csv.DictReader(file)
    reason = OTHER_SIZE.sub(r"; the run was trained on \1: pass --resize to scale them", first["reason"])
    return f"{first['file']}: {reason}" + (f" (and {len(others):,} more)" if others else "")
