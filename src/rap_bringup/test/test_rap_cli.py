from __future__ import annotations

import pytest
from typer.testing import CliRunner

from rap_bringup.bag_reader import open_bag
from rap_bringup.cli import app
from rap_bringup.processes import ProcessError

run = CliRunner().invoke


COMMANDS = ("replay", "demo", "report", "warmup", "run", "build-engine", "params")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_shows_an_example(command):
    result = run(app, [command, "--help"])
    assert result.exit_code == 0
    assert f"Example: rap {command}" in result.output


def test_bag_lists_the_readers_that_exist():
    result = run(app, ["bag", "--help"])
    for reader in ("nuscenes", "argoverse2", "commonroad", "dgp", "ros2"):
        assert reader in result.output


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["bag", "nuscenes", "none.npz", "--out", "bag"], "none.npz: not a scene file"),
        (["bag", "dgp", "none", "--out", "bag"], "none: not a DGP folder"),
        (["bag", "argoverse2", "none", "--out", "bag"], "none: not an Argoverse 2 log folder"),
        (["bag", "commonroad", "none.xml", "--out", "bag"], "none.xml: cannot be read"),
        (["replay", "x", "--out", "bag", "--bundle", "none"], "none/bundle.yaml: cannot be read"),
        (["replay", "bag", "--out", "bag"], "bag: is the bag itself"),
        (["report", "none", "--out", "bag"], "none: not a rosbag2 folder"),
        (["warmup", "--bundle", "none"], "none/bundle.yaml: cannot be read"),
        (["run", "--params-file", "none"], "none: cannot be read"),
        (["build-engine", "--bundle", "none"], "none/bundle.yaml: cannot be read"),
        (["build-engine", "--backend", "cpu"], "inference backend cpu: expected one of tensorrt,"),
    ],
)
def test_errors_are_one_line_and_a_failure(tmp_path, monkeypatch, arguments, text):
    monkeypatch.chdir(tmp_path)
    result = run(app, arguments)
    assert result.exit_code == 1
    assert result.stderr.startswith(f"rap: {text}")
    assert result.stderr.count("\n") == 1
    assert result.stdout == ""
    assert not (tmp_path / "bag").exists()


def test_run_passes_ros_arguments_on_and_refuses_other_words_it_does_not_know():
    result = run(app, ["run", "--respwan"])
    assert result.exit_code == 2
    assert "--respwan: unknown; ROS arguments follow --ros-args" in result.output


def started_with(monkeypatch, *arguments):
    """Returns the processes that `rap run` starts, each with its arguments."""
    started = {}

    class NoSupervisor:
        def __init__(self, starters, report, *, respawn):
            started.update({name: starter.args[2] for name, starter in starters.items()})
            raise ProcessError("not in this test")

    monkeypatch.setattr("rap_bringup.graph_runner.Supervisor", NoSupervisor)
    result = run(app, ["run", *map(str, arguments)])
    assert result.stderr == "rap: not in this test\n"
    return started


def test_options_behind_ros_args_are_for_the_nodes_and_win_over_the_file(monkeypatch, tmp_path):
    over = tmp_path / "over.yaml"
    over.write_text("/**/guard_node: {ros__parameters: {mode: active}}\n")
    started = started_with(monkeypatch, "--ros-args", "--params-file", over, "-p", "a:=1")
    assert set(started) == {"drive process", "guard process"}
    for arguments in started.values():
        assert arguments[:2] == ["--ros-args", "--params-file"]
        assert arguments[2].endswith("config/rap.param.yaml")
        assert arguments[3:] == ["--params-file", str(over), "-p", "a:=1"]


@pytest.mark.parametrize("how", ["argument", "file"])
def test_a_map_given_behind_ros_args_has_its_node(monkeypatch, tmp_path, how):
    over = tmp_path / "over.yaml"
    over.write_text("/**/map_node: {ros__parameters: {map.path: town.xodr}}\n")
    given = ["-p", "map_node:map.path:=town.xodr"] if how == "argument" else ["--params-file", over]
    assert "map node" in started_with(monkeypatch, "--ros-args", *given)


@pytest.mark.data
def test_a_scene_becomes_a_bag_with_its_licence_in_it(real_data, tmp_path):
    source = real_data / "nuscenes" / "scenes" / "scene-1100.npz"
    result = run(app, ["bag", "nuscenes", str(source), "--out", str(tmp_path / "bag")])
    assert result.exit_code == 0, result.stderr
    assert "CC BY-NC-SA" in result.stdout
    assert "CC BY-NC-SA" in (tmp_path / "bag" / "metadata.yaml").read_text()
    assert {"objects", "odometry", "rap/map", "route"} == set(open_bag(tmp_path / "bag").topics)
    again = run(app, ["bag", "nuscenes", str(source), "--out", str(tmp_path / "bag")])
    assert again.exit_code == 1
    assert "not an empty folder" in again.stderr
