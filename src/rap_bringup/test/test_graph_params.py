"""Parameters of a replay, and the processes they are given to."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import yaml

from rap_bringup.bag_reader import open_bag
from rap_bringup.bags import BagError, write_bag
from rap_bringup.graph_params import (
    MAP,
    load_params,
    replay_params,
    sections_of,
    slots_of_bag,
    write_params,
)
from rap_bringup.processes import (
    MALLOC,
    NodeProcess,
    ProcessError,
    free_domain,
    graph_environment,
    start,
    stop_all,
    telling_line,
)
from rap_bringup.replay import due_steps
from rap_perception.rig import ego_from_camera_values


@pytest.fixture(scope="module")
def bag(drive, tmp_path_factory):
    path = tmp_path_factory.mktemp("params") / "bag"
    write_bag(drive, path)
    return open_bag(path)


@pytest.mark.parametrize(
    ("key", "is_named"),
    [
        ("/**/map_node", True),
        ("/*/map_node", True),
        ("/vehicle/map_node", True),
        ("/map_node", True),
        ("map_node", True),
        ("/**/remap_node", False),
        ("/map_node/other", False),
        ("/**", False),
    ],
)
def test_a_node_is_named_by_the_last_part_of_a_key(key, is_named):
    section = {"map.path": "town.osm"}
    assert sections_of({"/**/guard_node": {}, key: section}, MAP) == [section] * is_named


def test_cameras_feed_the_slots_they_look_like_front_first(bag, bundle):
    assert slots_of_bag(bag, bundle) == {
        "front": "front",
        "front_left": "front_left",
        "front_right": "front_right",
    }


def test_parameter_file_holds_the_extrinsics_of_the_bag_and_no_aliases(bag, bundle, tmp_path):
    """rcl's parser knows no YAML aliases, so a shared list must be written twice."""
    path = tmp_path / "params.yaml"
    write_params(replay_params(bag, bundle, slots_of_bag(bag, bundle)), path)
    assert "*" not in path.read_text().replace("/**", "")
    nodes = {name: s["ros__parameters"] for name, s in yaml.safe_load(path.read_text()).items()}
    perception = nodes["/**/perception_node"]
    assert perception["cameras.names"] == ["front", "front_left", "front_right"]
    assert perception["sync.anchor"] == "front"
    assert perception["cameras.compressed"] is True
    for camera in bag.cameras.values():
        values = perception[f"cameras.extrinsics.{camera.name}"]
        pose = ego_from_camera_values(camera.name, values)
        np.testing.assert_allclose(pose, camera.model.ego_from_camera, atol=1e-9)
    assert nodes["/**/raster_node"]["cameras.names"] == perception["cameras.names"]
    assert nodes["/**/guard_node"]["mode"] == "active"
    assert nodes["/**"]["use_sim_time"] is True


def test_the_guard_of_a_vehicle_judges_a_replay_and_nothing_else_of_its_file_counts(
    bag, bundle, tmp_path
):
    path = tmp_path / "vehicle.param.yaml"
    judging = {"vehicle.length_m": 5.2, "checks.collision": "shadow", "hold_s": 0.2}
    elsewhere = {"mode": "shadow", "frames.base": "base_footprint", "autoware_trajectory": "on"}
    qos = {"qos_overrides./localization/odometry.subscription.reliability": "reliable"}
    said = judging | elsewhere | qos
    sections = {"/car/guard_node": said, "/car/planner_node": {"patience_s": 1.0}}
    path.write_text(yaml.safe_dump({name: {"ros__parameters": s} for name, s in sections.items()}))
    shipped, own = (replay_params(bag, bundle, {}, file) for file in (None, path))
    assert shipped["/**/guard_node"]["vehicle.max_steering_rad"] == 1.05
    # What it does not say is the node's default, as on the vehicle.
    assert own == shipped | {"/**/guard_node": judging | {"mode": "active"}}
    del sections["/car/guard_node"]
    path.write_text(yaml.safe_dump({name: {"ros__parameters": s} for name, s in sections.items()}))
    with pytest.raises(ValueError, match="has no section of guard_node"):
        replay_params(bag, bundle, {}, path)


