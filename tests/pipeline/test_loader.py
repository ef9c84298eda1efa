import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import simplejpeg
import torch
from damaging import damage_an_image
from loading import make_loader
from making import NUM_TEST, NUM_TRAIN

from galaxy_zoo.errors import ShardError
from galaxy_zoo.view import View
from pipeline.augment import FixedView, FixedViews, RandomViews
from pipeline.loader import Batch, Loader
from pipeline.order import class_shares, epoch_order
from pipeline.shards import Samples, open_shards
from pipeline.stamps import StampPolicy

VIEW = View(crop_px=64, size_px=32, rotation_deg=180, zoom=(0.9, 1.1), shift_px=2, flip=True)
Way = dict[str, str]
"""Options of a loader: a backend and its device."""


@pytest.fixture(scope="module")
def samples(shards: Path) -> Samples:
    return open_shards(shards, "train")


def load(samples: Samples, **options) -> Loader:
    options = {"batch_size": 16, "num_threads": 1, "dtype": torch.float32, **options}
    return make_loader(samples, options.pop("views", RandomViews(VIEW, (1,))), **options)


def collect(batches) -> tuple[list[str], torch.Tensor]:
    kept: list[Batch] = list(batches)
    return [i for b in kept for i in b.ids.tolist()], torch.cat([b.views[0].cpu() for b in kept])


def assert_same(got: list[Batch], expected: list[Batch]) -> None:
    """The same samples with the same views, bit for bit."""
    assert [batch.ids.tolist() for batch in got] == [batch.ids.tolist() for batch in expected]
    for one, other in zip(got, expected, strict=True):
        assert all(map(torch.equal, one.views, other.views))


def test_each_sample_is_seen_once_an_epoch_in_the_order_of_the_seed_and_the_last_batch_is_not_dropped(
    samples: Samples, by: Way
) -> None:
    with load(samples, **by, seed=5) as loader:
        for epoch in range(3):
            ids = [batch.ids.tolist() for batch in loader.epoch(epoch)]
            order = epoch_order(NUM_TRAIN, seed=5, epoch=epoch)
            assert [key for some in ids for key in some] == samples.keys[order].tolist()
            assert list(map(len, ids)) == [16, 16, 16, 16, 16, 3]
            assert len(loader) == 6


def test_batches_hold_the_votes_and_images_of_their_ids(
    samples: Samples, labels: pd.DataFrame, kaggle_folder: Path, by: Way
) -> None:
    whole = View(crop_px=96, size_px=96, mean=(0, 0, 0), std=(1, 1, 1))
    with load(samples, **by, views=FixedViews(whole), shuffle=True) as loader:
        batch = next(iter(loader.epoch(0)))
    assert np.allclose(batch.votes.cpu().numpy(), labels.loc[batch.ids.tolist()], atol=1e-6)

    for image, each in zip(batch.views[0].cpu(), batch.ids, strict=True):
        jpeg = (kaggle_folder / "images_training_rev1" / f"{each}.jpg").read_bytes()
        original = simplejpeg.decode_jpeg(jpeg).astype(float)
        assert np.abs(image.permute(1, 2, 0).numpy() * 255 - original).mean() < 0.5


def test_unlabelled_samples_have_nan_votes(shards: Path) -> None:
    test = open_shards(shards, "test")
    with load(test) as loader:
        batches = list(loader.epoch(0))
    assert sum(len(batch.ids) for batch in batches) == NUM_TEST
    assert all(batch.votes.isnan().all() for batch in batches)


def test_images_are_channels_last_and_those_of_float32_rounded_to_their_dtype(
    samples: Samples, by: Way, subtests: pytest.Subtests
) -> None:
    with load(samples, **by, batch_size=40) as loader:
        exact = list(loader.epoch(0))
    default = torch.float16 if by["device"] == "cuda" else torch.float32
    for asked, dtype in [(None, default), (torch.float16,) * 2, (torch.bfloat16,) * 2]:
        with subtests.test(asked=asked), load(samples, **by, dtype=asked, batch_size=40) as loader:
            for batch, expected in zip(loader.epoch(0), exact, strict=True):
                (images,), (exact_images,) = batch.views, expected.views
                assert images.shape == (len(batch.ids), 3, 32, 32)
                assert images.is_contiguous(memory_format=torch.channels_last)
                assert (images.dtype, batch.votes.dtype) == (dtype, torch.float32)
                assert images.device.type == batch.votes.device.type == by["device"]
                if by["backend"] == "triton":  # its interpreter cuts bfloat16 off
                    eps = torch.finfo(dtype).eps
                    assert torch.allclose(images.float(), exact_images, rtol=eps, atol=1e-6)
                else:
                    assert torch.equal(images, exact_images.to(dtype))


def test_a_batch_stays_as_it_was_while_later_ones_are_made(samples: Samples, by: Way) -> None:
    with load(samples, **by) as loader:
        kept = [(batch.views[0], batch.views[0].clone()) for batch in loader.epoch(0)]
    assert all(torch.equal(now, then) for now, then in kept)


