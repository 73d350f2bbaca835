"""Aligned features: what the planner reads, whether a camera or a raster was looked at."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt

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
