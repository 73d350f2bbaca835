"""CommonRoad scenarios (XML 2018b and 2020a): recorded traffic on lanelets, without an ego.

The vehicle that drives farthest is taken as the ego and left out of the objects; its rear axle is
where cars of its length have it. Scenarios are two-dimensional: the ground is z = 0, and heights of
boxes are typical ones.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rap_bringup.drives.map_lines import outlines, pieces, thinned
from rap_bringup.drives.odometry import densified, states_from_poses
from rap_bringup.drives.recorded_drive import (
    START_NS,
    DriveError,
    RecordedDrive,
    RecordedObjects,
    checked_boxes,
    route_of_drive,
)
from rap_raster.frames import FloatArray
from rap_raster.maps.vector_map import Lane, VectorMap
from rap_raster.scene import Lights, LineKind, ObjectClass, PolygonKind, Shapes
from rap_raster.vehicle import VehicleDimensions

LICENSE = "CommonRoad scenario with recorded traffic (NGSIM, BMW); treat as non-commercial"

CLASSES = {
    "car": (ObjectClass.VEHICLE, 1.6),
    "parkedVehicle": (ObjectClass.VEHICLE, 1.6),
    "taxi": (ObjectClass.VEHICLE, 1.6),
    "priorityVehicle": (ObjectClass.VEHICLE, 2.0),
    "truck": (ObjectClass.TRUCK, 3.4),
    "bus": (ObjectClass.BUS, 3.2),
    "motorcycle": (ObjectClass.MOTORCYCLE, 1.5),
    "bicycle": (ObjectClass.BICYCLE, 1.7),
    "pedestrian": (ObjectClass.PEDESTRIAN, 1.75),
}
"""Obstacle types and the height given to their boxes, metres."""

OTHER = (ObjectClass.GENERIC, 1.5)

MOTOR_VEHICLES = ("car", "taxi", "truck", "bus")
"""Obstacle types that may take the ego's place."""

DASHED = ("dashed", "broad_dashed")
MIN_EGO_STEPS = 20


@dataclass(frozen=True, slots=True)
class _Obstacle:
    """One recorded road user.

    Attributes:
        id: As in the file.
        kind: Obstacle type.
        size_m: Length and width.
        states: Time step to x, y, yaw of the centre.
    """

    id: int
    kind: str
    size_m: tuple[float, float]
    states: dict[int, tuple[float, float, float]]

    def distance_m(self) -> float:
        """How far it drives."""
        places = np.array([self.states[step][:2] for step in sorted(self.states)])
        return float(np.linalg.norm(np.diff(places, axis=0), axis=1).sum())


def read_commonroad(path: Path) -> RecordedDrive:
    """Reads one scenario.

    Args:
        path: The `.xml` file.

    Raises:
        DriveError: If the file is missing or malformed, or no vehicle can take the ego's place.
    """
    root = _root(path)
    try:
        dt_s = float(root.attrib["timeStepSize"])
        obstacles = [_obstacle(item) for item in root if "bstacle" in item.tag]
        vector_map = _vector_map(root, path.stem)
    except KeyError as error:
        raise DriveError(f"{path}: attribute {error.args[0]!r} is missing") from error
    except (ValueError, TypeError) as error:
        raise DriveError(f"{path}: malformed: {' '.join(str(error).split())}") from error
    if not dt_s > 0:
        raise DriveError(f"{path}: timeStepSize is {dt_s}, expected > 0")
    ego = _choose_ego(path, obstacles)
    steps = sorted(ego.states)
    stamps_ns = START_NS + np.array([round(step * dt_s * 1e9) for step in steps], dtype=np.int64)
    vehicle = VehicleDimensions.from_size(*ego.size_m, CLASSES[ego.kind][1])
    poses = _rear_axle(ego, vehicle, steps)
    route_m, route_source = route_of_drive(vector_map, poses[:, [0, 1, 3]])
    others = [obstacle for obstacle in obstacles if obstacle is not ego]
    return RecordedDrive(
        name=path.stem,
        license=LICENSE,
        map=vector_map,
        ego=states_from_poses(*densified(stamps_ns, poses)),
        objects=tuple(
            _objects(path, others, step, int(stamp), dt_s)
            for step, stamp in zip(steps, stamps_ns, strict=True)
        ),
        cameras=(),
        route_m=route_m,
        route_source=route_source,
        vehicle=vehicle,
    )


