"""How fast JPEGs decode: alone, only the region that is needed, and shared with the hardware engine."""

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Thread
from typing import Any

import numpy as np
from numpy.typing import NDArray
from nvidia.dali import Pipeline, fn, types

from benchmarks.gpu_isolation import run_isolated
from benchmarks.gpu_results import CheckFailedError, Result, SkippedError, ask_nvidia_smi, measured
from benchmarks.gpu_setup import Setup
from galaxy_zoo.view import Stamp
from pipeline.augment import RandomViews
from pipeline.graph import PREFETCHED_BATCHES, decode_window
from pipeline.loader import Decoding, Loader, Sampling

Graph = Callable[[Any], Any]
"""JPEG bytes to the output of a pipeline."""

RECIPE = "ng_cnn"
"""Whose stamp is decoded, where only a window is."""

LOADS = [step / 10 for step in range(11)]
THREADS = (4, 8, 16)
GOAL_LEVELS = 2.0
"""Largest mean difference to the CPU decoder, in grey levels."""

CHILD_TIMEOUT_S = 150


def decode(setup: Setup) -> list[Result]:
    """Decode alone: the rate, how far pixels are from the CPU decoder's, and what tells of a hardware engine."""
    stamp = stamp_of(setup)
    reference = first_batch(setup, crop_graph(stamp, on_gpu=False), on_gpu=False)
    on_cpu = decoding_rates(setup, crop_graph(stamp, on_gpu=False), on_gpu=False)
    results = [measured("decoded on the CPU, only the window", "images/s", on_cpu)]
    if not setup.on_gpu:
        return results
    whole = decoding_rates(setup, lambda jpegs: decode_window(jpegs, stamp, on_gpu=True))
    plain = decoding_rates(setup, plain_graph)
    results += [
        measured("decoded on the GPU, the whole image", "images/s", whole),
        measured("the same with plain upsampling of colours", "images/s", plain),
    ]
    differences = {}
    for load in (0.0, 1.0):
        graph = crop_graph(stamp, on_gpu=True, hw_decoder_load=load)
        with jpeg_engine_use() as use:
            rates = decoding_rates(setup, graph)
        differences[load] = difference(first_batch(setup, graph), reference)
        results += [
            measured(f"decoded with hw_decoder_load {load:.0f}", "images/s", rates),
            Result(f"difference to the CPU decoder, hw_decoder_load {load:.0f}", differences[load], "grey levels"),
            Result(f"use of the JPEG engine, hw_decoder_load {load:.0f}", use(), "%"),
        ]
    results.append(Result("hardware JPEG engine, says nvImageCodec", hardware_engine(setup)))
    check_pixels(max(differences.values()), results)
    return results


def roi(setup: Setup) -> list[Result]:
    """Decode only the window on the GPU, in a child process because it may crash, beside decode and crop.

    A crash or wrong pixels are a finding, not a failure: the pipeline does not use it.
    """
    require_gpu(setup)
    stamp = stamp_of(setup)
    cropped = decoding_rates(setup, crop_graph(stamp, on_gpu=True))
    results = [measured("whole image decoded, then cropped", "images/s", cropped)]
    for fancy in (True, False):
        what = f"only the region, {'fancy' if fancy else 'plain'} upsampling"
        ended = run_isolated(decode_regions, setup, fancy, timeout_s=CHILD_TIMEOUT_S)
        if ended.value is None:
            results.append(Result(what, ended.problem))
            continue
        rates, differing = ended.value
        results += [
            Result(what, "ok" if differing <= GOAL_LEVELS else "wrong pixels"),
            Result(f"{what}: difference to the CPU decoder", differing, "grey levels"),
            measured(what, "images/s", rates),
        ]
    return results


def decoder_load(setup: Setup) -> list[Result]:
    """Every share of the hardware engine with every number of threads; then the best one in the whole loader."""
    require_gpu(setup)
    results = []
    for threads, load in itertools.product(THREADS, LOADS):
        graph = crop_graph(stamp_of(setup), on_gpu=True, hw_decoder_load=load)
        rates = decoding_rates(setup, graph, num_threads=threads)
        results.append(measured(f"{threads} threads, hw_decoder_load {load:.1f}", "images/s", rates))
    best = max(results, key=lambda result: float(result.value))
    return [*results, Result("best", best.name), measured("loader", "images/s", loader_rates(setup))]


def decode_regions(setup: Setup, fancy: bool) -> tuple[list[float], float]:
    """Rates of decoding a region on the GPU, and the mean difference to the CPU decoder in grey levels.

    fancy: upsample colours as the CPU decoder does. nvImageCodec 0.9 refuses that for regions with nvJPEG below
    13.2, by a message in its library, and then DALI may fall back to the CPU.
    """
    stamp = stamp_of(setup)

    def graph(jpegs: Any) -> Any:
        options = {"output_type": types.RGB, "jpeg_fancy_upsampling": fancy}
        return fn.decoders.image_crop(jpegs, device="mixed", crop=stamp.window_px, **options)

    reference = first_batch(setup, crop_graph(stamp, on_gpu=False), on_gpu=False)
    differing = difference(first_batch(setup, graph), reference)
    return decoding_rates(setup, graph), differing


