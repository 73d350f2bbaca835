"""Removes what killed processes leave in shared memory.

Fast DDS gives every participant a segment for what it sends, with the shipped profile up to 100 MB.
A process that is killed leaves it behind, and nobody else removes it.
"""

from __future__ import annotations

import fcntl
import re
import time
from contextlib import suppress
from pathlib import Path

FOLDER = Path("/dev/shm")

YOUNG_S = 10.0
"""The lock of a newer segment may not have been taken yet."""

_LOCK = re.compile(r"(fastrtps_[0-9a-f]{16})_el")
"""File next to a segment on which its owner holds a lock as long as it lives."""


def remove_dead_segments(folder: Path = FOLDER) -> int:
    """Removes the segments whose owners are dead; returns how many.

    Segments of other users stay.
    """
    removed = 0
    for lock in list(folder.iterdir()) if folder.is_dir() else []:
        match = _LOCK.fullmatch(lock.name)
        if match is None:
            continue
        with suppress(OSError):  # Somebody else's, or just removed by somebody else.
            if time.time() - lock.stat().st_mtime > YOUNG_S and not _is_held(lock):
                lock.with_name(match[1]).unlink(missing_ok=True)
                lock.unlink()
                removed += 1
    return removed


def _is_held(lock: Path) -> bool:
    with lock.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
