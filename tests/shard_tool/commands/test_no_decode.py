"""`pack --no-decode`: the same shards, faster, with less proven."""

import re
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
from kaggle_download import Download, contents, pack, rejected, run

from galaxy_zoo.manifest import read_manifest
from shard_tool.source import plan


def shards_of(folder: Path) -> dict[str, bytes]:
    return {name: data for name, data in contents(folder).items() if name.endswith((".tar", ".idx"))}


def test_good_images_give_the_shards_of_a_strict_pack(kaggle: Path, packed: Path, tmp_path: Path) -> None:
    assert pack(kaggle, tmp_path / "out", "--no-decode", "--workers", 2).exit_code == 0
    assert shards_of(tmp_path / "out") == shards_of(packed)
    strict, fast = read_manifest(packed), read_manifest(tmp_path / "out")
    assert (strict.is_decoded, fast.is_decoded) == (True, False)
    assert fast.statistics == strict.statistics  # so few images are all measured


def test_the_channels_are_measured_on_a_sample_that_no_number_of_workers_changes(
    kaggle: Path, packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "MEASURED_WITHOUT_DECODING", 12)
    assert pack(kaggle, tmp_path / "one", "--no-decode", "--workers", 1, "--shards", 4).exit_code == 0
    assert pack(kaggle, tmp_path / "two", "--no-decode", "--workers", 2, "--shards", 4).exit_code == 0
    one, strict = read_manifest(tmp_path / "one"), read_manifest(packed)
    assert one == read_manifest(tmp_path / "two")
    assert one.statistics is not None
    assert one.statistics.measured == 12
    assert one.channel_mean != strict.channel_mean
    np.testing.assert_allclose(one.channel_mean, strict.channel_mean, rtol=0.3)
    shown = run("info", tmp_path / "one").stdout
    assert re.search(r"decoded +12 images, for the channels", shown)


SPOILT = [
    (lambda jpeg: jpeg[: len(jpeg) // 2], "cut off, it has no end marker"),
    (lambda jpeg: b"", "empty file"),
    (lambda jpeg: b"GIF89a" + jpeg, "not a JPEG"),
    (lambda jpeg: jpeg[:40], "its header is cut off"),
]


def test_what_a_header_or_the_end_tells_is_still_rejected(
    whole_download: Download, tmp_path_factory: pytest.TempPathFactory, subtests: pytest.Subtests
) -> None:
    """The images of the test are not measured, so nothing but their headers is looked at."""
    for spoil, reason in SPOILT:
        with subtests.test(reason):
            folder, download = tmp_path_factory.mktemp("case"), deepcopy(whole_download)
            name = next(iter(download.test))
            download.test[name] = spoil(download.test[name])
            result = pack(download.write_folder(folder / "in"), folder / "out", "--no-decode")
            assert result.exit_code == 1
            [row] = rejected(folder / "out")
            assert (row["split"], row["id"]) == ("test", name)
            assert reason in row["reason"]


def test_damage_that_only_decoding_shows_is_left_to_deep_lint(whole_download: Download, tmp_path: Path) -> None:
    download = deepcopy(whole_download)
    name = next(iter(download.test))
    jpeg = download.test[name]
    middle = len(jpeg) * 2 // 3
    download.test[name] = jpeg[:middle] + bytes(200) + jpeg[middle + 200 :]
    source = download.write_folder(tmp_path / "in")
    assert pack(source, tmp_path / "strict").exit_code == 1
    assert pack(source, tmp_path / "out", "--no-decode").exit_code == 0
    assert run("lint", tmp_path / "out").exit_code == 0
    deep = run("lint", tmp_path / "out", "--deep")
    assert deep.exit_code == 1
    assert name in deep.output


def test_a_finished_pack_without_decoding_is_not_taken_for_a_strict_one(kaggle: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert pack(kaggle, out, "--no-decode").exit_code == 0
    assert pack(kaggle, out, "--no-decode", "--resume").exit_code == 0
    result = pack(kaggle, out, "--resume")
    assert result.exit_code == 1
    assert "finished with --no-decode" in result.stderr
