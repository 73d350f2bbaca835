"""The tree builds with colcon, as on a vehicle, and installs what belongs there.

ROS comes from the wheels in the environment of this Python.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
VENV = Path(sys.prefix)
PACKAGES = (
    "rap_msgs",
    "rap_inference",
    "rap_raster",
    "rap_perception",
    "rap_planner",
    "rap_bringup",
    "rap_evaluation",
    "rap_training",
)
EXECUTABLES = {
    "rap_raster": ("rap-raster", "raster_node", "map_node"),
    "rap_perception": ("perception_node",),
    "rap_planner": ("planner_node", "guard_node"),
    "rap_bringup": ("rap", "rap_graph"),
    "rap_evaluation": ("rap-evaluate",),
    "rap_training": ("rap-train",),
}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory) -> Path:
    """Copies the tree and builds it with colcon; returns the copy's folder.

    The messages are built in place: what set-up has compiled of them is only installed.
    """
    colcon = VENV / "bin" / "colcon"
    if not colcon.exists():
        pytest.skip(f"{colcon} is missing: make setup installs it")
    folder = tmp_path_factory.mktemp("workspace")
    unwanted = shutil.ignore_patterns("__pycache__", "*.egg-info", "build")
    for name in ("src", "launch", "config", "models", "data", "test"):
        shutil.copytree(ROOT / name, folder / name, ignore=unwanted)
    install = folder / "install"
    messages = ROOT / "src" / "rap_msgs"
    in_place = ("--base-paths", messages, "--build-base", ROOT / "build", "--install-base", install)
    # The folder to install to is another one in every run, which colcon alone does not notice.
    colcon_build(colcon, folder, *in_place, "--cmake-force-configure")
    colcon_build(colcon, folder, "--packages-skip", "rap_msgs")
    return folder


def colcon_build(colcon: Path, folder: Path, *options: str | Path) -> None:
    """Builds what the options choose with the generator and Python of the set-up."""
    environment = os.environ | {
        "AMENT_PREFIX_PATH": str(VENV),
        "CMAKE_PREFIX_PATH": str(VENV),
        "PATH": f"{VENV / 'bin'}{os.pathsep}{os.environ['PATH']}",
    }
    python = f"-DPython3_EXECUTABLE={VENV / 'bin' / 'python'}"
    command = [colcon, "build", "--event-handlers", "console_cohesion+", *options]
    result = subprocess.run(
        [*command, "--cmake-args", "-GNinja", python],
        cwd=folder,
        env=environment,
        check=False,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-4000:]


def run_installed(workspace: Path, script: str) -> subprocess.CompletedProcess[str]:
    """Runs a shell script in the environment that a user of the built workspace sources."""
    sourced = f"source install/setup.bash >/dev/null 2>&1; {script}"
    kept = ("HOME", "LD_LIBRARY_PATH")
    environment = {name: os.environ[name] for name in kept if name in os.environ}
    environment["PATH"] = f"{VENV / 'bin'}{os.pathsep}{os.environ['PATH']}"
    environment["AMENT_PREFIX_PATH"] = str(VENV)
    return subprocess.run(
        ["bash", "-c", sourced],
        cwd=workspace,
        env=environment,
        check=False,
        capture_output=True,
        text=True,
    )


@pytest.mark.slow
@pytest.mark.parametrize("package", PACKAGES)
def test_colcon_installs_the_package_where_ros_looks_for_it(workspace, package):
    prefix = workspace / "install" / package
    assert (prefix / "share" / package / "package.xml").is_file()
    assert (prefix / "share/ament_index/resource_index/packages" / package).is_file()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("package", "name"),
    [(package, name) for package, names in EXECUTABLES.items() for name in names],
)
def test_colcon_installs_the_executable_for_ros2_run(workspace, package, name):
    executable = workspace / "install" / package / "lib" / package / name
    assert os.access(executable, os.X_OK)


@pytest.mark.slow
@pytest.mark.parametrize("folder", ["launch", "config", "models/default", "data/demo_drive"])
def test_colcon_installs_every_file_of_the_top_level_folder(workspace, folder):
    installed = workspace / "install/rap_bringup/share/rap_bringup" / folder
    wanted = {path.relative_to(workspace / folder) for path in (workspace / folder).rglob("*")}
    assert wanted
    assert {path.relative_to(installed) for path in installed.rglob("*")} == wanted


@pytest.mark.slow
def test_installed_messages_pass_through_serialization(workspace):
    script = """python - <<'EOF'
import rap_msgs
from rap_msgs.msg import CameraFrame
from rclpy.serialization import deserialize_message, serialize_message
message = deserialize_message(serialize_message(CameraFrame(width=256)), CameraFrame)
print(rap_msgs.__file__, message.width)
EOF"""
    result = run_installed(workspace, script)
    assert result.returncode == 0, result.stderr
    path, width = result.stdout.split()
    assert path.startswith(str(workspace / "install" / "rap_msgs"))
    assert width == "256"


@pytest.mark.slow
@pytest.mark.parametrize("package", PACKAGES[1:])
def test_installed_package_has_every_file_of_its_source(workspace, package):
    result = run_installed(workspace, f"python -c 'import {package}; print({package}.__file__)'")
    assert result.returncode == 0, result.stderr
    installed = Path(result.stdout.strip()).parent
    assert installed.is_relative_to(workspace / "install")
    source = workspace / "src" / package / package
    wanted = {path.relative_to(source) for path in source.rglob("*") if path.is_file()}
    missing = {path for path in wanted if not (installed / path).exists()}
    assert not missing


@pytest.mark.slow
def test_colcon_registers_the_top_level_tests(workspace):
    registered = (workspace / "build/rap_bringup/CTestTestfile.cmake").read_text()
    assert "integration" in registered
    assert str(workspace / "test") in registered
