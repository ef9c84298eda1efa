"""What train.py says before the first step: device and why, model, samples and steps."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from ensemble.model import precision_on
from ensemble.recipe_files import Tables
from galaxy_zoo.fold import Fold
from galaxy_zoo.manifest import Manifest, Shard
from galaxy_zoo.text import counted
from pipeline.device import why_no_cuda
from training.ranks import Ranks
from training.run import Run


def describe_start(
    run: Run,
    manifest: Manifest,
    *,
    settings: Tables,
    weights: Path | None,
    num_parameters: int,
    steps_per_epoch: int,
    device: torch.device,
    ranks: Ranks,
) -> Iterator[str]:
    """Yield lines that say what a run will do, and on what.

    settings: what replaced values of the recipe. weights: file of pretrained weights. num_parameters: of one member.
    device: that of this rank.
    """
    training = run.recipe.training
    yield f"{_device(device)}{f', {ranks.world_size} ranks' if ranks.world_size > 1 else ''}"
    precision = precision_on(device, training.precision)
    emulated = " (this CPU has no instructions for bf16)" if precision != training.precision == "bf16" else ""
    yield f"{run.members} x {run.recipe.name}: {num_parameters:,} parameters each, in {precision}{emulated}"
    if changed := [
        f"{name}.{key} = {json.dumps(each)}" for name, table in settings.items() for key, each in table.items()
    ]:
        yield f"set in place of the recipe's: {', '.join(changed)}"
    if weights is not None:
        yield f"starting from the weights in {weights}"
    view, image_px = run.recipe.view, run.data.image_px
    if view.framing == "image" and view.crop_px > min(image_px):
        sides = " x ".join(map(str, image_px))
        yield (
            f"warning: the crop of {view.crop_px:g} px is larger than the images ({sides} px), so the edges of views "
            "are black; --set view.crop_px=N changes it"
        )
    shards = manifest.splits["train"]
    kept, held_out = (shards, ()) if (fold := Fold.named(run.fold)) is None else fold.split(shards)
    scored = f"{_samples(held_out)} held out to score on (fold {fold})" if fold else "none held out to score on"
    epochs, steps = training.epochs, training.epochs * steps_per_epoch
    yield f"{_samples(kept)} samples to train on, {scored}"
    yield (
        f"{counted(steps, 'step')}: {counted(epochs, 'epoch')} of {counted(steps_per_epoch, 'batch', 'batches')} of "
        f"{counted(training.batch_size, 'sample')}"
    )


def _device(device: torch.device) -> str:
    if device.type == "cuda":
        return f"training on {torch.cuda.get_device_name(device)}"
    why = "" if torch.cuda.is_available() else f": {why_no_cuda()}"
    return f"training on the CPU{why}"


def _samples(shards: Sequence[Shard]) -> str:
    return f"{sum(shard.samples for shard in shards):,}"
