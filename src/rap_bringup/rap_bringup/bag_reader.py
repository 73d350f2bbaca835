"""Reads rosbag2 folders: what a drive consists of, and its messages in order.

A bag is checked as a whole before anything is started, so that a missing calibration is one clear
line and not a graph that waits for it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rosbags.rosbag2 import Reader

from rap_bringup.bag_types import CONTROL_MODE_TYPE, Message, deserialized, raw_stamp_ns, stamp_of
from rap_bringup.bags import EGO_FRAME, MAP_FRAME, BagError
from rap_bringup.drives.recorded_drive import RecordedObjects
from rap_perception.camera_info import CalibrationError, camera_model_from_message
from rap_perception.transform_tree import TransformError, TransformTree
from rap_raster.camera import CameraModel
from rap_raster.ego_history import EgoState
from rap_raster.frames import UNIT_TOLERANCE, FloatArray, angles_of
from rap_raster.maps.vector_map import VectorMap
from rap_raster.scene import Boxes, Lights, Shapes

TYPES = {
    "objects": "rap_msgs/msg/TrackedObjects",
    "odometry": "nav_msgs/msg/Odometry",
    "route": "nav_msgs/msg/Path",
    "rap/map": "rap_msgs/msg/MapPrimitives",
    "command": "std_msgs/msg/UInt8",
    "engaged": "std_msgs/msg/Bool",
    "tf_static": "tf2_msgs/msg/TFMessage",
}
"""Input topics of the ROS contract and their types, cameras apart."""

CONTROL_MODE_TOPIC = "vehicle/status/control_mode"
"""Of Autoware vehicles; taken where it has Autoware's type."""

LATCHED_TOPICS = ("tf_static", "route", "rap/map")
"""They hold for the whole drive, and bags may give them any time, zero included."""

OPTIONAL_TOPICS = ("command", "engaged", "route", "rap/map")
"""Without them a drive is still one; others may publish something else under these names."""

IMAGE_TYPES = {
    "image": "sensor_msgs/msg/Image",
    "image/compressed": "sensor_msgs/msg/CompressedImage",
}
INFO_TYPE = "sensor_msgs/msg/CameraInfo"


@dataclass(frozen=True, slots=True)
class BagTopic:
    """One recorded topic.

    Attributes:
        name: Without the leading slash.
        type_name: Message type.
        count: Number of messages.
    """

    name: str
    type_name: str
    count: int


@dataclass(frozen=True, slots=True)
class BagCamera:
    """One camera of a bag.

    Attributes:
        name: The `<name>` of its topics.
        model: Calibration with extrinsics.
        image_topic: The topic its images are on.
        compressed: Whether that is a CompressedImage.
    """

    name: str
    model: CameraModel
    image_topic: str
    compressed: bool


@dataclass(frozen=True, slots=True)
class RecordedMessage:
    """One serialized message.

    Attributes:
        stamp_ns: When it was recorded; replay follows these.
        topic: Without the leading slash.
        raw: CDR bytes.
    """

    stamp_ns: int
    topic: str
    raw: bytes


class LeftOut:
    """Counts messages that are not used, or not wholly, with the first reason by topic."""

    def __init__(self) -> None:
        """Starts with none."""
        self._spoiled: dict[str, tuple[int, str]] = {}

    def add(self, topic: str, reason: str) -> None:
        """Counts a message."""
        count, first = self._spoiled.get(topic, (0, reason))
        self._spoiled[topic] = (count + 1, first)

    def reason(self, topic: str) -> str:
        """Returns the first reason of a topic; empty where nothing of it was left out."""
        return self._spoiled.get(topic, (0, ""))[1]

    @property
    def lines(self) -> tuple[str, ...]:
        """A line for each topic."""
        return tuple(
            f"/{topic}: {count} messages left out, or in part: {reason}"
            for topic, (count, reason) in self._spoiled.items()
        )


