"""The parts of `benchmarks.gpu`: each takes a setup, and returns its results or raises CheckFailedError."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import combinations
from threading import Event, Thread
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from nvidia.dali import fn
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import throughput
from benchmarks.measuring import Result, ask_nvidia_smi, measured
from benchmarks.throughput import RESIDENT, Setup, count_samples, fixed_batch, new_member, step_rates
from ensemble.model import Predictor, build_network
from ensemble.recipe import Recipe
from galaxy_zoo.view import View
from pipeline.augment import FixedViews, RandomViews, rotations_and_flips
from pipeline.graph import decode_window
from pipeline.loader import Backend, Decoding, Loader, Sampling
from prediction.passes import predict_part

GOAL_LEVELS = 2.0
"""Largest mean difference between two ways to make the same pixels, in grey levels."""

DECODED, PREDICTED = "ng_cnn", "ng_resnet50"
PIXELS_OF = ("quick", "ng_cnn", "serrano_2")
TRAINED = ("quick", "ng_cnn", "ng_resnet50")
LARGE_BATCH = 512
STAMPS = {(128, 256), (128, 1024), (224, 512)}
"""View size in pixels and batch size."""

NUM_VIEWS, PREDICTED_BATCH = 16, 128
KAGGLE_TRAIN, KAGGLE_TEST = 61_578, 79_975


class CheckFailedError(Exception):
    """A part has run, but its results are wrong."""

    def __init__(self, message: str, results: list[Result]) -> None:
        super().__init__(message)
        self.results = results


def decode(setup: Setup) -> list[Result]:
    """Measure decoding alone: its rate, the use of the JPEG engine, and the difference from the CPU decoder."""
    recipe = setup.recipe(DECODED)
    on_cpu = replace(setup, device="cpu")
    results = [
        measured("decoded on the CPU, only the window", "images/s", throughput.decoding_rates(on_cpu, recipe))
    ]
    if not setup.on_gpu:
        return results
    with jpeg_engine_use() as use:
        results.append(measured("decoded on the GPU", "images/s", throughput.decoding_rates(setup, recipe)))
    if seen := use():
        results.append(measured("use of the JPEG engine, highest seen", "%", [max(seen)]))
    mean = np.abs(first_windows(setup, recipe) - first_windows(on_cpu, recipe)).mean()
    results.append(measured("difference to the CPU decoder, mean", "grey levels", [float(mean)]))
    check_levels(float(mean), results)
    return results


def pixels(setup: Setup) -> list[Result]:
    """Compare the same views made in every way: mean, 99.9 % and largest absolute difference of each pair."""
    views = {name: setup.recipe(name).view for name in PIXELS_OF}
    views["ng_cnn with changes of colour"] = replace(
        views["ng_cnn"], brightness=0.2, contrast=0.3, saturation=0.4, colour_noise=0.5
    )
    results, worst = [], 0.0
    for name, view in views.items():
        images = {way: levels(setup, view, device, backend) for way, device, backend in ways(setup)}
        for one, other in combinations(images, 2):
            found = differences(images[one] - images[other])
            worst = max(worst, found["mean"])
            results += [
                measured(f"{name}: {one}, {other}: {which}", "grey levels", [value])
                for which, value in found.items()
            ]
    check_levels(worst, results)
    return results


def stages(setup: Setup) -> list[Result]:
    """Measure each stage of a training, recipe by recipe, as `benchmarks.throughput` does."""
    results = []
    for name in TRAINED:
        torch.compiler.reset()
        found = throughput.measure(setup, setup.recipe(name))
        results += [replace(each, name=f"{name}: {each.name}") for each in found]
    return results


def stamps(setup: Setup) -> list[Result]:
    """Measure the seconds to fill the stamps, then views per second from them, and the Triton kernel alone."""
    samples, results = setup.samples(), list[Result]()
    for size, batch_size in sorted(STAMPS)[:1] if setup.quick else sorted(STAMPS):
        view = View(crop_px=256, size_px=throughput.QUICK_PX if setup.quick else size, rotation_deg=180, flip=True)
        what = f"{size} px, batches of {batch_size}"
        sampling = Sampling(batch_size=setup.batch_size if setup.quick else batch_size)
        decoding = Decoding(device=setup.device, stamps=RESIDENT)
        with Loader(samples, RandomViews(view, (0,)), sampling, decoding) as batches:
            filling = throughput.filling_rate(setup, batches)
            rates = setup.rates(partial(count_samples, batches))
        results += [
            measured(f"{what}: filling", "images/s", [filling]),
            measured(f"{what}: filling {KAGGLE_TRAIN:,} at that rate", "s", [KAGGLE_TRAIN / filling]),
            measured(f"{what}: from the stamps", "images/s", rates),
        ]
        if setup.on_gpu:
            results.append(measured(f"{what}: kernel alone", "images/s", kernel_rates(setup, view, batch_size)))
    check_same_views(setup, results)
    return results


def train_step(setup: Setup) -> list[Result]:
    """Measure steps on a fixed batch, of the recipe's size and large, and their share of the card's matrix rate."""
    peak = measured("bf16 matrix product", "TFLOP/s", matmul_rates(setup))
    results = [peak]
    for recipe in map(setup.recipe, TRAINED):
        gflop = step_gflop(recipe, setup)
        results.append(measured(f"{recipe.name}: a step", "GFLOP/image", [gflop]))
        for size in sorted(
            {recipe.training.batch_size, 2 * throughput.QUICK_BATCH if setup.quick else LARGE_BATCH}
        ):
            torch.compiler.reset()  # or another batch size is compiled for any size, which is slower
            sized = replace(recipe, training=replace(recipe.training, batch_size=size))
            rates = step_rates(setup, new_member(sized, setup), fixed_batch(sized, setup, size))
            what = f"{recipe.name}: batches of {size}"
            tflops = measured(what, "TFLOP/s", [gflop * rate / 1e3 for rate in rates])
            share = 100 * tflops.value / peak.value
            results += [
                measured(what, "images/s", rates),
                tflops,
                measured(f"{what}: of the product", "%", [share]),
            ]
    return results


def predict(setup: Setup) -> list[Result]:
    """Measure the prediction of the training samples by one member with random weights and test-time views."""
    recipe, num_views = setup.recipe(PREDICTED), 4 if setup.quick else NUM_VIEWS
    network = build_network(recipe, setup.tree, pretrained=False)
    member = Predictor(network, torch.device(setup.device))
    views = FixedViews(recipe.view, rotations_and_flips(num_views))
    sampling = Sampling(batch_size=setup.batch_size if setup.quick else PREDICTED_BATCH, shuffle=False)
    with Loader(setup.samples(), views, sampling, Decoding(device=setup.device)) as loader:
        rates = setup.rates(lambda run: len(predict_part([member], loader.epoch(0))["ids"]))  # noqa: ARG005
    what = f"{recipe.name}, {num_views} views"
    return [
        measured(what, "galaxies/s", rates),
        measured(f"{what}: {KAGGLE_TEST:,} galaxies, extrapolated", "s", [KAGGLE_TEST / rate for rate in rates]),
    ]


PARTS: dict[str, Callable[[Setup], list[Result]]] = {
    "decode": decode,
    "pixels": pixels,
    "stages": stages,
    "stamps": stamps,
    "train_step": train_step,
    "predict": predict,
}


def ways(setup: Setup) -> list[tuple[str, str, Backend]]:
    """Return the ways to make a view: a name, the device and the loader's backend."""
    on_cpu: list[tuple[str, str, Backend]] = [("CPU graph", "cpu", "dali"), ("OpenCV", "cpu", "opencv")]
    return [("GPU graph", "cuda", "dali"), *on_cpu, ("Triton", "cuda", "triton")] if setup.on_gpu else on_cpu


