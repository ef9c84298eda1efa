"""Tars and gzipped tars as sources: read in place, and refused where they are not to be trusted."""

import bz2
import gzip
import io
import lzma
import os
import re
import tarfile
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kaggle_download import Download, contents, jpeg, pack, zip_of
from pytest import MonkeyPatch

from galaxy_zoo.errors import InputError, SourceError
from shard_tool.source.archives import open_archive
from shard_tool.source.files import walk

FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}


def tar_of(files: dict[str, bytes], *, form: int = tarfile.GNU_FORMAT) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", format=form) as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return data.getvalue()


def special(kind: bytes) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        info = tarfile.TarInfo("train/1.jpg")
        info.type, info.linkname = kind, "/etc/passwd"
        tar.addfile(info)
    return data.getvalue()


def whole_tar(download: Download, prefix: str = "") -> dict[str, bytes]:
    return {prefix + name: data for files in download.files().values() for name, data in files.items()}


def test_a_tar_packs_to_the_bytes_of_a_folder(
    packed: Path, whole_download: Download, tmp_path_factory: pytest.TempPathFactory, subtests: pytest.Subtests
) -> None:
    for suffix in [".tar", ".tar.gz", ".tgz"]:
        for name, form in FORMATS.items():
            with subtests.test(suffix=suffix, form=name):
                folder = tmp_path_factory.mktemp("case")
                data = tar_of(whole_tar(whole_download, "./" + "deep/" * 30), form=form)
                source = folder / f"galaxies{suffix}"
                source.write_bytes(data if suffix == ".tar" else gzip.compress(data))
                result = pack(source, folder / "out", "--workers", 3 if suffix == ".tgz" else 1)
                assert result.exit_code == 0, result.stderr
                assert contents(folder / "out") == contents(packed)


def test_tars_in_a_folder_are_opened_and_tars_in_zips_listed(
    packed: Path, whole_download: Download, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for name, files in whole_download.files().items():
        (source / f"{name}.tar").write_bytes(tar_of({Path(file).name: data for file, data in files.items()}))
    (source / "more.zip").write_bytes(zip_of({"more.tar": tar_of({"train/5.jpg": jpeg(5)})}))
    result = pack(source, tmp_path / "out")
    assert result.exit_code == 0, result.stderr
    assert "ignored: more.zip/more.tar: an archive inside another, which is not opened" in result.stderr
    assert contents(tmp_path / "out") == contents(packed)


def test_nothing_of_a_tar_is_written_to_the_disk(
    whole_download: Download, tmp_path: Path, monkeypatch: MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "none"))
    source = tmp_path / "galaxies.tar.gz"
    source.write_bytes(gzip.compress(tar_of(whole_tar(whole_download))))
    assert pack(source, tmp_path / "out").exit_code == 0
    assert {path.name for path in tmp_path.iterdir()} == {"galaxies.tar.gz", "out"}


def test_every_optional_field_of_a_gzip_header_is_skipped(tmp_path: Path) -> None:
    plain = gzip.compress(tar_of({"test/1.jpg": jpeg(1)}))
    fields = b"\x04\x00abcd" + b"name\0" + b"a comment\0" + b"\x00\x00"
    (tmp_path / "a.tar.gz").write_bytes(plain[:3] + bytes([4 + 8 + 16 + 2]) + plain[4:10] + fields + plain[10:])
    [file] = walk(tmp_path / "a.tar.gz")
    assert (file.shown, file.read()) == ("a.tar.gz/test/1.jpg", jpeg(1))


GOOD = tar_of({"train/1.jpg": jpeg(1), "train/2.jpg": jpeg(2)})


def _with_damaged_header() -> bytes:
    at = GOOD.index(b"train/2.jpg")
    return GOOD[:at] + b"XX" + GOOD[at + 2 :]


def _header_of(kind: bytes, size: int) -> bytes:
    """A tar whose only header promises more than there is."""
    info = tarfile.TarInfo("x")
    info.type, info.size = kind, size
    return info.tobuf(tarfile.USTAR_FORMAT) + bytes(10_000)


