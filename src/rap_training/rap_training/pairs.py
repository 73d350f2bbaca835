"""Pairs for alignment: a camera image and the raster of the same instant through the same lens.

From logs that have cameras, and from the camera simulator on any log. In both, the raster is drawn
into the raw image: with the lens distortion of the calibration, at the exposure time of the image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Dataset

from rap_evaluation.logs.drive_log import DriveLog, LogCamera, LogError
from rap_perception.images import ImageError, decode_compressed
from rap_raster.camera import CameraModel
from rap_raster.geometry import build_geometry
from rap_raster.rasterizer import render
from rap_raster.styles import Style, load_style
from rap_training.augmentation.mixture import Mixture
from rap_training.config import TrainingConfig
from rap_training.dataset import jittered
from rap_training.rig import fitted_rig

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Pair:
    """An image and what a perfect perception would have drawn there.

    Attributes:
        image: (H, W, 3) rgb.
        raster: (H, W, 3) rgb.
        camera: Both are seen through it.
        origin: Log, camera and time in words.
    """

    image: Pixels
    raster: Pixels
    camera: CameraModel
    origin: str


class PairSource(Protocol):
    """Anything that makes pairs."""

    def __len__(self) -> int:
        """Returns how many different pairs there are at least."""

    def pair(self, rng: np.random.Generator) -> Pair:
        """Makes a pair."""


class LoggedPairs:
    """Every image of the cameras of some logs."""

    def __init__(
        self, logs: Sequence[DriveLog], style: Style, size: tuple[int, int] | None = None
    ) -> None:
        """Lists the images that a scene of the same instant exists for.

        Args:
            logs: Logs; those without cameras give nothing.
            style: Raster style.
            size: Width and height of both pictures; None for those of the camera.
        """
        self._style, self._size = style, size
        self._images = [
            (log, camera, index)
            for log in logs
            for camera in log.cameras
            for index, stamp_ns in enumerate(camera.stamps_ns.tolist())
            if log.has_scene_at(stamp_ns, log.egos[0])
        ]

    def __len__(self) -> int:
        """Returns the number of images."""
        return len(self._images)

    def pair(self, rng: np.random.Generator) -> Pair:
        """Draws one of the pairs."""
        return self[int(rng.integers(len(self)))]

    def __getitem__(self, number: int) -> Pair:
        """Returns one pair.

        Raises:
            LogError: If the image cannot be decoded or has not the size of its calibration.
        """
        log, camera, index = self._images[number]
        stamp_ns = int(camera.stamps_ns[index])
        origin = f"{log.name}: {camera.model.name} at {stamp_ns} ns"
        scene = log.scene_at(stamp_ns, log.egos[0])
        assert scene is not None  # Others were not listed.
        model = camera.model.resized(*self._size) if self._size else camera.model
        raster = render(build_geometry(scene, self._style), model)["rgb"]
        return Pair(_resized(_decoded(camera, index, origin), model), raster, model, origin)


class SimulatedPairs:
    """Pictures of the camera simulator, of the situations of a mixture."""

    def __init__(self, mixture: Mixture, config: TrainingConfig) -> None:
        """Takes what to draw, and how cameras are mounted."""
        self._mixture, self._config = mixture, config
        self._style = load_style(config.data.style)

    def __len__(self) -> int:
        """Returns the number of starts."""
        return sum(len(source) for source in self._mixture.sources)

    def pair(self, rng: np.random.Generator) -> Pair:
        """Draws a situation and one of the cameras."""
        situation = self._mixture.draw(rng).situation
        rig = fitted_rig(situation.vehicle, self._config.data.image_size)
        camera = jittered(rig, self._config, rng)[int(rng.integers(len(rig)))]
        moment = situation.moment
        return Pair(
            image=situation.camera_image(camera, int(rng.integers(2**31))),
            raster=render(situation.geometry(self._style), camera)["rgb"],
            camera=camera,
            origin=f"{moment.log.name}: track {moment.seat}, step {moment.step}, {camera.name}",
        )


class PairDataset(Dataset[dict[str, torch.Tensor]]):
    """Pairs of one size; an index always gives the same bytes."""

    def __init__(
        self, sources: Sequence[tuple[PairSource, float]], *, seed: int, length: int
    ) -> None:
        """Draws `length` pairs from sources with their weights; a source without pairs has none."""
        self._sources = [source for source, weight in sources if weight > 0.0 and len(source)]
        weights = [weight for source, weight in sources if weight > 0.0 and len(source)]
        if not weights:
            raise LogError("pairs: no camera images in the logs, and no simulated ones wanted")
        self._shares = np.array(weights) / sum(weights)
        self._seed, self._length = seed, length

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        """Returns (H, W, 3) uint8 `image` and `raster`."""
        rng = np.random.default_rng([self._seed, index])
        pair = self._sources[int(rng.choice(len(self._sources), p=self._shares))].pair(rng)
        return {"image": torch.from_numpy(pair.image), "raster": torch.from_numpy(pair.raster)}


def _decoded(camera: LogCamera, index: int, origin: str) -> Pixels:
    try:
        image = decode_compressed(np.frombuffer(camera.jpeg(index), np.uint8))
    except ImageError as error:
        raise LogError(f"{origin}: {error}") from error
    if image.shape[:2] != (camera.model.height, camera.model.width):
        raise LogError(
            f"{origin}: image is {image.shape[1]}x{image.shape[0]} pixels, its calibration is for "
            f"{camera.model.width}x{camera.model.height}"
        )
    return image


def _resized(image: Pixels, camera: CameraModel) -> Pixels:
    if image.shape[:2] == (camera.height, camera.width):
        return image
    size = (camera.width, camera.height)
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA).astype(np.uint8)
