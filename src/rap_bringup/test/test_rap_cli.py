from __future__ import annotations

import pytest
from typer.testing import CliRunner

from rap_bringup.bag_reader import open_bag
from rap_bringup.cli import app

run = CliRunner().invoke


COMMANDS = ("replay", "demo", "report", "warmup", "run", "build-engine", "params")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_shows_an_example(command):
    result = run(app, [command, "--help"])
    assert result.exit_code == 0
    assert f"Example: rap {command}" in result.output


def test_bag_lists_the_readers_that_exist():
    result = run(app, ["bag", "--help"])
    for reader in ("nuscenes", "argoverse2", "commonroad", "dgp"):
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
