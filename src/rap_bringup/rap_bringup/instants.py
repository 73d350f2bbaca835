"""One instant of a replay, read back from `drive.mcap`: what was seen, planned and driven."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from rap_bringup.answers import Answers, Arrival, ReplayResult
from rap_bringup.bag_reader import (
    BagCamera,
    objects_of,
    read_map,
    read_messages,
    read_odometry,
)
from rap_bringup.bag_types import Message, deserialized, raw_stamp_ns
from rap_bringup.drives.recorded_drive import RecordedObjects
from rap_bringup.recording import OUTPUT_TYPES, RECORDING_NAME
from rap_bringup.summary import NS_PER_S
from rap_perception.images import decode_compressed, decode_raw
from rap_perception.rectify import Rectifier
from rap_raster.camera import CameraModel
from rap_raster.ego_history import EgoHistory, EgoState
from rap_raster.frames import FloatArray, Pose, wrap_angle
from rap_raster.maps.vector_map import VectorMap
from rap_raster.rasterizer import build_geometry, render
from rap_raster.scene import Boxes, Lights, Scene, Shapes
from rap_raster.styles import load_style

Rgb = npt.NDArray[np.uint8]

MAX_OBJECT_AGE_NS = NS_PER_S // 2
"""Older objects are not drawn, as in the raster node."""

FUTURE_S = 3.0
NEAR_M = 40.0
AGENT_WORTH_RAD = 0.03
"""How much turning one agent nearby is worth when choosing an instant to show: twenty agents, a
busy junction, count like a turn of 35 degrees."""
MAX_AGENTS = 20
WHOLE_DRIVE_S = 1e6
"""Longer than any bag: nothing is forgotten."""

SETTLED_NS = 2_000_000_000
"""From then on the planner has its whole history, so earlier plans are not typical."""


@dataclass(frozen=True, slots=True)
class Proposals:
    """The planner's answer to one step.

    Attributes:
        poses_m: (K, T, 3) x, y, yaw, map frame.
        scores: (K,) higher is better.
        command: Command code.
        dt_s: Time between poses.
    """

    poses_m: FloatArray
    scores: npt.NDArray[np.float32]
    command: int
    dt_s: float


@dataclass(frozen=True, slots=True)
class Instant:
    """Everything known about one step.

    Attributes:
        stamp_ns: The step.
        ego: Odometry at the stamp.
        objects: Newest objects at the stamp, or None.
        map: Static map or None.
        images: Camera name to (H, W, 3) rectified rgb, in slot order; empty without cameras.
        rasters: Slot name to (H, W, 3) rgb of the same instant, seen by the features' cameras.
        sources: Slot name to `FeatureSource` code.
        proposals: The planner's answer.
        trajectory_m: (n, 2) what the guard published, map frame.
        driven_m: (m, 2) logged path of the next seconds.
    """

    stamp_ns: int
    ego: EgoState
    objects: RecordedObjects | None
    map: VectorMap | None
    images: dict[str, Rgb]
    rasters: dict[str, Rgb]
    sources: dict[str, int]
    proposals: Proposals
    trajectory_m: FloatArray
    driven_m: FloatArray


def choose_stamp(result: ReplayResult) -> int:
    """Picks the answered step that is worth a look: much turning, many agents.

    Raises:
        ValueError: If no answered step has its features recorded.
    """
    odometry = _history(result)
    answers = result.answers
    candidates = [
        stamp
        for stamp in result.steps_ns
        if stamp in answers.latencies_ms and stamp in answers.plans and stamp in answers.features
    ]
    if not candidates:
        raise ValueError(f"{result.out}: rap/features of no answered step arrived, nothing to draw")
    settled = [s for s in candidates if s >= result.steps_ns[0] + SETTLED_NS] or candidates
    agents = _agents_near(result, odometry)
    return max(settled, key=lambda stamp: _worth(stamp, odometry, agents))


def read_instant(result: ReplayResult, stamp_ns: int, scale: int = 2) -> Instant:
    """Reads one instant.

    Args:
        result: A finished replay.
        stamp_ns: A step that was answered.
        scale: Images and rasters are this many times larger than the network sees them.
    """
    ego = _history(result).at(stamp_ns)
    if ego is None:
        raise ValueError(f"{result.bag.path}: no odometry at stamp {stamp_ns} ns")
    objects = _objects_at(result, stamp_ns)
    vector_map = read_map(result.bag)
    return Instant(
        stamp_ns=stamp_ns,
        ego=ego,
        objects=objects,
        map=vector_map,
        images=_images_at(result, stamp_ns, scale),
        rasters=_rasters(
            scene_at(ego.pose, objects, vector_map),
            result.bundle.manifest.style,
            feature_cameras(result, stamp_ns, scale),
        ),
        sources=dict(
            zip(_slot_names(result), result.answers.features[stamp_ns].sources, strict=True)
        ),
        proposals=_proposals_at(result, stamp_ns),
        trajectory_m=trajectory_of_plan(result.out / RECORDING_NAME, stamp_ns),
        driven_m=driven_path(result, stamp_ns),
    )


def driven_path(result: ReplayResult, stamp_ns: int, seconds: float = 5.0) -> FloatArray:
    """Returns the (m, 2) logged path from a stamp on, for as long as the planner looks ahead."""
    end_ns = stamp_ns + round(seconds * NS_PER_S)
    states = [s for s in read_odometry(result.bag) if stamp_ns <= s.stamp_ns <= end_ns]
    return np.array([(s.x_m, s.y_m) for s in states], dtype=np.float64).reshape(-1, 2)


def scene_at(pose: Pose, objects: RecordedObjects | None, vector_map: VectorMap | None) -> Scene:
    """Assembles what can be drawn at an instant."""
    empty = Shapes.from_list([])
    return Scene(
        ego=pose,
        boxes=objects.boxes if objects else Boxes.empty(),
        polylines=vector_map.polylines if vector_map else empty,
        polygons=vector_map.polygons if vector_map else empty,
        lights=objects.lights if objects else Lights.empty(),
    )


def decode_image(raw: bytes, camera: BagCamera) -> Rgb:
    """Decodes a serialized image message of either kind to (H, W, 3) rgb."""
    if camera.compressed:
        content = deserialized(raw, "sensor_msgs/msg/CompressedImage")
        return decode_compressed(content.data)
    content = deserialized(raw, "sensor_msgs/msg/Image")
    return decode_raw(content.data, content.encoding, content.width, content.height, content.step)


def proposals_of(raw: bytes) -> Proposals:
    """Returns all candidates of a serialized `rap_msgs/TrajectoryCandidates`."""
    content: Message = deserialized(raw, OUTPUT_TYPES["rap/candidates"])
    return Proposals(
        poses_m=content.poses.reshape(content.num_candidates, content.num_poses, 3).copy(),
        scores=content.scores.copy(),
        command=int(content.command),
        dt_s=float(content.dt_s),
    )


def path_of(raw: bytes) -> FloatArray:
    """Returns the (n, 2) places of a serialized `nav_msgs/Path`."""
    poses = deserialized(raw, OUTPUT_TYPES["rap/trajectory"]).poses
    points = [(p.pose.position.x, p.pose.position.y) for p in poses]
    return np.array(points, dtype=np.float64).reshape(-1, 2)


def _history(result: ReplayResult) -> EgoHistory:
    history = EgoHistory(max_age_s=WHOLE_DRIVE_S)
    for state in read_odometry(result.bag):
        history.add(state)
    return history


def _agents_near(result: ReplayResult, odometry: EgoHistory) -> dict[int, int]:
    """Number of objects near the ego, by stamp of the objects."""
    counts = {}
    for item in read_messages(result.out / RECORDING_NAME, {"objects"}):
        objects = objects_of(item.raw)
        ego = odometry.at(objects.stamp_ns)
        if ego is not None:
            offsets = objects.boxes.centers_m[:, :2] - [ego.x_m, ego.y_m]
            counts[objects.stamp_ns] = int((np.linalg.norm(offsets, axis=1) < NEAR_M).sum())
    return counts


def _worth(stamp_ns: int, odometry: EgoHistory, agents: dict[int, int]) -> float:
    now, later = odometry.at(stamp_ns), odometry.at(stamp_ns + round(FUTURE_S * NS_PER_S))
    if now is None:
        return -1.0
    turn_rad = 0.0 if later is None else abs(float(wrap_angle(later.yaw_rad - now.yaw_rad)))
    nearest = min(agents, key=lambda stamp: abs(stamp - stamp_ns), default=None)
    count = agents[nearest] if nearest is not None else 0
    return turn_rad + AGENT_WORTH_RAD * min(count, MAX_AGENTS)


def _objects_at(result: ReplayResult, stamp_ns: int) -> RecordedObjects | None:
    found = None
    for item in read_messages(result.out / RECORDING_NAME, {"objects"}):
        distance_ns = abs(raw_stamp_ns(item.raw) - stamp_ns)
        if distance_ns <= MAX_OBJECT_AGE_NS and (found is None or distance_ns < found[0]):
            found = (distance_ns, item.raw)
    return objects_of(found[1]) if found else None


def _images_at(result: ReplayResult, stamp_ns: int, scale: int) -> dict[str, Rgb]:
    """Images as the network sees them, rectified and cut to its field of view, only larger."""
    images = {}
    slot = result.bundle.manifest.cameras[0]
    width, height = scale * slot.width, scale * slot.height
    for name in result.slots.values():
        camera = result.bag.cameras[name]
        items = read_messages(result.out / RECORDING_NAME, {camera.image_topic})
        nearest = min(items, key=lambda item: abs(raw_stamp_ns(item.raw) - stamp_ns))
        rectifier = Rectifier(camera.model, width, height)
        images[name] = rectifier.rectify(decode_image(nearest.raw, camera), reduction=1)
    return images


def _proposals_at(result: ReplayResult, stamp_ns: int) -> Proposals:
    for item in read_messages(result.out / RECORDING_NAME, {"rap/candidates"}):
        if raw_stamp_ns(item.raw) == stamp_ns:
            return proposals_of(item.raw)
    raise ValueError(f"{result.out}: no rap/candidates at stamp {stamp_ns} ns")


def trajectory_of_plan(recording: Path, stamp_ns: int) -> FloatArray:
    """Returns the (n, 2) places of the trajectory that follows the plan of a step, or none.

    Stops of the guard's own may carry the step's stamp too: `Answers` knows which is which.
    """
    answers = Answers()
    answers.sent(stamp_ns)
    for item in read_messages(recording, {"rap/candidates", "rap/state", "rap/trajectory"}):
        answers.take(Arrival(item.topic, item.raw, monotonic_s=0.0))
        if stamp_ns in answers.latencies_ms:
            return path_of(item.raw)
    return np.zeros((0, 2))


def _slot_names(result: ReplayResult) -> tuple[str, ...]:
    return tuple(camera.name for camera in result.bundle.manifest.cameras)


def feature_cameras(result: ReplayResult, stamp_ns: int, scale: int) -> list[CameraModel]:
    """Returns the cameras of a step's features, with images `scale` times larger."""
    features = result.answers.features[stamp_ns]
    first = result.bundle.manifest.cameras[0]
    slots = zip(_slot_names(result), features.intrinsics, features.ego_from_camera, strict=True)
    cameras = [
        CameraModel(name, first.width, first.height, fx, fy, cx, cy, pose)
        for name, (fx, fy, cx, cy), pose in slots
    ]
    return [camera.resized(scale * first.width, scale * first.height) for camera in cameras]


def _rasters(scene: Scene, style: str, cameras: list[CameraModel]) -> dict[str, Rgb]:
    geometry = build_geometry(scene, load_style(style))
    return {camera.name: render(geometry, camera)["rgb"] for camera in cameras}
