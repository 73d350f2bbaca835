"""Messages to dataclasses and back.

Sending fills `array.array` through `frombytes`; receiving views the message's buffer. Anything else
costs a second per megabyte in generated Python messages.
"""

from __future__ import annotations

from array import array
from typing import Any

import numpy as np
import numpy.typing as npt
from builtin_interfaces.msg import Time
from geometry_msgs.msg import PoseStamped
from nav_msgs.msg import Odometry, Path
from rap_msgs.msg import AlignedFeatures as AlignedFeaturesMsg
from rap_msgs.msg import CameraFrame as CameraFrameMsg
from rap_msgs.msg import MapPrimitives
from rap_msgs.msg import TrackedObjects as TrackedObjectsMsg
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from rap_raster.ego_history import EgoState
from rap_raster.features import AlignedFeatures
from rap_raster.frames import MAX_PLACE_M, UNIT_TOLERANCE, FloatArray, angles_of
from rap_raster.maps.vector_map import VectorMap
from rap_raster.observations import CameraFrame, TrackedObjects
from rap_raster.scene import Boxes, Lights, LineKind, PolygonKind, Shapes

NANOSECONDS = 1_000_000_000


class MessageError(ValueError):
    """A message that must not be used; the text names field, value and what was expected."""


def packed(code: str, values: npt.NDArray[Any]) -> array[Any]:
    """Returns values as an `array.array` of a type code, for a message field."""
    result = array(code)
    contiguous = np.ascontiguousarray(values, dtype=np.dtype(code)).reshape(-1)
    if contiguous.size:
        result.frombytes(contiguous.data.cast("B"))
    return result


def stamp_ns(stamp: Time) -> int:
    """Returns a message stamp as nanoseconds."""
    return int(stamp.sec) * NANOSECONDS + int(stamp.nanosec)


