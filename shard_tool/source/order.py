"""The one shuffle: samples in the order of a seeded hash of their ids, cut into shards of equal length.

The order depends only on the ids and the seed, not on the file system, the zip or the number of workers. So any set
of shards is a random sample, and a fold can be a set of shards.
"""

from hashlib import blake2b

SHARD_BYTES = 64_000_000
SHARD_SAMPLES = 20_000
"""Most samples of a shard; a worker holds their names and votes in memory, not their images."""
SHARDS_STEP = 10
"""The number of shards is a multiple of this, so that 5 or 10 folds have equally many shards."""


def shuffle_key(sample_id: str, seed: int) -> bytes:
    """Return the key to sort a sample by, 16 bytes."""
    return blake2b(sample_id.encode(), digest_size=16, key=seed.to_bytes(8, "little")).digest()


def default_shards(image_bytes: int, samples: int) -> int:
    """Return the number of shards: the multiple of 10, at least 10, that brings shards nearest to 64 MB.

    It is higher if a shard would have over 20,000 samples. image_bytes: size of all images.
    """
    by_samples = -(-samples // (SHARD_SAMPLES * SHARDS_STEP))
    return max(1, round(image_bytes / SHARD_BYTES / SHARDS_STEP), by_samples) * SHARDS_STEP


def shard_slices(samples: int, shards: int) -> list[slice]:
    """Return the half-open slice of the order for each shard; there are never more shards than samples."""
    shards = min(shards, samples)
    return [slice(i * samples // shards, (i + 1) * samples // shards) for i in range(shards)]


def spread(samples: int, most: int) -> list[int]:
    """Return at most `most` indices, spread evenly over `range(samples)`."""
    return sorted({i * samples // most for i in range(most)}) if samples else []
