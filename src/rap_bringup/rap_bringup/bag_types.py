"""Message types and QoS of bags, without ROS: rosbags' type store with rap_msgs added."""

from __future__ import annotations

import importlib
import struct
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from rosbags.interfaces import (
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from rap_bringup.paths import message_definitions

Message = Any
"""A message object of rosbags' type store; its classes are made at run time."""

CDR_HEADER_BYTES = 4
UNLIMITED = QosTime(0x7FFFFFFF, 0xFFFFFFFF)


def qos(*, reliable: bool, latched: bool, depth: int) -> Qos:
    """Returns an offered QoS profile."""
    return Qos(
        history=QosHistory.KEEP_LAST,
        depth=depth,
        reliability=QosReliability.RELIABLE if reliable else QosReliability.BEST_EFFORT,
        durability=QosDurability.TRANSIENT_LOCAL if latched else QosDurability.VOLATILE,
        deadline=UNLIMITED,
        lifespan=UNLIMITED,
        liveliness=QosLiveliness.AUTOMATIC,
        liveliness_lease_duration=UNLIMITED,
        avoid_ros_namespace_conventions=False,
    )


LATCHED = qos(reliable=True, latched=True, depth=1)
RELIABLE = qos(reliable=True, latched=False, depth=10)
SENSOR = qos(reliable=False, latched=False, depth=2)


CONTROL_MODE_TYPE = "autoware_vehicle_msgs/msg/ControlModeReport"
_CONTROL_MODE_FIELDS = "builtin_interfaces/Time stamp\nuint8 mode\n"
"""As in autoware_msgs, whose package is not needed to read bags."""


@cache
def typestore() -> Typestore:
    """Returns the message types that bags of the ROS contract have; see `new_typestore`."""
    return new_typestore()


def new_typestore() -> Typestore:
    """Makes a store of Jazzy's message types, those of rap_msgs, and Autoware's control mode.

    Raises:
        FileNotFoundError: If rap_msgs is not installed.
    """
    store = get_typestore(Stores.ROS2_JAZZY)
    types = get_types_from_msg(_CONTROL_MODE_FIELDS, CONTROL_MODE_TYPE)
    for file in sorted(message_definitions().glob("*.msg")):
        text = file.read_text(encoding="utf-8")
        types.update(get_types_from_msg(text, f"rap_msgs/msg/{file.stem}"))
    store.register(types)
    return store


def message(type_name: str, **fields: Message) -> Message:
    """Builds a message such as `message("std_msgs/msg/Header", stamp=..., frame_id=...)`."""
    return typestore().types[type_name](**fields)


def time_message(stamp_ns: int) -> Message:
    """Returns a `builtin_interfaces/Time`."""
    return message(
        "builtin_interfaces/msg/Time",
        sec=int(stamp_ns // 1_000_000_000),
        nanosec=int(stamp_ns % 1_000_000_000),
    )


def header(stamp_ns: int, frame_id: str) -> Message:
    """Returns a `std_msgs/Header`."""
    return message("std_msgs/msg/Header", stamp=time_message(stamp_ns), frame_id=frame_id)


def stamp_of(header_message: Message) -> int:
    """Returns the stamp of a header in nanoseconds."""
    return int(header_message.stamp.sec) * 1_000_000_000 + int(header_message.stamp.nanosec)


def serialized(content: Message) -> bytes:
    """Returns the CDR bytes of a message."""
    return bytes(typestore().serialize_cdr(content, content.__msgtype__))


def deserialized(raw: bytes, type_name: str) -> Message:
    """Returns the message in CDR bytes.

    Raises:
        ValueError: If they are not such a message.
    """
    try:
        return typestore().deserialize_cdr(raw, type_name)
    except Exception as error:  # rosbags does not declare what damaged bytes raise
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{len(raw)} bytes are not a {type_name}: {reason}") from error


def raw_stamp_ns(raw: bytes) -> int:
    """Returns the header stamp of a serialized message that starts with a header, in nanoseconds.

    Reading eight bytes is all the player and recorder need of a message of megabytes.

    Raises:
        ValueError: If there are fewer bytes.
    """
    if len(raw) < CDR_HEADER_BYTES + 8:
        raise ValueError(f"{len(raw)} bytes are not a message with a header")
    order = "<" if raw[1] & 1 else ">"  # CDR encapsulation: odd identifiers are little-endian
    seconds, nanoseconds = struct.unpack_from(order + "iI", raw, CDR_HEADER_BYTES)
    return int(seconds) * 1_000_000_000 + int(nanoseconds)


def vector3(x: float, y: float, z: float) -> Message:
    """Returns a `geometry_msgs/Vector3`."""
    return message("geometry_msgs/msg/Vector3", x=float(x), y=float(y), z=float(z))


def point(x: float, y: float, z: float) -> Message:
    """Returns a `geometry_msgs/Point`."""
    return message("geometry_msgs/msg/Point", x=float(x), y=float(y), z=float(z))


def yaw_quaternion(yaw_rad: float) -> Message:
    """Returns a `geometry_msgs/Quaternion` that turns about z."""
    return quaternion(np.array([0.0, 0.0, np.sin(0.5 * yaw_rad), np.cos(0.5 * yaw_rad)]))


def quaternion(xyzw: npt.NDArray[np.float64]) -> Message:
    """Returns a `geometry_msgs/Quaternion` from (4,) x, y, z, w."""
    x, y, z, w = map(float, xyzw)
    return message("geometry_msgs/msg/Quaternion", x=x, y=y, z=z, w=w)


def importable(type_name: str) -> bool:
    """Says whether the Python package of a message type is installed, such as tf2_msgs."""
    package, _, name = type_name.split("/")
    try:
        return hasattr(importlib.import_module(f"{package}.msg"), name)
    except ImportError:
        return False
