"""Check and measure what needs a GPU, the most useful first, from a checkout that need not be installed.

python benchmarks/gpu.py                                    what fits into 10 minutes, on synthetic galaxies
python benchmarks/gpu.py decode pixels --out /tmp/results   some parts
python benchmarks/gpu.py --minutes 60 --kaggle kaggle       everything, also accuracy, on the challenge's files

Each part runs in its own process group, which ends with the part. That process exits without Python's clean-up, and
this one imports neither torch nor DALI: after a part, CUDA or DALI may hang while they shut down.
"""

import os
import re
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import click

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # if run as a file, only benchmarks/ is on the path

from benchmarks.goals import verdicts
from benchmarks.measuring import (
    RESULTS,
    ROOT,
    CheckFailedError,
    command_line,
    make_shards,
    provenance,
    write_json,
)
from galaxy_zoo.console import Command
from galaxy_zoo.errors import GalaxyZooError

PARTS = {
    "tests": 120,
    "steps": 90,
    "trainings": 210,
    "commands": 90,
    "predict": 120,
    "stamps": 30,
    "compiling": 180,
    "convolutions": 60,
    "decode": 20,
    "pixels": 30,
}
"""Seconds that each part may take where time is short, in the order in which they run. Estimated."""

ENTRIES = ("small_data:4", "ng_cnn", "ng_baseline", "ng_cbam", "dieleman", "serrano_1", "serrano_2", "serrano_3")
"""Arguments of benchmarks.accuracy."""

STARTING_S = 15.0
"""Seconds in which a part does nothing but start."""

Send = Callable[[dict[str, Any]], None]
"""Receives the results of a part as they come: "result" is one of them, "status" ends the part."""


def check_device(send: Send, device: str) -> None:
    """Send whether torch has the device, with a message that says what is missing."""
    from pipeline.device import choose_device  # noqa: PLC0415 - see above

    try:
        choose_device(device)
    except click.BadParameter as error:
        send({"status": "failed", "message": f"{error.message}; --device cpu --quick shows that the parts run"})
    else:
        send({"status": "ok"})


def run_part(send: Send, name: str, shards: Path, device: str, quick: bool) -> None:
    """Run one part and send its results as they come, then its status; also print an unexpected error on stderr."""
    from benchmarks.gpu_parts import PARTS  # noqa: PLC0415 - see above
    from benchmarks.throughput import Setup  # noqa: PLC0415
    from pipeline.device import choose_device  # noqa: PLC0415

    try:
        choose_device(device)  # as the commands do, which sets how torch uses it
        send(provenance(device))
        for result in PARTS[name](Setup(shards, device, quick)):
            send({"result": asdict(result), "line": f"  {result.name}: {result}"})
    except (CheckFailedError, GalaxyZooError) as error:
        send({"status": "failed", "message": str(error)})
    except Exception as error:  # a part may fail in any library; the others go on
        traceback.print_exc()
        send({"status": "failed", "message": f"{type(error).__name__}: {error}"})
    else:
        send({"status": "ok"})


def isolated(function: Callable[..., None], *args: Any, timeout_s: float) -> Iterator[dict[str, Any]]:
    """Call a function with `Send` and arguments in a new process group; yield what it sends, and end that group.

    The last one has a status: the function's, or how the process ended. Function, arguments and what is sent must be
    picklable. The process is spawned: CUDA does not survive a fork.
    """
    deadline = time.monotonic() + timeout_s
    context = get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_call, args=(sender, function, args))
    process.start()
    sender.close()
    try:
        sent: dict[str, Any] = {}
        while "status" not in sent:
            if not receiver.poll(max(0.0, deadline - time.monotonic())):
                sent = {"status": "failed", "message": f"stopped after {timeout_s:.0f} s"}
            else:
                sent = receiver.recv()
            yield sent
    except EOFError:
        process.join()
        yield {"status": "failed", "message": f"crashed: {describe_exit(process.exitcode or 0)}"}
    finally:
        if process.pid is not None:
            with suppress(ProcessLookupError):  # the group has ended or does not exist yet
                os.killpg(process.pid, signal.SIGKILL)
        process.kill()
        process.join()


def describe_exit(code: int) -> str:
    """Return an exit code as text; a negative one as the name of its signal."""
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def _call(sender: Connection, function: Callable[..., None], args: tuple[Any, ...]) -> None:
    os.setpgid(0, 0)
    os.environ["KINETO_LOG_LEVEL"] = "5"  # torch's profiler tells of its starts and ends
    function(sender.send, *args)
    sys.stderr.flush()
    os._exit(0)


