"""The same views by DALI's graph and the warp kernel, on the GPU and on the CPU, pixel by pixel."""

from dataclasses import replace
from itertools import combinations

import torch
from torch import Tensor

from benchmarks.gpu_results import CheckFailedError, Result
from benchmarks.gpu_setup import Setup
from galaxy_zoo.view import View
from pipeline.augment import RandomViews
from pipeline.loader import Backend, Decoding, Loader, Sampling

RECIPES = ("quick", "ng_cnn", "serrano_2")
GOAL_LEVELS = 2.0
"""Largest mean difference between two ways to the same view, in grey levels."""


def pixels(setup: Setup) -> list[Result]:
    """Mean, 99.9 % and largest absolute difference in grey levels between each two ways, for several views."""
    views = {name: setup.recipe(name).view for name in RECIPES}
    views["ng_cnn with changes of colour"] = replace(
        views["ng_cnn"], brightness=0.2, contrast=0.3, saturation=0.4, colour_noise=0.5
    )
    results, worst = [], 0.0
    for name, view in views.items():
        images = {way: levels(setup, view, device, backend) for way, device, backend in ways(setup)}
        for one, other in combinations(images, 2):
            found = differences(images[one] - images[other])
            worst = max(worst, found["mean"])
            results += [Result(f"{name}: {one}, {other}: {k}", v, "grey levels") for k, v in found.items()]
    if worst > GOAL_LEVELS:
        message = f"a mean difference of {worst:.2f} grey levels, at most {GOAL_LEVELS} may be"
        raise CheckFailedError(message, results)
    return results


def ways(setup: Setup) -> list[tuple[str, str, Backend]]:
    """The ways to a view: a name, the device and the loader's backend."""
    on_cpu: list[tuple[str, str, Backend]] = [("CPU graph", "cpu", "dali"), ("OpenCV", "cpu", "opencv")]
    return [("GPU graph", "cuda", "dali"), *on_cpu, ("Triton", "cuda", "triton")] if setup.on_gpu else on_cpu


def levels(setup: Setup, view: View, device: str, backend: Backend) -> Tensor:
    """A batch of random views in grey levels 0..255, float32 on the CPU, the same parameters for every way."""
    sampling = Sampling(batch_size=setup.batch_size, shuffle=False)
    decoding = Decoding(device=device, backend=backend)
    with Loader(setup.samples(), RandomViews(view, (0,)), sampling, decoding) as loader:
        images = next(iter(loader.epoch(0))).views[0].float().cpu()
    std, mean = (torch.tensor(values)[:, None, None] for values in (view.std, view.mean))
    return 255 * (images * std + mean)


def differences(difference: Tensor) -> dict[str, float]:
    """Mean, 99.9 % quantile and maximum of the absolute values."""
    ordered = difference.abs().flatten().sort().values
    at = int(0.999 * (len(ordered) - 1))
    return {"mean": ordered.mean().item(), "99.9 %": ordered[at].item(), "largest": ordered[-1].item()}
