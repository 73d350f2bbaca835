"""Runs the graph as plain processes, for machines without the launch system."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path

from rap_bringup.graph_params import MAP, Params, load_params, sections_of
from rap_bringup.processes import (
    DRIVE_MODULE,
    GUARD_MODULE,
    MAP_MODULE,
    ProcessError,
    graph_environment,
    start,
)
from rap_bringup.supervisor import Supervisor

WATCH_PERIOD_S = 0.1
"""A dead node is noticed within one period of a 10 Hz planner."""


def run_graph(
    params_path: Path,
    on_signals: Callable[[Callable[[], None]], None],
    report: Callable[[str], None],
    *,
    respawn: bool = True,
    ros_arguments: Sequence[str] = (),
) -> int:
    """Runs drive process, guard process and, where a map is configured, the map node.

    Args:
        params_path: ROS parameter file.
        on_signals: Installs a stop function as the handler of signals.
        report: Told in one line of every death of a process.
        respawn: Whether a process that died is started again.
        ros_arguments: More `--ros-args` for every process: remaps, parameters, the log level.

    Returns:
        0 after a signal.

    Raises:
        ProcessError: If a process cannot start, or dies without `respawn`, or does not end cleanly.
        ValueError: If the parameter file cannot be read.
    """
    stop_requested = threading.Event()
    on_signals(stop_requested.set)
    params = load_params(params_path)
    environment = graph_environment(_domain())
    arguments = ["--ros-args", "--params-file", str(params_path), *ros_arguments]
    modules = {"guard process": GUARD_MODULE, "drive process": DRIVE_MODULE}
    if _has_map(params, ros_arguments):
        modules["map node"] = MAP_MODULE
    starters = {
        name: partial(start, name, module, arguments, environment)
        for name, module in modules.items()
    }
    with Supervisor(starters, report, respawn=respawn) as supervisor:
        while not stop_requested.wait(WATCH_PERIOD_S):
            supervisor.check()
    if supervisor.failed:
        raise ProcessError(f"not all ended cleanly: {'; '.join(supervisor.failed)}")
    return 0


def _has_map(params: Params, ros_arguments: Sequence[str]) -> bool:
    """Says whether `map.path` is set in the parameters, or in what wins over them."""
    files = [
        load_params(Path(value))
        for option, value in pairwise(ros_arguments)
        if option == "--params-file"
    ]
    in_files = any(
        section.get("map.path") for each in (params, *files) for section in sections_of(each, MAP)
    )
    return in_files or any("map.path:=" in argument for argument in ros_arguments)


def _domain() -> int:
    """Returns the domain of this shell, zero being ROS's default."""
    text = os.environ.get("ROS_DOMAIN_ID", "")
    return int(text) if text.isdecimal() else 0
