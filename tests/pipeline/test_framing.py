"""Views framed by the galaxy: it is in the middle, of one size, with every engine, order and source of stamps."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
import torch
from kaggle_download import Download, run
from kaggle_download import pack as pack_download
from loading import make_loader
from making import make_disc

from galaxy_zoo.errors import ShardError
from galaxy_zoo.manifest import read_manifest
from galaxy_zoo.objects import write_objects
from galaxy_zoo.view import Stamp, View
from pipeline.augment import FixedView, FixedViews, RandomViews, rotations_and_flips
from pipeline.framing import MAX_SCALE, make_framing
from pipeline.loader import Backend
from pipeline.shards import Samples, open_shards
from pipeline.stamps import StampPolicy

IMAGE = View(crop_px=56, size_px=24, mean=(0, 0, 0), std=(1, 1, 1))
CENTRED = replace(IMAGE, framing="centred")
SCALED = replace(IMAGE, framing="scaled", object_radius_px=31)
ALL_AT_ONCE = rotations_and_flips(4, [0.9, 1.2])
BACKENDS: list[Backend] = ["dali", "opencv"]

DISCS = {
    "plain": make_disc((64, 64), 3, ratio=0.6),
    "shifted": make_disc((75, 58), 3, ratio=0.6),
    "large": make_disc((64, 64), 6, ratio=0.6),
    "large_shifted": make_disc((60, 69), 6, ratio=0.6),
}


@pytest.fixture(scope="module")
def discs(tmp_path_factory: pytest.TempPathFactory) -> Samples:
    """The discs by name, measured by `shard_tool objects`."""
    pytest.importorskip("sep", reason="measuring galaxies needs the extra objects")
    folder = tmp_path_factory.mktemp("discs")
    images = {name: simplejpeg.encode_jpeg(disc, 95) for name, disc in DISCS.items()}
    source = Download({}, images, [["GalaxyID"]]).write_folder(folder / "kaggle")
    (source / "training_solutions_rev1.csv").unlink()
    result = pack_download(source, folder / "shards")
    assert result.exit_code == 0, result.stderr
    assert run("objects", folder / "shards", "--workers", 1).exit_code == 0
    return open_shards(folder / "shards", "test")


@pytest.fixture(scope="module")
def measured(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Samples:
    """The samples of the shards, with galaxies anywhere and of any size."""
    folder = Path(shutil.copytree(shards, tmp_path_factory.mktemp("measured") / "shards"))
    samples = open_shards(folder, "train")
    rng = np.random.default_rng(0)
    rows = [(key, *rng.uniform(38, 58, 2), rng.uniform(5, 60)) for key in samples.keys.tolist()]
    write_objects(folder, read_manifest(folder).set_sha256, rows)
    return samples


def views_of(
    samples: Samples, view: View, fixed: tuple[FixedView, ...] = (FixedView(),), **options
) -> torch.Tensor:
    """Views of all samples, shape (views, samples, 3, size, size), the samples in their order."""
    options = {"batch_size": 16, "num_threads": 1, "shuffle": False, **options}
    with make_loader(samples, FixedViews(view, fixed), **options) as loader:
        batches = list(loader.epoch(0))
    ids = [each for batch in batches for each in batch.ids.tolist()]
    views = torch.stack([torch.cat(each) for each in zip(*(batch.views for batch in batches), strict=True)])
    return views[:, [ids.index(key) for key in samples.keys]]


def difference(one: torch.Tensor, other: torch.Tensor) -> float:
    """The largest mean difference of a view, in grey levels."""
    return float((one - other).abs().mean(dim=(-3, -2, -1)).max()) * 255


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_galaxy_looks_the_same_wherever_it_is_and_of_whichever_size_where_it_is_scaled(
    discs: Samples, backend: Backend
) -> None:
    at = discs.keys.tolist().index
    image, centred, scaled = (
        views_of(discs, view, ALL_AT_ONCE, backend=backend) for view in (IMAGE, CENTRED, SCALED)
    )
    for one, other in (("plain", "shifted"), ("large", "large_shifted")):
        assert difference(centred[:, at(one)], centred[:, at(other)]) < 1.5
        assert difference(image[:, at(one)], image[:, at(other)]) > 4
    for name in ("large", "large_shifted"):
        assert difference(scaled[:, at("plain")], scaled[:, at(name)]) < 1.5
        assert difference(centred[:, at("plain")], centred[:, at(name)]) > 5


def test_a_frame_puts_the_galaxy_in_the_middle_and_scales_the_window_within_bounds(measured: Samples) -> None:
    view, stamp = replace(SCALED, object_radius_px=20), Stamp((96, 96), (48, 48))
    plain = FixedViews(view, (FixedView(30, 1.1, True),)).parameters(stamp, 0, range(len(measured)))
    [framed] = make_framing(view, stamp, measured)(plain, np.arange(len(measured)))
    warps = framed.warps.astype(float)
    middles = warps[:, :, :2] @ np.full(2, view.size_px / 2) + warps[:, :, 2]
    np.testing.assert_allclose(middles, measured.objects.centres_px / 2, atol=1e-3)
    scales = np.sqrt(np.linalg.det(warps[:, :, :2]) / np.linalg.det(plain[0].warps[:, :, :2].astype(float)))
    wanted = measured.objects.radii_px / 20
    assert (wanted < 1 / MAX_SCALE).any()
    assert (wanted > MAX_SCALE).any()
    np.testing.assert_allclose(scales, np.clip(wanted, 1 / MAX_SCALE, MAX_SCALE), rtol=1e-5)


def test_each_galaxy_has_its_own_frame_in_any_order_on_any_rank_from_any_stamps(measured: Samples) -> None:
    expected = views_of(measured, SCALED, ALL_AT_ONCE)
    assert torch.equal(views_of(measured, SCALED, ALL_AT_ONCE, shuffle=True, seed=3, batch_size=7), expected)
    views = RandomViews(replace(SCALED, rotation_deg=180, shift_px=3), (1,))
    options = {"batch_size": 16, "num_threads": 1}
    with make_loader(measured, views, **options, stamps=StampPolicy("resident")) as loader:
        first, again = ([batch.views[0] for batch in loader.epoch(0)] for _ in range(2))
    assert all(map(torch.equal, first, again))
    parts = []
    for rank in range(2):
        with make_loader(measured, views, **options, rank=rank, world_size=2) as loader:
            parts.append([batch.views[0] for batch in loader.epoch(0)])
    for whole, *shared in zip(first, *parts, strict=True):
        assert torch.equal(torch.cat(shared), whole)


def test_both_engines_frame_alike(measured: Samples) -> None:
    for view in (CENTRED, SCALED):
        dali, opencv = (views_of(measured, view, ALL_AT_ONCE, backend=each) for each in BACKENDS)
        assert difference(dali, opencv) < 1


def test_only_framed_views_need_the_galaxies_to_be_measured(shards: Path) -> None:
    samples = open_shards(shards, "train")
    with make_loader(samples, FixedViews(IMAGE), batch_size=8):
        pass
    with pytest.raises(ShardError, match=r"objects.csv: missing.*shard_tool objects"):
        make_loader(samples, FixedViews(CENTRED), batch_size=8)
