"""`shard_tool lint` finds whatever is not as the manifest says, and names shard and sample."""

import io
import json
import shutil
import tarfile
from copy import deepcopy
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from kaggle_download import Download, jpeg, pack, run

from galaxy_zoo.files import sha256_of
from galaxy_zoo.index import index_path
from galaxy_zoo.manifest import read_manifest
from galaxy_zoo.tree import load_tree
from shard_tool.shards.writer import ShardWriter, encode_votes

SHARD = "train-000004.tar"


@pytest.fixture
def shards(packed: Path, tmp_path: Path) -> Path:
    """A packed folder to spoil."""
    return Path(shutil.copytree(packed, tmp_path / "shards"))


def samples_of(path: Path) -> list[tuple[str, bytes, bytes]]:
    """(id, JPEG, .npy) of each sample of a training shard."""
    with tarfile.open(path) as tar:
        members = {m.name: tar.extractfile(m).read() for m in tar}  # type: ignore[union-attr]
    ids = dict.fromkeys(name.split(".")[0] for name in members)
    return [(each, members[f"{each}.jpg"], members[f"{each}.votes.npy"]) for each in ids]


def write_consistently(folder: Path, samples: list[tuple[str, bytes, bytes]]) -> None:
    """Replace a shard, its index and its line of the manifest: every checksum fits."""
    path = folder / SHARD
    with path.open("wb") as file:
        writer = ShardWriter(file)
        for sample in samples:
            writer.add(*sample)
        writer.finish()
    index_path(path).write_text(writer.index)
    manifest = read_manifest(folder)
    index_sum = sha256(writer.index.encode()).hexdigest()
    train = tuple(
        replace(s, bytes=writer.num_bytes, sha256=writer.sha256, index_sha256=index_sum) if s.name == SHARD else s
        for s in manifest.splits["train"]
    )
    replace(manifest, splits={**manifest.splits, "train": train}).write(folder)


def test_good_shards_are_one_line_on_stdout(packed: Path) -> None:
    for options in (("--workers", 1), ("--workers", 2), ("--deep", "--workers", 1), ("--deep", "--workers", 2)):
        result = run("lint", packed, *options)
        assert result.exit_code == 0
        assert result.stdout == f"{packed}: good: 42 samples in 20 shards\n"


def _flip_byte(folder: Path) -> None:
    data = bytearray((folder / SHARD).read_bytes())
    data[700] ^= 1
    (folder / SHARD).write_bytes(data)


def _truncate(folder: Path) -> None:
    (folder / SHARD).write_bytes((folder / SHARD).read_bytes()[:3000])


def _zero_header(folder: Path) -> None:
    data = bytearray((folder / SHARD).read_bytes())
    offset = int(index_path(folder / SHARD).read_text().splitlines()[2].split()[1])
    data[offset - 512 : offset] = b"x" * 512
    (folder / SHARD).write_bytes(data)


def _shift_index(folder: Path) -> None:
    path = index_path(folder / SHARD)
    path.write_text(path.read_text().replace("jpg 512 ", "jpg 513 "))


def _cut_index(folder: Path) -> None:
    path = index_path(folder / SHARD)
    path.write_text(path.read_text().rsplit("\n", 2)[0] + "\n")


def _reject_one_more(folder: Path) -> None:
    with (folder / "rejected.csv").open("a") as file:
        file.write("train,5,5.jpg,mine\n")


SPOILED = [
    (_flip_byte, [f"{SHARD} changed since it was packed: its sha256 differs"]),
    (_truncate, [f"{SHARD} 3,000 bytes, the manifest says"]),
    (lambda folder: (folder / SHARD).unlink(), [f"{SHARD} missing"]),
    (lambda folder: index_path(folder / SHARD).unlink(), ["train-000004.idx missing"]),
    (_shift_index, ["train-000004.idx changed since it was packed"]),
    (_cut_index, ["train-000004.idx", "not a whole v1.2 index"]),
    (lambda folder: shutil.copy(folder / SHARD, folder / "train-000099.tar"), ["train-000099.tar not in the"]),
    (lambda folder: (folder / "rejected.csv").unlink(), ["rejected.csv missing or damaged"]),
    (_reject_one_more, ["rejected.csv 1 rows, the manifest says 0"]),
    (lambda folder: (folder / ".pack").mkdir(), [".pack the journal of an unfinished pack"]),
]


def test_a_spoiled_file_is_named(
    packed: Path, tmp_path_factory: pytest.TempPathFactory, subtests: pytest.Subtests
) -> None:
    for spoil, lines in SPOILED:
        with subtests.test(lines=lines):
            folder = tmp_path_factory.mktemp("case")
            shards = Path(shutil.copytree(packed, folder / "shards"))
            spoil(shards)
            for options in ((), ("--deep",)):
                result = run("lint", shards, *options, "--workers", 1)
                assert result.exit_code == 1
                assert f"failures in {shards}" in result.stderr
                assert [line for line in lines if line not in result.stdout] == []


