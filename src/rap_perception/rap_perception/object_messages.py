"""Messages of other stacks to the columns of `rap_msgs/TrackedObjects`.

The functions read fields and import no message package, so each package is needed only where its
messages are, and none for those of a bag. Field meanings: the message definitions of
visualization_msgs, autoware_perception_msgs, vision_msgs 4 and derived_object_msgs 4.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from rap_perception.objects import LIGHT_COLUMNS, MAX_ID, OBJECT_COLUMNS, Columns, ObjectsError
from rap_raster.scene import ObjectClass

Message = Any
"""ROS messages are generated and untyped."""


CLASS_NAMES = {
    **{kind.name.lower(): kind for kind in ObjectClass},
    "car": ObjectClass.VEHICLE,
    "van": ObjectClass.VEHICLE,
    "trailer": ObjectClass.TRUCK,
    "motorbike": ObjectClass.MOTORCYCLE,
    "bike": ObjectClass.BICYCLE,
    "cyclist": ObjectClass.BICYCLE,
    "person": ObjectClass.PEDESTRIAN,
    "traffic_cone": ObjectClass.CONE,
}
"""Names that detectors use for classes, lower case; any other one is GENERIC."""

_AUTOWARE_CLASSES = {
    1: ObjectClass.VEHICLE,
    2: ObjectClass.TRUCK,
    3: ObjectClass.BUS,
    4: ObjectClass.TRUCK,  # trailer
    5: ObjectClass.MOTORCYCLE,
    6: ObjectClass.BICYCLE,
    7: ObjectClass.PEDESTRIAN,
}
_DERIVED_CLASSES = {
    4: ObjectClass.PEDESTRIAN,
    5: ObjectClass.BICYCLE,
    6: ObjectClass.VEHICLE,
    7: ObjectClass.TRUCK,
    8: ObjectClass.MOTORCYCLE,
    9: ObjectClass.VEHICLE,  # other vehicle
    10: ObjectClass.BARRIER,
}
_CUBE, _CYLINDER, _ADD = 1, 3, 0
"""Of visualization_msgs/Marker."""

_ROUND, _FOOTPRINT = 1, 2
"""Of autoware_perception_msgs/Shape; 0 is a box."""


@dataclass(frozen=True, slots=True)
class ObjectsInput:
    """An objects message of any type.

    Attributes:
        stamp_ns: Of the observation; None where the message has none, or an unset one.
        frame_id: Frame of all poses; None where there are none that could be in one.
        columns: Arrays by field name of `rap_msgs/TrackedObjects`, not checked yet.
    """

    stamp_ns: int | None
    frame_id: str | None
    columns: Columns


@dataclass(frozen=True, slots=True)
class ObjectsType:
    """A message type that objects may come in.

    Attributes:
        read: Converts a message; raises ObjectsError.
        is_tracked: False where ids do not last or velocities are missing.
    """

    read: Callable[[Message], ObjectsInput]
    is_tracked: bool


@dataclass(frozen=True, slots=True)
class _Row:
    """One object in the frame of its message; metres, radians, m/s along the axes of that frame."""

    number: int
    kind: ObjectClass
    center: tuple[float, float, float]
    size: tuple[float, float, float]
    yaw: float
    velocity: tuple[float, float] = (np.nan, np.nan)
    existence: float = 1.0


def read_rap(message: Message) -> ObjectsInput:
    """Converts `rap_msgs/TrackedObjects`."""
    names = ("ids", *OBJECT_COLUMNS, "light_states", *LIGHT_COLUMNS)
    columns = {name: np.asarray(getattr(message, name)) for name in names}
    stamp = _stamp_ns(message.header.stamp) or None
    return ObjectsInput(stamp, message.header.frame_id, columns)


def read_markers(message: Message) -> ObjectsInput:
    """Converts `visualization_msgs/MarkerArray`: cubes and cylinders, class by namespace.

    Each message is the whole picture; what it does not name is gone. Deletions and other shapes
    (arrows, texts) are skipped.
    """
    shapes = [
        marker
        for marker in message.markers
        if marker.type in (_CUBE, _CYLINDER) and marker.action == _ADD
    ]
    frames = sorted({marker.header.frame_id for marker in shapes})
    if len(frames) > 1:
        raise ObjectsError(f"markers are in the frames {', '.join(frames)}, expected one")
    stamps = {_stamp_ns(marker.header.stamp) for marker in shapes or message.markers} - {0}
    if len(stamps) > 1:
        raise ObjectsError(f"markers have {len(stamps)} different stamps, expected one")
    rows = [
        _Row(
            number=index,
            kind=CLASS_NAMES.get(marker.ns.lower(), ObjectClass.GENERIC),
            center=_xyz(marker.pose.position),
            size=_xyz(marker.scale),
            yaw=_yaw(marker.pose.orientation),
        )
        for index, marker in enumerate(shapes, start=1)
    ]
    return ObjectsInput(next(iter(stamps), None), frames[0] if frames else None, _columns(rows))


def read_autoware(message: Message) -> ObjectsInput:
    """Converts `autoware_perception_msgs/TrackedObjects`; twists are in the object's own frame."""
    rows = []
    for number, item in zip(_numbers(message.objects), message.objects, strict=True):
        pose = item.kinematics.pose_with_covariance.pose
        linear = item.kinematics.twist_with_covariance.twist.linear
        yaw = _yaw(pose.orientation)
        cos, sin = float(np.cos(yaw)), float(np.sin(yaw))
        size, offset = _autoware_size(item.shape)
        x, y, z = _xyz(pose.position)
        best = max(item.classification, key=lambda entry: entry.probability, default=None)
        label = 0 if best is None else int(best.label)
        rows.append(
            _Row(
                number=number,
                kind=_AUTOWARE_CLASSES.get(label, ObjectClass.GENERIC),
                center=(
                    x + cos * offset[0] - sin * offset[1],
                    y + sin * offset[0] + cos * offset[1],
                    z,
                ),
                size=size,
                yaw=yaw,
                velocity=(cos * linear.x - sin * linear.y, sin * linear.x + cos * linear.y),
                existence=float(item.existence_probability),
            )
        )
    return _input(message, rows)