UNTRUSTED = [
    (tar_of({"../../evil.jpg": b"x"}), "member '../../evil.jpg' leads out of the archive"),
    (tar_of({"/etc/passwd.jpg": b"x"}), "member '/etc/passwd.jpg' leads out of the archive"),
    (tar_of({"a\\..\\..\\evil.jpg": b"x"}), "leads out of the archive"),
    (special(tarfile.SYMTYPE), "member 'train/1.jpg' is a link"),
    (special(tarfile.LNKTYPE), "member 'train/1.jpg' is a link"),
    (special(tarfile.CHRTYPE), "member 'train/1.jpg' is no plain file"),
    (special(tarfile.FIFOTYPE), "member 'train/1.jpg' is no plain file"),
    (_header_of(tarfile.REGTYPE, 65 * 2**20), "member 'x' says it holds 68,157,440 bytes"),
    (b"", "not a whole tar"),
    (b"no tar at all" * 100, "not a whole tar"),
    (GOOD[:700], "member 'train/1.jpg' ends after the end of the tar"),
    (GOOD[: GOOD.index(b"train/2.jpg")], "neither a file nor its end at byte"),
    (GOOD[: GOOD.index(b"train/2.jpg") + 100], "not a whole tar"),
    (_with_damaged_header(), "neither a file nor its end at byte"),
    (GOOD + GOOD, "neither a file nor its end at byte"),
    (_header_of(tarfile.XHDTYPE, 10**9), "a header of 1000000"),
    (_header_of(tarfile.GNUTYPE_LONGNAME, 10**9), "a header of 1000000"),
]


def test_a_tar_not_to_be_trusted_is_refused(
    tmp_path_factory: pytest.TempPathFactory, subtests: pytest.Subtests
) -> None:
    for data, message in UNTRUSTED:
        for is_gzipped in [False, True]:
            with subtests.test(message, is_gzipped=is_gzipped):
                folder = tmp_path_factory.mktemp("case")
                source = folder / ("galaxies.tar.gz" if is_gzipped else "galaxies.tar")
                source.write_bytes(gzip.compress(data) if is_gzipped else data)
                result = pack(source, folder / "out")
                assert result.exit_code == 1
                assert message in result.stderr
                assert str(source) in result.stderr
                assert not (folder / "out").exists()


WHOLE = gzip.compress(GOOD)


UNTRUSTED_GZIPS = [
    (b"", "not a whole tar"),
    (b"\x1f\x8b\x08\x08" + bytes(6) + b"n" * 70_000, "its gzip header does not end"),
    (WHOLE[:-12], "ends too early"),
    (WHOLE[:-4], "its gzip checksum differs"),
    (WHOLE[:-8] + b"xxxx" + WHOLE[-4:], "its gzip checksum differs"),
    (WHOLE + WHOLE, "several gzip streams"),
    (WHOLE[:20] + b"\xff" * 50 + WHOLE[70:], "damaged gzip data"),
    (gzip.compress(bytes(10**8)), "inflates to more than 200 times its size"),
]


def test_a_gzip_not_to_be_trusted_is_refused(
    tmp_path_factory: pytest.TempPathFactory, subtests: pytest.Subtests
) -> None:
    for data, message in UNTRUSTED_GZIPS:
        with subtests.test(message):
            folder = tmp_path_factory.mktemp("case")
            source = folder / "galaxies.tar.gz"
            source.write_bytes(data)
            result = pack(source, folder / "out")
            assert result.exit_code == 1
            assert message in result.stderr
            assert not (folder / "out").exists()


def test_the_bytes_of_a_tar_say_whether_it_is_gzipped(tmp_path: Path, subtests: pytest.Subtests) -> None:
    for name, data in (("a.tar", WHOLE), ("a.tar.gz", GOOD), ("a.tgz", GOOD)):
        with subtests.test(name):
            (tmp_path / name).write_bytes(data)
            files = [(file.name, file.read()) for file in walk(tmp_path / name)]
            assert files == [("1.jpg", jpeg(1)), ("2.jpg", jpeg(2))]


