"""What a killed process leaves in shared memory, and who keeps clear of it."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from graph_probe import DOMAIN_ID, environment

from rap_raster.ros.shared_memory import FOLDER, dead_ports_taken, remove_dead_segments

pytestmark = pytest.mark.ros

FIRST_PORT = 7400 + 250 * 83 + 11
DEAD, LIVING, YOUNG = (f"fastrtps_{k:016x}" for k in range(3))
OTHERS = {"fastrtps_port7411_el", "somebody_else_el"}


def test_segments_of_the_dead_are_removed_and_those_of_the_living_stay(tmp_path):
    names = {f"{name}{suffix}" for name in (DEAD, LIVING, YOUNG) for suffix in ("", "_el")} | OTHERS
    for name in names:
        (tmp_path / name).touch()
        if YOUNG not in name:
            os.utime(tmp_path / name, (0.0, 0.0))
    with (tmp_path / f"{LIVING}_el").open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert remove_dead_segments(tmp_path) == 1
    assert {path.name for path in tmp_path.iterdir()} == names - {DEAD, f"{DEAD}_el"}
    assert remove_dead_segments(tmp_path / "not there") == 0


def test_ports_of_the_dead_are_held_for_the_time_of_the_start(tmp_path):
    dead, living, other_domain = FIRST_PORT, FIRST_PORT + 2, FIRST_PORT - 250
    for port in (dead, living, other_domain):
        (tmp_path / f"fastrtps_port{port}_el").write_bytes(b"")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as owner:
        owner.bind(("127.0.0.1", living - 1))
        with dead_ports_taken(83, tmp_path) as held:
            assert held == [dead - 1]
            assert not is_free(dead - 1)
    assert is_free(dead - 1)


def is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


PARTICIPANT = """
import time, rclpy
from rap_raster.ros.shared_memory import dead_ports_taken, domain_id
with dead_ports_taken(domain_id()):
    rclpy.init()
    node = rclpy.create_node("mortal")
print("ready", flush=True)
time.sleep(60)
"""


def living_ports() -> set[str]:
    """Returns the data ports of this domain whose owners live."""
    first = 7400 + 250 * DOMAIN_ID + 11
    names = {f"fastrtps_port{port}_el" for port in range(first, first + 230, 2)}
    found = set()
    for name in names:
        path = Path(FOLDER) / name
        if path.exists():
            with path.open("rb") as lock:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    found.add(name)
    return found


def start_participant() -> tuple[subprocess.Popen, str]:
    before = living_ports()
    process = subprocess.Popen(
        [sys.executable, "-c", PARTICIPANT],
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    (port,) = living_ports() - before
    return process, port


def test_the_successor_of_a_killed_process_listens_on_another_port():
    """Else those who still write to the dead one's port would never reach it, now and then."""
    ports = set()
    for _ in range(3):
        process, port = start_participant()
        ports.add(port)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert len(ports) == 3
