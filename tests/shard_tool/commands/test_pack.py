"""`shard_tool pack`: what comes out, for every layout, and what is refused."""

import gc
import io
import re
import shutil
import zipfile
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from kaggle_download import (
    TABLE,
    TEST_FOLDER,
    TRAIN_FOLDER,
    Download,
    contents,
    jpeg,
    make_download,
    pack,
    packed_samples,
    rejected,
    run,
)

from galaxy_zoo.manifest import read_manifest

LAYOUTS = {
    "zips": lambda d, at: d.write_zips(at / "zips"),
    "one zip": lambda d, at: d.write_one_zip(at / "galaxies.zip"),
    "own folders": lambda d, at: d.write_own_folders(at / "own"),
    "zip of stored zips": lambda d, at: d.write_zip_of_zips(at / "outer.zip", zipfile.ZIP_STORED),
    "zip of deflated zips": lambda d, at: d.write_zip_of_zips(at / "outer.zip", zipfile.ZIP_DEFLATED),
}


def test_every_sample_is_packed_untouched_with_its_votes(packed: Path, whole_download: Download) -> None:
    train, test = packed_samples(packed, "train"), packed_samples(packed, "test")
    assert {name: sample["jpg"] for name, sample in train.items()} == whole_download.train
    assert {name: sample["jpg"] for name, sample in test.items()} == whole_download.test
    votes = {name: np.load(io.BytesIO(sample["votes.npy"])) for name, sample in train.items()}
    for name, expected in whole_download.votes().items():
        assert votes[name].dtype == np.float32
        np.testing.assert_array_equal(votes[name], expected)
    assert all(len(sample["votes.npy"]) == 128 + 4 * 37 for sample in train.values())
    assert all(set(sample) == {"jpg"} for sample in test.values())


def test_every_layout_packs_to_the_same_bytes_for_one_and_three_workers(
    packed: Path, whole_download: Download, tmp_path_factory: pytest.TempPathFactory, subtests: pytest.Subtests
) -> None:
    cases = [*((layout, 1) for layout in LAYOUTS), ("zips", 3), ("zip of deflated zips", 3)]
    for layout, workers in cases:
        with subtests.test(layout, workers=workers):
            folder = tmp_path_factory.mktemp("case")
            result = pack(LAYOUTS[layout](whole_download, folder), folder / "out", "--workers", workers)
            assert result.exit_code == 0, result.stderr
            assert contents(folder / "out") == contents(packed)


def test_another_seed_gives_another_order_of_the_same_samples(kaggle: Path, packed: Path, tmp_path: Path) -> None:
    assert pack(kaggle, tmp_path / "out", "--seed", 1).exit_code == 0
    before, after = packed_samples(packed, "train"), packed_samples(tmp_path / "out", "train")
    assert before == after
    assert list(before) != list(after)
    assert list(before) != sorted(before)


def test_shards_are_as_many_as_asked_for_but_never_more_than_samples(kaggle: Path, tmp_path: Path) -> None:
    assert pack(kaggle, tmp_path / "few", "--shards", 4).exit_code == 0
    assert [shard.samples for shard in read_manifest(tmp_path / "few").splits["train"]] == [7, 8, 7, 8]
    assert pack(kaggle, tmp_path / "many", "--shards", 999).exit_code == 0
    assert [shard.samples for shard in read_manifest(tmp_path / "many").splits["train"]] == [1] * 30


def test_the_manifest_has_the_exact_statistics_of_the_training_images(
    packed: Path, whole_download: Download
) -> None:
    manifest = read_manifest(packed)
    pixels = np.stack([simplejpeg.decode_jpeg(data) for data in whole_download.train.values()]).astype(np.float64)
    np.testing.assert_allclose(manifest.channel_mean, pixels.mean((0, 1, 2)) / 255, rtol=1e-12)
    np.testing.assert_allclose(manifest.channel_std, pixels.std((0, 1, 2)) / 255, rtol=1e-12)
    assert manifest.vote_mean is not None
    np.testing.assert_allclose(
        np.array(manifest.vote_mean, float), np.mean(list(whole_download.votes().values()), axis=0), rtol=1e-6
    )
    assert (manifest.image_px, manifest.rejected) == ((64, 64), 0)
    assert (manifest.samples("train"), manifest.samples("test")) == (30, 12)


