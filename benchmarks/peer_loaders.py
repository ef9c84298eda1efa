"""The contenders of `benchmarks.peers`: a function for each loader, ours and others, that does the same work.

    python -m benchmarks.peer_loaders NAME SHARDS FOLDER --threads 2

`peers` starts each in its own process, in an environment with the packages it needs, and asks it for epochs on its
standard input. Each delivers float32 batches of shape (128, 3, 128, 128), shuffled, from the same JPEGs: turned by a
random angle with bilinear interpolation, the central 256 px reduced to 128 px with antialiasing, half of them mirrored,
normalised. FOLDER holds the JPEGs as files; formats that need other files pack them there, untimed.

Turning the central 364 px gives the same view as turning all 424 px, so all crop first except `torchvision`, which
follows the published systems.
"""

import argparse
import io
import json
import math
import os
import random
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as F

BATCH_SIZE = 128
TURNED_PX, CROP_PX, SIZE_PX = 364, 256, 128
MEAN = STD = (0.5, 0.5, 0.5)
SHARD_BYTES = 64 * 2**20

Levels = NDArray[np.float32]


@dataclass(frozen=True)
class Work:
    """What to load. folder: holds `files/`, the JPEGs of the training shards in order, and files of other formats."""

    shards: Path
    folder: Path
    threads: int

    @property
    def files(self) -> list[Path]:
        """JPEGs, in the order of the shards."""
        return sorted((self.folder / "files").iterdir())


@dataclass(frozen=True)
class Contender:
    """A loader.

    epoch: returns the batches of an epoch.
    views: returns the first JPEGs turned by given angles in degrees, in grey levels, shape (angles, 128, 128, 3).
    packages: packages whose versions affect the speed.
    """

    epoch: Callable[[], Iterable[Tensor]]
    views: Callable[[list[float]], Levels]
    packages: tuple[str, ...]


def turned(image: Any, angle: float, *, cut_first: bool = True) -> Any:
    """Return the view of a PIL image or of a uint8 tensor, as torchvision makes it."""
    if cut_first:
        image = F.center_crop(image, [TURNED_PX])
    image = F.rotate(image, angle, InterpolationMode.BILINEAR)
    return F.resize(F.center_crop(image, [CROP_PX]), [SIZE_PX], antialias=True)


def finished(view: Any) -> Tensor:
    """Return a view as a normalised tensor, mirrored at random."""
    if random.random() < 0.5:
        view = F.hflip(view)
    normalised: Tensor = F.normalize(F.to_tensor(view), MEAN, STD)
    return normalised


def random_view(jpeg: bytes, *, cut_first: bool = True) -> Tensor:
    """Return a view of a JPEG by PIL and torchvision."""
    with Image.open(io.BytesIO(jpeg)) as image:
        return finished(turned(image.convert("RGB"), random.uniform(0, 360), cut_first=cut_first))


def views_by_pil(work: Work) -> Callable[[list[float]], Levels]:
    """Return a function for `Contender.views`."""

    def views(angles: list[float]) -> Levels:
        images = [Image.open(path).convert("RGB") for path in work.files[: len(angles)]]
        return np.stack([np.asarray(turned(i, a), np.float32) for i, a in zip(images, angles, strict=True)])

    return views


class Files(Dataset[Tensor]):
    """JPEG files."""

    def __init__(self, work: Work, *, cut_first: bool) -> None:
        self._paths, self._cut_first = work.files, cut_first

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> Tensor:
        return random_view(self._paths[index].read_bytes(), cut_first=self._cut_first)


def torchvision(work: Work, *, cut_first: bool = False) -> Contender:
    """Load with a DataLoader over files, PIL and torchvision, as the published systems did."""
    loader = DataLoader(Files(work, cut_first=cut_first), BATCH_SIZE, shuffle=True, **workers(work))
    return Contender(lambda: loader, views_by_pil(work), ("torch", "torchvision", "pillow"))


def torchvision_cut(work: Work) -> Contender:
    """Load like `torchvision`, but crop before turning."""
    return torchvision(work, cut_first=True)


def workers(work: Work) -> dict[str, Any]:
    """Return the options of every DataLoader."""
    return {"num_workers": work.threads, "persistent_workers": True}


def webdataset(work: Work) -> Contender:
    """Load with webdataset from the same shards as ours; workers make the batches, as its documentation advises."""
    import webdataset as wds  # noqa: PLC0415

    shards = [str(path) for path in sorted(work.shards.glob("train-*.tar"))]
    samples = wds.WebDataset(shards, shardshuffle=len(shards), empty_check=False).shuffle(1000)
    batches = samples.map(view_of_sample).batched(BATCH_SIZE, collation_fn=torch.stack)
    loader = wds.WebLoader(batches, batch_size=None, **workers(work))
    return Contender(lambda: loader, views_by_pil(work), ("webdataset", "torchvision", "pillow"))


