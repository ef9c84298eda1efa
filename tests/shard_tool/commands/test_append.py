"""`shard_tool append`: the old shards stay, the new ones join them in one step, and the numbers fit both."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from kaggle_download import Download, contents, jpeg, make_download, pack, packed_samples, rejected, run

from galaxy_zoo.manifest import Manifest, read_manifest
from shard_tool.shards import appending


def part_of(download: Download, train: slice, test: slice) -> Download:
    ids = list(download.train)[train]
    rows = [row for row in download.rows[1:] if row[0] in ids]
    return Download(
        {each: download.train[each] for each in ids},
        dict(list(download.test.items())[test]),
        [download.rows[0], *rows],
    )


def append(source: Path, out: Path, *options: object):
    return run("append", source, out, *(() if "--workers" in options else ("--workers", 1)), *options)


@pytest.fixture
def parts(whole_download: Download, tmp_path: Path) -> tuple[Path, Path]:
    """Two downloads without a common id."""
    one = part_of(whole_download, slice(18), slice(5)).write_folder(tmp_path / "one")
    return one, part_of(whole_download, slice(18, 30), slice(5, 12)).write_zips(tmp_path / "two")


@pytest.fixture
def old(parts: tuple[Path, Path], tmp_path: Path) -> Path:
    assert pack(parts[0], tmp_path / "shards", "--shards", 4).exit_code == 0
    return tmp_path / "shards"


def names(manifest: Manifest, split: str) -> list[str]:
    return [shard.name for shard in manifest.splits[split]]


def test_the_new_galaxies_follow_and_the_old_shards_stay(
    parts: tuple[Path, Path], old: Path, packed: Path, tmp_path: Path
) -> None:
    before, other = contents(old), Path(shutil.copytree(old, tmp_path / "other"))
    result = append(parts[1], old, "--shards", 3)
    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith("19 galaxies appended\n")
    after = contents(old)
    assert {name: data for name, data in after.items() if name in before and "manifest" not in name} == {
        name: data for name, data in before.items() if "manifest" not in name
    }
    manifest = read_manifest(old)
    assert names(manifest, "train") == [f"train-00000{i}.tar" for i in range(7)]
    assert names(manifest, "test") == [f"test-{i:06d}.tar" for i in range(12)]
    for split in ("train", "test"):
        assert packed_samples(old, split) == packed_samples(packed, split)
    assert run("lint", old, "--deep", "--workers", 1).exit_code == 0
    assert append(parts[1], other, "--shards", 3, "--workers", 2).exit_code == 0
    assert contents(other) == after


def test_the_numbers_are_those_of_packing_all_at_once(parts: tuple[Path, Path], old: Path, packed: Path) -> None:
    assert append(parts[1], old).exit_code == 0
    together, at_once = read_manifest(old), read_manifest(packed)
    assert together.channel_mean == at_once.channel_mean
    assert together.channel_std == at_once.channel_std
    assert together.vote_mean == pytest.approx(at_once.vote_mean)
    assert together.statistics is not None and at_once.statistics is not None
    for name in ("image_bytes", "labelled", "vote_counts", "channel_sums", "channel_squares"):
        assert getattr(together.statistics, name) == getattr(at_once.statistics, name)


def test_a_new_image_in_train_and_test_is_warned_about(
    whole_download: Download, old: Path, tmp_path: Path
) -> None:
    new = part_of(whole_download, slice(18, 30), slice(5, 12))
    train_id, test_id = min(new.train), min(new.test)
    new.test[test_id] = new.train[train_id]
    result = append(new.write_folder(tmp_path / "new"), old)
    assert result.exit_code == 0, result.stderr
    assert f"as test {test_id} and train {train_id}: " in result.stderr


def test_training_images_appended_to_test_images_take_over_the_channels(
    whole_download: Download, packed: Path, tmp_path: Path
) -> None:
    source = whole_download.write_folder(tmp_path / "all")
    assert pack(source / "images_test_rev1", tmp_path / "out").exit_code == 0
    shutil.rmtree(source / "images_test_rev1")
    assert append(source, tmp_path / "out").exit_code == 0
    ours, theirs = read_manifest(tmp_path / "out"), read_manifest(packed)
    assert list(ours.splits) == ["train", "test"]
    assert (ours.channel_mean, ours.channel_std) == (theirs.channel_mean, theirs.channel_std)
    assert ours.vote_mean == pytest.approx(theirs.vote_mean)


def test_test_images_appended_leave_the_channels_alone(
    parts: tuple[Path, Path], old: Path, whole_download: Download, tmp_path: Path
) -> None:
    before = read_manifest(old)
    new = {f"{i}": jpeg(i) for i in range(4)}
    source = Download({}, new).write_folder(tmp_path / "new") / "images_test_rev1"
    assert append(source, old).exit_code == 0
    after = read_manifest(old)
    assert (after.channel_mean, after.channel_std, after.vote_mean) == (
        before.channel_mean,
        before.channel_std,
        before.vote_mean,
    )
    assert after.samples("test") == before.samples("test") + 4


def test_a_known_id_is_refused_by_name_also_across_splits(
    parts: tuple[Path, Path], old: Path, tmp_path: Path
) -> None:
    before = contents(old)
    again = append(parts[0], old)
    assert again.exit_code == 1
    assert "already, and 22 more are; append only new galaxies" in again.stderr
    known = packed_samples(old, "train")
    moved = Download({}, {next(iter(known)): jpeg(1)}).write_folder(tmp_path / "moved") / "images_test_rev1"
    result = append(moved, old)
    assert result.exit_code == 1
    assert (
        f"id {next(iter(known))} ({next(iter(known))}.jpg) is in train-000000.tar already; append" in result.stderr
    )
    assert contents(old) == before


def _smaller(download: Download) -> None:
    download.train = {each: jpeg(1, size=32) for each in download.train}


def _no_table(download: Download) -> None:
    download.rows = []


def _all_cut(download: Download) -> None:
    download.train = {each: data[:-30] for each, data in download.train.items()}


UNFIT = [
    (_smaller, "images of 32 x 32 pixels, those in"),
    (_no_table, "training_solutions_rev1.csv: not a CSV file"),
    (lambda download: download.train.clear(), "no image among its 1 files"),
    (_all_cut, "every image was rejected"),
]


def test_what_does_not_fit_is_refused_and_nothing_changes(
    old: Path, whole_download: Download, tmp_path_factory: pytest.TempPathFactory, subtests: pytest.Subtests
) -> None:
    before = contents(old)
    for spoil, says in UNFIT:
        with subtests.test(says):
            download = part_of(whole_download, slice(18, 30), slice(0))
            spoil(download)
            result = append(download.write_folder(tmp_path_factory.mktemp("bad")), old)
            assert (result.exit_code, says in result.stderr) == (1, True), result.stderr
            assert contents(old) == before


def test_rejects_are_listed_after_the_old_ones_and_exit_1(
    whole_download: Download, parts: tuple[Path, Path], old: Path, tmp_path: Path
) -> None:
    bad = part_of(whole_download, slice(18, 30), slice(0))
    first = next(iter(bad.train))
    bad.train[first] = bad.train[first][:-30]
    result = append(bad.write_folder(tmp_path / "bad"), old)
    assert result.exit_code == 1
    assert f"rejected: train {first} ({first}.jpg): damaged JPEG" in result.stderr
    assert [row["id"] for row in rejected(old)] == [first]
    assert read_manifest(old).rejected == 1
    more = part_of(make_download(32, 0), slice(30, 32), slice(0))
    for each in more.train:
        more.train[each] = jpeg(1)
    more.train[next(iter(more.train))] = b""
    result = append(more.write_folder(tmp_path / "more"), old, "--allow-rejects", 1)
    assert result.exit_code == 0, result.stderr
    assert [row["id"] for row in rejected(old)] == [first, next(iter(more.train))]
    assert run("lint", old, "--deep", "--workers", 1).exit_code == 0


def test_new_images_get_the_encoding_that_the_manifest_states(
    parts: tuple[Path, Path], whole_download: Download, tmp_path: Path
) -> None:
    out = tmp_path / "small"
    assert pack(parts[0], out, "--resize", 48, "--quality", 80).exit_code == 0
    assert append(parts[1], out).exit_code == 0
    assert (
        pack(
            whole_download.write_folder(tmp_path / "all"), tmp_path / "at_once", "--resize", 48, "--quality", 80
        ).exit_code
        == 0
    )
    for split in ("train", "test"):
        assert packed_samples(out, split) == packed_samples(tmp_path / "at_once", split)
    assert read_manifest(out).encoding == read_manifest(tmp_path / "at_once").encoding


class Killed(BaseException):
    """As if the process had been killed: nothing after it runs."""


def append_and_die(step: str, source: Path, out: Path) -> None:
    """Append, and be killed in a function of `appending`, at the last rename of a kind, or while clearing up."""
    rename = Path.replace

    def replace(self: Path, target: Path) -> Path:
        is_last = self.suffix == ".idx" if step == "idx" else self.name == "manifest.json"
        if self.parent.name == appending.STAGING_NAME and is_last:
            raise Killed
        return rename(self, target)

    def die(*arguments: object, **options: object) -> None:
        raise Killed

    with pytest.MonkeyPatch.context() as patch:
        if step in ("idx", "manifest"):
            patch.setattr(Path, "replace", replace)
        elif step == "clear":
            patch.setattr(shutil, "rmtree", die)
        else:
            patch.setattr(appending, step, die)
        with pytest.raises(Killed):
            appending.append(appending.NewGalaxies(source=source, shards=3), appending.OutOptions(folder=out))


def test_killed_at_any_step_the_old_set_stays_valid_and_resuming_ends_with_the_same_bytes(
    parts: tuple[Path, Path], old: Path, tmp_path: Path, subtests: pytest.Subtests
) -> None:
    unbroken = Path(shutil.copytree(old, tmp_path / "unbroken"))
    assert append(parts[1], unbroken, "--shards", 3).exit_code == 0
    before = (old / "manifest.json").read_bytes()
    for step in ("_merge", "_commit", "idx", "write_rejects", "manifest", "clear"):
        with subtests.test(step):
            out, unpacked = Path(shutil.copytree(old, tmp_path / step)), tmp_path / f"unpacked{step}"
            append_and_die(step, parts[1], out)
            if step != "clear":
                assert (out / "manifest.json").read_bytes() == before
                assert run("unpack", out, unpacked, "--workers", 1).exit_code == 0
                assert len(list((unpacked / "images_training_rev1").iterdir())) == 18
                refused = append(parts[1], out, "--shards", 3)
                assert (refused.exit_code, "pass --resume to finish it" in refused.stderr) == (1, True)
                assert "an unfinished append" in run("lint", out, "--workers", 1).stdout
            result = append(parts[1], out, "--shards", 3, "--resume")
            assert result.exit_code == 0, result.stderr
            assert contents(out) == contents(unbroken)


def test_an_interrupted_append_can_be_thrown_away(parts: tuple[Path, Path], old: Path) -> None:
    before = contents(old)
    append_and_die("write_rejects", parts[1], old)
    changed = append(parts[1], old, "--shards", 5, "--resume")
    assert (changed.exit_code, "cannot resume" in changed.stderr) == (1, True)
    assert append(parts[1], old, "--shards", 5, "--overwrite").exit_code == 0
    assert len(read_manifest(old).splits["train"]) == 9
    assert {name: contents(old)[name] for name in before if name.endswith(("tar", "idx"))} == {
        name: data for name, data in before.items() if name.endswith(("tar", "idx"))
    }
    assert run("lint", old, "--deep", "--workers", 1).exit_code == 0


def test_folders_that_cannot_be_appended_to_are_refused(
    parts: tuple[Path, Path], old: Path, tmp_path: Path
) -> None:
    def refused(out: Path) -> str:
        result = append(parts[1], out)
        assert result.exit_code == 1
        return result.stderr

    assert "not a finished folder of shards" in refused(tmp_path / "nowhere")
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    shutil.copy(old / "train-000000.tar", foreign)
    assert run("index", foreign, "--workers", 1).exit_code == 0
    assert "others wrote these tars" in refused(foreign)
    (old / "train-000004.tar").write_bytes(b"mine")
    assert "train-000004.tar: in the way and not in the manifest; remove it" in refused(old)
    assert (old / "train-000004.tar").read_bytes() == b"mine"
    (old / "train-000004.tar").unlink()
    (old / ".pack").mkdir()
    (old / ".pack" / "plan.json").write_text("{}")
    assert "finish it with pack --resume" in refused(old)
    shutil.rmtree(old / ".pack")
    data = json.loads((old / "manifest.json").read_text())
    (old / "manifest.json").write_text(json.dumps(data | {"encoding": {"quality": 95}}))
    assert "the encoding in the manifest is damaged" in refused(old)
    del data["statistics"]
    (old / "manifest.json").write_text(json.dumps(data))
    assert "its manifest is of an older version, without the sums" in refused(old)
    assert append(parts[1], old, "--resume", "--overwrite").exit_code == 2


def test_an_append_that_another_one_overtook_is_refused(
    parts: tuple[Path, Path], old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The manifest is read and planned on before the lock is held: another append may end in between."""
    make_plan = appending.make_plan

    def overtaken(*args: object) -> object:
        plan = make_plan(*args)
        data = json.loads((old / "manifest.json").read_text())
        del data["set_sha256"]
        data["splits"]["train"].pop()
        (old / "manifest.json").write_text(json.dumps(data))
        return plan

    monkeypatch.setattr(appending, "make_plan", overtaken)
    result = append(parts[1], old)
    assert result.exit_code == 1
    assert "another append has ended there meanwhile" in result.stderr


