"""Draw a galaxy as the Sloan survey would have shown it: native pixels, blur, noise, stretch, then 424 pixels.

The light is drawn on the camera's pixels (84 to 360 across), where the seeing and the grain have a fixed size,
and enlarged at the end as SDSS ImgCutout does: small galaxies come out blurred and coarse, large ones crisp, and
a frame costs a few milliseconds.
"""

import math
from dataclasses import replace
from typing import cast

import cv2
import numpy as np
import numpy.typing as npt
import simplejpeg

from shard_tool.synthetic import light
from shard_tool.synthetic.canvas import Canvas, Window
from shard_tool.synthetic.galaxies import FRAME_PX, PSF_SIGMA_NATIVE_PX, Arc, Blob, Galaxy, Seam, Star, Trail
from shard_tool.synthetic.light import Array

Image = npt.NDArray[np.uint8]

JPEG_QUALITY = 75
JPEG_SUBSAMPLING = "420"
"""The quantisation tables and the subsampling of Kaggle's files (read from 561 of them)."""

STRETCH = 0.021
SOFTENING = 6.3
"""Slope at the sky and softening of the asinh stretch: fitted to the median radial profile of 300 Kaggle images.

Source of the formula: Lupton et al. 2004, https://arxiv.org/abs/astro-ph/0312483.
"""

HALO_FLUX = 2.5e5
"""Stars brighter than this get a halo and diffraction spikes."""

HALO_TINT = np.array([1.5, 0.7, 0.8], np.float32)
"""The wings of the blur are widest in the red band."""

GRAIN_SIGMA_NATIVE_PX = 0.75
NOISE_GREY = 0.8
"""Blur of the noise, and the part of it that the three bands share."""

MAX_ARM_SHARE = 0.72
"""Share of a disk's light in the strongest arms: in the Kaggle images light remains between the arms."""

CLUMP_PX = 9.0
"""Size of a knot in spiral arms."""


def render(galaxy: Galaxy, rng: np.random.Generator) -> Image:
    """Draw a galaxy and its sky as uint8 (424, 424, 3), R G B; `rng` makes the noise and the knots."""
    canvas = Canvas(galaxy.sky.native_px)
    _draw_galaxy(canvas, galaxy, rng)
    for blob in (*galaxy.companions, *galaxy.sky.neighbours):
        _draw_blob(canvas, blob)
    for trail in galaxy.sky.trails:
        _draw_trail(canvas, trail)
    for star in galaxy.sky.stars:
        _draw_star(canvas, star, galaxy.angle)
    stretched = _stretch(_expose(canvas, galaxy, rng))
    enlarged = cv2.resize(stretched, (FRAME_PX, FRAME_PX), interpolation=cv2.INTER_CUBIC)
    frame = cast(Image, enlarged)
    for seam in galaxy.sky.seams:
        _draw_seam(frame, seam)
    return frame


def encode(image: Image) -> bytes:
    """Return a baseline JPEG like Kaggle's."""
    return bytes(simplejpeg.encode_jpeg(image, quality=JPEG_QUALITY, colorsubsampling=JPEG_SUBSAMPLING))


def _draw_galaxy(canvas: Canvas, galaxy: Galaxy, rng: np.random.Generator) -> None:
    half_px = min(FRAME_PX / 2.0, 6.0 * max(galaxy.disk.scale_px, 0.9 * galaxy.bulge.radius_px))
    window = canvas.window(galaxy.x_px, galaxy.y_px, half_px).turned(galaxy.angle)
    window = replace(window, y=window.y + np.float32(galaxy.bend / 110.0) * window.x**2)
    if galaxy.bulge.fraction < 1.0 and galaxy.disk.edge_on:
        _draw_slab(canvas, window, galaxy)
    elif galaxy.bulge.fraction < 1.0:
        in_plane = replace(window, y=window.y / np.float32(galaxy.disk.axis_ratio))
        _draw_face(canvas, in_plane, galaxy, rng)
    _draw_bulge(canvas, window, galaxy)
    for arc in galaxy.arcs:
        _draw_arc(canvas, arc)


def _draw_bulge(canvas: Canvas, window: Window, galaxy: Galaxy) -> None:
    bulge = galaxy.bulge
    across = window.y / np.float32(bulge.axis_ratio)
    boxy = galaxy.disk.edge_on and bulge.boxiness > 0.0
    radius = light.boxy_radius(window.x, across, bulge.boxiness) if boxy else light.length(window.x, across)
    brightness = light.sersic(radius, bulge.radius_px, bulge.sersic_index, bulge.axis_ratio)
    # Subtract the brightness of the corner, or the box would show against the sky.
    brightness = np.float32(galaxy.flux * bulge.fraction) * np.maximum(
        brightness - brightness[0, 0], np.float32(0.0)
    )
    if galaxy.disk.edge_on:
        brightness = brightness * _transparency(galaxy, window)
    canvas.add(window, brightness, light.colour(bulge.blueness))


