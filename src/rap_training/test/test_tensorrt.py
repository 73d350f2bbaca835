from __future__ import annotations

import sys
from pathlib import Path

import onnx
import pytest
import torch

from rap_inference.bundle import BundleError
from rap_inference.tensorrt_engine import build_engine
from rap_training.config import load_config
from rap_training.export import export_bundle
from rap_training.model.rap_model import RapModel

pytestmark = pytest.mark.slow

trt = pytest.importorskip(
    "tensorrt_rtx", reason="tensorrt-rtx is not installed (pip install -r requirements/dev.txt)"
)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    torch.manual_seed(0)
    config = load_config(Path("default"))  # the preset tiny, with the route
    model = RapModel(config.model).eval()
    folder = tmp_path_factory.mktemp("bundle")
    return export_bundle(
        model, config, folder, maps=("Toy",), data_license="", command="test", metrics={}
    )


def test_both_networks_of_the_tiny_preset_become_engines(bundle):
    for path in (bundle.encoder_path, bundle.planner_path):
        plan = build_engine(path, "tensorrt-rtx", batch=len(bundle.manifest.cameras))
        graph = onnx.load(path).graph
        assert len(plan) > sum(len(weights.raw_data) for weights in graph.initializer)
        for tensor in (*graph.input, *graph.output):
            assert tensor.name.encode() in plan
        assert not is_malformed(plan)


def test_the_judge_of_engines_knows_what_is_none(bundle):
    assert is_malformed(bundle.planner_path.read_bytes())


def test_a_truncated_file_is_refused_in_one_line(bundle, tmp_path):
    path = tmp_path / "planner.onnx"
    path.write_bytes(bundle.planner_path.read_bytes()[:1000])
    with pytest.raises(BundleError, match=r"^\S+planner\.onnx: tensorrt-rtx cannot parse it: .+$"):
        build_engine(path, "tensorrt-rtx")


def test_an_operator_that_is_not_taken_is_named_with_its_node(bundle, tmp_path):
    model = onnx.load(bundle.planner_path)
    node = model.graph.node[-1]
    node.op_type = "Teleport"
    onnx.save(model, tmp_path / "planner.onnx")
    with pytest.raises(BundleError, match=rf"^.+ {node.name} Teleport .+$"):
        build_engine(tmp_path / "planner.onnx", "tensorrt-rtx")


def test_a_network_without_output_gives_the_reason_of_the_builder(bundle, tmp_path):
    model = onnx.load(bundle.encoder_path)
    del model.graph.output[:]
    onnx.save(model, tmp_path / "encoder.onnx")
    with pytest.raises(BundleError, match=r"^.+ cannot build an engine: .+ one output.+$"):
        build_engine(tmp_path / "encoder.onnx", "tensorrt-rtx", batch=3)


def test_open_axes_after_the_first_are_refused(bundle, tmp_path):
    model = onnx.load(bundle.encoder_path)
    model.graph.input[0].type.tensor_type.shape.dim[3].dim_param = "W"
    onnx.save(model, tmp_path / "encoder.onnx")
    with pytest.raises(BundleError, match=r"images: only the first axis may be open"):
        build_engine(tmp_path / "encoder.onnx", "tensorrt-rtx")


def test_a_missing_library_is_named_with_the_way_to_get_it(bundle, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(BundleError, match=r"is not installed \(pip install tensorrt;"):
        build_engine(bundle.planner_path, "tensorrt")


def is_malformed(plan: bytes) -> bool:
    """Asks TensorRT-RTX itself; that there is no GPU to run the engine is none of its errors."""
    runtime = trt.Runtime(trt.Logger(trt.Logger.INTERNAL_ERROR))
    _, diagnostics = runtime.get_engine_validity(plan)
    return bool(diagnostics & int(trt.EngineInvalidityDiagnostics.MALFORMED_ENGINE))
