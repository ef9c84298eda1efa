"""Measure the error of views, made by stamp and warp, against an 8 x 8 supersampled reference.

    python -m benchmarks.warp_error shards --count 200

Views are rotated by random angles; the error is the root of the mean square over pixels, channels and galaxies, in grey
levels (0-255). The first columns vary the ratio of the stamp's resolution to the view's, from which
`STAMP_OVERSAMPLING` in `galaxy_zoo.view` was chosen; the last two are the two implementations as they are.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import click
import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray

from galaxy_zoo.console import Command
from galaxy_zoo.view import Stamp, View
from pipeline.augment import Parameters, Positions, RandomViews, Views, warp_matrices
from pipeline.loader import Backend, Decoding, Loader, Sampling
from pipeline.shards import Samples, open_shards
from pipeline.warp import WarpKernel, reduce_window

SUPERSAMPLING = 8
OVERSAMPLINGS = (1.0, 1.25, 1.5, 1.75, 2.0, 2.5)
VIEWS = {
    f"crop {crop} to {size}": View(
        crop_px=crop, size_px=size, rotation_deg=180, mean=(0, 0, 0), std=(1 / 255,) * 3
    )
    for crop, size in ((256, 128), (212, 96), (250, 70), (224, 64))
}
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class TurnedViews:
    """Views (`pipeline.augment.Views`) of the first samples, one each, turned by given angles."""

    view: View
    angles_deg: tuple[float, ...]

    def __len__(self) -> int:
        return 1

    def stamp(self, image_px: tuple[int, int]) -> Stamp:
        """Return the stamp for all views."""
        return self.view.stamp(image_px)

    def parameters(self, stamp: Stamp, epoch: int, positions: Positions) -> list[Parameters]:  # noqa: ARG002
        """Return the parameters of the views; samples after the last angle are not turned."""
        given = dict(enumerate(np.radians(self.angles_deg)))
        angles = np.array([given.get(position, 0.0) for position in positions])
        plain = np.zeros(len(positions), bool)
        return [
            Parameters(warp_matrices(self.view, stamp, angle=angles, zoom=np.ones_like(angles), flip=plain), None)
        ]


def reference(image: NDArray[np.uint8], view: View, warp: NDArray[np.float32]) -> Floats:
    """Return the view of a whole image, each pixel the mean of 8 x 8 bilinear samples.

    Args:
        warp: matrix from view to image coordinates, shape (2, 3).
    """
    fine = (np.arange(view.size_px * SUPERSAMPLING) + 0.5) / SUPERSAMPLING
    x, y = np.meshgrid(fine, fine)
    at = np.stack([x, y], axis=-1) @ warp[:, :2].T + warp[:, 2] - 0.5
    sampled = cv2.remap(image.astype(np.float32), at.astype(np.float32), None, cv2.INTER_LINEAR)  # type: ignore[call-overload]
    blocks = (view.size_px, SUPERSAMPLING, view.size_px, SUPERSAMPLING, 3)
    means: Floats = sampled.reshape(blocks).mean(axis=(1, 3))
    return means


def references(images: list[NDArray[np.uint8]], views: Views) -> Floats:
    """Return the references for the first view of each image in epoch 0."""
    whole = Stamp(images[0].shape[:2], images[0].shape[:2])
    parameters = views.parameters(whole, 0, range(len(images)))[0]
    return np.stack([reference(i, views.view, warp) for i, warp in zip(images, parameters.warps, strict=True)])


def error_by_oversampling(images: list[NDArray[np.uint8]], view: View, truth: Floats, factor: float) -> float:
    """Return the error of the OpenCV kernel with a stamp of `factor` times the view's resolution."""
    stamp = view.stamp((images[0].shape[0], images[0].shape[1]))
    side = min(stamp.window_px[0], round(stamp.window_px[0] * factor * view.size_px / view.crop_px))
    stamp = replace(stamp, size_px=(side, side))
    edge = (images[0].shape[0] - stamp.window_px[0]) // 2
    windows = [image[edge : edge + stamp.window_px[0], edge : edge + stamp.window_px[1]] for image in images]
    kernel = WarpKernel(view, num_threads=1)
    parameters = RandomViews(view, (0,)).parameters(stamp, 0, range(len(images)))
    (views,) = kernel.start(len(windows), lambda i: reduce_window(windows[i], stamp), parameters).result()
    kernel.close()
    return rms(views.permute(0, 2, 3, 1).numpy() - truth)


def error_of(samples: Samples, view: View, truth: Floats, backend: Backend) -> float:
    """Return the error of an implementation, unchanged."""
    views = RandomViews(view, (0,))
    sampling = Sampling(batch_size=len(truth), shuffle=False)
    with Loader(samples, views, sampling, Decoding(backend=backend)) as loader:
        batch = next(iter(loader.epoch(0)))
    return rms(batch.views[0].permute(0, 2, 3, 1).numpy() - truth)


def rms(values: Floats) -> float:
    """Return the root of the mean square."""
    return float(np.sqrt(np.mean(np.square(values))))


@click.command(cls=Command, context_settings={"show_default": True})
@click.argument("shards", type=click.Path(path_type=Path))
@click.option("--count", default=200, type=click.IntRange(1), help="Number of galaxies.")
def main(shards: Path, count: int) -> None:
    """Print the errors on the first training galaxies of SHARDS.

    \b
    Example:
      python -m benchmarks.warp_error shards --count 60
    """
    samples = open_shards(shards, "train")
    count = min(count, len(samples))
    images = [simplejpeg.decode_jpeg(jpeg) for jpeg in samples.jpegs(np.arange(count))]
    click.echo(f"{count} galaxies\n{'':18}" + "".join(f"{f:>7.2f}" for f in OVERSAMPLINGS) + "    dali  opencv")
    for name, view in VIEWS.items():
        truth = references(images, RandomViews(view, (0,)))
        by_factor = [error_by_oversampling(images, view, truth, factor) for factor in OVERSAMPLINGS]
        as_they_are = [error_of(samples, view, truth, backend) for backend in ("dali", "opencv")]
        click.echo(
            f"{name:18}" + "".join(f"{e:7.2f}" for e in by_factor) + "".join(f"{e:8.2f}" for e in as_they_are)
        )


if __name__ == "__main__":
    main()
