"""Kill a command of `shard_tool` before each thing that it does to a file, and let it go on.

    python killing.py BEFORE WORK <first command as JSON> <second command as JSON>

WORK is made anew of the folder BEFORE each time. Prints a JSON list with a pair for each kill, and last for the command
that nobody killed: how it ended, and the sha256 of all files.
"""

import importlib
import json
import os
import shutil
import signal
import sys
from hashlib import sha256
from itertools import count
from pathlib import Path
from typing import Any

from shard_tool.cli import SUMMARIES, main

CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate"}


def run(arguments: list[str], *, dies_at: int = 0) -> int:
    """Run a command in a process of its own, which is killed before its change of that number; its exit code."""
    pid = os.fork()
    if pid == 0:
        done = 0

        def watch(event: str, values: tuple[Any, ...]) -> None:
            nonlocal done
            writes = event == "open" and isinstance(values[0], str) and values[2] & (os.O_WRONLY | os.O_RDWR)
            if (writes and not values[0].startswith("/dev")) or event in CHANGES:
                done += 1
                if done == dies_at:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(watch)
        os.sync = os.fsync = lambda *_: None  # a kill loses nothing that was written
        try:
            main(arguments)
        except SystemExit as error:
            os._exit(int(error.code or 0))
        os._exit(99)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def sha256_of(folder: Path) -> str:
    """The sha256 of the names and bytes of all files in a folder; locks do not count."""
    digest = sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != "lock":
            digest.update(f"{path.relative_to(folder)}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def kill_all(before: Path, work: Path, first: list[str], second: list[str]) -> list[tuple[int, str]]:
    """(exit code, sha256) after each kill and the second command, and at last of the first one alone."""
    results = []
    for number in count(1):
        shutil.copytree(before, work)
        os.chdir(work)
        code = run(first, dies_at=number)
        if is_killed := code == -signal.SIGKILL:
            code = run(second)
        results.append((code, sha256_of(work)))
        os.chdir(before)
        shutil.rmtree(work)
        if not is_killed:
            return results
    raise AssertionError


if __name__ == "__main__":
    for name in (*SUMMARIES, "options"):
        importlib.import_module(f"shard_tool.commands.{name}")
    for name in ("shards.appending", "shards.contact_sheet", "source.catalogue", "synthetic.rendering"):
        importlib.import_module(f"shard_tool.{name}")  # once, not in each process
    _, before, work, *commands = sys.argv
    print(json.dumps(kill_all(Path(before).resolve(), Path(work).resolve(), *map(json.loads, commands))))
