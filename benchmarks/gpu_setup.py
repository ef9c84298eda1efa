"""What all parts share: shards, recipes, sizes, how to time."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from ensemble.recipe import Recipe, load_recipe, recipe_from_table
from galaxy_zoo.errors import ShardError
from galaxy_zoo.manifest import MANIFEST_NAME, read_manifest
from pipeline.shards import Samples

ROOT = Path(__file__).resolve().parents[1]
QUICK_PX, QUICK_BATCH = 64, 4


@dataclass(frozen=True)
class Setup:
    """What to measure, on what. device: "cuda" or "cpu"; quick: tiny sizes, to show that a part runs."""

    shards: Path
    device: str
    quick: bool

    @property
    def on_gpu(self) -> bool:
        """Whether the device is a GPU."""
        return self.device == "cuda"

    @property
    def runs(self) -> int:
        """Timed runs of each measurement, after a warm-up."""
        return 1 if self.quick else 3

    @property
    def batch_size(self) -> int:
        """Samples a batch where no recipe says it."""
        return QUICK_BATCH if self.quick else 256

    @property
    def cores(self) -> int:
        """CPU cores this process may use."""
        return len(os.sched_getaffinity(0))

    def samples(self) -> Samples:
        """The training samples of the shards; where it must be quick, of the first shard only."""
        manifest = read_manifest(self.shards)
        shards = manifest.splits["train"]
        return Samples(self.shards, manifest, shards[:1] if self.quick else shards)

    def recipe(self, name: str) -> Recipe:
        """A recipe; where it must be quick, with small images, batches and network."""
        manifest = read_manifest(self.shards)
        recipe = load_recipe(name).with_statistics(manifest.channel_mean, manifest.channel_std)
        if not self.quick:
            return recipe
        table = {key: dict(value) for key, value in recipe.table.items()}
        table["view"]["size_px"], table["training"]["batch_size"] = QUICK_PX, QUICK_BATCH
        network = table["network"]
        network |= {"model": "test_resnet"} if "model" in network else {"channels": [4] * len(network["channels"])}
        return recipe_from_table(table, name, where=name)

    def rates(self, work: Callable[[int], int]) -> list[float]:
        """How much a second `work` does: once to warm up, then `runs` times timed.

        Args:
            work: is given the number of the run, from 0 for the warm-up; returns how much it did.
        """
        rates = []
        for run in range(self.runs + 1):
            self.synchronise()
            started = time.perf_counter()
            amount = work(run)
            self.synchronise()
            rates.append(amount / (time.perf_counter() - started))
        return rates[1:]

    def synchronise(self) -> None:
        """Wait until the device has done all it was asked for."""
        if self.on_gpu:
            torch.cuda.synchronize()


def make_shards(count: int) -> Path:
    """Make shards of `count` synthetic galaxies in the temporary folder, or take those made there before.

    Raises:
        ShardError: `shard_tool` cannot make them.
    """
    folder = Path(tempfile.gettempdir()) / f"galaxy-zoo-benchmark-{os.getuid()}" / str(count)
    shards = folder / "shards"
    if not (shards / MANIFEST_NAME).exists():
        folder.mkdir(parents=True, exist_ok=True)
        _shard_tool("synth", str(folder / "galaxies"), "--count", str(count), "--seed", "1", "--overwrite")
        _shard_tool("pack", str(folder / "galaxies"), str(shards), "--overwrite")
    return shards


def _shard_tool(*command: str) -> None:
    """Run it as its own program: its worker processes then load no torch."""
    program = [sys.executable, "-m", "shard_tool", *command]
    done = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ShardError(f"shard_tool {' '.join(command)}: {done.stderr.strip()}")
