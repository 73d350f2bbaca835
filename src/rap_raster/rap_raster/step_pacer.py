"""Thins out a stream of stamps to a highest rate."""

from __future__ import annotations

JITTER_SHARE = 0.25
"""A stamp this share of a period early still counts as on time: sensors jitter."""


class StepPacer:
    """Says which stamps are due."""

    def __init__(self, rate_hz: float) -> None:
        """Allows about `rate_hz` steps per second of stamp time.

        It is up to a third more of a stream whose own period is a little shorter than that.
        """
        self._period_ns = 1e9 / rate_hz
        self._last_ns: int | None = None

    def is_due(self, stamp_ns: int) -> bool:
        """Returns True, and remembers the stamp, if a step is due.

        A stamp before the last one means that time jumped back; then it is due.
        """
        if self._last_ns is not None:
            since_ns = stamp_ns - self._last_ns
            if 0 <= since_ns < (1.0 - JITTER_SHARE) * self._period_ns:
                return False
        self._last_ns = stamp_ns
        return True
