"""The parts of `benchmarks.gpu`: each takes a setup, and yields its results or raises CheckFailedError."""

import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import combinations
from operator import attrgetter
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event, Thread
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from nvidia.dali import fn
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from benchmarks import throughput
from benchmarks.convolutions import convolutions
from benchmarks.measuring import ROOT, CheckFailedError, Result, ask_nvidia_smi, last_line, measured
from benchmarks.throughput import RESIDENT, Setup, count_samples, fixed_batch, new_member, step_rates, take_steps
from benchmarks.trainings import logged, train, trainings
from ensemble.model import Predictor, build_network
from ensemble.recipe import Recipe
from galaxy_zoo.view import View
from pipeline.augment import FixedViews, RandomViews, rotations_and_flips
from pipeline.graph import decode_window
from pipeline.loader import Backend, Decoding, Loader, Sampling
from pipeline.order import num_steps as num_batches
from prediction.passes import predict_part
from training.step import compiling_pays

GOAL_LEVELS = 2.0
"""Largest mean difference between two ways to make the same pixels, in grey levels."""

DECODED, COMMANDED = "ng_cnn", "ng_cnn"
PIXELS_OF = ("quick", "ng_cnn", "serrano_2")
STEPPED = (
    "ng_cnn",
    "ng_resnet50",
    "quick",
    "small_data",
    "small_data x 4",
    "fast",
    "dieleman",
    "best",
    "serrano_2",
)
"""Recipes, each with the number of its members if it is not one."""

COMPARED = ("ng_cnn", "ng_resnet50", "quick", "small_data")

PREDICTED = {"ng_cnn": 1024, "ng_resnet50": 512}
"""Recipes and their batches."""

STAMPS = {(128, 256), (128, 1024), (224, 512)}
"""View size in pixels and batch size."""

NUM_VIEWS, PROFILED_STEPS = 16, 3
TESTS = {
    "cuda": ["-m", "gpu", "tests/gpu", "tests/pipeline", "tests/training"],
    "cpu": ["-m", "not slow", "tests/pipeline/test_warp.py"],
}
"""Arguments of pytest."""


def tests(setup: Setup) -> Iterator[Result]:
    """Run the tests that need a GPU; without one, some of those that do not."""
    # a test that hangs shows where on stderr
    options = ["-q", "-p", "no:cacheprovider", "-o", "faulthandler_timeout=60"]
    command = [sys.executable, "-m", "pytest", *options, *TESTS[setup.device]]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    for count, what in re.findall(r"(\d+) (passed|failed|errors?)", done.stdout.rpartition("\n\n")[2]):
        yield measured(f"tests {what}", "tests", [int(count)])
    if done.returncode:
        failed = re.findall(r"^(?:FAILED|ERROR) (\S+)", done.stdout, re.MULTILINE)
        raise CheckFailedError(
            " ".join(failed) or last_line(done.stdout) or f"pytest: exit code {done.returncode}"
        )


def decode(setup: Setup) -> Iterator[Result]:
    """Measure decoding alone: its rate, the use of the JPEG engine, and the difference from the CPU decoder."""
    recipe = setup.recipe(DECODED)
    on_cpu = replace(setup, device="cpu")
    yield measured("decoded on the CPU, only the window", "images/s", throughput.decoding_rates(on_cpu, recipe))
    if not setup.on_gpu:
        return
    with jpeg_engine_use() as use:
        yield measured("decoded on the GPU", "images/s", throughput.decoding_rates(setup, recipe))
    if seen := use():
        yield measured("use of the JPEG engine, highest seen", "%", [max(seen)])
    mean = np.abs(first_windows(setup, recipe) - first_windows(on_cpu, recipe)).mean()
    yield measured("difference to the CPU decoder, mean", "grey levels", [float(mean)])
    check_levels(float(mean))


