"""DGP scenes (TRI dataset governance format): a ring of cameras, calibration, poses, 3D boxes.

The LIDAR frame of these scenes is the vehicle frame: its calibration is the identity, boxes on it
stand on z = 0 and the cameras are mounted 1.5 m above it, ahead of the rear axle. There is no map.

The road tilts by up to 2 degrees and our poses have no roll and pitch, so poses are levelled and
boxes are placed as the vehicle saw them: boxes and images then agree at any distance.

Time stamps are in 100 ns ticks that were written as if they were microseconds (the scenes are dated
2464). Divided by ten they are in 2019 and frames are 0.1 s apart; taken literally all traffic on a
main road would crawl at 5 km/h, and ROS time could not hold the stamps (int32 seconds end in 2038).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from rap_bringup.drives.json_file import Json, read_json
from rap_bringup.drives.odometry import densified, states_from_poses
from rap_bringup.drives.recorded_drive import (
    CameraImage,
    DriveError,
    RecordedCamera,
    RecordedDrive,
    RecordedObjects,
    checked_boxes,
    checked_camera,
)
from rap_perception.rig import rotation_from_quaternion
from rap_raster.camera import CameraModel, Distortion
from rap_raster.frames import FloatArray, inverse, transform_from_yaw
from rap_raster.scene import Lights, ObjectClass

LICENSE = "TRI DGP unit-test scene (MIT repository); treat as non-commercial"

LAST_ROS_SECOND = 2**31
"""`builtin_interfaces/Time` counts seconds in an int32."""

CLASSES = {
    "Person": ObjectClass.PEDESTRIAN,
    "Truck": ObjectClass.TRUCK,
    "Car": ObjectClass.VEHICLE,
    "Bus/RV/Caravan": ObjectClass.BUS,
    "Motorcycle": ObjectClass.MOTORCYCLE,
    "Wheeled Slow": ObjectClass.BICYCLE,
    "Train": ObjectClass.GENERIC,
    "Towed Object": ObjectClass.GENERIC,
    "Bicycle": ObjectClass.BICYCLE,
    "Trailer": ObjectClass.TRUCK,
}

LENS_FIELDS = ("k1", "k2", "k3", "k4", "k5", "k6", "p1", "p2")
UNKNOWN_LENS_FIELDS = (
    *("skew", "s1", "s2", "s3", "s4", "taux", "tauy"),
    *("alpha", "beta", "w", "xi", "equirectangular"),
)
"""Parameters of lens models that `sensor_msgs/CameraInfo` cannot express."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Datum:
    """One measurement of one sensor.

    Attributes:
        sensor: Sensor name.
        stamp_ns: When it was taken.
        kind: "image" or "point_cloud".
        world_from_sensor: (4, 4) pose.
        content: The entry of the scene file.
    """

    sensor: str
    stamp_ns: int
    kind: str
    world_from_sensor: FloatArray
    content: Json


def read_dgp(path: Path) -> RecordedDrive:
    """Reads one scene.

    Args:
        path: A scene folder, or a folder of scene folders (the first one with a scene file).

    Raises:
        DriveError: If a file or field is missing or has a value no node could use.
    """
    folder, scene_file = _scene_file(path)
    scene = read_json(scene_file)
    data = _fields(scene_file, lambda: [_datum(entry) for entry in scene["data"]])
    calibration = folder / "calibration" / f"{_calibration_key(scene_file, scene)}.json"
    cameras = _cameras(folder, calibration, data)
    classes = _classes(folder, scene_file, scene)
    clouds = sorted((d for d in data if d.kind == "point_cloud"), key=lambda d: d.stamp_ns)
    return RecordedDrive(
        name=f"dgp-{folder.name}",
        license=LICENSE,
        map=None,
        ego=states_from_poses(*densified(*_ego_poses(scene_file, calibration, data))),
        objects=_objects(folder, clouds, classes),
        cameras=cameras,
        route_m=None,
        route_source="none: the recording has no map",
    )


def _scene_file(path: Path) -> tuple[Path, Path]:
    if not path.is_dir():
        raise DriveError(f"{path}: not a DGP folder")
    files = [*sorted(path.glob("scene_*.json")), *sorted(path.glob("*/scene_*.json"))]
    files = [file for file in files if not file.name.startswith("scene_dataset")]
    if not files:
        raise DriveError(f"{path}: no scene_<hash>.json in it")
    return files[0].parent, files[0]


def _fields(path: Path, read: Callable[[], T]) -> T:
    """Runs `read`, which walks through parsed JSON; what is not there becomes one clear error."""
    try:
        return read()
    except KeyError as error:
        raise DriveError(f"{path}: field {error.args[0]!r} is missing") from error
    except (TypeError, ValueError, IndexError, AttributeError) as error:
        raise DriveError(f"{path}: malformed: {' '.join(str(error).split())}") from error