def levels(setup: Setup, view: View, device: str, backend: Backend) -> Tensor:
    """Return a batch of random views in grey levels 0 to 255, float32 on the CPU; all ways make the same views."""
    sampling = Sampling(batch_size=setup.batch_size, shuffle=False)
    decoding = Decoding(device=device, backend=backend)
    with Loader(setup.samples(), RandomViews(view, (0,)), sampling, decoding) as loader:
        images = next(iter(loader.epoch(0))).views[0].float().cpu()
    std, mean = (torch.tensor(values)[:, None, None] for values in (view.std, view.mean))
    return 255 * (images * std + mean)


def differences(difference: Tensor) -> dict[str, float]:
    """Return the mean, the 99.9 % quantile and the maximum of the absolute values."""
    ordered = difference.abs().flatten().sort().values
    at = int(0.999 * (len(ordered) - 1))
    return {"mean": ordered.mean().item(), "99.9 %": ordered[at].item(), "largest": ordered[-1].item()}


def check_levels(mean: float, results: list[Result]) -> None:
    """Check that pixels differ by no more than the goal allows; raise CheckFailedError if not."""
    if mean > GOAL_LEVELS:
        raise CheckFailedError(
            f"pixels differ by {mean:.2f} grey levels; the goal is {GOAL_LEVELS} or less", results
        )


