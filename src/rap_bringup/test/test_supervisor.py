"""When a process is started again, how soon, and when not; with processes that do nothing."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections import deque

import pytest

from rap_bringup.processes import NodeProcess, ProcessError
from rap_bringup.supervisor import LAST_DELAY_S, TRIAL_S, Supervisor

LINGER = "import time; print(flush=True); time.sleep(60)"


class World:
    """A clock that is set by hand, and what was started and reported."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.started: list[NodeProcess] = []
        self.reports: list[str] = []

    def start(self) -> NodeProcess:
        command = [sys.executable, "-I", "-S", "-c", LINGER]
        child = subprocess.Popen(command, stdout=subprocess.PIPE)
        with child.stdout:
            child.stdout.readline()  # From here on SIGINT is not lost in Python's own start.
        self.started.append(NodeProcess("node", child, lines=deque(["Error: the reason"])))
        return self.started[-1]

    def supervisor(self, **options) -> Supervisor:
        clock = lambda: self.now_s  # noqa: E731 - read when asked
        return Supervisor({"node": self.start}, self.reports.append, clock=clock, **options)

    def kill(self) -> None:
        self.started[-1].process.kill()
        self.started[-1].process.wait()

    def fail(self) -> None:
        self.kill()
        self.started[-1].process.returncode = 1


def test_a_killed_process_is_back_at_once_and_reported_in_one_line():
    world = World()
    with world.supervisor() as supervisor:
        supervisor.check()
        world.kill()
        supervisor.check()
        assert len(world.started) == 2
        assert world.started[-1].process.poll() is None
    assert world.reports == ["node was killed by SIGKILL; starting it again now"]
    assert world.started[-1].process.returncode == -signal.SIGINT


def test_deaths_in_a_row_wait_twice_as_long_each_time_and_a_long_life_ends_the_row():
    world = World()
    delays_s = []
    with world.supervisor() as supervisor:
        for _ in range(8):
            world.kill()
            count, died_s = len(world.started), world.now_s
            supervisor.check()
            while len(world.started) == count:
                world.now_s += 0.25
                supervisor.check()
            delays_s.append(world.now_s - died_s)
        assert delays_s == [0.0, 0.5, 1.0, 2.0, 4.0, 8.0, LAST_DELAY_S, LAST_DELAY_S]
        world.now_s += 3600.0
        world.kill()
        supervisor.check()
        assert world.started[-1].process.poll() is None


def test_a_process_that_cannot_start_ends_the_graph_with_its_own_words():
    world = World()
    with world.supervisor() as supervisor:
        world.now_s = TRIAL_S - 1.0
        world.fail()
        with pytest.raises(ProcessError, match="node ended with status 1: Error: the reason"):
            supervisor.check()
    assert len(world.started) == 1


def test_a_process_that_has_driven_is_started_again_whatever_ends_it():
    world = World()
    with world.supervisor() as supervisor:
        world.now_s = TRIAL_S
        world.fail()
        supervisor.check()
        assert len(world.started) == 2
        world.fail()  # soon after, as when its bundle is being replaced
        supervisor.check()
    assert world.reports[-1].endswith("Error: the reason; starting it again in 0.5 s")


def test_without_respawn_every_death_ends_the_graph():
    world = World()
    with world.supervisor(respawn=False) as supervisor:
        world.now_s = 2.0 * TRIAL_S
        world.kill()
        with pytest.raises(ProcessError, match="killed by SIGKILL"):
            supervisor.check()
