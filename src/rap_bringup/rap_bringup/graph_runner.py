"""Runs the graph as plain processes, for machines without the launch system."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

from rap_bringup.graph_params import MAP, load_params
from rap_bringup.processes import (
    DRIVE_MODULE,
    GUARD_MODULE,
    MAP_MODULE,
    NodeProcess,
    ProcessError,
    graph_environment,
    start,
    stop_all,
)

WATCH_PERIOD_S = 0.2
"""A dead node is noticed within two periods of a 10 Hz planner."""


def run_graph(params_path: Path, on_signals: Callable[[Callable[[], None]], None]) -> int:
    """Runs drive process, guard process and, where a map is configured, the map node.

    Args:
        params_path: ROS parameter file.
        on_signals: Installs a stop function as the handler of signals.

    Returns:
        0 after a signal.

    Raises:
        ProcessError: If a process ends by itself; the others are ended then.
        ValueError: If the parameter file cannot be read.
    """
    params = load_params(params_path)
    environment = graph_environment(_domain())
    arguments = ["--ros-args", "--params-file", str(params_path)]
    modules = {"guard process": GUARD_MODULE, "drive process": DRIVE_MODULE}
    if params.get(MAP, {}).get("map.path"):
        modules["map node"] = MAP_MODULE
    stop_requested = threading.Event()
    on_signals(stop_requested.set)
    children: list[NodeProcess] = []
    try:
        for name, module in modules.items():
            children.append(start(name, module, arguments, environment))
        while not stop_requested.wait(WATCH_PERIOD_S):
            for child in children:
                child.check()
    finally:
        stop_all(children)
    failed = [child.name for child in children if child.process.returncode != 0]
    if failed:
        raise ProcessError(f"{', '.join(failed)} did not end cleanly")
    return 0


def _domain() -> int:
    """Returns the domain of this shell, zero being ROS's default."""
    text = os.environ.get("ROS_DOMAIN_ID", "")
    return int(text) if text.isdecimal() else 0