def time_msg(nanoseconds: int) -> Time:
    """Returns nanoseconds as a message stamp."""
    return Time(sec=nanoseconds // NANOSECONDS, nanosec=nanoseconds % NANOSECONDS)


def header(nanoseconds: int, frame_id: str) -> Header:
    """Returns a header."""
    return Header(stamp=time_msg(nanoseconds), frame_id=frame_id)


def check_frame(message_header: Header, expected: str) -> None:
    """Raises MessageError if a message is in another frame."""
    if message_header.frame_id != expected:
        raise MessageError(f"frame_id is {message_header.frame_id!r}, expected {expected!r}")


def ego_state_from_msg(message: Odometry, map_frame: str, base_frame: str) -> EgoState:
    """Converts odometry: pose in the map frame, twist in the base frame.

    Raises:
        MessageError: If a frame is another one, a number is not finite, or the orientation is none.
    """
    check_frame(message.header, map_frame)
    if message.child_frame_id != base_frame:
        raise MessageError(f"child_frame_id is {message.child_frame_id!r}, expected {base_frame!r}")
    position, q = message.pose.pose.position, message.pose.pose.orientation
    linear, angular = message.twist.twist.linear, message.twist.twist.angular
    yaw_rad, pitch_rad, roll_rad = angles_of(q.x, q.y, q.z, q.w)
    values = (position.x, position.y, position.z, yaw_rad, linear.x, linear.y, angular.z)
    if not (np.abs([*values, q.x, q.y, q.z, q.w]) <= MAX_PLACE_M).all():
        raise MessageError(
            f"pose or twist is not finite or beyond {MAX_PLACE_M:g}: "
            f"{[float(value) for value in values]}"
        )
    length = float(np.sqrt(q.x * q.x + q.y * q.y + q.z * q.z + q.w * q.w))
    if abs(length - 1.0) > UNIT_TOLERANCE:
        raise MessageError(f"pose.orientation has the length {length:.3f}, expected 1")
    stamp = stamp_ns(message.header.stamp)
    return EgoState(stamp, *map(float, (*values, pitch_rad, roll_rad)))


def path_points(message: Path, map_frame: str) -> FloatArray | None:
    """Returns (n, 3) points of a path, or None for an empty one.

    Raises:
        MessageError: If the frame is another one or a point is not finite.
    """
    check_frame(message.header, map_frame)
    positions = [pose.pose.position for pose in message.poses]
    points = np.array([(p.x, p.y, p.z) for p in positions], dtype=np.float64).reshape(-1, 3)
    bad = np.flatnonzero(~(np.abs(points) <= MAX_PLACE_M).all(axis=1))
    if len(bad):
        raise MessageError(
            f"poses[{bad[0]}] is not finite or beyond {MAX_PLACE_M:g} m: {points[bad[0]].tolist()}"
        )
    return points if len(points) else None


def route_msg(nanoseconds: int, frame_id: str, points_m: FloatArray) -> Path:
    """Returns (n, 3) points of a route as a path; the poses' directions are not set."""
    message = Path(header=header(nanoseconds, frame_id))
    for x_m, y_m, z_m in points_m.tolist():
        pose = PoseStamped(header=message.header)
        pose.pose.position.x, pose.pose.position.y, pose.pose.position.z = x_m, y_m, z_m
        message.poses.append(pose)
    return message


def path_msg(
    nanoseconds: int, frame_id: str, poses_m: FloatArray, z_m: float, step_s: float
) -> Path:
    """Returns timed poses as a path.

    Args:
        nanoseconds: Stamp of the header.
        frame_id: Frame of the poses.
        poses_m: (n, 3) x, y, yaw; pose k is stamped header + (k + 1) step.
        z_m: Height of all poses.
        step_s: Time between poses.
    """
    message = Path(header=header(nanoseconds, frame_id))
    step_ns = round(step_s * NANOSECONDS)
    for index, (x_m, y_m, yaw_rad) in enumerate(poses_m.tolist(), start=1):
        pose = PoseStamped(header=header(nanoseconds + index * step_ns, frame_id))
        pose.pose.position.x, pose.pose.position.y, pose.pose.position.z = x_m, y_m, z_m
        pose.pose.orientation.z = float(np.sin(0.5 * yaw_rad))
        pose.pose.orientation.w = float(np.cos(0.5 * yaw_rad))
        message.poses.append(pose)
    return message


def objects_msg(objects: TrackedObjects, map_frame: str) -> TrackedObjectsMsg:
    """Converts tracked objects."""
    boxes, lights = objects.boxes, objects.lights
    return TrackedObjectsMsg(
        header=header(objects.stamp_ns, map_frame),
        ids=packed("i", boxes.ids),
        classes=packed("B", boxes.classes),
        centers=packed("d", boxes.centers_m),
        sizes=packed("f", boxes.sizes_m),
        yaws=packed("f", boxes.yaws_rad),
        velocities=packed("f", boxes.velocities_mps),
        ages_s=packed("f", objects.ages_s),
        existences=packed("f", objects.existences),
        light_states=packed("B", lights.states),
        light_centers=packed("d", lights.centers_m),
        light_sizes=packed("f", lights.sizes_m),
        light_yaws=packed("f", lights.yaws_rad),
    )


OBJECT_FIELDS = (
    *("ids", "classes", "centers", "sizes", "yaws", "velocities", "ages_s", "existences"),
    *("light_states", "light_centers", "light_sizes", "light_yaws"),
)
"""Array fields of `rap_msgs/TrackedObjects`."""


def object_columns(message: TrackedObjectsMsg) -> dict[str, npt.NDArray[Any]]:
    """Returns the flat arrays of an objects message by field name, without copying."""
    return {name: np.asarray(getattr(message, name)) for name in OBJECT_FIELDS}


def objects_from_msg(message: TrackedObjectsMsg, map_frame: str) -> TrackedObjects:
    """Converts objects that perception has checked already.

    Raises:
        MessageError: If the frame is another one or lengths disagree.
    """
    check_frame(message.header, map_frame)
    columns = object_columns(message)
    count = len(columns["ids"])
    try:
        return TrackedObjects(
            stamp_ns=stamp_ns(message.header.stamp),
            boxes=_boxes(columns),
            lights=_lights(columns),
            ages_s=columns["ages_s"].astype(np.float32).reshape(count),
            existences=columns["existences"].astype(np.float32).reshape(count),
        )
    except ValueError as error:
        raise MessageError(f"lengths of object arrays disagree: {error}") from error


def _boxes(columns: dict[str, npt.NDArray[Any]]) -> Boxes:
    count = len(columns["ids"])
    return Boxes(
        ids=columns["ids"].astype(np.int32),
        classes=columns["classes"].astype(np.uint8).reshape(count),
        centers_m=columns["centers"].astype(np.float64).reshape(count, 3),
        sizes_m=columns["sizes"].astype(np.float64).reshape(count, 3),
        yaws_rad=columns["yaws"].astype(np.float64).reshape(count),
        velocities_mps=columns["velocities"].astype(np.float64).reshape(count, 2),
    )


def _lights(columns: dict[str, npt.NDArray[Any]]) -> Lights:
    count = len(columns["light_states"])
    return Lights(
        states=columns["light_states"].astype(np.uint8),
        centers_m=columns["light_centers"].astype(np.float64).reshape(count, 3),
        sizes_m=columns["light_sizes"].astype(np.float64).reshape(count, 3),
        yaws_rad=columns["light_yaws"].astype(np.float64).reshape(count),
    )


def map_msg(vector_map: VectorMap, nanoseconds: int, map_frame: str) -> MapPrimitives:
    """Converts the drawable part of a map."""
    lines, areas = vector_map.polylines, vector_map.polygons
    return MapPrimitives(
        header=header(nanoseconds, map_frame),
        name=vector_map.name,
        polyline_kinds=packed("B", lines.kinds),
        polyline_offsets=packed("I", lines.offsets),
        polyline_points=packed("d", lines.points_m),
        polygon_kinds=packed("B", areas.kinds),
        polygon_offsets=packed("I", areas.offsets),
        polygon_points=packed("d", areas.points_m),
    )


def map_from_msg(message: MapPrimitives, map_frame: str) -> VectorMap:
    """Converts a map.

    Raises:
        MessageError: If the frame is another one, a kind is unknown, offsets do not fit the points
            or a point is not finite.
    """
    check_frame(message.header, map_frame)
    return VectorMap(
        name=message.name,
        polylines=_shapes(message, "polyline", [int(kind) for kind in LineKind]),
        polygons=_shapes(message, "polygon", [int(kind) for kind in PolygonKind]),
    )


def _shapes(message: MapPrimitives, what: str, known: list[int]) -> Shapes:
    kinds = np.asarray(getattr(message, f"{what}_kinds")).astype(np.uint8)
    offsets = np.asarray(getattr(message, f"{what}_offsets")).astype(np.int64)
    points = np.asarray(getattr(message, f"{what}_points")).astype(np.float64)
    bad = np.flatnonzero(~np.isin(kinds, known))
    if len(bad):
        raise MessageError(f"{what}_kinds[{bad[0]}]: is {kinds[bad[0]]}, expected one of {known}")
    usable = np.abs(points) <= MAX_PLACE_M
    if not usable.all():
        index = int(np.argmin(usable))
        raise MessageError(
            f"{what}_points[{index}]: is {points[index]}, expected a finite number up to "
            f"{MAX_PLACE_M:g}"
        )
    fits = (
        len(offsets) == len(kinds) + 1
        and offsets[0] == 0
        and 3 * offsets[-1] == len(points)
        and bool(np.all(np.diff(offsets) > 0))
    )
    if not fits:
        raise MessageError(
            f"{what}_offsets: {len(offsets)} values for {len(kinds)} kinds and {len(points)} "
            "coordinates; expected kinds + 1 rising values from 0 to coordinates / 3"
        )
    return Shapes(kinds, offsets.astype(np.int32), points.reshape(-1, 3))


def frame_msg(frame: CameraFrame, base_frame: str) -> CameraFrameMsg:
    """Converts a camera frame."""
    return CameraFrameMsg(
        header=header(frame.stamp_ns, base_frame),
        camera_names=list(frame.names),
        status=packed("B", frame.valid),
        age_s=packed("f", frame.age_s),
        width=frame.images.shape[2],
        height=frame.images.shape[1],
        intrinsics=packed("f", frame.intrinsics),
        ego_from_camera=packed("f", frame.ego_from_camera[:, :3]),
        rgb=packed("B", frame.images),
    )


def frame_from_msg(message: CameraFrameMsg, base_frame: str) -> CameraFrame:
    """Converts a camera frame; the pixels are a view of the message.

    Raises:
        MessageError: If the frame is another one or lengths disagree.
    """
    check_frame(message.header, base_frame)
    count = len(message.camera_names)
    try:
        return CameraFrame(
            stamp_ns=stamp_ns(message.header.stamp),
            names=tuple(message.camera_names),
            valid=np.asarray(message.status).astype(bool).reshape(count),
            age_s=np.asarray(message.age_s).astype(np.float32).reshape(count),
            images=np.asarray(message.rgb).reshape(count, message.height, message.width, 3),
            intrinsics=np.asarray(message.intrinsics).astype(np.float64).reshape(count, 4),
            ego_from_camera=_poses(message.ego_from_camera, count),
        )
    except ValueError as error:
        raise MessageError(f"lengths of frame arrays disagree: {error}") from error


def features_msg(
    features: AlignedFeatures, names: tuple[str, ...], bundle_sha256: str, base_frame: str
) -> AlignedFeaturesMsg:
    """Converts aligned features.

    Args:
        features: To convert.
        names: Camera slots of the bundle.
        bundle_sha256: Hash of the encoder that made them.
        base_frame: Frame of the camera poses.
    """
    _, channels, height, width = features.maps.shape
    return AlignedFeaturesMsg(
        header=header(features.stamp_ns, base_frame),
        bundle=bundle_sha256,
        camera_names=list(names),
        sources=packed("B", features.sources),
        alignment_distance=packed("f", features.alignment_distance),
        intrinsics=packed("f", features.intrinsics),
        ego_from_camera=packed("f", features.ego_from_camera[:, :3]),
        channels=channels,
        height=height,
        width=width,
        features=packed("f", features.maps),
    )


def features_from_msg(message: AlignedFeaturesMsg, base_frame: str) -> AlignedFeatures:
    """Converts aligned features; the maps are a view of the message.

    Raises:
        MessageError: If the frame is another one or lengths disagree.
    """
    check_frame(message.header, base_frame)
    count = len(message.camera_names)
    shape = (count, message.channels, message.height, message.width)
    try:
        return AlignedFeatures(
            stamp_ns=stamp_ns(message.header.stamp),
            sources=np.asarray(message.sources).astype(np.uint8).reshape(count),
            maps=np.asarray(message.features).reshape(shape),
            intrinsics=np.asarray(message.intrinsics).astype(np.float64).reshape(count, 4),
            ego_from_camera=_poses(message.ego_from_camera, count),
            alignment_distance=np.asarray(message.alignment_distance).reshape(count),
        )
    except ValueError as error:
        raise MessageError(f"lengths of feature arrays disagree: {error}") from error


def _poses(values: array[float], count: int) -> FloatArray:
    poses = np.tile(np.eye(4), (count, 1, 1))
    poses[:, :3] = np.asarray(values).astype(np.float64).reshape(count, 3, 4)
    return poses


def image_msg(nanoseconds: int, frame_id: str, rgb: npt.NDArray[np.uint8]) -> Image:
    """Converts an (H, W, 3) rgb image."""
    height, width = rgb.shape[:2]
    return Image(
        header=header(nanoseconds, frame_id),
        height=height,
        width=width,
        encoding="rgb8",
        step=3 * width,
        data=packed("B", rgb),
    )
