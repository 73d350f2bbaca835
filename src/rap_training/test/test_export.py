from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from rap_inference.bundle import load_bundle
from rap_inference.network import OnnxRuntimeNetwork
from rap_planner.planner import planner_inputs
from rap_planner.route import Command
from rap_raster.encoder import FeatureEncoder, nominal_rig
from rap_raster.features import AlignedFeatures
from rap_training import export as export_module
from rap_training.config import TrainingConfig
from rap_training.export import export_bundle
from rap_training.model.rap_model import RapModel
from rap_training.normalization import normalize
from rap_training.rig import NOMINAL_RIG


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    torch.manual_seed(0)
    config = TrainingConfig()
    model = RapModel(config.model).eval()
    out = tmp_path_factory.mktemp("bundle")
    bundle = export_bundle(
        model, config, out, maps=("Toy",), data_license="ours", command="test", metrics={"x": 1.0}
    )
    return model, bundle


def test_the_model_card_names_a_commit_with_the_code_of_today(exported):
    _, bundle = exported
    revision = bundle.manifest.training.revision
    if revision == "unknown":
        pytest.skip("git does not tell the commit")
    commit = revision.removesuffix("-dirty")
    assert len(commit) == 12
    command = ["git", "rev-parse", f"{commit}:src", "HEAD:src"]
    root = Path(__file__).parents[3]
    told = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True)
    named, today = told.stdout.split()
    assert named == today


@torch.no_grad()
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_onnx_equals_torch(exported, seed):
    # The whole run-time path (normalisation, encoder, planner inputs) against the torch model.
    model, bundle = exported
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (3, 128, 256, 3), dtype=np.uint8)
    sources = np.array([1, 1, seed != 2], dtype=np.uint8)  # seed 2: one camera missing
    maps = FeatureEncoder(bundle, OnnxRuntimeNetwork(bundle.encoder_path)).encode(images)
    rig = nominal_rig(bundle)
    features = AlignedFeatures(
        stamp_ns=0,
        sources=sources,
        maps=maps,
        intrinsics=np.array([[c.fx, c.fy, c.cx, c.cy] for c in rig]),
        ego_from_camera=np.stack([c.ego_from_camera for c in rig]),
        alignment_distance=np.full(3, np.nan, dtype=np.float32),
    )
    history = rng.normal(size=(4, 7)).astype(np.float32)
    history[:, 3] = rng.uniform(0, 15)
    inputs = planner_inputs(features, history, Command(seed))
    inputs["route"] = np.zeros((1, 30, 3), dtype=np.float32)
    known = 20 - 10 * seed  # all of the route, half of it, none
    inputs["route"][0, :known, 0] = 2.5 * np.arange(1, known + 1)
    inputs["route"][0, :known, 1:] = rng.uniform(-3.0, 3.0), 1.0
    outputs = OnnxRuntimeNetwork(bundle.planner_path).run(inputs)
    plan = model(
        normalize(torch.from_numpy(images))[None],
        *(torch.from_numpy(inputs[name]) for name in list(inputs)[1:]),
    )
    np.testing.assert_allclose(maps, plan.features[0].numpy(), atol=1e-4)
    np.testing.assert_allclose(outputs["proposals"], plan.proposals[-1].numpy(), atol=1e-4)
    probabilities = torch.sigmoid(plan.scores)
    np.testing.assert_allclose(outputs["sub_scores"], probabilities.numpy(), atol=1e-4)
    chosen_by = probabilities[..., -2:].log().sum(-1)  # score and imitation count alike
    np.testing.assert_allclose(outputs["scores"], chosen_by.numpy(), atol=1e-4)


@torch.no_grad()
def test_an_encoder_too_large_for_a_file_is_stored_in_half(exported, tmp_path, monkeypatch):
    monkeypatch.setattr(export_module, "LARGEST_BYTES", 100_000)
    config = TrainingConfig()
    model = RapModel(config.model).eval()
    said = {"maps": ("Toy",), "data_license": "ours", "command": "test", "metrics": {}}
    bundle = export_bundle(model, config, tmp_path, **said)
    assert bundle.encoder_path.stat().st_size < 0.7 * exported[1].encoder_path.stat().st_size
    images = torch.randn(3, 3, 128, 256)
    features = OnnxRuntimeNetwork(bundle.encoder_path).run({"images": images.numpy()})["features"]
    np.testing.assert_allclose(features, model.encoder(images).numpy(), atol=1e-4)


def test_another_input_gives_another_output(exported):
    # Parity would also hold for constants; these outputs do depend on the inputs.
    _, bundle = exported
    network = OnnxRuntimeNetwork(bundle.encoder_path)
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(2, 1, 3, 128, 256)).astype(np.float32)
    a, b = (network.run({"images": x})["features"] for x in (first, second))
    assert np.abs(a - b).max() > 1e-3


def test_manifest_carries_the_rig_it_was_trained_for(exported):
    for camera, nominal in zip(nominal_rig(exported[1]), NOMINAL_RIG, strict=True):
        np.testing.assert_allclose(camera.image_from_ego(), nominal.image_from_ego())


def test_default_bundle_is_valid_and_small(pytestconfig):
    folder = pytestconfig.rootpath / "models" / "default"
    load_bundle(folder)
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 10_000_000