def test_nothing_but_shards_indexes_rejects_and_manifest_is_left(packed: Path) -> None:
    names = {path.name for path in packed.iterdir()}
    shards = {path.name for path in packed.glob("t*-*.tar")}
    assert names == shards | {name.replace(".tar", ".idx") for name in shards} | {"manifest.json", "rejected.csv"}
    assert rejected(packed) == []


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # it leaves its files open
def test_webdataset_reads_the_shards(packed: Path, whole_download: Download) -> None:
    webdataset = pytest.importorskip("webdataset")
    urls = sorted(str(path) for path in packed.glob("train-*.tar"))
    samples = list(webdataset.WebDataset(urls, shardshuffle=False, empty_check=False).decode("rgb8"))
    assert {sample["__key__"] for sample in samples} == set(whole_download.train)
    assert samples[0]["jpg"].shape == (64, 64, 3)
    np.testing.assert_array_equal(
        samples[0]["votes.npy"], whole_download.votes()[samples[0]["__key__"]], strict=True
    )
    gc.collect()


def test_indexes_are_those_of_dali(packed: Path, tmp_path: Path) -> None:
    wds2idx = pytest.importorskip("wds2idx")
    for path in packed.glob("*.tar"):
        with wds2idx.IndexCreator(str(path), str(tmp_path / "made.idx"), verbose=False) as creator:
            creator.create_index()
        assert path.with_suffix(".idx").read_bytes() == (tmp_path / "made.idx").read_bytes()


def test_missing_votes_become_nan_only_on_demand(download: Download, tmp_path: Path) -> None:
    download.rows = [row[:20] for row in download.rows]  # the last 18 columns are gone
    source = download.write_folder(tmp_path / "source")
    refused = pack(source, tmp_path / "out")
    assert refused.exit_code == 1
    assert "18 of the 37 columns" in refused.stderr
    assert "--missing-votes" in refused.stderr
    assert pack(source, tmp_path / "out", "--missing-votes").exit_code == 0
    sample = packed_samples(tmp_path / "out", "train")["100008"]
    votes = np.load(io.BytesIO(sample["votes.npy"]))
    assert np.isnan(votes[19:]).all()
    assert not np.isnan(votes[:19]).any()
    assert read_manifest(tmp_path / "out").vote_mean[19:] == (None,) * 18
    assert run("lint", tmp_path / "out", "--workers", 1).exit_code == 0


def test_a_plain_folder_with_labels_is_all_training(download: Download, tmp_path: Path) -> None:
    folder = tmp_path / "test_cutouts"  # the name of SOURCE itself does not count
    folder.mkdir()
    for name, data in download.train.items():
        (folder / f"{name}.JPEG").write_bytes(data)
    (tmp_path / "votes.csv").write_text(download.table())
    result = pack(folder, tmp_path / "out", "--labels", tmp_path / "votes.csv")
    assert result.exit_code == 0, result.stderr
    assert list(read_manifest(tmp_path / "out").splits) == ["train"]
    assert len(packed_samples(tmp_path / "out", "train")) == 30


def test_images_without_labels_are_the_test_split(whole_download: Download, tmp_path: Path) -> None:
    folder = tmp_path / "cutouts"
    folder.mkdir()
    for name, data in whole_download.test.items():
        (folder / f"{name}.jpg").write_bytes(data)
    whole_download.write_zips(tmp_path)
    for source in (folder, tmp_path / f"{TEST_FOLDER}.zip"):
        assert pack(source, tmp_path / "out", "--overwrite").exit_code == 0
        manifest = read_manifest(tmp_path / "out")
        assert list(manifest.splits) == ["test"]
        assert manifest.vote_mean is None