@dataclass(frozen=True, slots=True)
class Bag:
    """A checked bag.

    Attributes:
        path: The folder, or the single file.
        drive: Name of the drive.
        license: Terms of the recording, one line; empty where the bag does not tell.
        topics: Input topics of the contract by name; whatever else was recorded is left out.
        cameras: Calibrated cameras by name.
        start_ns: Stamp of the first message that is not latched.
        end_ns: Stamp of the last message.
        unread: Topics that may have been meant, each with the name that it would be read under.
    """

    path: Path
    drive: str
    license: str
    topics: dict[str, BagTopic]
    cameras: dict[str, BagCamera]
    start_ns: int
    end_ns: int
    unread: tuple[str, ...] = ()

    @property
    def duration_s(self) -> float:
        """Seconds from the first to the last message."""
        return (self.end_ns - self.start_ns) * 1e-9


def open_bag(path: Path) -> Bag:
    """Opens and checks a rosbag2 folder (sqlite3 or mcap), or a single file of one.

    Raises:
        BagError: If it is not a bag, has neither objects nor cameras, lacks odometry, has one of
            them in another frame, or a camera without calibration or extrinsics.
    """
    topics, told, end_ns = _topics(path)
    foreign = _without_foreign(topics)
    for name, type_name in TYPES.items():
        if name in topics and topics[name].type_name != type_name:
            other = " (rap bag ros2 converts some)" if name == "objects" else ""
            raise BagError(
                f"{path}: /{name} has type {topics[name].type_name}, expected {type_name}{other}"
            )
    if "odometry" not in topics:
        hints = "".join(f"; {hint}" for hint in _unread(topics) if "/odometry" in hint)
        raise BagError(f"{path}: no messages on /odometry, expected nav_msgs/msg/Odometry{hints}")
    cameras = _cameras(path, topics)
    if not cameras and "objects" not in topics:
        hints = "".join(f"; {hint}" for hint in _unread(topics))
        raise BagError(f"{path}: neither /objects nor /camera/<name>/image has messages{hints}")
    _check_frames(path, topics)
    used = set(TYPES)
    for camera in cameras.values():
        used |= {camera.image_topic, f"camera/{camera.name}/camera_info"}
    if CONTROL_MODE_TOPIC in topics and topics[CONTROL_MODE_TOPIC].type_name == CONTROL_MODE_TYPE:
        used.add(CONTROL_MODE_TOPIC)
    inputs = {name: topic for name, topic in topics.items() if name in used}
    start_ns = _first(path, set(inputs) - set(LATCHED_TOPICS)).stamp_ns
    drive, license_text = told.get("rap.drive", path.stem), told.get("rap.license", "")
    unread = _unread({name: topic for name, topic in topics.items() if name not in used})
    return Bag(path, drive, license_text, inputs, cameras, start_ns, end_ns, (*foreign, *unread))


def _without_foreign(topics: dict[str, BagTopic]) -> tuple[str, ...]:
    """Takes out what others publish under the names of inputs that need not be there; tells it."""
    told = []
    for name in OPTIONAL_TOPICS:
        if name in topics and (kind := topics[name].type_name) != TYPES[name]:
            told.append(foreign_line(name, kind))
            del topics[name]
    return tuple(told)


def foreign_line(name: str, kind: str) -> str:
    """Says why a topic is not read that has the name of an input and another type."""
    return f"/{name} is not read: it has type {kind}, expected {TYPES[name]}"


def _unread(topics: dict[str, BagTopic]) -> tuple[str, ...]:
    """Returns topics of types that are read, but under other names."""
    wanted = {TYPES[name]: f"/{name}" for name in ("odometry", "objects")}
    wanted |= {type_name: f"/camera/NAME/{kind}" for kind, type_name in IMAGE_TYPES.items()}
    return tuple(
        f"/{name} is not read, {wanted[topic.type_name]} would be (rap bag ros2 --remap)"
        for name, topic in topics.items()
        if topic.type_name in wanted and not name.startswith("rap/") and not _is_read(name)
    )


