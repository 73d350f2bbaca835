"""Node processes: their environment, starting, watching and ending them.

Every child gets a log file; when it dies, the last line it wrote that tells a reason is the error
people see.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rap_bringup.paths import FASTDDS_PROFILE, resource

DRIVE_MODULE = "rap_bringup.ros.graph"
GUARD_MODULE = "rap_planner.ros.guard_node"
MAP_MODULE = "rap_raster.ros.map_node"

MALLOC = {
    "MALLOC_MMAP_THRESHOLD_": "1073741824",
    "MALLOC_TRIM_THRESHOLD_": "1073741824",
    "MALLOC_TOP_PAD_": "67108864",
}
"""Stops a page-fault storm per frame. Source: measured, reference notes on transport: a subscriber
of 1080p images went from 55 % to 16 % CPU."""

STOP_SIGNALS = ((signal.SIGINT, 10.0), (signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0))
"""How a child is ended, and how many seconds each step may take: nodes finish their step on SIGINT,
which takes well under a second; a child that ignores two signals hangs."""

FIRST_DOMAIN, LAST_DOMAIN = 1, 101
"""Domains whose ports lie below Linux's range of ephemeral ports (32768)."""

PORT_BASE, DOMAIN_GAIN, FIRST_UNICAST = 7400, 250, 10
"""Discovery ports of the RTPS standard (OMG DDSI-RTPS 2.3, section 9.6.1.1)."""


class ProcessError(RuntimeError):
    """A node process that did not do its work; the text has its own last error line."""


def free_domain() -> int:
    """Returns `ROS_DOMAIN_ID` where it is set, else a domain nobody on this machine uses.

    Raises:
        ProcessError: If every domain is taken.
    """
    wanted = os.environ.get("ROS_DOMAIN_ID", "")
    if wanted.isdecimal():
        return int(wanted)
    # Two that start at the same moment see the same free domains, but differ in their process id.
    count = LAST_DOMAIN - FIRST_DOMAIN + 1
    for offset in range(count):
        domain = FIRST_DOMAIN + (os.getpid() + offset) % count
        if not _is_used(domain):
            return domain
    raise ProcessError(f"no free ROS domain between {FIRST_DOMAIN} and {LAST_DOMAIN}")


def _is_used(domain: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind(("127.0.0.1", PORT_BASE + DOMAIN_GAIN * domain + FIRST_UNICAST))
        except OSError:
            return True
    return False


def graph_environment(domain: int) -> dict[str, str]:
    """Returns the environment of a node process.

    Args:
        domain: ROS domain of the graph.

    Raises:
        FileNotFoundError: If the transport profile is not installed.
    """
    environment = dict(os.environ)
    environment.update(MALLOC)
    environment.setdefault("FASTRTPS_DEFAULT_PROFILES_FILE", str(resource(FASTDDS_PROFILE)))
    environment.setdefault("RMW_IMPLEMENTATION", "rmw_fastrtps_cpp")
    environment.setdefault("PYTHONUNBUFFERED", "1")
    environment["ROS_DOMAIN_ID"] = str(domain)
    return environment


@dataclass
class NodeProcess:
    """One running child.

    Attributes:
        name: For messages.
        log_path: Everything it wrote.
        process: The child.
    """

    name: str
    log_path: Path | None
    process: subprocess.Popen[bytes]

    def check(self) -> None:
        """Raises ProcessError if the child has ended."""
        status = self.process.poll()
        if status is not None:
            raise ProcessError(f"{self.name} ended with status {status}: {self.last_error()}")

    def last_error(self) -> str:
        """Returns the line of the child's log that tells why it ended."""
        if self.log_path is None:
            return "see its output above"
        lines = self.log_path.read_text(encoding="utf-8", errors="replace").splitlines()
        return telling_line(lines)


def telling_line(lines: Sequence[str]) -> str:
    """Returns the last line that reads like an error, else the last line that is not empty."""
    written = [line.strip() for line in lines if line.strip()]
    errors = [line for line in written if "error" in line.lower() or "fatal" in line.lower()]
    if written and written[-1].startswith(("rap", "Error")):
        return written[-1]
    return (errors or written or ["it wrote nothing"])[-1]


def start(
    name: str,
    module: str,
    arguments: Sequence[str],
    environment: Mapping[str, str],
    log_path: Path | None = None,
) -> NodeProcess:
    """Starts a Python module as a child.

    Args:
        name: For messages.
        module: Run with `python -m`.
        arguments: Its command line.
        environment: Its whole environment.
        log_path: Where its output goes; None leaves it on the terminal.
    """
    command = [sys.executable, "-m", module, *arguments]
    if log_path is None:
        # Its own session, so that Ctrl-C reaches it once, from us, and not twice.
        child = subprocess.Popen(command, env=dict(environment), start_new_session=True)
        return NodeProcess(name, None, child)
    with log_path.open("wb") as log:
        child = subprocess.Popen(
            command,
            env=dict(environment),
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return NodeProcess(name, log_path, child)


def stop_all(children: Sequence[NodeProcess]) -> None:
    """Ends all children: asks, insists, then kills."""
    for number, patience_s in STOP_SIGNALS:
        alive = [child for child in children if child.process.poll() is None]
        for child in alive:
            child.process.send_signal(number)
        for child in alive:
            try:
                child.process.wait(patience_s)
            except subprocess.TimeoutExpired:
                continue
