"""The encoder of a bundle: its cameras, and images of them turned into features."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from rap_inference.bundle import Bundle, BundleCamera, BundleError
from rap_inference.network import Network
from rap_raster.camera import CameraModel


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