def measure_part(name: str, shards: Path, out: Path, device: str, quick: bool, timeout_s: float) -> dict[str, Any]:
    """Run a part; print its results and write them to OUT as they come; return what was written."""
    found: dict[str, Any] = {"part": name, "status": "unfinished", "message": "", "shards": str(shards)}
    found |= {"quick": quick, "results": []}
    click.echo(f"{name}:")
    path = None
    for sent in isolated(run_part, name, shards, device, quick, timeout_s=timeout_s):
        if line := sent.pop("line", None):
            click.echo(line)
        if result := sent.pop("result", None):
            found["results"].append(result)
        found |= sent | {"command": command_line()}
        path = out / f"{_file_name(found, device)}-{name}.json"
        write_json(path, found)
    message = f": {found['message']}" if found["message"] else ""
    click.echo(f"  {found['status']}{message} ({path})")
    return found


def measure_accuracy(kaggle: Path, out: Path, device: str, quick: bool, timeout_s: float) -> str:
    """Train recipes on the challenge's files and score them until the time is over; return the status."""
    click.echo("accuracy:")
    entries = ["quick", "--epochs", "1"] if quick else ENTRIES
    folders = ["--out", str(out / "accuracy"), "--results", str(out)]
    command = [sys.executable, "-m", "benchmarks.accuracy", str(kaggle), *entries, *folders, "--device", device]
    try:
        done = subprocess.run(command, cwd=ROOT, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired:
        return f"stopped after {timeout_s:.0f} s; the same command goes on"
    return "ok" if done.returncode == 0 else "failed"


@click.command(cls=Command, context_settings={"show_default": True, "max_content_width": 100})
@click.argument("parts", nargs=-1, type=click.Choice(list(PARTS)))
@click.option(
    "--shards",
    type=click.Path(path_type=Path),
    default=None,
    help="Folder of shards to measure on.  [default: synthetic galaxies, made once in the temporary folder]",
)
@click.option(
    "--kaggle",
    type=click.Path(exists=True, path_type=Path),
    help="Folder of the challenge's files, to measure accuracy too.  [default: none]",
)
@click.option("--count", default=16_384, type=click.IntRange(16), help="Synthetic galaxies to make.")
@click.option("--minutes", default=10.0, type=click.FloatRange(min=0.1), help="Minutes for everything.")
@click.option("--out", default=RESULTS, type=click.Path(path_type=Path), help="Folder of the JSON files.")
@click.option("--device", default="cuda", type=click.Choice(["cuda", "cpu"]), help="Device to measure.")
@click.option("--quick", is_flag=True, help="Tiny sizes: shows that the parts run, not how fast.")
def main(
    *,
    parts: tuple[str, ...],
    shards: Path | None,
    kaggle: Path | None,
    count: int,
    minutes: float,
    out: Path,
    device: str,
    quick: bool,
) -> None:
    """Check and measure what needs a GPU: all parts, or those named, then say which goals are met.

    The time includes making galaxies. Parts for which none is left are not run.

    Writes OUT/<device>-<part>.json for each part and prints the results, both as they come. A part that fails is
    recorded and the others go on. Exit codes: 0 good, 1 a part failed, 2 wrong usage.

    \b
    Examples:
      python benchmarks/gpu.py --minutes 20
      python benchmarks/gpu.py decode pixels --out /tmp/results
    """
    deadline = time.monotonic() + 60 * minutes
    for sent in isolated(check_device, device, timeout_s=60 * minutes):
        if sent["status"] != "ok":
            raise click.BadParameter(sent["message"], param_hint="--device")
    out = out.absolute()
    folder = (shards or make_shards(64 if quick else count)).absolute()
    names, failed = parts or tuple(PARTS), []
    values: dict[str, float] = {}
    for at, name in enumerate(names):
        left = deadline - time.monotonic()
        if left < STARTING_S:
            click.echo(f"no time is left for: {', '.join(names[at:])}")
            break
        share = left * PARTS[name] / sum(PARTS[each] for each in names[at:])
        found = measure_part(name, folder, out, device, quick, min(left, max(PARTS[name], share)))
        values |= {result["name"]: result["value"] for result in found["results"]}
        if found["status"] != "ok":
            failed.append(name)
    if kaggle is not None:
        status = measure_accuracy(kaggle.absolute(), out, device, quick, max(1.0, deadline - time.monotonic()))
        click.echo(f"  {status}")
        if status != "ok":
            failed.append("accuracy")
    click.echo("\n".join(["goals for an H100 or H200 with 16 cores:", *verdicts({} if quick else values)]))
    if failed:
        raise click.ClickException(f"failed: {', '.join(failed)}; the JSON files in {out} say why")


def _file_name(found: dict[str, Any], device: str) -> str:
    gpu = found.get("machine", {}).get("gpu", device)
    return re.sub(r"[^a-z0-9]+", "-", gpu.lower()).strip("-")


if __name__ == "__main__":
    main()
