"""Writes drives as rosbag2 folders and reads back what replay and its pictures need.

Bags are written and read with `rosbags`, so neither needs ROS. Topics are those of the ROS
contract. `/tf_static` and the latched topics come first; at equal stamps odometry comes before
objects and images, because that is the order in which a vehicle knows them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from rosbags.interfaces import Qos
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.rosbag2.errors import WriterError

from rap_bringup.bag_types import (
    LATCHED,
    RELIABLE,
    SENSOR,
    Message,
    header,
    message,
    point,
    quaternion,
    serialized,
    typestore,
    vector3,
    yaw_quaternion,
)
from rap_bringup.drives.recorded_drive import (
    RecordedCamera,
    RecordedDrive,
    RecordedObjects,
    Signal,
)
from rap_bringup.rotations import quaternion_from_rotation
from rap_raster.camera import CameraModel
from rap_raster.ego_history import EgoState
from rap_raster.frames import FloatArray
from rap_raster.observations import TrackedObjects
from rap_raster.scene import Shapes

MAP_FRAME = "map"
EGO_FRAME = "base_link"
BAG_VERSION: Literal[9] = 9
"""Version of `metadata.yaml` that Jazzy writes."""


class BagError(ValueError):
    """A bag that cannot be written or read; the text says what and where in one line."""


@dataclass(frozen=True, slots=True)
class _Outgoing:
    """One message on its way into a bag."""

    stamp_ns: int
    topic: str
    qos: Qos
    content: Message


def write_bag(drive: RecordedDrive, path: Path) -> dict[str, int]:
    """Writes a drive as a rosbag2 folder with mcap storage.

    Args:
        drive: What to write.
        path: Folder to make; must not exist, or be empty.

    Returns:
        Number of messages per topic.

    Raises:
        BagError: If the folder is not empty or cannot be written.
    """
    require_new_folder(path)
    counts: dict[str, int] = {}
    try:
        with Writer(path, version=BAG_VERSION, storage_plugin=StoragePlugin.MCAP) as writer:
            writer.set_custom_data("rap.drive", drive.name)
            writer.set_custom_data("rap.license", drive.license)
            writer.set_custom_data("rap.route_source", drive.route_source)
            connections = {}
            for item in _outgoing(drive):
                if item.topic not in connections:
                    connections[item.topic] = writer.add_connection(
                        item.topic,
                        item.content.__msgtype__,
                        typestore=typestore(),
                        offered_qos_profiles=[item.qos],
                    )
                writer.write(connections[item.topic], item.stamp_ns, serialized(item.content))
                counts[item.topic] = counts.get(item.topic, 0) + 1
    except (OSError, WriterError) as error:
        raise BagError(f"{path}: cannot be written: {' '.join(str(error).split())}") from error
    return counts


def require_new_folder(path: Path) -> None:
    """Makes sure that a folder can be made at `path`; an empty one is taken away.

    Raises:
        BagError: If something is there.
    """
    if path.is_dir() and not any(path.iterdir()):
        path.rmdir()
    if path.exists():
        raise BagError(f"{path}: exists and is not an empty folder; give a new one")


def _outgoing(drive: RecordedDrive) -> Iterator[_Outgoing]:
    start_ns = drive.start_ns
    if drive.cameras:
        yield _Outgoing(start_ns, "/tf_static", LATCHED, extrinsics_message(drive.cameras))
    if drive.map is not None:
        content = map_message(drive.map.name, drive.map.polylines, drive.map.polygons)
        yield _Outgoing(start_ns, "/rap/map", LATCHED, content)
    if drive.route_m is not None:
        yield _Outgoing(start_ns, "/route", LATCHED, route_message(drive.route_m))
    moving = [
        _Outgoing(state.stamp_ns, "/odometry", RELIABLE, odometry_message(state))
        for state in drive.ego
    ]
    moving += [
        _Outgoing(step.stamp_ns, "/objects", RELIABLE, objects_message(step))
        for step in drive.objects
    ]
    for camera in drive.cameras:
        moving += _camera_messages(camera)
    for topic, signal in (("/command", drive.commands), ("/engaged", drive.engaged)):
        moving += _signal_messages(topic, signal) if signal is not None else []
    yield from sorted(moving, key=lambda item: item.stamp_ns)


def _camera_messages(camera: RecordedCamera) -> list[_Outgoing]:
    result = []
    topic = f"/camera/{camera.model.name}"
    for image in camera.images:
        info = camera_info_message(camera.model, image.stamp_ns)
        content = message(
            "sensor_msgs/msg/CompressedImage",
            header=header(image.stamp_ns, camera.model.name),
            format="jpeg",
            data=np.frombuffer(image.jpeg, dtype=np.uint8),
        )
        result.append(_Outgoing(image.stamp_ns, f"{topic}/camera_info", SENSOR, info))
        result.append(_Outgoing(image.stamp_ns, f"{topic}/image/compressed", SENSOR, content))
    return result


_SIGNAL_TYPES = {
    "/command": ("std_msgs/msg/UInt8", int),
    "/engaged": ("std_msgs/msg/Bool", bool),
}


def _signal_messages(topic: str, signal: Signal) -> list[_Outgoing]:
    type_name, kind = _SIGNAL_TYPES[topic]
    return [
        _Outgoing(int(stamp), topic, RELIABLE, message(type_name, data=kind(code)))
        for stamp, code in zip(signal.stamps_ns, signal.codes, strict=True)
    ]


def odometry_message(state: EgoState) -> Message:
    """Returns `nav_msgs/Odometry`, map to base_link, twist in base_link; covariances unknown."""
    covariance = np.zeros(36)
    return message(
        "nav_msgs/msg/Odometry",
        header=header(state.stamp_ns, MAP_FRAME),
        child_frame_id=EGO_FRAME,
        pose=message(
            "geometry_msgs/msg/PoseWithCovariance",
            pose=_pose(state.x_m, state.y_m, state.z_m, state.yaw_rad),
            covariance=covariance,
        ),
        twist=message(
            "geometry_msgs/msg/TwistWithCovariance",
            twist=message(
                "geometry_msgs/msg/Twist",
                linear=vector3(state.vx_mps, state.vy_mps, 0.0),
                angular=vector3(0.0, 0.0, state.yaw_rate_radps),
            ),
            covariance=covariance,
        ),
    )


def objects_message(step: RecordedObjects) -> Message:
    """Returns `rap_msgs/TrackedObjects`: seen now, and taken for existing."""
    seen = np.zeros(len(step.boxes), dtype=np.float32)
    return tracked_objects_message(
        TrackedObjects(step.stamp_ns, step.boxes, step.lights, ages_s=seen, existences=seen + 1.0)
    )


def tracked_objects_message(objects: TrackedObjects) -> Message:
    """Returns `rap_msgs/TrackedObjects`."""
    boxes, lights = objects.boxes, objects.lights
    return message(
        "rap_msgs/msg/TrackedObjects",
        header=header(objects.stamp_ns, MAP_FRAME),
        ids=boxes.ids.astype(np.int32),
        classes=boxes.classes.astype(np.uint8),
        centers=boxes.centers_m.ravel(),
        sizes=boxes.sizes_m.astype(np.float32).ravel(),
        yaws=boxes.yaws_rad.astype(np.float32),
        velocities=boxes.velocities_mps.astype(np.float32).ravel(),
        ages_s=objects.ages_s,
        existences=objects.existences,
        light_states=lights.states.astype(np.uint8),
        light_centers=lights.centers_m.ravel(),
        light_sizes=lights.sizes_m.astype(np.float32).ravel(),
        light_yaws=lights.yaws_rad.astype(np.float32),
    )


def map_message(name: str, polylines: Shapes, polygons: Shapes) -> Message:
    """Returns `rap_msgs/MapPrimitives`; a map has no time, so its stamp is zero."""
    return message(
        "rap_msgs/msg/MapPrimitives",
        header=header(0, MAP_FRAME),
        name=name,
        polyline_kinds=polylines.kinds,
        polyline_offsets=polylines.offsets.astype(np.uint32),
        polyline_points=polylines.points_m.ravel(),
        polygon_kinds=polygons.kinds,
        polygon_offsets=polygons.offsets.astype(np.uint32),
        polygon_points=polygons.points_m.ravel(),
    )


def route_message(route_m: FloatArray) -> Message:
    """Returns `nav_msgs/Path` of (n, 3) places; all stamps are zero, a route has no times."""
    headings = np.arctan2(np.gradient(route_m[:, 1]), np.gradient(route_m[:, 0]))
    stamped = [
        message(
            "geometry_msgs/msg/PoseStamped",
            header=header(0, MAP_FRAME),
            pose=_pose(x, y, z, yaw),
        )
        for (x, y, z), yaw in zip(route_m, headings, strict=True)
    ]
    return message("nav_msgs/msg/Path", header=header(0, MAP_FRAME), poses=stamped)


def camera_info_message(camera: CameraModel, stamp_ns: int) -> Message:
    """Returns `sensor_msgs/CameraInfo`; a pinhole is plumb_bob with zero coefficients."""
    coefficients = camera.distortion.coeffs if camera.distortion else (0.0,) * 5
    projection = np.concatenate([camera.intrinsics, np.zeros((3, 1))], axis=1)
    return message(
        "sensor_msgs/msg/CameraInfo",
        header=header(stamp_ns, camera.name),
        height=camera.height,
        width=camera.width,
        distortion_model=camera.distortion.model if camera.distortion else "plumb_bob",
        d=np.array(coefficients, dtype=np.float64),
        k=camera.intrinsics.ravel(),
        r=np.eye(3).ravel(),
        p=projection.ravel(),
        binning_x=0,
        binning_y=0,
        roi=message(
            "sensor_msgs/msg/RegionOfInterest",
            x_offset=0,
            y_offset=0,
            height=0,
            width=0,
            do_rectify=False,
        ),
    )


def extrinsics_message(cameras: tuple[RecordedCamera, ...]) -> Message:
    """Returns `tf2_msgs/TFMessage`: base_link to the optical frame of every camera."""
    transforms = [
        message(
            "geometry_msgs/msg/TransformStamped",
            header=header(0, EGO_FRAME),
            child_frame_id=camera.model.name,
            transform=message(
                "geometry_msgs/msg/Transform",
                translation=vector3(*camera.model.ego_from_camera[:3, 3]),
                rotation=quaternion(quaternion_from_rotation(camera.model.ego_from_camera[:3, :3])),
            ),
        )
        for camera in cameras
    ]
    return message("tf2_msgs/msg/TFMessage", transforms=transforms)


def _pose(x_m: float, y_m: float, z_m: float, yaw_rad: float) -> Message:
    return message(
        "geometry_msgs/msg/Pose",
        position=point(x_m, y_m, z_m),
        orientation=yaw_quaternion(yaw_rad),
    )
