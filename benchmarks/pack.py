"""Compare `shard_tool pack` with tar, the writers of other libraries and decoding alone, in turn, in one run.

    python -m benchmarks.pack FOLDER --peers PYTHON --out benchmarks/results/pack-cpu.json

FOLDER is an unpacked Kaggle download. PYTHON is an interpreter that has webdataset, litdata and mosaicml-streaming
(their requirements differ from ours); without it they are left out. Each way runs once to warm the page cache, then
`--runs` times in turn; the results are medians, and the highest peak of memory (proportional: a shared page counts
once). `benchmarks/pack_peers.py` says what each does. Only ours and those named "strict" check that the images decode;
ours also joins the ids, checks the votes, hashes, shuffles and indexes, and its data is on the disk when it ends.
"""

import shutil
import statistics
import sys
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

import click

from benchmarks.measuring import provenance, write_json
from benchmarks.processes import Timing, timed
from galaxy_zoo.console import Command

PEERS_SCRIPT = Path(__file__).parent / "pack_peers.py"


def ways(folder: Path, out: Path, peers: str) -> dict[str, list[str]]:
    """Return the commands to compare, by name; each writes to `out`."""
    names = [path.name for path in folder.iterdir() if path.is_dir()]
    tar = f"mkdir {out} && tar cf {out}/all.tar -C {folder} {' '.join(names)}"
    pack = [sys.executable, "-m", "shard_tool", "pack", str(folder), str(out)]
    commands = {
        "tar cf": ["sh", "-c", tar],
        "tar cf, on the disk": ["sh", "-c", f"{tar} && sync {out}/all.tar"],
        "decode only, all cores": [sys.executable, str(PEERS_SCRIPT), "decode", str(folder), str(out)],
        "shard_tool pack": pack,
        "shard_tool pack, without decoding": [*pack, "--no-decode"],
    }
    for peer in ("webdataset", "mosaic", "litdata") if peers else ():
        command = [peers, str(PEERS_SCRIPT), peer, str(folder), str(out)]
        commands |= {peer: command, f"{peer}, strict": [*command, "--strict"]}
    return commands


def run_all(folder: Path, peers: str, runs: int) -> dict[str, list[Timing]]:
    """Time every way `runs` times in turn, after one round to warm up; return the timings by name."""
    images = sum(1 for _ in folder.rglob("*.jpg"))
    results: dict[str, list[Timing]] = {}
    with TemporaryDirectory(dir=folder.parent) as work:
        for run in range(runs + 1):
            for name, command in ways(folder, Path(work) / "out", peers).items():
                timing = timed(command, images)
                shutil.rmtree(Path(work) / "out", ignore_errors=True)
                if run:
                    results.setdefault(name, []).append(timing)
    return results


@click.command(cls=Command, context_settings={"show_default": True})
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--peers", default="", help="Python with the other libraries; without it they are left out.")
@click.option("--runs", default=3, type=click.IntRange(1), help="Timed runs of each.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="JSON file for the results.")
def main(folder: Path, peers: str, runs: int, out: Path) -> None:
    """Compare ways to pack the unpacked Kaggle download in FOLDER.

    \b
    Example:
      python -m benchmarks.pack kaggle --out pack.json
    """
    results = run_all(folder, peers, runs)
    saved = {name: [asdict(timing) for timing in timings] for name, timings in results.items()}
    write_json(out, provenance() | {"runs": saved})
    decode_s = statistics.median(timing.seconds for timing in results["decode only, all cores"])
    for name, timings in results.items():
        seconds = statistics.median(timing.seconds for timing in timings)
        cpu = statistics.median(timing.cpu_s for timing in timings)
        memory = max(timing.peak_proportional_mb for timing in timings)
        click.echo(
            f"{seconds:7.2f} s  x {seconds / decode_s:4.2f}  {timings[0].images / seconds:6.0f} img/s  "
            f"{cpu:6.1f} s CPU  {memory:5.0f} MB  {name}"
        )


if __name__ == "__main__":
    main()
