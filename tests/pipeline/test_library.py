"""What `pipeline` exports works as its examples and docs/library.md say."""

import doctest
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

import pipeline
from galaxy_zoo.errors import ShardError
from pipeline import Loader, RandomViews, Sampling, View, open_shards

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "own_loop.py"
VIEWS = RandomViews(View(crop_px=64, size_px=16))


def ids(loader: Loader) -> list[str]:
    return [key for batch in loader for key in batch.ids.tolist()]


def test_the_examples_of_every_public_name_hold(
    shards: Path, monkeypatch: pytest.MonkeyPatch, subtests: pytest.Subtests
) -> None:
    monkeypatch.chdir(shards.parent)
    names = {each: getattr(pipeline, each) for each in pipeline.__all__}
    for name, public in names.items():
        with subtests.test(name=name):
            [example] = doctest.DocTestFinder(recurse=False).find(public, name, module=False, globs=names)
            ended = doctest.DocTestRunner().run(example)
            assert ended.attempted
            assert not ended.failed


@pytest.mark.slow
def test_importing_the_package_loads_neither_torch_nor_dali() -> None:
    code = "import sys, pipeline; print({'torch', 'nvidia.dali'} & set(sys.modules))"
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ended.stdout == "set()\n"


def test_a_name_that_is_not_exported_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'pipeline' has no attribute 'Loadr'"):
        _ = pipeline.Loadr


def test_iterating_takes_one_epoch_after_another_from_the_one_that_was_set(shards: Path) -> None:
    with Loader(open_shards(shards), VIEWS, Sampling(batch_size=16)) as loader:
        expected = [[key for batch in loader.epoch(epoch) for key in batch.ids.tolist()] for epoch in range(4)]
        assert [ids(loader), ids(loader)] == expected[:2]
        loader.set_epoch(1)
        assert [ids(loader), ids(loader)] == expected[1:3]
        for _ in loader:
            break
        loader.set_epoch(2)
        assert next(iter(loader)).ids.tolist() == expected[2][:16]
        assert ids(loader) == expected[3]
        assert len(loader) == -(-len(expected[0]) // 16)


def test_a_url_and_a_fold_that_is_missing_or_none_are_refused(shards: Path) -> None:
    with pytest.raises(ShardError, match="copy the folder to a disk") as caught:
        open_shards("s3://key:secret@host/shards")
    assert "secret" not in str(caught.value)
    with pytest.raises(ValueError, match="without a fold"):
        open_shards(shards, held_out=True)
    with pytest.raises(ValueError, match="'5/5' is neither"):
        open_shards(shards, fold="5/5")


@pytest.mark.slow
def test_the_page_shows_the_loop_of_ones_own_and_what_it_shows_runs(
    shards: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (ROOT / "docs" / "library.md").read_text()
    first, loop = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert loop == EXAMPLE.read_text()
    assert len(loop.splitlines()) <= 25
    monkeypatch.chdir(shards.parent)
    exec(first, {})
    monkeypatch.setattr(sys, "argv", [str(EXAMPLE), str(shards)])
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    [rmse] = re.findall(r"^RMSE on 1[67] galaxies held out: (0\.\d+)$", capsys.readouterr().out, re.MULTILINE)
    assert float(rmse) < 0.5
