from __future__ import annotations

import math
import sys
import warnings
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from published_reference import SlowPlanner, bilinear
from released_checkpoint import (
    PREFIX,
    SMALL,
    Sizes,
    checkpoint,
    encoder_shapes,
    planner_shapes,
    random_state,
    training_shapes,
)
from transformers import DINOv3ViTConfig, DINOv3ViTModel

from rap_evaluation.planners.bundle_driver import BundleDriver, Seen
from rap_inference.bundle import load_bundle
from rap_inference.network import OnnxRuntimeNetwork
from rap_planner.route import NO_GUIDANCE
from rap_raster.camera import CameraModel
from rap_raster.ego_history import EgoState, history_rows
from rap_raster.features import FeatureSource
from rap_training.commands import app
from rap_training.model.precision import store_in_half
from rap_training.model.published.attention import sample_heads
from rap_training.model.published.planner import ego_vector
from rap_training.model.published.reference_points import project, reference_points
from rap_training.model.published.rig import RELEASED_RIG
from rap_training.normalization import normalize
from rap_training.released_weights import HISTORY_DT_S, ReleasedWeightsError, import_released

RAW_WIDTH, RAW_HEIGHT = 320, 130
IMAGE = (128, 64)
CELLS = (4, 8)
"""Rows and columns of an image of 320 x 130 pixels times 0.4, padded below to whole cells."""


@pytest.fixture(scope="module")
def state():
    """Random tensors whose proposals spread over the places that some cameras see."""
    tensors = random_state(SMALL, seed=0)
    tensors[f"{PREFIX}init_feature.weight"] *= 12.0
    decoder = tensors[f"{PREFIX}_trajectory_head.0.traj_decoder.mlp.6.weight"]
    decoder -= decoder.mean(dim=1, keepdim=True)
    decoder *= torch.tensor([[8.0], [8.0], [0.5]])
    return tensors


@pytest.fixture(scope="module")
def released_file(state, tmp_path_factory):
    path = tmp_path_factory.mktemp("released") / "rap.ckpt"
    torch.save(checkpoint(state), path)
    return path


def rig():
    """Per camera the release's projection, and ours of the same camera."""
    theirs, ours = [], []
    for camera in RELEASED_RIG:
        raw = CameraModel("raw", RAW_WIDTH, RAW_HEIGHT, 250.0, 250.0, 160.0, 70.0,
                          camera.ego_from_camera)  # fmt: skip
        full = np.eye(4)
        full[:3, :3] = raw.intrinsics
        scale = np.diag([0.4, 0.4, 1.0, 1.0])
        theirs.append(scale @ full @ np.linalg.inv(camera.ego_from_camera))
        small = raw.resized(IMAGE[0], round(0.4 * RAW_HEIGHT))
        ours.append(replace(small, height=IMAGE[1]).image_from_ego())
    return theirs, np.stack(ours)


def planner_input(seed, dtype=torch.float64):
    rng = np.random.default_rng(seed)
    history = np.zeros((1, 3, 7))
    history[0, :, 3:5] = (2.0, 0.0), (4.0, 0.5), (5.0, 0.3)
    history[0, :, 6] = 1.0
    arrays = {
        "features": rng.normal(size=(1, 4, SMALL.width, *CELLS)),
        "camera_valid": np.ones((1, 4)),
        "image_from_ego": rig()[1][None],
        "history": history,
        "command": np.eye(4)[seed % 4][None],
    }
    return {name: torch.from_numpy(array).to(dtype) for name, array in arrays.items()}


def unprefixed(state):
    return {name.removeprefix(PREFIX): tensor for name, tensor in state.items()}


