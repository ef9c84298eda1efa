import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from loading import make_loader

from galaxy_zoo.errors import ShardError
from galaxy_zoo.index import index_path, read_index
from galaxy_zoo.view import Stamp, View
from pipeline.augment import FixedView, FixedViews, RandomViews
from pipeline.loader import Batch, Loader
from pipeline.shards import Samples, open_shards
from pipeline.stamps import Opener, StampPolicy

VIEW = View(crop_px=64, size_px=32, rotation_deg=180, zoom=(0.9, 1.1), shift_px=2, flip=True)
LEVELS = {"mean": (0.0, 0.0, 0.0), "std": (1 / 255, 1 / 255, 1 / 255)}
"""A normalisation that leaves grey levels."""

COLOURS = {"brightness": 0.2, "contrast": 0.3, "saturation": 0.4}


@pytest.fixture(scope="module")
def samples(shards: Path) -> Samples:
    return open_shards(shards, "train")


def load(samples: Samples, **options) -> Loader:
    options = {"batch_size": 16, "num_threads": 2, "device": "cuda", **options}
    return make_loader(samples, options.pop("views", RandomViews(VIEW, (1,))), **options)


def images_of(batches: list[Batch]) -> torch.Tensor:
    return torch.cat([batch.views[0].float().cpu() for batch in batches])


def test_each_sample_is_seen_once_an_epoch_and_the_last_batch_is_not_dropped(samples: Samples) -> None:
    with load(samples) as loader:
        for epoch in range(3):
            batches = [batch.ids.tolist() for batch in loader.epoch(epoch)]
            assert sorted(i for ids in batches for i in ids) == sorted(samples.keys.tolist())
            assert [len(ids) for ids in batches] == [16, 16, 16, 16, 16, 3]


def test_images_are_float16_channels_last_and_votes_float32_on_the_gpu(samples: Samples) -> None:
    with load(samples) as loader:
        batch = next(iter(loader.epoch(0)))
    (images,) = batch.views
    assert images.shape == (16, 3, 32, 32)
    assert images.dtype == torch.float16
    assert images.is_cuda
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert batch.votes.dtype == torch.float32
    assert batch.votes.is_cuda


def test_batches_hold_the_votes_of_their_ids(samples: Samples, labels: pd.DataFrame) -> None:
    with load(samples) as loader:
        for batch in loader.epoch(0):
            expected = torch.tensor(labels.loc[batch.ids.tolist()].to_numpy())
            assert torch.allclose(batch.votes.cpu().double(), expected, atol=1e-6)


@pytest.mark.parametrize("start", [1, 5, 6])
def test_an_epoch_entered_at_a_step_goes_on_the_same(samples: Samples, start: int) -> None:
    view = replace(VIEW, **LEVELS)
    with load(samples, views=RandomViews(view, (1,))) as loader:
        whole = list(loader.epoch(2))
    with load(samples, views=RandomViews(view, (1,))) as loader:
        rest = list(loader.epoch(2, start=start))
    assert [b.ids.tolist() for b in rest] == [b.ids.tolist() for b in whole[start:]]
    if rest:
        assert (images_of(rest) - images_of(whole[start:])).abs().max() <= 1


@pytest.mark.parametrize("jitter", [{}, COLOURS, {"grey": True}])
def test_gpu_and_cpu_give_the_same_pixels_for_the_same_parameters(samples: Samples, jitter: dict) -> None:
    views = RandomViews(replace(VIEW, shear_deg=10, **LEVELS, **jitter), (3,))
    images = {}
    for device in ("cuda", "cpu"):
        with load(samples, views=views, device=device) as loader:
            images[device] = images_of(list(loader.epoch(0)))
    assert (images["cuda"] - images["cpu"]).abs().mean() < 2


def test_a_batch_stays_as_it_was_while_later_ones_are_made(samples: Samples) -> None:
    with load(samples, batch_size=4) as loader:
        kept = [(batch.views[0], batch.views[0].clone()) for batch in loader.epoch(0)]
    assert all(torch.equal(now, then) for now, then in kept)


