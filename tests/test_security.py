"""Nothing that is read is run: what a stranger puts into a checkpoint, a recipe, votes or a tar stays what it is."""

import ast
import io
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
import torch
from click.testing import CliRunner
from making import make_image

import predict
import train
from benchmarks.ablations import to_toml
from ensemble.networks.weights import read_weights
from ensemble.recipe import load_recipe
from galaxy_zoo.errors import RecipeError, RunError
from shard_tool.cli import main as shard_tool

ROOT = Path(__file__).parents[1]
OWN_DATA = {"shard_tool/source/samples.py", "shard_tool/shards/cluster.py"}
"""Where pickles are read: of a nameless temporary file, and of one's own Dask cluster."""
RUNS_CODE = {"eval", "exec", "compile", "__import__", "importlib.import_module", "os.system", "os.popen"}
READS_PICKLES = {
    "pickle.load",
    "pickle.loads",
    "loads",
    "pickle.Unpickler",
    "np.load",
    "pd.read_pickle",
}


class Bomb:
    """A pickle that leaves a file where it is loaded."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.marker,))


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    marker = tmp_path / "exploded"
    pickle.loads(pickle.dumps(Bomb(marker)))
    assert marker.exists()  # the bomb works
    marker.unlink()
    return marker


def calls(path: Path) -> set[str]:
    """What a module calls, as "name" or "module.name"."""
    nodes = [node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    return {ast.unparse(node) for node in nodes}


def test_no_module_runs_text_or_reads_the_pickles_of_others() -> None:
    packages = ("galaxy_zoo", "shard_tool", "pipeline", "ensemble", "evaluation")
    files = [*(path for name in packages for path in (ROOT / name).rglob("*.py")), *ROOT.glob("*.py")]
    assert len(files) > 100
    for path in files:
        assert not calls(path) & RUNS_CODE, path
    assert {path.relative_to(ROOT).as_posix() for path in files if calls(path) & READS_PICKLES} == OWN_DATA


def test_torch_loads_weights_only() -> None:
    loads = [
        (path.name, {each.arg: ast.unparse(each.value) for each in node.keywords})
        for path in ROOT.rglob("*.py")
        if ".venv" not in path.parts and "tests" not in path.parts
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load"
    ]
    assert loads
    assert {options.get("weights_only") for _, options in loads} == {"True"}, loads


def test_weights_that_are_a_pickle_are_refused(marker: Path, tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    for as_zip in (True, False):
        torch.save({"fc.weight": Bomb(marker)}, path, _use_new_zipfile_serialization=as_zip)
        with pytest.raises(RunError, match="it could run code"):
            read_weights(path)
        assert not marker.exists()


def test_a_checkpoint_that_is_a_pickle_is_refused(marker: Path, shards: Path, tmp_path: Path) -> None:
    options = ["--recipe", "quick", "--epochs", "1", "--out", str(tmp_path / "run"), "--device", "cpu"]
    assert CliRunner().invoke(train.main, [str(shards), *options]).exit_code == 0
    best = tmp_path / "run" / "member-00" / "best.safetensors"
    saved = io.BytesIO()
    torch.save({"weights": Bomb(marker)}, saved)
    for data in (saved.getvalue(), pickle.dumps(Bomb(marker))):
        best.write_bytes(data)
        options = ["--out", str(tmp_path / "submission.csv"), "--device", "cpu"]
        result = CliRunner().invoke(predict.main, [str(tmp_path / "run"), str(shards), *options])
        assert result.exit_code == 1
        assert "the checkpoint is damaged" in result.output
        assert not marker.exists()


def test_a_recipe_names_no_code(tmp_path: Path, subtests: pytest.Subtests) -> None:
    for table in ["network", "head", "loss", "schedule"]:
        for kind in ["os.system", "../../evil", "torch.hub.load", "__class__"]:
            with subtests.test(table=table, kind=kind):
                tables = load_recipe("quick").table | {table: {"kind": kind}}
                path = tmp_path / "evil.toml"
                path.write_text(to_toml(tables))
                with pytest.raises(RecipeError, match="kind"):
                    load_recipe(str(path))


def test_votes_that_are_a_pickle_are_refused(marker: Path, tmp_path: Path) -> None:
    votes = io.BytesIO()
    np.save(votes, np.array([Bomb(marker)] * 37, dtype=object), allow_pickle=True)
    folder = write_tar(tmp_path, {"100.votes.npy": votes.getvalue()})
    result = CliRunner().invoke(shard_tool, ["index", str(folder)])
    assert result.exit_code == 1, result.output
    assert "votes" in result.output
    assert not marker.exists()


def test_no_name_in_a_tar_leads_out_of_a_folder(tmp_path: Path, subtests: pytest.Subtests) -> None:
    for number, name in enumerate(["../../escaped", "/tmp/escaped", "a/../../../escaped"]):
        with subtests.test(name=name):
            folder = write_tar(tmp_path / "deep" / str(number), {}, name=name)
            outside = {path for path in tmp_path.rglob("*") if folder not in path.parents}
            CliRunner().invoke(shard_tool, ["index", str(folder)])
            CliRunner().invoke(shard_tool, ["unpack", str(folder), str(folder / "out")])
            assert {path for path in tmp_path.rglob("*") if folder not in path.parents} == outside
            assert not Path("/tmp/escaped.jpg").exists()


def write_tar(folder: Path, files: dict[str, bytes], *, name: str = "100") -> Path:
    """A folder with a tar of one galaxy, and further files."""
    image = simplejpeg.encode_jpeg(make_image(np.random.default_rng(0), 64))
    folder = folder / "foreign"
    folder.mkdir(parents=True)
    with tarfile.open(folder / "train-000000.tar", "w") as tar:
        for path, data in {f"{name}.jpg": image, **files}.items():
            info = tarfile.TarInfo(path)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return folder
