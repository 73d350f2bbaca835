"""A vehicle's recording under its own names as a bag of the ROS contract.

Topics are renamed as `ros2 bag play --remap` renames them, and objects of other stacks become
`rap_msgs/TrackedObjects` in the map frame, as perception_node makes them. Everything goes from bag
to bag message by message, so recordings may be of any length.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import numpy as np
from rosbags.interfaces import Connection, MessageDefinitionFormat, Qos
from rosbags.rosbag2 import Reader, StoragePlugin, Writer
from rosbags.rosbag2.errors import WriterError
from rosbags.typesys import get_types_from_idl, get_types_from_msg
from rosbags.typesys.store import Typestore

from rap_bringup.bag_reader import (
    CONTROL_MODE_TOPIC,
    IMAGE_TYPES,
    INFO_TYPE,
    LATCHED_TOPICS,
    OPTIONAL_TOPICS,
    TYPES,
    LeftOut,
    RecordedMessage,
    check_odometry_frames,
    checked_ego_state,
    foreign_line,
    open_bag,
    read_messages,
    unreadable,
)
from rap_bringup.bag_types import (
    CONTROL_MODE_TYPE,
    LATCHED,
    RELIABLE,
    SENSOR,
    deserialized,
    new_typestore,
    serialized,
    typestore,
)
from rap_bringup.bags import (
    BAG_VERSION,
    EGO_FRAME,
    MAP_FRAME,
    BagError,
    require_new_folder,
    tracked_objects_message,
)
from rap_bringup.console import Report, silent
from rap_perception.object_messages import OBJECT_TYPES
from rap_perception.objects import ObjectsError, checked_objects, placed
from rap_perception.tracker import Tracker
from rap_raster.ego_history import EgoHistory
from rap_raster.observations import TrackedObjects

_CAMERA = re.compile(r"camera/[^/]+/(image|image/compressed|camera_info)")
_OBJECT_TYPES = {name.replace("/", "/msg/"): kind for name, kind in OBJECT_TYPES.items()}
_OWN_TYPE = TYPES["objects"]


@dataclass(frozen=True, slots=True)
class Adapted:
    """What became of a recording.

    Attributes:
        counts: Number of messages written by topic.
        left_out: What could not be used, a line for each topic.
    """

    counts: dict[str, int]
    left_out: tuple[str, ...]


def parse_renames(texts: Iterable[str]) -> dict[str, str]:
    """Returns topics of the contract by recorded topic, without leading slashes.

    Args:
        texts: `FROM:=TO`, as after `ros2 bag play --remap`.

    Raises:
        BagError: If one is not of that form, or a topic is given twice.
    """
    renames: dict[str, str] = {}
    for text in texts:
        old, sign, new = (part.strip().lstrip("/") for part in text.partition(":="))
        if not (old and sign and new):
            raise BagError(f"--remap {text}: expected FROM:=TO, such as /ego/odom:=/odometry")
        if old in renames:
            raise BagError(f"--remap {text}: /{old} is renamed twice")
        if not _is_input(new):
            raise BagError(
                f"--remap {text}: nothing reads /{new}; expected one of "
                f"{', '.join(f'/{name}' for name in TYPES)}, /camera/NAME/image, "
                "/camera/NAME/image/compressed, /camera/NAME/camera_info"
            )
        renames[old] = new
    return renames


def adapt_bag(
    source: Path,
    out: Path,
    renames: Mapping[str, str],
    *,
    start_s: float = 0.0,
    duration_s: float = np.inf,
    report: Report = silent,
) -> Adapted:
    """Writes the inputs in a recording as a bag of the contract, with the outputs of our nodes.

    What is latched (map, route, static transforms) and was said before the part that is wanted is
    there at its begin.

    Args:
        source: A rosbag2 folder (sqlite3 or mcap), or a single file.
        out: Folder to make; must not exist, or be empty. Nothing is left of it after an error.
        renames: As of `parse_renames`.
        start_s: Begin of the part that is wanted, from the first message of the recording.
        duration_s: Its length.
        report: Called with the share that is done.

    Raises:
        BagError: If the recording cannot be read, lacks a topic that is renamed, has two for one,
            or one of a type that cannot be converted, or if its bag is none that `open_bag` takes.
    """
    require_new_folder(out)
    recording = _recording(source)
    taken = _taken(source, recording.connections, renames)
    begin_ns = recording.start_ns + round(start_s * 1e9)
    end_ns = recording.end_ns
    if np.isfinite(duration_s):
        end_ns = min(end_ns, begin_ns + round(duration_s * 1e9))
    if begin_ns >= end_ns:
        length_s = (recording.end_ns - recording.start_ns) * 1e-9
        raise BagError(f"{source}: nothing after {start_s:g} s, it is {length_s:.1f} s long")
    _check_first_odometry(source, taken, begin_ns, end_ns)
    left_out = LeftOut()
    items = chain(
        _said_before(source, taken, begin_ns),
        _read(source, taken, begin_ns, end_ns),
    )
    converted = _with_own_objects(source, items, taken, left_out)
    shown = _reporting(converted, begin_ns, end_ns, report)
    try:
        counts = _write(out, shown, taken, recording.told)
        open_bag(out)
    except BaseException:
        shutil.rmtree(out, ignore_errors=True)
        raise
    return Adapted(counts, (*_foreign_lines(recording, renames), *left_out.lines))


@dataclass(frozen=True, slots=True)
class _Recording:
    """What a recording holds: [start, end) in nanoseconds, and what it tells about itself."""

    connections: tuple[Connection, ...]
    start_ns: int
    end_ns: int
    told: dict[str, str]


def _recording(source: Path) -> _Recording:
    if not source.exists():
        raise BagError(f"{source}: not a rosbag2 folder")
    try:
        with Reader(source) as reader:
            used = tuple(found for found in reader.connections if found.msgcount > 0)
            told = dict(reader.storage.metadata.custom or {})
            return _Recording(used, int(reader.start_time), int(reader.end_time), told)
    except Exception as error:  # a damaged file raises much that rosbags does not declare
        raise unreadable(source, "not a rosbag2 folder", error) from error


def _taken(
    source: Path, connections: Collection[Connection], renames: Mapping[str, str]
) -> dict[str, Connection]:
    """Returns the recorded topics that are taken, by the topic of the contract each becomes."""
    recorded = {found.topic.lstrip("/"): found for found in connections}
    if missing := sorted(set(renames) - set(recorded)):
        near = ", ".join(f"/{name}" for name in sorted(recorded))
        raise BagError(f"{source}: no messages on /{missing[0]}, which is renamed; there is {near}")
    taken: dict[str, Connection] = {}
    for old, found in recorded.items():
        new = renames.get(old, old)
        if old not in renames and (new in renames.values() or _is_foreign(new, found)):
            continue  # A rename is what is meant, and others' topics may have these names.
        if not (_is_input(new) or (_is_output(new) and found.msgtype in typestore().types)):
            continue
        if new in taken:
            raise BagError(f"{source}: both {taken[new].topic} and /{old} would be /{new}")
        if new != "objects" and found.msgtype != (expected := _expected_type(new, found)):
            raise BagError(f"{source}: /{old} has type {found.msgtype}, /{new} is {expected}")
        taken[new] = found
    if "objects" in taken and taken["objects"].msgtype not in _OBJECT_TYPES:
        objects = taken["objects"]
        raise BagError(
            f"{source}: {objects.topic} has type {objects.msgtype}, objects are read from "
            f"{', '.join(_OBJECT_TYPES)}"
        )
    _require_inputs(source, taken, recorded)
    return taken


def _is_foreign(topic: str, found: Connection) -> bool:
    return topic in OPTIONAL_TOPICS and found.msgtype != _expected_type(topic, found)


def _foreign_lines(recording: _Recording, renames: Mapping[str, str]) -> tuple[str, ...]:
    recorded = {found.topic.lstrip("/"): found for found in recording.connections}
    return tuple(
        foreign_line(name, found.msgtype)
        for name, found in recorded.items()
        if name not in renames and _is_foreign(name, found)
    )


def _require_inputs(
    source: Path, taken: Mapping[str, Connection], recorded: Mapping[str, Connection]
) -> None:
    """Says what could be renamed if odometry, or both objects and cameras, are missing."""
    candidates = {
        "/odometry": (TYPES["odometry"],),
        "/objects": tuple(_OBJECT_TYPES),
        "/camera/NAME/image": tuple(IMAGE_TYPES.values()),
    }
    hints = "".join(
        f"; --remap /{old}:={new}"
        for new, kinds in candidates.items()
        for old, found in sorted(recorded.items())
        if found.msgtype in kinds and found not in taken.values()
    )
    if "odometry" not in taken:
        raise BagError(f"{source}: no messages on /odometry{hints}")
    if "objects" not in taken and not any(map(_is_image, taken)):
        raise BagError(f"{source}: neither /objects nor /camera/NAME/image has messages{hints}")
    cameras = {name.split("/")[1] for name in taken if _is_image(name)}
    needed = [f"camera/{name}/camera_info" for name in sorted(cameras)]
    needed += ["tf_static"] if cameras else []
    if missing := [name for name in needed if name not in taken]:
        raise BagError(f"{source}: cameras need /{missing[0]}, which has no messages")


def _check_first_odometry(
    source: Path, taken: Mapping[str, Connection], begin_ns: int, end_ns: int
) -> None:
    """Refuses what would be refused of the bag before hours are written."""
    for item in _read(source, {"odometry": taken["odometry"]}, begin_ns, end_ns):
        try:
            odometry = deserialized(item.raw, TYPES["odometry"])
        except ValueError:
            continue
        check_odometry_frames(source, odometry)
        return
    raise BagError(f"{source}: no messages on {taken['odometry'].topic} in this part")


def _is_image(topic: str) -> bool:
    return _CAMERA.fullmatch(topic) is not None and not topic.endswith("/camera_info")


def _is_input(topic: str) -> bool:
    return topic in TYPES or topic == CONTROL_MODE_TOPIC or _CAMERA.fullmatch(topic) is not None


def _is_output(topic: str) -> bool:
    """Says whether our nodes publish a topic: `rap report` reads them."""
    return topic.startswith("rap/") or topic == "diagnostics"


def _expected_type(topic: str, found: Connection) -> str:
    if camera := _CAMERA.fullmatch(topic):
        return IMAGE_TYPES.get(camera[1], INFO_TYPE)
    own = TYPES | {CONTROL_MODE_TOPIC: CONTROL_MODE_TYPE}
    return own.get(topic, found.msgtype)


def _read(
    source: Path, taken: Mapping[str, Connection], begin_ns: int, end_ns: int
) -> Iterator[RecordedMessage]:
    """Yields messages in the order of their stamps, under the names of the contract."""
    names = {found.topic.lstrip("/"): new for new, found in taken.items()}
    for item in read_messages(source, set(names), begin_ns, end_ns):
        yield replace(item, topic=names[item.topic])


def _said_before(
    source: Path, taken: Mapping[str, Connection], begin_ns: int
) -> Iterator[RecordedMessage]:
    """Yields what was latched before `begin_ns`: all transforms, the last map and route."""
    latched = {name: found for name, found in taken.items() if name in LATCHED_TOPICS}
    last: dict[str, RecordedMessage] = {}
    for item in _read(source, latched, 0, begin_ns):
        if item.topic == "tf_static":
            yield replace(item, stamp_ns=begin_ns)
        else:
            last[item.topic] = replace(item, stamp_ns=begin_ns)
    yield from last.values()


def _with_own_objects(
    source: Path,
    items: Iterable[RecordedMessage],
    taken: Mapping[str, Connection],
    left_out: LeftOut,
) -> Iterator[RecordedMessage]:
    """Yields messages with objects converted; those that cannot be are left out."""
    adapter = _ObjectsAdapter(source, taken["objects"]) if "objects" in taken else None
    for item in items:
        if adapter is None or item.topic not in ("odometry", "objects"):
            yield item
        elif item.topic == "odometry":
            try:
                adapter.see_ego(item)
            except ValueError as error:
                left_out.add("odometry", str(error))
                continue
            yield item
        else:
            try:
                raw, problem = adapter.converted(item)
            except ValueError as error:
                left_out.add("objects", f"{error} at {item.stamp_ns} ns")
                continue
            if problem:
                left_out.add("objects", f"{problem} at {item.stamp_ns} ns")
            yield replace(item, raw=raw)


class _ObjectsAdapter:
    """Converts objects as perception_node does: checked, placed by odometry, tracked if needed."""

    def __init__(self, source: Path, recorded: Connection) -> None:
        self._type_name = recorded.msgtype
        self._type = _OBJECT_TYPES[recorded.msgtype]
        self._store = _store_for(source, recorded)
        self._tracker = None if self._type.is_tracked else Tracker()
        self._history = EgoHistory()

    def see_ego(self, item: RecordedMessage) -> None:
        """Takes odometry in; raises ValueError if the nodes would not."""
        self._history.add(checked_ego_state(deserialized(item.raw, TYPES["odometry"])))

    def converted(self, item: RecordedMessage) -> tuple[bytes, str]:
        """Returns a serialized `rap_msgs/TrackedObjects`, and what of it was left out.

        Raises:
            ValueError: If nothing of it can be used.
        """
        given = self._type.read(self._store.deserialize_cdr(item.raw, self._type_name))
        if self._type_name == _OWN_TYPE and given.frame_id == MAP_FRAME:
            return item.raw, ""
        stamp_ns = item.stamp_ns if given.stamp_ns is None else given.stamp_ns
        usable, problem = checked_objects(stamp_ns, given.columns)
        objects = self._in_map(usable, given.frame_id)
        if self._tracker is not None:
            objects = self._tracker.update(objects)
        return serialized(tracked_objects_message(objects)), problem

    def _in_map(self, objects: TrackedObjects, frame_id: str | None) -> TrackedObjects:
        if frame_id is None or frame_id == MAP_FRAME:
            return objects
        if frame_id != EGO_FRAME:
            raise ObjectsError(f"frame_id is {frame_id!r}, expected {MAP_FRAME!r} or {EGO_FRAME!r}")
        ego = self._history.at(objects.stamp_ns)
        if ego is None:
            raise ObjectsError("no odometry at their stamp, and they are in base_link")
        return placed(objects, ego.pose)


def _store_for(source: Path, recorded: Connection) -> Typestore:
    """Returns message types with that of a topic, from the definition in the bag if need be."""
    if recorded.msgtype in typestore().types:
        return typestore()
    if not recorded.msgdef.data:
        raise BagError(
            f"{source}: {recorded.topic}: the bag does not hold the definition of "
            f"{recorded.msgtype}; record it as mcap, or convert it where that type is installed"
        )
    try:
        if recorded.msgdef.format == MessageDefinitionFormat.IDL:
            types = get_types_from_idl(recorded.msgdef.data)
        else:
            types = get_types_from_msg(recorded.msgdef.data, recorded.msgtype)
        store = new_typestore()
        store.register({name: kind for name, kind in types.items() if name not in store.types})
    except Exception as error:  # rosbags does not declare what its parser raises
        raise unreadable(source, f"definition of {recorded.msgtype}", error) from error
    return store


def _reporting(
    items: Iterable[RecordedMessage], begin_ns: int, end_ns: int, report: Report
) -> Iterator[RecordedMessage]:
    for item in items:
        report(min(1.0, (item.stamp_ns - begin_ns) / (end_ns - begin_ns)))
        yield item


def _write(
    out: Path,
    items: Iterable[RecordedMessage],
    taken: Mapping[str, Connection],
    told: Mapping[str, str],
) -> dict[str, int]:
    counts: dict[str, int] = {}
    try:
        with Writer(out, version=BAG_VERSION, storage_plugin=StoragePlugin.MCAP) as writer:
            for key, text in told.items():
                writer.set_custom_data(key, text)
            connections = {}
            for item in items:
                if item.topic not in connections:
                    kind = _OWN_TYPE if item.topic == "objects" else taken[item.topic].msgtype
                    connections[item.topic] = writer.add_connection(
                        f"/{item.topic}",
                        kind,
                        typestore=typestore(),
                        offered_qos_profiles=[_qos(item.topic)],
                    )
                writer.write(connections[item.topic], item.stamp_ns, item.raw)
                counts[item.topic] = counts.get(item.topic, 0) + 1
    except (OSError, WriterError) as error:
        raise BagError(f"{out}: cannot be written: {' '.join(str(error).split())}") from error
    return counts


def _qos(topic: str) -> Qos:
    if topic in LATCHED_TOPICS:
        return LATCHED
    return SENSOR if _CAMERA.fullmatch(topic) else RELIABLE
