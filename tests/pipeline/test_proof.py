"""Damaged images are named before DALI meets them."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from making import make_image

from galaxy_zoo.errors import ShardError
from galaxy_zoo.view import View
from pipeline.augment import FixedViews
from pipeline.loader import Decoding, Loader, Sampling
from pipeline.proof import check_headers, decode, find_damaged
from pipeline.shards import open_shards

NUM_DAMAGES = 60


@dataclass
class Images:
    """JPEGs in memory, in place of the samples of shards."""

    jpeg: bytes
    image_px: tuple[int, int] = (96, 96)

    def jpegs(self, samples: np.ndarray) -> list[np.ndarray]:
        return [np.frombuffer(self.jpeg, np.uint8) for _ in samples]

    def describe(self, sample: int) -> str:
        return f"shard.tar: sample {sample}"


def jpeg(size: int = 96, colour_space: str = "RGB") -> bytes:
    pixels = make_image(np.random.default_rng(0), size)
    return simplejpeg.encode_jpeg(pixels[..., :1].copy() if colour_space == "GRAY" else pixels, 90, colour_space)


def cut(data: bytes) -> bytes:
    return data[:-200]


def zeroed(data: bytes) -> bytes:
    return data[:2] + bytes(40) + data[42:]


HEADERS = [
    (jpeg().replace(b"\x08\0\x60\0\x60", b"\x08\x1f\xff\x1f\xff"), "does not decode: 8191 x 8191 pixels in"),
    (jpeg(95), "has 95 x 95 pixels, the manifest says 96 x 96"),
    (jpeg(colour_space="GRAY"), "is not a colour JPEG"),
    (zeroed(jpeg()), "does not decode: damaged JPEG"),
    (b"", "does not decode: empty file"),
]


def test_an_image_that_is_not_what_the_manifest_says_is_named_by_its_header(subtests: pytest.Subtests) -> None:
    for data, reason in HEADERS:
        with subtests.test(reason):
            good, bad = Images(jpeg()), Images(data)
            jpegs = [*good.jpegs(np.arange(2)), *bad.jpegs(np.arange(1))]
            with pytest.raises(ShardError, match=f"^shard.tar: sample 7 {reason}.*shard_tool lint --deep"):
                check_headers(good, np.array([3, 5, 7]), jpegs)
            check_headers(good, np.array([3, 5]), jpegs[:2])


def test_damage_behind_the_header_is_found_by_decoding() -> None:
    images = Images(cut(jpeg()))
    check_headers(images, np.array([4]), images.jpegs(np.array([4])))
    assert str(find_damaged(images, [4])).startswith("shard.tar: sample 4 does not decode: ")
    with pytest.raises(ShardError, match="sample 4 does not decode"):
        decode(images, 4)
    assert find_damaged(Images(jpeg()), [4]) is None
    assert decode(Images(jpeg()), 4).shape == (96, 96, 3)


def damage(data: bytearray, rng: np.random.Generator) -> None:
    """Damage a JPEG of one length somewhere in or near its header."""
    at, size = int(rng.integers(2, 640)), int(rng.integers(1, 60))
    ways: list[Callable[[], bytes]] = [
        lambda: bytes(size),
        lambda: rng.bytes(size),
        lambda: b"\xff" + rng.bytes(1),
        lambda: bytes(data[at + 2 : at + 2 + size]),  # two bytes are lost, and some come twice
    ]
    new = ways[int(rng.integers(len(ways)))]()
    data[at : at + len(new)] = new


def load_damaged(folder: Path) -> None:
    """Load batches with one damaged image each; prints how many were refused."""
    samples = open_shards(folder, "train")
    rng, refused, whole = np.random.default_rng(0), 0, samples.jpegs
    sampling, views = Sampling(batch_size=64, shuffle=False), FixedViews(View(crop_px=64, size_px=8))
    for _ in range(NUM_DAMAGES):
        place, damaged = int(rng.integers(64)), bytearray(whole(np.array([0]))[0].tobytes())
        damage(damaged, rng)

        def jpegs(numbers: np.ndarray, place: int = place, damaged: bytearray = damaged) -> list[np.ndarray]:
            return [np.frombuffer(damaged, np.uint8) if n == place else whole(np.array([n]))[0] for n in numbers]

        samples.jpegs = jpegs  # type: ignore[method-assign]
        try:
            with Loader(samples, views, sampling, Decoding(num_threads=2)) as loader:
                assert sum(len(batch.ids) for batch in loader.epoch(0)) == len(samples)
        except ShardError:
            refused += 1
    print(refused)


@pytest.mark.slow
def test_no_damaged_header_ends_the_process(shards: Path) -> None:
    """DALI ended with signal 11 on every fifth of such damages."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, __file__, shards], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert NUM_DAMAGES / 5 < int(done.stdout) < NUM_DAMAGES


if __name__ == "__main__":
    load_damaged(Path(sys.argv[1]))
