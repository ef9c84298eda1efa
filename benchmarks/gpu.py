"""Check and measure everything about a GPU, part by part, from a checkout that need not be installed.

python benchmarks/gpu.py                       all parts, on synthetic galaxies it makes itself
python benchmarks/gpu.py decode roi --out /tmp/results
python -m benchmarks.gpu loader --shards shards

gpu.py            this command: which parts there are, each run in a process of its own
gpu_setup.py      what all parts share: shards, recipes, sizes, how to time
gpu_results.py    what a part gives, and the JSON file and table made of it
gpu_isolation.py  a function in a child process that may crash or hang
gpu_decoding.py   decode, roi, decoder_load        gpu_pixels.py      pixels
gpu_loading.py    loader                           gpu_store.py       store
gpu_training.py   train_step, end_to_end           gpu_predicting.py  predict
gpu_testing.py    tests
"""

import sys
import traceback
from importlib import import_module
from pathlib import Path

import click

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a file, only benchmarks/ is on the path

from benchmarks.gpu_isolation import run_isolated
from benchmarks.gpu_results import CheckFailedError, Outcome, SkippedError, describe_machine, table, write_json
from benchmarks.gpu_setup import Setup, make_shards
from galaxy_zoo.console import Command
from pipeline.device import choose_device

PARTS = {
    "decode": "gpu_decoding",
    "roi": "gpu_decoding",
    "pixels": "gpu_pixels",
    "decoder_load": "gpu_decoding",
    "loader": "gpu_loading",
    "store": "gpu_store",
    "train_step": "gpu_training",
    "end_to_end": "gpu_training",
    "predict": "gpu_predicting",
    "tests": "gpu_testing",
}
"""Each part and the module with a function of its name. Modules are imported by the part's own process."""

PART_TIMEOUT_S = 480


def run_part(setup: Setup, name: str) -> Outcome:
    """Run one part; whatever goes wrong is in its outcome, with the traceback on stderr."""
    try:
        results = getattr(import_module(f"benchmarks.{PARTS[name]}"), name)(setup)
    except SkippedError as reason:
        return Outcome("skipped", str(reason))
    except CheckFailedError as error:
        return Outcome("failed", str(error), error.results)
    except Exception as error:  # a part may fail in any library; the others go on
        traceback.print_exc()
        return Outcome("failed", f"{type(error).__name__}: {error}")
    return Outcome("ok", "", tuple(results))


def run_part_isolated(setup: Setup, name: str) -> Outcome:
    """As `run_part`, in a process that may crash or hang: it is ended after `PART_TIMEOUT_S`."""
    ended = run_isolated(run_part, setup, name, timeout_s=PART_TIMEOUT_S)
    return ended.value if isinstance(ended.value, Outcome) else Outcome("failed", ended.problem)


@click.command(cls=Command, context_settings={"show_default": True, "max_content_width": 100})
@click.argument("parts", nargs=-1, type=click.Choice(list(PARTS)), metavar="[PART]...")
@click.option(
    "--shards",
    type=click.Path(path_type=Path),
    default=None,
    help="Measure on these.  [default: synthetic galaxies, made once in the temporary folder]",
)
@click.option("--count", default=8192, type=click.IntRange(16), help="Synthetic galaxies to make.")
@click.option(
    "--out", default=Path("benchmarks/results"), type=click.Path(path_type=Path), help="Folder of the JSON files."
)
@click.option("--device", default="cuda", type=click.Choice(["cuda", "cpu"]), help="What to measure.")
@click.option("--quick", is_flag=True, help="Tiny sizes: shows that the parts run, not how fast.")
@click.option("--isolate/--no-isolate", default=True, help="Run each part in a process of its own.")
@click.option("--commit", default=None, help="Of this tree, to be written down.  [default: ask git]")
def main(
    parts: tuple[str, ...],
    shards: Path | None,
    count: int,
    out: Path,
    device: str,
    quick: bool,
    isolate: bool,
    commit: str | None,
) -> None:
    """Check and measure everything about a GPU, all parts or those named, in under 8 minutes each.

    Parts: decode, roi, pixels, decoder_load, loader, store, train_step, end_to_end, predict, tests.

    Writes OUT/<device>-<part>.json for each part and prints the results. A part that fails is recorded and the
    others go on. Exit codes: 0 good or skipped, 1 a part failed, 2 wrong usage.

    \b
    Example:
      python benchmarks/gpu.py decode pixels --out benchmarks/results
    """
    where = choose_device(device).type
    setup = Setup(shards or make_shards(64 if quick else count), where, quick)
    machine = describe_machine(where, commit)
    run = run_part_isolated if isolate else run_part
    failed = []
    for name in parts or PARTS:
        click.echo(f"{name} ...", err=True)
        outcome = run(setup, name)
        path = write_json(out, name, outcome, machine=machine, setup=setup)
        click.echo(table(name, outcome, path))
        if outcome.status == "failed":
            failed.append(name)
    if failed:
        raise click.ClickException(f"failed: {', '.join(failed)}; why is in the JSON files in {out}")


if __name__ == "__main__":
    main()
