"""`rap run` as a process: what the launch files do, where there is no launch system."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import yaml
from graph_probe import ROOT, RUN_END_S, Probe, children, rap_run
from nav_msgs.msg import Path as PathMsg
from rap_msgs.msg import GuardState

from rap_raster.ros.conversions import stamp_ns

pytestmark = pytest.mark.ros


@pytest.fixture
def params_file(tiny_bundle, tmp_path):
    """The shipped parameters with the tiny bundle."""
    params = yaml.safe_load((ROOT / "config" / "rap.param.yaml").read_text())
    for section in params.values():
        if "bundle.path" in section["ros__parameters"]:
            section["ros__parameters"]["bundle.path"] = str(tiny_bundle)
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(params))
    return path


def cpu_s(process: int) -> float:
    """Processor time of a process. Source: proc(5), fields 14 and 15 of stat."""
    stat = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")


def test_a_killed_guard_is_back_in_waiting_within_three_seconds_and_the_graph_ends_cleanly(
    params_file,
):
    """Judged on the processor time that the new guard takes until it speaks: on a machine with
    cores to spare that is how long it takes, and what other programs do here does not count."""
    guard = "rap_planner.ros.guard_node"
    remap = ["--ros-args", "-r", "__ns:=/vehicle"]
    with Probe("/vehicle") as probe, rap_run("--params-file", params_file, *remap) as graph:
        states = probe.watch(GuardState, "rap/state")
        paths = probe.watch(PathMsg, "rap/shadow/trajectory")
        probe.drive_until(lambda: len(states) > 3, timeout_s=60.0)
        killed = children(graph.pid)[guard]
        os.kill(killed, signal.SIGKILL)
        killed_ns = probe.node.get_clock().now().nanoseconds
        while children(graph.pid).get(guard) in (None, killed):
            probe.spin(0.02)

        def new(messages: list) -> list:
            """Of the new guard: what the killed one sent may still be on its way."""
            return [m for m in messages if stamp_ns(m.header.stamp) > killed_ns]

        probe.drive_until(
            lambda: len(new(states)) > 0 and len(new(paths)) > 0, period_s=0.02, timeout_s=60.0
        )
        assert new(states)[0].state == GuardState.WAITING
        assert len(new(paths)[0].poses) == 1  # where to stand
        assert cpu_s(children(graph.pid)[guard]) < 2.0  # of 3 s; discovery takes the rest
        graph.send_signal(signal.SIGINT)
        _, errors = graph.communicate(timeout=RUN_END_S)
    assert graph.returncode == 0, errors
    line = "rap: guard process was killed by SIGKILL; starting it again now"
    assert errors.splitlines().count(line) == 1, errors
    assert "Traceback" not in errors


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_while_the_nodes_start_is_held_and_obeyed(params_file, number):
    """SIGHUP is a terminal that closes: nodes must not drive on without anybody who ends them."""
    with rap_run("--params-file", params_file) as graph:
        while not (nodes := children(graph.pid)):  # interpreters before their first line
            assert graph.poll() is None
        graph.send_signal(number)
        _, errors = graph.communicate(timeout=RUN_END_S)
    assert not [pid for pid in nodes.values() if Path(f"/proc/{pid}").exists()]
    assert graph.returncode == 0, errors
    assert "Traceback" not in errors


def test_a_bundle_that_is_not_there_ends_everything_with_the_reason_as_last_line(params_file):
    params_file.write_text(params_file.read_text().replace("bundle.path: /", "bundle.path: /no/"))
    with rap_run("--params-file", params_file) as graph:
        _, errors = graph.communicate(timeout=60.0)
        left = children(graph.pid)
    assert graph.returncode == 1
    last = errors.splitlines()[-1]
    assert last.startswith("rap: drive process ended with status 1: ")
    assert "bundle.yaml: cannot be read: " in last
    assert left == {}
    assert "starting it again" not in errors