OTHERWISE_COMPRESSED = {
    "xz": lzma.compress(GOOD),
    "bzip2": bz2.compress(GOOD),
    "zstd": b"\x28\xb5\x2f\xfd" + bytes(99),
}


def test_a_tar_compressed_in_another_way_is_named_with_the_command_that_helps(
    tmp_path: Path, subtests: pytest.Subtests
) -> None:
    for program, data in OTHERWISE_COMPRESSED.items():
        for name in ("a tar.tar", "a tar.tar.gz"):
            folder = tmp_path / program / Path(name).suffix
            folder.mkdir(parents=True)
            (folder / name).write_bytes(data)
            for source in (folder, folder / name):
                with subtests.test(program=program, source=source.name):
                    result = pack(source, tmp_path / "out")
                    says = (
                        f"{name}: compressed by {program}; decompress it first: {program} -d < '{name}' > new.tar"
                    )
                    assert (result.exit_code, says in result.stderr) == (1, True), result.stderr


NOT_WHAT_THEY_ARE_CALLED = [
    ("a.tar", zip_of({"train/1.jpg": jpeg(1)}), "a.tar: not a tar: it is a zip; name it for what it is"),
    ("a.tar.gz", b"<html>not found</html>" * 99, "a.tar.gz: not a tar: it is a web page or XML;"),
    ("a.zip", WHOLE, "a.zip: not a zip: it is compressed by gzip;"),
    ("a.zip", b"<html>not found</html>" * 99, "a.zip: not a zip: it is a web page or XML;"),
    ("a.zip", zip_of({"train/1.jpg": jpeg(1)})[:-30], "a.zip: not a whole zip file"),
]


def test_an_archive_that_is_something_else_is_named_for_what_it_is(
    tmp_path: Path, subtests: pytest.Subtests
) -> None:
    for name, data, says in NOT_WHAT_THEY_ARE_CALLED:
        with subtests.test(says):
            (tmp_path / name).write_bytes(data)
            with pytest.raises(SourceError, match=re.escape(says)):
                list(walk(tmp_path / name))


def test_a_tar_that_changes_after_it_was_listed_is_noticed(tmp_path: Path) -> None:
    source = tmp_path / "a.tar"
    source.write_bytes(tar_of({"test/1.jpg": jpeg(1), "test/2.jpg": jpeg(2)}))
    files = list(walk(source))
    assert [file.read() for file in files] == [jpeg(1), jpeg(2)]
    source.write_bytes(tar_of({"test/3.jpg": jpeg(3), "test/4.jpg": jpeg(4)}) + bytes(10_240))
    open_archive.cache_clear()  # as in a worker that opens it later
    with pytest.raises(SourceError, match="has changed since it was listed"):
        files[0].read()


def test_a_tar_that_is_cut_while_it_is_read_is_not_taken_for_damaged_images(tmp_path: Path) -> None:
    source = tmp_path / "a.tar"
    source.write_bytes(tar_of({"test/1.jpg": jpeg(1), "test/2.jpg": jpeg(2)}))
    first, second = walk(source)
    assert first.read() == jpeg(1)
    os.truncate(source, 1024)
    with pytest.raises(SourceError, match="has changed since it was listed"):
        second.read()


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    changes=st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.binary(min_size=1, max_size=12)), max_size=4),
    length=st.integers(0, len(GOOD)) | st.just(len(GOOD)),
    is_gzipped=st.booleans(),
)
def test_whatever_the_bytes_a_tar_is_listed_and_read_or_refused(
    changes: list[tuple[int, bytes]], length: int, is_gzipped: bool, tmp_path: Path
) -> None:
    data = bytearray(GOOD[:length])
    for at, value in changes:
        data[at : at + len(value)] = value
    source = tmp_path / ("a.tar.gz" if is_gzipped else "a.tar")
    source.write_bytes(gzip.compress(data, 1) if is_gzipped else data)
    with suppress(InputError):
        for file in walk(source):
            assert len(file.read()) == file.num_bytes
