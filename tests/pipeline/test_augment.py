from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nvidia.dali import fn, pipeline_def, types

from galaxy_zoo.view import Stamp, View
from pipeline.augment import (
    COLOUR_COMPONENT,
    UNIFORMS,
    FixedView,
    FixedViews,
    RandomViews,
    Views,
    draw_uniforms,
    member_seeds,
    random_colours,
    random_warps,
    rotations_and_flips,
)

VIEW = View(crop_px=64, size_px=32)
STAMP = VIEW.stamp((96, 96))
WILD = replace(VIEW, rotation_deg=180, zoom=(0.8, 1.3), shift_px=5, shear_deg=10, flip=True)


def apply(warp: np.ndarray, points: np.ndarray) -> np.ndarray:
    return points @ warp[:, :2].T + warp[:, 2]


def fixed_warp(view: View, fixed: FixedView, stamp: Stamp) -> np.ndarray:
    return FixedViews(view, (fixed,)).parameters(stamp, 0, range(1))[0].warps[0]


def test_the_plain_view_is_the_centre_crop() -> None:
    stamp = Stamp((96, 96), (96, 96))
    warp = fixed_warp(VIEW, FixedView(), stamp)
    assert np.allclose(apply(warp, np.array([[0, 0], [32, 32], [16, 16]])), [[16, 16], [80, 80], [48, 48]])


def test_a_reduced_stamp_shows_the_same_window() -> None:
    whole, reduced = Stamp((96, 96), (96, 96)), Stamp((80, 80), (40, 40))
    points = np.array([[0.0, 3.0], [31.0, 8.0]])
    in_image = apply(fixed_warp(WILD, FixedView(30, 1.1, True), whole), points)
    in_stamp = apply(fixed_warp(WILD, FixedView(30, 1.1, True), reduced), points)
    assert np.allclose((in_stamp - 20) * 2, in_image - 48, atol=1e-4)


def test_zoom_enlarges_and_flip_mirrors_left_to_right() -> None:
    stamp = Stamp((96, 96), (96, 96))
    corner = np.array([[0.0, 0.0]])
    assert np.allclose(apply(fixed_warp(VIEW, FixedView(zoom=2), stamp), corner), [[32, 32]])
    assert np.allclose(apply(fixed_warp(VIEW, FixedView(flip=True), stamp), corner), [[80, 16]])


def test_views_for_testing_are_rotations_each_plain_and_mirrored() -> None:
    assert rotations_and_flips(1) == (FixedView(),)
    views = rotations_and_flips(16)
    assert sorted({v.rotation_deg for v in views}) == [0, 45, 101.25, 146.25, 202.5, 247.5, 303.75, 348.75]
    assert len(set(views)) == 16
    for wrong in (0, -2, 3):
        with pytest.raises(ValueError, match="views"):
            rotations_and_flips(wrong)


def test_the_angles_of_test_time_views_are_spread_over_a_quarter_and_over_the_circle(
    subtests: pytest.Subtests,
) -> None:
    for rotations in [*range(1, 17), 30, 32]:
        with subtests.test(rotations=rotations):
            angles = sorted({view.rotation_deg for view in rotations_and_flips(2 * rotations)})
            quarters = np.sort(np.mod(angles, 90))
            assert np.allclose(quarters, 90 / rotations * np.arange(rotations))
            assert np.diff([*angles, 360]).max() <= 450 / rotations + 1e-9


def test_test_time_views_are_every_rotation_at_every_zoom_plain_and_mirrored() -> None:
    views = rotations_and_flips(60, (0.83, 1.0, 1.2))
    assert len(set(views)) == 60
    assert {(v.zoom, v.flip) for v in views if v.rotation_deg == 36} == {
        (zoom, flip) for zoom in (0.83, 1.0, 1.2) for flip in (False, True)
    }
    assert rotations_and_flips(2, (0.9, 1.1)) == (FixedView(zoom=0.9), FixedView(zoom=1.1))
    with pytest.raises(ValueError, match="give 3 or a multiple of 6"):
        rotations_and_flips(16, (0.83, 1.0, 1.2))
    for wrong in ((), (0.0,), (1.0, float("nan")), (float("inf"),)):
        with pytest.raises(ValueError, match="zooms"):
            rotations_and_flips(12, wrong)


LAWS: dict[Any, Callable[[np.ndarray], np.ndarray]] = {
    "log_uniform": np.log,
    "uniform_side": lambda zooms: 1 / zooms,
}


