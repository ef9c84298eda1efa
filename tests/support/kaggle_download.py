"""A tiny Kaggle download, in every layout it comes in, for the tests of `shard_tool`."""

import csv
import io
import tarfile
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import simplejpeg
from click.testing import CliRunner, Result

from galaxy_zoo.tree import DecisionTree, load_tree
from galaxy_zoo.votes import normalise_votes
from shard_tool.cli import main

SIZE_PX = 64
TRAIN_FOLDER, TEST_FOLDER, TABLE = "images_training_rev1", "images_test_rev1", "training_solutions_rev1"


def jpeg(seed: int, *, size: int = SIZE_PX, colour_space: str = "RGB") -> bytes:
    """A JPEG of noise, about 3 kB."""
    channels = {"GRAY": 1, "CMYK": 4}.get(colour_space, 3)
    pixels = np.random.default_rng(seed).integers(0, 256, (size, size, channels), np.uint8)
    subsampling = "444" if colour_space == "CMYK" else "420"
    return simplejpeg.encode_jpeg(pixels, 60, colour_space, subsampling)


def votes_of(seed: int, tree: DecisionTree) -> list[str]:
    """A row of votes that obeys the tree."""
    votes = np.random.default_rng(seed).random((1, len(tree.columns)))
    return [f"{vote:.9f}" for vote in normalise_votes(votes, tree)[0]]


@dataclass
class Download:
    """Images by id, and the rows of the table of votes."""

    train: dict[str, bytes]
    test: dict[str, bytes]
    rows: list[list[str]] = field(default_factory=list)

    def table(self) -> str:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(self.rows)
        return text.getvalue()

    def votes(self) -> dict[str, np.ndarray]:
        return {row[0]: np.array([float(vote) for vote in row[1:]], np.float32) for row in self.rows[1:]}

    def files(self) -> dict[str, dict[str, bytes]]:
        """Contents of the three zips: name of the zip without suffix -> name -> bytes."""
        return {
            TRAIN_FOLDER: {f"{TRAIN_FOLDER}/{name}.jpg": data for name, data in self.train.items()},
            TEST_FOLDER: {f"{TEST_FOLDER}/{name}.jpg": data for name, data in self.test.items()},
            TABLE: {f"{TABLE}.csv": self.table().encode()},
        }

    def write_folder(self, folder: Path) -> Path:
        for files in self.files().values():
            for name, data in files.items():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_bytes(data)
        return folder

    def write_zips(self, folder: Path) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        for name, files in self.files().items():
            (folder / f"{name}.zip").write_bytes(zip_of(files))
        return folder

    def write_zip_of_zips(self, path: Path, method: int) -> Path:
        path.write_bytes(zip_of({f"{name}.zip": zip_of(files) for name, files in self.files().items()}, method))
        return path

    def write_own_folders(self, folder: Path) -> Path:
        """`<name>/<name>.csv` and `images_train_rev1/`, as other people have unpacked it."""
        for name, files in self.files().items():
            own = folder / name.replace("training_rev1", "train_rev1")
            own.mkdir(parents=True)
            for file, data in files.items():
                (own / Path(file).name).write_bytes(data)
        return folder

    def write_one_zip(self, path: Path) -> Path:
        path.write_bytes(zip_of({name: data for files in self.files().values() for name, data in files.items()}))
        return path


def make_download(train: int = 30, test: int = 12) -> Download:
    tree = load_tree("gz2-kaggle")
    ids = [str(100008 + 7 * i) for i in range(train)]
    rows = [[tree.id_column, *tree.columns], *([each, *votes_of(int(each), tree)] for each in ids)]
    test_ids = [str(200018 + 3 * i) for i in range(test)]
    return Download({i: jpeg(int(i)) for i in ids}, {i: jpeg(int(i)) for i in test_ids}, rows)


def write_slow_source(folder: Path, num_images: int) -> Path:
    """Many links to one JPEG that takes a few milliseconds: packing takes seconds, making it does not."""
    images = folder / TEST_FOLDER
    images.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (424, 424, 3), np.uint8)
    (images / "0.jpg").write_bytes(simplejpeg.encode_jpeg(pixels, 30))
    for number in range(1, num_images):
        (images / f"{number}.jpg").hardlink_to(images / "0.jpg")
    return folder


def zip_of(files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", method) as file:
        for name, content in files.items():
            file.writestr(name, content)
    return data.getvalue()


def run(*arguments: object) -> Result:
    """Run `shard_tool` in this process; a traceback fails the test."""
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert "Traceback" not in result.stderr
    return result


def pack(source: Path, out: Path, *options: object) -> Result:
    return run("pack", source, out, *(() if "--workers" in options else ("--workers", 1)), *options)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a folder; what two packs are compared by."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def packed_samples(out: Path, split: str) -> dict[str, dict[str, bytes]]:
    """Id -> extension -> bytes of all samples of a split, in the order of the shards."""
    samples: dict[str, dict[str, bytes]] = {}
    for path in sorted(out.glob(f"{split}-*.tar")):
        with tarfile.open(path) as tar:
            for member in tar:
                key, _, extension = member.name.partition(".")
                opened = tar.extractfile(member)
                assert opened is not None
                assert extension not in samples.setdefault(key, {})
                samples[key][extension] = opened.read()
    return samples


def rejected(out: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((out / "rejected.csv").read_text().splitlines()))