def test_appending_without_decoding_marks_the_whole_set(parts: tuple[Path, Path], old: Path, packed: Path) -> None:
    assert append(parts[1], old, "--no-decode").exit_code == 0
    together, at_once = read_manifest(old), read_manifest(packed)
    assert not together.is_decoded
    assert together.channel_mean == at_once.channel_mean  # so few images are all measured
    assert run("lint", old, "--deep", "--workers", 1).exit_code == 0


def test_a_catalogue_can_be_appended(old: Path, whole_download: Download, tmp_path: Path) -> None:
    rows = [whole_download.rows[0], *whole_download.rows[19:22]]
    for row in rows[1:]:
        (tmp_path / "cutouts").mkdir(exist_ok=True)
        (tmp_path / "cutouts" / f"x{row[0]}.jpg").write_bytes(whole_download.train[row[0]])
    listed = [[*rows[0], "image"], *([*row, f"x{row[0]}.jpg"] for row in rows[1:])]
    (tmp_path / "more.csv").write_text("".join(",".join(row) + "\n" for row in listed))
    options = ("--catalogue", tmp_path / "more.csv", "--file-column", "image")
    result = append(tmp_path / "cutouts", old, *options)
    assert result.exit_code == 0, result.stderr
    new = {row[0]: whole_download.train[row[0]] for row in rows[1:]}
    assert {name: packed_samples(old, "train")[name]["jpg"] for name in new} == new
    assert append(tmp_path / "cutouts", old, *options, "--labels", tmp_path / "more.csv").exit_code == 2