def test_what_is_not_understood_is_listed(download: Download, tmp_path: Path) -> None:
    source = download.write_folder(tmp_path / "source")
    (source / "central_pixel_benchmark.csv").write_text("GalaxyID\n")
    (source / "notes.txt").write_text("mine")
    (source / "images_partly_labelled").mkdir()
    (source / "images_partly_labelled" / "5.jpg").write_bytes(b"")
    (source / "__MACOSX").mkdir()
    (source / "__MACOSX" / "._100008.jpg").write_bytes(b"\0")
    result = pack(source, tmp_path / "out")
    assert result.exit_code == 0
    for line in (
        "ignored: central_pixel_benchmark.csv: a benchmark submission",
        "ignored: notes.txt: neither an image nor labels",
        "ignored: images_partly_labelled: 1 images neither in a training nor in a test folder",
        "ignored: __MACOSX: 1 hidden files",
    ):
        assert line in result.stderr


BAD_IMAGES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "empty file"),
    "truncated": (jpeg(1)[:-500], "damaged JPEG: Premature end of JPEG file"),
    "no end marker": (jpeg(1)[:-2], "damaged JPEG: Premature end of JPEG file"),
    "only a header": (jpeg(1)[:30], "damaged JPEG: its header is cut off"),
    "another format": (
        b"GIF89a" + bytes(50),
        "not a JPEG, PNG or FITS image: it is a GIF; convert it to JPEG or PNG",
    ),
    "grey": (jpeg(1, colour_space="GRAY"), "not a colour JPEG: its colour space is Gray"),
    "cmyk": (jpeg(1, colour_space="CMYK"), "not a colour JPEG: its colour space is YCCK"),
    "wrong size": (jpeg(1, size=48), "48 x 48 pixels, the others have 64 x 64"),
}


def test_a_bad_image_is_rejected_and_the_rest_is_whole(
    tmp_path_factory: pytest.TempPathFactory, subtests: pytest.Subtests
) -> None:
    for kind, (data, reason) in BAD_IMAGES.items():
        with subtests.test(kind):
            folder, download = tmp_path_factory.mktemp("case"), make_download(6, 2)
            download.train["100015"] = data
            out = folder / "out"
            result = pack(download.write_zips(folder / "source"), out)
            assert result.exit_code == 1
            assert f"rejected: train 100015 (100015.jpg): {reason}" in result.stderr
            assert "1 rejected, 0 allowed" in result.stderr
            [row] = rejected(out)
            assert (row["split"], row["id"], row["file"]) == ("train", "100015", "100015.jpg")
            assert reason in row["reason"]
            assert len(packed_samples(out, "train")) == 5
            assert read_manifest(out).rejected == 1
            assert run("lint", out, "--workers", 1).exit_code == 0
            assert pack(folder / "source", out, "--overwrite", "--allow-rejects", 1).exit_code == 0


def test_a_byte_flip_in_a_zip_is_caught_by_its_checksum(whole_download: Download, tmp_path: Path) -> None:
    source = whole_download.write_one_zip(tmp_path / "galaxies.zip")
    with zipfile.ZipFile(source, "w") as file:  # stored
        for files in whole_download.files().values():
            for name, data in files.items():
                file.writestr(name, data)
    data = bytearray(source.read_bytes())
    where = data.index(whole_download.train["100008"])
    data[where + 5] ^= 1  # in the JFIF header: libjpeg does not notice
    source.write_bytes(data)
    result = pack(source, tmp_path / "out")
    assert result.exit_code == 1
    assert "100008.jpg): damaged in its zip: its checksum differs" in result.stderr


def _drop_row(download: Download) -> None:
    del download.rows[1]


def _drop_image(download: Download) -> None:
    del download.train["100008"]


def _break_tree(download: Download) -> None:
    download.rows[1][1:4] = ["0.5", "0.5", "0.5"]


def _give_invisible_id(download: Download) -> None:
    download.train["100\u200b008"] = download.train.pop("100008")
    download.rows[1][0] = "100\u200b008"


