"""A small synthetic drive and a manifest-only bundle for the tests of this package."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parent))  # small_recordings

from rap_bringup.drives.odometry import states_from_poses
from rap_bringup.drives.recorded_drive import (
    CameraImage,
    RecordedCamera,
    RecordedDrive,
    RecordedObjects,
)
from rap_inference.bundle import Bundle, file_sha256, load_bundle
from rap_raster.camera import CameraModel, Distortion, optical_rotation
from rap_raster.maps.vector_map import VectorMap
from rap_raster.scene import Boxes, Lights, LightState, LineKind, PolygonKind, Shapes

START_NS = 5_000_000_000
STEP_NS = 100_000_000
STEPS = 6
SPEED_MPS = 8.0
YAWS_RAD = {"front": 0.0, "front_left": 0.9, "front_right": -0.9}


def camera_model(name: str, yaw_rad: float) -> CameraModel:
    pose = np.eye(4)
    pose[:3, :3] = optical_rotation(yaw_rad, 0.05)
    pose[:3, 3] = [1.5, 0.2, 1.6]
    lens = Distortion("plumb_bob", (-0.1, 0.01, 0.0, 0.001, 0.0))
    return CameraModel(name, 64, 48, 50.0, 51.0, 31.0, 23.5, pose, lens)


def jpeg(value: int) -> bytes:
    return cv2.imencode(".jpg", np.full((48, 64, 3), value, np.uint8))[1].tobytes()


def objects_at(step: int) -> RecordedObjects:
    x = 130.0 + 0.3 * step
    rows = [
        [7, 1, x, 52.0, 0.8, 4.5, 1.9, 1.6, 0.1, 3.0, 0.0],
        [2_000_000_000, 6, 120.0, 45.0, 0.9, 0.6, 0.6, 1.8, -2.0, np.nan, np.nan],
    ]
    lights = Lights(
        np.array([LightState.RED], np.uint8),
        np.array([[140.0, 48.0, 5.5]]),
        np.array([[0.5, 0.5, 1.0]]),
        np.array([3.0]),
    )
    return RecordedObjects(START_NS + step * STEP_NS, Boxes.from_rows(rows), lights)


@pytest.fixture(scope="session")
def drive() -> RecordedDrive:
    """Straight ahead at 8 m/s past a car, with three cameras, a map and a route."""
    stamps = START_NS + np.arange(STEPS) * STEP_NS
    x = 100.0 + SPEED_MPS * np.arange(STEPS) * 0.1
    poses = np.column_stack([x, np.full(STEPS, 50.0), np.full(STEPS, 1.0), np.zeros(STEPS)])
    lines = Shapes.from_list(
        [
            (LineKind.LANE_BOUNDARY, [[90, 48, 1], [200, 48, 1]]),
            (LineKind.ROUTE, [[90, 50, 1], [150, 50, 1], [200, 50, 1]]),
        ]
    )
    areas = Shapes.from_list([(PolygonKind.DRIVABLE, [[90, 40, 1], [200, 40, 1], [200, 60, 1]])])
    cameras = tuple(
        RecordedCamera(
            camera_model(name, yaw_rad),
            tuple(CameraImage(int(stamp), jpeg(20 * index)) for index, stamp in enumerate(stamps)),
        )
        for name, yaw_rad in YAWS_RAD.items()
    )
    return RecordedDrive(
        name="synthetic",
        license="none needed",
        map=VectorMap("straight", lines, areas),
        ego=states_from_poses(stamps, poses),
        objects=tuple(objects_at(step) for step in range(STEPS)),
        cameras=cameras,
        route_m=np.array([[90.0, 50.0, 1.0], [150.0, 50.0, 1.0], [200.0, 50.0, 1.0]]),
        route_source="made for the test",
    )


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A valid manifest over files that are not networks; nothing here runs them."""
    folder = tmp_path_factory.mktemp("bundle")
    for name in ("encoder.onnx", "planner.onnx"):
        (folder / name).write_bytes(name.encode())
    manifest = {
        "schema": "rap.bundle/1",
        "name": "manifest-only",
        "encoder": _file(folder / "encoder.onnx"),
        "planner": _file(folder / "planner.onnx"),
        "cameras": [_slot(name, yaw_rad) for name, yaw_rad in YAWS_RAD.items()],
        "normalization": {"mean": [0.0, 0.0, 0.0], "std": [1.0, 1.0, 1.0]},
        "style": "semantic",
        "commands": ["left", "straight", "right", "unknown"],
        "proposals": 4,
        "horizon_steps": 10,
        "dt_s": 0.5,
        "history": {"steps": 4, "dt_s": 0.5},
        "features": {"channels": 3, "height": 4, "width": 8},
        "training": {"command": "none", "maps": [], "data_license": "none", "samples": 0},
        "metrics": {},
    }
    (folder / "bundle.yaml").write_text(yaml.safe_dump(manifest))
    return load_bundle(folder)


def _file(path: Path) -> dict:
    return {"path": path.name, "sha256": file_sha256(path)}


def _slot(name: str, yaw_rad: float) -> dict:
    return {
        "name": name,
        "width": 64,
        "height": 32,
        "intrinsics": [40.0, 40.0, 31.5, 15.5],
        "rotation": optical_rotation(yaw_rad).tolist(),
        "translation": [1.5, 0.0, 1.6],
    }


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder with real driving data, or a skip that says where it was looked for."""
    default = Path(__file__).resolve().parents[4] / "shared" / "data"
    folder = Path(os.environ.get("RAP_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"no real driving data: RAP_DATA is not set and {folder} does not exist")
    return folder
