"""Aligned features: what the planner reads, whether a camera or a raster was looked at."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from rap_inference.bundle import Bundle, BundleCamera, BundleError
from rap_inference.network import Network
from rap_raster.camera import CameraModel
from rap_raster.frames import FloatArray


class FeatureSource(IntEnum):
    """Where the features of one camera slot came from."""

    MISSING = 0
    CAMERA = 1
    RASTER = 2


@dataclass(frozen=True, slots=True)
class AlignedFeatures:
    """Encoder output for the C camera slots of a bundle at one instant.

    Attributes:
        stamp_ns: Stamp of the images or objects they were computed from.
        sources: (C,) `FeatureSource` codes.
        maps: (C, F, h, w) float32; zero where the source is MISSING.
        intrinsics: (C, 4) fx, fy, cx, cy in pixels of the encoder's input image.
        ego_from_camera: (C, 4, 4) optical frame to ego frame, metres.
        alignment_distance: (C,) relative distance between camera and raster features; NaN where
            not measured.
    """

    stamp_ns: int
    sources: npt.NDArray[np.uint8]
    maps: npt.NDArray[np.float32]
    intrinsics: FloatArray
    ego_from_camera: FloatArray
    alignment_distance: npt.NDArray[np.float32]


class FeatureEncoder:
    """Turns images or rasters into aligned features with the bundle's encoder."""

    def __init__(self, bundle: Bundle, network: Network) -> None:
        """Wraps the encoder network of a bundle."""
        manifest = bundle.manifest
        self._network = network
        self._mean = np.array(manifest.normalization.mean, dtype=np.float32)
        self._scale = 1.0 / np.array(manifest.normalization.std, dtype=np.float32)
        shape = manifest.features
        self._shape = (shape.channels, shape.height, shape.width)

    def encode(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Encodes N images.

        Args:
            images: (N, H, W, 3) rgb at the bundle's input size.

        Returns:
            (N, F, h, w) float32.

        Raises:
            BundleError: If the network's output does not have the shape the manifest promises.
        """
        normalized = (images.astype(np.float32) - self._mean) * self._scale
        inputs = np.ascontiguousarray(normalized.transpose(0, 3, 1, 2))
        features = self._network.run({"images": inputs})["features"]
        expected = (len(images), *self._shape)
        if features.shape != expected:
            raise BundleError(f"encoder: features have shape {features.shape}, not {expected}")
        return features


def camera_model(camera: BundleCamera) -> CameraModel:
    """Returns a camera slot of the bundle's nominal rig as a camera model."""
    fx, fy, cx, cy = camera.intrinsics
    return CameraModel(
        camera.name, camera.width, camera.height, fx, fy, cx, cy, camera.ego_from_camera()
    )


def nominal_rig(bundle: Bundle) -> list[CameraModel]:
    """Returns the cameras the bundle was trained for, in slot order."""
    return [camera_model(camera) for camera in bundle.manifest.cameras]


def relative_distance(
    camera: npt.NDArray[np.float32], raster: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    """Distance between camera and raster features, the health signal of the alignment.

    Args:
        camera: (C, F, h, w) features of camera images.
        raster: (C, F, h, w) features of rasters of the same scene and calibration.

    Returns:
        (C,) L2 norm of the difference over the L2 norm of the raster features.
    """
    axes = (1, 2, 3)
    difference = np.sqrt(((camera - raster) ** 2).sum(axes))
    norm = np.sqrt((raster**2).sum(axes))
    result: npt.NDArray[np.float32] = difference / np.maximum(norm, 1e-6)
    return result