UNFIT = [
    (_drop_row, "100008 (100008.jpg): no row of votes in training_solutions_rev1.csv"),
    (_drop_image, "100008 (training_solutions_rev1.csv): no image for this row of votes"),
    (_break_tree, "(100008.jpg): the votes break the tree: question 'smooth or disk': answers sum to 1.5"),
    (_give_invisible_id, "an id may not be empty, hold control characters"),
]


def test_an_image_or_row_that_does_not_fit_is_rejected(
    tmp_path_factory: pytest.TempPathFactory, subtests: pytest.Subtests
) -> None:
    for spoil, reason in UNFIT:
        with subtests.test(reason):
            folder, download = tmp_path_factory.mktemp("case"), make_download(6, 2)
            spoil(download)
            result = pack(download.write_folder(folder / "source"), folder / "out")
            assert result.exit_code == 1
            assert reason in result.stderr
            assert len(packed_samples(folder / "out", "train")) == 5
            assert len(rejected(folder / "out")) == 1


def _set_vote(value: str) -> Callable[[Download], None]:
    def spoil(download: Download) -> None:
        download.rows[3][5] = value

    return spoil


def _drop_column(download: Download) -> None:
    download.rows = [row[:5] + row[6:] for row in download.rows]


def _repeat_row(download: Download) -> None:
    download.rows.append(download.rows[1])


BAD_LABELS = [
    (_drop_column, "1 of the 37 columns of tree 'gz2-kaggle' are missing: Class2.2"),
    (_repeat_row, "line 32: id 100008 appears twice (first in line 2)"),
    (_set_vote("1.5"), "line 4, column Class2.2: 1.5 is outside [0, 1]"),
    (_set_vote("many"), "line 4, column Class2.2: 'many' is not a number"),
    (_set_vote(""), "line 4, column Class2.2: the vote is missing"),
]


def test_bad_labels_end_it_before_anything_is_written(
    whole_download: Download, tmp_path_factory: pytest.TempPathFactory, subtests: pytest.Subtests
) -> None:
    for spoil, message in BAD_LABELS:
        with subtests.test(message):
            folder, download = tmp_path_factory.mktemp("case"), deepcopy(whole_download)
            spoil(download)
            result = pack(download.write_folder(folder / "source"), folder / "out")
            assert result.exit_code == 1
            assert f"{TABLE}.csv" in result.stderr
            assert message in result.stderr
            assert not (folder / "out").exists()


def test_an_id_that_stands_twice_names_both_files(download: Download, tmp_path: Path) -> None:
    source = download.write_folder(tmp_path / "source")
    download.write_zips(source)
    (source / f"{TABLE}.zip").unlink()
    result = pack(source, tmp_path / "out")
    assert result.exit_code == 1
    assert f"{TRAIN_FOLDER}.zip/{TRAIN_FOLDER}/100008.jpg and {TRAIN_FOLDER}/100008.jpg" in result.stderr
    assert not (tmp_path / "out").exists()


