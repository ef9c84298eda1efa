"""How fast a resident store is filled, and how fast views come from it: to 128 px and to 224 px."""

import time
from collections.abc import Callable

import numpy as np
import torch

from benchmarks.gpu_loading import count_samples
from benchmarks.gpu_results import CheckFailedError, Result, measured
from benchmarks.gpu_setup import QUICK_PX, Setup
from galaxy_zoo.view import View
from pipeline.augment import RandomViews
from pipeline.loader import Backend, Decoding, Loader, Sampling
from pipeline.stamps import StampPolicy

SIZES = {
    128: View(crop_px=256, size_px=128, rotation_deg=180, flip=True),
    224: View(crop_px=256, size_px=224, rotation_deg=180, flip=True),
}
"""By their size: views of the central 256 px by any angle."""

DTYPES = (torch.float16, torch.bfloat16)
BATCH_SIZES = (256, 512)
KAGGLE_TRAINING = 61_578
RESIDENT = StampPolicy("resident", share=0.9)


def store(setup: Setup) -> list[Result]:
    """Seconds to fill a store, then views a second from it, whole batches with votes and ids as training gets them.

    Fails where a view from the store is not the view that is streamed.
    """
    results = []
    for size, full_view in SIZES.items():
        view = (
            View(crop_px=full_view.crop_px, size_px=QUICK_PX, rotation_deg=180, flip=True)
            if setup.quick
            else full_view
        )
        for dtype in DTYPES if setup.on_gpu else (torch.float32,):
            for batch_size in (setup.batch_size,) if setup.quick else BATCH_SIZES:
                what = f"{size} px, {str(dtype).removeprefix('torch.')}, batches of {batch_size}"
                results += filling_and_warping(setup, view, dtype, batch_size, what)
                if setup.on_gpu:
                    results.append(
                        measured(
                            f"{what}: the kernel alone", "images/s", kernel_rates(setup, view, dtype, batch_size)
                        )
                    )
    check_same(setup, results)
    return results


def filling_and_warping(setup: Setup, view: View, dtype: torch.dtype, batch_size: int, what: str) -> list[Result]:
    """The first epoch, which fills a store, and those that are made from it."""
    samples, views = setup.samples(), RandomViews(view, (0,))
    started = time.perf_counter()
    decoding = Decoding(device=setup.device, dtype=dtype, stamps=RESIDENT)
    with Loader(samples, views, Sampling(batch_size=batch_size), decoding) as batches:
        setup.synchronise()
        filled = timed(setup, lambda: count_samples(batches, 0))
        seconds = time.perf_counter() - started
        rates = setup.rates(lambda epoch: count_samples(batches, epoch))
    return [
        Result(f"{what}: filling, with the loader's start", len(samples) / seconds, "images/s"),
        Result(f"{what}: filling", len(samples) / filled, "images/s"),
        Result(f"{what}: filling {KAGGLE_TRAINING:,} at that rate", KAGGLE_TRAINING * filled / len(samples), "s"),
        measured(f"{what}: from the store", "images/s", rates),
    ]


def kernel_rates(setup: Setup, view: View, dtype: torch.dtype, batch_size: int) -> list[float]:
    """Images a second of the Triton kernel with its upload of parameters, from 2,048 stamps of noise."""
    from pipeline.warp_triton import TritonKernel  # noqa: PLC0415 - not every torch comes with Triton

    device, stamp = torch.device(setup.device), view.stamp(setup.samples().image_px)
    stamps = torch.randint(0, 256, (2048, *stamp.size_px, 3), dtype=torch.uint8, device=device)
    kernel, views = TritonKernel(view, device=device, dtype=dtype), RandomViews(view, (0,))
    order, launches = np.random.default_rng(0).integers(0, len(stamps), batch_size), 200
    parameters = views.parameters(stamp, 0, range(batch_size))

    def work(run: int) -> int:  # noqa: ARG001
        for _ in range(launches):
            rows, (packed,) = kernel.upload(order, parameters)
            kernel(stamps, rows, packed, has_colours=False)
        return launches * batch_size

    return setup.rates(work)


def timed(setup: Setup, work: Callable[[], int]) -> float:
    """Seconds of `work` on the device."""
    started = time.perf_counter()
    work()
    setup.synchronise()
    return time.perf_counter() - started


def check_same(setup: Setup, results: list[Result]) -> None:
    """The stream through a warp kernel and the store have to give the same batches."""
    views = RandomViews(View(crop_px=256, size_px=QUICK_PX, rotation_deg=180, flip=True), (0,))
    backend: Backend = "triton" if setup.on_gpu else "opencv"
    images = []
    for policy, epoch in ((StampPolicy("stream"), 1), (RESIDENT, 1)):
        decoding = Decoding(device=setup.device, backend=backend, stamps=policy)
        with Loader(setup.samples(), views, Sampling(batch_size=setup.batch_size), decoding) as batches:
            count_samples(batches, 0)
            images.append(next(iter(batches.epoch(epoch))).views[0])
    if not torch.equal(*images):
        raise CheckFailedError("views from the store are not those that are streamed", results)