def crop_graph(stamp: Stamp, *, on_gpu: bool, hw_decoder_load: float | None = None) -> Graph:
    """Decode the window of a stamp, as the pipeline does."""

    def graph(jpegs: Any) -> Any:
        if hw_decoder_load is None:
            images = decode_window(jpegs, stamp, on_gpu=on_gpu)
        else:
            images = fn.decoders.image(jpegs, device="mixed", hw_decoder_load=hw_decoder_load)
        return fn.crop(images, crop=stamp.window_px) if on_gpu else images

    return graph


def plain_graph(jpegs: Any) -> Any:
    """Decode whole images on the GPU without the CPU decoder's way of upsampling colours."""
    return fn.decoders.image(jpegs, device="mixed", output_type=types.RGB)


def build(setup: Setup, graph: Graph, *, on_gpu: bool = True, num_threads: int | None = None) -> Any:
    """A DALI pipeline that gives batches of the samples through `graph` without end, in one shuffled order."""
    samples, size = setup.samples(), setup.batch_size
    order = np.random.default_rng(0).permutation(len(samples))
    starts = itertools.cycle(range(0, max(1, len(order) - size + 1), size))
    pipeline = Pipeline(
        batch_size=size,
        num_threads=num_threads or setup.cores,
        device_id=0 if on_gpu else None,
        prefetch_queue_depth=PREFETCHED_BATCHES,
    )

    def feed() -> list[Any]:
        start = next(starts)
        return [samples.jpegs(order[start : start + size])]

    with pipeline:
        (jpegs,) = fn.external_source(feed, num_outputs=1, batch=True, dtype=types.UINT8, ndim=1, device="cpu")
        pipeline.set_outputs(graph(jpegs))
    pipeline.build()
    return pipeline


def decoding_rates(
    setup: Setup, graph: Graph, *, on_gpu: bool = True, num_threads: int | None = None
) -> list[float]:
    """Images a second through `graph`, of each run."""
    pipeline = build(setup, graph, on_gpu=on_gpu, num_threads=num_threads)
    batches = 2 if setup.quick else 16

    def work(run: int) -> int:  # noqa: ARG001
        for _ in range(batches):
            pipeline.run()
        return batches * setup.batch_size

    return setup.rates(work)


def loader_rates(setup: Setup) -> list[float]:
    """Images a second of the whole loader at the view of the recipe."""
    samples, views = setup.samples(), RandomViews(setup.recipe(RECIPE).view, (0,))
    sampling, decoding = Sampling(batch_size=setup.batch_size), Decoding(device=setup.device)
    with Loader(samples, views, sampling, decoding) as loader:
        return setup.rates(lambda epoch: sum(len(batch.ids) for batch in loader.epoch(epoch)))


def first_batch(setup: Setup, graph: Graph, *, on_gpu: bool = True) -> NDArray[np.uint8]:
    """The first batch through `graph`, uint8, shape (batch, height, width, 3)."""
    pipeline = build(setup, graph, on_gpu=on_gpu)
    (images,) = pipeline.run()
    pixels: NDArray[np.uint8] = images.as_cpu().as_array()
    return pixels.copy()


def difference(pixels: NDArray[np.uint8], others: NDArray[np.uint8]) -> float:
    """The mean absolute difference in grey levels."""
    return float(np.abs(pixels.astype(np.int16) - others.astype(np.int16)).mean())


def check_pixels(levels: float, results: list[Result]) -> None:
    """Raise CheckFailedError where pixels are further off than the goal."""
    if levels > GOAL_LEVELS:
        raise CheckFailedError(f"pixels differ by {levels:.2f} grey levels, at most {GOAL_LEVELS} may be", results)


def stamp_of(setup: Setup) -> Stamp:
    """The stamp that is decoded."""
    return setup.recipe(RECIPE).view.stamp(setup.samples().image_px)


def require_gpu(setup: Setup) -> None:
    """Raise SkippedError where the device is no GPU."""
    if not setup.on_gpu:
        raise SkippedError("needs a GPU")


def hardware_engine(setup: Setup) -> str:
    """Whether nvImageCodec decodes an image with the hardware engine alone: "yes", "no", or why nobody knows."""
    jpeg = setup.samples().jpegs(np.array([0]))[0].tobytes()
    ended = run_isolated(decode_by_hardware, jpeg, timeout_s=CHILD_TIMEOUT_S)
    return f"unknown: {ended.problem}" if ended.problem else "yes" if ended.value else "no"


def decode_by_hardware(jpeg: bytes) -> bool:
    """Whether the hardware engine alone decodes this JPEG."""
    from nvidia import nvimgcodec  # noqa: PLC0415 (comes with DALI, and only this question needs it)

    decoder = nvimgcodec.Decoder(backends=[nvimgcodec.Backend(nvimgcodec.HW_GPU_ONLY)])
    return decoder.decode(jpeg) is not None


@contextmanager
def jpeg_engine_use() -> Iterator[Callable[[], float | str]]:
    """Within the block nvidia-smi watches the JPEG engine; the function given tells the highest use, in %."""
    seen: list[str] = []
    ended = Event()

    def watch() -> None:
        while not ended.is_set():
            seen.append(ask_nvidia_smi("utilization.jpeg"))

    watcher = Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield lambda: max((float(each) for each in seen if each.isdecimal()), default="unknown")
    finally:
        ended.set()
        watcher.join()