def test_when_every_image_is_bad_there_is_no_manifest(download: Download, tmp_path: Path) -> None:
    download.train = dict.fromkeys(download.train, jpeg(1)[:-9])
    download.test = {}
    result = pack(download.write_folder(tmp_path / "source"), tmp_path / "out")
    assert result.exit_code == 1
    assert "every train image was rejected" in result.stderr
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_a_folder_of_something_else_is_refused(kaggle: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    for option in ((), ("--overwrite",), ("--resume",)):
        result = pack(kaggle, tmp_path, *option)
        assert result.exit_code == 1
        assert ("thesis.tex, which pack did not make" if option else "not empty") in result.stderr
        assert contents(tmp_path) == {"thesis.tex": b"mine"}


def test_overwrite_replaces_an_older_pack_of_more_shards(kaggle: Path, packed: Path, tmp_path: Path) -> None:
    assert pack(kaggle, tmp_path, "--shards", 20).exit_code == 0
    refused = pack(kaggle, tmp_path)
    assert (refused.exit_code, "--overwrite" in refused.stderr) == (1, True)
    assert pack(kaggle, tmp_path, "--overwrite").exit_code == 0
    assert contents(tmp_path) == contents(packed)


def test_bad_input_leaves_the_older_pack_alone(kaggle: Path, download: Download, tmp_path: Path) -> None:
    assert pack(kaggle, tmp_path / "out").exit_code == 0
    before = contents(tmp_path / "out")
    _repeat_row(download)
    assert pack(download.write_folder(tmp_path / "bad"), tmp_path / "out", "--overwrite").exit_code == 1
    assert contents(tmp_path / "out") == before


WRONG_USAGE = [
    (("--overwrite", "--resume"), "exclude each other"),
    (("--shards", "0"), "--shards"),
    (("--seed", "-1"), "--seed"),
    (("--nonsense",), "No such option"),
    (("--catalogue", "c.csv", "--labels", "l.csv"), "exclude each other"),
    (("--id-column", "id"), "need --catalogue"),
    (("--file-column", "name"), "need --catalogue"),
    (("--counts", "--fractions-of", "question"), "--counts"),
    (("--quality", "0"), "--quality"),
    (("--quality", "101"), "--quality"),
    (("--resize", "0"), "--resize"),
    (("--pad", "9999"), "--pad"),
    (("--fits-range", "1", "0"), "--fits-"),
    (("--fits-range", "0", "0"), "--fits-"),
    (("--fits-range", "0", "inf"), "--fits-"),
    (("--fits-range", "nan", "1"), "--fits-"),
    (("--fits-range", "-0.1", "1.5", "--fits-softening", "0"), "--fits-"),
]


def test_wrong_usage_exits_2(kaggle: Path, tmp_path: Path, subtests: pytest.Subtests) -> None:
    for arguments, message in WRONG_USAGE:
        with subtests.test(arguments=arguments):
            result = pack(kaggle, tmp_path / "out", *arguments)
            assert result.exit_code == 2
            assert message in result.stderr


def test_an_unknown_tree_is_named(kaggle: Path, tmp_path: Path) -> None:
    result = pack(kaggle, tmp_path / "out", "--tree", "gz9")
    assert result.exit_code == 1
    assert "gz9" in result.stderr


def test_a_users_own_tree_and_ids_are_packed(tmp_path: Path) -> None:
    (tmp_path / "tree.toml").write_text(
        'name = "shapes"\n[[question]]\nname = "shape"\ncolumns = ["round", "flat"]\n'
    )
    (tmp_path / "cutouts").mkdir()
    for name in ("J1234+05", "ngc_7331", "m31-é"):
        (tmp_path / "cutouts" / f"{name}.jpg").write_bytes(jpeg(1))
    (tmp_path / "votes.csv").write_text("id,round,flat\nJ1234+05,1,0\nngc_7331,.5,.5\nm31-é,0,1\n")
    result = pack(
        tmp_path / "cutouts",
        tmp_path / "out",
        "--labels",
        tmp_path / "votes.csv",
        "--tree",
        tmp_path / "tree.toml",
    )
    assert result.exit_code == 0, result.stderr
    assert set(packed_samples(tmp_path / "out", "train")) == {"J1234+05", "ngc_7331", "m31-é"}
    assert run("lint", tmp_path / "out", "--workers", 1).exit_code == 0


def test_results_go_to_stdout_and_progress_to_stderr(kaggle: Path, tmp_path: Path) -> None:
    result = pack(kaggle, tmp_path / "out")
    assert re.search(r"^train +30 +30 +10 ", result.stdout, re.M)
    assert re.search(r"^test +12 +0 +10 ", result.stdout, re.M)
    assert "images/s" in result.stderr
    assert "images/s" not in result.stdout


def test_training_images_without_labels_are_an_error(download: Download, tmp_path: Path) -> None:
    download.write_zips(tmp_path)
    result = pack(tmp_path / f"{TRAIN_FOLDER}.zip", tmp_path / "out")
    assert result.exit_code == 1
    assert "--labels" in result.stderr
    labels = tmp_path / f"{TABLE}.zip"
    assert pack(tmp_path / f"{TRAIN_FOLDER}.zip", tmp_path / "out", "--labels", labels).exit_code == 0


def test_a_table_that_is_not_named_like_one_of_votes_is_the_last_thing_said(
    kaggle: Path, whole_download: Download, tmp_path: Path, subtests: pytest.Subtests
) -> None:
    folder = Path(shutil.copytree(kaggle / TRAIN_FOLDER, tmp_path / "my galaxies"))
    table = Path(shutil.copy(kaggle / f"{TABLE}.csv", folder / "votes.csv"))
    archive = Path(shutil.make_archive(str(tmp_path / "galaxies"), "zip", folder))
    num_images = len(whole_download.train)
    help_of = {
        folder: f"their votes, run the same command with\n  --labels '{table}' --overwrite\n",
        archive: "take it out of the archive and run the same command with\n  --labels votes.csv --overwrite\n",
    }
    for source, says in help_of.items():
        with subtests.test(source.name):
            out = tmp_path / f"packed {source.name}"
            result = pack(source, out)
            assert (result.exit_code, result.stderr.endswith(says)) == (0, True), result.stderr
            assert f"WARNING: NO VOTES. All {num_images} images were packed as test images." in result.stderr
            result = pack(source, out, "--labels", table, "--overwrite")
            assert (result.exit_code, "NO VOTES" in result.stderr) == (0, False), result.stderr
            assert list(read_manifest(out).splits) == ["train"]


def test_an_id_in_train_and_test_is_warned_about(download: Download, tmp_path: Path) -> None:
    assert "warning" not in pack(download.write_folder(tmp_path / "in"), tmp_path / "clean").stderr
    download.test["100008"] = jpeg(1)
    result = pack(download.write_folder(tmp_path / "in"), tmp_path / "out")
    assert result.exit_code == 0, result.stderr
    assert "warning: 1 ids are in train and test at once, as 100008: " in result.stderr
    for command in (("lint",), ("lint", "--deep")):
        linted = run(command[0], tmp_path / "out", *command[1:], "--workers", 1)
        assert (linted.exit_code, "1 ids are in train and test at once, as 100008" in linted.stderr) == (0, True)


def test_an_image_in_train_and_test_is_warned_about(
    download: Download, tmp_path: Path, subtests: pytest.Subtests
) -> None:
    download.test["200018"] = download.train["100008"]
    for source in (download.write_folder(tmp_path / "folder"), download.write_zips(tmp_path / "zips")):
        for options in ((), ("--pad", 80), ("--no-decode",)):
            with subtests.test(source=source.name, options=options):
                result = pack(source, tmp_path / "out", *options, "--overwrite")
                assert result.exit_code == 0, result.stderr
                says = "warning: 1 test images have the bytes of training images, as test 200018 and train 100008"
                assert says in result.stderr
                found = run("duplicates", tmp_path / "out", "--workers", 1)
                assert (found.exit_code, found.stdout) == (1, "train/100008 test/200018\n")


READ = [
    (("shards", "shards"), "shards is in shards"),
    (("shards/test-000000.tar", "shards"), "test-000000.tar is in shards"),
    (("link/test-000000.tar", "shards"), "test-000000.tar is in shards"),
    (("in", "link", "--labels", "shards/rejected.csv"), "rejected.csv is in link"),
    (("in", "shards", "--catalogue", "shards/votes.csv"), "votes.csv is in shards"),
    (("in", "shards", "--tree", "shards/tree.toml"), "tree.toml is in shards"),
    ((".", "shards"), "its shards would be packed too"),
]


def test_what_is_read_is_never_replaced(
    packed: Path, kaggle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, subtests: pytest.Subtests
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(packed, "shards")
    Path("shards/tree.toml").touch()
    Path("in").symlink_to(kaggle)
    Path("link").symlink_to("shards")
    before = contents(tmp_path)
    for arguments, says in READ:
        for option in ("--overwrite", "--resume"):
            with subtests.test(arguments=arguments, option=option):
                result = run("pack", *arguments, option)
                assert (result.exit_code, says in result.stderr) == (1, True), result.stderr
                assert contents(tmp_path) == before
