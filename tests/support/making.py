"""Makes what tests work on: small galaxies in Kaggle's layout, and shards of them."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import simplejpeg
from click.testing import CliRunner

from galaxy_zoo.tree import load_tree
from galaxy_zoo.votes import normalise_votes

IMAGE_PX = 96
NUM_TRAIN, NUM_TEST = 83, 21

RECIPE = """
[about]
source = "the tests"
[view]
crop_px = 64
size_px = 16
rotation_deg = 180
flip = true
[network]
kind = "cnn"
channels = [8, 16]
kernels = [3, 3]
batch_norm = true
features = "mean"
[head]
kind = "tree"
[loss]
kind = "mse"
[optimiser]
kind = "adamw"
lr = 0.003
[schedule]
kind = "one_cycle"
[training]
epochs = 2
batch_size = 16
"""
"""Of a network that trains in a second."""

TREE = """
name = "three answers"
id_column = "GalaxyID"
[[question]]
name = "smooth or disk"
columns = ["Class1.1", "Class1.2", "Class1.3"]
answers = ["smooth", "disk", "star"]
"""
"""Of few answers, so that a report has few figures."""


def make_image(rng: np.random.Generator, size: int = IMAGE_PX) -> np.ndarray:
    """A smooth tilted blob with a neighbour: asymmetric, so that every flip and rotation shows."""
    y, x = np.mgrid[:size, :size] - size / 2
    angle, ratio, radius = rng.uniform(0, np.pi), rng.uniform(0.3, 1), rng.uniform(0.08, 0.2) * size
    u, v = x * np.cos(angle) + y * np.sin(angle), (y * np.cos(angle) - x * np.sin(angle)) / ratio
    galaxy = np.exp(-np.hypot(u, v) / radius)
    cx, cy = rng.uniform(-0.3, 0.3, 2) * size
    neighbour = 0.6 * np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (0.03 * size) ** 2)
    colours = rng.uniform(0.5, 1, (2, 3))
    image = galaxy[..., None] * colours[0] + neighbour[..., None] * colours[1]
    return np.clip(image * 220 + 12, 0, 255).astype(np.uint8)


def make_disc(
    centre: tuple[float, float], scale: float, *, ratio: float = 1.0, size: int = 128, seed: int = 0
) -> np.ndarray:
    """An exponential disc at (x, y), pixel i covering [i, i + 1), on a background with a little noise."""
    y, x = np.mgrid[:size, :size] + 0.5
    light = 200 * np.exp(-np.hypot(x - centre[0], (y - centre[1]) / ratio) / scale)
    noise = np.random.default_rng(seed).normal(10, 1, (size, size))
    return np.tile(np.clip(np.rint(light + noise), 0, 255).astype(np.uint8)[..., None], 3)


def make_votes(rng: np.random.Generator, count: int) -> np.ndarray:
    """Random votes that obey the gz2-kaggle tree."""
    tree = load_tree("gz2-kaggle")
    return normalise_votes(rng.random((count, len(tree.columns))), tree)


def write_kaggle_folder(folder: Path, *, num_train: int, num_test: int, seed: int = 0) -> Path:
    """Write images and labels as an unpacked Kaggle download."""
    rng = np.random.default_rng(seed)
    tree = load_tree("gz2-kaggle")
    ids = [str(100000 + 7 * i) for i in range(num_train + num_test)]
    for name, some in (("images_training_rev1", ids[:num_train]), ("images_test_rev1", ids[num_train:])):
        (folder / name).mkdir(parents=True)
        for each in some:
            jpeg = simplejpeg.encode_jpeg(make_image(rng), quality=90)
            (folder / name / f"{each}.jpg").write_bytes(jpeg)
    votes = pd.DataFrame(make_votes(rng, num_train), index=ids[:num_train], columns=list(tree.columns))
    votes.to_csv(folder / "training_solutions_rev1.csv", index_label="GalaxyID", float_format="%.9f")
    return folder


def pack(source: Path, out: Path, *options: str) -> Path:
    """Run `shard_tool pack`; fails the test where it fails."""
    from shard_tool.cli import main

    result = CliRunner().invoke(main, ["pack", str(source), str(out), "--workers", "1", *options])
    assert result.exit_code == 0, result.output
    return out


def edited_run(source: Path, out: Path, **values: object) -> Path:
    """A copy of a run with other values in run.json and in the checkpoints, as if it had been trained so."""
    from training.checkpoint import Snapshot, load_state
    from training.run import load_run

    shutil.copytree(source, out)
    saved = json.loads((out / "run.json").read_text())
    (out / "run.json").write_text(json.dumps({**saved, **values}))
    for path in out.glob("member-*/best.safetensors"):
        Snapshot.of({**load_state(path), "run": load_run(out).identity}).write(path)
    return out
