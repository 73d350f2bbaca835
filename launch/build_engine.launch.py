"""Builds the engines of a bundle and ends; for provisioning. An engine that is missing is an error.

`ros2 launch rap_bringup build_engine.launch.py backend:=tensorrt`
"""

from __future__ import annotations

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, ExecuteProcess, RegisterEventHandler
from launch.event_handlers import OnProcessExit
from launch.events.process import ProcessExited
from launch.substitutions import EnvironmentVariable, LaunchConfiguration

SHARE = Path(get_package_share_directory("rap_bringup"))
USER_CACHE = [EnvironmentVariable("HOME"), "/.cache"]
CACHE = [EnvironmentVariable("XDG_CACHE_HOME", default_value=USER_CACHE), "/rap/engines"]

ARGUMENTS = {
    "bundle": (str(SHARE / "models" / "default"), "folder of the model bundle"),
    "backend": ("tensorrt", "as the parameter inference.backend"),
    "cache_dir": (CACHE, "folder for engines; as the parameter inference.cache_dir"),
}
PRECISION = "precision"
CHOICES = {"backend": ["tensorrt", "tensorrt-rtx", "tensorrt-ep"]}


def generate_launch_description() -> LaunchDescription:
    options = [f"--{name.replace('_', '-')}" for name in ARGUMENTS]
    values = [LaunchConfiguration(name) for name in ARGUMENTS]
    pairs = [word for pair in zip(options, values, strict=True) for word in pair]
    precision = ["--", LaunchConfiguration(PRECISION)]
    build = ExecuteProcess(
        cmd=["ros2", "run", "rap_bringup", "rap", "build-engine", *pairs, precision],
        output="screen",
    )
    return LaunchDescription(
        [
            *(
                DeclareLaunchArgument(
                    name,
                    default_value=default,
                    description=description,
                    choices=CHOICES.get(name),
                )
                for name, (default, description) in ARGUMENTS.items()
            ),
            DeclareLaunchArgument(
                PRECISION,
                default_value="tf32",
                description="fp32 where the nodes have inference.tf32: false",
                choices=["tf32", "fp32"],
            ),
            build,
            RegisterEventHandler(OnProcessExit(target_action=build, on_exit=_fail_with_it)),
        ]
    )


def _fail_with_it(event: ProcessExited, context: LaunchContext) -> None:
    """Launch ends with status 0 whatever its processes did; an error in a handler makes it 1."""
    if event.returncode != 0:
        raise RuntimeError("no engines were built; the reason is above")
