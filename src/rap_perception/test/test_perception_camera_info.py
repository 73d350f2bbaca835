from __future__ import annotations

import numpy as np
import pytest

from rap_perception.camera_info import CalibrationError, Readout, camera_model_from_info
from rap_perception.images import reduce_image

K = [700.0, 0.0, 480.0, 0.0, 690.0, 300.0, 0.0, 0.0, 1.0]


def model(**changes):
    fields = {"width": 960, "height": 604, "k": K, "d": [], "distortion_model": ""}
    fields |= changes
    return camera_model_from_info("front", ego_from_camera=np.eye(4), **fields)


def test_fields_become_the_camera_model():
    camera = model(d=[-0.3, 0.1, 0.0, 0.0, 0.0], distortion_model="plumb_bob")
    assert (camera.fx, camera.fy, camera.cx, camera.cy) == (700.0, 690.0, 480.0, 300.0)
    assert camera.distortion is not None
    assert camera.distortion.coeffs == (-0.3, 0.1, 0.0, 0.0, 0.0)


@pytest.mark.parametrize("d", [[], [0.0] * 5])
def test_no_coefficients_mean_no_lens(d):
    assert model(d=d, distortion_model="plumb_bob").distortion is None


def test_a_fisheye_with_zero_coefficients_is_still_a_fisheye():
    """Equidistant projection with k = 0 is not a pinhole."""
    camera = model(d=[0.0] * 4, distortion_model="equidistant")
    assert camera.distortion is not None


def test_a_region_and_bins_show_the_same_points_where_the_sensor_would():
    """A pixel of the image covers the bin of sensor pixels that it was made from."""
    whole, part = model(), model(readout=Readout(100, 60, 640, 480, 2, 2))
    assert (part.width, part.height) == (320, 240)
    sensor = np.zeros((604, 960, 3), np.uint8)
    sensor[302:304, 420:422] = 255  # two by two pixels around (420.5, 302.5)
    image = reduce_image(sensor[60:540, 100:740], 2)
    (row, *_), (column, *_) = np.nonzero(image[:, :, 0])
    ray = (420.5 - whole.cx) / whole.fx, (302.5 - whole.cy) / whole.fy
    assert part.fx * ray[0] + part.cx == pytest.approx(column)
    assert part.fy * ray[1] + part.cy == pytest.approx(row)


def test_bins_that_do_not_divide_the_sensor_leave_a_rest_out():
    part = model(readout=Readout(binning_x=7, binning_y=1))
    assert (part.width, part.height) == (137, 604)
    assert part.fx == pytest.approx(100.0)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"k": [0.0] * 9}, "front: camera_info.k has focal lengths 0, 0, expected > 0"),
        ({"k": [float("nan")] * 9}, "front: camera_info.k is not finite"),
        ({"k": [700.0, 3.0, *K[2:]]}, "skew"),
        ({"width": 0}, "front: camera_info size is 0x604"),
        (
            {"readout": Readout(400, 0, 640, 480)},
            "front: camera_info.roi is 640x480 at 400, 0, expected inside 960x604",
        ),
        ({"readout": Readout(binning_x=961)}, "front: camera_info.binning is 961x1"),
        ({"d": [0.1], "distortion_model": "plumb_bob"}, "d has 1 values, plumb_bob expects 4 or 5"),
        ({"d": [0.1] * 5, "distortion_model": "thin_prism"}, "expected one of plumb_bob"),
        ({"d": [float("inf")] * 5, "distortion_model": "plumb_bob"}, "camera_info.d is not finite"),
    ],
)
def test_unusable_calibration_is_refused_in_one_line_with_the_field(changes, expected):
    with pytest.raises(CalibrationError) as caught:
        model(**changes)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)
