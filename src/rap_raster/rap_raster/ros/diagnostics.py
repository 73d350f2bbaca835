"""What a node says about its own health: real error texts, counters, and levels."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from diagnostic_msgs.msg import DiagnosticStatus, KeyValue

OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR

STALLED_S = 2.0
"""A node that has worked and has not for this long waits for something, or hangs."""

RECENT_S = 5.0
"""A rejected input is reported as a problem for this long; its count stays."""


@dataclass(slots=True)
class Health:
    """Collected anew for every report.

    Attributes:
        problems: (level, text) pairs, worst first after `message` was made.
        values: Counters and settings for people; "state" is that of a node which has states.
    """

    problems: list[tuple[bytes, str]] = field(default_factory=list)
    values: dict[str, str] = field(default_factory=dict)

    def warn(self, text: str) -> None:
        """Adds something that degrades the result."""
        self.problems.append((WARN, text))

    def error(self, text: str) -> None:
        """Adds something that prevents a result."""
        self.problems.append((ERROR, text))

    @property
    def level(self) -> bytes:
        """The worst level of all problems."""
        return max((level for level, _ in self.problems), default=OK)

    @property
    def essence(self) -> tuple[bytes, str]:
        """Level and state: a change of either is worth a report at once."""
        return self.level, self.values.get("state", "")

    def message(self, node_name: str) -> DiagnosticStatus:
        """Returns the status message: the worst level, all texts."""
        problems = sorted(self.problems, key=lambda problem: problem[0], reverse=True)
        return DiagnosticStatus(
            level=self.level,
            name=node_name,
            message="; ".join(text for _, text in problems) or "ok",
            values=[KeyValue(key=key, value=value) for key, value in self.values.items()],
        )


class Progress:
    """Says how long ago a node's last step was: values of a step that hangs look like good ones."""

    def __init__(self) -> None:
        """Starts before the first step."""
        self._last_s: float | None = None

    def stepped(self) -> None:
        """Takes note of a step."""
        self._last_s = time.monotonic()

    def report(self, health: Health) -> None:
        """Adds the age of the last step, and a warning if it is old."""
        if self._last_s is None:
            return
        age_s = time.monotonic() - self._last_s
        health.values["last step, s ago"] = f"{age_s:.1f}"
        if age_s > STALLED_S:
            health.warn(f"no step for {age_s:.0f} s")


@dataclass(slots=True)
class _Cause:
    count: int
    last_s: float
    text: str


class ProblemLog:
    """Counts problems by cause and keeps the last text of each."""

    def __init__(self) -> None:
        """Starts empty."""
        self._causes: dict[str, _Cause] = {}

    def add(self, cause: str, text: str) -> bool:
        """Takes a problem in.

        Returns:
            True if it is the first of its cause for a while and should be logged.
        """
        now_s = time.monotonic()
        known = self._causes.get(cause)
        if known is None:
            self._causes[cause] = _Cause(1, now_s, text)
            return True
        news = now_s - known.last_s > RECENT_S
        known.count, known.last_s, known.text = known.count + 1, now_s, text
        return news

    def report(self, health: Health) -> None:
        """Adds recent problems and all counts to a health report."""
        now_s = time.monotonic()
        for cause, entry in list(self._causes.items()):
            health.values[f"{cause}: problems"] = str(entry.count)
            if now_s - entry.last_s <= RECENT_S:
                health.warn(entry.text)
