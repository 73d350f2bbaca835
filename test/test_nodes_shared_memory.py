"""What killed processes leave in shared memory."""

from __future__ import annotations

import fcntl
import os

import pytest

from rap_raster.ros.shared_memory import remove_dead_segments

pytestmark = pytest.mark.ros

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
