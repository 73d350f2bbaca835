"""From the fields of `sensor_msgs/CameraInfo` to a camera model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from rap_raster.camera import DISTORTION_MODELS, CameraModel, Distortion
from rap_raster.frames import FloatArray


class CalibrationError(ValueError):
    """A calibration that cannot be used; the text names the camera and the field."""


@dataclass(frozen=True, slots=True)
class Readout:
    """Which part of the sensor an image shows, as in `sensor_msgs/CameraInfo`.

    Attributes:
        x_px: First column read out, in pixels of the whole sensor.
        y_px: First row read out.
        width_px: Columns read out; 0: all.
        height_px: Rows read out; 0: all.
        binning_x: Columns joined into one; 0 means 1.
        binning_y: Rows joined into one; 0 means 1.
    """

    x_px: int = 0
    y_px: int = 0
    width_px: int = 0
    height_px: int = 0
    binning_x: int = 0
    binning_y: int = 0


WHOLE_SENSOR = Readout()


def camera_model_from_info(
    name: str,
    *,
    width: int,
    height: int,
    k: Sequence[float],
    d: Sequence[float],
    distortion_model: str,
    ego_from_camera: FloatArray,
    readout: Readout = WHOLE_SENSOR,
) -> CameraModel:
    """Returns the model of the raw (distorted) image.

    Args:
        name: Camera name, for errors and the model.
        width: Pixels of the whole sensor.
        height: Pixels of the whole sensor.
        k: 9 values, row-major camera matrix; an all-zero one means "not calibrated" in ROS.
        d: Distortion coefficients; empty or all zero: no distortion.
        distortion_model: Name of the lens model; may be empty where `d` is.
        ego_from_camera: (4, 4) optical frame to ego frame.
        readout: Part of the sensor that the images show.

    Raises:
        CalibrationError: If the calibration is missing, not finite or of an unknown kind, or the
            part read out does not lie on the sensor.
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
    whole = CameraModel(
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
    return _read_out(whole, readout)


def camera_model_from_message(
    name: str,
    message: Any,  # noqa: ANN401 - of ROS, or of a bag
    ego_from_camera: FloatArray,
) -> CameraModel:
    """Returns the model of the images that a `sensor_msgs/CameraInfo` is for.

    Raises:
        CalibrationError: As `camera_model_from_info`.
    """
    roi = message.roi
    return camera_model_from_info(
        name,
        width=message.width,
        height=message.height,
        k=message.k,
        d=message.d,
        distortion_model=message.distortion_model,
        ego_from_camera=ego_from_camera,
        readout=Readout(
            roi.x_offset, roi.y_offset, roi.width, roi.height, message.binning_x, message.binning_y
        ),
    )


def _read_out(whole: CameraModel, part: Readout) -> CameraModel:
    """Returns the camera of the image that is left after region of interest and binning.

    The lens model stays: it works on rays, not on pixels.
    """
    width, height = part.width_px or whole.width, part.height_px or whole.height
    if part.x_px + width > whole.width or part.y_px + height > whole.height:
        raise CalibrationError(
            f"{whole.name}: camera_info.roi is {width}x{height} at {part.x_px}, {part.y_px}, "
            f"expected inside {whole.width}x{whole.height}"
        )
    columns, rows = max(part.binning_x, 1), max(part.binning_y, 1)
    if columns > width or rows > height:
        raise CalibrationError(
            f"{whole.name}: camera_info.binning is {columns}x{rows}, expected at most "
            f"{width}x{height}"
        )
    # Whole bins only: a rest of a column or row at the edge is not read out.
    width, height = width - width % columns, height - height % rows
    cropped = replace(
        whole, width=width, height=height, cx=whole.cx - part.x_px, cy=whole.cy - part.y_px
    )
    return cropped.resized(width // columns, height // rows)


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