@pytest.mark.parametrize("options", [{}, {"backend": "triton"}, {"stamps": StampPolicy("resident", share=0.9)}])
def test_a_batch_is_whole_when_work_on_it_is_queued_behind_a_busy_gpu(samples: Samples, options: dict) -> None:
    """Tensors are dropped while the GPU still has to read them; their memory must not be used again before."""
    with load(samples, batch_size=4, **options) as loader:
        expected = [batch.views[0].float().sum().item() for batch in loader.epoch(0)]
        busy = torch.randn(8192, 8192, device="cuda")
        sums = []
        for batch in loader.epoch(0):
            busy = (busy @ busy).clamp(-1, 1)
            sums.append(batch.views[0].float().sum())
            del batch
    assert torch.allclose(torch.stack(sums).cpu(), torch.tensor(expected))


def test_leaving_an_epoch_half_way_does_not_disturb_the_next(samples: Samples) -> None:
    with load(samples) as loader:
        expected = [batch.ids.tolist() for batch in loader.epoch(1)]
        next(iter(loader.epoch(0)))
        assert [batch.ids.tolist() for batch in loader.epoch(1)] == expected


def test_test_time_views_are_turned_and_mirrored_images(samples: Samples) -> None:
    views = (FixedView(), FixedView(flip=True), FixedView(90))
    with load(samples, views=FixedViews(VIEW, views), shuffle=False) as loader:
        plain, mirrored, quarter = (view.float() for view in next(iter(loader.epoch(0))).views)
    assert (plain.flip(3) - mirrored).abs().mean() < 0.01
    assert (torch.rot90(plain, 1, (2, 3)) - quarter).abs().mean() < 0.01


def test_an_image_has_the_same_pixels_in_whatever_batch_it_comes(samples: Samples) -> None:
    views = RandomViews(replace(VIEW, **LEVELS), (3,))
    images = []
    for batch_size in (16, 5, 83):
        with load(samples, views=views, batch_size=batch_size, backend="triton") as loader:
            images.append(images_of(list(loader.epoch(0))))
    assert torch.equal(images[0], images[1])
    assert torch.equal(images[0], images[2])


