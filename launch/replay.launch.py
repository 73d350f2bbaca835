"""The driving stack on a recorded drive: `ros2 launch rap_bringup replay.launch.py bag:=FOLDER`.

Takes all arguments of rap.launch.py. Of the bag, only what the nodes read is played, whatever they
had published when it was recorded.
"""

from __future__ import annotations

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchContext, LaunchDescription
from launch.actions import (
    DeclareLaunchArgument,
    ExecuteProcess,
    IncludeLaunchDescription,
    OpaqueFunction,
    Shutdown,
)
from launch.launch_description_sources import PythonLaunchDescriptionSource

from rap_bringup.played_topics import played_pattern
from rap_bringup.processes import MALLOC

SHARE = Path(get_package_share_directory("rap_bringup"))
QOS_FILE = str(SHARE / "config" / "replay_qos.yaml")
PRESET = {
    "mode": "active",
    "use_sim_time": "true",
    "overrides_file": str(SHARE / "config" / "replay.param.yaml"),
}
ARGUMENTS = {
    "rate": ("1.0", "drive seconds per second"),
    "delay": ("5.0", "seconds for the nodes to start before the bag plays"),
}


def generate_launch_description() -> LaunchDescription:
    return LaunchDescription(
        [
            DeclareLaunchArgument("bag", description="rosbag2 folder"),
            *(
                DeclareLaunchArgument(name, default_value=value, description="as of rap.launch.py")
                for name, value in PRESET.items()
            ),
            *(
                DeclareLaunchArgument(name, default_value=value, description=description)
                for name, (value, description) in ARGUMENTS.items()
            ),
            OpaqueFunction(function=_check_bag),
            IncludeLaunchDescription(
                PythonLaunchDescriptionSource(str(SHARE / "launch" / "rap.launch.py"))
            ),
            OpaqueFunction(function=_player),
        ]
    )


def _check_bag(context: LaunchContext) -> None:
    """Raises before anything is started."""
    bag = context.launch_configurations["bag"]
    if not Path(bag).exists():
        raise FileNotFoundError(f"bag:={bag} does not exist")


def _player(context: LaunchContext) -> list[ExecuteProcess]:
    """Plays the topics that the input_* arguments of rap.launch.py name, and the cameras.

    The map comes from one place: from the bag, unless `map` names a file.
    """
    values = context.launch_configurations
    inputs = {name: topic for name, topic in values.items() if name.startswith("input_")}
    if values["map"]:
        del inputs["input_map"]
    pattern = played_pattern(inputs.values(), values["namespace"])
    options = ["--clock", "--start-offset", "0", "--qos-profile-overrides-path", QOS_FILE]
    options += ["--rate", values["rate"], "--delay", values["delay"]]
    player = ["ros2", "bag", "play", values["bag"], "--regex", pattern, *options]
    environment = {**MALLOC, "FASTRTPS_DEFAULT_PROFILES_FILE": values["fastdds_profile"]}
    return [
        ExecuteProcess(cmd=player, additional_env=environment, on_exit=Shutdown(), output="screen")
    ]
