"""Check and measure what needs a GPU, part by part, from a checkout that need not be installed.

python benchmarks/gpu.py                                  all parts, on synthetic galaxies it makes itself
python benchmarks/gpu.py decode pixels --out /tmp/results
python benchmarks/gpu.py stages --shards shards

Each part runs in its own process group, which ends with the part. That process exits without Python's clean-up, and
this one imports neither torch nor DALI: after a part, CUDA or DALI may hang while they shut down.
"""

import os
import re
import signal
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import click

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # if run as a file, only benchmarks/ is on the path

from benchmarks.measuring import RESULTS, command_line, make_shards, provenance, table, to_json, write_json
from galaxy_zoo.console import Command
from galaxy_zoo.errors import GalaxyZooError

PARTS = ("decode", "pixels", "stages", "stamps", "train_step", "predict")
PART_TIMEOUT_S = 480


def check_device(device: str) -> dict[str, Any]:
    """Return {} if torch has the device, else a message that says what is missing."""
    from pipeline.device import choose_device  # noqa: PLC0415 - see above

    try:
        choose_device(device)
    except click.BadParameter as error:
        return {"message": f"{error.message}; --device cpu --quick shows that the parts run"}
    return {}


def run_part(name: str, shards: Path, device: str, quick: bool) -> dict[str, Any]:
    """Run one part and return its results or its error; also print an unexpected error on stderr."""
    from benchmarks.gpu_parts import PARTS, CheckFailedError  # noqa: PLC0415 - see above
    from benchmarks.throughput import Setup  # noqa: PLC0415

    found: dict[str, Any] = {"status": "ok", "message": "", "shards": str(shards), "quick": quick}
    results = []
    try:
        found |= provenance(device)
        results = PARTS[name](Setup(shards, device, quick))
    except CheckFailedError as error:
        found |= {"status": "failed", "message": str(error)}
        results = error.results
    except GalaxyZooError as error:
        found |= {"status": "failed", "message": str(error)}
    except Exception as error:  # a part may fail in any library; the others go on
        traceback.print_exc()
        found |= {"status": "failed", "message": f"{type(error).__name__}: {error}"}
    return found | {"results": to_json(results), "table": table(results)}


def run_isolated(function: Callable[..., dict[str, Any]], *args: Any, timeout_s: float) -> dict[str, Any]:
    """Call a function in a new process group, and end that group; return its value, or how the process ended.

    Function, arguments and value must be picklable. The process is spawned: CUDA does not survive a fork.
    """
    context = get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_call, args=(sender, function, args))
    process.start()
    sender.close()
    try:
        if not receiver.poll(timeout_s):
            return {"status": "failed", "message": f"stopped after {timeout_s:.0f} s"}
        value: dict[str, Any] = receiver.recv()
    except EOFError:
        process.join()
        return {"status": "failed", "message": f"crashed: {describe_exit(process.exitcode or 0)}"}
    else:
        return value
    finally:
        if process.pid is not None:
            with suppress(ProcessLookupError):  # the group has ended or does not exist yet
                os.killpg(process.pid, signal.SIGKILL)
        process.kill()
        process.join()


def describe_exit(code: int) -> str:
    """Return an exit code as text; a negative one as the name of its signal."""
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def _call(sender: Connection, function: Callable[..., dict[str, Any]], args: tuple[Any, ...]) -> None:
    os.setpgid(0, 0)
    sender.send(function(*args))
    sys.stderr.flush()
    os._exit(0)


@click.command(cls=Command, context_settings={"show_default": True, "max_content_width": 100})
@click.argument("parts", nargs=-1, type=click.Choice(PARTS), metavar="[PART]...")
@click.option(
    "--shards",
    type=click.Path(path_type=Path),
    default=None,
    help="Measure on these.  [default: synthetic galaxies, made once in the temporary folder]",
)
@click.option("--count", default=8192, type=click.IntRange(16), help="Synthetic galaxies to make.")
@click.option("--out", default=RESULTS, type=click.Path(path_type=Path), help="Folder of the JSON files.")
@click.option("--device", default="cuda", type=click.Choice(["cuda", "cpu"]), help="What to measure.")
@click.option("--quick", is_flag=True, help="Tiny sizes: shows that the parts run, not how fast.")
def main(parts: tuple[str, ...], shards: Path | None, count: int, out: Path, device: str, quick: bool) -> None:
    """Check and measure what needs a GPU: all parts, or those named, in under 8 minutes each.

    Parts: decode, pixels, stages, stamps, train_step, predict.

    Writes OUT/<device>-<part>.json for each part and prints the results. A part that fails is recorded and the
    others go on. Exit codes: 0 good, 1 a part failed, 2 wrong usage.

    \b
    Example:
      python benchmarks/gpu.py decode pixels --out /tmp/results
    """
    if problem := run_isolated(check_device, device, timeout_s=PART_TIMEOUT_S):
        raise click.BadParameter(problem["message"], param_hint="--device")
    folder = shards or make_shards(64 if quick else count)
    failed = []
    for name in parts or PARTS:
        click.echo(f"{name} ...", err=True)
        found = run_isolated(run_part, name, folder, device, quick, timeout_s=PART_TIMEOUT_S)
        found |= {"part": name, "command": command_line()}
        lines = found.pop("table", "")
        path = out / f"{_file_name(found, device)}-{name}.json"
        write_json(path, found)
        message = f": {found['message']}" if found["message"] else ""
        click.echo(f"{name}: {found['status']}{message} ({path})\n{lines}".rstrip())
        if found["status"] != "ok":
            failed.append(name)
    if failed:
        raise click.ClickException(f"failed: {', '.join(failed)}; the JSON files in {out} say why")


def _file_name(found: dict[str, Any], device: str) -> str:
    gpu = found.get("machine", {}).get("gpu", device)
    return re.sub(r"[^a-z0-9]+", "-", gpu.lower()).strip("-")


if __name__ == "__main__":
    main()
