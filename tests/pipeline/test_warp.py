import os
import subprocess
import sys
from dataclasses import replace
from itertools import product
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from making import make_image
from torch import Tensor

from benchmarks.warp_error import error_by_oversampling, references
from galaxy_zoo.view import STAMP_OVERSAMPLING, Stamp, View
from pipeline.augment import Parameters, RandomViews
from pipeline.loader import Backend, Decoding, choose_backend
from pipeline.warp import WarpKernel, reduce_window, rgb_pixels

HERE = Path(__file__).parent
VIEW = View(
    crop_px=90,
    size_px=19,  # not a power of two: the last program of a view has pixels to leave out
    rotation_deg=180,
    zoom=(0.8, 1.2),
    shift_px=9,
    shear_deg=5,
    flip=True,
    mean=(0.4, 0.5, 0.6),
    std=(0.2, 0.25, 0.3),
)
COLOURS = replace(VIEW, brightness=0.2, contrast=0.3, saturation=0.4, colour_noise=0.5)
STAMP = Stamp((96, 83), (60, 52))  # views reach beyond it on all sides
DTYPES = [torch.float32, torch.float16, torch.bfloat16]
ROWS = np.array([3, 1, 8, 0, 5, 5])
IS_EXACT = int(cv2.__version__.partition(".")[0]) >= 5
"""OpenCV 4 warps to 1/32 of a pixel, 5 exactly."""


def make_stamps() -> np.ndarray:
    noise = np.random.default_rng(0).integers(0, 256, (9, *STAMP.size_px, 3), dtype=np.uint8)
    return np.stack([cv2.GaussianBlur(each, (0, 0), 1.5) for each in noise])


def parameters_of(view: View) -> list[Parameters]:
    return RandomViews(view, (1, 2)).parameters(STAMP, 0, range(len(ROWS)))


def opencv_views(view: View, dtype: torch.dtype = torch.float32) -> tuple[Tensor, ...]:
    stamps, kernel = make_stamps(), WarpKernel(view, num_threads=2, dtype=dtype)
    job = kernel.start(len(ROWS), lambda place: stamps[ROWS[place]], parameters_of(view))
    kernel.close()
    return job.result()


def levels(difference: Tensor, view: View) -> Tensor:
    """From normalised values to absolute grey levels."""
    return difference.float().abs() * 255 * torch.tensor(view.std)[:, None, None]


def by_definition(stamp: np.ndarray, view: View, parameters: Parameters, sample: int) -> np.ndarray:
    """A view as `pipeline.augment` defines it, in float64."""
    middles = np.arange(view.size_px) + 0.5
    x, y = np.meshgrid(middles, middles)
    warp = parameters.warps[sample].astype(float)
    at = np.stack([x, y], axis=-1) @ warp[:, :2].T + warp[:, 2] - 0.5
    around = np.pad(stamp.astype(float), ((64, 64), (64, 64), (0, 0)))  # zeros outside of the stamp
    corner = np.floor(at).astype(int)
    right, down = np.moveaxis(at - corner, -1, 0)[..., None]
    column, row = np.moveaxis(corner + 64, -1, 0)
    upper = around[row, column] * (1 - right) + around[row, column + 1] * right
    lower = around[row + 1, column] * (1 - right) + around[row + 1, column + 1] * right
    pixels = np.rint(upper * (1 - down) + lower * down) / 255
    if parameters.colours is not None:
        change = parameters.colours[sample]
        pixels = np.clip(pixels @ change[:, :3].T + change[:, 3], 0, 1)
    return (pixels - np.array(view.mean)) / np.array(view.std)


def test_views_are_what_they_are_defined_as_also_beyond_the_stamp(subtests: pytest.Subtests) -> None:
    stamps = make_stamps()
    for view in (VIEW, COLOURS):
        for images, parameters in zip(opencv_views(view), parameters_of(view), strict=True):
            for sample, row in enumerate(ROWS):
                with subtests.test(view=view, sample=sample):
                    expected = by_definition(stamps[row], view, parameters, sample)
                    difference = levels(images[sample] - torch.from_numpy(expected).permute(2, 0, 1), view)
                    # a point halfway between two levels may be rounded to either
                    assert difference.mean() < (0.05 if IS_EXACT else 0.3)
                    assert difference.max() < (1.5 if IS_EXACT else 4)


def test_views_of_every_dtype_are_channels_last_and_those_of_float32_rounded(subtests: pytest.Subtests) -> None:
    for view, dtype in product((VIEW, COLOURS), DTYPES):
        with subtests.test(view=view, dtype=dtype):
            for images, exact in zip(opencv_views(view, dtype), opencv_views(view), strict=True):
                assert images.dtype == dtype
                assert images.shape == (len(ROWS), 3, 19, 19)
                assert images.is_contiguous(memory_format=torch.channels_last)
                assert torch.equal(images, exact.to(dtype))


STAMPS = [Stamp((96, 96), (96, 96)), Stamp((96, 96), (48, 48)), Stamp((90, 80), (33, 29))]


def test_a_window_is_reduced_to_the_size_of_the_stamp_and_keeps_its_mean(subtests: pytest.Subtests) -> None:
    for stamp in STAMPS:
        with subtests.test(stamp=stamp):
            noise = np.random.default_rng(0).integers(0, 256, (*stamp.window_px, 3), np.uint8)
            window = cv2.GaussianBlur(noise, (0, 0), 2)
            reduced = reduce_window(window, stamp)
            assert reduced.shape == (*stamp.size_px, 3)
            assert np.abs(reduced.mean((0, 1)) - window.mean((0, 1))).max() < 1.5


