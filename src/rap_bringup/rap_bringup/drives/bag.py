"""rosbag2 recordings of a vehicle as drives: its own bags, and what a replay recorded.

Everything is taken at the stamps of message headers; messages without one (`command`, `engaged`) at
those they were recorded at, less what odometry was recorded later than it is stamped. The map of a
bag has shapes only; lanes are made of its centrelines, if these run the way that traffic does.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import cv2
import numpy as np
import shapely

from rap_bringup.bag_reader import (
    CONTROL_MODE_TOPIC,
    IMAGE_TYPES,
    TYPES,
    Bag,
    BagCamera,
    LeftOut,
    RecordedMessage,
    checked_ego_state,
    messages,
    open_bag,
    read_map,
    read_routes,
)
from rap_bringup.bag_types import (
    CONTROL_MODE_TYPE,
    Message,
    deserialized,
    raw_stamp_ns,
    stamp_of,
)
from rap_bringup.bags import BagError
from rap_bringup.console import Report, silent
from rap_bringup.drives.recorded_drive import (
    CameraImage,
    RecordedCamera,
    RecordedDrive,
    RecordedObjects,
    Signal,
)
from rap_perception.images import ImageError, decode_compressed, decode_raw
from rap_perception.object_messages import read_rap
from rap_perception.objects import ObjectsError, checked_objects
from rap_planner.route import Command
from rap_raster.ego_history import EgoState
from rap_raster.frames import FloatArray
from rap_raster.maps.routing import connect_by_endpoints
from rap_raster.maps.vector_map import VectorMap
from rap_raster.scene import LineKind, ObjectClass

AUTONOMOUS = 1
"""Mode in which Autoware drives alone. Source: autoware_vehicle_msgs, ControlModeReport.msg."""

_TAKEN = {name: TYPES[name] for name in ("odometry", "objects", "command", "engaged")}
_TAKEN[CONTROL_MODE_TOPIC] = CONTROL_MODE_TYPE

CLOCKS_APART_NS = 1_000_000_000
"""Odometry that is recorded so much later or earlier than it is stamped has another clock."""

SAME_GOAL_M = 1.0

JPEG_QUALITY = 95
"""Of images that were recorded raw: a log keeps JPEGs."""


MAX_SHARE_AGAINST = 0.1
"""Of driving vehicles. Measured: at most 5 % in the recordings of nuScenes, Argoverse 2 and
CommonRoad, whose centrelines run in driving direction, and 40 % on a town where those of one side
of the road run backwards, as our own bags had it once."""

VEHICLES = (ObjectClass.VEHICLE, ObjectClass.TRUCK, ObjectClass.BUS)
MOVING_MPS = 2.0
ON_LANE_M = 1.0
ALIGNED = np.cos(np.pi / 4)
"""A velocity within 45 degrees of a line goes along it."""


@dataclass(slots=True)
class _Seen:
    """What was read so far, by stamp: of two messages with one stamp the later holds."""

    ego: dict[int, EgoState] = field(default_factory=dict)
    objects: dict[int, RecordedObjects] = field(default_factory=dict)
    commands: dict[int, int] = field(default_factory=dict)
    engaged: dict[int, int] = field(default_factory=dict)
    control_mode: dict[int, int] = field(default_factory=dict)
    images: defaultdict[str, dict[int, bytes]] = field(default_factory=lambda: defaultdict(dict))
    left_out: LeftOut = field(default_factory=LeftOut)
    late_ns: list[int] = field(default_factory=list)

    def take(self, item: RecordedMessage) -> None:
        """Adds what a message of one of the topics in `_TAKEN` tells."""
        content = deserialized(item.raw, _TAKEN[item.topic])
        if item.topic == "odometry":
            state = checked_ego_state(content)
            self.ego[state.stamp_ns] = state
            self.late_ns.append(item.stamp_ns - state.stamp_ns)
        elif item.topic == "objects":
            self._take_objects(content)
        elif item.topic == "command":
            self.commands[item.stamp_ns] = min(int(content.data), Command.UNKNOWN)
        elif item.topic == "engaged":
            self.engaged[item.stamp_ns] = int(content.data)
        elif item.topic == CONTROL_MODE_TOPIC:
            self.control_mode[stamp_of(content)] = int(content.mode == AUTONOMOUS)

    def _take_objects(self, content: Message) -> None:
        """Keeps what of a message the perception node would keep."""
        stamp_ns = stamp_of(content.header)
        if stamp_ns == 0:
            self.left_out.add("objects", "no stamp")
            return
        try:
            objects, problem = checked_objects(stamp_ns, read_rap(content).columns)
        except ObjectsError as error:
            self.left_out.add("objects", f"{error} at {stamp_ns} ns")
            return
        if problem:
            self.left_out.add("objects", f"{problem} at {stamp_ns} ns")
        self.objects[stamp_ns] = RecordedObjects(stamp_ns, objects.boxes, objects.lights)

    def take_image(self, camera: BagCamera, item: RecordedMessage) -> None:
        """Adds an image of a camera."""
        jpeg = _jpeg(item.raw, compressed=camera.compressed)
        self.images[camera.name][raw_stamp_ns(item.raw)] = jpeg


def read_bag(path: Path, report: Report = silent) -> RecordedDrive:
    """Reads a bag whole; its images are held in memory.

    Args:
        path: A rosbag2 folder (sqlite3 or mcap), or a single file such as a replay's `drive.mcap`.
        report: Called with the share that is done.

    Raises:
        BagError: If the bag cannot be used; see `open_bag`.
    """
    bag = open_bag(path)
    seen = _Seen()
    cameras = {camera.image_topic: camera for camera in bag.cameras.values()}
    for item in messages(bag, {*_TAKEN, *cameras}):
        try:
            if item.topic in cameras:
                seen.take_image(cameras[item.topic], item)
            else:
                seen.take(item)
        except ValueError as error:  # one message of thousands
            seen.left_out.add(item.topic, str(error))
        report(min(1.0, max(0, item.stamp_ns - bag.start_ns) * 1e-9 / max(bag.duration_s, 1e-9)))
    routes, late_ns = _routes(bag), int(np.median(seen.late_ns or [0]))
    told = list(seen.left_out.lines)
    if abs(late_ns) > CLOCKS_APART_NS:
        told.append(
            f"/odometry was recorded {late_ns * 1e-9:.1f} s after its stamps: another clock?"
        )
    if len(routes) > 1:
        told.append(f"/route: {len(routes)} routes to different goals, none is used")
    route_m = routes[0] if len(routes) == 1 else None
    return RecordedDrive(
        name=bag.drive,
        license=bag.license,
        map=_map_with_lanes(read_map(bag), seen.objects.values()),
        ego=tuple(seen.ego[stamp] for stamp in sorted(seen.ego)),
        objects=tuple(seen.objects[stamp] for stamp in sorted(seen.objects)),
        cameras=_cameras(bag, seen),
        route_m=route_m,
        route_source="none: the bag has not one route" if route_m is None else "route of the bag",
        commands=Signal.from_samples(_earlier(seen.commands, late_ns)),
        engaged=Signal.from_samples(_earlier(seen.engaged, late_ns) or seen.control_mode),
        left_out=(*told, *bag.unread),
    )


def _routes(bag: Bag) -> list[FloatArray]:
    """Returns the first route to every goal: some send what is left of theirs again and again."""
    routes: list[FloatArray] = []
    for route_m in read_routes(bag):
        known = any(np.hypot(*(route_m[-1] - r[-1])[:2]) < SAME_GOAL_M for r in routes)
        routes += [] if known else [route_m]
    return routes


def _earlier(samples: Mapping[int, int], by_ns: int) -> dict[int, int]:
    return {stamp - by_ns: code for stamp, code in samples.items()}


def _jpeg(raw: bytes, *, compressed: bool) -> bytes:
    """Returns the bytes of a compressed image as they are; a raw image is compressed."""
    kind = "image/compressed" if compressed else "image"
    image = deserialized(raw, IMAGE_TYPES[kind])
    if compressed:
        return bytes(image.data)
    rgb = decode_raw(
        image.data,
        image.encoding,
        image.width,
        image.height,
        image.step,
        is_bigendian=bool(image.is_bigendian),
    )
    _, content = cv2.imencode(".jpg", rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return content.tobytes()


def _cameras(bag: Bag, seen: _Seen) -> tuple[RecordedCamera, ...]:
    cameras = []
    for name in sorted(bag.cameras):
        camera, images = bag.cameras[name], seen.images[name]
        taken = tuple(CameraImage(stamp, images[stamp]) for stamp in sorted(images))
        _check_size(bag, camera, taken, seen.left_out.reason(camera.image_topic))
        cameras.append(RecordedCamera(camera.model, taken))
    return tuple(cameras)


def _check_size(bag: Bag, camera: BagCamera, images: Sequence[CameraImage], problem: str) -> None:
    """Compares the first image that can be decoded with the calibration; `problem`: of others."""
    where = f"{bag.path}: /{camera.image_topic}"
    for image in images:
        try:
            height, width, _ = decode_compressed(np.frombuffer(image.jpeg, dtype=np.uint8)).shape
            break
        except ImageError as error:
            problem = str(error)
    else:
        raise BagError(f"{where}: {problem}")
    if (width, height) != (camera.model.width, camera.model.height):
        expected = f"{camera.model.width}x{camera.model.height} as in camera_info"
        raise BagError(f"{where}: images are {width}x{height}, expected {expected}")


def _map_with_lanes(
    vector_map: VectorMap | None, objects: Iterable[RecordedObjects]
) -> VectorMap | None:
    """Joins the centrelines among a map's shapes into a lane graph.

    Nothing says that centrelines run in driving direction: where vehicles drive against them, there
    are no lanes.
    """
    if vector_map is None:
        return None
    lines = vector_map.polylines
    rows = np.flatnonzero((lines.kinds == LineKind.LANE_CENTERLINE) & (np.diff(lines.offsets) > 1))
    centerlines = {str(row): lines[row] for row in rows.tolist()}
    if not centerlines or _share_against(list(centerlines.values()), objects) > MAX_SHARE_AGAINST:
        return vector_map
    return replace(vector_map, lanes=connect_by_endpoints(centerlines))


def _share_against(lines: list[FloatArray], objects: Iterable[RecordedObjects]) -> float:
    """Returns the share of vehicles driving on centrelines that drive against them."""
    starts = np.concatenate([line[:-1, :2] for line in lines])
    ends = np.concatenate([line[1:, :2] for line in lines])
    tree = shapely.STRtree(shapely.linestrings(np.stack([starts, ends], axis=1)))
    along, against = 0, 0
    for instant in objects:
        boxes = instant.boxes.select(np.isin(instant.boxes.classes, VEHICLES))
        moving = boxes.select(np.hypot(*boxes.velocities_mps.T) > MOVING_MPS)  # NaN is not.
        places = shapely.points(moving.centers_m[:, :2])
        rows, nearest = tree.query_nearest(places, max_distance=ON_LANE_M, all_matches=False)
        headings = np.arctan2(*(ends - starts)[nearest].T[::-1])
        velocities = moving.velocities_mps[rows]
        agreement = np.cos(headings - np.arctan2(velocities[:, 1], velocities[:, 0]))
        along += int((agreement > ALIGNED).sum())
        against += int((agreement < -ALIGNED).sum())
    return against / max(1, along + against)
