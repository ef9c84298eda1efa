"""Reads the pages of the documentation, and runs their commands."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def section(text: str, heading: str) -> str:
    """Return what stands under a heading of the second level."""
    return text.split(f"\n## {heading}\n")[1].split("\n## ", maxsplit=1)[0]


def commands(heading: str, page: str = "README.md") -> str:
    """Return the first block of commands under a heading of a page."""
    text = (ROOT / page).read_text()
    block = re.search(r"```sh\n(.*?)```", section(text, heading), re.DOTALL)
    assert block is not None
    return block[1]


def run(script: str, folder: Path) -> None:
    """Run commands in a folder that also holds the scripts; fails the test where one of them fails."""
    for name in ("train.py", "predict.py", "evaluate.py", "views.py"):
        (folder / name).symlink_to(ROOT / name)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(["bash", "-euc", script], cwd=folder, env={**os.environ, "PATH": path}, check=True)
