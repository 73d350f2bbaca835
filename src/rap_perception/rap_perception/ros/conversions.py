"""Camera messages to what the library reads."""

from __future__ import annotations

import numpy as np
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from rap_perception.camera_info import CalibrationError, camera_model_from_info
from rap_perception.images import Image as Pixels
from rap_perception.images import decode_compressed, decode_raw, reduce_image
from rap_raster.camera import CameraModel
from rap_raster.frames import FloatArray


def pixels(message: Image | CompressedImage, reduction: int) -> Pixels:
    """Decodes an image message, shrunk by `reduction`; raises ImageError."""
    data = np.asarray(message.data)
    if isinstance(message, CompressedImage):
        return decode_compressed(data, reduction)
    image = decode_raw(data, message.encoding, message.width, message.height, message.step)
    return reduce_image(image, reduction)


def camera_model(name: str, message: CameraInfo, ego_from_camera: FloatArray) -> CameraModel:
    """Converts a calibration; raises CalibrationError."""
    if message.binning_x > 1 or message.binning_y > 1:
        raise CalibrationError(
            f"{name}: camera_info.binning is {message.binning_x}x{message.binning_y}, expected 1"
        )
    if message.roi.width or message.roi.height:
        raise CalibrationError(f"{name}: camera_info.roi is set, expected the whole image")
    return camera_model_from_info(
        name,
        width=message.width,
        height=message.height,
        k=message.k,
        d=message.d,
        distortion_model=message.distortion_model,
        ego_from_camera=ego_from_camera,
    )
