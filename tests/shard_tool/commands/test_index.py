"""`shard_tool index` makes the tars of others readable, or says why they cannot be served."""

import gc
import gzip
import io
import re
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import webdataset
from kaggle_download import Download, contents, jpeg, run
from making import make_votes

from galaxy_zoo.labels import read_votes
from galaxy_zoo.manifest import read_manifest
from galaxy_zoo.tree import load_tree
from galaxy_zoo.view import View
from pipeline.augment import FixedViews
from pipeline.loader import Loader, Sampling
from pipeline.shards import open_shards
from shard_tool.shards.writer import encode_votes

Members = dict[str, bytes]
VIEW = View(crop_px=64, size_px=32)
VOTES = encode_votes(np.full(37, np.nan, np.float32))


def write_tar(path: Path, members: Members) -> Path:
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def jpegs(*names: str) -> Members:
    return {name: jpeg(i) for i, name in enumerate(names)}


@pytest.fixture
def foreign(whole_download: Download, tmp_path: Path) -> Path:
    """What webdataset's own writer makes: JPEGs called .jpeg, votes for most, and components we do not know."""
    folder = tmp_path / "tars"
    folder.mkdir()
    votes = whole_download.votes()
    with webdataset.ShardWriter(f"{folder}/galaxies-%03d.tar", maxcount=8, verbose=0) as writer:
        for number, (name, data) in enumerate(whole_download.train.items()):
            sample = {"__key__": name, "jpeg": data, "json": {"n": number}, "cls": number % 3, "txt": "a galaxy"}
            writer.write(sample | ({"votes.npy": votes[name]} if number % 5 else {}))
    return folder


@pytest.mark.parametrize("workers", [1, 2])
def test_what_webdataset_wrote_comes_out_of_the_loader(
    foreign: Path, whole_download: Download, workers: int
) -> None:
    before = contents(foreign)
    result = run("index", foreign, "--workers", workers)
    assert result.exit_code == 0, result.stderr
    assert [line for line in result.stderr.splitlines() if line.startswith("not used")] == [
        f"not used: .{extension} of 30 samples" for extension in ("cls", "json", "txt")
    ]
    assert {name: contents(foreign)[name] for name in before} == before
    samples = open_shards(foreign, "train")
    assert samples.keys.tolist() == list(whole_download.train)
    assert [bytes(each) for each in samples.jpegs(np.arange(30))] == list(whole_download.train.values())
    expected = np.array([whole_download.votes()[key] for key in samples.keys])
    expected[::5] = np.nan
    np.testing.assert_array_equal(samples.votes, expected)
    with Loader(samples, FixedViews(VIEW), Sampling(batch_size=8, shuffle=False)) as loader:
        batches = list(loader.epoch(0))
    assert [key for batch in batches for key in batch.ids] == list(whole_download.train)
    assert torch.cat([batch.views[0] for batch in batches]).shape == (30, 3, 32, 32)


def test_an_indexed_folder_passes_lint_and_info_counts_it(foreign: Path) -> None:
    assert run("index", foreign, "--workers", 1).exit_code == 0
    for options in ((), ("--deep",)):
        result = run("lint", foreign, *options, "--workers", 1)
        assert result.exit_code == 0, result.stdout
    assert "missing votes   0 of 888 (24 labelled samples x 37 answers)" in run("info", foreign).stdout


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # webdataset closes no file
def test_what_we_pack_opens_with_webdataset(packed: Path, whole_download: Download) -> None:
    paths = [str(path) for path in sorted(packed.glob("train-*.tar"))]
    found = {s["__key__"]: s for s in webdataset.WebDataset(paths, shardshuffle=False).decode()}
    assert {key: sample["jpg"] for key, sample in found.items()} == whole_download.train
    for key, votes in whole_download.votes().items():
        np.testing.assert_array_equal(found[key]["votes.npy"], votes)
    gc.collect()