def read_detections(message: Message) -> ObjectsInput:
    """Converts `vision_msgs/Detection3DArray`: the likeliest hypothesis, no ids, no velocities."""
    rows = []
    for index, item in enumerate(message.detections, start=1):
        hypotheses = [result.hypothesis for result in item.results]
        best = max(hypotheses, key=lambda hypothesis: hypothesis.score, default=None)
        name = "" if best is None else best.class_id.lower()
        rows.append(
            _Row(
                number=index,
                kind=CLASS_NAMES.get(name, ObjectClass.GENERIC),
                center=_xyz(item.bbox.center.position),
                size=_xyz(item.bbox.size),
                yaw=_yaw(item.bbox.center.orientation),
                existence=1.0 if best is None else float(best.score),
            )
        )
    return _input(message, rows)


def read_derived(message: Message) -> ObjectsInput:
    """Converts `derived_object_msgs/ObjectArray`; twists are in the frame of the header."""
    rows = [
        _Row(
            number=int(item.id) & MAX_ID or MAX_ID,
            kind=_DERIVED_CLASSES.get(int(item.classification), ObjectClass.GENERIC),
            center=_xyz(item.pose.position),
            size=_solid_size(item.shape),
            yaw=_yaw(item.pose.orientation),
            velocity=(float(item.twist.linear.x), float(item.twist.linear.y)),
        )
        for item in message.objects
    ]
    return _input(message, rows)


