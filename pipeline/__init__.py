"""Turn shards into batches on the device: DALI decodes, one affine warp makes the views.

    from pipeline import Loader, RandomViews, View, open_shards

    loader = Loader(open_shards("shards"), RandomViews(View(crop_px=256, size_px=128, rotation_deg=180)))
    for batch in loader: ...

docs/library.md shows a training loop around it.

    shards.py        the samples: memory-mapped shards, votes, folds
    proof.py         checks that keep damaged JPEGs from DALI
    cache.py         shards of an object store, downloaded to the disk
    groups.py        the shards that a rank opens with --stick-to-shard
    order.py         the order of samples: pure functions of seed, epoch and rank
    augment.py       parameters of views: warps and colours, drawn or fixed
    framing.py       views centred on the galaxy and scaled by its size
    graph.py         the DALI graphs: decode (-> stamp -> warp -> colour -> normalise)
    plan.py          the plan of a batch, and the stream DALI decodes
    stamps.py        stamps kept in memory; memory.py: free memory; saved_stamps.py: their file
    warp.py          reduce, warp, colour and normalise with OpenCV, faster than the graph on a CPU
    warp_triton.py   the same warp on a GPU, from stamps in its memory
    engines.py       graph, or stamps + warp, behind one interface
    loader.py        the loader: orders x samples x views -> batches
    device.py        the device to run on
    options.py       options of the commands that load galaxies

Imports `galaxy_zoo` only. DALI is imported here and nowhere else.
"""

from typing import TYPE_CHECKING, Any

from galaxy_zoo.view import View
from pipeline.augment import FixedView, FixedViews, RandomViews
from pipeline.shards import open_shards

if TYPE_CHECKING:
    from pipeline.loader import Batch, Decoding, Loader, Sampling
    from pipeline.stamps import StampPolicy

__all__ = [
    "Batch",
    "Decoding",
    "FixedView",
    "FixedViews",
    "Loader",
    "RandomViews",
    "Sampling",
    "StampPolicy",
    "View",
    "open_shards",
]


def __getattr__(name: str) -> Any:
    """Import the loader where it is first used: torch and DALI take seconds, which no `--help` should wait for."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from pipeline import loader  # noqa: PLC0415

    return getattr(loader, name)