def test_indexing_our_own_tars_gives_the_index_and_sums_that_pack_wrote(packed: Path, tmp_path: Path) -> None:
    for path in packed.glob("*.tar"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    assert run("index", tmp_path, "--split-by-name", "--workers", 2).exit_code == 0
    for path in packed.glob("*.idx"):
        assert (tmp_path / path.name).read_bytes() == path.read_bytes()
    ours, theirs = read_manifest(packed), read_manifest(tmp_path)
    assert (ours.splits, ours.channel_mean, ours.channel_std) == (
        theirs.splits,
        theirs.channel_mean,
        theirs.channel_std,
    )
    assert ours.statistics is not None and theirs.statistics is not None
    assert ours.statistics.image_bytes == theirs.statistics.image_bytes
    assert ours.vote_mean == pytest.approx(theirs.vote_mean)


def test_folders_and_dots_before_a_name_and_capital_letters_are_understood(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        folder = tarfile.TarInfo("./some.survey")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        for name, data in {
            "./some.survey/7.JPG": jpeg(7),
            "./some.survey/8.jpg": jpeg(8),
            "./README": b"",
        }.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    result = run("index", tmp_path, "--workers", 1)
    assert result.exit_code == 0, result.stderr
    assert "not of a sample: a.tar: some.survey\nnot of a sample: a.tar: README\n" in result.stderr
    samples = open_shards(tmp_path, "train")
    assert samples.keys.tolist() == ["some.survey/7", "some.survey/8"]
    assert bytes(samples.jpegs(np.array([0]))[0]) == jpeg(7)
    assert run("lint", tmp_path, "--deep", "--workers", 1).exit_code == 0
    unpacked = run("unpack", tmp_path, tmp_path / "out", "--workers", 1)
    assert (unpacked.exit_code, "is not the name of a file" in unpacked.stderr) == (1, True)


def test_ids_may_hold_coordinates(tmp_path: Path) -> None:
    tars = tmp_path / "tars"
    tars.mkdir()
    name = "J094600.40-010228.5"
    write_tar(tars / "a.tar", {f"{name}.jpg": jpeg(1), f"{name}.votes.npy": VOTES, "survey.1/7.jpeg": jpeg(2)})
    assert run("index", tars, "--workers", 1).exit_code == 0
    samples = open_shards(tars, "train")
    assert samples.keys.tolist() == [name, "survey.1/7"]
    assert [bytes(each) for each in samples.jpegs(np.arange(2))] == [jpeg(1), jpeg(2)]
    assert run("lint", tars, "--deep", "--workers", 1).exit_code == 0


def test_several_images_a_key_are_not_taken_for_several_galaxies(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", {"1.jpg": jpeg(1), "2.left.jpg": jpeg(2), "2.right.jpg": jpeg(3)})
    result = run("index", tmp_path, "--workers", 1)
    assert (result.exit_code, "2 holds 2.left.jpg, 2.right.jpg; expected one JPEG" in result.stdout) == (1, True)


@pytest.mark.parametrize(
    ("members", "says"),
    [
        ({"1.npy": VOTES.replace(b"'<f4'", b"'>f4'")}, "KEY.npy (>f4, shape (37,));"),
        ({"1.npy": b"x", "1.cls": b"7"}, "KEY.cls ('7') and KEY.npy (not an array of numpy);"),
    ],
)
def test_votes_of_another_name_are_told_of(tmp_path: Path, members: Members, says: str) -> None:
    write_tar(tmp_path / "a.tar", jpegs("0.jpg"))
    write_tar(tmp_path / "b.tar", jpegs("1.jpg") | members)
    result = run("index", tmp_path, "--workers", 1)
    assert result.exit_code == 0, result.stderr
    assert (
        "no votes: they are taken from KEY.votes.npy or KEY.npy (float32, shape (37,) for tree gz2-kaggle), or from "
        f"KEY.cls for a tree of one question, and these tars hold {says}" in result.stderr
    )


def test_classes_are_the_votes_of_a_tree_of_one_question(tmp_path: Path) -> None:
    tree = load_tree("galaxy10")
    votes = encode_votes(np.eye(10, dtype=np.float32)[9])
    members = {"1.cls": b"0", "2.cls": b"7\n", "3.cls": b"3", "3.votes.npy": votes, "4.txt": b"5"}
    write_tar(tmp_path / "a.tar", dict(sorted((jpegs(*(f"{n}.jpg" for n in range(1, 5))) | members).items())))
    result = run("index", tmp_path, "--tree", "galaxy10", "--workers", 1)
    assert result.exit_code == 0, result.stderr
    assert run("lint", tmp_path, "--deep", "--workers", 1).exit_code == 0
    expected = np.full((4, 10), np.nan, np.float32)
    expected[[0, 1, 2]] = np.eye(10)[[0, 7, 9]]
    np.testing.assert_array_equal(open_shards(tmp_path).votes, expected)
    assert run("unpack", tmp_path, tmp_path / "out", "--workers", 1).exit_code == 0
    [table] = (tmp_path / "out").glob("*.csv")
    np.testing.assert_array_equal(read_votes(table, tree, allow_missing=True).to_numpy(), expected[:3])
    assert run("preview", tmp_path, tmp_path / "sheet.png").exit_code == 0


def test_a_class_that_the_tree_has_not_is_named(tmp_path: Path) -> None:
    classes = [b"10", b"-1", b"spiral", b"", b"9" * 5000, "\u0663".encode()]
    members = {
        f"{n}.{extension}": data
        for n, c in enumerate(classes)
        for extension, data in (("jpg", jpeg(n)), ("cls", c))
    }
    write_tar(tmp_path / "a.tar", members)
    result = run("index", tmp_path, "--tree", "galaxy10", "--workers", 1)
    assert result.exit_code == 1
    named = re.findall(r"a\.tar (\d) the class is .*, and the tree has the answers 0 to 9\n", result.stdout)
    assert named == [str(n) for n in range(len(classes))]


def test_an_npy_file_with_votes_is_taken_as_votes_where_none_are_called_so(tmp_path: Path) -> None:
    votes = encode_votes(make_votes(np.random.default_rng(0), 1)[0].astype(np.float32))
    members = {"1.npy": votes, "2.npy": b"features", "3.votes.npy": votes, "3.npy": votes}
    write_tar(tmp_path / "a.tar", dict(sorted((jpegs("1.jpg", "2.jpg", "3.jpg") | members).items())))
    assert run("index", tmp_path, "--workers", 1).exit_code == 0
    assert run("lint", tmp_path, "--deep", "--workers", 1).exit_code == 0
    samples = open_shards(tmp_path)
    assert dict(zip(samples.keys, ~np.isnan(samples.votes[:, 0]), strict=True)) == {
        "1": True,
        "2": False,
        "3": True,
    }


def test_names_tell_the_splits_where_asked_for(tmp_path: Path) -> None:
    for number, name in enumerate(("val-0", "train-0", "train-1", "test_0", "validation")):
        write_tar(tmp_path / f"{name}.tar", jpegs(f"{number}.jpg"))
    assert run("index", tmp_path, "--split-by-name", "--workers", 1).exit_code == 0
    splits = read_manifest(tmp_path).splits
    assert {split: [s.name for s in shards] for split, shards in splits.items()} == {
        "train": ["train-0.tar", "train-1.tar"],
        "test": ["test_0.tar"],
        "val": ["val-0.tar", "validation.tar"],
    }
    assert len(open_shards(tmp_path, "val")) == 2
    write_tar(tmp_path / "galaxies.tar", jpegs("9.jpg"))
    result = run("index", tmp_path, "--split-by-name", "--overwrite", "--workers", 1)
    assert (result.exit_code, "galaxies.tar: --split-by-name needs names that begin" in result.stderr) == (1, True)
    assert run("index", tmp_path, "--overwrite", "--workers", 1).exit_code == 0
    assert read_manifest(tmp_path).samples("train") == 6


def _cut(path: Path) -> Path:
    path.write_bytes(path.read_bytes()[:-12000])
    return path


def _write_twice(path: Path) -> None:
    with tarfile.open(path, "w") as tar:
        for i in range(2):
            info = tarfile.TarInfo("1.jpg")
            info.size = len(jpeg(i))
            tar.addfile(info, io.BytesIO(jpeg(i)))


def _spoil_second_header(path: Path) -> Path:
    data = bytearray(write_tar(path, jpegs("1.jpg", "2.jpg", "3.jpg")).read_bytes())
    at = data.index(b"2.jpg")
    data[at : at + 512] = b"x" * 512
    path.write_bytes(data)
    return path


UNSERVED = [
    (
        lambda p: write_tar(p, {"1.png": b"png"}),
        "bad.tar: its first sample holds 1.png; expected one JPEG, KEY.jpg. No tar looked at gives",
    ),
    (lambda p: write_tar(p, {}), "bad.tar: holds no sample: a sample is KEY.jpg with KEY.<anything>. No tar"),
    (
        lambda p: write_tar(p, {"README": b"", ".jpg": b""}),
        "bad.tar: holds no sample: a sample is KEY.jpg with KEY.<anything>; it holds README, .jpg. No tar",
    ),
    (
        lambda p: write_tar(p, jpegs("0.image.jpg")),
        "bad.tar: its first sample holds 0.image.jpg; expected one",
    ),
    (_write_twice, "bad.tar: its first sample holds 1.jpg, 1.jpg; expected one JPEG"),
    (
        lambda p: write_tar(p, {"1.jpg": jpeg(1).replace(b"\0\x40\0\x40", b"\xff\x40\xff\x40")}),
        "bad.tar: 1.jpg: 65344 x 65344 pixels; a side may have 1 to 8192",
    ),
    (lambda p: p.write_bytes(b"PK\x03\x04" * 1000), "bad.tar: not a whole tar"),
    (lambda p: p.write_bytes(b""), "bad.tar: not a whole tar"),
    (
        lambda p: p.write_bytes(gzip.compress(write_tar(p, jpegs("1.jpg")).read_bytes())),
        "bad.tar: compressed by gzip; decompress it first: gzip -d < bad.tar > new.tar",
    ),
    (lambda p: write_tar(p, {**jpegs("1.jpg"), "2.png": b"png"}), "bad.tar 2 holds 2.png; expected one JPEG"),
    (
        lambda p: write_tar(p, jpegs("0.jpg", "1.jpg", "1.jpeg")),
        "bad.tar 1 holds 1.jpg, 1.jpeg; expected one JPEG",
    ),
    (lambda p: write_tar(p, {**jpegs("1.jpg"), "2.jpg": jpeg(2)[:-9]}), "bad.tar 2 damaged JPEG"),
    (lambda p: write_tar(p, {**jpegs("1.jpg"), "2.jpg": b"png"}), "bad.tar 2 not a JPEG"),
    (lambda p: write_tar(p, {**jpegs("1.jpg"), "2.jpg": b""}), "bad.tar 2 empty file"),
    (
        lambda p: write_tar(p, {**jpegs("1.jpg", "2.jpg"), "3.jpg": jpeg(1, size=32)}),
        "bad.tar 3 32 x 32 pixels, the others have 64 x 64",
    ),
    (lambda p: write_tar(p, {**jpegs("1.jpg"), "2.jpg": jpeg(1, colour_space="GRAY")}), "not a colour JPEG"),
    (
        lambda p: write_tar(p, {**jpegs("1.jpg"), "1.votes.npy": VOTES[:-1]}),
        "bad.tar 1 its votes have 275 bytes",
    ),
    (
        lambda p: write_tar(p, {**jpegs("1.jpg"), "1.votes.npy": encode_votes(np.zeros(10, np.float32))}),
        "bad.tar 1 its votes are float32 of shape (10,); tree 'gz2-kaggle' needs float32",
    ),
    (
        lambda p: write_tar(p, {**jpegs("1.jpg"), "1.votes.npy": VOTES.replace(b"'<f4'", b"'>f4'")}),
        "bad.tar 1 its votes are >f4",
    ),
    (
        lambda p: write_tar(p, {**jpegs("1.jpg"), "1.votes.npy": VOTES.replace(b"(37,)", b"(9**9**9,)")}),
        "bad.tar 1 its votes are not a .npy file",
    ),
    (lambda p: write_tar(p, {**jpegs("1.jpg"), "1.votes.npy": b"\x93NUMPY"}), "bad.tar 1 its votes are not"),
    (
        lambda p: write_tar(p, {**jpegs("1.jpg"), "1.votes.npy": encode_votes(np.zeros(37, np.float32))}),
        "bad.tar 1 the votes break the tree",
    ),
    (lambda p: write_tar(p, jpegs("1.jpg", "a galaxy.jpg")), "member 'a galaxy.jpg' has a space in its name"),
    (lambda p: write_tar(p, jpegs("1.jpg", "2\n.jpg")), r"member '2\n.jpg' has U+000A in its name"),
    (lambda p: write_tar(p, jpegs("1.jpg", "\udce9.jpg")), "has bytes that are not UTF-8 in its name"),
    (
        lambda p: write_tar(p, jpegs("1.jpg", "=cmd|1!A1.jpg")),
        "bad.tar =cmd|1!A1 a spreadsheet would run this id as a formula",
    ),
    (lambda p: _cut(write_tar(p, jpegs("1.jpg", "2.jpg", "3.jpg"))), "bad.tar not a whole tar"),
    (_spoil_second_header, "bad.tar not a whole tar: neither a file nor the end of the tar at byte"),
    (lambda p: write_tar(p, jpegs("1.jpg", "2.jpg", "1.txt")), "bad.tar 1 "),
    (
        lambda p: write_tar(p, jpegs("1.jpg")) and write_tar(p.with_name("c.tar"), jpegs("1.jpg")),
        "c.tar 1 the id",
    ),
]


def test_what_cannot_be_served_is_named_and_nothing_is_written(
    tmp_path_factory: pytest.TempPathFactory, subtests: pytest.Subtests
) -> None:
    for make, says in UNSERVED:
        with subtests.test(says):
            folder = tmp_path_factory.mktemp("case")
            make(folder / "bad.tar")
            before = contents(folder)
            result = run("index", folder, "--workers", 1)
            assert result.exit_code == 1
            assert says in result.stdout + result.stderr
            assert contents(folder) == before


def test_a_tar_that_is_there_twice_is_refused_in_any_split(tmp_path: Path) -> None:
    for name in ("train.tar", "test.tar"):
        write_tar(tmp_path / name, jpegs("1.jpg", "2.jpg"))
    result = run("index", tmp_path, "--split-by-name", "--workers", 1)
    assert (result.exit_code, "test.tar holds the same bytes as train.tar" in result.stdout) == (1, True)
    assert not list(tmp_path.glob("*.idx"))


def test_an_id_in_several_splits_is_warned_about(tmp_path: Path) -> None:
    write_tar(tmp_path / "train.tar", jpegs("1.jpg", "2.jpg"))
    write_tar(tmp_path / "test.tar", jpegs("2.jpg", "3.jpg"))
    result = run("index", tmp_path, "--split-by-name", "--workers", 1)
    assert (result.exit_code, "1 ids are in train and test at once, as 2: " in result.stderr) == (0, True)


def test_what_is_no_folder_of_tars_is_refused(tmp_path: Path, packed: Path) -> None:
    for folder, says in (
        (tmp_path / "none", "not a folder"),
        (tmp_path, "no *.tar in it"),
        (packed, "shard_tool pack wrote these shards"),
    ):
        result = run("index", folder)
        assert (result.exit_code, says in result.stderr) == (1, True)


@pytest.mark.parametrize(
    ("name", "make", "says"),
    [
        ("b.tar.gz", Path.touch, "b.tar.gz: decompress it first: gzip -d b.tar.gz"),
        ("b.tar.zst", Path.touch, "b.tar.zst: decompress it first: zstd -d b.tar.zst"),
        ("b.tar", Path.mkdir, "b.tar: a folder, a pipe or a link that leads nowhere, not a tar"),
        ("b.tar", lambda path: path.symlink_to("nowhere"), "b.tar: a folder, a pipe or a link that leads nowhere"),
    ],
)
def test_a_tar_that_cannot_be_indexed_is_not_left_out_in_silence(
    name: str, make: Callable[[Path], None], says: str, tmp_path: Path
) -> None:
    write_tar(tmp_path / "a.tar", jpegs("1.jpg"))
    make(tmp_path / name)
    result = run("index", tmp_path, "--workers", 1)
    assert (result.exit_code, says in result.stderr) == (1, True), result.stderr


def test_an_index_that_is_there_is_kept_unless_overwriting_is_asked_for(foreign: Path) -> None:
    (foreign / "galaxies-001.idx").write_text("mine")
    result = run("index", foreign, "--workers", 1)
    assert (result.exit_code, "galaxies-001.idx: exists already; pass --overwrite" in result.stderr) == (1, True)
    assert (foreign / "galaxies-001.idx").read_text() == "mine"
    assert run("index", foreign, "--overwrite", "--workers", 1).exit_code == 0
    for damaged in ("{", "[" * 100_000):
        (foreign / "manifest.json").write_text(damaged)
        assert run("index", foreign, "--overwrite", "--workers", 1).exit_code == 0
    assert read_manifest(foreign).is_foreign