@pytest.mark.parametrize(
    ("layout", "seed", "missing"), [("released", 0, None), ("released", 1, 0), ("corrected", 2, 3)]
)
def test_planner_computes_what_the_release_does(state, released_file, layout, seed, missing):
    planner = import_released(released_file, reference_layout=layout).planner.double()
    inputs = planner_input(seed)
    # The release's features include the embeddings of its cameras.
    cameras = state[f"{PREFIX}_backbone.cams_embeds"][:, None, None].double()
    maps = list((inputs["features"][0].permute(0, 2, 3, 1) + cameras).numpy())
    if missing is not None:
        inputs["camera_valid"][0, missing] = 0.0
        maps[missing] = None
    proposals, scores = planner(*inputs.values())
    reference = SlowPlanner(unprefixed(state), all_pairs=layout == "corrected")
    command = inputs["command"][0].numpy()
    ego = np.array([0, 0, 0, 5.0, 0.3, 1.0 / HISTORY_DT_S, -0.2 / HISTORY_DT_S, *command])
    expected, logits = reference.plan(maps, rig()[0], IMAGE, ego)
    # Queries that none, one and several cameras see, with points behind them: masks are put to the
    # test.
    assert {0, 1, 2} <= set(reference.seen_counts)
    assert reference.points_behind > 0
    np.testing.assert_allclose(proposals[0].numpy(), expected, atol=1e-9)
    np.testing.assert_allclose(scores[0].numpy(), logits, atol=1e-9)


def test_reference_layout_changes_the_plan(released_file):
    inputs = planner_input(0).values()
    plans = [
        import_released(released_file, reference_layout=layout).planner.double()(*inputs)[0]
        for layout in ("released", "corrected")
    ]
    assert (plans[0] - plans[1]).abs().max() > 1e-3


@pytest.mark.parametrize("turn", [0.0, np.pi / 2])
def test_reference_points_are_corners_at_heights(turn):
    pose = torch.tensor([[[10.0, 5.0, turn]]], dtype=torch.float64)
    released, corrected = (
        Counter(tuple(np.round(point, 6)) for point in reference_points(pose, layout)[0, 0].numpy())
        for layout in ("released", "corrected")
    )
    # A box from 1.377 m behind the rear axle to 4.299 m before it, 2.497 m wide.
    along, across = (4.299, -1.377), (1.2485, -1.2485)
    corners = [(along[0], across[0]), (along[0], across[1]), (along[1], across[1]),
               (along[1], across[0])]  # fmt: skip
    turned = [(10 + a, 5 + b) if turn == 0.0 else (10 - b, 5 + a) for a, b in corners]
    heights = (-2.0, 0.666667, 3.333333, 6.0)
    rounded = [tuple(np.round(corner, 6)) for corner in turned]
    assert corrected == Counter((*c, z) for c in rounded for z in heights)
    assert released == Counter({(*c, z): 4 for c, z in zip(rounded, heights, strict=True)})


def test_a_camera_sees_what_is_before_it_and_inside_its_image():
    # A camera at the origin that looks ahead: u = 50 - 100 y / x, v = 50 - 100 z / x.
    matrix = torch.tensor(
        [[50.0, -100.0, 0.0, 0.0], [50.0, 0.0, -100.0, 0.0], [1.0, 0.0, 0.0, 0.0]]
    )
    points = torch.tensor(
        [[2.0, 0.2, 0.0], [0.05, 0.0, 0.0], [-2.0, 0.0, 0.0], [2.0, 1.1, 0.0], [2.0, 0.0, -1.1]]
    )
    size = torch.tensor([100.0, 100.0])
    places, seen = project(points[None, :, None], matrix[None, None], size)
    assert seen[0, 0].tolist() == [1.0, 1.0, 0.0, 0.0, 0.0]
    np.testing.assert_allclose(places[0, 0, 0, 0].numpy(), [0.403, 0.503], rtol=1e-6)
    both = project(points[None, None, [2, 0]], matrix[None, None], size)[1]
    assert both.tolist() == [[[1.0]]]  # one of a query's points is enough


def test_sampling_is_bilinear_with_zeros_around():
    rng = np.random.default_rng(0)
    maps = rng.normal(size=(2, 3, 2, 4, 5))
    places = rng.uniform(-0.3, 1.3, size=(2, 3, 6, 4, 2))
    places[0, 0, 0] = [[0.0, 0.0], [1.0, 1.0], [3e6, 0.5], [0.5, -4e9]]
    weights = rng.uniform(size=(2, 3, 6, 4))
    sampled = sample_heads(*(torch.from_numpy(array) for array in (maps, places, weights)))
    for n, head, query in np.ndindex(2, 3, 6):
        grid = maps[n, head].transpose(1, 2, 0)
        expected = sum(
            weight * bilinear(grid, *place)
            for place, weight in zip(places[n, head, query], weights[n, head, query], strict=True)
        )
        found = sampled[n, query, 2 * head : 2 * head + 2].numpy()
        np.testing.assert_allclose(found, expected, atol=1e-12)


