"""Sums that no pixels can have are refused."""

from dataclasses import replace
from pathlib import Path

import pytest

from galaxy_zoo.errors import ShardError
from galaxy_zoo.manifest import read_manifest
from shard_tool.shards.statistics import channel_moments, of_manifest

IMPOSSIBLE = [{"channel_sums": (10**25, 0, 0)}, {"channel_squares": (-1, 1, 1)}, {"measured": 0}]


def test_sums_that_no_pixels_have_are_damage(packed: Path, subtests: pytest.Subtests) -> None:
    for change in IMPOSSIBLE:
        with subtests.test(change=change):
            manifest = read_manifest(packed)
            statistics = of_manifest(manifest, packed)
            assert channel_moments(statistics, manifest.image_px) == (manifest.channel_mean, manifest.channel_std)
            with pytest.raises(ShardError, match="the sums over pixels in its manifest are damaged"):
                of_manifest(replace(manifest, statistics=replace(statistics, **change)), packed)
