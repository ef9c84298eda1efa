"""What SOURCE may be, and what is refused before anything is written."""

import lzma
import struct
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from kaggle_download import Download, contents, jpeg, pack, zip_of

from galaxy_zoo.errors import LabelError, SourceError
from galaxy_zoo.tree import load_tree
from shard_tool.source.contents import list_source
from shard_tool.source.draft import Draft
from shard_tool.source.files import StoredFile, walk
from shard_tool.source.options import PackOptions
from shard_tool.source.plan import make_plan

TRAVERSAL = "a/../../../etc/passwd.jpg"


def ids(files: Iterable[StoredFile]) -> list[str]:
    return [file.name.split(".")[0] for file in files]


def listed(source: Path) -> Draft:
    draft = Draft()
    list_source(draft, source)
    return draft


def images(draft: Draft, split: str) -> list[str]:
    return [sample_id.decode() for (sample_id,) in draft.rows("SELECT id FROM file WHERE split = ?", split)]


def make(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    return folder


NEAREST = [
    ("images_training_rev1", "train"),
    ("images_train_rev1", "train"),
    ("Train", "train"),
    ("my-testing-set", "test"),
    ("images_test_rev1", "test"),
    ("deep/images_test_rev1/part1", "test"),
]


def test_the_nearest_folder_tells_the_split(
    tmp_path_factory: pytest.TempPathFactory, subtests: pytest.Subtests
) -> None:
    for name, split in NEAREST:
        with subtests.test(name=name, split=split):
            folder = tmp_path_factory.mktemp("case")
            make(
                folder / "galaxies", f"{name}/1.jpg", "test_outer/train_inner/2.JPG", "training_solutions_rev1.csv"
            )
            draft = listed(folder / "galaxies")
            assert "1" in images(draft, split)
            assert "2" in images(draft, "train")


def test_a_word_within_a_word_is_no_split(
    tmp_path_factory: pytest.TempPathFactory, subtests: pytest.Subtests
) -> None:
    for name in ["strain", "latest", "contest_images", "restraint"]:
        with subtests.test(name=name):
            folder = tmp_path_factory.mktemp("case")
            make(folder / "galaxies", f"{name}/1.jpg", "train/2.jpg", "labels/train.csv")
            draft = listed(folder / "galaxies")
            assert images(draft, "train") == ["2"]
            assert list(draft.ignored()) == [(name, "1 images neither in a training nor in a test folder by name")]


def test_unnamed_images_are_training_where_there_are_labels(tmp_path: Path) -> None:
    make(tmp_path / "galaxies", "cutouts/1.jpg", "test/2.jpg", "training_solutions_rev1.csv")
    draft = listed(tmp_path / "galaxies")
    assert (images(draft, "train"), images(draft, "test")) == (["1"], ["2"])


def test_every_file_is_an_image_or_labels_or_ignored(tmp_path: Path) -> None:
    source = make(tmp_path / "s", "train/1.jpg", "training_solutions_rev1.csv", "x.txt", "all_zeros_benchmark.csv")
    make(source, ".DS_Store", "other.csv", "odd/3.jpg")
    make(source, "z", "A.tar.XZ", "VOTES.CSV.GZ")
    draft = listed(source)
    assert len(list(walk(source))) == 10
    assert draft.count("train") + 1 + draft.num_ignored == 10
    ignored = dict(draft.ignored())
    assert ignored["z"] == "neither an image nor labels"
    assert ignored["A.tar.XZ"].endswith("decompress it first: xz -d A.tar.XZ")
    assert ignored["VOTES.CSV.GZ"] == ignored["other.csv"]


def test_two_tables_of_labels_are_an_error_that_names_them(tmp_path: Path) -> None:
    make(tmp_path / "s", "train/1.jpg", "training_solutions_rev1.csv", "old/training_solutions_rev1.csv")
    with pytest.raises(LabelError, match=r"old/training_solutions_rev1.csv and training_solutions_rev1.csv"):
        listed(tmp_path / "s")
    assert len(list_source(Draft(), tmp_path / "s", [tmp_path / "s/training_solutions_rev1.csv"])) == 1


def test_links_that_lead_in_a_circle_end(tmp_path: Path) -> None:
    make(tmp_path / "s", "train/1.jpg")
    (tmp_path / "s" / "train" / "again").symlink_to(tmp_path / "s")
    assert ids(walk(tmp_path / "s")) == ["1"]
    (tmp_path / "s" / "self").symlink_to("self")
    with pytest.raises(SourceError, match=r"self: cannot be read .*; remove it or make it readable"):
        list(walk(tmp_path / "s"))


def _link(data: Path) -> None:
    info = zipfile.ZipInfo("train/1.jpg")
    info.external_attr = 0o120777 << 16
    with zipfile.ZipFile(data, "w") as file:
        file.writestr(info, "/etc/passwd")


def _member(name: str) -> Callable[[Path], None]:
    def spoil(data: Path) -> None:
        data.write_bytes(zip_of({"train/1.jpg": jpeg(1), name: b"root"}))

    return spoil


def _truncated(data: Path) -> None:
    whole = zip_of({"train/1.jpg": jpeg(1)})
    data.write_bytes(whole[: len(whole) // 2])


def _without_beginning(path: Path) -> None:
    path.write_bytes(zip_of({f"{i}.jpg": jpeg(i) for i in range(3)})[1000:])


def _patched(offset: int, value: bytes, name: str = "train/1.jpg") -> Callable[[Path], None]:
    """A zip of one member with other bytes in its entry of the table of contents."""

    def spoil(data: Path) -> None:
        whole = bytearray(zip_of({name: jpeg(1)}))
        at = whole.index(b"PK\x01\x02") + offset
        whole[at : at + len(value)] = value
        data.write_bytes(whole)

    return spoil


UNTRUSTED = [
    (_member(TRAVERSAL), f"member '{TRAVERSAL}' leads out of the archive"),
    (_member("..\\evil.jpg"), "evil.jpg' leads out of the archive"),
    (_member("/etc/passwd.jpg"), "member '/etc/passwd.jpg' leads out of the archive"),
    (_member("C:/x.jpg"), "member 'C:/x.jpg' leads out of the archive"),
    (_link, "member 'train/1.jpg' is a symbolic link"),
    (_truncated, "galaxies.zip: not a whole zip file"),
    (_without_beginning, "galaxies.zip: its beginning is missing: it was cut, or is the last part of a split"),
    (lambda path: path.write_bytes(b""), "galaxies.zip: not a whole zip file"),
    (_patched(8, b"\x01\x00"), "member 'train/1.jpg' is encrypted"),
    (_patched(10, b"\x0c\x00"), "member 'train/1.jpg' is packed by method 12"),
    (_patched(24, struct.pack("<I", 100_000_000)), "member 'train/1.jpg' says it holds 100,000,000 bytes"),
    (_patched(24, struct.pack("<I", 4_000_000_000), "a.zip"), "member 'a.zip' says it holds 4,000,000,000"),
]


def test_a_zip_not_to_be_trusted_is_refused(
    tmp_path_factory: pytest.TempPathFactory, subtests: pytest.Subtests
) -> None:
    for spoil, message in UNTRUSTED:
        for is_nested in [False, True]:
            with subtests.test(message, is_nested=is_nested):
                folder = tmp_path_factory.mktemp("case")
                source = folder / "galaxies.zip"
                spoil(source)
                if is_nested:
                    source.write_bytes(zip_of({"galaxies.zip": source.read_bytes()}))
                result = pack(source, folder / "out")
                assert result.exit_code == 1
                assert message in result.stderr
                assert not (folder / "out").exists()


WITHOUT_IMAGES = [
    ((), "there is no such folder or zip"),
    (("source/",), "holds no file, nor does any archive in it"),
    (("source/readme.txt",), "no image among its 1 files"),
    (("source",), "neither a folder nor a .zip"),
]


def test_a_source_without_images_is_refused(
    tmp_path_factory: pytest.TempPathFactory, subtests: pytest.Subtests
) -> None:
    for names, message in WITHOUT_IMAGES:
        with subtests.test(names=names):
            folder = tmp_path_factory.mktemp("case")
            for name in names:
                path = folder / name
                path.parent.mkdir(exist_ok=True)
                path.mkdir() if name.endswith("/") else path.write_text("")
            result = pack(folder / "source", folder / "out")
            assert result.exit_code == 1
            assert str(folder / "source") in result.stderr
            assert message in result.stderr
            assert not (folder / "out").exists()


def test_damage_in_a_deflated_inner_zip_is_an_error(download: Download, tmp_path: Path) -> None:
    source = download.write_zip_of_zips(tmp_path / "outer.zip", zipfile.ZIP_DEFLATED)
    whole = bytearray(source.read_bytes())
    whole[2000:3000] = bytes(1000)
    source.write_bytes(whole)
    result = pack(source, tmp_path / "out")
    assert result.exit_code == 1
    assert "images_training_rev1.zip: " in result.stderr


def test_labels_that_are_none_are_refused(kaggle: Path, tmp_path: Path) -> None:
    (tmp_path / "images.zip").write_bytes(zip_of({"1.jpg": jpeg(1)}))
    for labels in ("missing.csv", "images.zip"):
        result = pack(kaggle, tmp_path / "out", "--labels", tmp_path / labels)
        assert (result.exit_code, labels in result.stderr) == (1, True), result.stderr


def test_a_zip_three_deep_is_ignored_and_listed(tmp_path: Path) -> None:
    deepest = zip_of({"1.jpg": jpeg(1)})
    source = tmp_path / "s.zip"
    source.write_bytes(zip_of({"a.zip": zip_of({"b.zip": deepest, "test/2.jpg": jpeg(2)})}))
    why = "an archive inside another, which is not opened; unpack the outer one and pack the folder"
    assert list(listed(source).ignored()) == [("s.zip/a.zip/b.zip", why)]


def test_a_zip_made_on_windows_is_read_as_folders(download: Download, packed: Path, tmp_path: Path) -> None:
    files = {name: data for each in download.files().values() for name, data in each.items()}
    source = tmp_path / "s.zip"
    with zipfile.ZipFile(source, "w") as file:
        for name, data in {**files, "images_training_rev1/": b""}.items():
            info = zipfile.ZipInfo()
            info.filename = name.replace("/", "\\")
            file.writestr(info, data)
    result = pack(source, tmp_path / "out")
    assert (result.exit_code, "ignored" in result.stderr) == (0, False), result.stderr
    assert contents(tmp_path / "out") == contents(packed)


def _split_zip(folder: Path) -> None:
    whole = bytearray(zip_of({"train/1.jpg": jpeg(1)}))
    at = whole.index(b"PK\x05\x06") + 4
    whole[at : at + 2] = b"\x03\x00"
    (folder / "s.zip").write_bytes(whole)


UNREAD = [
    ("s.z01", b"x", "s.z01: a part of a split archive; join the parts first"),
    ("s.zip.001", b"x", "s.zip.001: a part of a split archive"),
    (
        "s.tar.xz",
        lzma.compress(b"x"),
        "s.tar.xz: compressed in a way that is not read here; decompress it first: xz -d s.tar.xz",
    ),
    (
        "s.tar.bz2",
        b"BZh",
        "s.tar.bz2: compressed in a way that is not read here; decompress it first: bzip2 -d s.tar.bz2",
    ),
    (
        "s.fits.fz",
        b"x",
        "s.fits.fz: compressed in a way that is not read here; decompress it first: funpack s.fits.fz",
    ),
    ("s.7z", b"x", "s.7z: compressed in a way that is not read here; decompress it first: 7z x s.7z"),
    (
        "s.zip",
        zip_of({"a.tar": b"x", "b.txt": b""}),
        "s.zip/a.tar: an archive inside another, which is not op",
    ),
    ("s.zip", zip_of({"a.zip": zip_of({"b.zip": b"x"})}), "s.zip/a.zip/b.zip: an archive inside another"),
    ("s.zip", zip_of({"a.tar.xz": b"x"}), "s.zip/a.tar.xz: compressed in a way that is not read here"),
    ("s.zip", None, "s.zip: the last of 4 parts of a split zip; join the parts first (zip -s 0 "),
]


def test_an_archive_that_is_not_read_is_named_for_what_it_is(
    tmp_path_factory: pytest.TempPathFactory, subtests: pytest.Subtests
) -> None:
    for name, data, says in UNREAD:
        for is_source in [True, False]:
            with subtests.test(name=name, is_source=is_source):
                folder = tmp_path_factory.mktemp("case")
                (folder / "source").mkdir()
                if data is None:
                    _split_zip(folder / "source")
                else:
                    (folder / "source" / name).write_bytes(data)
                source = folder / "source" / name if is_source else folder / "source"
                result = pack(source, folder / "out")
                assert result.exit_code == 1
                assert says in result.stderr
                assert not (folder / "out").exists()


def test_images_that_need_an_option_are_told_of_the_command_that_has_it(tmp_path: Path) -> None:
    source = make(tmp_path / "s", "1.fits")
    with pytest.raises(SourceError, match="pack them with shard_tool pack --fits-range and give the shards"):
        make_plan(PackOptions(source=source, tree=load_tree("gz2-kaggle"), only_images=True))
    result = pack(source, tmp_path / "out")
    assert "pass --fits-range BLACK WHITE" in result.stderr