def stamps(setup: Setup) -> Iterator[Result]:
    """Measure streamed views, the filling of the stamps, views from them, and the Triton kernel alone."""
    samples = setup.samples()
    view = View(crop_px=256, size_px=throughput.QUICK_PX if setup.quick else 128, rotation_deg=180, flip=True)
    sampling = Sampling(batch_size=setup.batch_size)
    for seeds, what in ((1, "one view, streamed"), (4, "four views, streamed")):
        views = RandomViews(view, tuple(range(seeds)))
        with Loader(samples, views, sampling, Decoding(device=setup.device)) as batches:
            rates = setup.rates(partial(count_samples, batches))
        yield measured(what, "views/s", [seeds * rate for rate in rates])
    for size, batch_size in sorted(STAMPS)[:1] if setup.quick else sorted(STAMPS):
        view = replace(view, size_px=throughput.QUICK_PX if setup.quick else size)
        what = f"{size} px, batches of {batch_size}"
        sampling = Sampling(batch_size=setup.batch_size if setup.quick else batch_size)
        decoding = Decoding(device=setup.device, stamps=RESIDENT)
        with Loader(samples, RandomViews(view, (0,)), sampling, decoding) as batches:
            yield measured(
                f"{what}: filling", "images/s", [setup.rate(partial(throughput.count_samples, batches), 0)]
            )
            yield measured(f"{what}: from the stamps", "images/s", setup.rates(partial(count_samples, batches)))
        if setup.on_gpu:
            yield measured(f"{what}: kernel alone", "images/s", kernel_rates(setup, view, batch_size))
    check_same_views(setup)


def pixels(setup: Setup) -> Iterator[Result]:
    """Compare the same views made in every way: mean, 99.9 % and largest absolute difference of each pair."""
    views = {name: setup.recipe(name).view for name in PIXELS_OF}
    views["ng_cnn with changes of colour"] = replace(
        views["ng_cnn"], brightness=0.2, contrast=0.3, saturation=0.4, colour_noise=0.5
    )
    worst = 0.0
    for name, view in views.items():
        images = {way: levels(setup, view, device, backend) for way, device, backend in ways(setup)}
        for one, other in combinations(images, 2):
            found = differences(images[one] - images[other])
            worst = max(worst, found["mean"])
            for which, value in found.items():
                yield measured(f"{name}: {one}, {other}: {which}", "grey levels", [value])
    check_levels(worst)


def steps(setup: Setup) -> Iterator[Result]:
    """Measure steps on a fixed batch: images per second, and the share of the time that the device works.

    Networks are compiled if train.py would compile them on these shards.
    """
    for label in STEPPED:
        name, _, members = label.partition(" x ")
        recipe = setup.recipe(name)
        compiles = compiling_pays(num_steps(setup, recipe))
        yield from stepping(setup, recipe, label, num_members=int(members or 1), compiles=compiles)


def compiling(setup: Setup) -> Iterator[Result]:
    """Measure steps of `COMPARED` in the other way: compiled if `steps` does not compile, and the reverse."""
    for name in COMPARED if setup.on_gpu else ():
        recipe = setup.recipe(name)
        compiles = not compiling_pays(num_steps(setup, recipe))
        what = f"{name}, {'compiled' if compiles else 'not compiled'}"
        yield from stepping(setup, recipe, what, num_members=1, compiles=compiles)


def num_steps(setup: Setup, recipe: Recipe) -> int:
    """Return the number of steps of a training on the shards of a setup."""
    return num_batches(len(setup.samples()), recipe.training.batch_size) * recipe.training.epochs


def stepping(setup: Setup, recipe: Recipe, what: str, *, num_members: int, compiles: bool) -> Iterator[Result]:
    """Measure steps of one recipe."""
    torch.compiler.reset()  # or another batch size is compiled for any size, which is slower
    batch = fixed_batch(recipe, setup, recipe.training.batch_size)
    team = [new_member(recipe, setup, compiles=compiles) for _ in range(num_members)]
    started = time.perf_counter()
    take_steps(team, batch, 1)
    setup.synchronise()
    yield measured(f"{what}: first step", "s", [time.perf_counter() - started])
    rates = step_rates(setup, team, batch)
    yield measured(f"{what}: steps", "images/s", rates)
    working = device_seconds(setup, partial(take_steps, team, batch, PROFILED_STEPS)) / (
        PROFILED_STEPS * len(team) * len(batch.votes)
    )
    yield measured(f"{what}: device busy in steps", "%", [100 * working * rate for rate in rates])


def commands(setup: Setup) -> Iterator[Result]:
    """Measure train.py, started twice, and predict.py, as users run them."""
    recipe = "quick" if setup.quick else COMMANDED
    with TemporaryDirectory() as folder:
        for name in ("train.py", "train.py, second start"):
            run = Path(folder) / name
            train(setup, ["--recipe", recipe], run, epochs=1)
            parts = [seconds for key, seconds in logged(run)[0].items() if key.startswith("start_")]
            yield measured(f"{name}: first step", "s", [sum(parts)])
        out = Path(folder) / "predicted.csv"
        views = ["--views", NUM_VIEWS, "--split", "train", "--device", setup.device]
        yield from run_command(["predict.py", run, setup.shards, *views, "--out", out], "predict.py", out)


