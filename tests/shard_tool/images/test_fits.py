"""FITS cut-outs: the stretch, and what is refused."""

import io
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from kaggle_download import contents, jpeg, pack, packed_samples, rejected, run

from galaxy_zoo.errors import ImageError
from galaxy_zoo.manifest import read_manifest
from shard_tool.images.fits import Stretch, decode_fits, fits_size

fits = pytest.importorskip("astropy.io.fits")
STRETCH = Stretch(0, 1)


def bands(*shape: int) -> np.ndarray:
    """A smooth galaxy of flux 0 to 0.9; colours differ from plane to plane."""
    y, x = np.mgrid[: shape[-2], : shape[-1]]
    galaxy = 0.9 * np.exp(-np.hypot((y - 10) / 8, (x - 14) / 5))
    return (galaxy * np.linspace(0.5, 1, int(np.prod(shape[:-2])))[:, None, None]).reshape(shape)


def fits_of(*hdus) -> bytes:
    data = io.BytesIO()
    fits.HDUList(list(hdus)).writeto(data, checksum=True)
    return data.getvalue()


def simple(data: np.ndarray | None) -> bytes:
    return fits_of(fits.PrimaryHDU(data))


def test_the_stretch_grows_from_black_to_white_and_keeps_colours(subtests: pytest.Subtests) -> None:
    for softening in [0.1, 10, 1000]:
        with subtests.test(softening=softening):
            stretch = Stretch(-1, 3, softening)
            ramp = np.linspace(-2, 4, 601)[None, None]
            grey = stretch.to_pixels(ramp)
            assert grey.shape == (1, 601, 3)
            assert (grey[0, :101] == 0).all()
            assert (grey[0, 500:] == 255).all()
            assert (np.diff(grey[0].astype(int), axis=0) >= 0).all()
            assert (grey[..., 0] == grey[..., 1]).all()
            blue, green, red = np.full((3, 1, 601), -1) + np.abs(ramp[0]) * np.array([1, 2, 4])[:, None, None]
            colours = stretch.to_pixels(np.stack([blue, green, red]))[0].astype(int)
            np.testing.assert_allclose(colours[:, 0], 2 * colours[:, 1], atol=1.01)
            np.testing.assert_allclose(colours[:, 0], 4 * colours[:, 2], atol=2.01)


def test_more_softening_shows_fainter_parts() -> None:
    faint = np.full((1, 4, 4), 0.02)
    brightness = [Stretch(0, 1, softening).to_pixels(faint)[0, 0, 0] for softening in (0.1, 1, 10, 100)]
    assert brightness == sorted(set(brightness))


def test_images_of_one_and_three_bands_and_any_type_are_read(subtests: pytest.Subtests) -> None:
    for shape in [(40, 30), (1, 40, 30), (3, 40, 30)]:
        for dtype in [">f4", ">f8", ">i2"]:
            with subtests.test(shape=shape, dtype=dtype):
                values = bands(*shape) if dtype != ">i2" else (bands(*shape) * 1000)
                stretch = Stretch(0, 1 if dtype != ">i2" else 1000)
                data = simple(values.astype(dtype))
                assert fits_size(data) == (40, 30)
                pixels = decode_fits(data, stretch).astype(int)
                expected = STRETCH.to_pixels(bands(*shape).reshape(-1, 40, 30))
                assert np.abs(pixels - expected).max() <= 1
                brightness = pixels.sum(
                    axis=2
                )  # the first row is the lowest: the galaxy is ten rows above the last one
                assert brightness[29, 14] >= brightness.max() - 2
                assert brightness[10, 14] < brightness[29, 14] / 2
                if shape == (3, 40, 30):
                    assert pixels[29, 14].tolist() == sorted(pixels[29, 14], reverse=True)  # the last plane is red


def test_the_image_may_be_in_an_extension_and_have_scaled_values() -> None:
    scaled = fits.ImageHDU((bands(40, 30) * 1000).astype(np.int16))
    scaled.header["BSCALE"] = 0.001
    table = fits.BinTableHDU.from_columns([fits.Column("a", "J", array=np.arange(3))])
    pixels = decode_fits(fits_of(fits.PrimaryHDU(), table, scaled), STRETCH)
    assert np.abs(pixels.astype(int) - STRETCH.to_pixels(bands(1, 40, 30))).max() <= 1


SCIENCE = [0.5 * bands(40, 30), 0.75 * bands(40, 30), bands(40, 30)]


