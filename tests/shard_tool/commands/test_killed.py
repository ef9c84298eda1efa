"""A command killed before any change it makes to a file goes on to the bytes of one that nobody killed."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from kaggle_download import SIZE_PX, jpeg, make_download, pack
from making import make_image

KILLING = Path(__file__).parents[2] / "support" / "killing.py"
GOES_ON = {
    "pack": (["pack", "kaggle", "out", "--shards", "2", "--workers", "1"], ["--resume"]),
    "append": (["append", "more", "shards", "--shards", "1", "--workers", "1"], ["--resume"]),
    "unpack": (["unpack", "shards", "out", "--workers", "1"], []),
    "index": (["index", "tars", "--workers", "1"], ["--overwrite"]),
    "objects": (["objects", "shards", "--workers", "1"], []),
    "preview": (["preview", "shards", "sheet.png", "--count", "2"], []),
    "synth": (["synth", "out", "--count", "2", "--test", "1", "--workers", "1"], ["--overwrite"]),
}


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the commands read, and two of them change."""
    folder = tmp_path_factory.mktemp("before")
    download, more = make_download(train=4, test=2), folder / "more"
    rng = np.random.default_rng(0)
    images = {name: simplejpeg.encode_jpeg(make_image(rng, SIZE_PX)) for name in download.train}
    replace(download, train=images).write_folder(folder / "kaggle")
    more.mkdir()
    for name in ("9000", "9001"):
        (more / f"{name}.jpg").write_bytes(jpeg(int(name)))
    assert pack(folder / "kaggle", folder / "shards", "--shards", 2).exit_code == 0
    (folder / "tars").mkdir()
    for tar in (folder / "shards").glob("train*.tar"):
        (folder / "tars" / tar.name).write_bytes(tar.read_bytes())
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("command", GOES_ON)
def test_killed_before_any_change_to_a_file_it_goes_on_to_the_same_bytes(
    command: str, before: Path, tmp_path: Path
) -> None:
    if command == "objects":
        pytest.importorskip("sep", reason="measuring galaxies needs the extra objects")
    first, more = GOES_ON[command]
    commands = json.dumps(first), json.dumps([*first, *more])
    done = subprocess.run(
        [sys.executable, KILLING, before, tmp_path / "work", *commands],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    *killed, whole = json.loads(done.stdout.splitlines()[-1])
    assert len(killed) > 2
    assert killed == [[0, whole[1]]] * len(killed), done.stderr