def test_an_image_that_breaks_at_load_time_is_named_with_shard_and_offset(shards: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(shards, broken)
    shard = broken / "train-000003.tar"
    component = read_index(index_path(shard))[2][0]
    data = bytearray(shard.read_bytes())
    data[component.offset : component.offset + 200] = bytes(200)
    shard.write_bytes(data)
    samples = open_shards(broken, "train")
    with load(samples) as loader, pytest.raises(ShardError) as caught:
        list(loader.epoch(0))
    for part in (shard.name, component.name.removesuffix(".jpg"), "offset", "shard_tool lint --deep"):
        assert part in str(caught.value)


RESIDENT = StampPolicy("resident", share=0.9)


@pytest.mark.parametrize("colours", [{}, COLOURS])
def test_streamed_and_resident_stamps_give_the_same_views_and_those_of_dalis_graph(
    samples: Samples, colours: dict
) -> None:
    views = RandomViews(replace(VIEW, **LEVELS, **colours), (3, 4))
    batches = {}
    for name, options in {
        "resident": {"stamps": RESIDENT},
        "stream": {"backend": "triton"},
        "graph": {"backend": "dali"},
    }.items():
        with load(samples, views=views, dtype=torch.float32, **options) as loader:
            batches[name] = [batch for epoch in range(3) for batch in loader.epoch(epoch)]
    for kept, streamed, drawn in zip(*batches.values(), strict=True):
        assert kept.ids.tolist() == streamed.ids.tolist() == drawn.ids.tolist()
        assert torch.equal(kept.votes, drawn.votes)
        for one, other, graph in zip(kept.views, streamed.views, drawn.views, strict=True):
            assert torch.equal(one, other)
            assert (one - graph).abs().mean() < 0.5
            assert (one - graph).abs().max() < 10


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_views_of_resident_stamps_are_channels_last_of_the_dtype_asked_for_and_those_of_a_cpu(
    samples: Samples, dtype: torch.dtype
) -> None:
    views = RandomViews(replace(VIEW, **LEVELS), (3,))
    with load(samples, views=views, dtype=dtype, stamps=RESIDENT) as loader:
        list(loader.epoch(0))
        got = list(loader.epoch(1))
    with load(samples, views=views, device="cpu", stamps=RESIDENT) as loader:
        list(loader.epoch(0))
        expected = list(loader.epoch(1))
    for one, other in zip(got, expected, strict=True):
        (images,) = one.views
        assert images.is_cuda
        assert images.dtype == dtype
        assert images.is_contiguous(memory_format=torch.channels_last)
        assert (images.float().cpu() - other.views[0]).abs().mean() < 2


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_the_compiled_kernel_gives_the_pixels_of_opencv_also_beyond_the_stamp(dtype: torch.dtype) -> None:
    from pipeline.warp import WarpKernel
    from pipeline.warp_triton import TritonKernel

    stamp = Stamp((96, 83), (60, 52))
    stamps = torch.randint(0, 256, (9, 60, 52, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    rows = np.array([3, 1, 8, 0, 5, 5])
    for colours in ({}, COLOURS):
        view = replace(VIEW, crop_px=90, size_px=19, zoom=(0.8, 1.2), shift_px=9, shear_deg=5, **colours)
        parameters = RandomViews(view, (1, 2)).parameters(stamp, 0, range(len(rows)))
        on_cpu = WarpKernel(view, num_threads=1)
        expected = on_cpu.start(len(rows), lambda place: stamps.numpy()[rows[place]], parameters).result()
        on_cpu.close()
        kernel = TritonKernel(view, device=torch.device("cuda"), dtype=dtype)
        where, packed = kernel.upload(rows, parameters)
        for each, exact in zip(packed, expected, strict=True):
            got = kernel(stamps.cuda(), where, each, has_colours=bool(colours)).float().cpu()
            difference = (got - exact.to(dtype).float()).abs() * 127.5
            assert (difference > 0.6).float().mean() < 0.01  # halfway between two levels either may come out
            assert difference.max() < 2


def test_after_the_first_epoch_nothing_is_decoded(shards: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(shards, tmp_path / "copy"))
    samples = open_shards(copy, "train")
    with load(samples, stamps=RESIDENT) as loader:
        list(loader.epoch(0))
        expected = [batch.views[0].clone() for batch in loader.epoch(1)]
        for shard in copy.glob("*.tar"):
            with shard.open("r+b") as file:
                file.write(bytes(shard.stat().st_size))
        got = [batch.views[0] for batch in loader.epoch(1)]
    assert all(torch.equal(one, other) for one, other in zip(got, expected, strict=True))


def test_saved_stamps_are_copied_to_the_gpu_and_damaged_ones_are_decoded_again(
    samples: Samples, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    policy = replace(RESIDENT, folder=tmp_path)
    with load(samples, stamps=policy) as loader:
        list(loader.epoch(0))
        expected = [batch.views[0].clone() for batch in loader.epoch(1)]
    [path] = tmp_path.glob("stamps-*-gpu-*.bin")
    whole = bytearray(path.read_bytes())
    path.write_bytes(whole[:5000] + bytes([whole[5000] ^ 255]) + whole[5001:])
    with load(samples, stamps=policy) as loader:
        got = [batch.views[0].clone() for batch in loader.epoch(1)]
    assert "1 stamps are damaged" in capsys.readouterr().err
    assert all(torch.equal(one, other) for one, other in zip(got, expected, strict=True))


def test_stamps_larger_than_the_gpu_are_a_warning_and_streamed(
    samples: Samples, capsys: pytest.CaptureFixture[str]
) -> None:
    with load(samples, stamps=StampPolicy("resident", share=1e-9)) as loader:
        assert sum(len(batch.ids) for batch in loader.epoch(0)) == len(samples)
    assert "warning" in capsys.readouterr().err
    huge = Stamp((1 << 17, 1 << 17), (1 << 17, 1 << 17))
    policy = StampPolicy("resident", share=float("inf"))
    opener = Opener(policy, samples, huge, device=torch.device("cuda"), rank=0, world_size=1)
    assert opener.open() is None
    assert "there is no memory" in capsys.readouterr().err