def test_fits_images_get_the_stretch_of_the_set_or_the_one_asked_for(tmp_path: Path) -> None:
    fits = pytest.importorskip("astropy.io.fits")
    values = np.linspace(0, 1, 32 * 32, dtype=np.float32).reshape(32, 32)
    for number, suffix in ((1, "jpg"), (2, "fits"), (3, "fits"), (4, "jpg")):
        path = tmp_path / f"part{number}" / f"{number}.{suffix}"
        path.parent.mkdir()
        if suffix == "fits":
            fits.PrimaryHDU(values).writeto(path)
        else:
            path.write_bytes(simplejpeg.encode_jpeg(np.full((32, 32, 3), number, np.uint8)))
    out = tmp_path / "out"
    assert pack(tmp_path / "part1", out).exit_code == 0
    assert "pass --fits-range" in append(tmp_path / "part2", out).stderr
    result = append(tmp_path / "part2", out, "--fits-range", 0, 1)
    assert result.exit_code == 0, result.stderr
    encoding = read_manifest(out).encoding
    assert encoding is not None
    assert encoding["fits_asinh"] == {"black": 0, "white": 1, "softening": 10}
    another = append(tmp_path / "part3", out, "--fits-range", 0, 2)
    assert another.exit_code == 1
    assert "have another stretch" in another.stderr
    assert append(tmp_path / "part3", out).exit_code == 0
    assert append(tmp_path / "part4", out).exit_code == 0  # no FITS images: the stretch is not asked for
    assert read_manifest(out).encoding == encoding
    samples = packed_samples(out, "test")
    assert samples["2"]["jpg"] == samples["3"]["jpg"]
    assert run("lint", out, "--deep", "--workers", 1).exit_code == 0
