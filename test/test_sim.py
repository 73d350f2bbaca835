"""The closed loop through the graph as real processes, against the same drive offline."""

from __future__ import annotations

import importlib.util
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import rclpy
from graph_probe import DOMAIN_ID, ROOT, Probe, environment
from nav_msgs.msg import Odometry
from nav_msgs.msg import Path as PathMsg
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock

from rap_evaluation.closed_loop.evaluation import ClosedLoopOptions, evaluate_closed_loop
from rap_evaluation.ros.sim_node import SimNode
from rap_evaluation.sim_commands import comparison
from rap_evaluation.traffic.network import default_cache
from rap_evaluation.traffic.towns import map_path
from rap_raster.ros.conversions import stamp_ns
from rap_raster.ros.qos import LATCHED

pytestmark = [
    pytest.mark.ros,
    pytest.mark.slow,
    pytest.mark.skipif(
        any(importlib.util.find_spec(name) is None for name in ("libsumo", "sumo", "py123d")),
        reason="SUMO or the towns are not installed: run make setup",
    ),
]
TOWN, SEED = "Town02", 4
"""A route that soon bends: the tiny planner, which drives straight on, leaves it after 12 s."""

TIMEOUT_S = 300.0

EVERYTHING = QoSProfile(depth=10_000, reliability=ReliabilityPolicy.RELIABLE)
"""Simulated time runs as fast as it can: the test itself must lose nothing."""


@contextmanager
def sim(bundle: Path, out: Path) -> Iterator[subprocess.Popen]:
    options = ["--map", TOWN, "--routes", "1", "--seed", str(SEED), "--bundle", str(bundle)]
    options += ["--domain-id", str(DOMAIN_ID)]
    options += ["--checks", "shadow"]  # The tiny planner drives on where the guard would stop it.
    process = subprocess.Popen(
        [sys.executable, "-m", "rap_evaluation.cli", "sim", *options, "--out", str(out)],
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        process.communicate(timeout=TIMEOUT_S)


def spin_until(probe: Probe, condition) -> None:
    deadline_s = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < deadline_s, "timeout"
        probe.spin(0.1)


def running_nodes(out: Path) -> list[str]:
    commands = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            commands.append(path.read_text())
        except OSError:  # It has just ended.
            continue
    return [command for command in commands if str(out / "params.yaml") in command]


def test_a_drive_through_the_graph_is_the_drive_of_the_offline_closed_loop(tiny_bundle, tmp_path):
    out = tmp_path / "graph"
    with Probe() as probe, sim(tiny_bundle, out) as process:
        clock = probe.watch(Clock, "/clock", EVERYTHING)
        odometry = probe.watch(Odometry, "odometry", EVERYTHING)
        routes = probe.watch(PathMsg, "route", LATCHED)
        trajectories = probe.watch(PathMsg, "rap/trajectory", EVERYTHING)
        spin_until(probe, lambda: process.poll() is not None)
        printed, errors = process.communicate()
    assert process.returncode == 0, errors
    assert "route 1 of 1" in errors
    assert json.loads(printed)["real_time_factor"] > 0.0

    times = [stamp_ns(message.clock) for message in clock]
    assert times == sorted(times)
    stamps = np.array([stamp_ns(message.header.stamp) for message in odometry])
    assert np.all(np.diff(stamps) == 100_000_000)
    answered = {stamp_ns(message.header.stamp) for message in trajectories}
    assert set(stamps[:-1:5].tolist()) <= answered
    assert len(routes) == 1
    line = np.array([(p.pose.position.x, p.pose.position.y) for p in routes[0].poses])
    places = np.array([(m.pose.pose.position.x, m.pose.pose.position.y) for m in odometry])
    nearest = np.hypot(*(places[:, None] - line[None]).transpose(2, 0, 1)).argmin(axis=1)
    assert np.all(np.diff(nearest[:50]) >= 0)
    assert 0.5 * (nearest[50] - nearest[0]) > 20.0, "metres in 5 s at 5 m/s"

    graph = json.loads((out / "report.json").read_text())
    assert graph["graph"] == {
        "instants": len(stamps[::5]),
        "unplanned": 0,
        "not_followed": 0,
        "missed_cycles": 0,
    }
    options = ClosedLoopOptions(
        planner=str(tiny_bundle),
        sensor="raster",
        map_path=map_path(TOWN).resolve(),
        cache=default_cache(),
        out=tmp_path / "offline",
        routes=1,
        seed=SEED,
        replan_hz=2,
    )
    offline = evaluate_closed_loop(options)
    (ours,), (theirs,) = graph["per_route"], offline["per_route"]
    assert ours["status"] == theirs["status"] == "Failed - more than 30 m from the route"
    assert ours["events"] == theirs["events"]
    for name in ("driving_score", "completion", "seconds", "mean_speed_mps"):
        assert ours[name] == pytest.approx(theirs[name], abs=1e-3), name
    assert graph["guarded"] is False, "its guard stopped nothing"
    assert comparison(offline, graph).splitlines()[-1].split() == ["mean", "+0.00"]
    with pytest.raises(ValueError, match="against: seed is 5, here 4"):
        comparison({**offline, "seed": 5}, graph)
    with pytest.raises(ValueError, match="guarded"):
        comparison({**offline, "guarded": True}, graph)


def test_ctrl_c_ends_simulation_and_graph(tiny_bundle, tmp_path):
    with Probe() as probe, sim(tiny_bundle, tmp_path) as process:
        odometry = probe.watch(Odometry, "odometry", EVERYTHING)
        spin_until(probe, lambda: odometry or process.poll() is not None)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 1
    assert errors.splitlines()[-1] == "rap-evaluate: interrupted, the report is not there"
    logs = [log.read_text() for log in tmp_path.glob("*.log")]
    assert len(logs) == 3
    assert "Traceback" not in errors + "".join(logs)
    assert not (tmp_path / "report.json").exists()
    assert running_nodes(tmp_path) == []


@contextmanager
def sim_node(out: Path) -> Iterator[SimNode]:
    rclpy.init(domain_id=DOMAIN_ID)
    values = {"map.path": TOWN, "out": str(out), "seed": SEED}
    node = SimNode(overrides=[Parameter(name, value=value) for name, value in values.items()])
    try:
        yield node
    finally:
        node.destroy_node()
        rclpy.try_shutdown()


def drives() -> int:
    return sum(thread.name == "simulation" for thread in threading.enumerate())


def test_a_drive_ends_with_the_activation_that_began_it(tmp_path):
    with sim_node(tmp_path) as node:
        for _ in range(2):
            assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS
            for _ in range(2):
                assert node.trigger_activate() == TransitionCallbackReturn.SUCCESS
                assert drives() == 1
                assert node.trigger_deactivate() == TransitionCallbackReturn.SUCCESS
                assert drives() == 0
            assert node.trigger_cleanup() == TransitionCallbackReturn.SUCCESS
        assert not list(node.subscriptions)
        node.trigger_configure()
        node.trigger_activate()
        assert node.trigger_shutdown() == TransitionCallbackReturn.SUCCESS
        assert drives() == 0