def _draw_slab(canvas: Canvas, window: Window, galaxy: Galaxy) -> None:
    """Draw a disk seen from its edge."""
    disk = galaxy.disk
    slab = light.edge_on_disk(window.x, window.y, disk.scale_px, disk.axis_ratio * disk.scale_px)
    brightness = np.float32(_disk_flux(galaxy)) * slab * _transparency(galaxy, window)
    canvas.add(window, brightness, light.colour(disk.blueness - 0.5 * disk.dust))


def _transparency(galaxy: Galaxy, window: Window) -> Array:
    disk = galaxy.disk
    lane = light.dust_lane(window.x, window.y, disk.scale_px, disk.axis_ratio * disk.scale_px)
    return np.float32(1.0) - np.float32(disk.dust) * lane


def _disk_flux(galaxy: Galaxy) -> float:
    return galaxy.flux * (1.0 - galaxy.bulge.fraction)


def _draw_face(canvas: Canvas, window: Window, galaxy: Galaxy, rng: np.random.Generator) -> None:
    """Draw the disk and its arms, bar and ring; the window's coordinates are those of the disk's plane."""
    disk, bar, ring = galaxy.disk, galaxy.bar, galaxy.ring
    flux = _disk_flux(galaxy)
    radius = light.length(window.x, window.y)
    share = max(0.15, 1.0 - bar.strength - ring.strength)
    profile = np.float32(flux * share) * light.disk(radius, disk.scale_px, disk.axis_ratio)
    contrast = MAX_ARM_SHARE * galaxy.arms.strength
    canvas.add(window, profile * np.float32(1.0 - contrast), light.colour(disk.blueness - 0.1))
    if contrast > 0.0:
        pattern = _arm_pattern(galaxy, window, radius, rng)
        canvas.add(window, profile * pattern * np.float32(contrast), light.colour(disk.blueness + 0.25))
    if bar.strength > 0.0:
        turned = window.turned(bar.angle)
        brightness = light.bar(turned.x, turned.y, bar.length_px, disk.axis_ratio)
        canvas.add(window, np.float32(flux * bar.strength) * brightness, light.colour(0.5 * disk.blueness - 0.1))
    if ring.strength > 0.0:
        brightness = light.ring(radius, ring.radius_px, disk.axis_ratio)
        canvas.add(window, np.float32(flux * ring.strength) * brightness, light.colour(disk.blueness + 0.25))


def _arm_pattern(galaxy: Galaxy, window: Window, radius: Array, rng: np.random.Generator) -> Array:
    """Return the factor by which arms change the disk: 1 within their start, arms and knots beyond."""
    arms = galaxy.arms
    winding = np.float32(1.0 / math.tan(arms.pitch))
    turned = winding * np.log(radius / np.float32(arms.start_px) + np.float32(1e-3))
    azimuth = np.arctan2(window.y, window.x) - np.float32(arms.phase)
    phase = np.float32(arms.count) * (np.float32(arms.handedness) * azimuth - turned)
    onset = np.clip((radius - np.float32(0.5 * arms.start_px)) / np.float32(0.6 * arms.start_px), 0.0, 1.0)
    pattern = light.spiral(phase, arms.sharpness) * _knots(radius.shape, galaxy, rng)
    return cast(Array, np.float32(1.0) + onset * (pattern - np.float32(1.0)))


def _knots(shape: tuple[int, ...], galaxy: Galaxy, rng: np.random.Generator) -> Array:
    """Return a lognormal field of mean 1: bright knots of about CLUMP_PX."""
    cells = max(4, round(shape[0] * FRAME_PX / galaxy.sky.native_px / CLUMP_PX))
    coarse = rng.standard_normal((cells, cells), dtype=np.float32)
    smooth = cv2.resize(coarse, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC)
    spread = 1.1 * galaxy.arms.clumpiness
    return light.exponential(np.float32(spread) * smooth - np.float32(0.5 * spread**2))


def _draw_blob(canvas: Canvas, blob: Blob) -> None:
    window = canvas.window(blob.x_px, blob.y_px, 5.0 * blob.radius_px)
    if window.x.size == 0:
        return
    turned = window.turned(blob.angle)
    radius = light.length(turned.x, turned.y / np.float32(blob.axis_ratio))
    brightness = light.sersic(radius, blob.radius_px, blob.sersic_index, blob.axis_ratio)
    canvas.add(window, np.float32(blob.flux) * brightness, light.colour(blob.blueness))


