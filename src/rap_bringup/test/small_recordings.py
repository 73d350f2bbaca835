"""Recordings of a few bytes, in the forms of the public data sets."""

from __future__ import annotations

import json

import cv2
import numpy as np


def nuscenes_scene() -> dict:
    """Ego and one car for three steps, on one lane."""
    state = np.zeros((2, 3, 7))
    state[:, :, 0] = [[0, 1, 2], [20, 20, 20]]
    state[:, :, 6] = 1
    return {
        "track_id": np.array(["ego", "car"]),
        "track_type": np.array(["VEHICLE", "VEHICLE"]),
        "state": state,
        "dims_lwh": np.array([[1.7, 4.1, 1.6], [4.5, 1.9, 1.6]], np.float32),
        "dt": np.array(0.1),
        "map_name": np.array("nowhere"),
        "map_pts": np.array([[0.0, 0.0], [100.0, 0.0]]),
        "map_off": np.array([0, 2]),
        "map_type": np.array(["LANE_SURFACE_STREET"]),
        "map_id": np.array(["a"]),
        "map_kind": np.array(["polyline"]),
    }


def write_dgp_scene(folder, *, drop=(), boxes=None, jpeg=b"jpeg", lens=None):
    """Writes one camera and one point cloud.

    `drop` is a path of keys to leave out, `lens` has fields to add to the intrinsics.
    """
    pose = {
        "rotation": {"qw": 1.0, "qx": 0.0, "qy": 0.0, "qz": 0.0},
        "translation": {"x": 0.0, "y": 0.0, "z": 0.0},
    }
    image = {"filename": "a.jpg", "width": 64, "height": 48, "pose": pose}
    cloud = {"annotations": {"1": "bounding_box_3d/boxes.json"}, "pose": pose}
    scene = {
        "data": [
            _datum("CAM", "2020-01-01T00:00:00.000000Z", {"image": image}),
            _datum("LIDAR", "2020-01-01T00:00:00.010000Z", {"point_cloud": cloud}),
        ],
        "samples": [{"calibration_key": "key"}],
        "ontologies": {"1": "names"},
    }
    intrinsics = {"fx": 50.0, "fy": 50.0, "cx": 31.5, "cy": 23.5, "skew": 0.0, **(lens or {})}
    files = {
        "scene_1.json": scene,
        "calibration/key.json": {
            "names": ["CAM", "LIDAR"],
            "extrinsics": [pose, pose],
            "intrinsics": [intrinsics, dict(intrinsics)],
        },
        "ontology/names.json": {"items": [{"id": 2, "name": "Car"}]},
        "bounding_box_3d/boxes.json": {"annotations": boxes or []},
    }
    if drop:
        owner = files[drop[0]]
        for key in drop[1:-1]:
            owner = owner[key]
        del owner[drop[-1]]
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(content))
    (folder / "a.jpg").write_bytes(jpeg)


def car_box(*, qw=1.0):
    """Returns the annotation of a car 10 m ahead."""
    pose = {
        "rotation": {"qw": qw, "qx": 0.0, "qy": 0.0, "qz": 0.0},
        "translation": {"x": 10.0, "y": 0.0, "z": 0.8},
    }
    size = {"length": 4.0, "width": 2.0, "height": 1.5}
    return {"class_id": 2, "instance_id": 9, "box": {**size, "pose": pose}}


def _datum(sensor, timestamp, content):
    return {"id": {"name": sensor, "timestamp": timestamp}, "datum": content}


def _transform(yaw, pitch, roll, translation) -> np.ndarray:
    """Returns the (4, 4) transform that rolls, pitches and yaws, then translates."""
    matrix = np.eye(4)
    matrix[:3, :3] = _turn(2, yaw) @ _turn(1, pitch) @ _turn(0, roll)
    matrix[:3, 3] = translation
    return matrix


def _turn(axis, angle) -> np.ndarray:
    first, second = (axis + 1) % 3, (axis + 2) % 3
    matrix = np.eye(3)
    matrix[[first, second], [first, second]] = np.cos(angle)
    matrix[second, first], matrix[first, second] = np.sin(angle), -np.sin(angle)
    return matrix


MAP_FROM_EGO = _transform(0.04, -0.03, 0.02, (1.0, 0.0, 0.5))
EGO_FROM_LIDAR = _transform(-1.57, 0.02, 0.01, (0.9, 0.0, 1.8))
EGO_FROM_CAMERA = _transform(0.1, 0.0, 0.0, (1.7, 0.2, 1.5)) @ np.array(
    [[0.0, 0.0, 1.0, 0.0], [-1.0, 0.0, 0.0, 0.0], [0.0, -1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]]
)
CAMERA_MATRIX = np.array([[300.0, 0.0, 158.0], [0.0, 310.0, 121.0], [0.0, 0.0, 1.0]])
IMAGE_SIZE = (320, 240)
BOX_CENTER_MAP = np.array([14.0, 1.5, 1.4])
BOX_SIZE = np.array([4.5, 1.9, 1.6])
BOX_YAW = 0.7


def keyframe() -> dict:
    """One camera and one upright car, from an ego that leans; one line of the map runs ahead."""
    map_from_lidar = MAP_FROM_EGO @ EGO_FROM_LIDAR
    center = np.linalg.inv(map_from_lidar) @ [*BOX_CENTER_MAP, 1.0]
    heading = map_from_lidar[:3, :3].T @ [np.cos(BOX_YAW), np.sin(BOX_YAW), 0.0]
    yaw = np.arctan2(heading[1], heading[0])
    image = {
        "img_path": "front.jpg",
        "cam2img": CAMERA_MATRIX.tolist(),
        "lidar2cam": (np.linalg.inv(EGO_FROM_CAMERA) @ EGO_FROM_LIDAR).tolist(),
        "timestamp": 1_500_000_000.5,
    }
    instance = {
        "bbox_3d": [*center[:3], *BOX_SIZE, yaw],
        "bbox_label_3d": 0,
        "velocity": [float("nan"), float("nan")],
    }
    frame = {
        "timestamp": 1_500_000_000.5,
        "ego2global": MAP_FROM_EGO.tolist(),
        "lidar_points": {"lidar2ego": EGO_FROM_LIDAR.tolist()},
        "images": {"FRONT": image},
        "instances": [instance],
    }
    return {"metainfo": {"categories": {"car": 0}}, "frame": frame}


def write_keyframe(folder, content=None, size=IMAGE_SIZE):
    """Writes `info.json` with a grey image, and `scene.npz` beside it."""
    (folder / "info.json").write_text(json.dumps(content or keyframe()))
    grey = np.full((size[1], size[0], 3), 128, np.uint8)
    (folder / "front.jpg").write_bytes(cv2.imencode(".jpg", grey)[1].tobytes())
    np.savez(folder / "scene.npz", **nuscenes_scene())


def box_corners(center, size, yaw) -> np.ndarray:
    """Returns the (8, 3) corners of an upright box."""
    signs = np.stack(np.meshgrid([-1, 1], [-1, 1], [-1, 1]), axis=-1).reshape(-1, 3)
    cos, sin = np.cos(yaw), np.sin(yaw)
    turn = np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]])
    return 0.5 * signs * size @ turn.T + center
