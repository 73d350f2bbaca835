"""What the planner hands to its network, and what it makes of the answer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rap_inference.bundle import RouteInput, load_bundle
from rap_planner.planner import Planner, PlannerError
from rap_planner.route import NO_GUIDANCE, Command, Guidance, route_ahead
from rap_raster.ego_history import EgoState, history_rows
from rap_raster.encoder import nominal_rig
from rap_raster.features import AlignedFeatures, FeatureSource

BUNDLE = Path(__file__).parents[3] / "models" / "default"
EGO = EgoState(0, 100.0, -50.0, 1.0, 0.4, 6.0, 0.0, 0.0)
ROUTE = np.array([[90.0, -54.0], [130.0, -38.0], [200.0, -10.0]])
SHAPE = RouteInput(points=6, spacing_m=4.0)

pytestmark = pytest.mark.skipif(
    not (BUNDLE / "bundle.yaml").is_file(), reason="models/default is not there: run make bundle"
)


class Recorder:
    """A network that goes straight on, and remembers what it was asked."""

    def __init__(self, manifest) -> None:
        self.asked: list[dict[str, np.ndarray]] = []
        self.proposals = np.zeros((1, manifest.proposals, manifest.horizon_steps, 3), np.float32)
        self.proposals[..., 0] = np.arange(1, manifest.horizon_steps + 1)
        self.scores = -np.arange(manifest.proposals, dtype=np.float32)[None]

    def run(self, inputs):
        self.asked.append(inputs)
        return {"proposals": self.proposals, "scores": self.scores}


def planner_of(route: RouteInput | None) -> tuple[Planner, Recorder]:
    bundle = load_bundle(BUNDLE)
    bundle = replace(bundle, manifest=bundle.manifest.model_copy(update={"route": route}))
    network = Recorder(bundle.manifest)
    return Planner(bundle, network), network


@pytest.fixture(scope="module")
def features():
    bundle = load_bundle(BUNDLE)
    rig, shape = nominal_rig(bundle), bundle.manifest.features
    return AlignedFeatures(
        stamp_ns=7,
        sources=np.full(len(rig), FeatureSource.CAMERA, np.uint8),
        maps=np.zeros((len(rig), shape.channels, shape.height, shape.width), np.float32),
        intrinsics=np.array([(c.fx, c.fy, c.cx, c.cy) for c in rig]),
        ego_from_camera=np.stack([c.ego_from_camera for c in rig]),
        alignment_distance=np.full(len(rig), np.nan, np.float32),
    )


@pytest.fixture(scope="module")
def history():
    return history_rows(EGO, [EGO] * load_bundle(BUNDLE).manifest.history.steps)


def test_a_network_without_a_route_input_is_given_none(features, history):
    planner, network = planner_of(None)
    candidates = planner.plan(features, EGO, history, Guidance.along(ROUTE, EGO.pose))
    assert set(network.asked[0]) == {
        "features", "camera_valid", "image_from_ego", "history", "command"
    }  # fmt: skip
    assert (candidates.command, candidates.command_source) == (Command.STRAIGHT, "route")


def test_a_network_with_a_route_input_is_given_the_route_from_where_the_ego_is(features, history):
    planner, network = planner_of(SHAPE)
    planner.plan(features, EGO, history, Guidance.along(ROUTE, EGO.pose))
    moved = replace(EGO, x_m=EGO.x_m + 5.0)
    planner.plan(features, moved, history, Guidance.along(ROUTE, moved.pose))
    first, second = (asked["route"] for asked in network.asked)
    assert first.shape == (1, 6, 3)
    assert first.dtype == np.float32
    np.testing.assert_array_equal(first[0], route_ahead(ROUTE, EGO.pose, 6, 4.0))
    assert first[0, :, 2].all()
    assert not np.allclose(first, second)


@pytest.mark.parametrize(
    ("guidance", "command"),
    [(Guidance(Command.LEFT, "command"), Command.LEFT), (NO_GUIDANCE, Command.UNKNOWN)],
    ids=["a command alone", "nothing"],
)
def test_without_a_route_its_input_is_all_invalid(features, history, guidance, command):
    planner, network = planner_of(SHAPE)
    candidates = planner.plan(features, EGO, history, guidance)
    assert (network.asked[0]["route"] == 0.0).all()
    assert network.asked[0]["command"][0].tolist() == np.eye(4)[command].tolist()
    assert candidates.command_source == guidance.source


def test_candidates_are_the_proposals_on_the_map(features, history):
    planner, _ = planner_of(SHAPE)
    candidates = planner.plan(features, EGO, history, NO_GUIDANCE)
    end = candidates.poses_m[0, -1]
    reach_m = load_bundle(BUNDLE).manifest.horizon_steps
    expected = [100.0 + reach_m * np.cos(0.4), -50.0 + reach_m * np.sin(0.4), 0.4]
    np.testing.assert_allclose(end, expected, atol=1e-5)
    assert candidates.best == 0


def test_an_answer_that_is_not_finite_or_has_another_shape_is_refused(features, history):
    planner, network = planner_of(SHAPE)
    network.scores = np.full_like(network.scores, np.nan)
    with pytest.raises(PlannerError, match="not finite"):
        planner.plan(features, EGO, history, NO_GUIDANCE)
    network.scores = np.zeros((1, 3), np.float32)
    with pytest.raises(PlannerError, match="expected"):
        planner.plan(features, EGO, history, NO_GUIDANCE)
