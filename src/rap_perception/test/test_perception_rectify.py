"""The rectified camera's intrinsics are truthful: a point appears where they say."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from rap_perception.images import ImageError, decode_compressed, reduce_image
from rap_perception.rectify import Rectifier
from rap_raster.camera import CameraModel, Distortion, optical_rotation, project_points
from rap_raster.frames import inverse, transform_points

LENSES = {
    "pinhole": None,
    "plumb_bob": Distortion("plumb_bob", (-0.3, 0.08, 1e-3, -5e-4, 0.01)),
    "rational": Distortion("rational_polynomial", (0.2, -0.1, 5e-4, 2e-4, 0.02, 0.5, -0.05, 0.01)),
    "equidistant": Distortion("equidistant", (0.02, -0.01, 0.003, -0.001)),
}


def source_camera(lens: str, width: int = 960, height: int = 604) -> CameraModel:
    pose = np.eye(4)
    pose[:3, :3] = optical_rotation(0.3, 0.05)
    pose[:3, 3] = [1.5, 0.2, 1.6]
    return CameraModel(
        "cam", width, height, 700.0, 690.0, 470.3, 310.8, pose, distortion=LENSES[lens]
    )


def source_pixel(camera: CameraModel, point_ego: np.ndarray) -> np.ndarray:
    """Projects through the lens with OpenCV, independently of our own code."""
    point = transform_points(inverse(camera.ego_from_camera), point_ego).reshape(1, 1, 3)
    zero = np.zeros(3)
    if camera.distortion is None:
        pixels, _ = cv2.projectPoints(point, zero, zero, camera.intrinsics, None)
    elif camera.distortion.model == "equidistant":
        coeffs = np.array(camera.distortion.coeffs)
        pixels, _ = cv2.fisheye.projectPoints(point, zero, zero, camera.intrinsics, coeffs)
    else:
        coeffs = np.array(camera.distortion.coeffs)
        pixels, _ = cv2.projectPoints(point, zero, zero, camera.intrinsics, coeffs)
    return pixels.reshape(2)


def blob_image(camera: CameraModel, pixel: np.ndarray) -> np.ndarray:
    """Draws a soft spot of about 12 pixels around an exact place."""
    x, y = np.meshgrid(np.arange(camera.width), np.arange(camera.height))
    spot = 250.0 * np.exp(-((x - pixel[0]) ** 2 + (y - pixel[1]) ** 2) / (2 * 6.0**2))
    return np.repeat(spot[:, :, None], 3, axis=2).astype(np.uint8)


def centroid(image: np.ndarray) -> np.ndarray:
    weights = image[:, :, 0].astype(float)
    weights[weights < 0.2 * weights.max()] = 0.0
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    return np.array([(weights * x).sum(), (weights * y).sum()]) / weights.sum()


POINTS_EGO = [(20.0, 6.0, 1.0), (15.0, 1.0, 2.5), (12.0, 8.0, 0.3)]


@pytest.mark.parametrize("point_ego", POINTS_EGO)
@pytest.mark.parametrize("lens", LENSES)
@pytest.mark.parametrize("reduction", [1, 2])
def test_a_point_seen_through_the_lens_lands_where_the_rectified_camera_projects_it(
    lens, point_ego, reduction
):
    source = source_camera(lens)
    rectifier = Rectifier(source, 256, 128)
    point = np.array(point_ego)
    image = blob_image(source, source_pixel(source, point))
    rectified = rectifier.rectify(reduce_image(image, reduction), reduction)
    expected, visible = project_points(rectifier.camera, point[None])
    assert visible[0]
    np.testing.assert_allclose(centroid(rectified), expected[0], atol=0.25)


def test_reduced_jpeg_gives_the_same_geometry_as_the_full_image():
    """960 x 604 at a quarter: JPEG's scaled transform must not shift the picture."""
    source = source_camera("plumb_bob")
    rectifier = Rectifier(source, 128, 64)
    assert rectifier.reduction == 4
    point = np.array(POINTS_EGO[0])
    image = blob_image(source, source_pixel(source, point))
    _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 95])
    rectified = rectifier.rectify(decode_compressed(data.reshape(-1), 4), 4)
    expected, _ = project_points(rectifier.camera, point[None])
    np.testing.assert_allclose(centroid(rectified), expected[0], atol=0.25)


@pytest.mark.parametrize("size", [(960, 604), (961, 603), (300, 900), (256, 128), (100, 50)])
def test_the_source_covers_the_whole_input_without_stretching_it(size):
    source = source_camera("pinhole", *size)
    rectifier = Rectifier(source, 256, 128)
    camera = rectifier.camera
    assert camera.fx / source.fx == pytest.approx(camera.fy / source.fy)
    white = np.full((size[1], size[0], 3), 255, np.uint8)
    rectified = rectifier.rectify(reduce_image(white, rectifier.reduction), rectifier.reduction)
    assert rectified.shape == (128, 256, 3)
    assert (rectified[2:-2, 2:-2] == 255).all()


@pytest.mark.parametrize(("width", "reduction"), [(256, 1), (511, 1), (512, 2), (1024, 4)])
def test_an_image_is_shrunk_as_far_as_it_still_covers_the_input(width, reduction):
    source = source_camera("pinhole", width, width)
    assert Rectifier(source, 256, 128).reduction == reduction


def test_an_image_of_another_size_than_calibrated_is_refused():
    rectifier = Rectifier(source_camera("pinhole"), 256, 128)
    with pytest.raises(ImageError, match="cam: image is 640x480, its camera_info says 960x604"):
        rectifier.rectify(np.zeros((480, 640, 3), np.uint8), 1)
