"""The camera model: intrinsics, lens and pose in one object.

Rasterizer, rectification, resizing and feature projection all use this one definition, so that a
point lands on the same pixel in all of them. Pixel centres are at integer coordinates, as in
`sensor_msgs/CameraInfo` and OpenCV.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from rap_raster.frames import FloatArray, inverse, transform_points

DISTORTION_MODELS = {"plumb_bob": (4, 5), "rational_polynomial": (8,), "equidistant": (4,)}
"""Lens models of `sensor_msgs/CameraInfo` and how many coefficients each may have."""

NEAR_M = 0.1
"""Near plane along the optical axis, metres: nothing closer is drawn or projected."""


@dataclass(frozen=True, slots=True)
class Distortion:
    """A lens model as in `sensor_msgs/CameraInfo`.

    Attributes:
        model: One of `DISTORTION_MODELS`.
        coeffs: Coefficients in OpenCV's order: k1 k2 p1 p2 [k3 [k4 k5 k6]], or k1..k4 (fisheye).
    """

    model: str
    coeffs: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class CameraModel:
    """One calibrated camera.

    Attributes:
        name: Unique within a rig, also part of topic and file names.
        width: Image width in pixels.
        height: Image height in pixels.
        fx: Focal length in pixels, horizontally.
        fy: Focal length in pixels, vertically.
        cx: Principal point in pixels (pixel centres at integers).
        cy: Principal point in pixels.
        ego_from_camera: (4, 4) rigid transform from the optical frame to the ego frame, metres.
        distortion: Lens model, or None for a pinhole.
    """

    name: str
    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float
    ego_from_camera: FloatArray
    distortion: Distortion | None = None

    @property
    def intrinsics(self) -> FloatArray:
        """The (3, 3) camera matrix."""
        return np.array([[self.fx, 0.0, self.cx], [0.0, self.fy, self.cy], [0.0, 0.0, 1.0]])

    def image_from_ego(self) -> FloatArray:
        """Returns the (3, 4) pinhole projection: ego metres to (u w, v w, w) pixels.

        It ignores the lens, so it is right for rectified images and rasters without distortion.
        """
        projection: FloatArray = self.intrinsics @ inverse(self.ego_from_camera)[:3]
        return projection

    def resized(self, width: int, height: int) -> CameraModel:
        """Returns the camera of this camera's image resized to `width` x `height`.

        Source: design contract; cx' = (cx + 0.5) sx - 0.5 because pixel centres are at integers.
        """
        sx, sy = width / self.width, height / self.height
        return replace(
            self,
            width=width,
            height=height,
            fx=self.fx * sx,
            fy=self.fy * sy,
            cx=(self.cx + 0.5) * sx - 0.5,
            cy=(self.cy + 0.5) * sy - 0.5,
        )


def project_points(
    camera: CameraModel, points_ego: FloatArray
) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
    """Projects ego-frame points into the rectified (pinhole) image.

    Args:
        camera: Its lens model is ignored, see `CameraModel.image_from_ego`.
        points_ego: (N, 3) metres, ego frame.

    Returns:
        pixels: (N, 2) pixels, undefined where not visible.
        visible: (N,) True if beyond the near plane and inside the image.
    """
    points_camera = transform_points(inverse(camera.ego_from_camera), points_ego)
    in_front = points_camera[:, 2] > NEAR_M
    depth_m = np.where(in_front, points_camera[:, 2], 1.0)
    pixels = np.stack(
        [
            camera.fx * points_camera[:, 0] / depth_m + camera.cx,
            camera.fy * points_camera[:, 1] / depth_m + camera.cy,
        ],
        axis=-1,
    )
    size = np.array([camera.width, camera.height])
    inside = np.all((pixels >= -0.5) & (pixels < size - 0.5), axis=-1)
    return pixels, in_front & inside


def optical_rotation(yaw_rad: float, pitch_rad: float = 0.0) -> FloatArray:
    """Returns the (3, 3) rotation from an optical frame to the ego frame.

    Args:
        yaw_rad: Viewing direction, counter-clockwise from straight ahead.
        pitch_rad: Downward tilt of the optical axis.
    """
    ego_from_level = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])
    cos_p, sin_p = np.cos(pitch_rad), np.sin(pitch_rad)
    pitch = np.array([[cos_p, 0.0, sin_p], [0.0, 1.0, 0.0], [-sin_p, 0.0, cos_p]])
    cos_y, sin_y = np.cos(yaw_rad), np.sin(yaw_rad)
    yaw = np.array([[cos_y, -sin_y, 0.0], [sin_y, cos_y, 0.0], [0.0, 0.0, 1.0]])
    rotation: FloatArray = yaw @ pitch @ ego_from_level
    return rotation