def test_a_batch_is_whole_when_work_on_it_is_queued_behind_a_busy_device(samples: Samples, by: Way) -> None:
    """Tensors are dropped while a GPU still has to read them; their memory must not be used again before."""
    with load(samples, **by, batch_size=4) as loader:
        expected = [batch.views[0].sum().item() for batch in loader.epoch(0)]
        busy = torch.randn([8192 if by["device"] == "cuda" else 2] * 2, device=by["device"])
        sums = []
        for batch in loader.epoch(0):
            busy = (busy @ busy).clamp(-1, 1)
            sums.append(batch.views[0].sum())
            del batch
    assert torch.allclose(torch.stack(sums).cpu(), torch.tensor(expected))


def test_an_image_has_the_same_pixels_in_whatever_batch_it_comes(samples: Samples, by: Way) -> None:
    found = []
    for batch_size in (16, 5, 83):
        with load(samples, **by, batch_size=batch_size) as loader:
            found.append(collect(loader.epoch(0)))
    for ids, images in found[1:]:
        assert ids == found[0][0]
        assert torch.equal(images, found[0][1])


def test_an_epoch_entered_at_a_step_goes_on_bit_identically(
    samples: Samples, by: Way, subtests: pytest.Subtests
) -> None:
    with load(samples, **by) as loader:
        whole = list(loader.epoch(2))
    for start in [0, 1, 4, 5, 6]:
        with subtests.test(start=start), load(samples, **by) as loader:
            assert_same(list(loader.epoch(2, start=start)), whole[start:])


def test_ranks_share_the_batches_of_one_rank(samples: Samples, subtests: pytest.Subtests) -> None:
    for ranks, batch_size in [(2, 32), (3, 32), (3, 48), (3, 100), (5, 8)]:
        with subtests.test(ranks=ranks, batch_size=batch_size):
            with load(samples, batch_size=batch_size) as loader:
                single = list(loader.epoch(1))
            parts = []
            for rank in range(ranks):
                with load(samples, batch_size=batch_size, rank=rank, world_size=ranks) as loader:
                    parts.append(list(loader.epoch(1)))
            assert {len(part) for part in parts} == {len(single)}
            for step, expected in enumerate(single):
                assert [i for part in parts for i in part[step].ids] == expected.ids.tolist()
                assert torch.equal(torch.cat([part[step].views[0] for part in parts]), expected.views[0])