def test_batch_of_two_equals_two_batches_of_one(released_file):
    planner = import_released(released_file, reference_layout="released").planner.double()
    first, second = planner_input(0), planner_input(1)
    second["camera_valid"][0, 0] = 0.0
    both = planner(*(torch.cat([first[name], second[name]]) for name in first))
    for row, one in enumerate((first, second)):
        for found, expected in zip(both, planner(*one.values()), strict=True):
            np.testing.assert_allclose(found[row].numpy(), expected[0].numpy(), atol=1e-12)


def test_features_of_missing_cameras_do_not_count(released_file):
    planner = import_released(released_file, reference_layout="released").planner.double()
    inputs = planner_input(0)
    inputs["camera_valid"][0, 1] = 0.0
    before = planner(*inputs.values())
    inputs["features"][0, 1] = 1e3
    for a, b in zip(before, planner(*inputs.values()), strict=True):
        assert torch.equal(a, b)


def test_acceleration_is_that_of_the_velocity_vector():
    # A left turn of 10 m/s and 0.2 rad/s pulls to the left with v times yaw rate.
    dt_s, speed, rate = 0.1, 10.0, 0.2
    history = torch.zeros(1, 2, 7, dtype=torch.float64)
    history[0, :, 2] = torch.tensor([-rate * dt_s, 0.0])
    history[0, :, 3], history[0, :, 6] = speed, 1.0
    command = torch.eye(4, dtype=torch.float64)[2:3]
    expected = [0, 0, 0, speed, 0, 0, speed * rate, 0, 0, 1, 0]
    vector = ego_vector(history, command, dt_s)[0].numpy()
    np.testing.assert_allclose(vector, expected, atol=0.05)
    history[0, 0] = 0.0  # no row before this one
    expected[6] = 0.0
    np.testing.assert_allclose(ego_vector(history, command, dt_s)[0].numpy(), expected)


def test_encoder_is_neck_and_level_over_patch_tokens(state, released_file):
    encoder = import_released(released_file, reference_layout="released").encoder.double()
    images = torch.randn(2, 3, 48, 64, dtype=torch.float64)
    features = encoder(images)
    assert features.shape == (2, SMALL.width, 3, 4)
    tokens = dinov3_tokens(unprefixed(state), images)
    assert tokens.shape[1] == 1 + 4 + 12
    patches = tokens[:, 5:].numpy().reshape(2, 3, 4, -1)
    for n, row, column in ((0, 1, 2), (1, 0, 0), (1, 2, 3)):
        expected = neck_and_level(unprefixed(state), patches[n], row, column)
        np.testing.assert_allclose(features[n, :, row, column].numpy(), expected, atol=1e-9)


@torch.no_grad()
def dinov3_tokens(state, images):
    """Tokens of the library's own model, built and filled in the ordinary way."""
    config = DINOv3ViTConfig(
        hidden_size=64, num_attention_heads=1, num_hidden_layers=2, intermediate_size=96,
        num_register_tokens=4, use_gated_mlp=True, hidden_act="silu",
    )  # fmt: skip
    model = DINOv3ViTModel(config).double().eval()
    name = "_backbone.img_backbone."
    tensors = {x.removeprefix(name): t for x, t in state.items() if x.startswith(name)}
    model.load_state_dict({x.replace("layer.", "model.layer.") if x.startswith("layer.") else x: t
                           for x, t in tensors.items()})  # fmt: skip
    return model(pixel_values=images).last_hidden_state


def neck_and_level(state, patches, row, column):
    """One cell of the release's feature map: 1x1 convolution, 3x3 convolution, embedding."""
    array = {name: tensor.double().numpy() for name, tensor in state.items()}
    neck = "_backbone.img_neck"
    lateral = array[f"{neck}.lateral_convs.0.conv.weight"][:, :, 0, 0]
    total = array[f"{neck}.fpn_convs.0.conv.bias"] + array["_backbone.level_embeds"][0]
    for y, x in np.ndindex(3, 3):
        j, i = row + y - 1, column + x - 1
        if 0 <= j < patches.shape[0] and 0 <= i < patches.shape[1]:
            mid = lateral @ patches[j, i] + array[f"{neck}.lateral_convs.0.conv.bias"]
            total = total + array[f"{neck}.fpn_convs.0.conv.weight"][:, :, y, x] @ mid
    return total


