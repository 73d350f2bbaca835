"""The driving stack: one process that drives, one that guards, and the map if one is given."""

from __future__ import annotations

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.conditions import IfCondition
from launch.substitutions import (
    EnvironmentVariable,
    LaunchConfiguration,
    NotEqualsSubstitution,
)
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from rap_bringup.processes import MALLOC

SHARE = Path(get_package_share_directory("rap_bringup"))
PROFILE = "FASTRTPS_DEFAULT_PROFILES_FILE"

ARGUMENTS = {
    "namespace": ("", "namespace of all nodes"),
    "params_file": (str(SHARE / "config" / "rap.param.yaml"), "parameters of all nodes"),
    "overrides_file": (LaunchConfiguration("params_file"), "parameters that win over params_file"),
    "use_sim_time": ("false", "take the time from /clock"),
    "autostart": ("true", "configure and activate without a lifecycle manager"),
    "use_respawn": ("true", "start a process again that died"),
    "log_level": ("info", "debug, info, warn or error"),
    "bundle": (str(SHARE / "models" / "default"), "folder of the model bundle"),
    "mode": ("shadow", "active: publish rap/trajectory; shadow: rap/shadow/trajectory"),
    "map": ("", "OpenDRIVE or Lanelet2 file for the map node; empty: rap/map comes from elsewhere"),
    "fastdds_profile": (
        EnvironmentVariable(PROFILE, default_value=str(SHARE / "config" / "fastdds_shm.xml")),
        "transport settings of the nodes",
    ),
}
CHOICES = {"mode": ["active", "shadow"], "log_level": ["debug", "info", "warn", "error", "fatal"]}
REMAPS = {
    "input_odometry": ("odometry", "nav_msgs/Odometry"),
    "input_objects": ("objects", "objects, of the type that perception_node is set to"),
    "input_route": ("route", "nav_msgs/Path, or what the map node makes of a lanelet route"),
    "input_lanelet_route": ("lanelet_route", "autoware_planning_msgs/LaneletRoute, map node"),
    "input_command": ("command", "std_msgs/UInt8"),
    "input_map": ("rap/map", "rap_msgs/MapPrimitives, where not from the map node"),
    "output_trajectory": ("rap/trajectory", "what a controller reads"),
    "output_autoware_trajectory": ("rap/autoware_trajectory", "the same for Autoware"),
    "output_state": ("rap/state", "state of the guard"),
    "output_mrm_request": ("rap/mrm_request", "rap_msgs/MrmRequest, latched"),
}
"""Topics with names of other stacks. Camera topics follow from cameras.names and the namespace."""

RESPAWN_DELAY_S = 0.5


def generate_launch_description() -> LaunchDescription:
    return LaunchDescription(
        [
            *(
                DeclareLaunchArgument(
                    name,
                    default_value=default,
                    description=description,
                    choices=CHOICES.get(name),
                )
                for name, (default, description) in {**ARGUMENTS, **REMAPS}.items()
            ),
            OpaqueFunction(function=_check_files),
            _process("rap_bringup", "rap_graph", {"bundle.path": _text("bundle")}),
            _process("rap_planner", "guard_node", {"mode": _text("mode")}),
            _process(
                "rap_raster",
                "map_node",
                {"map.path": _text("map")},
                condition=IfCondition(NotEqualsSubstitution(LaunchConfiguration("map"), "")),
            ),
        ]
    )


def _check_files(context: LaunchContext) -> None:
    """Raises before anything is started; of a missing file launch_ros would only warn."""
    for name in ("params_file", "overrides_file", "map", "fastdds_profile"):
        path = context.launch_configurations[name]
        if path and not Path(path).is_file():
            raise FileNotFoundError(f"{name}:={path} is not a file")


def _text(argument: str) -> ParameterValue:
    """An argument that stays a text, whatever it looks like."""
    return ParameterValue(LaunchConfiguration(argument), value_type=str)


def _process(
    package: str,
    executable: str,
    parameters: dict[str, ParameterValue],
    condition: IfCondition | None = None,
) -> Node:
    files = [LaunchConfiguration(name) for name in ("params_file", "overrides_file")]
    common = {name: LaunchConfiguration(name) for name in ("use_sim_time", "autostart")}
    return Node(
        package=package,
        executable=executable,
        namespace=LaunchConfiguration("namespace"),
        parameters=[*files, {**common, **parameters}],
        remappings=[(topic, LaunchConfiguration(name)) for name, (topic, _) in REMAPS.items()],
        ros_arguments=["--log-level", LaunchConfiguration("log_level")],
        respawn=LaunchConfiguration("use_respawn"),
        respawn_delay=RESPAWN_DELAY_S,
        additional_env={**MALLOC, PROFILE: LaunchConfiguration("fastdds_profile")},
        output="screen",
        condition=condition,
    )