def _is_read(name: str) -> bool:
    kinds = tuple(f"/{kind}" for kind in IMAGE_TYPES)
    return name in TYPES or (name.startswith("camera/") and name.endswith(kinds))


def _check_frames(path: Path, topics: dict[str, BagTopic]) -> None:
    """Refuses at once what every node would reject, message by message."""
    check_odometry_frames(path, _content(path, _first(path, {"odometry"}), TYPES["odometry"]))
    if "objects" in topics:
        objects = _content(path, _first(path, {"objects"}), TYPES["objects"])
        if objects.header.frame_id != MAP_FRAME:
            raise BagError(
                f"{path}: /objects are in {objects.header.frame_id!r}, expected {MAP_FRAME!r} "
                "(rap bag ros2 places them)"
            )


def check_odometry_frames(path: Path, odometry: Message) -> None:
    """Raises BagError where odometry is not that of the ego frame in the map frame."""
    if (odometry.header.frame_id, odometry.child_frame_id) != (MAP_FRAME, EGO_FRAME):
        raise BagError(
            f"{path}: /odometry is {odometry.header.frame_id!r} -> {odometry.child_frame_id!r}, "
            f"expected {MAP_FRAME!r} -> {EGO_FRAME!r}"
        )


def messages(bag: Bag, topics: set[str] | None = None) -> Iterator[RecordedMessage]:
    """Yields the messages of a bag in the order of their stamps.

    Args:
        bag: An opened bag.
        topics: Names without leading slash; None for all of `bag.topics`. Others are none of its.

    Raises:
        BagError: If the bag cannot be read to its end.
    """
    wanted = set(bag.topics) if topics is None else topics & set(bag.topics)
    yield from read_messages(bag.path, wanted)


def recorded_topics(path: Path) -> dict[str, BagTopic]:
    """Returns the topics with messages of a bag that need not be a drive.

    Raises:
        BagError: If it is not a bag.
    """
    return _topics(path)[0]


def read_messages(
    path: Path, topics: set[str], start_ns: int | None = None, stop_ns: int | None = None
) -> Iterator[RecordedMessage]:
    """Yields the messages of some topics, of a bag that need not be a drive, by their stamps.

    Args:
        path: The bag.
        topics: Names without leading slash.
        start_ns: Messages recorded before are left out.
        stop_ns: Messages recorded then or later are left out.

    Raises:
        BagError: If it cannot be read to its end.
    """
    try:
        with Reader(path) as reader:
            chosen = [c for c in reader.connections if c.topic.lstrip("/") in topics]
            if not chosen:
                return
            for connection, stamp_ns, raw in reader.messages(chosen, start_ns, stop_ns):
                yield RecordedMessage(int(stamp_ns), connection.topic.lstrip("/"), bytes(raw))
    except Exception as error:  # a damaged file raises much that rosbags does not declare
        raise unreadable(path, "cannot be read", error) from error


def read_odometry(bag: Bag) -> tuple[EgoState, ...]:
    """Returns the odometry of a bag in stamp order, without what the nodes would refuse."""
    states = []
    for item in messages(bag, {"odometry"}):
        content = _content(bag.path, item, TYPES["odometry"])
        with suppress(ValueError):  # one message of thousands, which the nodes count
            states.append(checked_ego_state(content))
    return tuple(sorted(states, key=lambda state: state.stamp_ns))


def read_map(bag: Bag) -> VectorMap | None:
    """Returns the map of a bag, without a lane graph, or None."""
    for item in messages(bag, {"rap/map"}):
        m = _content(bag.path, item, TYPES["rap/map"])
        try:
            return VectorMap(
                name=m.name,
                polylines=_shapes(m.polyline_kinds, m.polyline_offsets, m.polyline_points),
                polygons=_shapes(m.polygon_kinds, m.polygon_offsets, m.polygon_points),
            )
        except ValueError as error:
            raise BagError(f"{bag.path}: /rap/map: {error}") from error
    return None