DIFFER = [
    (_truncate, f"{SHARD} not a whole tar"),
    (_shift_index, "the index says"),
    (_zero_header, f"{SHARD} not a whole tar: neither a file nor the end of the tar at byte"),
]


def test_deep_says_where_a_tar_and_its_index_differ(
    packed: Path, tmp_path_factory: pytest.TempPathFactory, subtests: pytest.Subtests
) -> None:
    for spoil, says in DIFFER:
        with subtests.test(says):
            folder = tmp_path_factory.mktemp("case")
            shards = Path(shutil.copytree(packed, folder / "shards"))
            spoil(shards)
            assert says in run("lint", shards, "--deep", "--workers", 1).stdout


def test_fast_finds_what_no_checksum_shows(shards: Path) -> None:
    """Someone changed the index, and the manifest with it."""
    path = index_path(shards / SHARD)
    samples = path.read_text().replace("jpg 512 ", "jpg 999999 ").replace("votes.npy", "json").splitlines()
    path.write_text("\n".join([*samples[:-1], "png 512 10 7.png"]) + "\n")
    manifest = read_manifest(shards)
    train = tuple(
        replace(s, index_sha256=sha256_of(path)) if s.name == SHARD else s for s in manifest.splits["train"]
    )
    replace(manifest, splits={**manifest.splits, "train": train}).write(shards)
    result = run("lint", shards, "--workers", 1)
    assert result.exit_code == 1
    assert "ends after the shard" in result.stdout
    assert f"{SHARD} 7 does not hold one JPEG" in result.stdout


VOTES = encode_votes(np.zeros(37, np.float32))


BAD_SAMPLES = [
    (jpeg(1)[:-20], None, "damaged JPEG: Premature end"),
    (jpeg(1, size=48), None, "48 x 48 pixels, the others have 64 x 64"),
    (jpeg(1, colour_space="GRAY"), None, "not a colour JPEG"),
    (None, encode_votes(np.zeros(10, np.float32)), "shape (10,); tree 'gz2-kaggle' needs float32"),
    (None, b"garbage", "its votes are not a .npy file"),
    (None, encode_votes(np.full(37, 2, np.float32)), "vote Class1.1 is 2, outside [0, 1]"),
    (None, VOTES, "the votes break the tree: question 'smooth or disk': answers sum to 0, expected 1"),
]


def test_a_bad_sample_is_found_behind_good_checksums(
    packed: Path, tmp_path_factory: pytest.TempPathFactory, subtests: pytest.Subtests
) -> None:
    for image, votes, reason in BAD_SAMPLES:
        with subtests.test(reason):
            folder = tmp_path_factory.mktemp("case")
            shards = Path(shutil.copytree(packed, folder / "shards"))
            first, *others = samples_of(shards / SHARD)
            write_consistently(shards, [(first[0], image or first[1], votes or first[2]), *others])
            result = run("lint", shards, "--deep", "--workers", 1)
            assert result.exit_code == 1
            assert f"{SHARD} {first[0]} " in result.stdout
            assert reason in result.stdout


def test_an_id_in_two_shards_and_twice_in_one_are_found(shards: Path) -> None:
    [stranger, *_] = samples_of(shards / "train-000001.tar")
    first, *others = samples_of(shards / SHARD)
    write_consistently(shards, [stranger, *others])
    result = run("lint", shards, "--deep", "--workers", 1)
    assert f"{SHARD} {stranger[0]} the id is also in train-000001.tar" in result.stdout
    write_consistently(shards, [first, *others[:-1], first])
    assert f"{SHARD} 1 ids occur more than once" in run("lint", shards, "--deep", "--workers", 1).stdout


def test_a_lost_sample_is_found(shards: Path) -> None:
    write_consistently(shards, samples_of(shards / SHARD)[1:])
    assert "train-000004.idx 2 samples, the manifest says 3" in run("lint", shards, "--workers", 1).stdout
    result = run("lint", shards, "--deep", "--workers", 1)
    assert f"{SHARD} 2 samples, the manifest says 3" in result.stdout


def test_a_manifest_of_another_tree_fails_every_sample(shards: Path) -> None:
    manifest = read_manifest(shards)
    tree = load_tree("galaxy10")
    replace(manifest, tree=tree, vote_mean=(0.1,) * len(tree.columns), statistics=None).write(shards)
    result = run("lint", shards, "--deep", "--workers", 1)
    assert result.exit_code == 1
    assert result.stdout.count("tree 'galaxy10' needs float32 of shape (10,)") == 30