def exported(module, inputs, path, names, outputs, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # notes of the tracing exporter about itself
        torch.onnx.export(
            module, tuple(inputs), str(path), input_names=names, output_names=outputs,
            opset_version=17, dynamo=False, **options,
        )  # fmt: skip
    return OnnxRuntimeNetwork(path)


def test_onnx_planner_equals_torch(released_file, tmp_path):
    planner = import_released(released_file, reference_layout="released").planner
    example = planner_input(0, torch.float32)
    network = exported(planner, example.values(), tmp_path / "planner.onnx", list(example),
                       ["proposals", "scores"])  # fmt: skip
    for seed in (1, 2):
        inputs = planner_input(seed, torch.float32)
        inputs["camera_valid"][0, seed] = 0.0
        outputs = network.run({name: tensor.numpy() for name, tensor in inputs.items()})
        proposals, scores = planner(*inputs.values())
        np.testing.assert_allclose(outputs["proposals"], proposals.numpy(), atol=1e-4)
        np.testing.assert_allclose(outputs["scores"], scores.numpy(), atol=1e-4)


def test_onnx_encoder_equals_torch_for_any_number_of_images(released_file, tmp_path):
    encoder = import_released(released_file, reference_layout="released").encoder
    path, axes = tmp_path / "encoder.onnx", {"images": {0: "N"}, "features": {0: "N"}}
    example = [torch.zeros(4, 3, 48, 64)]
    network = exported(encoder, example, path, ["images"], ["features"], dynamic_axes=axes)
    for count in (1, 6):
        images = torch.randn(count, 3, 48, 64)
        features = network.run({"images": images.numpy()})["features"]
        np.testing.assert_allclose(features, encoder(images).numpy(), atol=1e-4)


def test_weights_stored_in_half_make_half_a_file(released_file, tmp_path):
    files, features = {}, {}
    images = torch.randn(2, 3, 48, 64)
    for name in ("single", "half"):
        encoder = import_released(released_file, reference_layout="released").encoder
        if name == "half":
            store_in_half(encoder)
        path = files[name] = tmp_path / f"{name}.onnx"
        network = exported(encoder, [images], path, ["images"], ["features"],
                           do_constant_folding=False)  # fmt: skip
        features[name] = network.run({"images": images.numpy()})["features"]
        np.testing.assert_allclose(features[name], encoder(images).numpy(), atol=1e-4)
    # Rounded weights are not the same weights, but nearly: half precision has 11 bits.
    error = np.abs(features["half"] - features["single"]).max()
    assert 0.0 < error < 0.01 * np.abs(features["single"]).max()
    saved = files["single"].stat().st_size - files["half"].stat().st_size
    matrices = sum(x.numel() for x in encoder.parameters() if x.dtype == torch.half)
    assert saved == pytest.approx(2 * matrices, rel=0.05)


def test_full_size_names_and_shapes(tmp_path, monkeypatch):
    # Tensors without values: the file takes kilobytes instead of gigabytes.
    monkeypatch.setattr(torch, "equal", lambda a, b: a.shape == b.shape)
    sizes = Sizes()
    shapes = planner_shapes(sizes) | encoder_shapes(sizes) | training_shapes(sizes)
    state = {PREFIX + name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
    path = tmp_path / "full.ckpt"
    torch.save(checkpoint(state), path)
    model = import_released(path, reference_layout="released")
    assert set(model.left_out) == set(training_shapes(sizes))
    shape = model.planner.shape
    assert (shape.width, shape.proposals, shape.poses, shape.passes) == (1280, 64, 10, 4)
    # The paper counts 888 million, with the scorer's heads that only training uses.
    heads = sum(np.prod(shapes[name]) for name in model.left_out if name.startswith("scorer."))
    parts = (model.encoder, model.planner)
    kept = sum(tensor.numel() for part in parts for tensor in part.parameters())
    assert (kept + heads) / 1e6 == pytest.approx(888, abs=0.5)


def test_training_only_tensors_may_be_absent(state, tmp_path):
    kept = {name: x for name, x in state.items() if "domain_classifier" not in name}
    torch.save(checkpoint(kept), tmp_path / "rap.ckpt")
    model = import_released(tmp_path / "rap.ckpt", reference_layout="released")
    assert set(model.left_out) == {n for n in training_shapes(SMALL) if "domain_class" not in n}


SCORE = f"{PREFIX}scorer.pred_score.mlp.3.weight"
REPEAT = f"{PREFIX}_trajectory_head.1.Bev_refiner.bev_decoder.layers.0.norms.1.weight"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({SCORE: None}, "no tensor scorer.pred_score.mlp.3.weight"),
        ({f"{PREFIX}hist_encoding.weight": None}, "no tensor hist_encoding.weight"),
        ({REPEAT: None}, "no tensor _trajectory_head.1.Bev_refiner.bev_decoder"),
        ({SCORE: torch.zeros(24, 25)}, r"scorer.pred_score.mlp.3.weight has shape \(24, 25\), "
         r"expected \(24, 24\)"),
        ({f"{PREFIX}hist_encoding.weight": torch.zeros(12, 11)}, "12 rows, expected a multiple"),
        ({REPEAT: torch.zeros(16)}, "the passes do not share one refiner, see _trajectory_head.1."),
        ({f"{PREFIX}{letter}": torch.zeros(1) for letter in "dbace"},
         "unknown tensor a, b, c and 2 more"),
    ],
)  # fmt: skip
def test_wrong_tensors_are_named(state, tmp_path, change, message):
    changed = {name: x for name, x in (state | change).items() if x is not None}
    path = tmp_path / "wrong.ckpt"
    torch.save(checkpoint(changed), path)
    with pytest.raises(ReleasedWeightsError, match=message) as caught:
        import_released(path, reference_layout="released")
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


