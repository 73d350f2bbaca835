"""From a calibrated camera's image to a pinhole image of the network's input size.

The virtual camera sits where the real one does: the lens is undone, the image is scaled uniformly
until it covers the network's input, and what sticks out is cropped evenly. Its intrinsics are
returned as they are, so the planner projects points to where they really appear.
"""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import numpy.typing as npt

from rap_perception.images import REDUCTIONS, Image, ImageError
from rap_raster.camera import CameraModel

Maps = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]


class Rectifier:
    """Rectifies the images of one camera.

    Attributes:
        source: The real camera.
        camera: The virtual pinhole camera of the rectified images.
        reduction: By how much an image may be shrunk before `rectify` without losing detail.
    """

    def __init__(self, source: CameraModel, width: int, height: int) -> None:
        """Plans the rectification to `width` x `height` pixels."""
        scale = max(width / source.width, height / source.height)
        self.source = source
        self.camera = _cover(source, scale, width, height)
        self.reduction = max([n for n in REDUCTIONS if n * scale <= 1.0], default=1)
        self._maps: dict[int, Maps] = {}

    def rectify(self, image: Image, reduction: int) -> Image:
        """Rectifies one image.

        Args:
            image: (h, w, 3) rgb, the source image shrunk by `reduction`.
            reduction: One of `rap_perception.images.REDUCTIONS`.

        Returns:
            (height, width, 3) rgb, the image of `camera`. Pixels outside the source are black.

        Raises:
            ImageError: If the image does not have the calibrated size.
        """
        self._check_size(image, reduction)
        map_x, map_y = self._source_pixels(reduction)
        rectified: Image = cv2.remap(image, map_x, map_y, cv2.INTER_LINEAR)  # type: ignore[assignment]
        return rectified

    def _check_size(self, image: Image, reduction: int) -> None:
        rows, columns = image.shape[:2]
        fits = all(
            have in (full // reduction, -(-full // reduction))
            for have, full in ((rows, self.source.height), (columns, self.source.width))
        )
        if not fits:
            raise ImageError(
                f"{self.source.name}: image is {columns * reduction}x{rows * reduction}, "
                f"its camera_info says {self.source.width}x{self.source.height}"
            )

    def _source_pixels(self, reduction: int) -> Maps:
        """Returns, per output pixel, where to sample the reduced source image."""
        if reduction not in self._maps:
            source = _reduced(self.source, reduction)
            coeffs = np.array(source.distortion.coeffs if source.distortion else ())
            fisheye = source.distortion is not None and source.distortion.model == "equidistant"
            make = cv2.fisheye.initUndistortRectifyMap if fisheye else cv2.initUndistortRectifyMap
            size = (self.camera.width, self.camera.height)
            maps = make(
                source.intrinsics, coeffs, np.eye(3), self.camera.intrinsics, size, cv2.CV_32FC1
            )
            self._maps[reduction] = (maps[0].astype(np.float32), maps[1].astype(np.float32))
        return self._maps[reduction]


def _cover(source: CameraModel, scale: float, width: int, height: int) -> CameraModel:
    """Returns the pinhole camera of the source scaled by `scale`, cropped around its centre."""
    crop_x = 0.5 * (scale * source.width - width)
    crop_y = 0.5 * (scale * source.height - height)
    return replace(
        source,
        width=width,
        height=height,
        fx=scale * source.fx,
        fy=scale * source.fy,
        cx=scale * (source.cx + 0.5) - 0.5 - crop_x,
        cy=scale * (source.cy + 0.5) - 0.5 - crop_y,
        distortion=None,
    )


def _reduced(source: CameraModel, reduction: int) -> CameraModel:
    """Returns the camera of the image shrunk by exactly `reduction`, whatever its last column."""
    return replace(
        source,
        fx=source.fx / reduction,
        fy=source.fy / reduction,
        cx=(source.cx + 0.5) / reduction - 0.5,
        cy=(source.cy + 0.5) / reduction - 0.5,
    )
