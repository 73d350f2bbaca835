"""What goes wrong on a drive: collisions with their fault, leaving the road, red lights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

import numpy as np
import numpy.typing as npt
import shapely

from rap_evaluation.closed_loop.place import Place
from rap_evaluation.closed_loop.routes import Route
from rap_evaluation.metrics.pdm_scene import StateIndex
from rap_raster.frames import FloatArray, wrap_angle
from rap_raster.maps.lane_geometry import polyline_length
from rap_raster.maps.vector_map import VectorMap
from rap_raster.scene import Boxes, LightState, ObjectClass, PolygonKind
from rap_raster.vehicle import PACIFICA

STOPPED_MPS = 0.05
"""Slower is standing. Source: NAVSIM `pdm_scorer.py`."""

BEHIND_RAD = np.radians(150.0)
"""Centroids at a larger angle from the heading are behind. Source: NAVSIM `pdm_scorer.py`."""

STOP_LINE_M = 0.5
"""How far the front may stand over a stop line before it has run the light: projecting the front on
the route's line is exact to some decimetres in bends."""


class ContactKind(Enum):
    """How two vehicles met; the first rule that matches. Source: NAVSIM `pdm_scorer.py`."""

    STOPPED_EGO = "stopped ego"
    STOPPED_TRACK = "stopped road user"
    REAR = "from behind"
    FRONT = "front"
    LATERAL = "side"


@dataclass(frozen=True, slots=True)
class Collision:
    """The first touch of a contact.

    Attributes:
        step: When, steps of 0.1 s.
        track: Id of the road user's box.
        object_class: Of the road user.
        kind: How they met.
        at_fault: True if the ego is to blame.
    """

    step: int
    track: int
    object_class: ObjectClass
    kind: ContactKind
    at_fault: bool


def box_corners(centers_m: FloatArray, yaws_rad: FloatArray, sizes_m: FloatArray) -> FloatArray:
    """Returns (N, 4, 2) corners of upright boxes: front left, rear left, rear right, front right.

    Args:
        centers_m: (N, 2).
        yaws_rad: (N,).
        sizes_m: (N, 2) length and width.
    """
    signs = 0.5 * np.array([[1.0, 1.0], [-1.0, 1.0], [-1.0, -1.0], [1.0, -1.0]])
    local = signs * sizes_m[:, None]
    cos, sin = np.cos(yaws_rad)[:, None], np.sin(yaws_rad)[:, None]
    x, y = local[..., 0], local[..., 1]
    corners = np.stack([cos * x - sin * y, sin * x + cos * y], axis=-1)
    boxes: FloatArray = corners + centers_m[:, None]
    return boxes


def ego_corners(state: FloatArray) -> FloatArray:
    """Returns the (4, 2) corners of the ego's box from its rear-axle state."""
    x, y, heading = state[: StateIndex.VX]
    ahead_m = PACIFICA.rear_axle_to_center_m * np.array([np.cos(heading), np.sin(heading)])
    size = np.array([[PACIFICA.length_m, PACIFICA.width_m]])
    corners: FloatArray = box_corners(np.array([[x, y]]) + ahead_m, np.array([heading]), size)[0]
    return corners


def contact_kind(state: FloatArray, ring_m: FloatArray, speed_mps: float) -> ContactKind:
    """Types a contact of the ego with a road user.

    Args:
        state: (11,) ego state of the rear axle.
        ring_m: (4, 2) corners of the road user.
        speed_mps: Of the road user.
    """
    if np.hypot(*state[[StateIndex.VX, StateIndex.VY]]) <= STOPPED_MPS:
        return ContactKind.STOPPED_EGO
    if speed_mps <= STOPPED_MPS:
        return ContactKind.STOPPED_TRACK
    dx, dy = ring_m.mean(axis=0) - state[:2]
    if abs(wrap_angle(np.arctan2(dy, dx) - state[StateIndex.HEADING])) > BEHIND_RAD:
        return ContactKind.REAR
    corners = ego_corners(state)
    front = shapely.LineString(corners[[0, 3]])
    return ContactKind.FRONT if front.intersects(shapely.Polygon(ring_m)) else ContactKind.LATERAL


def is_at_fault(kind: ContactKind, *, strayed: bool) -> bool:
    """True if the ego is to blame.

    Args:
        kind: How they met.
        strayed: The ego is in several lanes or off the road.
    """
    if kind is ContactKind.LATERAL:
        return strayed
    return kind in (ContactKind.STOPPED_TRACK, ContactKind.FRONT)