class Printer:
    def __reduce__(self):
        return print, ("code from a checkpoint ran",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"state_dict": {}, "hyper_parameters": Printer()}, "without running code from it"),
        ({"epoch": 3}, "no state_dict of tensors"),
        ({"state_dict": {"a": 1.0}}, "no state_dict of tensors"),
        ({"state_dict": {1: torch.zeros(1)}}, "no state_dict of tensors"),
        ([torch.zeros(1)], "no state_dict of tensors"),
    ],
)
def test_other_files_are_refused(tmp_path, capsys, content, message):
    path = tmp_path / "other.ckpt"
    torch.save(content, path)
    with pytest.raises(ReleasedWeightsError, match=message) as caught:
        import_released(path, reference_layout="released")
    assert "\n" not in str(caught.value)
    assert "ran" not in capsys.readouterr().out


def test_unreadable_files_are_refused(tmp_path):
    path = tmp_path / "absent.ckpt"
    with pytest.raises(ReleasedWeightsError, match="cannot be read: No such file"):
        import_released(path, reference_layout="released")
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(ReleasedWeightsError, match="not a torch checkpoint"):
        import_released(path, reference_layout="released")


def test_absent_transformers_are_named(released_file, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ReleasedWeightsError, match="needs the package transformers"):
        import_released(released_file, reference_layout="released")


def test_a_released_checkpoint_becomes_a_bundle_that_plans(released_file, tmp_path):
    # The command, then the vehicle's own code on what it wrote.
    app(["export-released", str(released_file), "--out", str(tmp_path)], standalone_mode=False)
    bundle = load_bundle(tmp_path)
    manifest = bundle.manifest
    assert [camera.name for camera in manifest.cameras] == [
        "back", "front", "front_left", "front_right",
    ]  # fmt: skip
    assert (manifest.proposals, manifest.horizon_steps) == (SMALL.proposals, SMALL.poses)
    ego = EgoState(0, 0.0, 0.0, 0.0, 0.0, 5.0, 0.0, 0.0)
    history = history_rows(ego, [ego] * manifest.history.steps)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (4, 448, 768, 3), dtype=np.uint8)
    driver = BundleDriver(bundle, patience_s=math.inf)
    found = driver.candidates(
        Seen.all_of(images, FeatureSource.CAMERA, driver.rig), ego, history, NO_GUIDANCE
    )
    model = import_released(released_file, reference_layout="released")
    features = model.encoder(normalize(torch.from_numpy(images)).contiguous())[None]
    projections = np.stack([camera.image_from_ego() for camera in RELEASED_RIG])
    poses, scores = model.planner(
        features,
        torch.ones(1, 4),
        torch.from_numpy(projections).float()[None],
        torch.from_numpy(history)[None],
        torch.eye(4)[3:],
    )
    np.testing.assert_allclose(found.poses_m, poses[0].numpy(), atol=1e-3)
    np.testing.assert_allclose(found.scores, scores[0].numpy(), atol=1e-3)