def test_zooms_follow_the_law_of_the_view(subtests: pytest.Subtests) -> None:
    for law, drawn in LAWS.items():
        with subtests.test(law=law):
            view = replace(VIEW, zoom=(0.5, 2.0), zoom_law=law)
            [parameters] = RandomViews(view, (0,)).parameters(view.stamp((424, 424)), 0, range(4096))
            unzoomed = fixed_warp(VIEW, FixedView(), view.stamp((424, 424)))[0, 0]
            zooms = unzoomed / parameters.warps[:, 0, 0]
            deciles = np.quantile(drawn(zooms), np.linspace(0, 1, 11))
            ends = sorted((drawn(np.float64(0.5)), drawn(np.float64(2.0))))
            assert np.allclose(deciles, np.linspace(*ends, 11), atol=0.05 * (ends[1] - ends[0]))
            assert 0.5 - 1e-6 <= zooms.min() < zooms.max() <= 2 + 1e-6


def test_zooms_outside_of_the_recipes_range_get_a_stamp_that_covers_them() -> None:
    views = FixedViews(VIEW, (FixedView(45, zoom=0.5),))
    stamp = views.stamp((424, 424))
    corners = np.array([[0, 0], [0, 32], [32, 0], [32, 32]])
    points = apply(views.parameters(stamp, 0, range(1))[0].warps[0], corners)
    assert 0 <= points.min() <= points.max() <= stamp.size_px[0]
    inside = FixedViews(WILD, (FixedView(zoom=0.8), FixedView(zoom=1.3)))
    assert (
        inside.stamp((424, 424)) == FixedViews(WILD).stamp((424, 424)) == RandomViews(WILD, (0,)).stamp((424, 424))
    )


@given(st.floats(-360, 360), st.floats(0, 32), st.floats(0, 32))
def test_a_turn_rotates_the_drawn_view_about_its_middle_and_changes_nothing_else(
    degrees: float, x: float, y: float
) -> None:
    view = replace(WILD, turns_deg=(0.0, degrees), brightness=0.3)
    plain, turned = RandomViews(view, (3,)).parameters(STAMP, 1, range(4, 9))
    assert np.array_equal(plain.warps, RandomViews(WILD, (3,)).parameters(STAMP, 1, range(4, 9))[0].warps)
    assert np.array_equal(plain.colours, turned.colours)
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    there = np.array([[cos, -sin], [sin, cos]]) @ (np.array([x, y]) - 16) + 16
    for before, after in zip(plain.warps, turned.warps, strict=True):
        assert np.allclose(apply(before, there[None]), apply(after, np.array([[x, y]])), atol=1e-3)


@given(st.integers(0, 2**32))
def test_every_drawn_view_stays_within_the_stamp_also_if_it_is_turned(seed: int) -> None:
    corners = np.array([[0, 0], [0, 32], [32, 0], [32, 32]])
    for view in (WILD, replace(WILD, turns_deg=(45.0,))):
        stamp = view.stamp((424, 424))
        for warp in RandomViews(view, (seed,)).parameters(stamp, 0, range(64))[0].warps:
            points = apply(warp, corners)
            assert 0 <= points.min() <= points.max() <= stamp.size_px[0]


def test_views_of_an_unmeasured_normalisation_are_refused() -> None:
    for make in (FixedViews, lambda view: RandomViews(view, (0,))):
        with pytest.raises(ValueError, match="with_statistics"):
            make(replace(VIEW, normalisation="measured"))


@given(st.integers(0, 2**32), st.integers(0, 5), st.integers(0, 1000), st.integers(1, 40))
def test_uniforms_of_a_position_do_not_depend_on_what_else_is_drawn(
    seed: int, epoch: int, start: int, count: int
) -> None:
    whole = draw_uniforms(seed, epoch, range(start + count))
    assert whole.shape == (start + count, UNIFORMS)
    assert np.array_equal(whole[start:], draw_uniforms(seed, epoch, range(start, start + count)))


def test_drawn_parameters_stay_in_their_ranges_and_fill_them() -> None:
    uniforms = draw_uniforms(0, 0, range(4000))
    warps = random_warps(WILD, Stamp((96, 96), (96, 96)), uniforms)
    scale = np.sqrt(np.abs(np.linalg.det(warps[:, :, :2]))) / (64 / 32)
    assert 1 / 1.3 - 1e-6 <= scale.min() < 1 / 1.28
    assert 1 / 0.82 < scale.max() <= 1 / 0.8 + 1e-6
    centre = np.array([apply(warp, np.array([[16.0, 16.0]]))[0] for warp in warps]) - 48
    assert 4.9 < np.abs(centre).max() <= 5 + 1e-4
    assert 0.45 < np.mean(np.linalg.det(warps[:, :, :2]) < 0) < 0.55