def _calibration_key(scene_file: Path, scene: Json) -> str:
    return str(_fields(scene_file, lambda: scene["samples"][0]["calibration_key"]))


def _datum(entry: Json) -> _Datum:
    kind, content = next(iter(entry["datum"].items()))
    return _Datum(
        sensor=entry["id"]["name"],
        stamp_ns=_stamp_ns(entry["id"]["timestamp"]),
        kind=kind,
        world_from_sensor=_transform(content["pose"]),
        content=content,
    )


def _stamp_ns(text: str) -> int:
    """Parses an ISO time to nanoseconds; see the module's text about ticks."""
    moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    since = moment - datetime(1970, 1, 1, tzinfo=timezone.utc)
    seconds = since.days * 86_400 + since.seconds
    stamp_ns = (seconds * 1_000_000 + since.microseconds) * 1_000
    return stamp_ns if seconds < LAST_ROS_SECOND else stamp_ns // 10


def _transform(pose: Json) -> FloatArray:
    turn, shift = pose["rotation"], pose["translation"]
    quaternion = np.array([turn["qx"], turn["qy"], turn["qz"], turn["qw"]], dtype=np.float64)
    length = float(np.linalg.norm(quaternion))
    if not abs(length - 1.0) < 1e-3:
        raise ValueError(f"pose.rotation has length {length:.4g}, expected 1")
    transform = np.eye(4)
    transform[:3, :3] = rotation_from_quaternion(quaternion / length)
    transform[:3, 3] = [shift["x"], shift["y"], shift["z"]]
    return transform


def _level(transform: FloatArray) -> FloatArray:
    """Takes roll and pitch out of a pose."""
    yaw_rad = float(np.arctan2(transform[1, 0], transform[0, 0]))
    return transform_from_yaw(yaw_rad, transform[:3, 3])


def _ego_poses(
    scene_file: Path, calibration: Path, data: list[_Datum]
) -> tuple[npt.NDArray[np.int64], FloatArray]:
    """Vehicle poses at the stamps of the images, or of the point clouds where there are none.

    Poses of different sensors disagree by centimetres within milliseconds, so one sensor's poses
    are used: mixing them would put jumps into the velocity.
    """
    images = sorted((d for d in data if d.kind == "image"), key=lambda d: (d.sensor, d.stamp_ns))
    chosen = [d for d in images if d.sensor == images[0].sensor]
    if not chosen:
        chosen = sorted((d for d in data if d.kind == "point_cloud"), key=lambda d: d.stamp_ns)
    if not chosen:
        raise DriveError(f"{scene_file}: data has neither images nor point clouds")
    sensor_from_ego = inverse(_extrinsics(calibration)[chosen[0].sensor])
    ego = [datum.world_from_sensor @ sensor_from_ego for datum in chosen]
    poses = np.array([[*pose[:3, 3], np.arctan2(pose[1, 0], pose[0, 0])] for pose in ego])
    return np.array([datum.stamp_ns for datum in chosen], dtype=np.int64), poses


def _extrinsics(calibration: Path) -> dict[str, FloatArray]:
    content = read_json(calibration)
    return dict(
        _fields(
            calibration,
            lambda: {
                name: _transform(pose)
                for name, pose in zip(content["names"], content["extrinsics"], strict=True)
            },
        )
    )


def _cameras(folder: Path, calibration: Path, data: list[_Datum]) -> tuple[RecordedCamera, ...]:
    content, extrinsics = read_json(calibration), _extrinsics(calibration)
    intrinsics = _fields(
        calibration, lambda: dict(zip(content["names"], content["intrinsics"], strict=True))
    )
    cameras = []
    for sensor in sorted({datum.sensor for datum in data if datum.kind == "image"}):
        if sensor not in intrinsics:
            raise DriveError(f"{calibration}: names lacks {sensor}")
        images = sorted((d for d in data if d.sensor == sensor), key=lambda d: d.stamp_ns)
        model = _fields(
            calibration,
            _model_reader(sensor, images[0].content, intrinsics[sensor], extrinsics[sensor]),
        )
        model = checked_camera(model, f"{calibration}: intrinsics")
        cameras.append(RecordedCamera(model, tuple(_image(folder, d) for d in images)))
    return tuple(cameras)


def _model_reader(
    name: str, size: Json, intrinsics: Json, ego_from_camera: FloatArray
) -> Callable[[], CameraModel]:
    """Returns a reader of one camera's calibration."""
    return lambda: CameraModel(
        name=name,
        width=int(size["width"]),
        height=int(size["height"]),
        fx=float(intrinsics["fx"]),
        fy=float(intrinsics["fy"]),
        cx=float(intrinsics["cx"]),
        cy=float(intrinsics["cy"]),
        ego_from_camera=ego_from_camera,
        distortion=_lens(intrinsics),
    )


