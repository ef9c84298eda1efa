"""Loaders in the processes of a torchrun job."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from damaging import damage_an_image

ROOT = Path(__file__).parents[2]
EPOCH = """
import sys
from pathlib import Path
import torch
from torch import distributed
from galaxy_zoo.view import View
from pipeline.augment import RandomViews
from pipeline.loader import Decoding, Loader, Sampling
from pipeline.shards import open_shards

distributed.init_process_group("gloo")
samples = open_shards(Path(sys.argv[1]), "train")
place = {"rank": distributed.get_rank(), "world_size": distributed.get_world_size()}
sampling = Sampling(batch_size=8, **place)
with Loader(samples, RandomViews(View(crop_px=64, size_px=32), (0,)), sampling, Decoding(num_threads=1)) as loader:
    for batch in loader.epoch(0):
        distributed.all_reduce(torch.ones(1))
print("came to the end")
"""


@pytest.mark.slow
def test_an_image_that_breaks_on_one_rank_is_named_and_ends_the_whole_job(shards: Path, tmp_path: Path) -> None:
    broken = shutil.copytree(shards, tmp_path / "broken")
    shard = broken / "train-000003.tar"
    image = damage_an_image(shard)
    (tmp_path / "epoch.py").write_text(EPOCH)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    job = subprocess.run(
        [*torchrun, tmp_path / "epoch.py", broken],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert job.returncode != 0
    where = f"{shard.name}: sample {image.name.removesuffix('.jpg')} at offset {image.offset} does not decode"
    assert where in job.stderr
    assert "came to the end" not in job.stdout