OBJECT_TYPES = {
    "rap_msgs/TrackedObjects": ObjectsType(read_rap, is_tracked=True),
    "visualization_msgs/MarkerArray": ObjectsType(read_markers, is_tracked=False),
    "autoware_perception_msgs/TrackedObjects": ObjectsType(read_autoware, is_tracked=True),
    "vision_msgs/Detection3DArray": ObjectsType(read_detections, is_tracked=False),
    "derived_object_msgs/ObjectArray": ObjectsType(read_derived, is_tracked=True),
}


def _stamp_ns(stamp: Message) -> int:
    return int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec)


def _input(message: Message, rows: list[_Row]) -> ObjectsInput:
    stamp = _stamp_ns(message.header.stamp) or None
    return ObjectsInput(stamp, message.header.frame_id, _columns(rows))


def _columns(rows: list[_Row]) -> Columns:
    """Returns the rows as flat arrays, with no lights."""
    nothing = np.zeros(0)
    return {
        "ids": np.array([row.number for row in rows], np.int64),
        "classes": np.array([row.kind for row in rows], np.uint8),
        "centers": _flat(row.center for row in rows),
        "sizes": _flat(row.size for row in rows),
        "yaws": np.array([row.yaw for row in rows], np.float64),
        "velocities": _flat(row.velocity for row in rows),
        "ages_s": np.zeros(len(rows)),
        "existences": np.array([row.existence for row in rows], np.float64),
        "light_states": np.zeros(0, np.uint8),
        "light_centers": nothing,
        "light_sizes": nothing,
        "light_yaws": nothing,
    }


def _flat(tuples: Iterable[tuple[float, ...]]) -> Any:  # noqa: ANN401 - a column
    return np.array(list(tuples), np.float64).reshape(-1)


def _numbers(objects: Iterable[Message]) -> list[int]:
    """Returns 31-bit ids of UUIDs; of two that collide, the later one takes the next free id."""
    taken: list[int] = []
    for item in objects:
        number = int.from_bytes(bytes(item.object_id.uuid)[:4], "little") & MAX_ID or MAX_ID
        while number in taken:
            number = number % MAX_ID + 1
        taken.append(number)
    return taken


def _xyz(vector: Message) -> tuple[float, float, float]:
    return float(vector.x), float(vector.y), float(vector.z)


def _yaw(q: Message) -> float:
    """Returns the heading of a quaternion of any length; an unset one (all zero) points along x."""
    sine, cosine = 2.0 * (q.w * q.z + q.x * q.y), q.w * q.w + q.x * q.x - q.y * q.y - q.z * q.z
    return float(np.arctan2(sine, cosine))


def _autoware_size(
    shape: Message,
) -> tuple[tuple[float, float, float], tuple[float, float]]:
    """Returns length, width, height, and where the middle lies in the object's frame."""
    length, width, height = _xyz(shape.dimensions)
    if shape.type == _ROUND:
        return (length, length, height), (0.0, 0.0)
    if shape.type == _FOOTPRINT and len(shape.footprint.points):
        xs = [float(point.x) for point in shape.footprint.points]
        ys = [float(point.y) for point in shape.footprint.points]
        size = (max(xs) - min(xs), max(ys) - min(ys), height)
        return size, (0.5 * (min(xs) + max(xs)), 0.5 * (min(ys) + max(ys)))
    return (length, width, height), (0.0, 0.0)


def _solid_size(shape: Message) -> tuple[float, float, float]:
    """Returns length, width, height of a shape_msgs/SolidPrimitive, NaN if it is another one.

    Such an object is left out later on, so that the others of the message stay known.
    """
    numbers = [float(number) for number in shape.dimensions]
    box, sphere, cylinder = 1, 2, 3
    if shape.type == box and len(numbers) == 3:
        return numbers[0], numbers[1], numbers[2]
    if shape.type == sphere and len(numbers) == 1:
        return 2 * numbers[0], 2 * numbers[0], 2 * numbers[0]
    if shape.type == cylinder and len(numbers) == 2:
        return 2 * numbers[1], 2 * numbers[1], numbers[0]
    return (math.nan,) * 3
