"""Where the time of a training goes: reader, decoder, loader, model, all together, and which of them is the limit.

    python -m benchmarks.throughput shards --recipe quick
    python -m benchmarks.throughput shards --recipe ng_cnn --device cuda --json

Images a second on the device at hand; medians of 3 epochs after one to warm up. `reader` copies the JPEG bytes of a
shuffled epoch; `decode` decodes the recipe's window and does nothing else; `loader` is what training gets, one view
of each image, streamed; `fill` is its first epoch with a resident store (once, not a median), `resident` the later
ones; `model` trains one member on a fixed batch of random numbers; `end to end` trains it from the streaming loader.
The limit is the slowest of reader, decode, loader and model; on a CPU they share the cores, so end to end is slower
than each of them.
"""

import json
from dataclasses import asdict
from functools import partial
from pathlib import Path

import click

from benchmarks.gpu_decoding import crop_graph, decoding_rates
from benchmarks.gpu_loading import count_samples, reading_rates
from benchmarks.gpu_results import Result, measured
from benchmarks.gpu_setup import Setup
from benchmarks.gpu_store import timed
from benchmarks.gpu_training import epoch_speeds, fixed_batch, new_member, step_rates
from ensemble.recipe import Recipe
from galaxy_zoo.manifest import read_manifest
from pipeline.augment import RandomViews
from pipeline.device import choose_device
from pipeline.loader import Decoding, Loader, Sampling
from pipeline.stamps import StampPolicy


def measure(setup: Setup, recipe: Recipe) -> dict[str, Result]:
    """Images a second of each stage, by its name."""
    size, tree = recipe.training.batch_size, read_manifest(setup.shards).tree
    load = partial(Loader, setup.samples(), RandomViews(recipe.view, (0,)), Sampling(batch_size=size))
    with load(Decoding(device=setup.device)) as batches:
        loading = setup.rates(lambda epoch: count_samples(batches, epoch))
    with load(Decoding(device=setup.device, stamps=StampPolicy("resident", share=0.9))) as batches:
        filling = [len(setup.samples()) / timed(setup, lambda: count_samples(batches, 0))]
        resident = setup.rates(lambda epoch: count_samples(batches, epoch))
    member = new_member(recipe, tree, setup)
    training = step_rates(setup, member, fixed_batch(recipe, tree, setup, size))
    speeds = epoch_speeds(setup, recipe, member)
    window = crop_graph(recipe.view.stamp(setup.samples().image_px), on_gpu=setup.on_gpu)
    rates = {
        "reader": reading_rates(setup),
        "decode": decoding_rates(setup, window, on_gpu=setup.on_gpu),
        "loader": loading,
        "fill": filling,
        "resident": resident,
        "model": training,
        "end to end": [speed["images_per_s"] for speed in speeds],
    }
    results = {name: measured(name, "images/s", values) for name, values in rates.items()}
    waits = [100 * speed["data_wait"] for speed in speeds]
    return results | {"data wait": measured("data wait", "% of the time", waits)}


def sentence(results: dict[str, Result]) -> str:
    """Which stage limits, and how far the next one is from limiting."""
    stages = {name: float(results[name].value) for name in ("reader", "decode", "loader", "model")}
    limit, following = sorted(stages, key=lambda name: stages[name])[:2]
    return (
        f"The {limit} is the limit: {stages[limit]:.0f} images/s; the {following} would allow "
        f"{stages[following] / stages[limit]:.1f} times as much."
    )


@click.command(context_settings={"show_default": True})
@click.argument("shards", type=click.Path(path_type=Path))
@click.option("--recipe", "recipe_name", default="quick", help="A recipe's name or TOML file.")
@click.option(
    "--device", default="auto", type=click.Choice(["auto", "cpu", "cuda"]), help="auto: cuda if there is one."
)
@click.option("--quick", is_flag=True, help="Tiny sizes, to show that it runs.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def main(shards: Path, recipe_name: str, device: str, quick: bool, as_json: bool) -> None:
    """Measure each stage of training RECIPE on the folder SHARDS, and name the one that limits it."""
    setup = Setup(shards, choose_device(device).type, quick)
    results = measure(setup, setup.recipe(recipe_name))
    if as_json:
        stages = {name: asdict(result) for name, result in results.items()}
        click.echo(json.dumps({"recipe": recipe_name, "stages": stages, "limit": sentence(results)}, indent=1))
        return
    for name, result in results.items():
        click.echo(
            f"{name:12}{float(result.value):10.1f} {result.unit}  ({result.lowest:.1f} to {result.highest:.1f})"
        )
    click.echo(sentence(results))


if __name__ == "__main__":
    main()