def test_a_set_that_lists_a_shard_twice_is_refused(shards: Path, subtests: pytest.Subtests) -> None:
    manifest = json.loads((shards / "manifest.json").read_text())
    del manifest["set_sha256"], manifest["own_sha256"]
    manifest["splits"]["train"].append(manifest["splits"]["train"][3])
    (shards / "manifest.json").write_text(json.dumps(manifest))
    for command, *options in (("lint",), ("lint", "--deep"), ("info",), ("duplicates",)):
        with subtests.test(command=command, options=options):
            result = run(command, shards, *options)
            assert (result.exit_code, "its galaxies would count twice" in result.stderr) == (1, True)


def test_a_folder_without_a_good_manifest_is_refused(shards: Path, tmp_path: Path) -> None:
    (shards / "manifest.json").write_text("{")
    for command in ("lint", "info"):
        damaged = run(command, shards)
        assert (damaged.exit_code, "damaged" in damaged.stderr) == (1, True)
        nowhere = run(command, tmp_path / "nowhere")
        assert (nowhere.exit_code, "not a finished folder of shards" in nowhere.stderr) == (1, True)


def test_a_manifest_of_far_too_many_samples_keeps_nobody_busy(shards: Path, subtests: pytest.Subtests) -> None:
    manifest = json.loads((shards / "manifest.json").read_text())
    manifest["splits"]["train"][0]["samples"] = 10**12
    (shards / "manifest.json").write_text(json.dumps(manifest))
    for command, *options in (("lint",), ("lint", "--deep"), ("duplicates",)):
        with subtests.test(command=command, options=options):
            result = run(command, shards, *options, "--workers", 1)
            assert (result.exit_code, "train-000000" in result.output) == (1, True)


def test_info_shows_what_the_manifest_holds(packed: Path) -> None:
    result = run("info", packed)
    assert result.exit_code == 0
    manifest = json.loads((packed / "manifest.json").read_text())
    for words in ("30", "12", "64 x 64 pixels", "gz2-kaggle (37 answers)", "seed", "smooth or disk: smooth 0."):
        assert words in result.stdout
    assert f"sha256 of all   {manifest['set_sha256']}" in result.stdout
    assert "5 folds         6 to 6 samples held out\n10 folds        3 to 3 samples" in result.stdout
    shown = json.loads(run("info", packed, "--json").stdout)
    derived = shown.pop("derived")
    assert shown == manifest
    assert derived["samples"] == {"train": 30, "test": 12}
    assert derived["folds"] == {"5": [6] * 5, "10": [3] * 10}


def test_info_counts_bytes_and_missing_votes(whole_download: Download, tmp_path: Path) -> None:
    download = deepcopy(whole_download)
    download.rows[3][4:7] = ["", "", ""]
    source = download.write_folder(tmp_path / "in")
    assert pack(source, tmp_path / "out", "--missing-votes", "--shards", 3).exit_code == 0
    sizes = [len(data) for data in (*download.train.values(), *download.test.values())]
    shown = run("info", tmp_path / "out").stdout
    assert "missing votes   3 of 1,110 (30 labelled samples x 37 answers)\n" in shown
    assert f"image bytes     {min(sizes):,} to {max(sizes):,}, mean {sum(sizes) / 42:,.0f}\n" in shown
    assert "folds" not in shown  # of 3 shards there are not even 5
    derived = json.loads(run("info", tmp_path / "out", "--json").stdout)["derived"]
    assert (derived["missing_votes"], derived["image_bytes_mean"]) == (3, sum(sizes) / 42)


def test_a_manifest_of_an_older_version_is_shown_too(shards: Path) -> None:
    data = json.loads((shards / "manifest.json").read_text())
    for key in ("statistics", "set_sha256", "is_foreign"):
        del data[key]
    (shards / "manifest.json").write_text(json.dumps(data))
    result = run("info", shards)
    assert result.exit_code == 0
    assert "missing votes" not in result.stdout
    assert json.loads(run("info", shards, "--json").stdout)["derived"]["missing_votes"] is None


def test_a_votes_file_of_numpy_itself_is_understood() -> None:
    file = io.BytesIO()
    np.save(file, np.zeros(37, np.float32))
    assert file.getvalue() == VOTES


def test_what_lies_in_the_place_of_a_shard_is_said(shards: Path) -> None:
    tar = next(shards.glob("*.tar"))
    tar.unlink()
    tar.mkdir()
    result = run("lint", shards)
    assert result.exit_code == 1
    [line] = [line for line in result.output.splitlines() if tar.name in line]
    assert line.endswith("a folder, not a file")