def test_a_member_gets_the_same_views_alone_and_in_company() -> None:
    first, second = member_seeds(7, range(2))
    together = RandomViews(WILD, (first, second)).parameters(STAMP, 3, range(5, 9))
    (alone,) = RandomViews(WILD, member_seeds(7, [1])).parameters(STAMP, 3, range(5, 9))
    assert np.array_equal(together[1].warps, alone.warps)
    assert not np.array_equal(together[0].warps, alone.warps)


def test_a_view_without_changes_of_colour_has_no_colour_parameters() -> None:
    assert RandomViews(WILD, (0,)).parameters(STAMP, 0, range(2))[0].colours is None
    assert random_colours(VIEW, draw_uniforms(0, 0, range(2))) is None


def test_grey_is_luma_in_every_channel_for_random_and_fixed_views() -> None:
    view = replace(VIEW, grey=True)
    pixel = np.array([0.2, 0.5, 0.7, 1.0])
    for views in (RandomViews(view, (0,)), FixedViews(view)):
        assert np.allclose(colours_of(views)[0] @ pixel, 0.299 * 0.2 + 0.587 * 0.5 + 0.114 * 0.7)


def colours_of(views: Views) -> np.ndarray:
    colours = views.parameters(STAMP, 0, range(5))[0].colours
    assert colours is not None
    return colours


def test_one_channel_is_shown_in_all_three(subtests: pytest.Subtests) -> None:
    for jitter in ({}, {"brightness": 0.3, "saturation": 0.4, "colour_noise": 0.5}):
        full = colours_of(RandomViews(replace(VIEW, **{"brightness": 1e-9, **jitter}), (0,)))
        for index, channel in enumerate(("red", "green", "blue")):
            with subtests.test(jitter=jitter, channel=channel):
                view = replace(VIEW, channel=channel, **jitter)
                for views in (RandomViews(view, (0,)), FixedViews(view)):
                    colours = colours_of(views)
                    assert (colours == colours[:, :1]).all()
                chosen = colours_of(RandomViews(view, (0,)))
                assert np.allclose(chosen[:, 0], full[:, index], atol=1e-6)


def test_grey_stays_grey_with_colour_noise() -> None:
    colours = random_colours(replace(VIEW, grey=True, colour_noise=0.5), draw_uniforms(0, 0, range(9)))
    assert colours is not None
    assert np.allclose(colours, colours[:, :1])
    assert np.abs(colours[:, :, 3]).min() > 0


def test_colour_noise_moves_along_one_component_with_its_spread() -> None:
    colours = random_colours(replace(VIEW, colour_noise=0.5), draw_uniforms(0, 0, range(20000)))
    assert colours is not None
    strength = colours[:, :, 3] / COLOUR_COMPONENT
    assert np.allclose(strength, strength[:, :1], atol=1e-4)
    assert abs(strength[:, 0].std() - 0.5) < 0.01
    assert abs(strength[:, 0].mean()) < 0.02
    assert np.allclose(colours[:, :, :3], np.eye(3))


@pipeline_def(batch_size=1, num_threads=1, device_id=None)
def dali_jitter(pixels: np.ndarray, name: str, factor: float) -> object:
    image = types.Constant(pixels, device="cpu")
    if name == "saturation":
        return fn.saturation(image, saturation=factor, dtype=types.FLOAT)
    return fn.brightness_contrast(image, **{name: factor}, contrast_center=127.5, dtype=types.FLOAT)


def test_jitter_is_what_dali_calls_by_the_same_name(subtests: pytest.Subtests) -> None:
    uniforms = draw_uniforms(0, 0, range(1))
    pixels = np.random.default_rng(0).integers(100, 156, (8, 8, 3)).astype(np.uint8)
    for index, name in enumerate(("brightness", "contrast", "saturation")):
        with subtests.test(name=name):
            colours = random_colours(replace(VIEW, **{name: 0.4}), uniforms)
            assert colours is not None
            (expected,) = dali_jitter(pixels, name, 1 + 0.4 * (2 * uniforms[0, index + 6] - 1)).run()
            got = (pixels / 255) @ colours[0, :, :3].T.astype(float) + colours[0, :, 3]
            assert np.abs(255 * got - np.array(expected.at(0))).max() < 0.2