def test_stamp_and_warp_are_within_half_a_grey_level_of_a_supersampled_view() -> None:
    """Root of the mean square of the difference to the mean of 8 x 8 points a pixel, taken from the whole image."""
    view = View(crop_px=256, size_px=128, rotation_deg=180, flip=True, mean=(0, 0, 0), std=(1 / 255,) * 3)
    rng = np.random.default_rng(0)
    images = [make_image(rng, 424) for _ in range(3)]
    assert (
        error_by_oversampling(images, view, references(images, RandomViews(view, (0,))), STAMP_OVERSAMPLING) < 0.5
    )


def test_an_exception_in_a_thread_reaches_the_caller() -> None:
    def broken(place: int) -> np.ndarray:
        raise OSError(f"no stamp {place}")

    kernel = WarpKernel(VIEW, num_threads=2)
    with pytest.raises(OSError, match="no stamp 0"):
        kernel.start(1, broken, [Parameters(np.zeros((1, 2, 3), np.float32), None)]).result()
    kernel.close()


def test_normalised_images_are_drawn_in_their_own_pixels(subtests: pytest.Subtests) -> None:
    pixels = torch.arange(256, dtype=torch.float32).reshape(2, 1, 8, 16).repeat(1, 3, 1, 1)
    mean, std = (torch.tensor(each)[:, None, None] for each in (VIEW.mean, VIEW.std))
    for dtype in (torch.float32, torch.float16):
        with subtests.test(dtype=dtype):
            drawn = rgb_pixels(((pixels / 255 - mean) / std).to(dtype), VIEW)
            assert drawn.dtype == np.uint8
            assert np.array_equal(drawn, pixels.permute(0, 2, 3, 1).numpy())


SMALL = View(crop_px=64, size_px=16, rotation_deg=180, flip=True, contrast=0.2)


@pytest.mark.slow
def test_the_kernel_passes_the_tests_of_this_folder_in_tritons_interpreter() -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "triton-cpu", HERE]
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout


def test_the_triton_kernel_gives_the_pixels_of_opencv_also_beyond_the_stamp(
    triton: torch.device, subtests: pytest.Subtests
) -> None:
    """Within a unit in the last place of the dtype; bfloat16 is cut off by the interpreter, rounded by a GPU."""
    from pipeline.warp_triton import TritonKernel

    units = {torch.float32: 1e-5, torch.float16: 2**-9, torch.bfloat16: 2**-6}
    stamps = torch.from_numpy(make_stamps()).to(triton)
    for view, dtype in product((VIEW, COLOURS), DTYPES):
        with subtests.test(view=view, dtype=dtype):
            kernel, has_colours = TritonKernel(view, device=triton, dtype=dtype), view.changes_colour
            rows, packed = kernel.upload(ROWS, parameters_of(view))
            assert kernel(stamps, rows[:0], packed[0][:0], has_colours=has_colours).shape == (0, 3, 19, 19)
            for each, expected in zip(packed, opencv_views(view, dtype), strict=True):
                got = kernel(stamps, rows, each, has_colours=has_colours)
                assert got.dtype == dtype
                assert got.is_contiguous(memory_format=torch.channels_last)
                difference = (got.cpu().float() - expected.float()).abs()
                within = difference <= units[dtype] * expected.float().abs().clamp(min=1)
                # halfway between two grey levels either may come out
                assert within.float().mean() > (0.99 if IS_EXACT else 0.8)
                assert levels(difference, view).max() < (2 if IS_EXACT else 4)


CHOICES: list[tuple[int, tuple[float, ...], torch.dtype, bool, Backend]] = [
    (1, (0.0,), torch.float16, False, "dali"),
    (2, (0.0,), torch.float16, False, "triton"),
    (1, (0.0, 45.0), torch.float16, False, "triton"),
    (1, (0.0,), torch.bfloat16, False, "triton"),
    (1, (0.0,), torch.float16, True, "triton"),
]


def test_on_a_gpu_dalis_graph_makes_one_view_and_the_kernel_makes_several(subtests: pytest.Subtests) -> None:
    for num_views, turns_deg, dtype, has_resident, on_gpu in CHOICES:
        views = RandomViews(replace(SMALL, turns_deg=turns_deg), tuple(range(num_views)))
        for device, backend in (("cuda", on_gpu), ("cpu", "opencv")):
            with subtests.test(views=num_views, turns=turns_deg, dtype=dtype, has_resident=has_resident):
                work = Decoding(device=device, dtype=dtype).work(views, (96, 96), 8)
                assert choose_backend(work, has_resident=has_resident) == backend


@pytest.mark.slow
@pytest.mark.parametrize("capability", [80, 90])
def test_the_kernel_compiles_for_a_gpu_that_is_not_here(
    capability: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The interpreter takes what the compiler refuses; to compile needs no GPU."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from pipeline.warp_triton import _warp

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    kinds = dict.fromkeys(_warp.arg_names, "fp32") | dict.fromkeys(["height", "width", "size"], "i32")
    kinds |= {"stamps": "*u8", "rows": "*i32", "parameters": "*fp32", "views": "*bf16"}
    kinds |= dict.fromkeys(["has_colours", "num_pixels"], "constexpr")
    source = ASTSource(_warp, kinds, {"has_colours": True, "num_pixels": 256})
    options = {"enable_fp_fusion": False}
    compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
    assert f".target sm_{capability}" in compiled.asm["ptx"]
    assert "fma.rn.f32" not in compiled.asm["ptx"]
    assert compiled.asm["cubin"]
