"""A recorded drive in memory: what a log holds, before it is written and after it is read."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from rap_raster.frames import FloatArray
from rap_raster.maps.vector_map import VectorMap
from rap_raster.scene import ObjectClass

STATE_COLUMNS = ("x_m", "y_m", "z_m", "yaw_rad", "vx_mps", "vy_mps", "yaw_rate_radps")
"""Columns of track states: box centre above the ground point z, velocity in the map frame."""

SEAT_CLASSES = (
    ObjectClass.VEHICLE,
    ObjectClass.TRUCK,
    ObjectClass.BUS,
    ObjectClass.MOTORCYCLE,
)
"""Classes whose tracks can be the ego."""


@dataclass(frozen=True, slots=True)
class Tracks:
    """N objects over time, each present in a run of steps without gaps.

    Attributes:
        ids: (N,) int32, unique.
        classes: (N,) uint8 `ObjectClass` codes.
        sizes_m: (N, 3) float64 length, width, height.
        first_steps: (N,) int32 first step of each.
        last_steps: (N,) int32 last step of each, included.
        states: (M, 7) float64 `STATE_COLUMNS`, map frame, track after track; z is the ground's.
    """

    ids: npt.NDArray[np.int32]
    classes: npt.NDArray[np.uint8]
    sizes_m: FloatArray
    first_steps: npt.NDArray[np.int32]
    last_steps: npt.NDArray[np.int32]
    states: FloatArray

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def offsets(self) -> npt.NDArray[np.int64]:
        """(N + 1,) where each track's states begin."""
        counts = self.last_steps.astype(np.int64) - self.first_steps + 1
        return np.concatenate([[0], np.cumsum(counts)])


@dataclass(frozen=True, slots=True)
class LightTracks:
    """L traffic lights over time.

    Attributes:
        lane_ids: L ids of the map lanes they govern, empty where unknown.
        centers_m: (L, 3) map frame.
        sizes_m: (L, 3) length, width, height.
        yaws_rad: (L,) direction they shine towards.
        states: (T, L) uint8 `LightState` codes.
    """

    lane_ids: tuple[str, ...]
    centers_m: FloatArray
    sizes_m: FloatArray
    yaws_rad: FloatArray
    states: npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Recording:
    """One drive of many road users over a map.

    Attributes:
        name: Name of the log.
        map: Where it took place.
        stamps_ns: (T,) int64, evenly spaced.
        tracks: All road users.
        lights: All traffic lights.
        provenance: How it was made, for people: source, seed and the like.
    """

    name: str
    map: VectorMap
    stamps_ns: npt.NDArray[np.int64]
    tracks: Tracks
    lights: LightTracks
    provenance: dict[str, str] = field(default_factory=dict)