def view_of_sample(sample: dict[str, Any]) -> Tensor:
    """Return a view of a sample of webdataset."""
    return random_view(sample["jpg"])


def litdata(work: Work) -> Contender:
    """Load with LitData's chunks and its own DataLoader."""
    import litdata as ld  # noqa: PLC0415

    out = work.folder / "litdata"
    if not out.exists():
        paths = [str(path) for path in work.files]
        ld.optimize(read, paths, str(out), chunk_bytes=SHARD_BYTES, num_workers=work.threads)
    chunks = ld.StreamingDataset(str(out), shuffle=True, transform=random_view)
    loader = ld.StreamingDataLoader(chunks, batch_size=BATCH_SIZE, **workers(work))
    return Contender(lambda: loader, views_by_pil(work), ("litdata", "torchvision", "pillow"))


def read(path: str) -> bytes:
    """Return the bytes of a file."""
    return Path(path).read_bytes()


def mosaic(work: Work) -> Contender:
    """Load Mosaic Streaming's MDS shards with a DataLoader."""
    import streaming  # noqa: PLC0415

    class Shards(streaming.StreamingDataset):  # type: ignore[misc]
        def __getitem__(self, at: Any) -> Tensor:
            return random_view(super().__getitem__(at)["image"])

    out = work.folder / "mosaic"
    if not out.exists():
        with streaming.MDSWriter(out=str(out), columns={"image": "bytes"}, size_limit=SHARD_BYTES) as writer:
            for path in work.files:
                writer.write({"image": path.read_bytes()})
    shards = Shards(local=str(out), shuffle=True, batch_size=BATCH_SIZE)
    loader: DataLoader[Tensor] = DataLoader(shards, BATCH_SIZE, **workers(work))
    return Contender(lambda: loader, views_by_pil(work), ("mosaicml-streaming", "torchvision", "pillow"))


def spdl(work: Work) -> Contender:
    """Load with SPDL's threads around FFmpeg, which decodes, turns, crops and reduces an image in one filter graph."""
    import spdl.io  # noqa: PLC0415
    from spdl.pipeline import PipelineBuilder  # noqa: PLC0415

    scale, offset = torch.tensor(1 / (255 * STD[0])), torch.tensor(-MEAN[0] / STD[0])

    def view(path: Path, angle: float, *, flip: bool) -> NDArray[np.uint8]:
        side = f"ow={CROP_PX}:oh={CROP_PX}:bilinear=1"
        graph = f"rotate={math.radians(angle)}:{side},scale={SIZE_PX}:{SIZE_PX}:flags=area"
        graph += ",hflip,format=rgb24" if flip else ",format=rgb24"
        pixels: NDArray[np.uint8] = spdl.io.to_numpy(spdl.io.load_image(str(path), filter_desc=graph))
        return pixels

    def one(path: Path) -> NDArray[np.uint8]:
        return view(path, random.uniform(0, 360), flip=random.random() < 0.5)

    def batch(images: list[NDArray[np.uint8]]) -> Tensor:
        return torch.from_numpy(np.stack(images)).float().mul_(scale).add_(offset).permute(0, 3, 1, 2)

    def epoch() -> Iterator[Tensor]:
        paths = random.sample(work.files, len(work.files))
        builder = PipelineBuilder().add_source(paths).pipe(one, concurrency=work.threads)
        pipeline = builder.aggregate(BATCH_SIZE).pipe(batch).add_sink(2).build(num_threads=work.threads)
        with pipeline.auto_stop():
            yield from pipeline

    def views(angles: list[float]) -> Levels:
        some = [view(path, a, flip=False) for path, a in zip(work.files[: len(angles)], angles, strict=True)]
        return np.stack(some).astype(np.float32)

    return Contender(epoch, views, ("spdl",))


