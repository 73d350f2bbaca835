"""Planners by name, and the default bundle as a planner with both of its sensors."""

from __future__ import annotations

import importlib.util
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rap_evaluation.closed_loop.ego import Ego
from rap_evaluation.closed_loop.place import open_place
from rap_evaluation.closed_loop.routes import draw_routes
from rap_evaluation.closed_loop.world import running_world
from rap_evaluation.planners.choice import PlannerChoiceError, planner_maker
from rap_evaluation.planners.observation import Observation, checked_plan
from rap_evaluation.traffic.network import default_cache
from rap_evaluation.traffic.towns import town_path
from rap_inference.bundle import BundleError
from rap_raster.ego_history import EgoHistory
from rap_raster.frames import to_local

BUNDLE = Path(__file__).parents[3] / "models" / "default"
SPEED_MPS = 5.0

needs_bundle = pytest.mark.skipif(
    not (BUNDLE / "bundle.yaml").is_file(), reason="models/default is not there: run make bundle"
)
needs_town = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("libsumo", "sumo", "py123d")),
    reason="SUMO or the towns are not installed: run make setup",
)


@pytest.fixture(scope="module")
def place():
    return open_place(town_path("Town02"), default_cache())


@pytest.fixture(scope="module")
def observations(place):
    """Two moments half a second apart on a route that is driven along its line."""
    (route,) = draw_routes(place, 1, seed=0)
    ego, history, seen = Ego(route.at(route.start_m), SPEED_MPS, place.ground), EgoHistory(), []
    history.add(ego.ego_state)
    line = [route.at(route.start_m + SPEED_MPS * 0.1 * k)[[0, 1, 3]] for k in range(1, 51)]
    ego.follow(np.array(line), 0.1)
    with running_world(place, route, 10.0) as world:
        for step in range(1, 11):
            ego.advance()
            history.add(ego.ego_state)
            world.step(ego.ego_state.pose)
            if step % 5 == 0:
                around, past = world.surroundings(), deepcopy(history)
                along_m = route.start_m + SPEED_MPS * 0.1 * step
                seen.append(Observation(ego.ego_state, ego.state, past, around, route, along_m))
    return seen


@pytest.fixture(scope="module")
def planners(place):
    return {
        sensor: planner_maker(str(BUNDLE), sensor)(place.map) for sensor in ("raster", "camera")
    }


@needs_bundle
@needs_town
@pytest.mark.parametrize("sensor", ["raster", "camera"])
def test_the_default_bundle_plans_ahead_with_either_sensor(planners, observations, sensor):
    for observation in observations:
        plan = checked_plan(planners[sensor], observation)
        local = to_local(observation.ego.planar, plan.poses_m)
        assert (np.diff(local[:, 0]) > -0.5).all()
        # Nobody at 5 m/s gets farther in that time, even accelerating at 3 m/s2 all along.
        times_s = plan.dt_s * np.arange(1, len(local) + 1)
        assert (np.hypot(*local[:, :2].T) < SPEED_MPS * times_s + 1.5 * times_s**2 + 1.0).all()


@needs_bundle
@needs_town
def test_the_sensors_show_different_pictures_of_the_same_cameras(planners, observations):
    raster, camera = (planners[sensor].plan(observations[0]).images for sensor in planners)
    assert list(raster) == list(camera)
    for name, picture in raster.items():
        assert picture.shape == camera[name].shape
        assert picture.dtype == camera[name].dtype == np.uint8
        assert len(np.unique(camera[name].reshape(-1, 3), axis=0)) > 100
        assert (picture != camera[name]).any(axis=-1).mean() > 0.5


@needs_bundle
@needs_town
@pytest.mark.parametrize("sensor", ["raster", "camera"])
def test_the_same_observation_gives_the_same_plan(place, planners, observations, sensor):
    once = planners[sensor].plan(observations[1])
    again = planner_maker(str(BUNDLE), sensor)(place.map).plan(observations[1])
    np.testing.assert_array_equal(once.poses_m, again.poses_m)
    for name, picture in once.images.items():
        np.testing.assert_array_equal(picture, again.images[name])


@needs_bundle
@needs_town
def test_another_seed_gives_another_camera_picture_and_the_same_raster(planners, observations):
    observation = observations[0]
    other = replace(observation, road=replace(observation.road, seed=observation.road.seed + 1))
    same = {}
    for sensor, planner in planners.items():
        before, after = planner.plan(observation).images, planner.plan(other).images
        same[sensor] = [np.array_equal(before[name], after[name]) for name in before]
    assert all(same["raster"])
    assert not any(same["camera"])


@pytest.mark.parametrize(
    ("name", "sensor", "message"),
    [
        (
            "nobody",
            "raster",
            "planner: expected constant-velocity, pdm-closed or a bundle folder, got 'nobody'",
        ),
        ("constant-velocity", "lidar", "sensor: expected one of raster, camera, got 'lidar'"),
    ],
)
def test_wrong_names_are_told(name, sensor, message):
    with pytest.raises(PlannerChoiceError, match=f"^{message}$"):
        planner_maker(name, sensor)


def test_a_folder_without_a_bundle_is_told_before_any_map_is_loaded(tmp_path):
    with pytest.raises(BundleError, match=r"bundle\.yaml"):
        planner_maker(str(tmp_path), "raster")
