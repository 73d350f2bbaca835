"""The vector map: shapes to draw and a lane graph to route on, whatever file they came from."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from rap_raster.frames import FloatArray
from rap_raster.scene import Shapes

_NEAR_M = 20.0  # Sparse lines of a wide road; farther off there may be another level.

LIGHT_HEIGHT_M = 5.5
"""Height of signal heads above the road in maps that do not tell it."""


@dataclass(frozen=True, slots=True)
class Lane:
    """One lane of the lane graph, as driven: points run in the direction of travel.

    Attributes:
        id: Unique within the map.
        centerline_m: (n, 3) metres, map frame.
        left_m: (n, 3) left edge in the direction of travel, or None where unknown.
        right_m: (n, 3) right edge, or None where unknown.
        successors: Ids of the lanes that follow.
        left_neighbor: Id of the lane to the left with the same direction, or None.
        right_neighbor: Id of the lane to the right with the same direction, or None.
        in_junction: True for a connector inside a junction.
        speed_limit_mps: Or None where unknown.
    """

    id: str
    centerline_m: FloatArray
    left_m: FloatArray | None = None
    right_m: FloatArray | None = None
    successors: tuple[str, ...] = ()
    left_neighbor: str | None = None
    right_neighbor: str | None = None
    in_junction: bool = False
    speed_limit_mps: float | None = None


@dataclass(frozen=True, slots=True)
class TrafficLight:
    """A mapped signal head.

    Attributes:
        id: Unique within the map.
        center_m: (3,) metres, map frame.
        yaw_rad: Direction the light shines towards.
        lane_ids: Connector lanes it governs; empty where unknown.
    """

    id: str
    center_m: FloatArray
    yaw_rad: float
    lane_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class VectorMap:
    """A road map.

    Attributes:
        name: For people and logs, such as "Town01".
        polylines: Lines to draw, `LineKind` codes.
        polygons: Areas to draw, `PolygonKind` codes.
        lanes: Lane graph by lane id; may be empty.
        traffic_lights: Mapped signal heads; may be empty.
    """

    name: str
    polylines: Shapes
    polygons: Shapes
    lanes: dict[str, Lane] = field(default_factory=dict)
    traffic_lights: tuple[TrafficLight, ...] = ()


class ShapeIndex:
    """Shapes with their bounding boxes, for many crops of one map.

    Training asks for the surroundings of a pose hundreds of times a second.
    """

    def __init__(self, shapes: Shapes) -> None:
        """Computes the boxes."""
        self._shapes = shapes
        if len(shapes):
            starts = shapes.offsets[:-1]
            self._low = np.minimum.reduceat(shapes.points_m[:, :2], starts, axis=0)
            self._high = np.maximum.reduceat(shapes.points_m[:, :2], starts, axis=0)

    def near(self, center_m: FloatArray, radius_m: float) -> Shapes:
        """Returns the shapes with a bounding box that comes within `radius_m` of a point.

        Args:
            center_m: (2,) or (3,) metres, map frame; height is ignored.
            radius_m: Metres, measured along x and y separately.
        """
        if len(self._shapes) == 0:
            return self._shapes
        reached = (self._low <= center_m[:2] + radius_m) & (self._high >= center_m[:2] - radius_m)
        return self._shapes.select(np.flatnonzero(reached.all(axis=1)))


def height_above(shapes: Shapes, place_m: FloatArray) -> float | None:
    """Returns how far a place lies above a map, on the level of the map that is nearest.

    Args:
        shapes: Of the map.
        place_m: (3,) map frame.

    Returns:
        Metres, negative below; None if no line is within `_NEAR_M`, seen from above.
    """
    points = shapes.points_m
    follows = np.ones(len(points), dtype=np.bool_)
    follows[shapes.offsets[:-1]] = False  # The first of a shape ends no segment.
    rows = np.flatnonzero(follows)
    starts, along = points[rows - 1], points[rows] - points[rows - 1]
    squared = np.maximum((along[:, :2] ** 2).sum(axis=1), 1e-12)
    share = np.clip(((place_m - starts)[:, :2] * along[:, :2]).sum(axis=1) / squared, 0.0, 1.0)
    nearest = starts + share[:, None] * along
    near = np.hypot(*(nearest[:, :2] - place_m[:2]).T) <= _NEAR_M
    if not near.any():
        return None
    above = place_m[2] - nearest[near, 2]
    return float(above[np.abs(above).argmin()])


def shapes_near(shapes: Shapes, center_m: FloatArray, radius_m: float) -> Shapes:
    """Crops shapes once; see `ShapeIndex.near`."""
    return ShapeIndex(shapes).near(center_m, radius_m)