def ffcv(work: Work) -> Contender:
    """Load with FFCV and our own rotation, since it has none: a Numba kernel, as its documentation shows.

    FFCV does not store the JPEGs it is given but encodes them again, here at quality 95.
    """
    from ffcv.fields import RGBImageField  # noqa: PLC0415
    from ffcv.fields.rgb_image import SimpleRGBImageDecoder  # noqa: PLC0415
    from ffcv.loader import Loader, OrderOption  # noqa: PLC0415
    from ffcv.transforms import NormalizeImage, RandomHorizontalFlip, ToTensor, ToTorchImage  # noqa: PLC0415
    from ffcv.writer import DatasetWriter  # noqa: PLC0415

    from benchmarks.peer_ffcv import Turn  # noqa: PLC0415

    path = work.folder / "ffcv.beton"
    if not path.exists():
        fields = {"image": RGBImageField(write_mode="jpg", jpeg_quality=95)}
        DatasetWriter(str(path), fields, num_workers=work.threads).from_indexed_dataset(Images(work))
    levels = [255 * np.array(each) for each in (MEAN, STD)]
    finish = [NormalizeImage(*levels, np.float32), ToTensor(), ToTorchImage(convert_back_int16=False)]

    def load(order: Any, **pipelines: Any) -> Any:
        options = {"num_workers": work.threads, "os_cache": True, "drop_last": False}
        return Loader(str(path), BATCH_SIZE, order=order, pipelines=pipelines, **options)

    loader = load(OrderOption.RANDOM, image=[SimpleRGBImageDecoder(), Turn(), RandomHorizontalFlip(), *finish])

    def views(angles: list[float]) -> Levels:
        plain = [SimpleRGBImageDecoder(), Turn(angles), ToTensor()]
        parts = [images.numpy().copy() for (images,) in load(OrderOption.SEQUENTIAL, image=plain)]
        return np.concatenate(parts)[: len(angles)].astype(np.float32)

    return Contender(lambda: (images for (images,) in loader), views, ("ffcv", "numba"))


class Images(Dataset[Any]):
    """The JPEG files, each as a tuple with a PIL image, as FFCV's writer takes them."""

    def __init__(self, work: Work) -> None:
        self._paths = work.files

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> tuple[Image.Image]:
        return (Image.open(self._paths[index]).convert("RGB"),)


def ours(work: Work, **options: Any) -> Contender:
    """Load with this project's loader from the shards. options: fields of `Decoding`."""
    from benchmarks.warp_error import TurnedViews  # noqa: PLC0415
    from galaxy_zoo.view import View  # noqa: PLC0415
    from pipeline.augment import RandomViews  # noqa: PLC0415
    from pipeline.loader import Decoding, Loader, Sampling  # noqa: PLC0415
    from pipeline.shards import open_shards  # noqa: PLC0415

    view = View(crop_px=CROP_PX, size_px=SIZE_PX, rotation_deg=180, flip=True, mean=MEAN, std=STD)
    samples = open_shards(work.shards, "train")
    decoding = Decoding(num_threads=work.threads, **options)
    loader = Loader(samples, RandomViews(view, (0,)), Sampling(batch_size=BATCH_SIZE), decoding)
    epochs = iter(range(2**31))

    def views(angles: list[float]) -> Levels:
        chosen = TurnedViews(view, tuple(angles))
        with Loader(samples, chosen, Sampling(batch_size=len(angles), shuffle=False), decoding) as plain:
            images = next(iter(plain.epoch(0))).views[0]
        return np.asarray(images.permute(0, 2, 3, 1).numpy() * 127.5 + 127.5, np.float32)

    def epoch() -> Iterator[Tensor]:
        return (batch.views[0] for batch in loader.epoch(next(epochs)))

    return Contender(epoch, views, ("nvidia-dali-cuda120", "opencv-python-headless", "torch"))


def ours_dali(work: Work) -> Contender:
    """Load like `ours` with DALI's whole graph on its CPU backend."""
    return ours(work, backend="dali")


def ours_resident(work: Work) -> Contender:
    """Load like `ours` from resident stamps, which the first epoch keeps."""
    from pipeline.stamps import StampPolicy  # noqa: PLC0415

    return ours(work, stamps=StampPolicy("resident", share=0.9))


OURS: dict[str, Callable[[Work], Contender]] = {
    "ours": ours,
    "ours_dali": ours_dali,
    "ours_resident": ours_resident,
}
PEERS: dict[str, Callable[[Work], Contender]] = {
    "torchvision": torchvision,
    "torchvision_cut": torchvision_cut,
    "webdataset": webdataset,
    "litdata": litdata,
    "mosaic": mosaic,
    "spdl": spdl,
    "ffcv": ffcv,
}


def answer(contender: Contender, question: dict[str, Any]) -> dict[str, Any]:
    """Load an epoch and return its images and seconds or, if angles are given, save views to a file."""
    if "angles" in question:
        np.save(question["out"], contender.views(question["angles"]))
        return {"versions": {package: version(package) for package in contender.packages}}
    started = time.perf_counter()
    images = sum(len(batch) for batch in contender.epoch())
    return {"images": images, "seconds": time.perf_counter() - started}


def main() -> None:
    """Answer questions, each a line of JSON, until standard input ends."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("name", choices=[*PEERS, *OURS])
    parser.add_argument("shards", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--threads", type=int, required=True)
    options = parser.parse_args()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # so that text printed by libraries is not taken for an answer
    contender = {**PEERS, **OURS}[options.name](Work(options.shards, options.folder, options.threads))
    for line in sys.stdin:
        print(json.dumps(answer(contender, json.loads(line))), file=answers, flush=True)


if __name__ == "__main__":
    main()