def _draw_arc(canvas: Canvas, arc: Arc) -> None:
    window = canvas.window(0.0, 0.0, FRAME_PX / 2.0)
    brightness = light.arc(window.x, window.y, arc)
    canvas.add(window, np.float32(arc.brightness) * brightness, light.colour(arc.blueness))


def _draw_trail(canvas: Canvas, trail: Trail) -> None:
    window = canvas.window(0.0, 0.0, FRAME_PX / 2.0)
    off = (window.turned(trail.angle).y - np.float32(trail.offset_px)) / np.float32(trail.width_px)
    brightness = np.float32(trail.brightness) * light.exponential(-0.5 * off**2)
    canvas.add(window, brightness, light.colour(trail.blueness))


def _draw_star(canvas: Canvas, star: Star, angle: float) -> None:
    tint = light.colour(star.blueness)
    canvas.add_point(star.x_px, star.y_px, star.flux, tint)
    if star.flux < HALO_FLUX:
        return
    reach_px = min(300.0, 40.0 * (star.flux / HALO_FLUX) ** 0.5)
    window = canvas.window(star.x_px, star.y_px, reach_px)
    if window.x.size:
        canvas.add(window, _halo(window, star.flux, reach_px), tint * HALO_TINT)
        canvas.add(window, _spikes(window, star.flux, angle), tint)


def _halo(window: Window, flux: float, reach_px: float) -> Array:
    """Return the far wings of the blur, fading to nothing at `reach_px`."""
    squared = window.x**2 + window.y**2
    fade = np.maximum(0.0, 1.0 - squared / np.float32(reach_px**2))
    wings = np.float32(1e-4 * flux) * fade / (1.0 + squared / np.float32(80.0)) ** 1.3
    return cast(Array, wings)


def _spikes(window: Window, flux: float, angle: float) -> Array:
    """Return the four diffraction spikes of the secondary mirror's struts."""
    turned = window.turned(angle)
    along, across = turned.x, turned.y
    reach_px = np.float32(12.0 * (flux / HALO_FLUX) ** 0.45)
    first = light.exponential(-np.abs(along) / reach_px - 0.5 * (across / np.float32(2.0)) ** 2)
    second = light.exponential(-np.abs(across) / reach_px - 0.5 * (along / np.float32(2.0)) ** 2)
    return np.float32(3e-5 * flux) * (first + second)


def _draw_seam(frame: Image, seam: Seam) -> None:
    cos, sin = math.cos(seam.angle), math.sin(seam.angle)
    middle = np.array([-sin, cos]) * seam.offset_px + FRAME_PX / 2.0
    reach = np.array([cos, sin]) * seam.length_px / 2.0
    start, stop = (middle - reach).round().astype(int), (middle + reach).round().astype(int)
    cv2.line(frame, start.tolist(), stop.tolist(), (2, 2, 2), 1)


def _expose(canvas: Canvas, galaxy: Galaxy, rng: np.random.Generator) -> Array:
    """Return the light after the blur, with the sky and its noise."""
    sky = galaxy.sky
    exposed = cv2.GaussianBlur(canvas.light, (0, 0), PSF_SIGMA_NATIVE_PX, borderType=cv2.BORDER_REFLECT)
    noise = _noise(sky.native_px, rng) * np.array(sky.noise, np.float32)
    return cast(Array, exposed + noise + np.array(sky.background, np.float32))


def _noise(native_px: int, rng: np.random.Generator) -> Array:
    """Return noise of unit variance whose neighbours and bands correlate, as in the Kaggle files.

    Those went through the resampling of a mosaic and through JPEG twice: the grain is coarser than a camera pixel, and
    its three bands correlate at .95.
    """
    grey = rng.standard_normal((native_px, native_px, 1), dtype=np.float32)
    noise = rng.standard_normal((native_px, native_px, 3), dtype=np.float32)
    mixed = np.float32(NOISE_GREY) * grey + np.float32(math.sqrt(1.0 - NOISE_GREY**2)) * noise
    gain = np.float32(2.0 * math.sqrt(math.pi) * GRAIN_SIGMA_NATIVE_PX)
    return cast(Array, gain * cv2.GaussianBlur(mixed, (0, 0), GRAIN_SIGMA_NATIVE_PX))


def _stretch(exposed: Array) -> Image:
    """Compress the brightness by asinh with the colour kept, to uint8."""
    intensity = np.maximum(exposed.mean(axis=2), np.float32(1e-3))
    scaled = np.float32(STRETCH * SOFTENING) * intensity
    compressed = cv2.log(scaled + cv2.sqrt(scaled**2 + np.float32(1.0)))
    gain = np.float32(255.0 / SOFTENING) * compressed / intensity
    return cast(Image, np.clip(exposed * gain[:, :, np.newaxis], 0.0, 255.0).astype(np.uint8))
