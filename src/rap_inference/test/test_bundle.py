from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import yaml

from rap_inference.bundle import BundleError, file_sha256, load_bundle
from rap_inference.network import OnnxRuntimeNetwork


def doubling_network(path: Path) -> None:
    tensor = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Add", ["x", "x"], ["y"])],
        "double",
        [tensor("x", onnx.TensorProto.FLOAT, [2])],
        [tensor("y", onnx.TensorProto.FLOAT, [2])],
    )
    opset = onnx.helper.make_opsetid("", 17)
    onnx.save(onnx.helper.make_model(graph, opset_imports=[opset], ir_version=8), path)


@pytest.fixture
def manifest(tmp_path):
    """A valid bundle in tmp_path and its manifest as a dictionary."""
    for name in ("encoder", "planner"):
        doubling_network(tmp_path / f"{name}.onnx")
    content = {
        "schema": "rap.bundle/1",
        "name": "test",
        "encoder": {"path": "encoder.onnx", "sha256": file_sha256(tmp_path / "encoder.onnx")},
        "planner": {"path": "planner.onnx", "sha256": file_sha256(tmp_path / "planner.onnx")},
        "cameras": [
            {
                "name": "front",
                "width": 64,
                "height": 32,
                "intrinsics": [40.0, 40.0, 31.5, 15.5],
                "rotation": [[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]],
                "translation": [1.5, 0.0, 1.6],
            }
        ],
        "normalization": {"mean": [0.0, 0.0, 0.0], "std": [1.0, 1.0, 1.0]},
        "style": "rap",
        "commands": ["left", "straight", "right", "unknown"],
        "proposals": 4,
        "horizon_steps": 10,
        "dt_s": 0.5,
        "history": {"steps": 4, "dt_s": 0.5},
        "features": {"channels": 8, "height": 2, "width": 4},
        "training": {"command": "none", "maps": [], "data_license": "none", "samples": 0},
        "metrics": {},
    }
    write(tmp_path, content)
    return content


def write(folder: Path, content: object) -> None:
    (folder / "bundle.yaml").write_text(yaml.safe_dump(content))


def test_valid_bundle_loads_and_its_network_runs(tmp_path, manifest):
    bundle = load_bundle(tmp_path)
    outputs = OnnxRuntimeNetwork(bundle.encoder_path).run({"x": np.array([1, 2], np.float32)})
    np.testing.assert_array_equal(outputs["y"], [2, 4])
    assert bundle.manifest.cameras[0].ego_from_camera()[0, 3] == 1.5


def set_field(content: dict, path: str, value: object) -> None:
    *parents, last = path.split(".")
    for key in parents:
        content = content[int(key)] if key.isdigit() else content[key]
    content[last] = value


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("schema", "rap.bundle/2"),
        ("encoder.path", "../encoder.onnx"),
        ("encoder.sha256", "abc"),
        ("cameras", []),
        ("cameras.0.width", 0),
        ("cameras.0.intrinsics", [0.0, 40.0, 31.5, 15.5]),
        ("cameras.0.translation", [float("nan"), 0.0, 0.0]),
        ("cameras.0.rotation", [[2.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]),
        ("cameras.0.rotation", [[-1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]),
        ("cameras.0.rotation", [[float("nan"), 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]),
        ("cameras.0.rotation", [[0.9, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]),
        ("normalization.std", [1.0, 0.0, 1.0]),
        ("commands", ["right", "straight", "left", "unknown"]),
        ("dt_s", -0.5),
        ("history.steps", 0),
        ("route", {"points": 0, "spacing_m": 5.0}),
        ("route", {"points": 10, "spacing_m": -5.0}),
        ("surprise", 1),
    ],
)
def test_every_bad_field_is_named_in_one_line(tmp_path, manifest, field, value):
    set_field(manifest, field, value)
    write(tmp_path, manifest)
    with pytest.raises(BundleError) as caught:
        load_bundle(tmp_path)
    message = str(caught.value)
    assert field in message
    assert "\n" not in message


def test_a_manifest_nested_without_end_is_refused(tmp_path, manifest):
    (tmp_path / "bundle.yaml").write_text("[" * 100_000)
    with pytest.raises(BundleError, match=r"bundle\.yaml: cannot be read"):
        load_bundle(tmp_path)


def test_cameras_of_different_sizes_are_rejected(tmp_path, manifest):
    manifest["cameras"].append({**manifest["cameras"][0], "name": "rear", "width": 32})
    write(tmp_path, manifest)
    with pytest.raises(BundleError, match="one image size"):
        load_bundle(tmp_path)


def test_cameras_with_the_same_name_are_rejected(tmp_path, manifest):
    manifest["cameras"] *= 2
    write(tmp_path, manifest)
    with pytest.raises(BundleError, match="unique"):
        load_bundle(tmp_path)


def test_a_single_changed_byte_is_noticed(tmp_path, manifest):
    path = tmp_path / "planner.onnx"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(BundleError, match=r"planner\.onnx: sha256 is .*, bundle\.yaml says"):
        load_bundle(tmp_path)


@pytest.mark.parametrize("text", ["", "just text", "a: [1", "- 1", "\x00"])
def test_a_manifest_that_is_no_mapping_is_one_clear_line(tmp_path, manifest, text):
    (tmp_path / "bundle.yaml").write_text(text)
    with pytest.raises(BundleError, match=r"bundle\.yaml") as caught:
        load_bundle(tmp_path)
    assert "\n" not in str(caught.value)


def test_missing_files_are_named(tmp_path, manifest):
    (tmp_path / "encoder.onnx").unlink()
    with pytest.raises(BundleError, match=r"encoder\.onnx: cannot be read"):
        load_bundle(tmp_path)
    with pytest.raises(BundleError, match=r"bundle\.yaml: cannot be read"):
        load_bundle(tmp_path / "nowhere")


def test_a_file_that_is_no_network_is_one_clear_line(tmp_path):
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"not a network")
    with pytest.raises(BundleError, match="not a usable network") as caught:
        OnnxRuntimeNetwork(path)
    assert "\n" not in str(caught.value)
