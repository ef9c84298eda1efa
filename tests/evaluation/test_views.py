"""`views.py` draws what the network of a recipe sees."""

from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from click.testing import CliRunner, Result

from ensemble.recipe import load_recipe
from evaluation import views
from evaluation.views import Choice, cells, gallery_cells
from galaxy_zoo.view import View
from pipeline.shards import open_shards
from views import main

VIEW = View(crop_px=64, size_px=32, rotation_deg=180, flip=True, mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))


def draw(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_a_row_shows_source_stamp_plain_grey_and_random_views(shards: Path) -> None:
    samples = open_shards(shards, "train")
    drawn = cells(samples, VIEW, 3, Choice(count=5, seed=1, side_px=96))
    assert len(drawn) == 5 * 7
    for start in range(0, 35, 7):
        source, stamp, plain, grey, *random = drawn[start : start + 7]
        [position] = np.flatnonzero(samples.keys == source.lines[0])
        np.testing.assert_array_equal(
            source.pixels, simplejpeg.decode_jpeg(samples.jpegs(np.array([position]))[0])
        )
        height, width = VIEW.stamp((96, 96)).size_px
        assert stamp.lines == ("stamp", f"{width} x {height} px")
        middle = source.pixels[16:80, 16:80].astype(int)
        assert abs(plain.pixels.mean(axis=(0, 1)) - middle.mean(axis=(0, 1))).max() < 3
        assert (grey.pixels == grey.pixels[..., :1]).all()
        assert [each.lines for each in random] == [(f"random view {k}", "32 px") for k in (1, 2, 3)]
        assert len({each.pixels.tobytes() for each in (plain, *random)}) == 4


def test_a_gallery_shows_the_source_grey_cropped_and_smaller(shards: Path) -> None:
    samples = open_shards(shards, "train")
    drawn = gallery_cells(samples, VIEW, Choice(count=2, seed=1, side_px=96))
    assert len(drawn) == 2 * 5
    source, grey, crop, half, quarter = (each.pixels.astype(float) for each in drawn[:5])
    luma = source @ (0.299, 0.587, 0.114)
    assert abs(grey[..., 0] - luma).max() <= 1.5
    assert abs(crop.mean() - luma[16:80, 16:80].mean()) < 2
    assert abs(half.mean() - crop.mean()) < 2
    assert abs(quarter.mean() - crop.mean()) < 3
    assert len(np.unique(quarter[0, :, 0])) <= 16
    assert drawn[1].lines == ("grey, 96 px",)
    assert drawn[4].lines == ("grey, crop 64 at 16 px",)


def test_the_same_seed_gives_the_same_sheet(shards: Path, tmp_path: Path) -> None:
    sheets = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        result = draw(shards, tmp_path / f"{name}.png", "--count", 2, "--seed", seed, "--size", 64)
        assert (result.exit_code, result.stdout) == (0, f"{tmp_path / name}.png: 2 of 83 train galaxies\n")
        sheets.append((tmp_path / f"{name}.png").read_bytes())
    assert sheets[0] == sheets[1] != sheets[2]


def test_keys_of_the_recipe_can_be_set(shards: Path, tmp_path: Path) -> None:
    one, other = tmp_path / "one.png", tmp_path / "other.png"
    assert draw(shards, one, "--count", 1).exit_code == 0
    assert draw(shards, other, "--count", 1, "--set", "view.crop_px=40").exit_code == 0
    assert one.read_bytes() != other.read_bytes()
    assert "did you mean 'crop_px'" in draw(shards, other, "--set", "view.crop_pix=40").output


def test_a_sheet_of_several_batches_begins_with_the_galaxies_of_a_smaller_one(
    shards: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    samples, choice = open_shards(shards, "train"), Choice(count=5, seed=1, side_px=64)
    whole = cells(samples, VIEW, 2, choice)
    monkeypatch.setattr(views, "AT_ONCE", 2)
    capsys.readouterr()
    for one, other in zip(whole, cells(samples, VIEW, 2, choice), strict=True):
        assert one.lines == other.lines
        assert np.array_equal(one.pixels, other.pixels)
    assert "random views: 100 %, 5 of 5" in capsys.readouterr().err


def test_every_recipe_can_be_drawn(shards: Path) -> None:
    samples = open_shards(shards, "test")
    for name in ("ng_cnn", "serrano_2"):
        assert len(cells(samples, load_recipe(name).view, 1, Choice(count=1, seed=0, side_px=64))) == 5


UNDRAWABLE = [
    (("sheet.gif",), 2, "ends in .png"),
    (("sheet.png", "--recipe", "quik"), 1, "no recipe 'quik'"),
    (("sheet.png", "--split", "val"), 1, "no val shards"),
    (("none/sheet.png",), 1, "is missing; make it first"),
    (("sheet.png", "--gallery", "--random-views", 2), 2, "omit --random-views"),
]


def test_what_cannot_be_drawn_is_one_message(shards: Path, tmp_path: Path, subtests: pytest.Subtests) -> None:
    for arguments, exit_code, says in UNDRAWABLE:
        with subtests.test(arguments=arguments, exit_code=exit_code):
            result = draw(shards, tmp_path / arguments[0], *arguments[1:])
            assert (result.exit_code, says in result.stderr) == (exit_code, True)
