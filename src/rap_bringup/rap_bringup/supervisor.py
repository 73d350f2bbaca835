"""Keeps the processes of the graph alive: notices a death, says so in one line, starts anew."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from rap_bringup.processes import NodeProcess, ProcessError, stop_all

TRIAL_S = 60.0
"""A process that ends by itself with an error this soon after its first start has never driven:
what is wrong with it (its parameters, the bundle, the installation) is wrong the next time too."""

SETTLED_S = 10.0
"""Who lived this long starts anew at once when it dies, as if it had never died before."""

FIRST_DELAY_S, LAST_DELAY_S = 0.5, 8.0
"""Waiting times double from one to the other between deaths in a row, so that a process that cannot
live leaves the machine to the others. A guard that dies twice in a row is back in under 3 s."""


@dataclass
class _Member:
    child: NodeProcess
    started_s: float
    lives: int = 1
    deaths_in_a_row: int = 0
    due_s: float | None = None


class Supervisor:
    """Starts processes and keeps them alive; a context manager that ends them.

    Attributes:
        failed: After the end, how those processes ended that did not end cleanly when asked to.
    """

    def __init__(
        self,
        starters: Mapping[str, Callable[[], NodeProcess]],
        report: Callable[[str], None],
        *,
        respawn: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepares; `with` starts the processes.

        Args:
            starters: Starts a process, by its name.
            report: Told in one line of every death.
            respawn: False: a death is an error.
            clock: Seconds that only grow.
        """
        self._starters = starters
        self._report = report
        self._respawn = respawn
        self._clock = clock
        self._members: dict[str, _Member] = {}
        self.failed: list[str] = []

    def __enter__(self) -> Supervisor:
        try:
            for name, start in self._starters.items():
                self._members[name] = _Member(start(), self._clock())
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        running = [m.child for m in self._members.values() if m.due_s is None]
        stop_all(running)
        self.failed = [child.ending() for child in running if child.process.returncode != 0]

    def check(self) -> None:
        """Looks at every process once.

        Raises:
            ProcessError: If one died that is not to be started again.
        """
        for name, member in self._members.items():
            if member.due_s is None and member.child.process.poll() is not None:
                self._bury(member)
            if member.due_s is not None and self._clock() >= member.due_s:
                member.child, member.started_s = self._starters[name](), self._clock()
                member.lives, member.due_s = member.lives + 1, None

    def _bury(self, member: _Member) -> None:
        lived_s = self._clock() - member.started_s
        by_itself = member.child.process.returncode > 0
        if not self._respawn or (by_itself and member.lives == 1 and lived_s < TRIAL_S):
            raise ProcessError(member.child.ending())
        member.deaths_in_a_row = 1 if lived_s >= SETTLED_S else member.deaths_in_a_row + 1
        delay_s = 0.0
        if member.deaths_in_a_row > 1:
            delay_s = min(FIRST_DELAY_S * 2.0 ** (member.deaths_in_a_row - 2), LAST_DELAY_S)
        member.due_s = self._clock() + delay_s
        when = f"in {delay_s:.1f} s" if delay_s else "now"
        self._report(f"{member.child.ending()}; starting it again {when}")