def test_without_cameras_no_camera_is_configured(drive, bundle, tmp_path):
    write_bag(replace(drive, cameras=()), tmp_path / "bag")
    bag = open_bag(tmp_path / "bag")
    assert slots_of_bag(bag, bundle) == {}
    params = replay_params(bag, bundle, {})
    assert params["/**/perception_node"]["cameras.names"] == [""]


def test_steps_are_the_objects_the_raster_node_steps_on(drive, bundle, tmp_path):
    """Objects at 20 Hz: the node computes at most 10 steps a second, so half of them are due."""
    first = drive.objects[0]
    objects = tuple(
        replace(first, stamp_ns=first.stamp_ns + step * 50_000_000) for step in range(10)
    )
    write_bag(replace(drive, cameras=(), objects=objects), tmp_path / "bag")
    bag = open_bag(tmp_path / "bag")
    due = due_steps(bag, None, replay_params(bag, bundle, {}))
    assert due == [step.stamp_ns for step in objects[::2]]


def test_a_bag_whose_cameras_all_look_back_is_refused(drive, bundle, tmp_path):
    back = np.diag([-1.0, -1.0, 1.0, 1.0])
    camera = drive.cameras[0]
    model = replace(camera.model, ego_from_camera=back @ camera.model.ego_from_camera)
    write_bag(replace(drive, cameras=(replace(camera, model=model),)), tmp_path / "bag")
    with pytest.raises(BagError, match=r"no camera of .* looks in the direction of a slot"):
        slots_of_bag(open_bag(tmp_path / "bag"), bundle)


@pytest.mark.parametrize("text", ["", "just text", "a: {b: 1}", "[1, 2", "- 1"])
def test_malformed_parameter_files_are_one_line(tmp_path, text):
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"params\.yaml: ") as caught:
        load_params(path)
    assert "\n" not in str(caught.value)


def test_processes_get_the_transport_profile_and_the_malloc_variables(monkeypatch):
    monkeypatch.delenv("FASTRTPS_DEFAULT_PROFILES_FILE", raising=False)
    environment = graph_environment(17)
    assert environment["ROS_DOMAIN_ID"] == "17"
    assert environment["FASTRTPS_DEFAULT_PROFILES_FILE"].endswith("config/fastdds_shm.xml")
    assert MALLOC.items() <= environment.items()


def test_a_free_domain_is_never_that_of_this_shell(monkeypatch):
    """A vehicle may be listening there."""
    monkeypatch.delenv("ROS_DOMAIN_ID", raising=False)
    chosen = free_domain()
    assert 1 <= chosen <= 101
    monkeypatch.setenv("ROS_DOMAIN_ID", str(chosen))
    assert free_domain() not in (chosen, 0)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["[INFO] fine", "[ERROR] no bundle", "bye"], "[ERROR] no bundle"),
        (["[ERROR] rcl said", "graph: real reason"], "[ERROR] rcl said"),
        (["Traceback", "  File x", "ValueError: bad", ""], "ValueError: bad"),
        (["only this"], "only this"),
        ([], "it wrote nothing"),
    ],
)
def test_the_line_that_tells_the_reason_is_found(lines, expected):
    assert telling_line(lines) == expected


def test_a_dead_process_is_reported_with_its_own_words(tmp_path, monkeypatch):
    (tmp_path / "broken_node.py").write_text("raise SystemExit('broken_node: no such bundle')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    child = start("drive process", "broken_node", [], dict(os.environ), tmp_path / "log")
    child.process.wait()
    with pytest.raises(ProcessError, match="drive process ended with status 1: broken_node: no su"):
        child.check()


def test_children_are_asked_to_end_before_they_are_killed(tmp_path):
    code = (
        "import signal, sys, threading\n"
        "done = threading.Event()\n"
        "signal.signal(signal.SIGINT, lambda *_: done.set())\n"
        "print('up', flush=True)\n"
        "done.wait()\n"
        "sys.exit(0)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"up\n"
    stop_all([NodeProcess("node", process)])
    assert process.returncode == 0
    process.stdout.close()
