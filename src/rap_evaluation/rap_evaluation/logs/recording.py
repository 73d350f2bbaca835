"""A recorded drive in memory: what a log holds, before it is written and after it is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from rap_bringup.drives.recorded_drive import RecordedCamera
from rap_raster.frames import FloatArray
from rap_raster.maps.vector_map import VectorMap
from rap_raster.scene import ObjectClass
from rap_raster.vehicle import REAR_AXLE_TO_CENTER_SHARE, VehicleDimensions

STEP_NS = 100_000_000
"""Between steps of logs made from recorded drives: 10 Hz."""

STATE_COLUMNS = ("x_m", "y_m", "z_m", "yaw_rad", "vx_mps", "vy_mps", "yaw_rate_radps")
"""Columns of track states: box centre above the ground point z, velocity in the map frame."""

SEAT_CLASSES = (
    ObjectClass.VEHICLE,
    ObjectClass.TRUCK,
    ObjectClass.BUS,
    ObjectClass.MOTORCYCLE,
)
"""Classes whose tracks can be the ego."""

NO_SOURCE_ID = 0
"""Source id of a track the source gave none, such as the recording vehicle."""


UNSEEN_LIGHT = 0
"""State of a light at a step at which it was not seen; it is in no scene then."""


class Engagement(IntEnum):
    """Whether the recording vehicle drove itself."""

    MANUAL = 0
    ENGAGED = 1
    UNKNOWN = 255


@dataclass(frozen=True, slots=True)
class Tracks:
    """N objects over time, each present in a run of steps without gaps.

    Attributes:
        ids: (N,) int32, positive, unique.
        source_ids: (N,) int64 ids the source gave, `NO_SOURCE_ID` where it gave none. A road user
            that was lost and found again is several tracks with one source id.
        classes: (N,) uint8 `ObjectClass` codes.
        sizes_m: (N, 3) float64 length, width, height.
        rear_axles_m: (N,) float64 how far the box centre lies ahead of the rear axle: measured
            where known, else that of a typical car (`VehicleDimensions.from_size`).
        first_steps: (N,) int32 first step of each.
        last_steps: (N,) int32 last step of each, included.
        states: (M, 7) float64 `STATE_COLUMNS`, map frame, track after track; z is the ground's.
        observed: (M,) bool, False where a state was interpolated between two sights.
    """

    ids: npt.NDArray[np.int32]
    source_ids: npt.NDArray[np.int64]
    classes: npt.NDArray[np.uint8]
    sizes_m: FloatArray
    rear_axles_m: FloatArray
    first_steps: npt.NDArray[np.int32]
    last_steps: npt.NDArray[np.int32]
    states: FloatArray
    observed: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def offsets(self) -> npt.NDArray[np.int64]:
        """(N + 1,) where each track's states begin."""
        counts = self.last_steps.astype(np.int64) - self.first_steps + 1
        return np.concatenate([[0], np.cumsum(counts)])

    def window(self, first_step: int, last_step: int, leave_out: int = 0) -> Tracks:
        """Returns what exists between two steps, both included, cut to them.

        Args:
            first_step: First step.
            last_step: Last step.
            leave_out: Id of a track that is left out; ids are positive.
        """
        present = (self.first_steps <= last_step) & (self.last_steps >= first_step)
        rows = np.flatnonzero(present & (self.ids != leave_out))
        first = np.maximum(self.first_steps[rows], np.int32(first_step))
        last = np.minimum(self.last_steps[rows], np.int32(last_step))
        return self._runs(rows, first, last)

    def only(self, track: int) -> Tracks:
        """Returns the track of an id."""
        rows = np.flatnonzero(self.ids == track)
        return self._runs(rows, self.first_steps[rows], self.last_steps[rows])

    def _runs(
        self,
        rows: npt.NDArray[np.intp],
        first_steps: npt.NDArray[np.int32],
        last_steps: npt.NDArray[np.int32],
    ) -> Tracks:
        """Returns the tracks in some rows, each cut to a run of its steps."""
        counts = (last_steps - first_steps + 1).astype(np.int64)
        begins = self.offsets[rows] + first_steps - self.first_steps[rows]
        index = np.arange(counts.sum()) + np.repeat(begins - np.cumsum(counts) + counts, counts)
        return Tracks(
            ids=self.ids[rows],
            source_ids=self.source_ids[rows],
            classes=self.classes[rows],
            sizes_m=self.sizes_m[rows],
            rear_axles_m=self.rear_axles_m[rows],
            first_steps=first_steps,
            last_steps=last_steps,
            states=self.states[index],
            observed=self.observed[index],
        )

    def joined(self, others: Tracks) -> Tracks:
        """Returns these tracks and others behind them."""
        return Tracks(
            *(
                np.concatenate([getattr(self, field.name), getattr(others, field.name)])
                for field in fields(Tracks)
            )
        )

    def dimensions(self, row: int) -> VehicleDimensions:
        """Returns the outer dimensions of the track in a row."""
        length_m, width_m, height_m = map(float, self.sizes_m[row])
        return VehicleDimensions(length_m, width_m, height_m, float(self.rear_axles_m[row]))


