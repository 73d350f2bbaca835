"""What killed processes leave in shared memory, and how a new one keeps clear of it.

Fast DDS gives a new participant the lowest number that is free in its domain, which after a kill -9
is that of the dead one, and replaces the shared-memory port of that number. Whoever has the old
port open may go on writing into it: then the new process is known to everybody and never gets a
message (eProsima/Fast-DDS, pull request 4728). So a new process takes a number that no dead one
had. Segments of dead processes are removed: they hold up to 100 MB each, and nobody else does it.
"""

from __future__ import annotations

import fcntl
import os
import re
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

FOLDER = Path("/dev/shm")

LOCK_SUFFIX = "_el"
"""Of the file next to a segment or port on which its owner holds a lock as long as it lives."""

YOUNG_S = 10.0
"""The lock of a newer file may not have been taken yet."""

MAX_AVOIDED = 50
"""Of the 120 numbers of a domain; longer ago, hardly anybody is left who knew the dead one."""

_PORT_BASE, _PORTS_PER_DOMAIN, _FIRST_DATA_PORT = 7400, 250, 11
"""Source: RTPS 2.5, 9.6.2.3. Data of participant p arrives at base + 250 domain + 11 + 2 p, by
shared memory or UDP, and discovery at the UDP port before. If that one is taken, so is p."""

_SEGMENT_LOCK = re.compile(rf"fastrtps_[0-9a-f]{{16}}{LOCK_SUFFIX}")
_PORT_LOCK = re.compile(rf"fastrtps_port(\d+){LOCK_SUFFIX}")


def domain_id() -> int:
    """Returns the ROS domain of this process; 0 if none or no number is set."""
    text = os.environ.get("ROS_DOMAIN_ID", "")
    return int(text) if text.isdigit() else 0


def remove_dead_segments(folder: Path = FOLDER) -> int:
    """Removes the segments whose owners are dead; returns how many."""
    removed = 0
    for lock in _matching(folder, _SEGMENT_LOCK):
        with suppress(OSError):  # Somebody else's, or just removed by somebody else.
            if time.time() - lock.stat().st_mtime > YOUNG_S and not _is_held(lock):
                lock.with_name(lock.name.removesuffix(LOCK_SUFFIX)).unlink(missing_ok=True)
                lock.unlink()
                removed += 1
    return removed


@contextmanager
def dead_ports_taken(domain: int, folder: Path = FOLDER) -> Iterator[list[int]]:
    """Holds the numbers of the dead, so that participants created meanwhile get others.

    Args:
        domain: ROS domain.
        folder: Of the shared memory.

    Yields:
        The UDP ports that are held, one for every dead participant: that of its discovery.
    """
    first = _PORT_BASE + _PORTS_PER_DOMAIN * domain + _FIRST_DATA_PORT
    newest_first = sorted(_matching(folder, _PORT_LOCK), key=_time, reverse=True)
    ports = [int(lock.name[len("fastrtps_port") : -len(LOCK_SUFFIX)]) for lock in newest_first]
    ports = [p for p in ports if 0 <= p - first < _PORTS_PER_DOMAIN - _FIRST_DATA_PORT]
    with ExitStack() as sockets:
        held = []
        for port in ports[:MAX_AVOIDED]:
            holder = sockets.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            with suppress(OSError):  # Its owner lives.
                holder.bind(("", port - 1))
                held.append(port - 1)
        yield held


def _matching(folder: Path, pattern: re.Pattern[str]) -> list[Path]:
    if not folder.is_dir():
        return []
    return [path for path in folder.iterdir() if pattern.fullmatch(path.name)]


def _time(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _is_held(lock: Path) -> bool:
    with lock.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
