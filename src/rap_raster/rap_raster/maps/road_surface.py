"""The surface of OpenDRIVE roads: where lane edges lie and which strips can be driven on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rap_raster.frames import FloatArray
from rap_raster.maps.lane_geometry import evaluate_plan
from rap_raster.maps.opendrive_file import LaneRecord, RoadRecord, SectionRecord

SAMPLE_STEP_M = 1.0
"""Distance between samples: 0.03 m of sagitta on the tightest usual curve, 4 m radius."""

DRIVING_TYPES = frozenset(
    {
        *("driving", "entry", "exit", "onRamp", "offRamp", "connectingRamp", "slipLane"),
        *("bus", "taxi", "HOV", "mwyEntry", "mwyExit"),
    }
)
"""Lane types of the lane graph. Bidirectional lanes have no direction to follow."""

_SURFACE_TYPES = DRIVING_TYPES | {"bidirectional", "parking", "stop", "biking", "tram", "roadWorks"}
_SHOULDER_TYPES = frozenset({"shoulder", "border"})
_MIN_WIDTH_M = 0.1  # Narrower lanes only carry markings; they are not there to be driven on.
_END_M = 1e-6  # A section ends just before the next one begins, so steps stay at their side.


@dataclass(frozen=True, slots=True)
class Strip:
    """One lane of a section as it lies on the ground.

    Attributes:
        lane: Its record.
        left_m: (n, 3) left edge seen along the road, map frame.
        right_m: (n, 3) right edge.
        is_surface: True if vehicles can physically drive on it.
        right_marks: (start, type) of the markings between this strip and the one to its right.
    """

    lane: LaneRecord
    left_m: FloatArray
    right_m: FloatArray
    is_surface: bool
    right_marks: tuple[tuple[float, str], ...]

    @property
    def center_m(self) -> FloatArray:
        """(n, 3) centreline along the road."""
        center: FloatArray = 0.5 * (self.left_m + self.right_m)
        return center


@dataclass(frozen=True, slots=True)
class SectionSurface:
    """One lane section on the ground.

    Attributes:
        s_m: (n,) distances along the road of all samples.
        strips: From left to right; strips without width are left out.
        left_marks: Markings on the left edge of the leftmost strip.
    """

    s_m: FloatArray
    strips: tuple[Strip, ...]
    left_marks: tuple[tuple[float, str], ...]

    def groups(self) -> list[list[Strip]]:
        """Returns the runs of neighbouring strips that can be driven on."""
        groups: list[list[Strip]] = []
        previous_is_surface = False
        for strip in self.strips:
            if strip.is_surface and previous_is_surface:
                groups[-1].append(strip)
            elif strip.is_surface:
                groups.append([strip])
            previous_is_surface = strip.is_surface
        return groups


def road_point(
    road: RoadRecord, s_m: float, t_m: float, z_offset_m: float
) -> tuple[FloatArray, float]:
    """Returns the (3,) map position of road coordinates (s, t, h) and the heading there."""
    s = np.array([s_m])
    x, y, heading = evaluate_plan(road.plan, s)[0]
    tilt = np.tan(road.superelevation_rad(s)[0])
    z = road.elevation_m(s)[0] + t_m * tilt + z_offset_m
    return np.array([x - t_m * np.sin(heading), y + t_m * np.cos(heading), z]), float(heading)


def section_surfaces(road: RoadRecord) -> list[SectionSurface]:
    """Lays all lane sections of a road on the ground."""
    ends = [section.s_m for section in road.sections[1:]] + [road.length_m]
    return [
        _section_surface(road, section, end)
        for section, end in zip(road.sections, ends, strict=True)
    ]


def _section_surface(road: RoadRecord, section: SectionRecord, end_m: float) -> SectionSurface:
    s_m = _samples(section.s_m, end_m)
    plan = evaluate_plan(road.plan, s_m)
    z = road.elevation_m(s_m)
    tilt = np.tan(road.superelevation_rad(s_m))
    edges_t = _edge_offsets(section, s_m - section.s_m)
    offset = road.lane_offset_m(s_m)
    normal = np.stack([-np.sin(plan[:, 2]), np.cos(plan[:, 2])], axis=-1)

    def edge(t: FloatArray) -> FloatArray:
        lateral = t + offset
        xy = plan[:, :2] + lateral[:, None] * normal
        return np.column_stack([xy, z + lateral * tilt])

    kept = [
        lane_id
        for lane_id in sorted(edges_t, reverse=True)
        if lane_id != 0 and float(np.max(np.ptp(edges_t[lane_id], axis=0))) >= _MIN_WIDTH_M
    ]
    lanes = [section.lanes[lane_id] for lane_id in kept]
    marks = [_marks_between(section, left, right) for left, right in _neighbors(lanes)]
    surface = _surface_flags(lanes, marks)
    strips = tuple(
        Strip(lane, edge(edges_t[lane.id][0]), edge(edges_t[lane.id][1]), bool(flag), right_marks)
        for lane, flag, right_marks in zip(lanes, surface, marks[1:], strict=True)
    )
    return SectionSurface(s_m, strips, marks[0])


def _samples(start_m: float, end_m: float) -> FloatArray:
    last = max(end_m - _END_M, start_m)
    return np.linspace(start_m, last, max(2, int(np.ceil((last - start_m) / SAMPLE_STEP_M)) + 1))


def _edge_offsets(section: SectionRecord, ds_m: FloatArray) -> dict[int, FloatArray]:
    """Returns per lane id the (2, n) left and right edges' distances from the centre lane."""
    offsets: dict[int, FloatArray] = {}
    for sign in (1, -1):
        inner = np.zeros_like(ds_m)
        for lane_id in sorted((i for i in section.lanes if i * sign > 0), key=abs):
            outer = _outer_offset(section.lanes[lane_id], ds_m, inner, sign)
            offsets[lane_id] = np.stack([outer, inner] if sign > 0 else [inner, outer])
            inner = outer
    return offsets