@dataclass(frozen=True, slots=True)
class LightTracks:
    """L traffic lights over time.

    Attributes:
        lane_ids: L ids of the map lanes they govern, empty where unknown.
        centers_m: (L, 3) map frame.
        sizes_m: (L, 3) length, width, height.
        yaws_rad: (L,) direction they shine towards.
        states: (T, L) uint8 `LightState` codes, or `UNSEEN_LIGHT`.
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
        map: Where it took place; may be without lanes, or empty.
        stamps_ns: (T,) int64, evenly spaced, at least one.
        tracks: All road users.
        lights: All traffic lights.
        provenance: How it was made, for people: source, seed and the like.
        license: Terms of the recording, one line.
        egos: Ids of the tracks whose own recording this is; the first is the log's ego.
        engaged: (T,) uint8 `Engagement` codes, or None where not known.
        cameras: Calibrated cameras on the first ego with their images, at stamps of their own.
        known_commands: Track id to (n,) `rap_planner.route.Command` codes, one per state of the
            track: for sources that tell. They hold where the map gives no route.
    """

    name: str
    map: VectorMap
    stamps_ns: npt.NDArray[np.int64]
    tracks: Tracks
    lights: LightTracks
    provenance: Mapping[str, str] = field(default_factory=dict)
    license: str = ""
    egos: tuple[int, ...] = ()
    engaged: npt.NDArray[np.uint8] | None = None
    cameras: tuple[RecordedCamera, ...] = ()
    known_commands: Mapping[int, npt.NDArray[np.uint8]] = field(default_factory=dict)


def engagement(recording: Recording) -> npt.NDArray[np.uint8]:
    """Returns the (T,) `Engagement` codes of a recording, UNKNOWN where it does not tell."""
    if recording.engaged is not None:
        return recording.engaged
    return np.full(len(recording.stamps_ns), Engagement.UNKNOWN, dtype=np.uint8)


def typical_rear_axles(sizes_m: FloatArray) -> FloatArray:
    """Returns where cars of (N, 3) sizes have their rear axles; see `Tracks.rear_axles_m`."""
    result: FloatArray = sizes_m[:, 0] * REAR_AXLE_TO_CENTER_SHARE
    return result


def farthest_drivers(tracks: Tracks, count: int = 1) -> tuple[int, ...]:
    """Returns the ids of the cars that drive farthest, in that order.

    They are the egos of a log in which nobody recorded. Other vehicles are taken only if there is
    no car; there are none if no track can be the ego.
    """
    seats = np.flatnonzero(np.isin(tracks.classes, SEAT_CLASSES))
    cars = seats[tracks.classes[seats] == ObjectClass.VEHICLE]
    rows = sorted(cars if len(cars) else seats, key=lambda row: -_driven_m(tracks, row))
    return tuple(int(tracks.ids[row]) for row in rows[:count])


def _driven_m(tracks: Tracks, row: int) -> float:
    run = tracks.states[tracks.offsets[row] : tracks.offsets[row + 1]]
    return float(np.hypot(*np.diff(run[:, :2], axis=0).T).sum())
