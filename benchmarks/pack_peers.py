"""Pack a Kaggle folder as other libraries do, one way per call; `benchmarks.pack` runs and times them.

    python benchmarks/pack_peers.py webdataset FOLDER OUT [--strict]

Imports nothing of this project, so it can run in an environment for the peers. Each way is the documented one: the JPEG
bytes as they are and the votes as a float32 array, shards of 64 MB, all cores if the library has workers. `--strict`
decodes every JPEG strictly before it is packed, as `shard_tool pack` does. `decode` packs nothing: it only decodes
every JPEG strictly on all cores, as a reference.
"""

import argparse
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg

SHARD_BYTES = 64 * 2**20
Sample = tuple[str, str, Any]


def list_samples(folder: Path) -> list[Sample]:
    """Return (id, path, votes) of every training image and (id, path, None) of every test image."""
    import pandas as pd  # noqa: PLC0415 - `decode` does not need it

    table = pd.read_csv(folder / "training_solutions_rev1.csv", dtype={"GalaxyID": str}).set_index("GalaxyID")
    votes = dict(zip(table.index, table.to_numpy(np.float32), strict=True))
    paths = sorted((folder / "images_training_rev1").iterdir()) + sorted((folder / "images_test_rev1").iterdir())
    return [(path.stem, str(path), votes.get(path.stem)) for path in paths]


def read(path: str, *, strict: bool) -> bytes:
    """Return the bytes of a JPEG; with `strict` raise ValueError if it does not decode."""
    data = Path(path).read_bytes()
    if strict:
        simplejpeg.decode_jpeg(data, strict=True)
    return data


def decode(folder: Path) -> None:
    """Decode all JPEGs under a folder strictly, on all cores."""
    paths = sorted(folder.rglob("*.jpg"))
    with ProcessPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        for _ in pool.map(decode_files, [paths[start::64] for start in range(64)]):
            pass


def decode_files(paths: list[Path]) -> None:
    """Decode JPEG files strictly."""
    for path in paths:
        read(str(path), strict=True)


def pack_webdataset(samples: list[Sample], out: Path, *, strict: bool) -> None:
    """Pack with webdataset's ShardWriter, in one process."""
    import webdataset  # noqa: PLC0415

    out.mkdir(parents=True)
    with webdataset.ShardWriter(str(out / "shard-%06d.tar"), maxsize=SHARD_BYTES, verbose=0) as writer:
        for key, path, votes in samples:
            sample = {"__key__": key, "jpg": read(path, strict=strict)}
            writer.write(sample if votes is None else {**sample, "votes.npy": votes})


def pack_mosaic(samples: list[Sample], out: Path, *, strict: bool) -> None:
    """Pack with Mosaic's MDSWriter and sha256 checksums, in one process."""
    from streaming import MDSWriter  # noqa: PLC0415

    columns = {"id": "str", "image": "bytes", "votes": "ndarray:float32:37"}
    with MDSWriter(out=str(out), columns=columns, hashes=["sha256"], size_limit=SHARD_BYTES) as writer:
        for sample in samples:
            writer.write(fields_of(sample, strict=strict))


def pack_litdata(samples: list[Sample], out: Path, *, strict: bool) -> None:
    """Pack with LitData's `optimize`, on all cores."""
    import litdata  # noqa: PLC0415

    litdata.optimize(
        fn=partial(fields_of, strict=strict),
        inputs=samples,
        output_dir=str(out),
        chunk_bytes=SHARD_BYTES,
        num_workers=len(os.sched_getaffinity(0)),
    )


def fields_of(sample: Sample, *, strict: bool) -> dict[str, Any]:
    """Return the fields of a sample that Mosaic and LitData store."""
    key, path, votes = sample
    missing = np.full(37, np.nan, np.float32)
    return {"id": key, "image": read(path, strict=strict), "votes": missing if votes is None else votes}


PEERS: dict[str, Callable[..., None]] = {
    "webdataset": pack_webdataset,
    "mosaic": pack_mosaic,
    "litdata": pack_litdata,
}


def main() -> None:
    """Pack FOLDER into OUT with one of the peers."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("peer", choices=["decode", *PEERS])
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--strict", action="store_true")
    options = parser.parse_args()
    if options.peer == "decode":
        decode(options.folder)
    else:
        PEERS[options.peer](list_samples(options.folder), options.out, strict=options.strict)


if __name__ == "__main__":
    main()