def _root(path: Path) -> ET.Element:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DriveError(f"{path}: cannot be read: {error.strerror}") from error
    if b"<!DOCTYPE" in data:
        raise DriveError(f"{path}: document type declarations are not accepted")
    try:
        root = ET.fromstring(data)
    except ET.ParseError as error:
        raise DriveError(f"{path}: malformed XML: {error}") from error
    if root.tag != "commonRoad":
        raise DriveError(f"{path}: root is <{root.tag}>, expected <commonRoad>")
    return root


def _number(item: ET.Element, place: str) -> float:
    """Returns the number at a path below an element; the error names the path."""
    text = item.findtext(place)
    if text is None:
        raise ValueError(f"<{item.tag} id={item.get('id')}> has no {place}")
    value = float(text)
    if not np.isfinite(value):
        raise ValueError(f"<{item.tag}>: {place} is {text.strip()}")
    return value


def _obstacle(item: ET.Element) -> _Obstacle:
    states = [item.find("initialState"), *item.findall("trajectory/state")]
    found: dict[int, tuple[float, float, float]] = {}
    for state in states:
        if state is None:
            raise ValueError(f"<{item.tag} id={item.get('id')}> has no initialState")
        x, y = _place(state)
        found[int(_value(state, "time"))] = (x, y, _value(state, "orientation"))
    return _Obstacle(
        id=int(item.attrib["id"]),
        kind=(item.findtext("type") or "unknown").strip(),
        size_m=(_number(item, "shape/rectangle/length"), _number(item, "shape/rectangle/width")),
        states=found,
    )


def _place(state: ET.Element) -> tuple[float, float]:
    """Returns the position of a state; of an uncertain one the middle."""
    shape = state.find("position/rectangle")
    where = "position/point" if shape is None else "position/rectangle/center"
    return _number(state, f"{where}/x"), _number(state, f"{where}/y")


def _value(state: ET.Element, name: str) -> float:
    """Returns a value of a state; of an interval the middle."""
    if state.find(f"{name}/intervalStart") is None:
        return _number(state, f"{name}/exact")
    ends = _number(state, f"{name}/intervalStart"), _number(state, f"{name}/intervalEnd")
    return 0.5 * (ends[0] + ends[1])


def _choose_ego(path: Path, obstacles: list[_Obstacle]) -> _Obstacle:
    drivers = [
        obstacle
        for obstacle in obstacles
        if obstacle.kind in MOTOR_VEHICLES and _without_gaps(obstacle) >= MIN_EGO_STEPS
    ]
    if not drivers:
        raise DriveError(f"{path}: no vehicle is recorded for {MIN_EGO_STEPS} steps in a row")
    return max(drivers, key=lambda obstacle: obstacle.distance_m())


def _without_gaps(obstacle: _Obstacle) -> int:
    """Returns the number of steps, or 0 if some are missing in between."""
    steps = sorted(obstacle.states)
    return len(steps) if steps[-1] - steps[0] + 1 == len(steps) else 0


def _rear_axle(ego: _Obstacle, vehicle: VehicleDimensions, steps: list[int]) -> FloatArray:
    """Returns (T, 4) x, y, z, yaw of the ego's rear axle."""
    rows = []
    for step in steps:
        x, y, yaw = ego.states[step]
        pose = vehicle.pose_from_box(np.array([x, y, 0.5 * vehicle.height_m]), yaw)
        rows.append((pose.x_m, pose.y_m, pose.z_m, pose.yaw_rad))
    return np.array(rows)


