"""One nuScenes keyframe: its camera images, calibrations and boxes (`info.json`, mmdetection3d).

The map frame is the nuScenes global frame, in which `rap_bringup.drives.nuscenes` reads tracks and
maps too. Ego poses of nuScenes have roll and pitch, ours have not; the difference goes into the
mounting of the cameras, so that what stands upright in the map is drawn tilted as the cameras saw
it. Boxes are annotated upright in the map; the file gives them in the tilted lidar frame.

Each camera is placed by `lidar2cam`, not by `cam2ego`: it holds the ego's motion between the
exposure and the lidar sweep, up to 0.4 m here. Motion of other road users is not compensated.
The images of nuScenes are published rectified, so there is no lens model.

Source: mmdetection3d, docs/en/advanced_guides/datasets/nuscenes.md, info version 1.1.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import AfterValidator, BaseModel, Field

from rap_bringup.drives.json_file import read_json
from rap_bringup.drives.nuscenes import LICENSE, RENAULT_ZOE
from rap_bringup.drives.recorded_drive import (
    CameraImage,
    DriveError,
    RecordedCamera,
    RecordedDrive,
    RecordedObjects,
    checked_boxes,
    checked_camera,
)
from rap_inference.yaml_files import validated
from rap_perception.images import ImageError, decode_compressed
from rap_raster.camera import CameraModel
from rap_raster.ego_history import EgoState
from rap_raster.frames import FloatArray, Pose, inverse, transform_points
from rap_raster.scene import Boxes, Lights, ObjectClass

INFO_NAME = "info.json"

CLASSES = {
    "car": ObjectClass.VEHICLE,
    "truck": ObjectClass.TRUCK,
    "trailer": ObjectClass.TRUCK,
    "construction_vehicle": ObjectClass.TRUCK,
    "bus": ObjectClass.BUS,
    "bicycle": ObjectClass.BICYCLE,
    "motorcycle": ObjectClass.MOTORCYCLE,
    "pedestrian": ObjectClass.PEDESTRIAN,
    "traffic_cone": ObjectClass.CONE,
    "barrier": ObjectClass.BARRIER,
}
"""Categories of the detection task; what belongs to none of them has label -1: generic."""

_Seconds = Annotated[float, Field(ge=0, lt=2**31)]
_Number = Annotated[float, Field(ge=-1e7, le=1e7)]
_Row = tuple[_Number, _Number, _Number, _Number]
_Line = tuple[_Number, _Number, _Number]


def _rigid(rows: tuple[_Row, _Row, _Row, _Row]) -> tuple[_Row, _Row, _Row, _Row]:
    matrix = np.array(rows)
    rotation = matrix[:3, :3]
    orthogonal = np.abs(rotation @ rotation.T - np.eye(3)).max() < 1e-3
    if not orthogonal or np.linalg.det(rotation) < 0 or (matrix[3] != [0, 0, 0, 1]).any():
        raise ValueError("expected a rigid transform")
    return rows


def _pinhole(rows: tuple[_Line, _Line, _Line]) -> tuple[_Line, _Line, _Line]:
    if rows[0][1] != 0 or rows[1][0] != 0 or rows[2] != (0, 0, 1):
        raise ValueError("expected fx 0 cx, 0 fy cy, 0 0 1")
    return rows


_Transform = Annotated[tuple[_Row, _Row, _Row, _Row], AfterValidator(_rigid)]
_Intrinsics = Annotated[tuple[_Line, _Line, _Line], AfterValidator(_pinhole)]


class _Image(BaseModel):
    img_path: str
    cam2img: _Intrinsics
    lidar2cam: _Transform
    timestamp: _Seconds


class _Instance(BaseModel):
    bbox_3d: tuple[_Number, _Number, _Number, _Number, _Number, _Number, _Number]
    bbox_label_3d: int
    velocity: tuple[float, float]  # NaN where unknown


class _LidarPoints(BaseModel):
    lidar2ego: _Transform


class _Frame(BaseModel):
    timestamp: _Seconds
    ego2global: _Transform
    lidar_points: _LidarPoints
    images: Annotated[dict[str, _Image], Field(min_length=1)]
    instances: tuple[_Instance, ...]


class _MetaInfo(BaseModel):
    categories: dict[str, int]


class _Info(BaseModel):
    metainfo: _MetaInfo
    frame: _Frame


@dataclass(frozen=True, slots=True)
class Keyframe:
    """What was seen at one instant.

    Attributes:
        stamp_ns: When the lidar swept.
        ego: Rear axle on the ground, map frame; roll and pitch are in the cameras' mountings.
        boxes: Annotated boxes, map frame; ids count from 1 in the order of the file.
        cameras: Calibrated cameras with one image each.
    """

    stamp_ns: int
    ego: Pose
    boxes: Boxes
    cameras: tuple[RecordedCamera, ...]


def read_keyframe(folder: Path) -> Keyframe:
    """Reads one keyframe.

    Args:
        folder: Has `info.json` and the images it names.

    Raises:
        DriveError: If a file or field is missing or has a value that cannot be drawn.
    """
    path = folder / INFO_NAME
    info = validated(path, read_json(path), _Info, DriveError)
    map_from_ego = np.array(info.frame.ego2global)
    yaw_rad = float(np.arctan2(map_from_ego[1, 0], map_from_ego[0, 0]))
    x_m, y_m, z_m = map(float, map_from_ego[:3, 3])
    ego = Pose(x_m, y_m, z_m, yaw_rad)
    map_from_lidar = map_from_ego @ np.array(info.frame.lidar_points.lidar2ego)
    ego_from_lidar = inverse(ego.map_from_ego()) @ map_from_lidar
    cameras = [
        _camera(folder, name, image, ego_from_lidar) for name, image in info.frame.images.items()
    ]
    stamp_ns = round(info.frame.timestamp * 1e9)
    return Keyframe(stamp_ns, ego, _boxes(path, info, map_from_lidar), tuple(cameras))


def read_keyframe_drive(folder: Path) -> RecordedDrive:
    """Reads one keyframe as a drive of a single instant; see `read_keyframe`.

    Images get the keyframe's stamp: their cameras are placed where they saw that instant from. The
    file does not tell the ego's speed, so it stands.
    """
    keyframe = read_keyframe(folder)
    cameras = [
        RecordedCamera(camera.model, (replace(camera.images[0], stamp_ns=keyframe.stamp_ns),))
        for camera in keyframe.cameras
    ]
    ego, stamp_ns = keyframe.ego, keyframe.stamp_ns
    state = EgoState(stamp_ns, ego.x_m, ego.y_m, ego.z_m, ego.yaw_rad, 0.0, 0.0, 0.0)
    return RecordedDrive(
        name=folder.name,
        license=LICENSE,
        map=None,
        ego=(state,),
        objects=(RecordedObjects(stamp_ns, keyframe.boxes, Lights.empty()),),
        cameras=tuple(cameras),
        route_m=None,
        route_source="none: a keyframe has no map",
        vehicle=RENAULT_ZOE,
    )


def _camera(folder: Path, name: str, image: _Image, ego_from_lidar: FloatArray) -> RecordedCamera:
    jpeg, (height, width) = _image(folder / image.img_path)
    (fx, _, cx), (_, fy, cy), _ = image.cam2img
    pose = ego_from_lidar @ inverse(np.array(image.lidar2cam))
    model = CameraModel(name, width, height, fx, fy, cx, cy, pose)
    checked = checked_camera(model, f"{folder / INFO_NAME}: frame.images")
    return RecordedCamera(checked, (CameraImage(round(image.timestamp * 1e9), jpeg),))


def _image(path: Path) -> tuple[bytes, tuple[int, int]]:
    """Returns the bytes of an image and its height and width, which `info.json` does not give."""
    try:
        content = path.read_bytes()
        height, width, _ = decode_compressed(np.frombuffer(content, np.uint8)).shape
    except (OSError, ImageError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise DriveError(f"{path}: cannot be read: {reason}") from error
    return content, (height, width)


def _boxes(path: Path, info: _Info, map_from_lidar: FloatArray) -> Boxes:
    rows = np.zeros((len(info.frame.instances), 11))
    if not len(rows):
        return Boxes.empty()
    names = {label: name for name, label in info.metainfo.categories.items()}
    boxes = np.array([instance.bbox_3d for instance in info.frame.instances])
    headings = _turned(map_from_lidar, np.cos(boxes[:, 6]), np.sin(boxes[:, 6]))
    velocities = np.array([instance.velocity for instance in info.frame.instances])
    rows[:, 0] = np.arange(1, len(rows) + 1)
    rows[:, 1] = [
        CLASSES.get(names.get(instance.bbox_label_3d, ""), ObjectClass.GENERIC)
        for instance in info.frame.instances
    ]
    rows[:, 2:5] = transform_points(map_from_lidar, boxes[:, :3])
    rows[:, 5:8] = boxes[:, 3:6]
    rows[:, 8] = np.arctan2(headings[:, 1], headings[:, 0])
    rows[:, 9:11] = _turned(map_from_lidar, velocities[:, 0], velocities[:, 1])
    return checked_boxes(rows, f"{path}: frame.instances")


def _turned(map_from_lidar: FloatArray, x: FloatArray, y: FloatArray) -> FloatArray:
    """Turns horizontal vectors of the lidar frame; returns (N, 2) x and y in the map frame."""
    turned: FloatArray = np.column_stack([x, y]) @ map_from_lidar[:2, :2].T
    return turned
