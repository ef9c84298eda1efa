"""Damages files as disks and networks do."""

from pathlib import Path

from galaxy_zoo.index import Component, index_path, read_index


def flip_bits(path: Path, at: int | None = None, *, bits: int = 1) -> None:
    """Flip bits of one byte, of the one in the middle unless told which; `at` may count from the end."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2 if at is None else at] ^= bits
    path.write_bytes(data)


def damage_an_image(shard: Path) -> Component:
    """Overwrite the start of an image of a shard; return which."""
    image = read_index(index_path(shard))[2][0]
    data = bytearray(shard.read_bytes())
    data[image.offset : image.offset + 200] = bytes(200)
    shard.write_bytes(data)
    return image
