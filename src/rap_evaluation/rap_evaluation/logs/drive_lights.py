"""Traffic lights of recorded drives as tracks: they come without ids, so places tell them apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from rap_bringup.drives.recorded_drive import RecordedObjects
from rap_evaluation.logs.recording import LightTracks
from rap_raster.ego_history import MAX_GAP_S
from rap_raster.frames import FloatArray, wrap_angle
from rap_raster.maps.vector_map import VectorMap
from rap_raster.scene import Lights, LightState

SAME_LIGHT_M = 0.5
"""Sights of one head lie closer; heads side by side are farther apart, or are seen at once."""

SAME_LIGHT_RAD = np.pi / 4
"""One pole carries heads for several roads."""

MAPPED_M = 2.0
"""A head that is no farther from one of the map is that one: surveyed and seen places differ."""


@dataclass(slots=True)
class _Heads:
    """The lights found so far, in the order of their first sight."""

    centers_m: list[FloatArray] = field(default_factory=list)
    sizes_m: list[FloatArray] = field(default_factory=list)
    yaws_rad: list[float] = field(default_factory=list)

    def rows_of(self, lights: Lights) -> npt.NDArray[np.intp]:
        """Returns the rows of the lights of one instant, new ones included: all different."""
        rows = np.full(len(lights), -1, dtype=np.intp)
        if self.centers_m and len(lights):
            apart_m = _distances(lights, np.array(self.centers_m), np.array(self.yaws_rad))
            found, known = linear_sum_assignment(apart_m)
            near = apart_m[found, known] < SAME_LIGHT_M
            rows[found[near]] = known[near]
        for new in np.flatnonzero(rows < 0):
            rows[new] = len(self.centers_m)
            self.centers_m.append(lights.centers_m[new])
            self.sizes_m.append(lights.sizes_m[new])
            self.yaws_rad.append(float(lights.yaws_rad[new]))
        return rows


def light_tracks(
    objects: Sequence[RecordedObjects], grid_ns: npt.NDArray[np.int64], vector_map: VectorMap
) -> LightTracks:
    """Returns the lights of a drive at the steps of a log.

    A state holds until objects are seen again, for `MAX_GAP_S` at most; where a light is not seen
    its state is UNKNOWN.
    """
    heads = _Heads()
    rows = [heads.rows_of(instant.lights) for instant in objects]
    states = np.full((len(grid_ns), len(heads.yaws_rad)), LightState.UNKNOWN, dtype=np.uint8)
    seen_ns = np.array([instant.stamp_ns for instant in objects], dtype=np.int64)
    newest = np.searchsorted(seen_ns, grid_ns, side="right") - 1
    for step in np.flatnonzero(newest >= 0):
        instant = newest[step]
        if grid_ns[step] - seen_ns[instant] <= MAX_GAP_S * 1e9:
            states[step, rows[instant]] = objects[instant].lights.states
    centers_m = np.array(heads.centers_m).reshape(-1, 3)
    yaws_rad = np.array(heads.yaws_rad, dtype=np.float64)
    return LightTracks(
        lane_ids=_lane_ids(vector_map, centers_m, yaws_rad),
        centers_m=centers_m,
        sizes_m=np.array(heads.sizes_m).reshape(-1, 3),
        yaws_rad=yaws_rad,
        states=states,
    )


def _distances(lights: Lights, centers_m: FloatArray, yaws_rad: FloatArray) -> FloatArray:
    """Returns (L, K) distances to known heads; `SAME_LIGHT_M` for all that are others."""
    apart_m: FloatArray = np.linalg.norm(lights.centers_m[:, None] - centers_m, axis=-1)
    turned = np.abs(wrap_angle(lights.yaws_rad[:, None] - yaws_rad)) > SAME_LIGHT_RAD
    return np.where(turned, SAME_LIGHT_M, np.minimum(apart_m, SAME_LIGHT_M))


def _lane_ids(
    vector_map: VectorMap, centers_m: FloatArray, yaws_rad: FloatArray
) -> tuple[str, ...]:
    """Returns the first lane that the mapped light next to each head governs, or ''."""
    mapped = [light for light in vector_map.traffic_lights if light.lane_ids]
    if not mapped:
        return ("",) * len(centers_m)
    places = np.array([light.center_m for light in mapped])
    headings = np.array([light.yaw_rad for light in mapped])
    names = []
    for center_m, yaw_rad in zip(centers_m, yaws_rad, strict=True):
        apart_m = np.linalg.norm(places[:, :2] - center_m[:2], axis=1)
        apart_m[np.abs(wrap_angle(headings - yaw_rad)) > SAME_LIGHT_RAD] = np.inf
        nearest = int(apart_m.argmin())
        names.append(mapped[nearest].lane_ids[0] if apart_m[nearest] < MAPPED_M else "")
    return tuple(names)