def read_routes(bag: Bag) -> Iterator[FloatArray]:
    """Yields the (n, 3) routes of a bag that lead somewhere, as they were sent."""
    for item in messages(bag, {"route"}):
        poses = _content(bag.path, item, TYPES["route"]).poses
        points = [(p.pose.position.x, p.pose.position.y, p.pose.position.z) for p in poses]
        if len(points) > 1:
            yield np.array(points, dtype=np.float64)


def objects_of(raw: bytes) -> RecordedObjects:
    """Returns the objects of a serialized `rap_msgs/TrackedObjects`."""
    content = deserialized(raw, TYPES["objects"])
    boxes = Boxes(
        ids=content.ids,
        classes=content.classes,
        centers_m=content.centers.reshape(-1, 3),
        sizes_m=content.sizes.astype(np.float64).reshape(-1, 3),
        yaws_rad=content.yaws.astype(np.float64),
        velocities_mps=content.velocities.astype(np.float64).reshape(-1, 2),
    )
    lights = Lights(
        states=content.light_states,
        centers_m=content.light_centers.reshape(-1, 3),
        sizes_m=content.light_sizes.astype(np.float64).reshape(-1, 3),
        yaws_rad=content.light_yaws.astype(np.float64),
    )
    return RecordedObjects(stamp_of(content.header), boxes, lights)


def checked_ego_state(odometry: Message) -> EgoState:
    """Returns the ego state in a `nav_msgs/Odometry`, checked as the nodes check it.

    Raises:
        ValueError: If it has no stamp, or a number or the orientation is none.
    """
    state, turn = ego_state(odometry), odometry.pose.pose.orientation
    values = [*state.planar, state.z_m, state.vx_mps, state.vy_mps, state.yaw_rate_radps]
    if not np.isfinite(values).all():
        raise ValueError(f"numbers that are none at {state.stamp_ns} ns")
    if abs(math.hypot(turn.x, turn.y, turn.z, turn.w) - 1.0) > UNIT_TOLERANCE:
        raise ValueError(f"an orientation that is none at {state.stamp_ns} ns")
    if state.stamp_ns == 0:
        raise ValueError("no stamp")
    return state


def ego_state(odometry: Message) -> EgoState:
    """Returns the ego state in a `nav_msgs/Odometry`."""
    position = odometry.pose.pose.position
    turn = odometry.pose.pose.orientation
    twist = odometry.twist.twist
    yaw_rad, pitch_rad, roll_rad = angles_of(turn.x, turn.y, turn.z, turn.w)
    return EgoState(
        stamp_ns=stamp_of(odometry.header),
        x_m=position.x,
        y_m=position.y,
        z_m=position.z,
        yaw_rad=yaw_rad,
        vx_mps=twist.linear.x,
        vy_mps=twist.linear.y,
        yaw_rate_radps=twist.angular.z,
        pitch_rad=pitch_rad,
        roll_rad=roll_rad,
    )


def step_stamps(bag: Bag, anchor: str | None) -> list[int]:
    """Returns the stamps a trajectory is due for.

    Args:
        bag: An opened bag.
        anchor: Camera that sets the pace, or None for the objects.

    Returns:
        Header stamps of the anchor's images or of the objects, increasing, without repeats.
    """
    topic = bag.cameras[anchor].image_topic if anchor is not None else "objects"
    return sorted({raw_stamp_ns(item.raw) for item in messages(bag, {topic})})


def _content(path: Path, item: RecordedMessage, type_name: str) -> Message:
    try:
        return deserialized(item.raw, type_name)
    except ValueError as error:
        raise BagError(f"{path}: /{item.topic}: {error}") from error