def test_three_hdus_of_one_size_are_the_bands_of_one_image(subtests: pytest.Subtests) -> None:
    for names in [("", "", ""), ("G", "R", "Z")]:
        for extra in [(), ("INVVAR",), ("G_ERR", "R_ERR", "Z_ERR"), ("MASK", "PSF")]:
            with subtests.test(names=names, extra=extra):
                hdus = [fits.ImageHDU(plane, name=name) for plane, name in zip(SCIENCE, names, strict=True)]
                hdus += [fits.ImageHDU(np.full((40, 30), 7.0), name=name) for name in extra]
                pixels = decode_fits(fits_of(fits.PrimaryHDU(), *hdus), STRETCH)
                assert (pixels == decode_fits(simple(np.stack(SCIENCE)), STRETCH)).all()


ORDERS = [
    ("RGB", (2, 1, 0)),
    ("GBR", (1, 0, 2)),
    ("rgb", (2, 1, 0)),
    (("Red", "Green", "Blue"), (2, 1, 0)),
    ("GRZ", (0, 1, 2)),
    ("ZRG", (2, 1, 0)),
    ("IRG", (2, 1, 0)),
    ("zgr", (1, 2, 0)),
    ("RGZ", (1, 0, 2)),
    (("SCI_I", "SCI_R", "SCI_G"), (2, 1, 0)),
    (("H", "VIS", "Y"), (1, 2, 0)),
    (("NISP-Y", "NISP-H", "NISP-J"), (0, 2, 1)),
    (("SCI_1", "SCI_2", "SCI_3"), (0, 1, 2)),
    (("F814W", "F606W", "F435W"), (0, 1, 2)),
    ("RRG", (0, 1, 2)),
    (("R_G", "R", "G"), (0, 1, 2)),
]


def test_names_of_colours_and_filters_decide_the_order_of_the_bands(subtests: pytest.Subtests) -> None:
    for names, order in ORDERS:
        with subtests.test(names=names, order=order):
            hdus = [fits.ImageHDU(plane, name=name) for plane, name in zip(SCIENCE, names, strict=True)]
            wanted = np.stack([SCIENCE[i] for i in order])
            assert (
                decode_fits(fits_of(fits.PrimaryHDU(), *hdus), STRETCH) == decode_fits(simple(wanted), STRETCH)
            ).all()


BESIDE_SCI = [
    *((name,) for name in ("", "INVVAR", "CHI2", "WEIGHT", "CON")),
    *(("ERR", "DQ"), ("CHI2", "NIMAGE"), ("IVAR", "MASK"), ("STD", "N"), ("CTX", "WHT"), ("AREA", "RESIDUAL")),
    *(("SCI_VAR", "MASK", "EXPTIME"), ("IVAR", "CHI2", "NIMAGE", "DEPTH")),
]


def test_what_goes_with_an_hdu_named_sci_is_no_band_of_it(subtests: pytest.Subtests) -> None:
    for names in BESIDE_SCI:
        with subtests.test(names=names):
            others = [fits.ImageHDU(np.full((40, 30), 7.0), name=name) for name in names]
            for place in (0, len(others)):
                if names == ("",) and place:
                    continue  # the first one without a name is the image
                hdus = [*others[:place], fits.ImageHDU(SCIENCE[0], name="SCI"), *others[place:]]
                pixels = decode_fits(fits_of(fits.PrimaryHDU(), *hdus), STRETCH)
                assert (pixels == decode_fits(simple(SCIENCE[0]), STRETCH)).all()


BESIDE_AN_IMAGE = [("",), ("INVVAR",), ("ERR", "DQ"), ("CHI2", "NIMAGE"), ("SCI_VAR", "MASK", "EXPTIME")]


def test_what_goes_with_an_image_is_no_band_of_it(subtests: pytest.Subtests) -> None:
    """As the Legacy Surveys write an inverse variance, and HST and JWST errors and masks."""
    for names in BESIDE_AN_IMAGE:
        for shape in [(40, 30), (3, 40, 30)]:
            for compressed in [False, True]:
                with subtests.test(names=names, shape=shape, compressed=compressed):
                    kind = fits.CompImageHDU if compressed else fits.ImageHDU
                    image = bands(*shape).astype(">f4")
                    more = [kind(np.full(shape, 7, ">f4"), **({"name": name} if name else {})) for name in names]
                    lossless = {"quantize_level": 0, "compression_type": "GZIP_1"} if compressed else {}
                    data = fits_of(fits.PrimaryHDU(), kind(image, **lossless), *more)
                    assert (decode_fits(data, STRETCH) == decode_fits(simple(image), STRETCH)).all()