def check_same_views(setup: Setup, results: list[Result]) -> None:
    """Check that kept and streamed stamps give the same views; raise CheckFailedError if not."""
    views = RandomViews(View(crop_px=256, size_px=throughput.QUICK_PX, rotation_deg=180, flip=True), (0,))
    streamed = Decoding(device=setup.device, backend="triton" if setup.on_gpu else "opencv")
    images = []
    for decoding in (streamed, replace(streamed, stamps=RESIDENT)):
        with Loader(setup.samples(), views, Sampling(batch_size=setup.batch_size), decoding) as batches:
            count_samples(batches, 0)
            images.append(next(iter(batches.epoch(1))).views[0])
    if not torch.equal(*images):
        raise CheckFailedError("views of the stamps are not those that are streamed", results)


def first_windows(setup: Setup, recipe: Recipe) -> NDArray[np.float32]:
    """Decode a batch as the loader does; return grey levels, shape (batch, window height, window width, 3)."""
    stamp = recipe.view.stamp(setup.samples().image_px)

    def graph(jpegs: Any) -> Any:
        images = decode_window(jpegs, stamp, on_gpu=setup.on_gpu)
        return fn.crop(images, crop=stamp.window_px) if setup.on_gpu else images

    with throughput.running(setup, graph, on_gpu=setup.on_gpu) as pipeline:
        (images,) = pipeline.run()
        return np.asarray(images.as_cpu().as_array(), np.float32)


@contextmanager
def jpeg_engine_use() -> Iterator[Callable[[], list[float]]]:
    """Watch the JPEG engine within the block; yield a function that returns its use in per cent, as sampled."""
    seen: list[str] = []
    ended = Event()

    def watch() -> None:
        while not ended.is_set():
            seen.append(ask_nvidia_smi("utilization.jpeg"))

    watcher = Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield lambda: [float(each) for each in seen if each.isdecimal()]
    finally:
        ended.set()
        watcher.join()


def kernel_rates(setup: Setup, view: View, batch_size: int) -> list[float]:
    """Return images per second of the Triton kernel and the upload of its parameters, from stamps of noise."""
    from pipeline.warp_triton import TritonKernel  # noqa: PLC0415 - not every torch comes with Triton

    device, stamp = torch.device(setup.device), view.stamp(setup.samples().image_px)
    noise = torch.randint(0, 256, (2048, *stamp.size_px, 3), dtype=torch.uint8, device=device)
    kernel = TritonKernel(view, device=device, dtype=torch.float16)
    order, launches = np.random.default_rng(0).integers(0, len(noise), batch_size), 200
    parameters = RandomViews(view, (0,)).parameters(stamp, 0, range(batch_size))

    def work(run: int) -> int:  # noqa: ARG001
        for _ in range(launches):
            rows, (packed,) = kernel.upload(order, parameters)
            kernel(noise, rows, packed, has_colours=False)
        return launches * batch_size

    return setup.rates(work)


def step_gflop(recipe: Recipe, setup: Setup) -> float:
    """Return the floating-point operations of the forward and backward pass of an image, in units of 1e9."""
    images = 2  # batch norm needs more than one
    network = build_network(recipe, setup.tree, pretrained=False)[0].to("meta")
    empty = torch.empty(images, 3, recipe.view.size_px, recipe.view.size_px, device="meta")
    with FlopCounterMode(display=False) as counter:
        network(empty).sum().backward()
    return float(counter.get_total_flops() / images / 1e9)


def matmul_rates(setup: Setup) -> list[float]:
    """Return the TFLOP/s of a large bf16 matrix product of random numbers."""
    size, products = (128, 1) if setup.quick else (8192, 20)
    one, other = (torch.randn(size, size, device=setup.device, dtype=torch.bfloat16) for _ in range(2))

    def work(run: int) -> int:  # noqa: ARG001
        for _ in range(products):
            torch.mm(one, other)
        return 2 * products * size**3

    return [rate / 1e12 for rate in setup.rates(work)]
