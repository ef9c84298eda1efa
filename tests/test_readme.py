"""The commands of README and docs/commands.md are run as they stand there, and the README's map is whole."""

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pandas as pd
import pytest
from making import NUM_TRAIN, write_kaggle_folder
from pages import ROOT, commands, run, section

from galaxy_zoo.submission import read_submission
from galaxy_zoo.tree import load_tree


def test_the_readme_has_at_most_100_lines_and_its_map_names_every_folder_and_page() -> None:
    readme = (ROOT / "README.md").read_text()
    files = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.split()
    folders = {f"{file.split('/')[0]}/" for file in files if "/" in file and not file.startswith(".")}
    pages = {file for file in files if re.fullmatch(r"(docs/)?[\w-]+\.(md|py)", file)}
    assert {"tests/", "docs/"} <= folders
    assert {"train.py", "docs/architecture.md"} <= pages
    where = section(readme, "What is where")
    assert [each for each in sorted((folders | pages) - {"README.md"}) if each not in where] == []
    assert len(readme.splitlines()) <= 100


PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/*.md"))]


def test_what_a_page_links_to_is_there(subtests: pytest.Subtests) -> None:
    for page in PAGES:
        with subtests.test(page=page.name):
            links = re.findall(r"\]\((?!https?://)([^)#]+)", page.read_text())
            assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.slow
def test_the_steps_on_the_kaggle_data(kaggle_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(kaggle_folder, tmp_path / "kaggle")
    steps = commands("On the Kaggle data")
    evaluating, _, _ = commands("Looking at runs", "docs/commands.md").partition("  #")
    assert steps.endswith(f"\n{evaluating.strip()}\n")
    run(f"{steps.rstrip()} --cams 1 --points 12 --embedding pca", tmp_path)
    ids = [path.stem for path in (kaggle_folder / "images_test_rev1").iterdir()]
    read_submission(tmp_path / "submission.csv", load_tree("gz2-kaggle"), expected_ids=ids)
    assert (tmp_path / "report" / "report.html").exists()


@pytest.mark.slow
def test_packing_ones_own_survey_with_the_tree_that_the_documentation_shows(
    kaggle_folder: Path, tmp_path: Path
) -> None:
    from galaxy_zoo import tree as tree_module

    assert tree_module.__doc__ is not None
    example = "\n".join(line[4:] for line in tree_module.__doc__.splitlines() if line.startswith("    "))
    assert tomllib.loads(example)["name"] == "my-survey"
    (tmp_path / "my_tree.toml").write_text(example)
    shutil.copytree(kaggle_folder / "images_test_rev1", tmp_path / "cutouts")
    ids = sorted(path.stem for path in (tmp_path / "cutouts").iterdir())
    votes = {"smooth": 0.25, "disk": 0.75, "two_arms": 0.5, "more_arms": 0.25}
    pd.DataFrame({"id": ids, **votes}).to_csv(tmp_path / "votes.csv", index=False)
    run(commands("On your own survey"), tmp_path)
    assert (tmp_path / "shards" / "manifest.json").exists()


@pytest.mark.slow
def test_looking_at_shards_and_changing_them(shards: Path, tmp_path: Path) -> None:
    shutil.copytree(shards, tmp_path / "shards")
    shutil.copytree(shards, tmp_path / "tars", ignore=shutil.ignore_patterns("manifest.json", "*.idx"))
    more = write_kaggle_folder(tmp_path / "more-galaxies", num_train=12, num_test=3, seed=1)
    for path in more.glob("*/*.jpg"):
        path.rename(path.with_name(f"9{path.name}"))
    table = pd.read_csv(more / "training_solutions_rev1.csv", dtype={"GalaxyID": str})
    table["GalaxyID"] = "9" + table["GalaxyID"]
    table.to_csv(more / "training_solutions_rev1.csv", index=False)
    run(commands("Looking at shards, and changing them", "docs/commands.md"), tmp_path)
    assert len(list((tmp_path / "kaggle-again" / "images_training_rev1").iterdir())) == NUM_TRAIN + 12
    assert (tmp_path / "sheet.png").exists()
    assert (tmp_path / "tars" / "manifest.json").exists()


@pytest.mark.slow
@pytest.mark.skipif(not (ROOT / ".venv/.installed").exists(), reason="not installed by make")
def test_make_demo_ends_with_a_report_a_score_and_what_to_type_next(tmp_path: Path) -> None:
    small = ["COUNT=60", "TEST_COUNT=12", "MEMBERS=2", "EPOCHS=1", f"OUT={tmp_path}"]
    ended = subprocess.run(["make", "demo", *small], cwd=ROOT, check=True, capture_output=True, text=True)
    _, result = ended.stdout.split("\nRMSE ", 1)
    assert "if every galaxy got the mean true votes" in result
    assert f"python evaluate.py {tmp_path}/run runs/plain {tmp_path}/shards" in result
    assert (tmp_path / "report" / "report.html").exists()
    assert len(read_submission(tmp_path / "submission.csv", load_tree("gz2-kaggle"))) == 12
