"""Whether memory stays flat: what a loader's process holds after each of many epochs, streaming and from a store.

    python -m benchmarks.memory shards --split test --epochs 50

Each source runs in a process of its own. The growth is that from epoch 5, by when every buffer has been made, to the
last one. A store's own size is in the numbers.
"""

from dataclasses import dataclass
from pathlib import Path

import click
import psutil
import torch

from benchmarks.gpu_isolation import run_isolated
from galaxy_zoo.view import View
from pipeline.augment import RandomViews
from pipeline.device import choose_device
from pipeline.loader import Decoding, Loader, Sampling
from pipeline.shards import open_split
from pipeline.stamps import StampMode, StampPolicy

VIEW = View(crop_px=256, size_px=128, rotation_deg=180, flip=True)
SOURCES: tuple[StampMode, ...] = ("stream", "resident")
SETTLED = 5
TIMEOUT_S = 3600


@dataclass(frozen=True)
class Memory:
    """After each epoch, 1e6 bytes: resident in the process, and used on the device by anyone (0 on a CPU)."""

    process_mb: list[float]
    device_mb: list[float]


def measure(shards: Path, split: str, epochs: int, device: str, mode: StampMode) -> Memory:
    """Run through `epochs` epochs with batches of 128."""
    samples, _ = open_split(shards, split)
    process, in_process, on_device = psutil.Process(), [], []
    decoding = Decoding(device=device, stamps=StampPolicy(mode, share=0.9))
    with Loader(samples, RandomViews(VIEW, (0,)), Sampling(batch_size=128), decoding) as loader:
        for epoch in range(epochs):
            for batch in loader.epoch(epoch):
                assert len(batch.ids)
            in_process.append(process.memory_info().rss / 1e6)
            free, total = torch.cuda.mem_get_info() if device == "cuda" else (0, 0)
            on_device.append((total - free) / 1e6)
    return Memory(in_process, on_device)


@click.command(context_settings={"show_default": True})
@click.argument("shards", type=click.Path(path_type=Path))
@click.option("--split", default="train", help="Whose images.")
@click.option("--epochs", default=50, type=click.IntRange(SETTLED + 1), help="Epochs of each source.")
@click.option(
    "--device", default="auto", type=click.Choice(["auto", "cpu", "cuda"]), help="auto: cuda if there is one."
)
def main(shards: Path, split: str, epochs: int, device: str) -> None:
    """Print how the memory of a loader of the folder SHARDS changes over EPOCHS epochs."""
    where = choose_device(device).type
    marks = sorted({0, 1, SETTLED - 1, *range(9, epochs, 10), epochs - 1})
    click.echo(f"{'':18}" + "".join(f"{mark + 1:>9}" for mark in marks) + f"   growth from epoch {SETTLED}")
    for mode in SOURCES:
        ended = run_isolated(measure, shards, split, epochs, where, mode, timeout_s=TIMEOUT_S)
        if not isinstance(ended.value, Memory):
            raise click.ClickException(f"{mode}: {ended.problem}")
        rows = {"process": ended.value.process_mb}
        if where == "cuda":
            rows["device"] = ended.value.device_mb
        for name, values in rows.items():
            growth = values[-1] - values[SETTLED - 1]
            cells = "".join(f"{values[mark]:9.1f}" for mark in marks)
            click.echo(f"{f'{mode}, {name}, MB':18}{cells}{growth:9.1f} MB")


if __name__ == "__main__":
    main()