class Surface:
    """The drivable surface and the lanes of a map, for questions about the ego's corners."""

    def __init__(self, vector_map: VectorMap) -> None:
        """Indexes the areas."""
        drivable = np.isin(
            vector_map.polygons.kinds, (PolygonKind.DRIVABLE, PolygonKind.INTERSECTION)
        )
        self._drivable = shapely.STRtree(
            [
                shapely.make_valid(shapely.Polygon(vector_map.polygons[int(i)][:, :2]))
                for i in np.flatnonzero(drivable)
            ]
        )
        self._lanes = shapely.STRtree(
            [
                shapely.make_valid(shapely.Polygon(np.concatenate([left, right[::-1]])[:, :2]))
                for left, right in (
                    (lane.left_m, lane.right_m) for lane in vector_map.lanes.values()
                )
                if left is not None and right is not None
            ]
        )

    def is_off_road(self, corners_m: FloatArray) -> bool:
        """True if one of (4, 2) corners is on no drivable area."""
        corner, _ = self._drivable.query(shapely.points(corners_m), predicate="intersects")
        return len(np.unique(corner)) < len(corners_m)

    def is_in_several_lanes(self, corners_m: FloatArray) -> bool:
        """True if (4, 2) corners are in more than one lane, and no lane contains all of them."""
        _, lane = self._lanes.query(shapely.points(corners_m), predicate="within")
        counts = np.unique(lane, return_counts=True)[1]
        return bool(len(counts) > 1 and counts.max() < len(corners_m))


@dataclass(slots=True)
class Events:
    """Everything that went wrong so far.

    Attributes:
        collisions: With whoever, at fault or not.
        off_road_steps: Steps at which a corner was off the road.
        red_light_steps: Steps at which the front crossed a stop line at red.
    """

    collisions: list[Collision] = field(default_factory=list)
    off_road_steps: list[int] = field(default_factory=list)
    red_light_steps: list[int] = field(default_factory=list)


class Watch:
    """Sees what goes wrong, step by step."""

    def __init__(self, place: Place, route: Route, surface: Surface) -> None:
        """Prepares to watch one drive.

        Args:
            place: Where.
            route: Of the ego.
            surface: Of the place.
        """
        self.events = Events()
        self._surface = surface
        self._touching: set[int] = set()
        self._stop_lines = _stop_lines(place, route)
        self._front_m = -np.inf

    def step(
        self,
        step: int,
        state: FloatArray,
        along_m: float,
        boxes: Boxes,
        signals: Mapping[str, LightState],
    ) -> None:
        """Looks at one step.

        Args:
            step: Its number.
            state: (11,) ego state of the rear axle.
            along_m: Where on the route's line the rear axle is.
            boxes: Road users near the ego.
            signals: Lights of the mapped connectors, by lane id.
        """
        corners = ego_corners(state)
        if self._surface.is_off_road(corners):
            self.events.off_road_steps.append(step)
        self._collide(step, state, corners, boxes)
        front_m = along_m + PACIFICA.rear_axle_to_center_m + 0.5 * PACIFICA.length_m
        for line_m, lane in self._stop_lines:
            crossed = self._front_m < line_m + STOP_LINE_M <= front_m
            if crossed and signals[lane] == LightState.RED:
                self.events.red_light_steps.append(step)
        self._front_m = front_m

    def _collide(self, step: int, state: FloatArray, corners: FloatArray, boxes: Boxes) -> None:
        rings = box_corners(boxes.centers_m[:, :2], boxes.yaws_rad, boxes.sizes_m[:, :2])
        touching = _touching(corners, rings, boxes)
        for row in touching:
            track = int(boxes.ids[row])
            if track not in self._touching:
                speed_mps = float(np.hypot(*boxes.velocities_mps[row]))
                kind = contact_kind(state, rings[row], speed_mps)
                strayed = self._surface.is_off_road(corners) or self._surface.is_in_several_lanes(
                    corners
                )
                self.events.collisions.append(
                    Collision(
                        step,
                        track,
                        ObjectClass(int(boxes.classes[row])),
                        kind,
                        is_at_fault(kind, strayed=strayed),
                    )
                )
        self._touching = {int(boxes.ids[row]) for row in touching}


def _touching(corners: FloatArray, rings: FloatArray, boxes: Boxes) -> npt.NDArray[np.intp]:
    """Returns the rows of the boxes that touch the ego."""
    reach_m = PACIFICA.length_m + boxes.sizes_m[:, 0]
    gap_m = np.abs(boxes.centers_m[:, :2] - corners.mean(axis=0)).max(axis=1, initial=0.0)
    near = np.flatnonzero(gap_m < reach_m)
    if not len(near):
        return near
    hit = shapely.intersects(shapely.Polygon(corners), shapely.polygons(rings[near]))
    touching: npt.NDArray[np.intp] = near[hit]
    return touching


def _stop_lines(place: Place, route: Route) -> list[tuple[float, str]]:
    """Returns where on the route's line which signalled connector begins."""
    lines, along_m = [], 0.0
    for key in route.lane_ids:
        lane = place.map.lanes[key]
        if lane.in_junction and place.turns[key].traffic_light is not None:
            lines.append((along_m, key))
        along_m += polyline_length(lane.centerline_m)
    return lines
