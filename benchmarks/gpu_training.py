"""How fast members train: on one batch that lies on the device, and on batches from the loader."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.gpu_results import Result, measured
from benchmarks.gpu_setup import Setup
from ensemble.model import build_network
from ensemble.recipe import Recipe
from galaxy_zoo.manifest import read_manifest
from galaxy_zoo.tree import DecisionTree
from pipeline.augment import RandomViews
from pipeline.loader import Batch, Decoding, Loader, Sampling
from training.loop import Pauses, train_epoch
from training.member import Member
from training.meter import Meter

RECIPES = ("ng_cnn", "ng_resnet50")
LARGE_BATCH = 512
END_TO_END_STEPS = 200


def train_step(setup: Setup) -> list[Result]:
    """Steps on a fixed batch of the recipe's size and of a large one, with the share of the card's matrix rate."""
    peak = measured("bf16 matrix product", "TFLOP/s", matmul_rates(setup))
    results = [peak]
    for name in RECIPES:
        recipe, tree = setup.recipe(name), read_manifest(setup.shards).tree
        gflop = step_gflop(recipe, tree)
        results.append(Result(f"{name}: a step", gflop, "GFLOP/image"))
        for size in sorted(
            {recipe.training.batch_size, 2 * recipe.training.batch_size if setup.quick else LARGE_BATCH}
        ):
            torch.compiler.reset()  # another batch size would be compiled as one of any size, and be slower
            member, batch = new_member(recipe, tree, setup), fixed_batch(recipe, tree, setup, size)
            for tuned in (False, True):
                with cudnn_tuning(tuned):
                    rates = step_rates(setup, member, batch)
                what = f"{name}: batch of {size}{', cudnn.benchmark' * tuned}"
                results.append(measured(what, "images/s", rates))
                tflops = measured(what, "TFLOP/s", [gflop * rate / 1e3 for rate in rates])
                share = float(tflops.value) / float(peak.value)
                results += [tflops, Result(f"{what}: of the matrix product", 100 * share, "%")]
    return results


def end_to_end(setup: Setup) -> list[Result]:
    """Train from the loader as train.py does; beside it the rate of the same member on a fixed batch."""
    results = []
    for name in RECIPES:
        recipe, tree = setup.recipe(name), read_manifest(setup.shards).tree
        size = recipe.training.batch_size
        torch.compiler.reset()
        member = new_member(recipe, tree, setup)
        fixed = measured(
            f"{name}: fixed batch of {size}",
            "images/s",
            step_rates(setup, member, fixed_batch(recipe, tree, setup, size)),
        )
        speeds = epoch_speeds(setup, recipe, member)
        whole = measured(f"{name}: with the loader", "images/s", [each["images_per_s"] for each in speeds])
        results += [
            fixed,
            whole,
            measured(f"{name}: waited for data", "%", [100 * each["data_wait"] for each in speeds]),
            Result(f"{name}: of the rate on the fixed batch", 100 * float(whole.value) / float(fixed.value), "%"),
        ]
    return results


def epoch_speeds(setup: Setup, recipe: Recipe, member: Member) -> list[dict[str, float]]:
    """What the meter says of each epoch, after one to warm up; at least `END_TO_END_STEPS` steps in all."""
    views, size = RandomViews(recipe.view, (0,)), recipe.training.batch_size
    meter, speeds = Meter([0], torch.device(setup.device)), []
    with Loader(setup.samples(), views, Sampling(batch_size=size), Decoding(device=setup.device)) as batches:
        epochs = 1 if setup.quick else max(setup.runs, math.ceil(END_TO_END_STEPS / len(batches)))
        for epoch in range(epochs + 1):
            meter.begin_epoch("")
            train_epoch([member], batches.epoch(epoch), meter, Pauses())
            meter.mean_losses()  # waits for the device
            speeds.append(meter.speed())
    return speeds[1:]


def step_rates(setup: Setup, member: Member, batch: Batch) -> list[float]:
    """Images a second of steps on one batch."""
    steps = 1 if setup.quick else 30

    def work(run: int) -> int:  # noqa: ARG001
        for _ in range(steps):
            member.step(batch.views[0], batch.votes)
        return steps * len(batch.votes)

    return setup.rates(work)


def new_member(recipe: Recipe, tree: DecisionTree, setup: Setup) -> Member:
    """A member with random weights, with a schedule long enough for any measurement."""
    device = torch.device(setup.device)
    return Member(recipe, tree, seed=0, steps_per_epoch=10_000, device=device, pretrained=False)


def fixed_batch(recipe: Recipe, tree: DecisionTree, setup: Setup, size: int) -> Batch:
    """Random images and votes on the device, as the loader gives them."""
    dtype = torch.float16 if setup.on_gpu else torch.float32
    shape = (size, 3, recipe.view.size_px, recipe.view.size_px)
    images = torch.randn(shape, device=setup.device).to(dtype).to(memory_format=torch.channels_last)
    return Batch((images,), torch.rand(size, len(tree.columns), device=setup.device), setup.samples().keys[:0])


def step_gflop(recipe: Recipe, tree: DecisionTree) -> float:
    """Floating-point operations of the forward and backward pass of one image, in thousand millions."""
    images = 2  # batch norm wants more than one
    network = build_network(recipe, tree, pretrained=False)[0].to("meta")
    pixels = torch.empty(images, 3, recipe.view.size_px, recipe.view.size_px, device="meta")
    with FlopCounterMode(display=False) as counter:
        network(pixels).sum().backward()
    return float(counter.get_total_flops() / images / 1e9)


def matmul_rates(setup: Setup) -> list[float]:
    """TFLOP/s of a large bf16 matrix product of random numbers."""
    size, products = (128, 1) if setup.quick else (8192, 20)
    one, other = (torch.randn(size, size, device=setup.device, dtype=torch.bfloat16) for _ in range(2))

    def work(run: int) -> int:  # noqa: ARG001
        for _ in range(products):
            torch.mm(one, other)
        return 2 * products * size**3

    return [rate / 1e12 for rate in setup.rates(work)]


@contextmanager
def cudnn_tuning(switched_on: bool) -> Iterator[None]:
    """Within the block cuDNN tries its algorithms for each new shape, or not."""
    settings: Any = torch.backends.cudnn
    before, settings.benchmark = settings.benchmark, switched_on
    try:
        yield
    finally:
        settings.benchmark = before
