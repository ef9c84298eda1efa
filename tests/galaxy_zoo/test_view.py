"""A view's range of warps, and the stamp that covers all of them."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from galaxy_zoo.view import STAMP_OVERSAMPLING, Stamp, View

IMAGE_PX = (2000, 2001)
UNIT = st.floats(-1, 1)


@st.composite
def views(draw: st.DrawFn) -> View:
    """Views whose widest warp fits the image."""
    lowest = draw(st.floats(0.5, 1))
    return View(
        crop_px=draw(st.floats(32, 424)),
        size_px=draw(st.integers(16, 256)),
        rotation_deg=180,
        zoom=(lowest, draw(st.floats(lowest, 2))),
        shift_px=draw(st.floats(0, 40)),
        shear_deg=draw(st.floats(0, 30)),
        flip=True,
    )


def corners_of(view: View, data: st.DataObject) -> np.ndarray:
    """Corners, as (x, y) from the image's centre, of one warp within the view's range: shape (2, 4)."""
    angle = math.pi * data.draw(UNIT)
    zoom = data.draw(st.floats(*view.zoom))
    shear = math.tan(math.radians(view.shear_deg * data.draw(UNIT)))
    shift = view.shift_px * np.array([[data.draw(UNIT)], [data.draw(UNIT)]])
    square = np.array([[-1, 1, 1, -1], [-1, -1, 1, 1]]) * view.crop_px / zoom / 2
    rotate = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    return rotate @ np.array([[1, shear], [0, 1]]) @ square + shift


@given(views(), st.data())
def test_every_warp_lies_inside_the_stamps_window(view: View, data: st.DataObject) -> None:
    window_y, window_x = view.stamp(IMAGE_PX).window_px
    reach_x, reach_y = np.abs(corners_of(view, data)).max(axis=1)
    assert reach_x <= window_x / 2 + 1e-9
    assert reach_y <= window_y / 2 + 1e-9


@given(views(), st.tuples(st.integers(16, 600), st.integers(16, 600)))
def test_the_window_is_centred_to_the_pixel_and_inside_the_image(view: View, image_px: tuple[int, int]) -> None:
    stamp = view.stamp(image_px)
    for side, window in zip(image_px, stamp.window_px, strict=True):
        assert 0 < window <= side
        assert (side - window) % 2 == 0


@given(views())
def test_the_stamp_has_the_oversampled_resolution_of_the_view_but_is_never_enlarged(view: View) -> None:
    stamp = view.stamp(IMAGE_PX)
    wanted = STAMP_OVERSAMPLING * view.size_px / view.crop_px * math.sqrt(view.zoom[0] * view.zoom[1])
    for size, window in zip(stamp.size_px, stamp.window_px, strict=True):
        assert abs(size - window * min(1, wanted)) <= 0.5 + 1e-9


@given(views())
def test_training_and_test_time_views_are_cut_from_the_same_stamp(view: View) -> None:
    assert replace(view, rotation_deg=0, flip=False).stamp(IMAGE_PX) == view.stamp(IMAGE_PX)


def test_dielemans_stamp_by_hand() -> None:
    view = View(crop_px=207, size_px=69, rotation_deg=180, zoom=(1 / 1.3, 1.3), shift_px=4)
    side = math.ceil(207 * 1.3 * math.sqrt(2) + 8) + 1  # even, as 424 is
    reduced = round(side * 1.75 / 3)  # 207 px become 69
    assert view.stamp((424, 424)) == Stamp((side, side), (reduced, reduced))


def test_a_crop_wider_than_the_image_keeps_all_of_it() -> None:
    assert View(crop_px=424, size_px=424).stamp((424, 256)) == Stamp((424, 256), (424, 256))


def test_the_stamp_of_framed_views_is_the_whole_image_as_finely_as_of_others() -> None:
    plain = View(crop_px=64, size_px=16)
    for framed in (replace(plain, framing="centred"), replace(plain, framing="scaled", object_radius_px=9)):
        stamp, (height, width) = framed.stamp((200, 300)), plain.stamp((200, 300)).size_px
        assert stamp.window_px == (200, 300)
        assert stamp.size_px[0] / 200 == pytest.approx(height / plain.stamp((200, 300)).window_px[0], abs=0.01)
        assert stamp.size_px[1] / 300 == pytest.approx(width / plain.stamp((200, 300)).window_px[1], abs=0.01)


BAD_VALUES = [
    ("framing", "scaled"),
    ("object_radius_px", 160),
    ("object_radius_px", -1),
    ("crop_px", 0),
    ("size_px", -1),
    ("zoom", (0, 1)),
    ("zoom", (1.3, 0.7)),
    ("shear_deg", 90),
    ("shear_deg", -1),
    ("rotation_deg", -40),
    ("shift_px", -4),
    ("brightness", -0.1),
    ("contrast", -0.1),
    ("saturation", -0.1),
    ("colour_noise", -0.5),
    ("std", (0.5, 0, 0.5)),
    ("turns_deg", ()),
]
CONTRADICTIONS = [
    ({"normalisation": "measured", "mean": (0.1, 0.2, 0.4)}, "not both"),
    ({"grey": True, "channel": "red"}, "exclude each other"),
]


def test_values_that_make_no_view_are_refused(subtests: pytest.Subtests) -> None:
    for options, says in [*(({field: value}, field) for field, value in BAD_VALUES), *CONTRADICTIONS]:
        with subtests.test(options=options), pytest.raises(ValueError, match=says):
            View(**{"crop_px": 207, "size_px": 69} | options)


def test_a_view_knows_whether_it_changes_colours(subtests: pytest.Subtests) -> None:
    for field in ["brightness", "contrast", "saturation", "colour_noise", "grey"]:
        with subtests.test(field=field):
            view = View(crop_px=207, size_px=69, rotation_deg=180, flip=True, mean=(0, 0, 0))
            assert not view.changes_colour
            assert replace(view, **{field: 0.5 if field != "grey" else True}).changes_colour


MEAN, STD = (0.1, 0.2, 0.4), (0.2, 0.3, 0.5)
MEASURED = View(crop_px=64, size_px=32, normalisation="measured")


def test_measured_statistics_become_those_of_the_channels_shown() -> None:
    assert MEASURED.with_statistics(MEAN, STD) == replace(MEASURED, normalisation="given", mean=MEAN, std=STD)
    green = replace(MEASURED, channel="green").with_statistics(MEAN, STD)
    assert (green.mean, green.std) == ((0.2,) * 3, (0.3,) * 3)
    grey = replace(MEASURED, grey=True).with_statistics(MEAN, STD)
    assert grey.mean == pytest.approx((0.299 * 0.1 + 0.587 * 0.2 + 0.114 * 0.4,) * 3)
    given = replace(MEASURED, normalisation="given", mean=MEAN)
    assert given.with_statistics(STD, MEAN) is given