def _with_nan() -> np.ndarray:
    values = bands(40, 30)
    values[3, :4] = [np.nan, np.inf, -np.inf, np.nan]
    return values


WHOLE = simple(bands(3, 40, 30).astype(">f4"))


REFUSED = [
    (b"", "empty file"),
    (jpeg(1), "not a FITS file: it is a JPEG"),
    (WHOLE[:1000], "damaged FITS file"),
    (WHOLE[:9000], "damaged FITS file"),
    (WHOLE[:5000] + b"\1" + WHOLE[5001:], "damaged FITS file: Checksum verification failed"),
    (b"SIMPLE  =" + b"?" * 5751, "damaged FITS file"),
    (simple(None), "no image data in any of its HDUs"),
    (simple(bands(2, 40, 30)), "an image of 2 bands; one or three are read: choose three"),
    (simple(bands(4, 40, 30)), "an image of 4 bands; one or three are read: choose three"),
    (simple(bands(40, 30, 3)), r"its bands come last; write it as \(3, height, width\)"),
    (
        fits_of(fits.PrimaryHDU(), *(fits.ImageHDU(bands(40, 30)) for _ in range(4))),
        "4 HDUs are images of one size",
    ),
    (
        fits_of(fits.PrimaryHDU(), *(fits.ImageHDU(bands(40, 30), name=name) for name in "GR")),
        "2 HDUs are images of one size; one or three bands are read",
    ),
    (
        fits_of(fits.PrimaryHDU(), fits.CompImageHDU(np.zeros((3, 4000, 4000), np.float32))),
        "48,000,000 values in its bands; at most 33,554,432",
    ),
    (simple(np.zeros(40)), r"an image of shape \(40,\)"),
    (simple(np.zeros((1, 1, 40, 30))), r"an image of shape \(1, 1, 40, 30\)"),
    (simple(_with_nan()), r"4 pixels have no value \(NaN or infinite\)"),
    (simple(np.zeros((8193, 1), np.uint8)), "1 x 8193 pixels; a side may have"),
]


def test_what_is_no_whole_fits_image_is_refused_with_the_reason(subtests: pytest.Subtests) -> None:
    for data, reason in REFUSED:
        with subtests.test(reason), pytest.raises(ImageError, match=reason):
            decode_fits(data, STRETCH)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "source").mkdir()
    for i in range(5):
        (tmp_path / "source" / f"g{i}.fits").write_bytes(simple((bands(3, 40, 40) * (i + 1) / 5).astype(">f4")))
    (tmp_path / "source" / "grey.FIT").write_bytes(simple(bands(40, 40)))
    return tmp_path / "source"


RANGE = ("--fits-range", "-0.1", "1.5")


def test_fits_images_are_packed_and_the_stretch_is_in_the_manifest(source: Path, tmp_path: Path) -> None:
    for workers in (1, 3):
        result = pack(source, tmp_path / f"{workers}", *RANGE, "--fits-softening", 4, "--workers", workers)
        assert result.exit_code == 0, result.stderr
    assert contents(tmp_path / "1") == contents(tmp_path / "3")
    samples = packed_samples(tmp_path / "1", "test")
    assert set(samples) == {"g0", "g1", "g2", "g3", "g4", "grey"}
    expected = Stretch(-0.1, 1.5, 4).to_pixels(bands(3, 40, 40)).astype(int)
    assert np.abs(simplejpeg.decode_jpeg(samples["g4"]["jpg"]) - expected).mean() < 1
    encoding = read_manifest(tmp_path / "1").encoding
    assert encoding is not None
    assert encoding["fits_asinh"] == {"black": -0.1, "white": 1.5, "softening": 4.0}
    assert run("lint", tmp_path / "1", "--workers", 1).exit_code == 0


def test_a_bad_fits_image_is_rejected_and_the_rest_is_whole(source: Path, tmp_path: Path) -> None:
    (source / "g1.fits").write_bytes(WHOLE[:9000])
    (source / "g2.fits").write_bytes(simple(_with_nan()))
    result = pack(source, tmp_path / "out", *RANGE)
    assert result.exit_code == 1
    assert [row["id"] for row in rejected(tmp_path / "out")] == ["g1", "g2"]
    assert len(packed_samples(tmp_path / "out", "test")) == 4


