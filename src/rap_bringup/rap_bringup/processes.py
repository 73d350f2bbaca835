"""Node processes: their environment, starting, watching and ending them.

What a child writes goes to a log file or on to the terminal; when it dies, the last line it wrote
that tells a reason is the error people see.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import IO

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

HELD_SIGNALS = (signal.SIGINT, signal.SIGTERM)
"""What a child must not get before it can end cleanly: `rap_raster.ros.spin` lets them in."""

REQUEST_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""What asks a command that has children to end."""

KEPT_LINES = 50
"""Of what a child writes to the terminal; a traceback through rclpy has some 30."""

END_OF_OUTPUT_S = 1.0
"""How long after a child's death its last lines may take to be read."""

FIRST_DOMAIN, LAST_DOMAIN = 1, 101
"""Domains whose ports lie below Linux's range of ephemeral ports (32768)."""

PORT_BASE, DOMAIN_GAIN, FIRST_UNICAST = 7400, 250, 10
"""Discovery ports of the RTPS standard (OMG DDSI-RTPS 2.3, section 9.6.1.1)."""


class ProcessError(RuntimeError):
    """A node process that did not do its work; the text has its own last error line."""


def free_domain() -> int:
    """Returns a ROS domain that nobody on this machine uses, and not that of this shell.

    Replays and simulations publish odometry and trajectories, which a vehicle must not hear.

    Raises:
        ProcessError: If every domain is taken.
    """
    own = os.environ.get("ROS_DOMAIN_ID", "")
    # Two that start at the same moment see the same free domains, but differ in their process id.
    count = LAST_DOMAIN - FIRST_DOMAIN + 1
    for offset in range(count):
        domain = FIRST_DOMAIN + (os.getpid() + offset) % count
        if str(domain) != own and not _is_used(domain):
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
        process: The child.
        log_path: Everything it wrote; None if that goes on to the terminal.
        lines: The last lines it wrote to the terminal.
    """

    name: str
    process: subprocess.Popen[bytes]
    log_path: Path | None = None
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=KEPT_LINES))
    _reader: threading.Thread | None = None

    def check(self) -> None:
        """Raises ProcessError if the child has ended."""
        if self.process.poll() is not None:
            raise ProcessError(self.ending())

    def ending(self) -> str:
        """Returns how the child ended, and why as far as its output tells."""
        status = self.process.returncode
        if status < 0:
            return f"{self.name} was killed by {signal.Signals(-status).name}"
        return f"{self.name} ended with status {status}: {self.last_error()}"

    def last_error(self) -> str:
        """Returns the line of the child's output that tells why it ended."""
        if self.log_path is not None:
            text = self.log_path.read_text(encoding="utf-8", errors="replace")
            return telling_line(text.splitlines())
        if self._reader is not None:
            self._reader.join(END_OF_OUTPUT_S)
        return telling_line(list(self.lines))

    def echo(self) -> None:
        """Passes what the child writes to stderr on to ours, and keeps the last lines."""
        self._reader = threading.Thread(target=self._echo, name=f"{self.name} output", daemon=True)
        self._reader.start()

    def _echo(self) -> None:
        if self.process.stderr is None:
            return
        with self.process.stderr as lines:
            for line in lines:
                text = line.decode("utf-8", errors="replace")
                self.lines.append(text)
                with suppress(OSError):  # whoever read ours is gone; the child must not wait
                    sys.stderr.write(text)


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

    SIGINT and SIGTERM are held until its nodes can end cleanly.

    Args:
        name: For messages.
        module: Run with `python -m`.
        arguments: Its command line.
        environment: Its whole environment.
        log_path: Where its output goes; None: on to the terminal.
    """
    command = [sys.executable, "-m", module, *arguments]
    if log_path is None:
        child = NodeProcess(name, _spawn(command, environment, None, subprocess.PIPE))
        child.echo()
        return child
    with log_path.open("wb") as log:
        process = _spawn(command, environment, log, subprocess.STDOUT)
    return NodeProcess(name, process, log_path)


def _spawn(
    command: Sequence[str], environment: Mapping[str, str], stdout: IO[bytes] | None, stderr: int
) -> subprocess.Popen[bytes]:
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, HELD_SIGNALS)  # children inherit it
    try:
        return subprocess.Popen(
            command,
            env=dict(environment),
            stdout=stdout,
            stderr=stderr,
            # Its own session, so that Ctrl-C reaches it once, from us, and not twice.
            start_new_session=True,
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


@contextmanager
def stop_requests() -> Iterator[Callable[[], None]]:
    """Has SIGINT, SIGTERM and SIGHUP end work that has children, once it is ready to end.

    Handlers only remember: an exception raised by one may be lost (in the callback of a weak
    reference, and every import has one), or come between a child's start and its owner.

    Yields:
        A function to call wherever the work waits. It raises SystemExit with 128 plus the signal's
        number once a signal has come.
    """
    received: list[int] = []

    def remember(number: int, frame: FrameType | None) -> None:
        received.append(number)

    def check() -> None:
        if received:
            raise SystemExit(128 + received[0])

    before = {number: signal.signal(number, remember) for number in REQUEST_SIGNALS}
    try:
        yield check
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


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