def _outer_offset(lane: LaneRecord, ds_m: FloatArray, inner: FloatArray, sign: int) -> FloatArray:
    if lane.width_m is not None:
        outer: FloatArray = inner + sign * np.maximum(lane.width_m(ds_m), 0.0)
        return outer
    if lane.border_m is not None:
        return lane.border_m(ds_m)
    return inner


def _neighbors(
    lanes: list[LaneRecord],
) -> list[tuple[LaneRecord | None, LaneRecord | None]]:
    """Returns what lies left and right of every edge, from the leftmost edge on."""
    return list(zip([None, *lanes], [*lanes, None], strict=True))


def _marks_between(
    section: SectionRecord, left: LaneRecord | None, right: LaneRecord | None
) -> tuple[tuple[float, str], ...]:
    """A lane's markings are those of its edge away from the centre; lane 0 has the centre's."""
    if left is not None and left.id < 0:
        return left.marks
    if right is not None and right.id > 0:
        return right.marks
    center = section.lanes.get(0)
    return center.marks if center is not None else ()


def _surface_flags(
    lanes: list[LaneRecord], marks: list[tuple[tuple[float, str], ...]]
) -> npt.NDArray[np.bool_]:
    """Decides which lanes vehicles can drive on.

    Shoulders belong to it as far as no kerb separates them from a lane that does.
    """
    flags = np.array([lane.type in _SURFACE_TYPES for lane in lanes], dtype=bool)
    kerbs = [any(kind == "curb" for _, kind in mark) for mark in marks]
    for i in range(1, len(lanes)):
        flags[i] |= lanes[i].type in _SHOULDER_TYPES and flags[i - 1] and not kerbs[i]
    for i in range(len(lanes) - 2, -1, -1):
        flags[i] |= lanes[i].type in _SHOULDER_TYPES and flags[i + 1] and not kerbs[i + 1]
    return flags
