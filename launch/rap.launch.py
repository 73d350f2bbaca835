"""The driving stack: one process that drives, one that guards, and the map if one is given."""

from __future__ import annotations

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, SetEnvironmentVariable
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration, PythonExpression
from launch_ros.actions import Node

SHARE = Path(get_package_share_directory("rap_bringup"))

ARGUMENTS = {
    "namespace": ("", "namespace of all nodes"),
    "params_file": (str(SHARE / "config" / "rap.param.yaml"), "parameters of all nodes"),
    "use_sim_time": ("false", "take the time from /clock"),
    "autostart": ("true", "configure and activate without a lifecycle manager"),
    "log_level": ("info", "debug, info, warn or error"),
    "bundle": (str(SHARE / "models" / "default"), "folder of the model bundle"),
    "mode": ("shadow", "active: publish rap/trajectory; shadow: rap/shadow/trajectory"),
    "map": ("", "OpenDRIVE or Lanelet2 file for the map node; empty: rap/map comes from elsewhere"),
    "fastdds_profile": (str(SHARE / "config" / "fastdds_shm.xml"), "transport settings"),
}

ENVIRONMENT = {
    # Without these, every image costs a page-fault storm (glibc's mmap threshold).
    "MALLOC_MMAP_THRESHOLD_": "1073741824",
    "MALLOC_TRIM_THRESHOLD_": "1073741824",
    "MALLOC_TOP_PAD_": "67108864",
    "FASTRTPS_DEFAULT_PROFILES_FILE": LaunchConfiguration("fastdds_profile"),
}


def generate_launch_description() -> LaunchDescription:
    bundle = {"bundle.path": LaunchConfiguration("bundle")}
    map_path = LaunchConfiguration("map")
    map_given = IfCondition(PythonExpression(["'", map_path, "' != ''"]))
    return LaunchDescription(
        [
            *(
                DeclareLaunchArgument(name, default_value=default, description=description)
                for name, (default, description) in ARGUMENTS.items()
            ),
            *(SetEnvironmentVariable(name, value) for name, value in ENVIRONMENT.items()),
            _process("rap_bringup", "rap_graph", bundle),
            _process("rap_planner", "guard_node", {"mode": LaunchConfiguration("mode")}),
            _process("rap_raster", "map_node", {"map.path": map_path}, condition=map_given),
        ]
    )


def _process(
    package: str,
    executable: str,
    parameters: dict[str, LaunchConfiguration],
    condition: IfCondition | None = None,
) -> Node:
    common = {name: LaunchConfiguration(name) for name in ("use_sim_time", "autostart")}
    return Node(
        package=package,
        executable=executable,
        namespace=LaunchConfiguration("namespace"),
        parameters=[LaunchConfiguration("params_file"), {**common, **parameters}],
        arguments=["--ros-args", "--log-level", LaunchConfiguration("log_level")],
        output="screen",
        condition=condition,
    )
