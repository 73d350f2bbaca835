"""The packages keep their layers, and what they import is declared for the vehicle."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).resolve().parent.parent

# In the order of the layers: each may import those before it.
PACKAGES = (
    "rap_inference",
    "rap_raster",
    "rap_perception",
    "rap_planner",
    "rap_bringup",
    "rap_evaluation",
    "rap_training",
)
RUNTIME = PACKAGES[:5]
# Import name -> rosdep key, where it is not python3-<name>.
ROSDEP_KEYS = {"cv2": "python3-opencv", "lxml": "python3-lxml"}
# Import name -> name in requirements-vehicle.txt, for what rosdep does not give (new enough).
BY_PIP = {"onnxruntime": "onnxruntime", "pydantic": "pydantic", "rosbags": "rosbags"}
# The stack drives without these. rerun is the demo's viewer and needs numpy 2, which a vehicle's
# distribution does not have; pyarrow reads Argoverse 2 logs for `rap bag`; the others are adapters
# to what a vehicle may bring along.
OPTIONAL = {
    "autoware_perception_msgs",
    "autoware_planning_msgs",
    "derived_object_msgs",
    "pyarrow",
    "rerun",
    "tensorrt",
    "warp",
    "vision_msgs",
}


def modules_of(package: str) -> list[Path]:
    return sorted((ROOT / "src" / package / package).rglob("*.py"))


def imports_of(module: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.split(".")[0]


def ros_packages() -> set[str]:
    index = Path(sys.prefix) / "share" / "ament_index" / "resource_index" / "packages"
    return {entry.name for entry in index.iterdir()}


@pytest.mark.parametrize("package", PACKAGES)
def test_package_imports_only_packages_of_lower_layers(package):
    allowed = {*PACKAGES[: PACKAGES.index(package) + 1], "rap_msgs"}
    for module in modules_of(package):
        ours = {name for name in imports_of(module) if name.startswith("rap_")}
        assert ours <= allowed, f"{module} imports {sorted(ours - allowed)}"


@pytest.mark.parametrize("package", PACKAGES)
def test_ros_is_imported_only_under_the_ros_folder(package):
    ros = (ros_packages() | {"launch", "launch_ros"}) - set(PACKAGES)
    for module in modules_of(package):
        if "ros" in module.relative_to(ROOT / "src" / package / package).parts[:-1]:
            continue
        found = ros & set(imports_of(module))
        assert not found, f"{module} imports {sorted(found)}"


@pytest.mark.parametrize("package", RUNTIME)
def test_no_runtime_package_imports_offline_libraries(package):
    for module in modules_of(package):
        found = {"torch", "onnx", "libsumo", "sumolib", "py123d"} & set(imports_of(module))
        assert not found, f"{module} imports {sorted(found)}"


def dependency_of(name: str) -> str:
    """Names what a package that imports `name` has to declare: a rosdep key or a pip package."""
    if name in BY_PIP:
        return BY_PIP[name]
    if name.startswith("rap_") or name in ros_packages() | {"launch", "launch_ros"}:
        return name
    return ROSDEP_KEYS.get(name, f"python3-{name}")


@pytest.mark.parametrize("package", RUNTIME)
def test_every_import_of_a_runtime_package_is_declared_for_the_vehicle(package):
    xml = ElementTree.parse(ROOT / "src" / package / "package.xml")
    declared = {node.text for tag in ("depend", "exec_depend") for node in xml.iter(tag)}
    lines = (ROOT / "requirements-vehicle.txt").read_text(encoding="utf-8").splitlines()
    declared |= {re.split(r"[<>=\s]", line)[0] for line in lines if line[:1].isalnum()}
    known = {*sys.stdlib_module_names, *OPTIONAL, package}
    imports = {name for module in modules_of(package) for name in imports_of(module)} - known
    assert {dependency_of(name) for name in imports} <= declared


def test_the_guard_loads_nothing_of_the_networks_and_their_files():
    """It is a process of its own that has to be back soon; these take a third of its start."""
    program = "import sys, rap_planner.ros.guard_node; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    assert "rap_planner.guard" in loaded.stdout.split()
    assert not {"rap_inference", "onnxruntime", "pydantic", "numba"} & set(loaded.stdout.split())
