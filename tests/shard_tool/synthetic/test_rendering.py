"""What is true of a synthetic galaxy can be measured in its pixels."""

from dataclasses import replace

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import simplejpeg

from shard_tool.synthetic import light
from shard_tool.synthetic.canvas import Canvas
from shard_tool.synthetic.galaxies import FRAME_PX, Family, Galaxy, Sky, Star
from shard_tool.synthetic.population import draw_galaxy
from shard_tool.synthetic.rendering import encode, render

Image = npt.NDArray[np.uint8]
DARK_SKY = Sky(native_px=200, noise=(1.0, 1.0, 1.0), background=(0.0, 0.0, 0.0))


def drawn(galaxy: Galaxy, seed: int = 0) -> Image:
    return render(galaxy, np.random.default_rng(seed))


@pytest.fixture(scope="module")
def plain_galaxies() -> list[Galaxy]:
    """Galaxies without odd features, alone in the frame."""
    drawn_at_random = (draw_galaxy(np.random.default_rng([11, index])) for index in range(80))
    plain = [galaxy for galaxy in drawn_at_random if galaxy.odd is None]
    return [replace(galaxy, sky=DARK_SKY) for galaxy in plain][:40]


@pytest.fixture(scope="module")
def disk(plain_galaxies: list[Galaxy]) -> Galaxy:
    return next(galaxy for galaxy in plain_galaxies if galaxy.family is Family.DISK and not galaxy.disk.edge_on)


def axis_ratio_of(image: Image) -> float:
    """Axis ratio by the second moments of the brightness above the sky."""
    grey = cv2.GaussianBlur(image, (0, 0), 2.0).mean(axis=2)
    rows, columns = np.nonzero(grey > 20.0)
    covariance = np.cov(np.stack([columns, rows]), aweights=grey[rows, columns])
    small, large = np.linalg.eigvalsh(covariance)
    return float(np.sqrt(small / large))


def test_the_same_stream_draws_the_same_pixels_and_another_one_does_not(disk: Galaxy) -> None:
    np.testing.assert_array_equal(drawn(disk, 1), drawn(disk, 1))
    assert (drawn(disk, 1) != drawn(disk, 2)).any()


def test_the_sky_is_black_and_noisy_and_the_centre_is_bright(disk: Galaxy) -> None:
    image = drawn(disk)
    assert np.median(image[:40]) < 10.0
    assert image[:40].std() > 0.5
    assert image[207:217, 207:217].mean() > 60.0


def test_the_measured_axis_ratio_follows_the_true_one(plain_galaxies: list[Galaxy]) -> None:
    measured = [axis_ratio_of(drawn(galaxy)) for galaxy in plain_galaxies]
    true = [galaxy.axis_ratio for galaxy in plain_galaxies]
    assert np.corrcoef(true, measured)[0, 1] > 0.85


def test_edge_on_disks_are_longer_than_disks_seen_from_above(disk: Galaxy) -> None:
    edge_on = replace(disk, disk=replace(disk.disk, axis_ratio=0.2, edge_on=True))
    face_on = replace(disk, disk=replace(disk.disk, axis_ratio=0.95, edge_on=False))
    assert axis_ratio_of(drawn(edge_on)) < 0.6 * axis_ratio_of(drawn(face_on))


def test_arms_make_the_light_uneven_around_the_centre(disk: Galaxy) -> None:
    face_on = replace(
        disk,
        bulge=replace(disk.bulge, fraction=0.1),
        bar=replace(disk.bar, strength=0.0),
        disk=replace(disk.disk, axis_ratio=1.0, scale_px=17.0),
    )
    arms = replace(disk.arms, count=2, pitch=0.4, start_px=8.0, clumpiness=0.0, sharpness=2.0)
    smooth, spiral = (
        drawn(replace(face_on, arms=replace(arms, strength=strength)))[:, :, 1] for strength in (0.0, 1.0)
    )
    rows, columns = np.mgrid[:FRAME_PX, :FRAME_PX] - FRAME_PX / 2.0
    annulus = np.abs(np.hypot(rows, columns) - 30.0) < 4.0
    assert spiral[annulus].std() > 2.0 * smooth[annulus].std()


def test_a_blue_disk_is_bluer_than_a_red_one(disk: Galaxy) -> None:
    red, blue = (
        drawn(replace(disk, disk=replace(disk.disk, blueness=blueness)))[180:240, 180:240].mean(axis=(0, 1))
        for blueness in (0.0, 1.0)
    )
    assert blue[2] / blue[0] > 1.2 * red[2] / red[0]


def test_a_bright_star_has_spikes_that_reach_far(disk: Galaxy) -> None:
    star = Star(x_px=120.0, y_px=-110.0, flux=5e6, blueness=0.5)
    sky = replace(DARK_SKY, stars=(star,))
    with_star, without = (drawn(replace(disk, angle=0.0, sky=each)).astype(int) for each in (sky, DARK_SKY))
    row, column = FRAME_PX // 2 - 110, FRAME_PX // 2 + 120
    assert with_star[row, column].min() > 200
    spike, between = with_star[row, column - 45], with_star[row - 32, column - 32]
    assert spike.mean() > between.mean() + 10.0
    assert np.abs(with_star - without)[row + 200, column - 200].max() < 10


def test_profiles_have_unit_light() -> None:
    canvas = Canvas(424)
    box = canvas.window(0.0, 0.0, 212.0)
    squashed = light.length(box.x, box.y / np.float32(0.5))
    assert light.disk(squashed, 14.0, 0.5).sum() == pytest.approx(1.0, rel=0.02)
    assert light.edge_on_disk(box.x, box.y, 20.0, 4.0).sum() == pytest.approx(1.0, rel=0.02)
    assert light.ring(squashed, 40.0, 0.5).sum() == pytest.approx(1.0, rel=0.02)
    assert light.bar(box.x, box.y / np.float32(0.5), 25.0, 0.5).sum() == pytest.approx(1.0, rel=0.1)
    assert light.sersic(squashed, 20.0, 1.0, 0.5).sum() == pytest.approx(1.0, rel=0.06)


def test_a_jpeg_is_baseline_with_kaggles_tables_and_of_its_size(plain_galaxies: list[Galaxy]) -> None:
    jpegs = [encode(drawn(galaxy)) for galaxy in plain_galaxies]
    assert all(b"\xff\xc0" in jpeg and b"\xff\xc2" not in jpeg for jpeg in jpegs)
    assert simplejpeg.decode_jpeg_header(jpegs[0])[:2] == (FRAME_PX, FRAME_PX)
    luma_row = bytes([8, 6, 6, 7, 6, 5, 8, 7])  # the first of Kaggle's quantisation steps, in zigzag order
    assert all(luma_row in jpeg for jpeg in jpegs)