def predict(setup: Setup) -> Iterator[Result]:
    """Measure the prediction of the training samples by a member with random weights, and test-time views."""
    num_views = 4 if setup.quick else NUM_VIEWS
    yield measured("predicted", "galaxies", [len(setup.samples())])
    for name, batch_size in PREDICTED.items():
        recipe = setup.recipe(name)
        views = FixedViews(recipe.view, rotations_and_flips(num_views))
        sampling = Sampling(batch_size=setup.batch_size if setup.quick else batch_size, shuffle=False)
        with Loader(setup.samples(), views, sampling, Decoding(device=setup.device)) as loader:
            count_samples(loader, 0)  # starts DALI and the warp kernel, and fills caches
            for compiled in (True, False) if setup.on_gpu else (False,):
                torch.compiler.reset()
                network = build_network(recipe, setup.tree, pretrained=False)
                member = Predictor(network, torch.device(setup.device), compiled=compiled)
                what = f"{name}, {num_views} views{', compiled' if compiled else ''}"
                started = time.perf_counter()
                count_predicted(member, loader, 0)
                yield measured(f"{what}: first epoch", "s", [time.perf_counter() - started])
                yield measured(what, "galaxies/s", [setup.rate(partial(count_predicted, member, loader), 1)])


PARTS: dict[str, Callable[[Setup], Iterator[Result]]] = {
    "tests": tests,
    "steps": steps,
    "trainings": trainings,
    "commands": commands,
    "predict": predict,
    "stamps": stamps,
    "compiling": compiling,
    "convolutions": convolutions,
    "decode": decode,
    "pixels": pixels,
}


def run_command(command: list[Any], name: str, last: Path) -> tuple[Result, Result]:
    """Run a command of the project; return its seconds, and those from the change of its last file to its end."""
    started = time.time()
    done = subprocess.run(
        [sys.executable, *map(str, command)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    ended = time.time()
    if done.returncode:
        raise CheckFailedError(f"{name}: exit code {done.returncode}: {last_line(done.stderr)}")
    return (
        measured(f"{name}: in all", "s", [ended - started]),
        measured(f"{name}: from its last result to its end", "s", [ended - last.stat().st_mtime]),
    )


def count_predicted(member: Predictor, loader: Loader, run: int) -> int:  # noqa: ARG001
    """Predict an epoch of a loader; return the number of galaxies."""
    return len(predict_part([member], loader.epoch(0))["ids"])


def device_seconds(setup: Setup, work: Callable[[], object]) -> float:
    """Return the seconds for which the device works on something, without those in which it waits for the host."""
    activity = ProfilerActivity.CUDA if setup.on_gpu else ProfilerActivity.CPU
    with profile(activities=[activity]) as seen:
        work()
        setup.synchronise()
    wanted = "CUDA" if setup.on_gpu else "CPU"
    ranges = [
        each.time_range
        for each in seen.events()
        if each.device_type.name == wanted and not each.is_user_annotation
    ]
    busy_us, until = 0.0, 0.0
    for each in sorted(ranges, key=attrgetter("start")):  # those of several streams overlap
        busy_us += max(0.0, each.end - max(each.start, until))
        until = max(until, each.end)
    return busy_us / 1e6


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


def check_levels(mean: float) -> None:
    """Check that pixels differ by no more than the goal allows; raise CheckFailedError if not."""
    if mean > GOAL_LEVELS:
        raise CheckFailedError(f"pixels differ by {mean:.2f} grey levels; the goal is {GOAL_LEVELS} or less")


def check_same_views(setup: Setup) -> None:
    """Check that kept and streamed stamps give the same views; raise CheckFailedError if not."""
    views = RandomViews(View(crop_px=256, size_px=throughput.QUICK_PX, rotation_deg=180, flip=True), (0,))
    streamed = Decoding(device=setup.device, backend="triton" if setup.on_gpu else "opencv")
    images = []
    for decoding in (streamed, replace(streamed, stamps=RESIDENT)):
        with Loader(setup.samples(), views, Sampling(batch_size=setup.batch_size), decoding) as batches:
            count_samples(batches, 0)
            images.append(next(iter(batches.epoch(1))).views[0])
    if not torch.equal(*images):
        raise CheckFailedError("views of the stamps are not those that are streamed")


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
