"""From the fields of `sensor_msgs/CameraInfo` to a camera model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rap_raster.camera import DISTORTION_MODELS, CameraModel, Distortion
from rap_raster.frames import FloatArray


class CalibrationError(ValueError):
    """A calibration that cannot be used; the text names the camera and the field."""


def camera_model_from_info(
    name: str,
    *,
    width: int,
    height: int,
    k: Sequence[float],
    d: Sequence[float],
    distortion_model: str,
    ego_from_camera: FloatArray,
) -> CameraModel:
    """Returns the model of the raw (distorted) image.

    Args:
        name: Camera name, for errors and the model.
        width: Pixels of the calibrated image.
        height: Pixels of the calibrated image.
        k: 9 values, row-major camera matrix; an all-zero one means "not calibrated" in ROS.
        d: Distortion coefficients; empty or all zero: no distortion.
        distortion_model: Name of the lens model; may be empty where `d` is.
        ego_from_camera: (4, 4) optical frame to ego frame.

    Raises:
        CalibrationError: If the calibration is missing, not finite or of an unknown kind.
    """
    if width <= 0 or height <= 0:
        raise CalibrationError(f"{name}: camera_info size is {width}x{height}, expected > 0")
    matrix = np.asarray(k, dtype=np.float64).reshape(3, 3)
    if not np.isfinite(matrix).all():
        raise CalibrationError(f"{name}: camera_info.k is not finite: {list(map(float, k))}")
    if matrix[0, 0] <= 0 or matrix[1, 1] <= 0:
        raise CalibrationError(
            f"{name}: camera_info.k has focal lengths {matrix[0, 0]:g}, {matrix[1, 1]:g}, "
            "expected > 0: the camera is not calibrated"
        )
    if matrix[0, 1] != 0:
        raise CalibrationError(f"{name}: camera_info.k[1] (skew) is {matrix[0, 1]:g}, expected 0")
    return CameraModel(
        name=name,
        width=width,
        height=height,
        fx=float(matrix[0, 0]),
        fy=float(matrix[1, 1]),
        cx=float(matrix[0, 2]),
        cy=float(matrix[1, 2]),
        ego_from_camera=ego_from_camera,
        distortion=_distortion(name, d, distortion_model),
    )


def _distortion(name: str, d: Sequence[float], model: str) -> Distortion | None:
    coefficients = tuple(float(value) for value in d)
    if not np.isfinite(coefficients).all():
        raise CalibrationError(f"{name}: camera_info.d is not finite: {list(coefficients)}")
    if not any(coefficients) and model != "equidistant":
        return None
    if model not in DISTORTION_MODELS:
        raise CalibrationError(
            f"{name}: camera_info.distortion_model is {model!r}, "
            f"expected one of {', '.join(DISTORTION_MODELS)}"
        )
    if len(coefficients) not in DISTORTION_MODELS[model]:
        counts = " or ".join(map(str, DISTORTION_MODELS[model]))
        raise CalibrationError(
            f"{name}: camera_info.d has {len(coefficients)} values, {model} expects {counts}"
        )
    return Distortion(model, coefficients)
