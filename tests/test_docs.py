"""The commands of the pages in docs/ are run as they stand there."""

import re
import shutil
from importlib import import_module
from multiprocessing import forkserver
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import simplejpeg
from click.testing import CliRunner
from making import make_image
from pages import ROOT, run, section
from s3_server import S3Server
from torch.distributed.run import get_args_parser

from galaxy_zoo.labels import read_votes
from galaxy_zoo.submission import read_submission
from galaxy_zoo.tree import load_tree
from shard_tool.cli import main as shard_tool


def blocks(page: str, language: str, heading: str = "") -> list[str]:
    """Return the blocks of a language on a page, or those under one of its headings."""
    text = (ROOT / "docs" / page).read_text()
    if heading:
        text = section(text, heading)
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


@pytest.mark.slow
def test_the_tutorial_on_the_kaggle_data(kaggle_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(kaggle_folder, tmp_path / "kaggle")
    run("\n".join(blocks("tutorial-kaggle.md", "sh")), tmp_path)
    ids = [path.stem for path in (kaggle_folder / "images_test_rev1").iterdir()]
    read_submission(tmp_path / "submission.csv", load_tree("gz2-kaggle"), expected_ids=ids)


@pytest.mark.slow
def test_the_tutorial_on_a_survey(tmp_path: Path) -> None:
    tree, recipe = blocks("tutorial-survey.md", "toml")
    [table] = blocks("tutorial-survey.md", "csv")
    (tmp_path / "tree.toml").write_text(tree)
    (tmp_path / "mine.toml").write_text(recipe)
    (tmp_path / "galaxies.csv").write_text(table)
    rng = np.random.default_rng(0)
    files = [f"cutouts/{name}" for name in pd.read_csv(tmp_path / "galaxies.csv")["file"]]
    for number, name in enumerate([*files, "others/J3000+01.jpg", "others/J3000+02.jpg"]):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(simplejpeg.encode_jpeg(make_image(rng, 256 + 32 * (number % 2))))
    run("\n".join(blocks("tutorial-survey.md", "sh")), tmp_path)
    votes = read_votes(tmp_path / "votes.csv", load_tree(str(tmp_path / "tree.toml")))
    assert votes.index.tolist() == ["J3000+01", "J3000+02"]


@pytest.mark.slow
def test_the_page_on_containers_through_the_entry_of_the_image(
    kaggle_folder: Path, installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(installed))
    monkeypatch.setenv("PYTHONSAFEPATH", "1")
    shutil.copytree(kaggle_folder, tmp_path / "kaggle")
    function, commands = blocks("docker.md", "sh")
    assert function.startswith("galaxy_zoo() {")
    entry = f'PATH="{installed}/bin:$PATH" "{ROOT}/docker/entry" "$@"'
    run(f"galaxy_zoo() {{ {entry}; }}\n{commands}", tmp_path)
    assert (tmp_path / "report" / "report.html").exists()


@pytest.mark.slow
def test_the_page_about_object_stores(
    server: S3Server, bucket: Path, kaggle_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In this process, which has loaded what they need."""
    forkserver._forkserver._stop()  # workers forked from that of an earlier test would lack the credentials
    commands = {f"{name}.py": import_module(name).main for name in ("train", "predict")}
    shutil.copytree(kaggle_folder, tmp_path / "kaggle")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    bucket.rename(server.folder / "my-bucket")
    try:
        for line in "".join(blocks("scaling.md", "sh", "Shards in an object store")).splitlines():
            program, *arguments = line.removeprefix("python ").split()
            result = CliRunner().invoke(commands.get(program, shard_tool), arguments)
            assert result.exit_code == 0, f"{line}: {result.output}"
    finally:
        (server.folder / "my-bucket").rename(bucket)
    ids = [path.stem for path in (kaggle_folder / "images_test_rev1").iterdir()]
    read_submission(tmp_path / "submission.csv", load_tree("gz2-kaggle"), expected_ids=ids)
    assert list((tmp_path / "home/galaxy-zoo/shards").glob("*/train-000000.tar"))
    assert list((tmp_path / "cache").glob("*/test-000000.tar"))


def test_every_file_of_tests_that_the_page_on_reliability_names_is_there() -> None:
    named = set(re.findall(r"[\w/]*test_\w+\.py", (ROOT / "docs" / "reliability.md").read_text()))
    assert "faults/test_killed.py" in named
    assert [name for name in named if not (ROOT / "tests" / name.removeprefix("tests/")).exists()] == []


def test_every_message_that_the_troubleshooting_quotes_is_the_programs_own() -> None:
    page = (ROOT / "docs" / "troubleshooting.md").read_text()
    quoted = re.findall(r"^\| `([^`]+)` \|", page, re.MULTILINE)
    outside = {"tests", "benchmarks", ".venv"}
    files = [path for path in ROOT.rglob("*.py") if path.relative_to(ROOT).parts[0] not in outside]
    code = "".join(path.read_text() for path in files)
    text = re.sub(r'"\s*f?"', "", code)  # a string that is written in several parts
    assert len(quoted) > 20
    assert [words for words in quoted if words not in text] == []


def test_the_page_on_clusters_gives_torchrun_what_it_and_the_scripts_take() -> None:
    """Ranks on two hosts are run by tests/test_parallel.py."""
    [text] = [block for block in blocks("scaling.md", "sh") if "torchrun" in block]
    for script in ("train", "predict"):
        [command] = [line for line in text.replace("\\\n", " ").splitlines() if f"{script}.py" in line]
        before, after = command.split(f"{script}.py")
        program, *arguments = before.split()
        assert program == "torchrun"
        assert get_args_parser().parse_args([*arguments, f"{script}.py"]).nnodes == "2"
        import_module(script).main.make_context(script, after.split(), resilient_parsing=False)