def test_a_balanced_epoch_is_the_same_over_ranks_and_entered_at_any_step(samples: Samples) -> None:
    shares = class_shares(np.arange(len(samples)) % 7 // 5, 1.0)
    with load(samples, batch_size=32, shares=shares) as loader:
        whole = list(loader.epoch(2))
        rest = list(loader.epoch(2, start=1))
    ids = [each for batch in whole for each in batch.ids.tolist()]
    assert len(ids) == NUM_TRAIN > len(set(ids))
    assert_same(rest, whole[1:])
    for rank in range(2):
        with load(samples, batch_size=32, shares=shares, rank=rank, world_size=2) as loader:
            first = next(iter(loader.epoch(2)))
        assert torch.equal(first.views[0], whole[0].views[0][16 * rank : 16 * (rank + 1)])


@pytest.mark.parametrize(("turns_deg", "shape"), [((0.0,), (3, 32, 32)), ((0.0, 45.0), (2, 3, 32, 32))])
def test_a_rank_that_gets_nothing_of_the_last_step_still_makes_it(
    shards: Path, turns_deg: tuple[float, ...], shape: tuple[int, ...]
) -> None:
    test = open_shards(shards, "test")  # 21 samples: a full step of 20, then 1 sample for 2 ranks
    views = RandomViews(replace(VIEW, turns_deg=turns_deg), (1, 2))
    for rank, counts in enumerate([(10, 1), (10, 0)]):
        with load(test, views=views, batch_size=20, rank=rank, world_size=2) as loader:
            shapes = [[each.shape for each in batch.views] for batch in loader.epoch(0)]
        assert shapes == [[(count, *shape)] * 2 for count in counts]


def test_members_get_their_own_views_of_the_same_samples_alone_and_in_company(samples: Samples, by: Way) -> None:
    with load(samples, **by, views=RandomViews(VIEW, (1, 2))) as loader:
        both = next(iter(loader.epoch(0)))
    with load(samples, **by, views=RandomViews(VIEW, (2,))) as loader:
        alone = next(iter(loader.epoch(0)))
    assert torch.equal(both.views[1], alone.views[0])
    assert not torch.equal(both.views[0], both.views[1])


def test_an_epoch_left_half_way_or_under_way_does_not_disturb_another(
    samples: Samples, by: Way, subtests: pytest.Subtests
) -> None:
    with load(samples, **by) as loader:
        expected = [list(loader.epoch(epoch)) for epoch in range(2)]
        with subtests.test("left by break"):
            for batch in loader.epoch(0):
                assert len(batch.ids)
                break
            assert_same(list(loader.epoch(1)), expected[1])
        with subtests.test("left by an exception"):
            with pytest.raises(RuntimeError, match="mine"):
                for _ in loader.epoch(0):
                    raise RuntimeError("mine")
            assert_same(list(loader.epoch(0)), expected[0])
        with subtests.test("two under way"):
            pairs = zip(loader.epoch(0), loader.epoch(1), strict=True)
            for got, whole in zip(zip(*pairs, strict=True), expected, strict=True):
                assert_same(list(got), whole)


JITTERS = [{}, {"brightness": 0.2, "contrast": 0.3, "saturation": 0.4}, {"grey": True}, {"channel": "red"}]


def test_every_way_gives_the_pixels_of_dalis_graph_for_the_same_parameters(
    samples: Samples, by: Way, subtests: pytest.Subtests
) -> None:
    for jitter in JITTERS:
        with subtests.test(jitter=jitter):
            view = replace(VIEW, shear_deg=10, mean=(0, 0, 0), std=(1, 1, 1), **jitter)
            images = []
            for options in (by, {"backend": "dali"}):
                with load(samples, **options, views=RandomViews(view, (3,)), batch_size=83) as loader:
                    images.append(collect(loader.epoch(0))[1] * 255)
            difference = (images[0] - images[1]).abs()
            assert difference.mean() < (2 if by["device"] == "cuda" else 0.5)  # another decoder
            if by["device"] == "cpu":
                assert difference.max() < 10


def test_test_time_views_of_the_plain_view_are_turned_and_mirrored_images(samples: Samples, by: Way) -> None:
    views = (FixedView(), FixedView(flip=True), FixedView(90))
    with load(samples, **by, views=FixedViews(VIEW, views), shuffle=False) as loader:
        plain, mirrored, quarter = next(iter(loader.epoch(0))).views
    assert (plain.flip(3) - mirrored).abs().mean() < 0.01
    assert (torch.rot90(plain, 1, (2, 3)) - quarter).abs().mean() < 0.01


def test_turns_of_a_view_come_as_one_tensor_of_the_same_samples_and_changes(samples: Samples, by: Way) -> None:
    view = replace(VIEW, turns_deg=(0.0, 45.0, 90.0), brightness=0.2)
    with load(samples, **by, views=RandomViews(view, (1, 2))) as loader:
        both = next(iter(loader.epoch(0))).views
    with load(samples, **by, views=RandomViews(replace(view, turns_deg=(0.0,)), (1, 2))) as loader:
        plain = next(iter(loader.epoch(0))).views
    for turns, single in zip(both, plain, strict=True):
        assert turns.shape == (16, 3, 3, 32, 32)
        assert turns.flatten(0, 1).is_contiguous(memory_format=torch.channels_last)
        assert torch.equal(turns[:, 0], single)
        assert (torch.rot90(single, 1, (2, 3)) - turns[:, 2]).abs().mean() < 0.02
        assert (single - turns[:, 1]).abs().mean() > 0.02


def test_zooming_out_further_than_the_recipe_shows_the_surroundings(samples: Samples, by: Way) -> None:
    far = FixedViews(VIEW, (FixedView(), FixedView(zoom=64 / 96)))
    whole = FixedViews(View(crop_px=96, size_px=32))
    with load(samples, **by, views=far, shuffle=False) as loader:
        _, zoomed = next(iter(loader.epoch(0))).views
    with load(samples, **by, views=whole, shuffle=False) as loader:
        (expected,) = next(iter(loader.epoch(0))).views
    assert (zoomed - expected).abs().mean() < 0.02


def test_an_image_that_breaks_at_load_time_is_named_with_shard_and_offset(
    shards: Path, tmp_path: Path, by: Way
) -> None:
    broken = shutil.copytree(shards, tmp_path / "broken")
    image = damage_an_image(broken / "train-000003.tar")
    where = rf"train-000003\.tar: sample {image.name.removesuffix('.jpg')} at offset {image.offset} "
    message = where + ".*shard_tool lint --deep"
    with load(open_shards(broken, "train"), **by) as loader, pytest.raises(ShardError, match=message):
        list(loader.epoch(0))


REFUSED = [
    ({"backend": "opencv", "device": "cuda"}, "CPU only"),
    ({"backend": "triton"}, "TRITON_INTERPRET"),
    ({"backend": "dali", "stamps": StampPolicy("resident")}, "no resident stamps"),
    ({"dtype": torch.float64}, r"torch\.float64; choose one of torch\.float32"),
    ({"batch_size": 2, "world_size": 3}, "a batch of 2 samples is too small for 3 ranks"),
]


def test_options_that_do_not_go_together_are_refused(samples: Samples, subtests: pytest.Subtests) -> None:
    for options, message in REFUSED:
        with subtests.test(message), pytest.raises(ValueError, match=message):
            load(samples, **options)
