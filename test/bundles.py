"""A tiny bundle for tests: real ONNX files with a behaviour that is known in closed form.

The encoder averages blocks of pixels. The planner continues at the current speed straight ahead;
candidate k at 1 / (k + 1) of that speed, with score -k.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import yaml
from onnx import TensorProto, helper, numpy_helper

from rap_inference.bundle import file_sha256
from rap_raster.camera import optical_rotation

WIDTH, HEIGHT, BLOCK = 64, 32, 8
CHANNELS, ROWS, COLUMNS = 3, HEIGHT // BLOCK, WIDTH // BLOCK
PROPOSALS, STEPS, DT_S = 4, 10, 0.5
HISTORY_STEPS = 4
VIEW_YAWS_RAD = {"front": 0.0, "front_left": np.deg2rad(55.0), "front_right": np.deg2rad(-55.0)}


def write_tiny_bundle(folder: Path) -> Path:
    """Writes the bundle and returns its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    _save(_encoder(), folder / "encoder.onnx")
    _save(_planner(), folder / "planner.onnx")
    manifest = _manifest(folder)
    (folder / "bundle.yaml").write_text(yaml.safe_dump(manifest, sort_keys=False))
    return folder


def _manifest(folder: Path) -> dict:
    return {
        "schema": "rap.bundle/1",
        "name": "tiny",
        "encoder": _file(folder / "encoder.onnx"),
        "planner": _file(folder / "planner.onnx"),
        "cameras": [_camera(name, yaw_rad) for name, yaw_rad in VIEW_YAWS_RAD.items()],
        "normalization": {"mean": [0.0, 0.0, 0.0], "std": [255.0, 255.0, 255.0]},
        "style": "semantic",
        "commands": ["left", "straight", "right", "unknown"],
        "proposals": PROPOSALS,
        "horizon_steps": STEPS,
        "dt_s": DT_S,
        "history": {"steps": HISTORY_STEPS, "dt_s": DT_S},
        "features": {"channels": CHANNELS, "height": ROWS, "width": COLUMNS},
        "training": {"command": "none", "maps": [], "data_license": "none", "samples": 0},
        "metrics": {},
    }


def _file(path: Path) -> dict:
    return {"path": path.name, "sha256": file_sha256(path)}


def _camera(name: str, yaw_rad: float) -> dict:
    return {
        "name": name,
        "width": WIDTH,
        "height": HEIGHT,
        "intrinsics": [40.0, 40.0, (WIDTH - 1) / 2, (HEIGHT - 1) / 2],
        "rotation": optical_rotation(yaw_rad).tolist(),
        "translation": [1.5, 0.0, 1.6],
    }


def _encoder() -> onnx.ModelProto:
    weights = np.zeros((CHANNELS, 3, BLOCK, BLOCK), np.float32)
    for channel in range(CHANNELS):
        weights[channel, channel] = 1.0 / BLOCK**2
    node = helper.make_node("Conv", ["images", "weights"], ["features"], strides=[BLOCK, BLOCK])
    return _model(
        [node],
        {"images": ["N", 3, HEIGHT, WIDTH]},
        {"features": ["N", CHANNELS, ROWS, COLUMNS]},
        {"weights": weights},
    )


def _planner() -> onnx.ModelProto:
    metres_per_mps = np.zeros((1, PROPOSALS, STEPS, 3), np.float32)
    shares = 1.0 / np.arange(1, PROPOSALS + 1)
    metres_per_mps[0, :, :, 0] = shares[:, None] * DT_S * np.arange(1, STEPS + 1)
    nodes = [
        helper.make_node("Slice", ["history", "first", "last", "axes"], ["speed"]),
        helper.make_node("Reshape", ["speed", "scalar"], ["speed_mps"]),
        helper.make_node("Mul", ["metres_per_mps", "speed_mps"], ["proposals"]),
        helper.make_node("Identity", ["fixed_scores"], ["scores"]),
    ]
    cameras = len(VIEW_YAWS_RAD)
    inputs = {
        "features": [1, cameras, CHANNELS, ROWS, COLUMNS],
        "camera_valid": [1, cameras],
        "image_from_ego": [1, cameras, 3, 4],
        "history": [1, HISTORY_STEPS, 7],
        "command": [1, 4],
    }
    outputs = {"proposals": [1, PROPOSALS, STEPS, 3], "scores": [1, PROPOSALS]}
    constants = {
        "first": np.array([HISTORY_STEPS - 1, 3], np.int64),
        "last": np.array([HISTORY_STEPS, 4], np.int64),
        "axes": np.array([1, 2], np.int64),
        "scalar": np.array([1, 1, 1, 1], np.int64),
        "metres_per_mps": metres_per_mps,
        "fixed_scores": -np.arange(PROPOSALS, dtype=np.float32)[None],
    }
    return _model(nodes, inputs, outputs, constants)


def _model(nodes: list, inputs: dict, outputs: dict, constants: dict) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in inputs.items()],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in outputs.items()],
        [numpy_helper.from_array(values, name) for name, values in constants.items()],
    )
    opset = helper.make_opsetid("", 17)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=8)
    onnx.checker.check_model(model)
    return model


def _save(model: onnx.ModelProto, path: Path) -> None:
    path.write_bytes(model.SerializeToString())
