"""Starts commands as processes of their own, forked from this one, which has imported what takes them seconds.

A line of JSON on stdin is a command: where it works, its script and arguments, its log, and its `trouble`. The answer
is a line with its process id; its exit code (-n: killed by signal n) is written to `exit` when it ends.
"""

import json
import os
import resource
import signal
import sys
import time
import traceback
from importlib import import_module
from pathlib import Path
from typing import Any

ALSO = ("training.build", "prediction.job", "evaluation.collect", "evaluation.views", "torch.utils.tensorboard")
CHANGES = {"os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.truncate"}
MAIN = {"pack": "shard_tool.cli", "lint": "shard_tool.cli"}


def main() -> None:
    """Answer until stdin ends."""
    for name in (*ALSO, "train", "predict", "evaluate", "shard_tool.cli"):
        import_module(name)
    print("ready", flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        answer, said = os.pipe()
        if os.fork() == 0:
            watch(request, said)
        os.close(said)
        with os.fdopen(answer) as file:
            print(file.read(), flush=True)


def watch(request: dict[str, Any], said: int) -> None:
    """Start a command, tell its process id, and leave its exit code; in a process of its own, which ends here."""
    os.setsid()  # a group of its own, as a shell makes one, without the process that asked
    process = os.fork()
    if process == 0:
        os.close(said)
        os._exit(command(request))
    os.setpgid(process, process)  # also here, so that it is done when it is told
    os.write(said, f"{process}\n".encode())
    os.close(said)
    code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    path = Path(request["exit"])
    path.with_suffix(".new").write_text(str(code))
    path.with_suffix(".new").rename(path)
    os._exit(0)


def command(request: dict[str, Any]) -> int:
    """Run a command to its end; returns its exit code."""
    os.setpgid(0, 0)
    os.chdir(request["cwd"])
    os.environ.update(request["environment"])
    log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for fd, of in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(fd, of)
    sys.stdin, sys.stdout, sys.stderr = (os.fdopen(fd, mode, 1) for fd, mode in ((0, "r"), (1, "w"), (2, "w")))
    for name, value in request["trouble"].items():
        TROUBLES[name](value)
    script, *arguments = request["arguments"]
    try:
        import_module("shard_tool.cli" if script == "shard_tool" else script).main(arguments)
    except SystemExit as ended:
        code = ended.code
    except BaseException:
        traceback.print_exc()
        code = 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return code if isinstance(code, int) else 0


def limit_memory(more_mb: int) -> None:
    """Let the process have so many MB (1e6 bytes) more of addresses than it has."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + int(more_mb * 1e6)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def jumping_clock(jump_s: float) -> None:
    """Let every second look at the clock find it so much later, and all others the right time."""
    right, looks = time.time, iter(range(1 << 60))
    time.time = lambda: right() + jump_s * (next(looks) % 2)


def dies_at(place: tuple[str, int]) -> None:
    """Note every change of a file in a folder on stderr, and kill the process at the change of that number."""
    folder, number = place
    numbers = iter(range(1 << 60))

    def look(event: str, arguments: tuple[object, ...]) -> None:
        is_change = event in CHANGES or (event == "open" and str(arguments[1])[:1] in {"w", "x", "a"})
        if is_change and str(arguments[0]).startswith(folder):
            os.write(2, f"change: {event} {arguments[0]}\n".encode())
            if next(numbers) == number:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(look)


TROUBLES = {"dies_at": dies_at, "limit_memory": limit_memory, "jumping_clock": jumping_clock}

if __name__ == "__main__":
    main()
