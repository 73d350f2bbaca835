"""Simulated camera images on disk: dear to make, and asked for again by every training.

An image is found by all that decides it, so a folder need not be emptied when logs, maps, sources,
rigs or the camera simulator change.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from rap_raster.camera import CameraModel
from rap_training.augmentation.situation import Situation
from rap_training.whole_file import whole_file

_PNG_SETTINGS = (
    cv2.IMWRITE_PNG_COMPRESSION, 1,
    cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_HUFFMAN_ONLY,
)  # fmt: skip
"""Noise never repeats: looking for repetitions costs time and makes files larger."""


class ImageStore:
    """A folder of images; any number of processes may share it."""

    def __init__(self, folder: Path) -> None:
        """Uses a folder, which is made when the first image is kept."""
        self._folder = folder

    def image(self, situation: Situation, camera: CameraModel, seed: int) -> npt.NDArray[np.uint8]:
        """Returns `situation.camera_image(camera, seed)`, made or kept."""
        path = self._path(situation, camera, seed)
        kept = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB) if path.exists() else None
        if kept is not None:
            return np.asarray(kept, dtype=np.uint8)
        image = situation.camera_image(camera, seed)
        _, png = cv2.imencode(".png", image[..., ::-1], _PNG_SETTINGS)
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path, durable=False) as file:
            file.write(png.tobytes())
        return image

    def _path(self, situation: Situation, camera: CameraModel, seed: int) -> Path:
        boxes, lights = situation.boxes, situation.lights
        place = f"{situation.moment.log.pictured_digest} {seed} {situation.ego.pose}"
        digest = hashlib.sha256(place.encode())
        shape = [camera.width, camera.height, camera.fx, camera.fy, camera.cx, camera.cy]
        for array in (
            boxes.ids, boxes.classes, boxes.centers_m, boxes.sizes_m, boxes.yaws_rad,
            boxes.brake_lights, lights.states, lights.centers_m, lights.sizes_m, lights.yaws_rad,
            np.array(shape), camera.ego_from_camera,
        ):  # fmt: skip
            digest.update(np.ascontiguousarray(array).tobytes())
        name = digest.hexdigest()
        return self._folder / name[:2] / f"{name}.png"