def test_where_no_image_can_be_read_it_says_why(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    for name, image in {"a1": bands(4, 9, 9), "a2": bands(4, 9, 9), "b": bands(9, 9, 3)}.items():
        (tmp_path / "source" / f"{name}.fits").write_bytes(simple(image))
    result = pack(tmp_path / "source", tmp_path / "out", *RANGE)
    assert result.exit_code == 1
    assert "a1.fits: an image of 4 bands; one or three are read" in result.stderr
    assert "; b.fits: an image of shape (9, 9, 3): its bands come last" in result.stderr
    assert "a2.fits" not in result.stderr


def test_a_stretch_goes_with_fits_images_only_and_they_need_one(
    source: Path, kaggle: Path, tmp_path: Path
) -> None:
    without = pack(source, tmp_path / "out")
    assert (without.exit_code, "pass --fits-range BLACK WHITE" in without.stderr) == (1, True)
    assert not (tmp_path / "out").exists()
    needless = pack(kaggle, tmp_path / "out", *RANGE)
    assert (needless.exit_code, "no FITS images to pack; omit --fits-range" in needless.stderr) == (1, True)


def test_without_astropy_it_says_what_to_install(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "astropy.io.fits", None)
    result = pack(source, tmp_path / "out", *RANGE)
    assert result.exit_code == 1
    assert "pip install astropy" in result.stderr


def test_a_fits_image_called_jpg_is_rejected_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, subtests: pytest.Subtests
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "a.jpg").write_bytes(simple(bands(3, 40, 40)))
    for with_jpegs in (False, True):
        if with_jpegs:
            (source / "b.jpg").write_bytes(jpeg(1, size=40))
        for with_astropy in (False, True):
            with subtests.test(with_jpegs=with_jpegs, with_astropy=with_astropy), monkeypatch.context() as patch:
                if not with_astropy:
                    patch.setitem(sys.modules, "astropy.io.fits", None)
                result = pack(source, tmp_path / f"out{with_jpegs}{with_astropy}")
                assert result.exit_code == 1
                says = "rename it to .fits" if with_astropy or with_jpegs else "pip install astropy"
                assert says in result.stderr


def test_a_fits_image_called_png_is_taken_by_its_content(source: Path, tmp_path: Path) -> None:
    (source / "g1.fits").rename(source / "g1.png")
    assert pack(source, tmp_path / "out", *RANGE).exit_code == 0
    assert set(packed_samples(tmp_path / "out", "test")) == {"g0", "g1", "g2", "g3", "g4", "grey"}


INEXPRESSIBLE = [
    (("--fits-range", "0", "1e-320"), "from 0 to 9.99989e-321: the two differ by"),
    (("--fits-range", "-1e308", "0"), "the two differ by 1e+308; scale the images"),
    ((*RANGE, "--fits-softening", "1e-320"), "give a number from 1e-30 to 1e+30"),
    ((*RANGE, "--fits-softening", "1e308"), "give a number from 1e-30 to 1e+30"),
]


def test_a_stretch_that_numbers_cannot_express_is_refused(
    source: Path, tmp_path: Path, subtests: pytest.Subtests
) -> None:
    for options, says in INEXPRESSIBLE:
        with subtests.test(options=options):
            result = pack(source, tmp_path / "out", *options)
            assert (result.exit_code, says in result.stderr) == (1, True), result.stderr
            assert not (tmp_path / "out").exists()


STRETCHES = [Stretch(0, 1e-30), Stretch(0, 1e30), Stretch(0, 1, 1e-30), Stretch(0, 1, 1e30)]


def test_every_value_has_a_pixel_in_every_stretch(subtests: pytest.Subtests) -> None:
    for stretch in STRETCHES:
        for value in [-1e308, 0, 5e-324, 1, 1e308]:
            with subtests.test(stretch=stretch, value=value):
                assert stretch.to_pixels(np.array([[[value, 0, 1]], [[0, value, 1]], [[1, 1, value]]])).shape == (
                    1,
                    3,
                    3,
                )


def _decodes(data: bytes) -> bool:
    try:
        decode_fits(data, STRETCH)
    except ImageError:
        return False
    return True


def test_threads_that_decode_at_once_find_all_damage() -> None:
    spoilt = bytearray(WHOLE)
    spoilt[-3000] ^= 1  # only a checksum tells, and that only by a warning
    assert [_decodes(WHOLE), _decodes(bytes(spoilt))] == [True, False]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with warnings.catch_warnings(), ThreadPoolExecutor(4) as pool:
            warnings.simplefilter("ignore")  # as it is outside of these tests, which make errors of them
            assert list(pool.map(_decodes, [WHOLE, bytes(spoilt)] * 60)) == [True, False] * 60
    finally:
        sys.setswitchinterval(interval)