def _objects(
    path: Path, obstacles: list[_Obstacle], step: int, stamp_ns: int, dt_s: float
) -> RecordedObjects:
    rows = []
    for index, obstacle in enumerate(obstacles, start=1):
        if step not in obstacle.states:
            continue
        x, y, yaw = obstacle.states[step]
        code, height_m = CLASSES.get(obstacle.kind, OTHER)
        before = obstacle.states.get(step - 1)
        velocity = (
            (np.nan, np.nan) if before is None else ((x - before[0]) / dt_s, (y - before[1]) / dt_s)
        )
        size = (*obstacle.size_m, height_m)
        rows.append([index, int(code), x, y, 0.5 * height_m, *size, yaw, *velocity])
    boxes = checked_boxes(np.array(rows, dtype=np.float64), f"{path}: step {step}")
    return RecordedObjects(stamp_ns, boxes, Lights.empty())


def _vector_map(root: ET.Element, name: str) -> VectorMap:
    items = root.findall("lanelet")
    edges = {item.attrib["id"]: (_bound(item, "left"), _bound(item, "right")) for item in items}
    lines = [line for item in items for line in _painted(item, edges[item.attrib["id"]])]
    rings = [np.concatenate([left, right[::-1]]) for left, right in edges.values()]
    for edge in outlines(rings):
        lines += [(int(LineKind.ROAD_BOUNDARY), piece) for piece in pieces(thinned(edge))]
    lanes = {item.attrib["id"]: _lane(item, edges) for item in items}
    for lane in lanes.values():
        for piece in pieces(thinned(lane.centerline_m)):
            lines.append((int(LineKind.LANE_CENTERLINE), piece))
    areas = [(int(PolygonKind.DRIVABLE), ring) for ring in rings]
    return VectorMap(name, Shapes.from_list(lines), Shapes.from_list(areas), lanes)


def _bound(item: ET.Element, side: str) -> FloatArray:
    points = [
        (_number(point, "x"), _number(point, "y"), 0.0)
        for point in item.findall(f"{side}Bound/point")
    ]
    if len(points) < 2:
        raise ValueError(f"<lanelet id={item.get('id')}> has {len(points)} points in {side}Bound")
    return np.array(points)


def _lane(item: ET.Element, edges: dict[str, tuple[FloatArray, FloatArray]]) -> Lane:
    left, right = edges[item.attrib["id"]]
    if len(left) != len(right):
        raise ValueError(f"<lanelet id={item.get('id')}> has bounds of different length")
    sides = [_neighbor(item, tag, "same") for tag in ("adjacentLeft", "adjacentRight")]
    left_neighbor, right_neighbor = (one if one in edges else None for one in sides)
    return Lane(
        id=item.attrib["id"],
        centerline_m=0.5 * (left + right),
        left_m=left,
        right_m=right,
        successors=tuple(
            one.attrib["ref"] for one in item.findall("successor") if one.attrib["ref"] in edges
        ),
        left_neighbor=left_neighbor,
        right_neighbor=right_neighbor,
    )


def _neighbor(item: ET.Element, tag: str, direction: str) -> str | None:
    one = item.find(tag)
    if one is None or one.get("drivingDir") != direction:
        return None
    return one.attrib["ref"]


def _painted(
    item: ET.Element, edges: tuple[FloatArray, FloatArray]
) -> list[tuple[int, FloatArray]]:
    """Lines between adjacent lanelets; the outer edges come from the outline of the road.

    Where the file has no marking (2018b), lanes that lead the same way are divided by a broken line
    and oncoming ones by a solid one.
    """
    result: list[tuple[int, FloatArray]] = []
    for side, tag, line in (
        ("left", "adjacentLeft", edges[0]),
        ("right", "adjacentRight", edges[1]),
    ):
        if item.find(tag) is None:
            continue
        default = "solid" if _neighbor(item, tag, "opposite") else "dashed"
        marking = (item.findtext(f"{side}Bound/lineMarking") or default).strip()
        kind = LineKind.LANE_DIVIDER if marking in DASHED else LineKind.LANE_BOUNDARY
        result += [(int(kind), piece) for piece in pieces(thinned(line))]
    return result