def _first(path: Path, topics: set[str]) -> RecordedMessage:
    """Returns the first message of some topics that `metadata.yaml` says there are."""
    first = next(read_messages(path, topics), None)
    if first is None:
        raise BagError(
            f"{path}: no messages on {', '.join(sorted(topics))}, metadata.yaml has some"
        )
    return first


def unreadable(path: Path, what: str, error: Exception) -> BagError:
    """Returns the error to raise about a bag for which rosbags raised one."""
    reason = " ".join(str(error).split()) or type(error).__name__
    return BagError(f"{path}: {what}: {reason}")


def _topics(path: Path) -> tuple[dict[str, BagTopic], dict[str, str], int]:
    """Returns the topics with messages, what the bag tells about itself, and the last stamp."""
    if not path.exists():
        raise BagError(f"{path}: not a rosbag2 folder")
    try:
        with Reader(path) as reader:
            topics = {
                name: BagTopic(name, connection.msgtype, connection.msgcount)
                for connection in reader.connections
                if connection.msgcount > 0 and (name := connection.topic.lstrip("/"))
            }
            told = dict(reader.storage.metadata.custom or {})
            return topics, told, int(reader.end_time) - 1
    except Exception as error:  # a damaged file raises much that rosbags does not declare
        raise unreadable(path, "not a rosbag2 folder", error) from error


def _cameras(path: Path, topics: dict[str, BagTopic]) -> dict[str, BagCamera]:
    found: dict[str, tuple[str, bool]] = {}
    for suffix, type_name in IMAGE_TYPES.items():
        for topic in topics.values():
            if topic.name.startswith("camera/") and topic.name.endswith(f"/{suffix}"):
                name = topic.name[len("camera/") : -len(suffix) - 1]
                if topic.type_name != type_name:
                    raise BagError(
                        f"{path}: /{topic.name} has type {topic.type_name}, expected {type_name}"
                    )
                found.setdefault(name, (topic.name, suffix == "image/compressed"))
    if not found:
        return {}
    transforms = _static_transforms(path)
    return {
        name: BagCamera(name, _calibration(path, name, topics, transforms), image_topic, compressed)
        for name, (image_topic, compressed) in found.items()
    }


def _calibration(
    path: Path, name: str, topics: dict[str, BagTopic], transforms: TransformTree
) -> CameraModel:
    topic = f"camera/{name}/camera_info"
    if topic not in topics or topics[topic].type_name != INFO_TYPE:
        raise BagError(f"{path}: camera {name}: no messages on /{topic}, expected {INFO_TYPE}")
    info = _content(path, _first(path, {topic}), INFO_TYPE)
    try:
        pose = transforms.look_up(EGO_FRAME, info.header.frame_id.lstrip("/"))
        return camera_model_from_message(name, info, pose)
    except TransformError as error:
        raise BagError(f"{path}: camera {name}: /tf_static: {error}") from error
    except CalibrationError as error:
        raise BagError(f"{path}: camera {error}") from error


def _static_transforms(path: Path) -> TransformTree:
    """Returns all frames of /tf_static."""
    tree = TransformTree()
    for item in read_messages(path, {"tf_static"}):
        for stamped in _content(path, item, TYPES["tf_static"]).transforms:
            shift, turn = stamped.transform.translation, stamped.transform.rotation
            try:
                tree.add(
                    stamped.header.frame_id.lstrip("/"),
                    stamped.child_frame_id.lstrip("/"),
                    np.array([shift.x, shift.y, shift.z]),
                    np.array([turn.x, turn.y, turn.z, turn.w]),
                )
            except TransformError as error:
                raise BagError(f"{path}: /tf_static: {error}") from error
    return tree


def _shapes(kinds: Message, offsets: Message, points: Message) -> Shapes:
    return Shapes(
        kinds=np.asarray(kinds, dtype=np.uint8),
        offsets=np.asarray(offsets, dtype=np.int32),
        points_m=np.asarray(points, dtype=np.float64).reshape(-1, 3),
    )
