"""The DALI graphs. The caller supplies JPEG bytes and parameters; nothing in a graph is random."""

from collections.abc import Callable
from typing import Any

import torch
from nvidia.dali import fn, math, pipeline_def, types

from galaxy_zoo.view import Stamp, View

Feed = Callable[[], Any]
"""Returns the inputs of the next batch, each a list or an array; raises StopIteration at the end."""

PREFETCHED_BATCHES = 2

HW_DECODER_LOAD = 1.0
"""Share of the images that a GPU's JPEG engine decodes. On an H200 no share was faster than 1, and with a single
decoder the pixels of an image do not depend on its batch (the CUDA decoder's differ by a grey level)."""

DTYPES = {torch.float32: types.FLOAT, torch.float16: types.FLOAT16}


@pipeline_def
def decode_graph(feed: Feed, stamp: Stamp) -> Any:
    """Build the graph that decodes the window of the stamp on the CPU.

    Inputs: JPEG bytes. Output: uint8, shape (window height, window width, 3).
    """
    (jpegs,) = fn.external_source(feed, num_outputs=1, batch=True, dtype=types.UINT8, ndim=1, device="cpu")
    return decode_window(jpegs, stamp, on_gpu=False)


@pipeline_def
def stamp_graph(feed: Feed, stamp: Stamp, *, on_gpu: bool) -> Any:
    """Build the graph that decodes images and makes stamps.

    Inputs: JPEG bytes. Output: uint8, shape (stamp height, stamp width, 3).
    """
    (jpegs,) = fn.external_source(feed, num_outputs=1, batch=True, dtype=types.UINT8, ndim=1, device="cpu")
    images = decode_window(jpegs, stamp, on_gpu=on_gpu)
    return reduce_window(images, stamp, on_gpu=on_gpu)


@pipeline_def
def view_graph(
    feed: Feed,
    *,
    view: View,
    stamp: Stamp,
    num_views: int,
    dtype: torch.dtype,
    on_gpu: bool,
) -> Any:
    """Build the graph that decodes, makes stamps, and for each view warps, changes colours and normalises.

    Inputs: JPEG bytes; then for each view the warps (2, 3) and, if the view changes colours, the colour matrices
    (3, 3) and offsets (3,) for pixels in 0..255.
    Outputs: for each view `dtype`, shape (size, size, 3), normalised.
    """
    per_view = 3 if view.changes_colour else 1
    kinds = [types.UINT8] + [types.FLOAT] * (per_view * num_views)
    ndims = [1] + [2, 2, 1][:per_view] * num_views
    jpegs, *parameters = fn.external_source(
        feed, num_outputs=len(kinds), batch=True, dtype=kinds, ndim=ndims, device="cpu"
    )
    images = decode_window(jpegs, stamp, on_gpu=on_gpu)
    stamps = reduce_window(images, stamp, on_gpu=on_gpu)
    return tuple(
        _one_view(stamps, parameters[at : at + per_view], view, dtype)
        for at in range(0, len(parameters), per_view)
    )


def decode_window(jpegs: Any, stamp: Stamp, *, on_gpu: bool) -> Any:
    """Decode JPEGs to RGB as stored, ignoring EXIF orientation: only the window on the CPU, the whole image on the GPU.

    The GPU does not decode regions: nvImageCodec 0.9 has open reports of crashes on Hopper and Blackwell.
    """
    options = {"output_type": types.RGB, "jpeg_fancy_upsampling": True, "adjust_orientation": False}
    if on_gpu:
        return fn.decoders.image(jpegs, device="mixed", hw_decoder_load=HW_DECODER_LOAD, **options)
    return fn.decoders.image_crop(jpegs, device="cpu", crop=stamp.window_px, **options)


def reduce_window(images: Any, stamp: Stamp, *, on_gpu: bool) -> Any:
    """Cut out the stamp's window unless it is cut already, and reduce it with antialiasing to the stamp's size."""
    if on_gpu:
        images = fn.crop(images, crop=stamp.window_px)
    if stamp.window_px == stamp.size_px:
        return images
    return fn.resize(images, size=stamp.size_px, interp_type=types.INTERP_LINEAR, antialias=True)


def _one_view(stamps: Any, parameters: list[Any], view: View, dtype: torch.dtype) -> Any:
    size = (view.size_px, view.size_px)
    images = fn.warp_affine(
        stamps, matrix=parameters[0], size=size, interp_type=types.INTERP_LINEAR, fill_value=0, inverse_map=True
    )
    if view.changes_colour:
        images = fn.coord_transform(images, M=parameters[1], T=parameters[2], dtype=types.FLOAT)
        images = math.clamp(images, 0.0, 255.0)
    return fn.crop_mirror_normalize(
        images,
        dtype=DTYPES[dtype],
        output_layout="HWC",
        mean=[255 * value for value in view.mean],
        std=[255 * value for value in view.std],
    )