def _lens(intrinsics: Json) -> Distortion | None:
    """Reads the lens model; coefficients that are absent or zero are none.

    Source: CameraIntrinsics in dgp/proto/geometry.proto. The letters are OpenCV's; `fisheye` is 0
    for its standard model, and 1 for its fisheye model.
    """
    unknown = [name for name in UNKNOWN_LENS_FIELDS if float(intrinsics.get(name, 0)) != 0]
    fisheye = int(intrinsics.get("fisheye", 0))
    if unknown or fisheye not in (0, 1):
        raise ValueError(f"intrinsics: no lens model for {unknown or f'fisheye {fisheye}'}")
    k1, k2, k3, k4, k5, k6, p1, p2 = (float(intrinsics.get(name, 0)) for name in LENS_FIELDS)
    if fisheye:
        return Distortion("equidistant", (k1, k2, k3, k4))
    if any((k4, k5, k6)):
        return Distortion("rational_polynomial", (k1, k2, p1, p2, k3, k4, k5, k6))
    return Distortion("plumb_bob", (k1, k2, p1, p2, k3)) if any((k1, k2, p1, p2, k3)) else None


def _image(folder: Path, datum: _Datum) -> CameraImage:
    path = folder / str(datum.content["filename"])
    try:
        return CameraImage(datum.stamp_ns, path.read_bytes())
    except OSError as error:
        raise DriveError(f"{path}: cannot be read: {error.strerror}") from error


def _classes(folder: Path, scene_file: Path, scene: Json) -> dict[int, ObjectClass]:
    keys = _fields(scene_file, lambda: sorted(set(scene["ontologies"].values())))
    result = {}
    for key in keys:
        path = folder / "ontology" / f"{key}.json"
        for class_id, name in _fields(path, _names_reader(read_json(path))):
            result[class_id] = CLASSES.get(name, ObjectClass.GENERIC)
    return result


def _names_reader(ontology: Json) -> Callable[[], list[tuple[int, str]]]:
    """Returns a reader of the class ids and names of an ontology."""
    return lambda: [(int(item["id"]), str(item["name"])) for item in ontology["items"]]


def _objects(
    folder: Path, clouds: list[_Datum], classes: dict[int, ObjectClass]
) -> tuple[RecordedObjects, ...]:
    """Boxes as annotated in the vehicle frame, placed from the levelled pose.

    Instance ids are unsigned 32-bit; boxes get short ids in the order of first appearance.
    Velocities are backward differences, unknown at the first sight.
    """
    short_ids: dict[int, int] = {}
    before = np.zeros((0, 11))
    before_ns = 0
    result = []
    for cloud in clouds:
        path = _box_file(folder, cloud)
        annotations = _fields(path, _annotations_of(read_json(path)))
        map_from_ego = _level(cloud.world_from_sensor)
        rows = np.zeros((len(annotations), 11))
        for index, annotation in enumerate(annotations):
            instance, *row = _fields(path, _box_reader(annotation, classes, map_from_ego))
            short_id = short_ids.setdefault(int(instance), len(short_ids) + 1)
            rows[index] = [short_id, *row, np.nan, np.nan]
        _fill_velocities(rows, before, (cloud.stamp_ns - before_ns) * 1e-9)
        boxes = checked_boxes(rows, str(path))
        result.append(RecordedObjects(cloud.stamp_ns, boxes, Lights.empty()))
        before, before_ns = rows, cloud.stamp_ns
    return tuple(result)


def _box_file(folder: Path, cloud: _Datum) -> Path:
    files = [str(file) for file in cloud.content.get("annotations", {}).values()]
    return folder / next((file for file in files if "bounding_box_3d" in file), "bounding_box_3d")


def _annotations_of(content: Json) -> Callable[[], list[Json]]:
    return lambda: list(content["annotations"])


def _box_reader(
    annotation: Json, classes: dict[int, ObjectClass], map_from_ego: FloatArray
) -> Callable[[], list[float]]:
    """Returns a reader of instance id, class, centre, size and heading of one box."""

    def read() -> list[float]:
        box = annotation["box"]
        map_from_box = map_from_ego @ _transform(box["pose"])
        return [
            float(int(annotation["instance_id"])),
            float(classes.get(int(annotation["class_id"]), ObjectClass.GENERIC)),
            *map(float, map_from_box[:3, 3]),
            float(box["length"]),
            float(box["width"]),
            float(box["height"]),
            float(np.arctan2(map_from_box[1, 0], map_from_box[0, 0])),
        ]

    return read


def _fill_velocities(rows: FloatArray, before: FloatArray, dt_s: float) -> None:
    """Writes the velocity of every box that was seen before into columns 9 and 10."""
    earlier = {int(row[0]): row[2:4] for row in before}
    for row in rows:
        if int(row[0]) in earlier:
            row[9:11] = (row[2:4] - earlier[int(row[0])]) / dt_s
